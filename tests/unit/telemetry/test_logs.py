"""Logs: a line an event, constant messages with fields; the access log, its choice of requests, and slow readers."""

import json
import logging
import os
import time

import pytest

from gateway.logs import JsonFormatter, LogFormat, TextFormatter
from gateway.settings import Settings
from gateway.telemetry.access_log import MOST_WAITING, AccessLog
from tests.unit.telemetry.test_ledger_metrics import record


def made(message: str, **extra: object) -> logging.LogRecord:
    one = logging.makeLogRecord({"name": "sluicegate.x", "levelname": "WARNING", "msg": message, **extra})
    one.created = 1_700_000_000.5
    one.process = 42
    return one


def test_text_has_its_fields() -> None:
    line = TextFormatter("worker-0").format(made("credential refused", provider="openai", reason="two words"))
    assert line == (
        "2023-11-14T22:13:20.500Z WARNING sluicegate.x[worker-0 42]: "
        'credential refused provider=openai reason="two words"'
    )


def test_json_is_one_line_whatever_is_in_it() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        caught = (type(error), error, error.__traceback__)
    line = JsonFormatter("keeper").format(made("it\nbroke", request_id="ab", odd={1: object()}, exc_info=caught))
    assert "\n" not in line
    said = json.loads(line)
    assert said["time"] == "2023-11-14T22:13:20.500Z"
    assert (said["level"], said["logger"], said["program"], said["pid"]) == ("warning", "sluicegate.x", "keeper", 42)
    assert said["message"] == "it\nbroke"
    assert said["request_id"] == "ab"
    assert "ValueError" in said["traceback"]


def test_a_field_does_not_hide_what_every_line_has() -> None:
    said = json.loads(JsonFormatter("keeper").format(made("worker died", level="high")))
    assert (said["level"], said["level_"]) == ("warning", "high")


def test_text_stays_on_one_line_when_a_caller_puts_line_ends_in() -> None:
    line = TextFormatter("worker-0").format(made("refused\nINFO forged", model="x\ny"))
    assert "\n" not in line


@pytest.mark.parametrize(
    ("log_format", "fits"), [(LogFormat.JSON, b'"request_id":"'), (LogFormat.TEXT, b"request_id=")]
)
def test_access_log_writes_each_request_once(log_format: LogFormat, fits: bytes) -> None:
    reader, writer = os.pipe()
    log = AccessLog(log_format, errors_only=False, share=1.0, descriptor=writer)
    log.take([record(number) for number in range(20)])
    log.close()
    os.close(writer)
    with os.fdopen(reader, "rb") as lines:
        found = lines.read().splitlines()
    assert len(found) == 20
    assert all(fits in line for line in found)
    if log_format is LogFormat.JSON:
        said = json.loads(found[0])
        assert said["message"] == "request"
        assert (said["status"], said["route"], said["app"]) == (200, "chat", "a")


def test_access_log_of_errors_and_of_a_share() -> None:
    _, writer = os.pipe()
    errors = AccessLog(LogFormat.JSON, errors_only=True, share=1.0, descriptor=writer)
    assert [errors.wants(record(status=status)) for status in (200, 404, 502)] == [False, True, True]
    tenth = AccessLog(LogFormat.JSON, errors_only=False, share=0.1, descriptor=writer)
    chosen = sum(tenth.wants(record(number)) for number in range(10_000))
    assert 700 < chosen < 1300
    errors.close()
    tenth.close()


def test_nobody_waits_for_a_reader_that_does_not_read() -> None:
    reader, writer = os.pipe()
    log = AccessLog(LogFormat.JSON, errors_only=False, share=1.0, descriptor=writer)
    batch = [record(number) for number in range(400)]
    began = time.monotonic()
    for _ in range(MOST_WAITING + 50):
        log.take(batch)
    assert time.monotonic() - began < 5
    assert log.dropped >= 400 * 40
    # Its thread's writes fail from now on. `writer` stays open: the number would soon be another file's, and what still
    # waits would be written into that one.
    os.close(reader)


@pytest.mark.parametrize(
    ("given", "taken"),
    [("off", "off"), ("ALL", "all"), ("0.01", "0.01"), ("errors", "errors"), ("true", "all"), ("0", "off")],
)
def test_setting(given: str, taken: str) -> None:
    assert Settings(access_log=given).access_log == taken


@pytest.mark.parametrize("given", ["sometimes", "2", "-1"])
def test_bad_setting_says_what_fits(given: str) -> None:
    with pytest.raises(ValueError, match="none of off, errors, all"):
        Settings(access_log=given)
