"""`sluicegate ledger list`, `export` and `prune`."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from gateway.cli import output
from gateway.cli.control import Item, control
from gateway.cli.moments import back, rfc3339
from gateway.cli.options import settings_from
from gateway.cli.whole_file import whole_file
from gateway.errors import BadRequest

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.ledger_files import Format, Rows

COLUMNS: Final = ("started", "app", "route", "target", "status", "outcome", "in", "out", "USD", "ms", "id")
FIGURES: Final = ("status", "in", "out", "USD", "ms")
PROGRESS_PAUSE_S: Final = 0.3
FORMAT_OF_ENDING: Final = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}

Wanted = dict[str, Any]
"""Filters by their names in the REST API; `from` and `to` as people write times."""


def show(wanted: Wanted, limit: int, json: bool, **place: Any) -> None:
    """The newest rows that fit."""
    rows = control(**place).ledger(_with_times(wanted), limit)
    if json:
        for row in rows:
            output.say(orjson.dumps(row).decode())
        return
    output.table(COLUMNS, [_cells(row) for row in rows], right=FIGURES)
    if not rows:
        output.note("no request fits; rows appear within 2 s of a request's end")


def export(
    wanted: Wanted,
    format_: str | None,
    file: Path,
    *,
    url: str | None,
    token: str | None,
    data: Path | None,
    database: str | None,
) -> None:
    """Write all rows that fit, oldest first, to `file` ("-": stdout)."""
    from gateway.store.ledger_files import Format

    chosen = Format(format_ or FORMAT_OF_ENDING.get(file.suffix.lower(), "csv"))
    if str(file) == "-" and chosen is Format.PARQUET and sys.stdout.isatty():
        raise BadRequest("a Parquet file cannot be shown at a terminal", fix="name a file with --output")
    filters = _with_times(wanted)
    if url:
        from gateway.cli.remote import RemoteControl

        remote = RemoteControl(url, token)
        with whole_file(file) as opened:
            _copy(remote.export_ledger(filters, chosen), opened, file)
        return
    settings = settings_from(data=data, database=database)
    if not settings.data.is_dir():
        raise BadRequest(f"there is no data folder at {settings.data}", fix="name it with --data, or a gateway (--url)")
    from gateway.cli.owner import as_owner

    with whole_file(file) as opened:
        code = as_owner(settings.data, lambda: _fill(settings, filters, chosen, opened, file))
        if code != 0:
            raise SystemExit(code)


def _fill(settings: "Settings", filters: Wanted, format_: "Format", opened: IO[bytes], file: Path) -> None:
    from gateway.store import migrate
    from gateway.store.database import make_engine
    from gateway.store.ledger import LedgerFilter, scan
    from gateway.store.ledger_files import encode

    engine = make_engine(settings.database_url, pool_size=1)
    try:
        migrate.check(engine)
        told = Progress()
        for piece in encode(format_, _counted(scan(engine, LedgerFilter(**filters)), told)):
            opened.write(piece)
        opened.flush()
        told.end()
        output.note(f"{told.rows:,} rows written" + ("" if str(file) == "-" else f" to {file}"))
    finally:
        engine.dispose()


def _counted(chunks: "Iterator[Rows]", told: "Progress") -> "Iterator[Rows]":
    for rows in chunks:
        told.rows += len(rows)
        told.show(f"{told.rows:,} rows, up to {datetime.fromtimestamp(rows[-1][1] / 1e9, UTC):%Y-%m-%d %H:%M} UTC")
        yield rows


def _copy(pieces: Iterator[bytes], opened: IO[bytes], file: Path) -> None:
    told = Progress()
    size = 0
    for piece in pieces:
        opened.write(piece)
        size += len(piece)
        told.show(f"{size / 1e6:,.1f} MB")
    opened.flush()
    told.end()
    output.note(f"{size:,} bytes written" + ("" if str(file) == "-" else f" to {file}"))


class Progress:
    """One line at a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        self.rows = 0
        self._shown_s = time.monotonic()
        self._drawn = False

    def show(self, text: str) -> None:
        now_s = time.monotonic()
        if sys.stderr.isatty() and now_s - self._shown_s > PROGRESS_PAUSE_S:
            self._shown_s = now_s
            self._drawn = True
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def prune(before: str, *, dry_run: bool, ask: bool, data: Path | None, database: str | None) -> None:
    """Remove rows that began before a moment, for good."""
    from gateway.cli.host import HostControl

    host = HostControl(settings_from(data=data, database=database))
    moment = back(before, datetime.now(UTC))
    count, cutoff = host.count_ledger_before(moment)
    said = f"{count:,} rows that began before {rfc3339(cutoff)}"
    if dry_run or count == 0:
        output.say(f"{said} would be removed")
        return
    if ask and not _agreed(said):
        raise BadRequest("nothing was removed", fix="say yes, or run it with --yes")
    told = Progress()
    for removed in host.prune_ledger(cutoff):
        told.rows += removed
        told.show(f"{told.rows:,} of {count:,} rows removed")
    told.end()
    output.say(f"{told.rows:,} rows removed; usage, limits and budgets are as they were")


def _agreed(said: str) -> bool:
    if not sys.stdin.isatty():
        raise BadRequest("this removes rows for good and nobody is here to be asked", fix="run it with --yes")
    return input(f"Remove {said} for good? [y/N] ").strip().lower() in ("y", "yes")


def _with_times(wanted: Wanted) -> Wanted:
    """Filters as `store.ledger.LedgerFilter` names them."""
    now = datetime.now(UTC)
    filters = {name: value for name, value in wanted.items() if value is not None}
    for written, name in (("from", "since"), ("to", "until")):
        if written in filters:
            filters[name] = back(filters.pop(written), now)
    return filters


def _cells(row: Item) -> list[output.Cell]:
    latency = row["latency_ms"]
    return [
        str(row["started_at"])[:19].replace("T", " "),
        row["app"],
        row["route"],
        row["target"],
        row["status"],
        row["outcome"],
        row["input_tokens"],
        row["output_tokens"],
        output.usd(row["cost_usd_micros"]),
        None if latency is None else f"{latency:.0f}",
        row["id"],
    ]
