"""What Ollama's answers tell of tokens: plain ones, and streams of one JSON object a line (docs.ollama.com/api).

The last object of a stream (`"done": true`) tells the counts; a plain answer is such an object.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.dialects.base import Call
from gateway.dialects.metering import AnswerMeter, as_count, as_text, decode
from gateway.dialects.partial_document import PartialDocument
from gateway.policy.usage import Usage

_MEMBERS: Final = ("model", "done", "done_reason", "prompt_eval_count", "eval_count")
_GOES_ON: Final = b'"done":false'
_IS_DONE: Final = b'"done":true'
_NO_GENERATION: Final = frozenset({"load", "unload"})
"""Why an answer ended that only loaded the model, or sent it away."""


def read_usage(document: Mapping[str, Any]) -> Usage | None:
    """Counts of an answer that is done. Ollama leaves out what is 0, and the prompt where all of it was cached: then
    the input is not known."""
    given, made = as_count(document.get("prompt_eval_count")), as_count(document.get("eval_count"))
    if document.get("done_reason") in _NO_GENERATION:
        return Usage(given or 0, 0, 0, made or 0, 0)
    return None if given is None else Usage(given, 0, 0, made or 0, 0)


def estimate_of(call: Call, made: int | None, events: int) -> Usage:
    """Where the provider did not tell the input: ours, and the output it told, or an event's token each."""
    return Usage(input_tokens=call.input_estimate, output_tokens=events if made is None else made)


class OllamaAnswerMeter(AnswerMeter):
    """Chats, generations and embeddings (which have an input alone)."""

    members = _MEMBERS
    _made: int | None = None

    def learn(self, document: dict[str, Any]) -> None:
        self.model = as_text(document.get("model"))
        self.finish_reason = as_text(document.get("done_reason"))
        self.usage = read_usage(document)
        self._made = as_count(document.get("eval_count"))

    def estimate(self) -> Usage:
        estimated = super().estimate()
        return estimated if self._made is None else estimate_of(self._call, self._made, 0)


class OllamaStreamMeter:
    """One object a line. Lines that say `"done":false` are counted, only the others are decoded."""

    __slots__ = ("_call", "_line", "_made", "events", "finish_reason", "model", "usage")

    def __init__(self, call: Call) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.events = 0
        self._call = call
        self._line: PartialDocument | None = None
        """The line whose end has not come yet."""
        self._made: int | None = None

    @property
    def within_line(self) -> bool:
        """What was passed on ends in the middle of a line."""
        return self._line is not None

    def feed(self, piece: bytes) -> bytes | None:
        if self._line is None and self.model and piece.endswith(b"\n"):
            lines = piece.count(b"\n")
            if piece.count(_GOES_ON) == lines and piece.find(_IS_DONE) < 0:
                self.events += lines
                return None
        *lines_ended, rest = piece.split(b"\n")
        for line in lines_ended:
            if self._line is None:
                self._read(line)
            else:
                self._line.feed(line)
                self._end_line(self._line)
        if rest:
            if self._line is None:
                self._line = PartialDocument(_MEMBERS)
            self._line.feed(rest)
        return None

    def _end_line(self, line: PartialDocument) -> None:
        self._line = None
        whole = line.whole
        if whole is not None:
            self._read(whole)
        else:
            self.events += 1
            self._learn(line.close() or {})

    def _read(self, line: bytes) -> None:
        if self.model and _GOES_ON in line and _IS_DONE not in line:
            self.events += 1
            return
        document = decode(line)
        if document is None:
            self.events += bool(line.strip())
            return
        self.events += _says_something(document)
        self._learn(document)

    def _learn(self, document: Mapping[str, Any]) -> None:
        if self.model is None:
            self.model = as_text(document.get("model"))
        if document.get("done") is True:
            self.finish_reason = as_text(document.get("done_reason")) or "stop"
            self.usage = read_usage(document)
            self._made = as_count(document.get("eval_count"))

    def end(self) -> bytes:
        if self._line is not None:
            self._end_line(self._line)
        return b""

    def estimate(self) -> Usage:
        return Usage() if self.events == 0 else estimate_of(self._call, self._made, self.events)


def _says_something(document: Mapping[str, Any]) -> bool:
    """Whether a line brings something of the answer: the last one mostly only tells the counts."""
    if "error" in document:
        return False
    message = document.get("message")
    if isinstance(message, dict):
        return document.get("done") is not True or any(value for name, value in message.items() if name != "role")
    return document.get("done") is not True or bool(document.get("response"))
