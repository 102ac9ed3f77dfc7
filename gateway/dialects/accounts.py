"""What lies at a provider's account: files, batches, uploads, stored responses. Such requests name no model, and pass.

Sources: platform.openai.com/docs/api-reference (files, uploads, batch, responses), docs.anthropic.com/en/api (message
batches, files), docs.mistral.ai/api (files, batch).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.dialects.base import Operation
from gateway.policy.model import Dialect

_ID: Final = "([A-Za-z0-9][A-Za-z0-9_.:-]{0,199})"
"""One path segment, and never one that climbs."""


FILES: Final = "files"
BATCHES: Final = "batches"
_RESULTS: Final = re.compile(rb'("results_url"[ \t\r\n]*:[ \t\r\n]*")https?://[^"\\]*?(/v1/messages/batches/)')


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOperation(Operation):
    names_object: bool
    """The path names what lies at one account: another may know it where the first does not."""
    spends_later: bool
    """It makes the provider work later, for a price that nobody knows now."""


@dataclass(frozen=True, slots=True)
class _Paths:
    methods: str
    pattern: str
    """`{id}` is any one segment."""
    name: str
    spends_later: str = ""
    """Methods of which that is true."""


_FILES: Final = (
    _Paths("GET POST", "/v1/files", FILES),
    _Paths("GET DELETE", "/v1/files/{id}", FILES),
    _Paths("GET", "/v1/files/{id}/content", FILES),
)
_PATHS: Final[Mapping[Dialect, tuple[_Paths, ...]]] = {
    Dialect.OPENAI: (
        *_FILES,
        _Paths("POST", "/v1/uploads", "uploads"),
        _Paths("POST", "/v1/uploads/{id}/(?:parts|complete|cancel)", "uploads"),
        _Paths("GET POST", "/v1/batches", BATCHES, spends_later="POST"),
        _Paths("GET", "/v1/batches/{id}", BATCHES),
        _Paths("POST", "/v1/batches/{id}/cancel", BATCHES),
        _Paths("GET DELETE", "/v1/responses/{id}", "responses"),
        _Paths("POST", "/v1/responses/{id}/cancel", "responses"),
        _Paths("GET", "/v1/responses/{id}/input_items", "responses"),
    ),
    Dialect.ANTHROPIC: (
        *_FILES,
        _Paths("GET POST", "/v1/messages/batches", BATCHES, spends_later="POST"),
        _Paths("GET DELETE", "/v1/messages/batches/{id}", BATCHES),
        _Paths("POST", "/v1/messages/batches/{id}/cancel", BATCHES),
        _Paths("GET", "/v1/messages/batches/{id}/results", BATCHES),
    ),
    Dialect.MISTRAL: (
        *_FILES,
        _Paths("GET", "/v1/files/{id}/url", FILES),
        _Paths("GET POST", "/v1/batch/jobs", BATCHES, spends_later="POST"),
        _Paths("GET DELETE", "/v1/batch/jobs/{id}", BATCHES),
        _Paths("POST", "/v1/batch/jobs/{id}/cancel", BATCHES),
    ),
}
_COMPILED: Final = {
    dialect: tuple((frozenset(one.methods.split()), re.compile(one.pattern.replace("{id}", _ID)), one) for one in paths)
    for dialect, paths in _PATHS.items()
}


def with_results_here(answer: bytes, own_url: bytes) -> bytes:
    """Anthropic's batches with their `results_url` below `own_url` (without the version). Quotes of a text are escaped,
    so the member is found wherever it stands and nothing else is."""
    return _RESULTS.sub(lambda found: found.group(1) + own_url + found.group(2), answer)


def find(dialect: Dialect, method: bytes, path: bytes) -> AccountOperation | None:
    """`path` as the provider has it, version included."""
    named, text = method.decode("latin-1"), path.decode("latin-1")
    for methods, pattern, paths in _COMPILED.get(dialect, ()):
        found = pattern.fullmatch(text)
        if found is not None and named in methods:
            return AccountOperation(
                name=paths.name,
                dialect=dialect,
                upstream_path=text,
                names_object=bool(found.groups()),
                spends_later=named in paths.spends_later.split(),
            )
    return None
