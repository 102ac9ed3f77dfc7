"""`model_list`: each entry is a provider with its key, a target of the route that callers name, and its limits."""

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from gateway.cli.litellm.source import Part
from gateway.cli.litellm.vendors import VENDORS, vendor_name

Entry = dict[str, Any]

MICRO_A_MILLION: Final = Decimal(10) ** 12
"""From USD a token to micro-USD per million tokens."""
PRICES: Final = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
}
NO_KEYS: Final = frozenset({"", "none", "null", "anything", "dummy", "fake", "fake-key", "empty", "not-needed"})
"""What people write for servers that ask for no key."""
LOST_PARAMETERS: Final = dict.fromkeys(
    ("temperature", "max_tokens", "max_completion_tokens", "top_p", "seed", "stop", "extra_body", "thinking"),
    "the gateway adds nothing to a caller's request; set it in the client",
) | {
    "organization": "OpenAI's organization header is not sent; make a key that belongs to it",
    "extra_headers": "headers are not added to model requests",
    "headers": "headers are not added to model requests",
    "tags": "routes have no tags; give the tagged deployments a route of their own",
    "mock_response": "there are no mocked answers",
    "max_retries": "retries belong to the route (`retries`)",
}
OWN_DIALECT: Final = {
    "anthropic": "in this release it answers calls of Anthropic's dialect only: OpenAI's SDK does not reach it",
    "gemini": "in this release it answers calls of Gemini's dialect only; for OpenAI's SDK make its provider"
    " {dialect: openai, base_url: https://generativelanguage.googleapis.com/v1beta/openai}",
    "ollama": "in this release it answers calls of Ollama's dialect only; for OpenAI's SDK make its provider"
    " {dialect: openai} with /v1 behind its address",
}
"""LiteLLM translates between dialects. Until the gateway does, people must know what their clients will not reach."""
LOST_INFO: Final = "describes the model and has no counterpart"


@dataclass(slots=True)
class Deployment:
    route: str
    provider: str
    model: str
    line: int
    weight: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    order: int | None = None
    timeout_s: Any = None
    first_byte_s: Any = None
    id: str | None = None


