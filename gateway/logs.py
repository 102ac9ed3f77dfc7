"""How our processes log: one line an event to stderr, as text or as JSON, a constant message and its fields.

Text: `TIME LEVEL LOGGER[PROGRAM PID]: message key=value …`. JSON: an object with `time`, `level`, `logger`, `program`,
`pid`, `message`, then the fields, `request_id` among them where there is one; a traceback is the field `traceback`
(docs/observability.md). Secrets have no readable form where they are kept, and are no field anywhere.
"""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import orjson


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}
"""What every record has; everything else came with `extra`."""
_QUOTED: Final = frozenset(' "=\n\r\t')


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class TextFormatter(logging.Formatter):
    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().replace("\n", "\\n")
        fields = "".join([f" {name}={_text(value)}" for name, value in fields_of(record).items()])
        line = (
            f"{rfc3339(record.created)} {record.levelname} {record.name}[{self._program} {record.process}]: "
            f"{message}{fields}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "program": self._program,
            "pid": record.process,
            "message": record.getMessage(),
        }
        for name, value in fields_of(record).items():
            said[f"{name}_" if name in said else name] = value
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json_line(said)


def json_line(said: Mapping[str, Any]) -> str:
    """One line, whatever the values are."""
    return orjson.dumps(said, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def rfc3339(unix_s: float) -> str:
    """To the millisecond, UTC."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log_to_stderr(level: str, log_format: LogFormat, program: str) -> None:
    """Once, at the start of a process. Raises ValueError for a level that logging does not know."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(program) if log_format is LogFormat.JSON else TextFormatter(program))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)


def _text(value: object) -> str:
    text = str(value)
    return orjson.dumps(text).decode() if not text or _QUOTED.intersection(text) else text
