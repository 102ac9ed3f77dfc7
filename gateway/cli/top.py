"""`sluicegate top`: requests as they end, and what they add up to, from the live feed (`GET /api/v1/events`)."""

import secrets
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import orjson

from gateway.cli import output
from gateway.cli.address import api_url
from gateway.cli.options import settings_from
from gateway.cli.remote import Refused

if TYPE_CHECKING:
    from rich.console import Group

Row = dict[str, Any]

SHOWN_ROWS: Final = 20
RATE_WINDOW_S: Final = 10.0
SILENCE_S: Final = 60.0
"""The feed has a sign of life every 15 s."""
COLUMNS: Final = ("time", "app", "route", "target", "status", "in", "out", "USD", "first", "total")


@dataclass(slots=True)
class View:
    """What is on the screen."""

    rows: deque[Row] = field(default_factory=lambda: deque(maxlen=SHOWN_ROWS))
    ended_s: deque[float] = field(default_factory=deque)
    """When the requests of the last seconds ended."""
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    cost_microusd: int = 0

    def add(self, row: Row, now_s: float) -> None:
        self.rows.appendleft(row)
        self.ended_s.append(now_s)
        self.requests += 1
        self.errors += (row["status"] or 0) >= 400
        self.tokens += (row["input_tokens"] or 0) + (row["output_tokens"] or 0)
        self.cost_microusd += row["cost_usd_micros"] or 0

    def per_second(self, now_s: float) -> float:
        while self.ended_s and now_s - self.ended_s[0] > RATE_WINDOW_S:
            self.ended_s.popleft()
        return len(self.ended_s) / RATE_WINDOW_S


def watch(*, url: str | None, token: str | None, data: Path | None, database: str | None) -> None:
    """Until Ctrl-C. Drawn at a terminal; else one tab-separated line a request."""
    with _entrance(url, token, data, database) as (base, bearer), httpx2.Client(timeout=SILENCE_S) as client:
        headers = {"authorization": f"Bearer {bearer}"}
        try:
            with client.stream("GET", f"{base}/api/v1/events", headers=headers) as feed:
                if feed.status_code != 200:
                    raise Refused(f"the gateway answered {feed.status_code}", fix="a token of role viewer is enough")
                _draw(_requests(feed)) if output.at_terminal() else _list(_requests(feed))
        except httpx2.HTTPError as error:
            raise Refused(f"{base}: {error}", fix="is the gateway running?") from None
        except KeyboardInterrupt:
            return


@contextmanager
def _entrance(url: str | None, token: str | None, data: Path | None, database: str | None) -> Iterator[tuple[str, str]]:
    """URL and token; on this host a token is made for the while."""
    if url:
        if not token:
            raise Refused("no token for the gateway", fix="set SLUICEGATE_TOKEN")
        yield url.rstrip("/"), token
        return
    from gateway.cli.host import HostControl

    settings = settings_from(data=data, database=database)
    host = HostControl(settings)
    name = f"top-{secrets.token_hex(4)}"
    made = host.create_token(role="viewer", team=None, name=name, expires_at=datetime.now(UTC) + timedelta(hours=12))
    try:
        yield api_url(settings), made["token"]
    finally:
        host.revoke_token(name)


def _requests(feed: httpx2.Response) -> Iterator[Row]:
    kind = ""
    for line in feed.iter_lines():
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: ") and kind == "request":
            yield orjson.loads(line[6:])


def _list(rows: Iterator[Row]) -> None:
    output.say("\t".join(COLUMNS))
    for row in rows:
        output.say("\t".join("-" if cell is None else str(cell) for cell in _cells(row)))


def _draw(rows: Iterator[Row]) -> None:
    from rich.console import Console
    from rich.live import Live

    view = View()
    with Live(_screen(view), console=Console(file=sys.stdout), screen=True, auto_refresh=False) as live:
        for row in rows:
            view.add(row, time.monotonic())
            live.update(_screen(view), refresh=True)


def _screen(view: View) -> "Group":
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, expand=True, header_style="bold")
    for column in COLUMNS:
        table.add_column(
            column, justify="right" if column in ("status", "in", "out", "USD", "first", "total") else "left"
        )
    for row in view.rows:
        style = "red" if (row["status"] or 0) >= 400 else ""
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in _cells(row)), style=style)
    heading = (
        f"[bold]sluicegate[/]  {view.per_second(time.monotonic()):.1f} requests/s   "
        f"{view.requests} seen, {view.errors} failed   {view.tokens} tokens   "
        f"${view.cost_microusd / 1e6:.4f}   [dim]Ctrl-C ends[/]"
    )
    return Group(Text.from_markup(heading), table)


def _cells(row: Row) -> list[output.Cell]:
    ttft, latency = row["ttft_ms"], row["latency_ms"]
    return [
        str(row["started_at"])[11:19],
        row["app"],
        row["route"],
        row["target"],
        row["status"],
        row["input_tokens"],
        row["output_tokens"],
        output.usd(row["cost_usd_micros"]),
        None if ttft is None else f"{ttft:.0f} ms",
        None if latency is None else f"{latency:.0f} ms",
    ]
