"""What OpenAI's answers tell of tokens: plain, streamed chat and completions, streamed responses."""

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.dialects.base import Call
from gateway.dialects.metering import (
    MAX_TOKENS,
    USAGE_NAME,
    AnswerMeter,
    NullMeter,
    StreamMeter,
    as_count,
    as_report,
    as_text,
    event_document,
)
from gateway.policy.usage import Usage

_COMPACT_MARK: Final = b'"finish_reason":null'
_SPACED_MARK: Final = b'"finish_reason": null'
_DELTA_MARK: Final = b'.delta"'
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_END_NAME: Final = re.compile(rb"response\.(completed|incomplete|failed)\b")

_SPELLINGS: Final = tuple(
    (f"{given}_tokens", f"{made}_tokens", f"{given}_tokens_details", f"{made}_tokens_details")
    for given, made in (("prompt", "completion"), ("input", "output"))
)
"""Input, output, and the details of each."""


def read_usage(report: Mapping[str, Any]) -> Usage | None:
    """`prompt_tokens`/`completion_tokens` (chat) or `input_tokens`/`output_tokens` (responses, images, audio).

    OpenAI counts cached tokens within the input and reasoning within the output, as the ledger does. DeepSeek names
    cached ones `prompt_cache_hit_tokens`, Mistral `num_cached_tokens`.
    None if the report counts no tokens (a transcription by the second).
    """
    if len(report) == 3 and "total_tokens" in report:  # the commonest: no details to read
        read, written = report.get("prompt_tokens"), report.get("completion_tokens")
        if type(read) is int and type(written) is int and 0 <= read <= MAX_TOKENS and 0 <= written <= MAX_TOKENS:
            return Usage(read, 0, 0, written, 0)
    for given_name, made_name, given_details, made_details in _SPELLINGS:
        given, made = as_count(report.get(given_name)), as_count(report.get(made_name))
        if given is None and made is None:
            continue
        of_given, of_made = as_report(report.get(given_details)), as_report(report.get(made_details))
        cached = as_count(of_given.get("cached_tokens"))
        if cached is None:
            cached = as_count(report.get("prompt_cache_hit_tokens", report.get("num_cached_tokens")))
        return Usage(
            input_tokens=given or 0,
            cached_tokens=cached or 0,
            cache_write_tokens=as_count(of_given.get("cache_write_tokens")) or 0,
            output_tokens=made or 0,
            reasoning_tokens=as_count(of_made.get("reasoning_tokens")) or 0,
        )
    return None


def finish_of(choices: object) -> str | None:
    """The first choice that says why it ended."""
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict):
                reason = choice.get("finish_reason")
                if type(reason) is str:
                    return reason
    return None


def finish_of_response(document: Mapping[str, Any]) -> str | None:
    """`status` of a response, or why it is incomplete."""
    details = document.get("incomplete_details")
    reason = as_text(details.get("reason")) if isinstance(details, dict) else None
    return reason or as_text(document.get("status"))


class OpenAiAnswerMeter(AnswerMeter):
    """Chat completions, completions, responses, embeddings, images, transcriptions."""

    def learn(self, document: dict[str, Any]) -> None:
        self.model = as_text(document.get("model"))
        choices = document.get("choices")
        if choices is not None or "choices" in document:
            self.finish_reason = finish_of(choices)
        else:
            self.finish_reason = finish_of_response(document)
        report = document.get("usage")
        if type(report) is dict:
            self.usage = read_usage(report)

    def read_usage(self, report: Mapping[str, Any]) -> Usage | None:
        return read_usage(report)


class ChatStreamMeter(StreamMeter):
    """Chat completions and completions: usage comes in a chunk of its own, without choices, before `[DONE]`; some
    providers put it into the last chunk instead. Where the caller did not ask, the extra chunk is taken out again, and
    so is `"usage":null`, which OpenAI then writes into all others."""

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
                if event.count(b"\n") != self._lines or (self._drops and event.find(USAGE_NAME) >= 0):
                    continue  # the ends of an event are not searched for what is taken out
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
