"""`python -m gateway.telemetry.otel_main`: sends traces and metrics by OTLP/HTTP, as a process of its own.

Started by `sluicegate serve` where `otel` is on. It gets every ledger row and every worker's note from the keeper's
socket, joins them, and hands them to OpenTelemetry's SDK, which the standard `OTEL_*` variables configure. A collector
that is away or slow costs the data plane nothing: spans wait in a bounded queue here, and what finds no room is counted
(`sluicegate_otel_spans_total`).
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import gateway
from gateway.lifetime import end_with_parent
from gateway.logs import log_to_stderr
from gateway.settings import Settings
from gateway.telemetry.otel_spans import OurIds, Recorder
from gateway.wire.frames import SNAPSHOT_MARK, FrameError, FrameReader, frame, message_of

log = logging.getLogger(__name__)

JOIN_S: Final = 0.5
"""A row waits so long for its worker's note: both come by ways of their own."""
STEP_S: Final = 0.1
MOST_WAITING: Final = 20_000
"""Rows, and notes, that wait for one another."""
ROWS_A_STEP: Final = 2_000
TELL_S: Final = 1.0
RECONNECT_S: Final = 0.25
END_WITHIN_S: Final = 4.0
MOST_QUEUED_SPANS: Final = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or 8_192)


class CountingExporter(SpanExporter):
    """Passes spans on and counts what became of them."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.exported = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class CountingProcessor(BatchSpanProcessor):
    """Drops new spans, and counts them, while the queue is full; the SDK's own drops old ones and does not count."""

    def __init__(self, exporter: CountingExporter) -> None:
        super().__init__(exporter, max_queue_size=MOST_QUEUED_SPANS)
        self._counted = exporter
        self._taken = 0
        self.dropped = 0

    def on_end(self, span: ReadableSpan) -> None:
        if not (span.context and span.context.trace_flags.sampled):
            return
        if self._taken - self._counted.exported - self._counted.failed >= MOST_QUEUED_SPANS:
            self.dropped += 1
            return
        self._taken += 1
        super().on_end(span)


class Joiner:
    """Rows and notes of the same request, brought together."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._rows: deque[tuple[float, list[Any]]] = deque()
        self._notes: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.dropped = 0
        """Rows that found no room."""

    def take_rows(self, rows: list[list[Any]], now_s: float) -> None:
        room = MOST_WAITING - len(self._rows)
        self.dropped += max(0, len(rows) - room)
        self._rows.extend((now_s, row) for row in rows[:room])

    def take_note(self, note: dict[str, Any]) -> None:
        self._notes[note["id"]] = note
        if len(self._notes) > MOST_WAITING:
            self._notes.popitem(last=False)

    def work(self, now_s: float) -> None:
        """Record rows whose time has come."""
        for _ in range(min(ROWS_A_STEP, len(self._rows))):
            if now_s - self._rows[0][0] < JOIN_S:
                return
            _, row = self._rows.popleft()
            try:
                self._recorder.record(row, self._notes.pop(row[0], {}))
            except (ValueError, TypeError, KeyError) as error:
                self.dropped += 1
                log.warning("a request cannot be told as a span", extra={"request_id": row[0], "error": str(error)})


class Exporter:
    """`run` until cancelled."""

    def __init__(self, settings: Settings) -> None:
        self._path = str(settings.keeper_socket)
        node = settings.data / "node.id"
        instance = node.read_text().strip() if node.exists() else ""
        resource = Resource.create(
            {
                "service.name": os.environ.get("OTEL_SERVICE_NAME") or "sluicegate",
                "service.version": gateway.__version__,
                "service.instance.id": instance,
            }
        )
        ids = OurIds()
        self.counting = CountingExporter(OTLPSpanExporter())
        self.spans = CountingProcessor(self.counting)
        self._tracers = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
        self._tracers.add_span_processor(self.spans)
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        self._meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self.joiner = Joiner(Recorder(self._tracers, ids, self._meters))

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._work())
                tasks.create_task(self._follow())
        finally:
            self.joiner.work(float("inf"))
            self._tracers.shutdown()
            self._meters.shutdown()

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(STEP_S)
            self.joiner.work(time.monotonic())

    async def _follow(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=1 << 20)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            with contextlib.suppress(OSError, FrameError):
                await self._read(reader, writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame({"type": "subscribe", "on": False, "rows": True}))
        frames = FrameReader()
        telling = asyncio.get_running_loop().create_task(self._tell(writer))
        try:
            while piece := await reader.read(1 << 18):
                now_s = time.monotonic()
                for payload in frames.feed(piece):
                    if payload[:1] != SNAPSHOT_MARK:
                        self._take(message_of(payload), now_s)
        finally:
            telling.cancel()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        """What has become of spans, also while no request comes: exports fail long after."""
        told: dict[str, int] = {}
        while True:
            if (counts := self.counts()) != told:
                told = counts
                writer.write(frame({"type": "otel", "spans": counts}))
            await asyncio.sleep(TELL_S)

    def _take(self, message: dict[str, Any], now_s: float) -> None:
        if message["type"] == "rows":
            self.joiner.take_rows(message["rows"], now_s)
        elif message["type"] == "trace":
            self.joiner.take_note(message["note"])

    def counts(self) -> dict[str, int]:
        return {
            "exported": self.counting.exported,
            "failed": self.counting.failed,
            "dropped": self.spans.dropped + self.joiner.dropped,
        }


async def serve(settings: Settings) -> None:
    exporter = asyncio.get_running_loop().create_task(Exporter(settings).run())

    def end() -> None:
        exporter.cancel()
        last = threading.Timer(END_WITHIN_S, os._exit, [0])  # a collector that is away must not hold up our end
        last.daemon = True
        last.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        await exporter


def main() -> None:
    parser = argparse.ArgumentParser(description="The OpenTelemetry exporter of `sluicegate serve`, which starts it.")
    parser.add_argument("--parent", type=int, help="end when this process ends")
    parent = parser.parse_args().parent
    if parent is not None:
        end_with_parent(parent)
    settings = Settings.handed_down()
    log_to_stderr(settings.log_level, settings.log_format, "otel")
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
