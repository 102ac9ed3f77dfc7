"""The document of a route's `capture`: what it records of bodies, how it is redacted, how long it stays."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.policy.capture import LONGEST_KEEP_DAYS, LONGEST_PATTERN, MOST_BYTES, MOST_PATTERNS, Capture
from gateway.policy.patterns import PatternError, compiled
from gateway.store.document import Document
from gateway.store.fields import refused

_DEFAULT: Final = Capture()
_KEEP: Final = re.compile(r"(\d{1,4})\s*([dw])")


def _keep(value: Any) -> str:
    found = _KEEP.fullmatch(value.strip()) if isinstance(value, str) else None
    days = int(found[1]) * (7 if found[2] == "w" else 1) if found else 0
    if not 1 <= days <= LONGEST_KEEP_DAYS:
        raise refused(f"{value!r} is not a number of days from 1d to {LONGEST_KEEP_DAYS}d", "write e.g. 7d or 4w")
    return f"{days}d"


def _pattern(value: str) -> str:
    if not value or len(value) > LONGEST_PATTERN:
        raise refused(f"has {len(value)} characters", f"use 1 to {LONGEST_PATTERN} characters")
    try:
        if compiled(value).search(b"") is not None:
            raise refused("matches the empty text", "write a pattern that takes at least one character")
    except PatternError as error:
        remedy = "use RE2's syntax, which knows neither look-around nor back-references"
        raise refused(f"is no regular expression: {error}", remedy) from None
    return value


Keep = Annotated[
    str, BeforeValidator(_keep), WithJsonSchema({"type": "string", "pattern": r"^\d{1,4}\s*[dw]$", "examples": ["7d"]})
]
"""Whole days."""
RedactPattern = Annotated[str, AfterValidator(_pattern)]


class CaptureDocument(Document):
    request: bool = _DEFAULT.request
    """Record the request's body, as the caller sent it."""
    response: bool = _DEFAULT.response
    """Record the answer's body, as the caller got it."""
    sample: float = Field(default=_DEFAULT.sample, gt=0, le=1)
    """Share of the requests."""
    max_bytes: int = Field(default=_DEFAULT.max_bytes, ge=1024, le=MOST_BYTES)
    """Of one body; the rest is cut."""
    keep: Keep = f"{_DEFAULT.keep_days}d"
    redact: list[RedactPattern] = Field(default_factory=list, max_length=MOST_PATTERNS)
    """Regular expressions (RE2). Keys, e-mail addresses, card and phone numbers are redacted anyway."""
    visible_to_team: bool = _DEFAULT.visible_to_team
    """People of the app's team may read their own apps' bodies, too."""

    @model_validator(mode="after")
    def _something(self) -> "CaptureDocument":
        if not self.request and not self.response:
            raise refused("records neither", "set `request` or `response` to true, or remove `capture`", "request")
        return self


def capture_row(stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a snapshot holds of it: the fields of a `Capture`."""
    if stored is None:
        return None
    document = CaptureDocument.model_construct(**stored)
    fields = {name: value for name, value in document.model_dump(mode="json").items() if name != "keep"}
    return {**fields, "keep_days": int(document.keep.removesuffix("d"))}
