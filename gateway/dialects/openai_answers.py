"""What OpenAI's answers tell of tokens: plain, streamed chat and completions, streamed responses."""

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.dialects.base import Call
from gateway.dialects.metering import AnswerMeter, NullMeter, StreamMeter, as_text, event_document, token_count
from gateway.policy.usage import Usage

_COMPACT_MARK: Final = b'"finish_reason":null'
_SPACED_MARK: Final = b'"finish_reason": null'
_DELTA_MARK: Final = b'.delta"'
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_END_NAME: Final = re.compile(rb"response\.(completed|incomplete|failed)\b")


def read_usage(report: Mapping[str, Any]) -> Usage | None:
    """`prompt_tokens`/`completion_tokens` (chat) or `input_tokens`/`output_tokens` (responses, images, audio).

    OpenAI counts cached tokens within the input and reasoning within the output, as the ledger does. DeepSeek names
    cached ones `prompt_cache_hit_tokens`. None if the report counts no tokens (a transcription by the second).
    """
    for given, made in (("prompt", "completion"), ("input", "output")):
        read = token_count(report, f"{given}_tokens")
        written = token_count(report, f"{made}_tokens")
        if read is None and written is None:
            continue
        cached = token_count(report, f"{given}_tokens_details", "cached_tokens")
        if cached is None:
            cached = token_count(report, "prompt_cache_hit_tokens")
        return Usage(
            input_tokens=read or 0,
            cached_tokens=cached or 0,
            cache_write_tokens=token_count(report, f"{given}_tokens_details", "cache_write_tokens") or 0,
            output_tokens=written or 0,
            reasoning_tokens=token_count(report, f"{made}_tokens_details", "reasoning_tokens") or 0,
        )
    return None


def finish_of(choices: object) -> str | None:
    """The first choice that says why it ended."""
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and isinstance(choice.get("finish_reason"), str):
                return str(choice["finish_reason"])
    return None


def finish_of_response(document: Mapping[str, Any]) -> str | None:
    """`status` of a response, or why it is incomplete."""
    details = document.get("incomplete_details")
    reason = as_text(details.get("reason")) if isinstance(details, dict) else None
    return reason or as_text(document.get("status"))


class OpenAiAnswerMeter(AnswerMeter):
    """Chat completions, completions, responses, embeddings, images, transcriptions."""

    __slots__ = ()

    def read_usage(self, report: Mapping[str, Any]) -> Usage | None:
        return read_usage(report)

    def read_finish(self, document: Mapping[str, Any]) -> str | None:
        if "choices" in document:
            return finish_of(document["choices"])
        return finish_of_response(document)


class ChatStreamMeter(StreamMeter):
    """Chat completions and completions: usage comes in a chunk of its own, without choices, before `[DONE]`; some
    providers put it into the last chunk instead. The extra chunk is taken out again where the caller did not ask."""

    __slots__ = ("_whole",)

    def __init__(self, call: Call) -> None:
        super().__init__(call, lines=2, drops=not call.tells_usage)
        self._whole: Usage | None = None
        """What the chunks without choices told so far."""

    def read_usage(self, report: Mapping[str, Any]) -> Usage | None:
        return read_usage(report)

    def read_event(self, event: bytes) -> bool:
        if self.model and b'_tokens"' not in event and b'"finish_reason":' not in event:
            # A provider that does not write "finish_reason":null, a comment, or [DONE].
            if b'"choices"' in event:
                self.events += 1
            return False
        document = event_document(event)
        if document is None:
            return False
        if not self.model:
            self.model = as_text(document.get("model")) or None
        self._learn_mark(event)
        choices = document.get("choices")
        if isinstance(choices, list) and any(_says_something(choice) for choice in choices):
            self.events += 1
        self.finish_reason = finish_of(choices) or self.finish_reason
        report = document.get("usage")
        found = read_usage(report) if isinstance(report, dict) else None
        if found is None:
            return False
        if choices == []:
            self._whole = found = self._with_other_choices(found)
        self.usage = found
        return choices == []

    def _with_other_choices(self, found: Usage) -> Usage:
        """llama.cpp tells the usage of each of several choices by itself; the input is the same one."""
        if self._call.choices > 1 and self._whole is not None:
            found.output_tokens += self._whole.output_tokens
            found.reasoning_tokens += self._whole.reasoning_tokens
        return found

    def _learn_mark(self, event: bytes) -> None:
        """How this provider writes an ordinary chunk. Not for several choices: a chunk of them holds several marks."""
        if self._call.choices != 1:
            return
        for mark in (_COMPACT_MARK, _SPACED_MARK):
            at = event.find(mark)
            if at >= 0:
                self._mark = mark
                if at < event.find(b'"delta"'):  # llama.cpp sorts its members: the same up to here in each chunk
                    self._start = event[: at + len(mark)]
                else:  # the same from here on, but for OpenAI's "obfuscation"
                    self._start, self._end = b"data: {", event[at:]


def _says_something(choice: object) -> bool:
    if not isinstance(choice, dict):
        return False
    delta = choice.get("delta")
    if isinstance(delta, dict):
        return any(value for name, value in delta.items() if name != "role")
    return bool(choice.get("text"))


class ResponsesStreamMeter(StreamMeter):
    """Responses, and the streams of images and audio: each event names its type; the last one repeats the whole
    answer with its usage (`response.completed`, `.incomplete`, `.failed`)."""

    __slots__ = ()

    def __init__(self, call: Call) -> None:
        super().__init__(call, lines=3, mark=_DELTA_MARK)

    def read_usage(self, report: Mapping[str, Any]) -> Usage | None:
        return read_usage(report)

    def read_event(self, event: bytes) -> bool:
        if _DELTA_MARK in event:
            self.events += 1
            name = event[: event.find(b"\n") + 1]
            if name.startswith(b"event: response.") and name.rstrip().endswith(b".delta"):
                self._start = name
            return False
        if b'_tokens"' not in event:
            return False
        document = event_document(event) or {}
        response = document.get("response")
        if not isinstance(response, dict):
            response = document
        self.model = as_text(response.get("model")) or self.model
        report = response.get("usage")
        if isinstance(report, dict):
            self.usage = read_usage(report) or self.usage
        if document.get("type") in _ENDS:
            self.finish_reason = finish_of_response(response) or self.finish_reason
        return False

    def finish_of_overlong(self, head: bytes) -> str | None:
        found = _END_NAME.search(head)
        return found.group(1).decode() if found else None


class OpaqueMeter(NullMeter):
    """Speech and other answers that are no JSON and tell no usage: their input is known, their output is not."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def estimate(self) -> Usage:
        return Usage(input_tokens=self._call.input_estimate if self.events else 0)
