"""The access log: a line a request, written by the keeper from ledger rows. The data plane does nothing for it.

Lines go to stderr in the format of the other logs, from a thread of their own; when nobody reads them fast enough they
are dropped and counted, and nothing waits.
"""

import logging
import os
import queue
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

from gateway.logs import LogFormat, json_line, rfc3339
from gateway.policy.records import Record
from gateway.policy.usage import LEDGER_FIELDS
from gateway.store.rollup import is_error

log = logging.getLogger("sluicegate.access")

MOST_WAITING: Final = 256
"""Batches; each has some hundred rows at most."""
SHOWN: Final = (
    "team", "app", "key", "route", "target", "model", "dialect", "status", "outcome", "error_code", "attempts",
    "upstream_status", "stream", "input_tokens", "output_tokens", "cost_usd_micros", "latency_ms", "ttft_ms",
    "client_ip", "client_request_id",
)  # fmt: skip
_AT: Final = [(name, LEDGER_FIELDS.index(name)) for name in SHOWN]
_ID, _STARTED = LEDGER_FIELDS.index("id"), LEDGER_FIELDS.index("started_at_ns")
_STATUS, _OUTCOME = LEDGER_FIELDS.index("status"), LEDGER_FIELDS.index("outcome")
_SHARE_STEPS: Final = 10_000


class AccessLog:
    """`errors_only` and `share` (0 to 1) say which requests get a line."""

    def __init__(
        self, log_format: LogFormat, *, errors_only: bool, share: float, descriptor: int | None = None
    ) -> None:
        self._json = log_format is LogFormat.JSON
        self._errors_only = errors_only
        self._steps = round(share * _SHARE_STEPS)
        self._descriptor = sys.stderr.fileno() if descriptor is None else descriptor
        self._waiting: queue.Queue[Sequence[Record] | None] = queue.Queue(MOST_WAITING)
        self.dropped = 0
        """Rows that found no room."""
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def take(self, records: Sequence[Record]) -> None:
        """Rows that are new in the ledger. Never waits."""
        try:
            self._waiting.put_nowait(records)
        except queue.Full:
            self.dropped += len(records)

    def close(self) -> None:
        """What waits is written, as far as it is read within a second."""
        try:
            self._waiting.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(1)

    def line(self, record: Record) -> str:
        """The line of one request, without its end."""
        values = record.values
        said: dict[str, Any] = {"time": rfc3339(values[_STARTED] / 1e9), "request_id": values[_ID]}
        said |= {name: values[at] for name, at in _AT if values[at] is not None}
        if self._json:
            return json_line({"level": "info", "logger": log.name, "message": "request", **said})
        fields = " ".join([f"{name}={value}" for name, value in list(said.items())[1:]])
        return f"{said['time']} INFO {log.name}: request {fields}".replace("\n", "\\n")

    def wants(self, record: Record) -> bool:
        """The same requests on every node and after a restart: chosen by their ids."""
        values = record.values
        if self._errors_only and not is_error(values[_STATUS], values[_OUTCOME]):
            return False
        return int(str(values[_ID])[-6:], 16) * 2_654_435_761 % _SHARE_STEPS < self._steps

    def _run(self) -> None:
        while (records := self._waiting.get()) is not None:
            lines = [self.line(record) for record in records if self.wants(record)]
            text = "".join([f"{line}\n" for line in lines]).encode("utf-8", "replace")
            while text:
                try:
                    text = text[os.write(self._descriptor, text) :]
                except OSError:  # nobody reads our stderr any more
                    self.dropped += len(lines)
                    break
