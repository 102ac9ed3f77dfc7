"""Where a dialect is found: its paths, and what tells its callers from those of another dialect on shared paths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from gateway.dialects.base import DialectHandler, Operation, PlainReader
from gateway.policy.model import Dialect

Headers = Sequence[tuple[bytes, bytes]]
"""(lower-case name, value) in the order they came."""


def finds_nothing(method: bytes, path: bytes) -> Operation | None:
    return None


def is_not_told(headers: Headers, query: bytes) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """The paths of one dialect. They are written as its provider has them; the registry adds the dialect's prefix.

    On a path that several dialects have (below `/v1/`), those whose `speaks` is true of the request are asked first.
    """

    handler: DialectHandler
    plain: PlainReader | None = None
    """The quick way through this dialect's common calls, where it has one."""
    calls: Mapping[str, Operation]
    """What POST to exactly these paths is."""
    find: Callable[[bytes, bytes], Operation | None] = finds_nothing
    """(method, path without query) → what is no exact path: listings, families of paths, paths that name a model."""
    owns: tuple[bytes, ...] = ()
    """Unprefixed paths that are this dialect's alone: what is unknown there and below is a 404 in its words."""
    version: bytes = b"/v1"
    """Put before a path under the dialect's prefix that has none: callers drop it who set a base URL without one."""
    speaks: Callable[[Headers, bytes], bool] = is_not_told
    """(headers, query) → whether the caller surely speaks this dialect."""


def models_listing(dialect: Dialect, base: bytes, method: bytes, path: bytes) -> Operation | None:
    """`GET {base}` and `GET {base}/{name}`, which the gateway answers by itself; None for all else."""
    if method not in (b"GET", b"HEAD") or not path.startswith(base):
        return None
    rest = path[len(base) :]
    if rest[:1] not in (b"", b"/"):
        return None
    name = rest[1:] or None
    model = None if name is None else unquote_to_bytes(name).decode(errors="replace")
    return Operation(name="models", dialect=dialect, upstream_path=base.decode(), listing=True, model=model)
