"""Paths that nobody serves: 404 in the dialect whose roof they are under, or of a listener that has no such thing."""

from gateway.dataplane.exchange import Exchange
from gateway.dataplane.identity import identify
from gateway.errors import NotFound


class UnknownPathExchange(Exchange):
    """Refuses, once the caller is known; it never reaches an upstream."""

    async def serve(self) -> None:
        caller = identify(self.request, self.snapshot, self.now_s)
        self.admit_to(caller.key.app, caller.key)
        path = self.request.path.decode("latin-1")[:200]
        method = self.request.method.decode("latin-1")
        raise NotFound(
            f"{method} {path} is not served",
            fix="see the paths of this gateway at /api/docs, or add an HTTP route with a match",
        )


class ElsewhereExchange(Exchange):
    """Console and REST API asked for on the data plane's own listener. It never says where they are."""

    async def serve(self) -> None:
        path = self.request.path.decode("latin-1")[:200]
        raise NotFound(f"{path} is not served on this address", fix="it has the data plane alone (--admin-listen)")
