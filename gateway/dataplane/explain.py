"""Say what would happen to a request, by the same code that would do it, without doing it."""

import os
import time
from typing import TYPE_CHECKING

from gateway.dataplane.balancing import order, preference
from gateway.dataplane.forwarding_exchange import ANONYMOUS
from gateway.dataplane.health import Health
from gateway.dataplane.route_choice import targets_for
from gateway.dialects.base import Operation
from gateway.dialects.registry import HANDLERS, classify, is_data_plane_path
from gateway.errors import BadRequest, DialectUnsupported, NotFound
from gateway.policy.explanation import Explanation, LimitNeed, Question, TargetExplained
from gateway.policy.model import App, Auth, Dialect, Key, Route, Strategy, Target
from gateway.policy.quota import COST_INDEX, METRIC_INDEX, Amounts
from gateway.policy.usage import cost_bound_microusd

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane

_USUAL_PATHS = {
    Dialect.OPENAI: "/openai/v1/chat/completions",
    Dialect.ANTHROPIC: "/anthropic/v1/messages",
    Dialect.GEMINI: "/gemini/v1beta/models/{route}:generateContent",
    Dialect.MISTRAL: "/mistral/v1/chat/completions",
    Dialect.OLLAMA: "/ollama/api/chat",
}


def explain(plane: "Plane", question: Question, now_s: float) -> Explanation:
    """On the worker's event loop at its time `now_s`. Raises NotFound, BadRequest, and what reading a sample raises."""
    snapshot = plane.snapshot
    route = snapshot.routes.get(question.route)
    if route is None:
        raise NotFound(f"no route {question.route!r} is in force here", fix="try again in a second")
    app, key = _caller(plane, question)
    allowed, access = _access(route, app, key, question)
    operation = None if route.match is not None else _operation(route, question)
    claimed, match = _match(plane, route, operation, question)
    dialect = Dialect.HTTP if operation is None else operation.dialect
    try:
        targets = list(route.targets) if operation is None else targets_for(route, operation)
    except DialectUnsupported:
        targets = []
    skipped = [
        (target.name, f"speaks {target.provider.dialect}, not {dialect}")
        for target in route.targets
        if target not in targets
    ]
    tokens_in, tokens_out = _bounds(route, operation, question)

    def cost_of(target: Target) -> int | None:
        if target.price is None:
            return None if operation is not None else 0
        return cost_bound_microusd(tokens_in, tokens_out, target.price)

    def explained(target: Target) -> TargetExplained:
        need = Amounts(tokens_in, tokens_out, cost_of(target))
        return _target(plane, health, route, target, app or ANONYMOUS, key, need, now_s)

    health = plane.health.scratch(route.name)
    ordered = order(route, targets, health, now_s, cost_of) if targets else []
    return Explanation(
        pid=os.getpid(),
        generation=snapshot.generation,
        claimed=claimed,
        match=match,
        allowed=allowed,
        access=access,
        dialect=dialect,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        targets=tuple([explained(target) for target in ordered]),
        skipped=tuple(skipped),
        attempts=1 + route.retries,
    )  # fmt: skip


def _caller(plane: "Plane", question: Question) -> tuple[App | None, Key | None]:
    if question.app is None:
        return None, None
    app = plane.snapshot.apps.get(question.app)
    if app is None:
        raise NotFound(f"no app {question.app!r} is in force here", fix="try again in a second")
    if question.key is None:
        return app, None
    for key in plane.snapshot.keys.values():
        if key.name == question.key and key.app.id == app.id:
            return app, key
    raise NotFound(f"no key {question.key!r} of app {app.name} is in force here", fix="try again in a second")


def _access(route: Route, app: App | None, key: Key | None, question: Question) -> tuple[bool | None, str]:
    if route.auth is Auth.NONE:
        return True, "the route asks for no key"
    if app is None:
        return None, "no app was named"
    if key is not None and key.expires_at_s is not None and key.expires_at_s <= time.time():
        return False, f"key {key.name} of app {app.name} has expired"
    if app.routes is None:
        return True, f"app {app.name} may call all routes"
    if route.name in app.routes:
        return True, f"app {app.name} may call it"
    return False, f"app {app.name} may not call route {route.name}"


def _operation(route: Route, question: Question) -> Operation:
    """What is asked for: by the path that was given, else the usual call of the dialect."""
    dialect = question.dialect
    if question.path is not None:
        path = question.path.partition("?")[0]
        prefixed = path if dialect is None or path.startswith(f"/{dialect}/") else f"/{dialect}{path}"
        found = classify(question.method.encode(), prefixed.encode(), b"", [])
        if found is None or found.listing:
            raise BadRequest(
                f"{question.method} {path} is no call with a model"
                + (f" in the dialect {dialect}" if dialect is not None else ""),
                fix="leave `path` out, or give one of the data plane's, e.g. /v1/chat/completions",
            )
        return found
    dialect = dialect or route.targets[0].provider.dialect
    usual = _USUAL_PATHS.get(dialect, "").replace("{route}", route.name)
    found = classify(b"POST", usual.encode(), b"", [])
    if found is None:
        raise BadRequest(f"{dialect} is no dialect that this route is called in", fix="name another, or leave it out")
    return found


