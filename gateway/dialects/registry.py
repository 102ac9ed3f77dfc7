"""Which dialect and operation a request is, and who handles it.

Adding a dialect: its own file with a `Surface`, and an entry in `SURFACES`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

from gateway.dialects import accounts, anthropic, gemini, mistral, ollama, openai, realtime
from gateway.dialects.base import Call, DialectHandler, Operation, PlainReader
from gateway.dialects.http import HttpHandler
from gateway.dialects.surface import Headers, Surface
from gateway.policy.model import Dialect

SURFACES: Final = (anthropic.SURFACE, gemini.SURFACE, mistral.SURFACE, ollama.SURFACE, openai.SURFACE)
"""In the order in which they are asked on shared paths, after those that the request's head speaks for."""
_DEFAULT: Final = openai.SURFACE
"""Whose words an unknown path below `/v1/` is answered in, where nothing tells the caller's."""

HANDLERS: Final[Mapping[Dialect, DialectHandler]] = {
    **{surface.handler.dialect: surface.handler for surface in SURFACES},
    Dialect.HTTP: HttpHandler(),
}
PLAIN_READERS: Final[Mapping[Dialect, PlainReader]] = {
    surface.handler.dialect: surface.plain for surface in SURFACES if surface.plain is not None
}

_PATH_SAFE: Final = "/:@+,;=!$&'()*~"
"""What a path may hold as it is (RFC 3986 3.3)."""
_SHARED: Final = b"/v1/"
_VERSIONED: Final = re.compile(rb"/v[0-9]")
_VERSION: Final = re.compile(r"/v[0-9]+(?:alpha|beta)?[0-9]*(?=/|$)")
_PREFIXES: Final = {f"/{surface.handler.dialect}/".encode(): surface for surface in SURFACES}
_OWNED: Final = {path: surface for surface in SURFACES for path in surface.owns}
_BELOW_OWNED: Final = {path + b"/": surface for path, surface in _OWNED.items()}
_BEGINNINGS: Final = (_SHARED, *_PREFIXES, *_BELOW_OWNED)


def _calls_by_path() -> tuple[dict[bytes, Operation], dict[bytes, tuple[tuple[Surface, Operation], ...]]]:
    """The paths of one dialect, prefixed ones included, and the bare paths that several have."""
    bare: dict[bytes, list[tuple[Surface, Operation]]] = {}
    calls: dict[bytes, Operation] = {}
    for surface in SURFACES:
        for text, operation in surface.calls.items():
            path, prefix = text.encode(), f"/{surface.handler.dialect}".encode()
            bare.setdefault(path, []).append((surface, operation))
            calls[prefix + path] = calls[prefix + path.removeprefix(surface.version)] = operation
    calls |= {path: having[0][1] for path, having in bare.items() if len(having) == 1}
    return calls, {path: tuple(having) for path, having in bare.items() if len(having) > 1}


_CALLS, _SHARED_CALLS = _calls_by_path()


def classify(method: bytes, path: bytes, query: bytes, headers: Headers) -> Operation | None:
    """The operation that a data-plane request asks for; None for paths and methods that no dialect knows.

    `path` without query, as sent. A dialect's prefix settles the dialect; on shared paths the rest of the head does.
    """
    if method == b"POST":
        operation = _CALLS.get(path)
        if operation is not None:
            return operation
        having = _SHARED_CALLS.get(path)
        if having is not None:
            return next((call for surface, call in having if surface.speaks(headers, query)), having[-1][1])
    if not is_data_plane_path(path):
        return None
    prefixed, rest = _cut_prefix(path)
    for surface in _asked(rest, query, headers) if prefixed is None else (prefixed,):
        operation = surface.find(method, rest)
        if operation is not None:
            return operation
    return None


def classify_beside(method: bytes, path: bytes, query: bytes, headers: Headers) -> Operation | None:
    """What `classify` does not know, and the data plane still serves: what lies at a provider's account (an
    `AccountOperation`), and sessions (`realtime.OPERATION`). None for all else."""
    prefixed, rest = _cut_prefix(path)
    for surface in _asked(rest, query, headers) if prefixed is None else (prefixed,):
        dialect = surface.handler.dialect
        if method == b"GET" and dialect is Dialect.OPENAI and rest == b"/v1/realtime":
            return realtime.OPERATION
        operation = accounts.find(dialect, method, rest)
        if operation is not None:
            return operation
    return None


def for_target(call: Call, dialect: Dialect) -> Call:
    """A call that was read in one dialect, for a target that speaks its twin."""
    return mistral.for_target(call, dialect)


def is_data_plane_path(path: bytes) -> bool:
    """Whether the path is the data plane's to answer, with a 404 in the dialect's words if nothing else."""
    return path.startswith(_BEGINNINGS) or path in _OWNED


def dialect_of(path: bytes, query: bytes, headers: Headers) -> Dialect:
    """The dialect in which a request on this path is answered, known path or not; `http` outside the data plane."""
    prefixed, rest = _cut_prefix(path)
    if prefixed is not None:
        return prefixed.handler.dialect
    if not is_data_plane_path(path):
        return Dialect.HTTP
    owner = _owner(rest)
    if owner is not None:
        return owner.handler.dialect
    return next((one for one in SURFACES if one.speaks(headers, query)), _DEFAULT).handler.dialect


def upstream_target(base_url: str, operation: Operation, model: str) -> str:
    """The path of `join_base_url`, as the request line names it (RFC 9112 3.2.1)."""
    url = join_base_url(base_url, operation, model)
    return url[url.index("/", url.index("://") + 3) :]


def join_base_url(base_url: str, operation: Operation, model: str) -> str:
    """The upstream's URL for an operation. `base_url` may hold its version already (`…/v1`, `…/v1beta/openai`).
    `model` is the target's, for paths that name it."""
    base = base_url.rstrip("/")
    path = operation.upstream_path
    if "{model}" in path:
        path = path.replace("{model}", quote(operation.path_model(model), safe=_PATH_SAFE))
    authority = base.find("/", base.find("://") + 3) if "://" in base else 0
    if authority >= 0 and _VERSION.search(base, authority):
        path = _VERSION.sub("", path, count=1)
    if path.startswith("/api/"):  # Ollama's documentation counts it to the base URL
        base = base.removesuffix("/api")
    return base + path


def _cut_prefix(path: bytes) -> tuple[Surface | None, bytes]:
    """The dialect whose prefix the path has, and the path as that dialect's provider has it."""
    for prefix, surface in _PREFIXES.items():
        if path.startswith(prefix):
            rest = path[len(prefix) - 1 :]
            return surface, rest if not surface.version or _VERSIONED.match(rest) else surface.version + rest
    return None, path


def _owner(path: bytes) -> Surface | None:
    for beginning, surface in _BELOW_OWNED.items():
        if path.startswith(beginning):
            return surface
    return _OWNED.get(path)


def _asked(path: bytes, query: bytes, headers: Headers) -> Iterable[Surface]:
    """Who may know an unprefixed path, the likeliest first."""
    owner = _owner(path)
    return (owner,) if owner is not None else _speaking_first(query, headers)


def _speaking_first(query: bytes, headers: Headers) -> Iterator[Surface]:
    speaking = [surface for surface in SURFACES if surface.speaks(headers, query)]
    yield from speaking
    if _DEFAULT not in speaking:
        yield _DEFAULT
    yield from (surface for surface in SURFACES if surface not in speaking and surface is not _DEFAULT)
