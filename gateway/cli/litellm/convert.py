"""From LiteLLM's whole file to ours."""

import io
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from gateway.cli.litellm.deployments import Deployment, Deployments, Entry, budget_limit
from gateway.cli.litellm.source import Part, Report, read

STRATEGIES: Final = {
    "simple-shuffle": "weighted",
    "least-busy": "least-busy",
    "latency-based-routing": "fastest",
    "cost-based-routing": "cheapest",
}
OWN_STORE: Final = "Sluicegate keeps its state in a database of its own (`serve --database`)"
NO_CACHE: Final = "answers are not cached"
SEEN: Final = "use /metrics, `sluicegate ledger export`, or the OpenTelemetry extra instead"
COOLDOWN: Final = "targets that fail are set aside by rules of the gateway's own"
LOST_ROUTER: Final = (
    dict.fromkeys(("redis_host", "redis_port", "redis_password", "redis_url", "cache_params"), OWN_STORE)
    | dict.fromkeys(
        ("allowed_fails", "cooldown_time", "allowed_fails_policy", "disable_cooldowns", "retry_policy"), COOLDOWN
    )
    | dict.fromkeys(("retry_after", "model_group_retry_policy"), "retries wait as the provider's retry-after says")
    | dict.fromkeys(("cache_responses", "caching_groups"), NO_CACHE)
    | dict.fromkeys(("enable_tag_filtering", "tag_filtering_match_any"), "routes have no tags")
    | dict.fromkeys(
        ("context_window_fallbacks", "content_policy_fallbacks"),
        "a request that a model refuses as such goes to no other target",
    )
)
LOST_SETTINGS: Final = (
    dict.fromkeys(("success_callback", "failure_callback", "callbacks", "service_callbacks"), SEEN)
    | dict.fromkeys(("cache", "cache_params"), NO_CACHE)
    | dict.fromkeys(("allowed_fails", "cooldown_time"), COOLDOWN)
    | dict.fromkeys(("drop_params", "modify_params"), "requests pass as the caller wrote them")
    | dict.fromkeys(("default_team_settings", "default_internal_user_params"), "make teams under `teams`")
    | {name: LOST_ROUTER[name] for name in ("context_window_fallbacks", "content_policy_fallbacks")}
)
LOST_GENERAL: Final = (
    dict.fromkeys(("database_url", "database_connection_pool_limit", "store_model_in_db"), OWN_STORE)
    | dict.fromkeys(("alerting", "alerting_threshold", "alert_types"), "alert by Prometheus rules")
    | dict.fromkeys(("custom_auth", "enable_jwt_auth", "litellm_jwtauth"), "callers show keys of the gateway")
    | {
        "pass_through_endpoints": "make an HTTP route for each (`match`, a provider of dialect http)",
        "maximum_spend_logs_retention_period": "set `ledger_retention` in sluicegate.toml",
        "health_check_interval": COOLDOWN,
        "background_health_checks": COOLDOWN,
    }
)
LOST_SECTIONS: Final = {
    "environment_variables": "set these variables where the gateway's commands run",
    "include": "other files are not read; import each by itself",
    "guardrails": "there are no guardrails yet",
    "mcp_servers": "MCP servers are not part of the gateway",
    "files_settings": "files go to the provider of their route",
    "finetune_settings": "fine-tuning jobs are not routed",
    "callback_settings": SEEN,
}
LEAST_KEY: Final = 8


@dataclass(frozen=True, slots=True)
class Converted:
    document: dict[str, Any]
    text: str
    """The same as sluicegate.yaml."""
    report: Report


def convert(text: str, *, file: str) -> Converted:
    """Raises BadRequest where the file is not LiteLLM's."""
    source = read(text)
    router, settings = source.part("router_settings"), source.part("litellm_settings")
    general = source.part("general_settings")
    deployments = Deployments()
    credentials = _credentials(source)
    for entry in source.parts("model_list"):
        deployments.add(entry, credentials)
    routes = _Routes(deployments, router, settings, source.report).build()
    limits = [*deployments.limits, *_whole_limits(router, settings, general, deployments)]
    teams = _callers(general)
    router.close(LOST_ROUTER, "has no counterpart in routing here")
    settings.ignore("set_verbose", "json_logs", "telemetry", "num_workers")
    settings.close(LOST_SETTINGS, "has no counterpart")
    general.close(LOST_GENERAL, "has no counterpart")
    source.close(LOST_SECTIONS, "is no section that is carried over")
    document = {
        "providers": deployments.providers,
        "routes": routes,
        "teams": teams,
        "prices": deployments.prices,
        "limits": limits,
    }
    document = {name: entries for name, entries in document.items() if entries}
    source.report.lost.sort()
    source.report.notes.sort()
    return Converted(document, _written(document, file), source.report)


