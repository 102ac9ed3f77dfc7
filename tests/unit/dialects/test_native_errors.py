"""Errors of Gemini and Ollama as bytes: complete ones, and those that come in the middle of an answer."""

import json
from typing import Any

import pytest

from gateway.dialects.base import Meter
from gateway.dialects.metering import NullMeter
from gateway.dialects.registry import HANDLERS, classify
from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    CredentialsRefused,
    LimitExceeded,
    NoHealthyTarget,
    RouteNotAllowed,
    RouteNotFound,
    SluicegateError,
    Unauthenticated,
    UpstreamTimeout,
)
from gateway.policy.model import Dialect

GEMINI, OLLAMA = HANDLERS[Dialect.GEMINI], HANDLERS[Dialect.OLLAMA]
ERRORS: list[tuple[SluicegateError, str]] = [
    (BadRequest("x is wrong", fix="send y", param="x"), "INVALID_ARGUMENT"),
    (Unauthenticated("no such key"), "UNAUTHENTICATED"),
    (RouteNotAllowed("not yours"), "PERMISSION_DENIED"),
    (RouteNotFound("no route", routes_allowed=["chat"]), "NOT_FOUND"),
    (BodyTooLarge("too large"), "INVALID_ARGUMENT"),
    (LimitExceeded("used up", retry_after_s=22.5, limit="burst", used=9, resets_at=None), "RESOURCE_EXHAUSTED"),
    (CredentialsRefused("refused"), "UNAVAILABLE"),
    (NoHealthyTarget("away"), "UNAVAILABLE"),
    (UpstreamTimeout("late"), "DEADLINE_EXCEEDED"),
    (SluicegateError("internal error"), "INTERNAL"),
]


@pytest.mark.parametrize(("error", "status"), ERRORS, ids=lambda value: getattr(value, "code", None))
def test_gemini(error: SluicegateError, status: str) -> None:
    told = json.loads(GEMINI.render_error(error, "r1"))
    assert list(told) == ["error"]
    assert (told["error"]["code"], told["error"]["status"]) == (error.status, status)
    assert told["error"]["message"] == str(error)
    info = told["error"]["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (info["reason"], info["metadata"]["request_id"]) == (error.code.upper(), "r1")
    assert all(isinstance(value, str) for value in info["metadata"].values())
    retry = [detail["retryDelay"] for detail in told["error"]["details"][1:]]
    assert retry == (["22.500s"] if error.retry_after_s else [])


@pytest.mark.parametrize(("error", "_status"), ERRORS, ids=lambda value: getattr(value, "code", None))
def test_ollama(error: SluicegateError, _status: str) -> None:
    told = json.loads(OLLAMA.render_error(error, "r1"))
    assert told["error"] == str(error)
    assert (told["sluicegate"]["code"], told["sluicegate"]["request_id"]) == (error.code, "r1")


def test_ollama_errors_hold_no_line_end_of_any_kind() -> None:
    """Clients cut a stream at U+2028 and U+2029 too."""
    told = OLLAMA.render_error(RouteNotFound("no route 'a\u2028b\u2029c\nd'"), "r1")
    assert told.isascii()
    assert b"\n" not in told
    assert json.loads(told)["error"] == "no route 'a\u2028b\u2029c\nd'"


def meter_of(path: str, content_type: bytes, sent: bytes) -> Meter:
    operation = classify(b"POST", path.encode(), b"", [])
    assert operation is not None
    handler = HANDLERS[operation.dialect]
    call = handler.read_call(operation, b"application/json", b'{"model":"r","contents":[],"messages":[]}')
    meter = handler.meter(operation, call, 200, content_type)
    for at in range(0, len(sent), 3):
        meter.feed(sent[at : at + 3])
    return meter


STREAM = "/gemini/models/r:streamGenerateContent"
ARRAYS = [
    (b"", 1),
    (b"[", 1),
    (b" [\n", 1),
    (b'[{"candidates":[{"content":"]"}]}', 2),
    (b'[{"candidates":[{"content":"]"}]}\n', 2),
    (b'[{"a":1},{"b":"\\"}"}', 3),
]


@pytest.mark.parametrize(("sent", "count"), ARRAYS)
def test_an_array_stays_json(sent: bytes, count: int) -> None:
    meter = meter_of(STREAM, b"application/json", sent)
    rest = GEMINI.render_stream_error(UpstreamTimeout("late"), "r1", b"application/json", meter)
    told: list[Any] = json.loads(sent + rest)
    assert len(told) == count
    assert told[-1]["error"]["status"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("sent", [b'[{"a":"x', b'[{"a":1}]', b'[{"a":1},{', b"nonsense"])
def test_where_no_element_can_follow(sent: bytes) -> None:
    meter = meter_of(STREAM, b"application/json", sent)
    assert GEMINI.render_stream_error(UpstreamTimeout("late"), "r1", b"application/json", meter) == b""


@pytest.mark.parametrize("sent", [b"", b'data: {"candidates":[]}\r\n\r\n', b'data: {"cand'])
def test_an_event_of_its_own(sent: bytes) -> None:
    meter = meter_of(STREAM, b"text/event-stream", sent)
    rest = GEMINI.render_stream_error(UpstreamTimeout("late"), "r1", b"text/event-stream", meter)
    last = (sent + rest).removesuffix(b"\r\n\r\n").rpartition(b"\r\n\r\n")[2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == 504


@pytest.mark.parametrize("sent", [b"", b'{"model":"m","done":false}\n', b'{"model":"m"'])
def test_a_line_of_its_own(sent: bytes) -> None:
    meter = meter_of("/api/chat", b"application/x-ndjson", sent)
    rest = OLLAMA.render_stream_error(UpstreamTimeout("late"), "r1", b"application/x-ndjson", meter)
    assert json.loads((sent + rest).splitlines()[-1])["error"] == "late"


def test_nothing_into_an_answer_of_another_kind() -> None:
    for handler in (GEMINI, OLLAMA):
        assert handler.render_stream_error(UpstreamTimeout("late"), "r", b"application/json", NullMeter()) == b""
        assert handler.render_stream_error(UpstreamTimeout("late"), "r", b"text/event-stream", None) == b""
