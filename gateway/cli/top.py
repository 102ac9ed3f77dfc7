"""`sluicegate top`: what goes through the gateway now, from the live feed (`GET /api/v1/events`) and the open requests.

At a terminal a picture that renews itself; with `--once` one look at a window, for scripts; into a pipe a line a
request.
"""

import contextlib
import queue
import secrets
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx2
import orjson

from gateway.cli import output
from gateway.cli.address import api_url
from gateway.cli.options import settings_from
from gateway.cli.remote import Refused
from gateway.cli.top_figures import GROUPS, NO_KERNEL, SORTS, Row, Window, as_json, in_order, kernel_by
from gateway.errors import BadRequest

WINDOW_S: Final = 10.0
REDRAW_S: Final = 0.5
OPEN_EVERY_S: Final = 1.0
SILENCE_S: Final = 60.0
"""The feed has a sign of life every 15 s."""
COLUMNS: Final = ("time", "app", "route", "target", "status", "in", "out", "USD", "first", "total")
FIGURES: Final = (
    "requests_per_s", "in_flight", "tokens_per_s", "cost_usd_micros", "errors", "ttft_ms_p50", "ttft_ms_p95",
    "latency_ms_p50",
)  # fmt: skip
KERNEL_FIGURES: Final = ("rtt_ms_p50", "first_byte_ms_p50", "token_gap_ms_p50", "retransmits")


@dataclass(frozen=True, slots=True)
class Ended:
    """The feed is over."""

    reason: str


Arrival = Row | Ended | None
"""None: something is missing in the feed."""


class Feed:
    """Reads the live feed and the open requests in threads of their own; `arrivals` never blocks them."""

    def __init__(self, base: str, bearer: str, window_s: float) -> None:
        self._base = base
        self._window_s = window_s
        self._headers = {"authorization": f"Bearer {bearer}"}
        self.arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self.open: list[Row] = []
        """Requests in flight at the last look."""
        self.kernel: list[Row] = []
        """What the kernel says of routes, likewise (`GET /api/v1/telemetry/routes`)."""
        self.kernel_missing: str | None = None
        """Why it says nothing."""
        self._client = httpx2.Client(timeout=SILENCE_S, headers=self._headers)
        self._begun = threading.Event()
        for work in (self._follow, self._look):
            threading.Thread(target=work, daemon=True).start()

    def wait_begun(self) -> None:
        """Until the feed is open, or has failed."""
        self._begun.wait(SILENCE_S)

    def _follow(self) -> None:
        try:
            with self._client.stream("GET", f"{self._base}/api/v1/events") as answer:
                if answer.status_code != 200:
                    self.arrivals.put(Ended(f"the gateway answered {answer.status_code}"))
                    return
                kind = ""
                for line in answer.iter_lines():
                    self._begun.set()
                    if line.startswith("event: "):
                        kind = line[7:]
                    elif line.startswith("data: ") and kind == "request":
                        self.arrivals.put(orjson.loads(line[6:]))
                    elif line.startswith("data: ") and kind == "gap":
                        self.arrivals.put(None)
            self.arrivals.put(Ended("the gateway has ended the feed"))
        except httpx2.HTTPError as error:
            self.arrivals.put(Ended(f"{self._base}: {error}"))
        finally:
            self._begun.set()

    def _look(self) -> None:
        with httpx2.Client(timeout=10, headers=self._headers) as client:
            while True:
                with contextlib.suppress(httpx2.HTTPError, ValueError, KeyError):
                    query = {"open": "true", "limit": "1000"}
                    found = client.get(f"{self._base}/api/v1/ledger", params=query).raise_for_status().json()
                    self.open = [row for row in found["items"] if row["outcome"] == "open"]
                with contextlib.suppress(httpx2.HTTPError, ValueError, KeyError):
                    query = {"window": f"{max(1, round(self._window_s))}s"}
                    asked = client.get(f"{self._base}/api/v1/telemetry", params=query).raise_for_status().json()
                    self.kernel = asked["routes"]
                    self.kernel_missing = None if asked["features"] else asked["source"]
                time.sleep(OPEN_EVERY_S)


def watch(
    *,
    group_by: str = "route",
    sort: str = "requests",
    window_s: float = WINDOW_S,
    once: bool = False,
    json: bool = False,
    url: str | None = None,
    token: str | None = None,
    data: Path | None = None,
    database: str | None = None,
) -> None:
    """Until Ctrl-C or `q`; `once` ends after one window."""
    if group_by not in GROUPS:
        raise BadRequest(f"cannot group by {group_by!r}", fix=f"use one of {', '.join(GROUPS)}")
    if sort not in SORTS:
        raise BadRequest(f"cannot sort by {sort!r}", fix=f"use one of {', '.join(SORTS)}")
    with entrance("top", url, token, data, database) as (base, bearer), contextlib.suppress(KeyboardInterrupt):
        feed = Feed(base, bearer, window_s)
        feed.wait_begun()
        window = Window(window_s, time.monotonic())
        if once:
            _look_once(feed, window, group_by, sort, json=json)
        elif output.at_terminal():
            _draw(feed, window, group_by, sort, base)
        else:
            _list(feed)


