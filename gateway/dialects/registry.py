"""Which dialect and operation a request is, and who handles it.

Adding a dialect: its own file, an entry in `HANDLERS`, and its operations in `_OWN_OPERATIONS`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.dialects import anthropic, openai
from gateway.dialects.anthropic import AnthropicHandler
from gateway.dialects.base import DialectHandler, Operation
from gateway.dialects.http import HttpHandler
from gateway.dialects.openai import OpenAiHandler
from gateway.policy.model import Dialect

Headers = Sequence[tuple[bytes, bytes]]
"""(lower-case name, value) in the order they came."""

HANDLERS: Final[Mapping[Dialect, DialectHandler]] = {
    Dialect.OPENAI: OpenAiHandler(),
    Dialect.ANTHROPIC: AnthropicHandler(),
    Dialect.HTTP: HttpHandler(),
}

_OWN_OPERATIONS: Final[Mapping[Dialect, Mapping[str, Operation]]] = {
    Dialect.OPENAI: openai.OPERATIONS,
    Dialect.ANTHROPIC: anthropic.OPERATIONS,
}
_LISTINGS: Final = {
    dialect: Operation(name="models", dialect=dialect, upstream_path="/v1/models", listing=True)
    for dialect in _OWN_OPERATIONS
}
_LISTING_PATH: Final = b"/v1/models"
_FAMILY_PATH: Final = re.compile(rb"/[a-z0-9_/-]+")
_VERSION: Final = re.compile(r"/v[0-9]+(?:alpha|beta)?[0-9]*(?=/|$)")


def _operations_by_path() -> dict[bytes, Operation]:
    """Each dialect's paths: bare, under its prefix, and under its prefix without the version, which callers drop who
    set a base URL without one."""
    found: dict[bytes, Operation] = {}
    for dialect, operations in _OWN_OPERATIONS.items():
        for path, operation in operations.items():
            found.setdefault(path.encode(), operation)
            found[f"/{dialect}{path}".encode()] = operation
            found[f"/{dialect}{path.removeprefix('/v1')}".encode()] = operation
    return found


_POST_OPERATIONS: Final = _operations_by_path()
_PREFIXES: Final = {f"/{dialect}/".encode(): dialect for dialect in _OWN_OPERATIONS}
_DATA_PLANE: Final = (b"/v1/", *_PREFIXES)


def classify(method: bytes, path: bytes, query: bytes, headers: Headers) -> Operation | None:
    """The operation that a data-plane request asks for; None for paths and methods that no dialect knows.

    `path` without query, as sent. A dialect's prefix settles the dialect; on `/v1/models` the headers do.
    """
    if method == b"POST":
        operation = _POST_OPERATIONS.get(path)
        return operation if operation is not None else _family_operation(path)
    if method == b"GET" or method == b"HEAD":
        return _listing(path, headers)
    return None


def is_data_plane_path(path: bytes) -> bool:
    """Whether the path is the data plane's to answer, with a 404 in the dialect's words if nothing else."""
    return path.startswith(_DATA_PLANE)


def dialect_of(path: bytes, headers: Headers) -> Dialect:
    """The dialect in which a request on this path is answered, known path or not; `http` outside the data plane."""
    dialect, rest = _cut_prefix(path)
    if dialect is not None:
        return dialect
    if not rest.startswith(b"/v1/"):
        return Dialect.HTTP
    if rest.startswith(b"/v1/messages"):
        return Dialect.ANTHROPIC
    return Dialect.ANTHROPIC if _speaks_anthropic(headers) else Dialect.OPENAI


def upstream_target(base_url: str, operation: Operation) -> str:
    """The path of `join_base_url`, as the request line names it (RFC 9112 3.2.1)."""
    url = join_base_url(base_url, operation)
    return url[url.index("/", url.index("://") + 3) :]


def join_base_url(base_url: str, operation: Operation) -> str:
    """The upstream's URL for an operation. `base_url` may hold its version already (`…/v1`, `…/v1beta/openai`)."""
    base = base_url.rstrip("/")
    path = operation.upstream_path
    authority = base.find("/", base.find("://") + 3) if "://" in base else 0
    if authority >= 0 and _VERSION.search(base, authority):
        path = _VERSION.sub("", path, count=1)
    return base + path


def _cut_prefix(path: bytes) -> tuple[Dialect | None, bytes]:
    for prefix, dialect in _PREFIXES.items():
        if path.startswith(prefix):
            rest = path[len(prefix) - 1 :]
            return dialect, rest if rest.startswith(b"/v1/") else b"/v1" + rest
    return None, path


def _family_operation(path: bytes) -> Operation | None:
    """`/v1/images/*` and `/v1/audio/*` beyond those that are listed by name."""
    dialect, rest = _cut_prefix(path)
    if dialect not in (None, Dialect.OPENAI) or not _FAMILY_PATH.fullmatch(rest):
        return None
    text = rest.decode()
    for family, name in openai.FAMILIES.items():
        if text.startswith(family) and len(text) > len(family) and "//" not in text:
            return Operation(name=name, dialect=Dialect.OPENAI, upstream_path=text)
    return None


def _listing(path: bytes, headers: Headers) -> Operation | None:
    dialect, rest = _cut_prefix(path)
    if not rest.startswith(_LISTING_PATH):
        return None
    if dialect is None:
        dialect = Dialect.ANTHROPIC if _speaks_anthropic(headers) else Dialect.OPENAI
    name = rest[len(_LISTING_PATH) :]
    if not name or name == b"/":
        return _LISTINGS[dialect]
    if not name.startswith(b"/"):
        return None
    return replace(_LISTINGS[dialect], model=unquote_to_bytes(name[1:]).decode(errors="replace"))


def _speaks_anthropic(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"anthropic-version" for name, _ in headers)
