"""Whether a route claims an intercepted request (contract "Interception"): a `match` that fits, or a data-plane path
whose body names a route that the caller may use.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gateway.dataplane.identity import Caller
from gateway.dialects.base import LargeCall, Operation
from gateway.dialects.registry import HANDLERS, classify, is_data_plane_path
from gateway.errors import SluicegateError
from gateway.wire.cutting import RequestHead

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane


class Claim(Enum):
    OURS = "ours"
    THEIRS = "theirs"
    BODY = "body"
    """The body has to be read first."""


class Whose(Enum):
    """The request under way on a connection."""

    NOBODYS = 0
    """There is none."""
    ASKED = 1
    """It has to be looked up where its host leads."""
    HELD = 2
    """Its body has to be read first."""
    QUEUED = 3
    """It is ours, and answers to requests before it are still on their way."""
    OURS = 4
    THEIRS = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    claim: Claim
    operation: Operation | None = None
    """Of a call with a model."""


OURS = Verdict(Claim.OURS)
THEIRS = Verdict(Claim.THEIRS)


def host_of(head: RequestHead) -> str:
    """Of the Host header: lower case, without port; IPv6 addresses in brackets."""
    host = (head.header(b"host") or b"").decode("latin-1").lower()
    return host[: host.rindex("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]


def judge(plane: "Plane", head: RequestHead, host: str, caller: Caller | None) -> Verdict:
    """`host`: under which it may be looked for among the routes."""
    routes = plane.http_routes
    path = head.path.decode("latin-1")
    if routes and routes.by_host(host, path) is not None:
        return OURS
    operation = classify(head.method, head.path, head.query, head.headers)
    if operation is not None:
        if operation.listing or caller is None:
            return Verdict(Claim.THEIRS, operation)
        if operation.model is not None:
            claim = Claim.OURS if may_use(plane, caller, operation.model) else Claim.THEIRS
            return Verdict(claim, operation)
        return Verdict(Claim.BODY if head.has_body else Claim.THEIRS, operation)
    if routes and not is_data_plane_path(head.path) and routes.by_path(path) is not None:
        return OURS
    return THEIRS


def names_route(
    plane: "Plane", operation: Operation, head: RequestHead, body: "bytes | LargeCall", caller: Caller
) -> bool | None:
    """Whether the whole body names a route that the caller may use; None: it is none that can be understood.
    `LargeCall`: it was read on its way to a file."""
    try:
        if isinstance(body, bytes):
            kind = head.header(b"content-type") or b""
            call = HANDLERS[operation.dialect].read_call(operation, kind, body)
        else:
            call = body.call()
    except SluicegateError:
        return None  # whatever it is, it is between the caller and who it wanted to speak to
    return may_use(plane, caller, call.route)


def may_use(plane: "Plane", caller: Caller, name: str) -> bool:
    route = plane.snapshot.routes.get(name)
    allowed = caller.app.routes
    return route is not None and route.match is None and (allowed is None or name in allowed)