@contextmanager
def entrance(
    purpose: str, url: str | None, token: str | None, data: Path | None, database: str | None
) -> Iterator[tuple[str, str]]:
    """URL and token of a running gateway; on this host a viewer's token is made for the while."""
    if url:
        if not token:
            raise Refused("no token for the gateway", fix="set SLUICEGATE_TOKEN")
        yield url.rstrip("/"), token
        return
    from gateway.cli.host import HostControl

    settings = settings_from(data=data, database=database)
    host = HostControl(settings)
    name = f"{purpose}-{secrets.token_hex(4)}"
    made = host.create_token(
        role="viewer", team=None, name=name, expires_at=datetime.now(UTC) + timedelta(hours=12), scopes=None
    )
    try:
        yield api_url(settings), made["token"]
    finally:
        host.revoke_token(name)


def _refusal(ended: Ended) -> Refused:
    return Refused(ended.reason, fix="is the gateway running? a token of role viewer is enough")


def _take(feed: Feed, window: Window, until_s: float) -> None:
    """What arrives until then goes into the window. Raises Refused when the feed ends."""
    while (left_s := until_s - time.monotonic()) > 0:
        try:
            arrival = feed.arrivals.get(timeout=left_s)
        except queue.Empty:
            return
        if isinstance(arrival, Ended):
            raise _refusal(arrival)
        if arrival is None:
            window.gaps += 1
        else:
            window.add(arrival, time.monotonic())


def _look_once(feed: Feed, window: Window, group_by: str, sort: str, *, json: bool) -> None:
    _take(feed, window, window.begun_s + window.length_s)
    now_s = window.begun_s + window.length_s
    parts = in_order(window.figures(group_by, now_s, feed.open), sort)
    kernel = kernel_by(group_by, feed.kernel)
    found = [as_json(each, group_by, window.length_s, kernel.get(each.name, NO_KERNEL)) for each in parts]
    if json:
        output.say(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        shown = (*FIGURES, *KERNEL_FIGURES) if kernel else FIGURES
        rows = [[each[group_by], *(each[name] for name in shown), ",".join(each["callers"])] for each in found]
        output.table([group_by, *shown, "callers"], rows, right=shown)
    if window.gaps:
        output.note("more requests ended than the feed shows: the figures are a lower bound")
    if not found:
        output.note(f"no request ended within {window.length_s:g} s, and none is in flight")


def _list(feed: Feed) -> None:
    from gateway.cli.top_screen import cells

    output.say("\t".join(COLUMNS))
    while True:
        arrival = feed.arrivals.get()
        if isinstance(arrival, Ended):
            raise _refusal(arrival)
        if arrival is not None:
            output.say("\t".join("-" if cell is None else str(cell) for cell in cells(arrival)))


def _draw(feed: Feed, window: Window, group_by: str, sort: str, base: str) -> None:
    from rich.console import Console
    from rich.live import Live

    from gateway.cli.top_screen import Choice, screen

    choice = Choice(group_by, sort)
    console = Console(file=sys.stdout)
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            kernel = kernel_by(choice.group_by, feed.kernel)
            picture = screen(
                window, choice, feed.open, kernel, feed.kernel_missing, base, time.monotonic(), *console.size
            )
            live.update(picture, refresh=True)
            until_s = time.monotonic() + REDRAW_S
            while time.monotonic() < until_s:
                match pressed():
                    case "q":
                        return
                    case "g":
                        choice.group_by = _next(GROUPS, choice.group_by)
                        break
                    case "s":
                        choice.sort = _next(SORTS, choice.sort)
                        break
                _take(feed, window, time.monotonic() + 0.05)


def _next(names: tuple[str, ...], name: str) -> str:
    return names[(names.index(name) + 1) % len(names)]


class _Keys:
    """The key that was pressed since the last call, "" for none."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self) -> str:
        if not select.select([self._descriptor], [], [], 0)[0]:
            return ""
        return sys.stdin.read(1).lower()


@contextmanager
def _keys() -> Iterator["_Keys | type[str]"]:
    """Single keys without Enter; the terminal is as it was afterwards. Nothing where stdin is no terminal."""
    if not sys.stdin.isatty():
        yield str
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield _Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
