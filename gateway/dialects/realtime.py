"""OpenAI's Realtime API over WebSocket: which session is asked for, and what its events tell of tokens.

Sources: platform.openai.com/docs/guides/realtime-websocket and the server events of docs/api-reference/realtime, in the
beta's names and in those of the general release.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from gateway.dialects.base import Operation
from gateway.dialects.body import MOST_NAME_CHARACTERS
from gateway.dialects.metering import as_count, as_report, decode
from gateway.errors import BadRequest
from gateway.policy.model import Dialect
from gateway.policy.usage import Usage

OPERATION: Final = Operation(name="realtime", dialect=Dialect.OPENAI, upstream_path="/v1/realtime")
KEY_PROTOCOL: Final = b"openai-insecure-api-key."
"""Browsers cannot set headers: they send their key as a subprotocol."""

_USES: Final = (b"response.done", b"input_audio_transcription.completed")
"""In the names of the events that report usage."""
_DELTA: Final = b".delta"
_AUDIO_DELTA: Final = b"audio.delta"
BASE64_BYTES_PER_AUDIO_TOKEN: Final = 3200
"""A token of spoken output is 50 ms; as 24 kHz, 16 bit PCM in base64 that many bytes."""


def route_of(query: bytes) -> str:
    """What the caller wrote as `model`. Raises BadRequest."""
    names = [value for name, value in parse_qsl(query.decode("latin-1")) if name == "model"]
    if len(names) != 1 or not 0 < len(names[0]) <= MOST_NAME_CHARACTERS:
        raise BadRequest(
            "the session names no model" if not names else "the session names more than one model, or a strange one",
            fix="add ?model=ROUTE to the URL: the name of a route",
            param="model",
        )
    return names[0]


def query_for(query: bytes, model: str) -> bytes:
    """The query for a target that knows the model as `model`: all else as the caller wrote it."""
    parts = [part for part in query.split(b"&") if part]
    named = quote(model, safe="/:@").encode()
    return b"&".join(b"model=" + named if part.partition(b"=")[0] == b"model" else part for part in parts)


def key_in(protocols: Sequence[bytes]) -> bytes | None:
    """The API key among the subprotocols that a client offers."""
    for protocol in protocols:
        if protocol.startswith(KEY_PROTOCOL):
            return protocol[len(KEY_PROTOCOL) :]
    return None


def read_usage(report: Mapping[str, Any]) -> Usage | None:
    """Cached tokens are counted within the input, text and audio together; None if no tokens are counted (a
    transcription by the second)."""
    given, made = as_count(report.get("input_tokens")), as_count(report.get("output_tokens"))
    if given is None and made is None:
        return None
    details = as_report(report.get("input_token_details"))
    return Usage(
        input_tokens=given or 0,
        cached_tokens=as_count(details.get("cached_tokens")) or 0,
        output_tokens=made or 0,
    )


class SessionMeter:
    """Reads the provider's events as they pass."""

    __slots__ = ("_audio_bytes", "_deltas", "total")

    def __init__(self) -> None:
        self.total = Usage()
        """Of all responses so far, as the provider reported."""
        self._deltas = 0
        """Of the response under way: events with a piece of text, and bytes of spoken audio."""
        self._audio_bytes = 0

    def read(self, event: bytes) -> Usage | None:
        """The usage that this event reports: it is in `total` from now on. Never raises."""
        if event.find(_DELTA) >= 0 and self._count_delta(event):
            return None
        if all(event.find(name) < 0 for name in _USES):
            return None
        document = decode(event)
        if document is None:
            return None
        kind = document.get("type")
        if kind == "response.done":
            report = as_report(document.get("response")).get("usage")
            self._deltas = self._audio_bytes = 0
        elif isinstance(kind, str) and kind.endswith("input_audio_transcription.completed"):
            report = document.get("usage")
        else:
            return None
        used = read_usage(report) if isinstance(report, dict) else None
        if used is not None:
            self._add(used)
        return used

    def _count_delta(self, event: bytes) -> bool:
        """Whether it is a piece of an answer. Its name stands at the event's begin or, in some orders, behind an id."""
        head = event[:256]
        if head.find(b'"response.') < 0 or head.find(_DELTA) < 0:
            return False
        if head.find(_AUDIO_DELTA) >= 0:
            self._audio_bytes += len(event)
        else:
            self._deltas += 1
        return True

    def unreported(self) -> Usage | None:
        """What of a response has come that will not be reported any more: a token a piece of text, or by the length of
        the speech. It is in `total` from now on; None where nothing came."""
        made = self._deltas + -(-self._audio_bytes // BASE64_BYTES_PER_AUDIO_TOKEN)
        self._deltas = self._audio_bytes = 0
        if not made:
            return None
        used = Usage(output_tokens=made)
        self._add(used)
        return used

    def _add(self, used: Usage) -> None:
        total = self.total
        total.input_tokens += used.input_tokens
        total.cached_tokens += used.cached_tokens
        total.output_tokens += used.output_tokens