def _match(plane: "Plane", route: Route, operation: Operation | None, question: Question) -> tuple[bool, str]:
    if operation is not None:
        return True, f"a call in the dialect {operation.dialect} whose model is {route.name!r}"
    host, path = (question.host or "").lower(), question.path
    match = route.match
    assert match is not None
    if question.host is None and path is None:
        claims = " and ".join(
            part
            for part in (f"host {match.host}" if match.host else "", f"path {match.path}" if match.path else "")
            if part
        )
        return True, f"requests to {claims}"
    path = (path or match.path or "/").partition("?")[0]
    if not host and match.host is not None and question.host is None:
        host = match.host
    found = plane.http_routes.by_host(host, path)
    how = f"host {host} and path {path}"
    if found is None and is_data_plane_path(path.encode()):
        return False, f"path {path} is the data plane's own"
    if found is None:
        found, how = plane.http_routes.by_path(path), f"path {path}"
    if found is route:
        return True, f"{how} is claimed by this route"
    return False, f"{how} is claimed by " + ("no route" if found is None else f"route {found.name}")


def _bounds(route: Route, operation: Operation | None, question: Question) -> tuple[int, int]:
    """Input and output tokens that would be reserved."""
    if operation is None:
        return 0, 0
    tokens_in, tokens_out = 0, route.max_output_tokens
    if question.body is not None:
        call = HANDLERS[operation.dialect].read_call(operation, b"application/json", question.body)
        tokens_in = call.input_bound
        tokens_out = call.output_bound if call.output_bound is not None else route.max_output_tokens * call.choices
    if question.input_tokens is not None:
        tokens_in = question.input_tokens
    if question.output_tokens is not None:
        tokens_out = question.output_tokens
    return tokens_in, tokens_out


def _target(
    plane: "Plane",
    health: Health,
    route: Route,
    target: Target,
    app: App,
    key: Key | None,
    need: Amounts,
    now_s: float,
) -> TargetExplained:
    state, provider = health.of(target), target.provider
    credential = health.credential(provider, now_s)
    vector = need.needed()
    limits = []
    for limit in plane.snapshot.limits_for(key, app, route, target, credential):
        code = METRIC_INDEX[limit.metric]
        unpriced = code == COST_INDEX and need.cost_microusd is None
        limits.append(LimitNeed(limit=limit, need=vector[code], unpriced=unpriced))
    return TargetExplained(
        target=target.name,
        provider=provider.name,
        model=target.model,
        state=_state(health, target, now_s),
        reasons=tuple(_reasons(health, route, target, need, now_s)),
        zone=provider.zone,
        tags=tuple(sorted(provider.tags)),
        weight=target.weight,
        in_flight=state.in_flight,
        ttft_ms=None if state.ttft_s is None else round(state.ttft_s * 1000, 3),
        cost_bound_microusd=need.cost_microusd,
        credential=None if credential is None else credential.name,
        credentials_aside=tuple(
            one.name for one in provider.credentials if health.aside_until_s(provider, one) > now_s
        ),
        limits=tuple(limits),
    )  # fmt: skip


def _state(health: Health, target: Target, now_s: float) -> str:
    state = health.of(target)
    if state.down:
        return "down"
    if state.ready(now_s):
        return "half_open" if state.tripped else "ready"
    return "cooling"


def _reasons(health: Health, route: Route, target: Target, need: Amounts, now_s: float) -> list[str]:
    state, reasons = health.of(target), []
    if state.down:
        reasons.append(f"down: the active check of provider {target.provider.name} fails")
    elif state.tripped and state.cooling_until_s > now_s:
        reasons.append(f"cooling for {state.cooling_until_s - now_s:.1f} s after {state.failures} failures in a row")
    elif state.tripped:
        trial = "a trial is on its way" if state.probing else "the next request is its trial"
        reasons.append(f"half open after {state.failures} failures in a row: {trial}")
    elif state.cooling_until_s > now_s:
        reasons.append(f"asked for a pause (retry-after): {state.cooling_until_s - now_s:.1f} s are left")
    place, elsewhere = preference(route, target, health.zone)
    if route.prefer:
        tag = route.prefer[place] if place < len(route.prefer) else None
        reasons.append(f"preferred for its tag {tag}" if tag else "has no tag that the route prefers")
    if health.zone is not None:
        zone = target.provider.zone or "none"
        reasons.append(f"of zone {zone}, {'not ' if elsewhere else ''}this worker's")
    reasons.append(_by_strategy(health, route, target, need))
    return reasons


def _by_strategy(health: Health, route: Route, target: Target, need: Amounts) -> str:
    state = health.of(target)
    match route.strategy:
        case Strategy.ORDERED:
            return f"number {route.targets.index(target) + 1} as written"
        case Strategy.WEIGHTED:
            total = sum(one.weight for one in route.targets)
            return f"weight {target.weight} of {total}" if target.weight else "weight 0: only as fallback"
        case Strategy.ROUND_ROBIN:
            return "by turn"
        case Strategy.LEAST_BUSY:
            return f"{state.in_flight} requests in flight in this worker"
        case Strategy.FASTEST:
            known = "no answer seen yet: tried first" if state.ttft_s is None else f"{state.ttft_s * 1000:.0f} ms"
            return f"moving average of the time to the first byte: {known}"
        case Strategy.CHEAPEST:
            cost = need.cost_microusd
            return "its price is not known" if cost is None else f"costs at most {cost / 1_000_000:.6f} USD"
