"""Which route a caller means, and whether it may call it."""

from collections.abc import Sequence
from typing import Final

from gateway.dialects.base import Operation
from gateway.errors import DialectUnsupported, RouteNotAllowed, RouteNotFound
from gateway.policy.model import App, Key, Route, Target
from gateway.policy.snapshot import Snapshot

NAMES_SHOWN: Final = 50


def allowed_names(snapshot: Snapshot, app: App) -> list[str]:
    """Names of the routes that the app may call with a model, sorted."""
    allowed = app.routes
    return sorted(
        name for name, route in snapshot.routes.items() if route.match is None and (allowed is None or name in allowed)
    )


def find_route(snapshot: Snapshot, app: App, name: str) -> Route:
    """Raises RouteNotFound and RouteNotAllowed, which tell the names that are allowed."""
    route = snapshot.routes.get(name)
    if route is None or route.match is not None:
        raise route_not_found(snapshot, app, name)
    if app.routes is not None and name not in app.routes:
        names = allowed_names(snapshot, app)
        raise RouteNotAllowed(
            f"app {app.name} may not call route {name}",
            fix="ask for access, or use one of: " + _few(names),
            routes_allowed=names[:NAMES_SHOWN],
        )
    return route


def route_not_found(snapshot: Snapshot, app: App, name: str) -> RouteNotFound:
    names = allowed_names(snapshot, app)
    return RouteNotFound(
        f"there is no route {name[:200]!r}",
        fix="use one of: " + _few(names) if names else "no route is allowed to this app yet",
        routes_allowed=names[:NAMES_SHOWN],
    )


def targets_of_key(key: Key | None, route: Route, targets: Sequence[Target]) -> Sequence[Target]:
    """All of them, but for a key that is bound to one. Raises RouteNotAllowed where that is not among them."""
    if key is None or key.only_target is None:
        return targets
    bound = [target for target in targets if target.name == key.only_target]
    if not bound:
        raise RouteNotAllowed(
            f"key {key.name} is bound to the target {key.only_target}, which route {route.name} does not offer here",
            fix="use a key without a target, or one bound to a target of this route that speaks the caller's dialect",
        )
    return bound


def targets_for(route: Route, operation: Operation) -> list[Target]:
    """Those that speak the operation's dialect, or else its twin. Raises DialectUnsupported."""
    dialect = operation.dialect
    targets = [target for target in route.targets if target.provider.dialect is dialect]
    if not targets and operation.twin is not None:
        targets = [target for target in route.targets if target.provider.dialect is operation.twin]
    if not targets:
        spoken = sorted({target.provider.dialect.value for target in route.targets})
        raise DialectUnsupported(
            f"route {route.name} has no target that speaks {dialect.value}",
            fix=f"call it through {', '.join(spoken) or 'no'} paths, or add a target of dialect {dialect.value}",
            dialects=spoken,
        )
    return targets


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 10 else shown or "none"
