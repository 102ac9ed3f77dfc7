"""A path under a dialect's roof that nobody serves: 404 in that dialect, naming it, after the caller is known."""

from gateway.dataplane.exchange import Exchange
from gateway.dataplane.identity import identify
from gateway.errors import NotFound


class UnknownPathExchange(Exchange):
    """Refuses; it never reaches an upstream."""

    async def serve(self) -> None:
        caller = identify(self.request, self.snapshot, self.now_s)
        self.admit_to(caller.key.app, caller.key)
        path = self.request.path.decode("latin-1")[:200]
        method = self.request.method.decode("latin-1")
        raise NotFound(
            f"{method} {path} is not served",
            fix="see the paths of this gateway at /api/docs, or add an HTTP route with a match",
        )
