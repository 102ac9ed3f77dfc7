"""Calls in multipart forms: transcriptions, translations, edits of images. The model is a field of the form."""

from collections.abc import Sequence
from typing import Any, Final

from gateway.dialects.base import Call
from gateway.dialects.body import Splice, apply_splices, read_bool, read_count, read_model
from gateway.dialects.input_bound import MEDIA_TOKENS, estimate_of
from gateway.errors import BadRequest
from gateway.wire.errors import WireError
from gateway.wire.multipart import MultipartScanner, Part, boundary_of

FIELDS: Final = ("model", "stream", "n")
_TYPE: Final = b"multipart/form-data"
_BOOLEANS: Final = {"true": True, "false": False, "1": True, "0": False, "": None}


def is_form(content_type: bytes) -> bool:
    return content_type[: len(_TYPE)].lower() == _TYPE


def scanner_for(content_type: bytes) -> MultipartScanner:
    """Raises BadRequest."""
    try:
        return MultipartScanner(boundary_of(content_type), FIELDS)
    except WireError as problem:
        raise BadRequest(problem.message, fix="let the HTTP client write the content-type of its form") from None


def read_parts(content_type: bytes, body: bytes) -> Sequence[Part]:
    """Raises BadRequest."""
    scanner = scanner_for(content_type)
    try:
        scanner.feed(body)
        scanner.close()
    except WireError as problem:
        raise broken(problem) from None
    return scanner.parts


def broken(problem: WireError) -> BadRequest:
    return BadRequest(problem.message, fix="send a whole multipart/form-data body")


def read_call(content_type: bytes, body: bytes) -> Call:
    return call_of(read_parts(content_type, body))


def call_of(parts: Sequence[Part]) -> Call:
    """What a form asks for. Raises BadRequest."""
    fields: dict[str, Any] = {
        part.name: part.content.decode(errors="replace") for part in parts if part.name in FIELDS and not part.is_file
    }
    if "stream" in fields:
        fields["stream"] = _BOOLEANS.get(fields["stream"].lower(), fields["stream"])
    if "n" in fields:
        fields["n"] = int(fields["n"]) if fields["n"].isdecimal() else fields["n"] or None
    # A file is charged by its seconds or pixels, which its bytes bound only roughly.
    bound = sum(min(part.end - part.start, MEDIA_TOKENS) for part in parts)
    return Call(
        route=read_model(fields),
        stream=read_bool(fields, "stream"),
        input_bound=bound,
        input_estimate=estimate_of(bound),
        choices=read_count(fields, "n", at_least=1, at_most=1024) or 1,
    )


def model_splices(parts: Sequence[Part], model: str) -> list[Splice]:
    return [(part.start, part.end, model.encode()) for part in parts if part.name == "model" and not part.is_file]


def with_model(content_type: bytes, body: bytes, model: str) -> bytes:
    return apply_splices(body, model_splices(read_parts(content_type, body), model))