@dataclass(slots=True)
class Deployments:
    """All of `model_list`."""

    found: list[Deployment] = field(default_factory=list)
    providers: list[Entry] = field(default_factory=list)
    prices: list[Entry] = field(default_factory=list)
    limits: list[Entry] = field(default_factory=list)
    without: set[str] = field(default_factory=set)
    """Routes of which no entry could be carried over, so far."""
    _names: dict[tuple[str, str, str | None], str] = field(default_factory=dict)

    def names(self) -> set[str]:
        return {each.route for each in self.found}

    def add(self, entry: Part, credentials: dict[str, Entry]) -> None:
        route = str(entry.get("model_name") or "")
        parameters = entry.part("litellm_params")
        info = entry.part("model_info")
        deployment = self._deployment(route, entry, parameters, info, credentials)
        if deployment is None:
            self.without.add(route)
            return
        self.found.append(deployment)
        self._price(deployment, parameters, info)
        self._limits(deployment, parameters)
        parameters.close(LOST_PARAMETERS, "has no counterpart for a target")
        info.ignore("id", "mode", "description", "version", "created_at", "updated_at", "db_model")
        info.close({"base_model": "prices go by the model's own name; see `prices`"}, LOST_INFO)
        entry.close({}, "is not part of LiteLLM's documented entries")

    def _deployment(
        self, route: str, entry: Part, parameters: Part, info: Part, credentials: dict[str, Entry]
    ) -> Deployment | None:
        written = str(parameters.get("model") or "")
        if not route or not written:
            entry.lose("model_name", "the entry has no model_name or no litellm_params.model")
            return None
        if "*" in route or "*" in written:
            entry.lose("model_name", f"{route!r}: there are no wildcard routes; name each model that is called")
            return None
        if route.isdecimal():
            entry.lose("model_name", f"{route!r}: a route's name needs a letter")
            return None
        name, model = vendor_name(written, parameters.get("custom_llm_provider"))
        vendor = VENDORS.get(name or "")
        if name is None or vendor is None:
            known = (
                f"the provider {name!r} is not one that Sluicegate speaks" if name else "its provider cannot be told"
            )
            parameters.lose("model", f"{written!r}: {known}; the entry is left out")
            return None
        named = credentials.get(str(parameters.get("litellm_credential_name") or ""), {})
        base_url = parameters.get("api_base") or parameters.get("base_url") or named.get("api_base") or vendor.base_url
        if not base_url:
            parameters.lose("model", f"{written!r}: without api_base its address is not known; the entry is left out")
            return None
        if "://" not in str(base_url) and not str(base_url).startswith("${"):
            parameters.lose("api_base", f"{base_url!r} is not an http or https URL; the entry is left out")
            return None
        key = parameters.get("api_key") or named.get("api_key")
        if key is None and vendor.key_variable and str(base_url) == vendor.base_url:
            key = f"${{{vendor.key_variable}}}"
        provider = self._provider(name, vendor.dialect, str(base_url), key, parameters)
        return Deployment(
            route=route,
            provider=provider,
            model=model,
            line=entry.line,
            weight=_whole(parameters, "weight"),
            rpm=_whole(parameters, "rpm") or _whole(entry, "rpm"),
            tpm=_whole(parameters, "tpm") or _whole(entry, "tpm"),
            order=_whole(parameters, "order"),
            timeout_s=parameters.get("timeout") or parameters.get("request_timeout"),
            first_byte_s=parameters.get("stream_timeout"),
            id=info.get("id"),
        )

    def _provider(self, vendor: str, dialect: str, base_url: str, key: Any, parameters: Part) -> str:
        """One provider for each address and key, so that what an entry is limited to stays its own."""
        secret = None if key is None or str(key).lower() in NO_KEYS else str(key)
        identity = (dialect, base_url.rstrip("/"), secret)
        if identity in self._names:
            return self._names[identity]
        plain = vendor.replace("_", "-")
        used = set(self._names.values())
        name = next(each for each in (plain, *(f"{plain}-{n}" for n in range(2, 10_000))) if each not in used)
        self._names[identity] = name
        if dialect in OWN_DIALECT and dialect not in {each["dialect"] for each in self.providers}:
            parameters.note("model", OWN_DIALECT[dialect])
        made: Entry = {"name": name, "dialect": dialect, "base_url": base_url.rstrip("/")}
        if secret is not None:
            made["credentials"] = [{"name": "main", "value": secret}]
            if not secret.startswith("${"):
                parameters.note("api_key", "the secret stands in the file in plain; better put ${NAME} in its place")
        self.providers.append(made)
        return name

    def _price(self, deployment: Deployment, parameters: Part, info: Part) -> None:
        price: Entry = {"provider": deployment.provider, "model": deployment.model}
        for theirs, ours in PRICES.items():
            for part in (parameters, info):
                value = part.get(theirs)
                if value is None or ours in price:
                    continue
                try:
                    price[ours] = int((Decimal(str(value)) * MICRO_A_MILLION).to_integral_value())
                except InvalidOperation:
                    part.lose(theirs, f"{value!r} is not a number")
        if len(price) == 2:
            return
        price.setdefault("input", 0)
        price.setdefault("output", 0)
        if not any(p["provider"] == price["provider"] and p["model"] == price["model"] for p in self.prices):
            self.prices.append(price)

    def _limits(self, deployment: Deployment, parameters: Part) -> None:
        wanted = (
            ("rpm", "requests", deployment.rpm, "minute"),
            ("tpm", "total_tokens", deployment.tpm, "minute"),
            ("parallel", "concurrent_requests", _whole(parameters, "max_parallel_requests"), None),
        )
        target = f"{deployment.provider}/{deployment.model}"
        for ending, metric, amount, window in wanted:
            if not amount:
                continue
            name = f"{target.replace('/', '-')}-{ending}"[-128:]
            same = next((limit for limit in self.limits if limit["name"] == name), None)
            if same is not None:
                if same["at_most"] != amount:
                    same["at_most"] = min(same["at_most"], amount)
                    parameters.note(ending, f"{target} is limited twice; the smaller figure is taken")
                continue
            limit: Entry = {"name": name, "scope": {"target": target}, "metric": metric}
            self.limits.append(limit | ({"window": window} if window else {}) | {"at_most": amount})
        budget = parameters.get("max_budget")
        if budget is not None:
            made = budget_limit(f"{target.replace('/', '-')}-budget"[-128:], {"target": target}, parameters, budget)
            if made:
                self.limits.append(made)


WINDOWS: Final = {
    "1s": "second",
    "1m": "minute",
    "60s": "minute",
    "1h": "hour",
    "60m": "hour",
    "1d": "day",
    "24h": "day",
    "7d": "week",
    "1w": "week",
    "30d": "month",
    "31d": "month",
    "1mo": "month",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
}


def budget_limit(
    name: str, scope: Entry, part: Part, amount: Any, duration_name: str = "budget_duration"
) -> Entry | None:
    """A cost limit; None where its window is none of ours, which is reported."""
    duration = part.get(duration_name)
    window = "lifetime" if duration is None else WINDOWS.get(str(duration).lower())
    if window is None:
        part.lose(duration_name, f"{duration!r} is no calendar window; the budget of {amount} USD is left out")
        return None
    try:
        at_most = Decimal(str(amount))
    except InvalidOperation:
        part.lose(duration_name, f"the budget {amount!r} is not a number")
        return None
    if at_most <= 0:
        return None  # LiteLLM's own default: none
    if duration is not None:
        part.note(duration_name, f"{duration} is carried over as the calendar {window}, UTC")
    whole = int(at_most) if at_most == at_most.to_integral_value() else None
    # float: YAML's writer knows no Decimal, and micro-USD are exact in it up to the amounts that people budget.
    return {"name": name, "scope": scope, "metric": "cost_usd", "window": window, "at_most": whole or float(at_most)}


def _whole(part: Part, name: str) -> int | None:
    value = part.get(name)
    if value is None or isinstance(value, bool):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        part.lose(name, f"{value!r} is not a whole number")
        return None