def _credentials(source: Part) -> dict[str, Entry]:
    """`credential_list`: name → what `api_key` and `api_base` it stands for."""
    found: dict[str, Entry] = {}
    for entry in source.parts("credential_list"):
        values = entry.part("credential_values")
        found[str(entry.get("credential_name"))] = {name: values.get(name) for name in ("api_key", "api_base")}
        entry.ignore("credential_info")
        values.close({}, "is not needed by the providers that Sluicegate speaks")
        entry.close({}, "has no counterpart")
    return found


class _Routes:
    """One route for each `model_name` and alias."""

    def __init__(self, deployments: Deployments, router: Part, settings: Part, report: Report) -> None:
        self._deployments = deployments
        self._router = router
        self._settings = settings
        self._report = report
        self._strategy = self._read_strategy()
        self._retries = self._number("num_retries")
        self._total_s = router.get("timeout") or settings.get("request_timeout")
        self._first_byte_s = router.get("stream_timeout")

    def build(self) -> list[Entry]:
        groups: dict[str, list[Deployment]] = {}
        for each in self._deployments.found:
            groups.setdefault(each.route, []).append(each)
        fallbacks = self._fallbacks(groups)
        routes = [self._route(name, group, fallbacks.get(name, [])) for name, group in groups.items()]
        made = {route["name"]: route for route in routes}
        for part, setting in ((self._router, "model_group_alias"), (self._settings, "model_alias_map")):
            aliases = part.part(setting)
            for alias in aliases.names():
                routes += self._alias(alias, aliases, made)
        return routes

    def _read_strategy(self) -> str:
        written = self._router.get("routing_strategy") or "simple-shuffle"
        strategy = STRATEGIES.get(str(written))
        if strategy is None:
            self._router.lose("routing_strategy", f"{written!r} has no counterpart; routes are `weighted`")
        self._router.ignore("routing_strategy_args")
        return strategy or "weighted"

    def _number(self, name: str) -> int | None:
        for part in (self._router, self._settings):
            value = part.get(name)
            if isinstance(value, int):
                return value
        return None

    def _route(self, name: str, group: list[Deployment], behind: list[Deployment]) -> Entry:
        ordered = any(each.order is not None for each in group)
        group = _in_order(group)
        strategy = "ordered" if ordered or len(group) == 1 else self._strategy
        targets: list[Entry] = []
        for each in group:
            target: Entry = {"provider": each.provider, "model": each.model}
            if strategy == "weighted":
                target["weight"] = self._weight(each, group)
            known = next((t for t in targets if (t["provider"], t["model"]) == (each.provider, each.model)), None)
            if known is None:
                targets.append(target)
            elif "weight" in known:
                known["weight"] += target["weight"]
        if strategy == "weighted" and not any(target["weight"] for target in targets):
            for target in targets:
                target["weight"] = 1
        own = len(targets)
        for each in behind:
            if not any((t["provider"], t["model"]) == (each.provider, each.model) for t in targets):
                target = {"provider": each.provider, "model": each.model}
                targets.append(target | ({"weight": 0} if strategy == "weighted" else {}))
        route: Entry = {"name": name}
        if len(targets) > 1:
            route["strategy"] = strategy
        route["targets"] = targets
        retries = min(100, (self._retries if self._retries is not None else 1) + len(targets) - own)
        if retries != 1:
            route["retries"] = retries
        timeout = self._timeout(group)
        if timeout:
            route["timeout"] = timeout
        return route

    @staticmethod
    def _weight(each: Deployment, group: list[Deployment]) -> int:
        """As LiteLLM's shuffle draws: by weight, else by rpm, else by tpm."""
        for name in ("weight", "rpm", "tpm"):
            if any(getattr(other, name) is not None for other in group):
                return min(1_000_000, int(getattr(each, name) or 0))
        return 1

    def _timeout(self, group: list[Deployment]) -> Entry:
        found: Entry = {}
        for ours, named, whole in (
            ("total", "timeout_s", self._total_s),
            ("first_byte", "first_byte_s", self._first_byte_s),
        ):
            own = [value for each in group if isinstance(value := getattr(each, named), int | float)]
            value = max(own) if own else whole
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                found[ours] = f"{min(float(value), 86_400.0):g}s"
        return found

    def _fallbacks(self, groups: dict[str, list[Deployment]]) -> dict[str, list[Deployment]]:
        """Route → targets that stand in once its own have failed."""
        by_id = {each.id: [each] for each in self._deployments.found if each.id}
        found: dict[str, list[Deployment]] = {}

        def stand_in(part: Part, setting: str, name: str, others: Any) -> None:
            group = groups.get(name)
            if group is None:
                part.lose(setting, f"{name!r} is no route that was carried over")
                return
            plain = len(group) > 1 and self._strategy != "weighted" and not any(e.order is not None for e in group)
            if plain:
                part.lose(setting, f"{name!r}: `{self._strategy}` would send its fallbacks a share of the requests")
                return
            for other in others if isinstance(others, list) else [others]:
                targets = groups.get(str(other)) or by_id.get(str(other))
                if targets is None:
                    part.lose(setting, f"{other!r} is no route that was carried over")
                else:
                    found.setdefault(name, []).extend(_in_order(targets))

        for part in (self._router, self._settings):
            for entry in part.get("fallbacks") or []:
                if isinstance(entry, dict):
                    for name, others in entry.items():
                        stand_in(part, "fallbacks", str(name), others)
        for part in (self._router, self._settings):
            others = part.get("default_fallbacks")
            if others:
                for name in groups:
                    if name not in found and name not in others:
                        stand_in(part, "default_fallbacks", name, others)
        return found

    def _alias(self, alias: str, aliases: Part, made: dict[str, Entry]) -> list[Entry]:
        value = aliases.get(alias)
        model = value.get("model") if isinstance(value, dict) else value
        route = made.get(str(model))
        if alias in made:
            aliases.lose(alias, "is the name of a route already")
            return []
        if route is None:
            aliases.lose(alias, f"{model!r} is no route that was carried over")
            return []
        if isinstance(value, dict) and value.get("hidden"):
            aliases.note(alias, "the alias is a route like any other and is listed under /v1/models")
        return [route | {"name": alias}]


