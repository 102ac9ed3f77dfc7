"""Which HTTP route claims a request, by host and path (contract "Routing")."""

from collections.abc import Iterable

from gateway.policy.model import Route


class HttpRoutes:
    """The routes with a `match`, arranged for look-up: a route matched by host beats all, then the longer path."""

    __slots__ = ("_by_host", "_by_path")

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_host: dict[str, list[tuple[str, Route]]] = {}
        self._by_path: list[tuple[str, Route]] = []
        for route in routes:
            if route.match is None:
                continue
            entry = (route.match.path or "/", route)
            if route.match.host:
                self._by_host.setdefault(route.match.host.lower(), []).append(entry)
            else:
                self._by_path.append(entry)
        for entries in (*self._by_host.values(), self._by_path):
            entries.sort(key=lambda entry: len(entry[0]), reverse=True)

    def __bool__(self) -> bool:
        return bool(self._by_host or self._by_path)

    @property
    def by_any_host(self) -> bool:
        """Whether a Host header can decide anything."""
        return bool(self._by_host)

    def by_host(self, host: str, path: str) -> Route | None:
        """`host` in lower case, without port."""
        return _longest(self._by_host.get(host, ()), path) if self._by_host else None

    def by_path(self, path: str) -> Route | None:
        """Only for paths that no dialect and no page of ours has: a path alone never shadows these."""
        return _longest(self._by_path, path)


def _longest(entries: Iterable[tuple[str, Route]], path: str) -> Route | None:
    for prefix, route in entries:
        if path.startswith(prefix) and (prefix.endswith("/") or len(path) == len(prefix) or path[len(prefix)] in "/?"):
            return route
        if prefix.endswith("/") and path == prefix[:-1]:
            return route
    return None