def _in_order(group: list[Deployment]) -> list[Deployment]:
    """By `order`, those without one last."""
    return sorted(group, key=lambda each: each.order if each.order is not None else 10**9)


def _whole_limits(router: Part, settings: Part, general: Part, deployments: Deployments) -> list[Entry]:
    """Limits of the whole gateway and of providers."""
    found: list[Entry] = []
    for part, setting in ((general, "global_max_parallel_requests"), (settings, "max_parallel_requests")):
        value = part.get(setting)
        if isinstance(value, int) and value > 0 and not found:
            found.append({"name": "all-parallel", "scope": {}, "metric": "concurrent_requests", "at_most": value})
    budget = settings.get("max_budget")
    if budget is not None and (made := budget_limit("all-budget", {}, settings, budget)):
        found.append(made)
    budgets = router.part("provider_budget_config")
    for name in budgets.names():
        config = budgets.part(name)
        plain = name.replace("_", "-")
        names = [each["name"] for each in deployments.providers]
        names = [each for each in names if each == plain or each.startswith(f"{plain}-")]
        amount = config.get("budget_limit")
        made = budget_limit(f"{name}-budget", {}, config, amount, "time_period") if names else None
        if made:
            found += [made | {"name": f"{each}-budget", "scope": {"provider": each}} for each in names]
            if len(names) > 1:
                budgets.note(name, f"each of {', '.join(names)} gets the whole budget: divide it")
        config.close({}, "has no counterpart")
    return found


def _callers(general: Part) -> list[Entry]:
    """The master key as an app's key that may call everything: clients that show it go on working."""
    master = general.get("master_key")
    if master is None:
        return []
    key: Entry = {"name": "master"}
    if str(master).startswith("${") or len(str(master)) >= LEAST_KEY:
        key["value"] = str(master)
        general.note("master_key", "clients that show it go on working, as app `litellm`; it opens no REST API")
    else:
        general.note("master_key", f"has less than {LEAST_KEY} characters: `apply` makes a key and prints it once")
    return [{"name": "litellm", "apps": [{"name": "litellm", "routes": "*", "keys": [key]}]}]


def _written(document: dict[str, Any], file: str) -> str:
    yaml = YAML(typ="rt")
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    out = io.StringIO()
    out.write(
        f"# Made by `sluicegate import litellm {file}`. Keys, teams and users that LiteLLM keeps in its database\n"
    )
    out.write("# are not in that file: make teams and apps below, and `sluicegate key create` for each app.\n")
    yaml.dump(_quoted(document), out)
    return out.getvalue()


def _quoted(value: Any) -> Any:
    """Texts that YAML would read as something else, in quotes; and everything plain, without the source's comments."""
    if isinstance(value, dict):
        return {str(name): _quoted(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_quoted(each) for each in value]
    if isinstance(value, str):
        return DoubleQuotedScalarString(value) if value.startswith(("$", "*")) or "{" in value else str(value)
    return value
