"""What the console's pages ask of the API over ten million ledger rows: at most 150 ms (p95) each; usable within 1 s.

Makes the ledger of tests/bench/big_ledger.py in SQLite and in PostgreSQL, opens every page of the built console in
Chromium with each time range, notes what the pages ask of the API, and asks each of that again, ASKS times, through
the gateway's REST API. A page's p95 is that of the slowest thing that it asks. Usable: from the address until the
overview stands, its numbers included, in a browser that has nothing of it yet.
"""

import argparse
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx2
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.database import make_engine
from tests.bench import big_ledger, rig
from tests.support import live
from tests.support.postgres import Postgres
from tests.support.preparation import prepare

BAR_MS: Final = 150.0
MOST_TOLD: Final = 20
"""Pages, beside those above the bar; results.jsonl has all."""
USABLE_BAR_MS: Final = 1_000.0
RANGES: Final = ("1h", "24h", "7d", "30d")
ROUTER: Final = rig.HERE.parents[1] / "web/src/app/router.tsx"
API: Final = "/api/v1/"
ENDLESS: Final = "/api/v1/events"
PASSWORD: Final = "water under the bridge"
STANDS: Final = """() => document.querySelector("h1")
    && !document.querySelector("[aria-busy=true], .mantine-Skeleton-root") && performance.now()"""
"""Milliseconds since its address was asked for, once nothing of it is loading."""
READY_WITHIN_MS: Final = 120_000
QUIET_MS: Final = 150
ASKS_NOTHING: Final = 20
"""A page that has asked for nothing in so many of them."""
DETAILS: Final = (
    "/routes/route-3",
    "/providers/provider-1",
    "/apps/app-7",
    "/kernel/route-3?target=provider-3/model-3",
)
"""Drawers; a request's is added."""
FILTERED: Final = (
    "/requests?app=app-7", "/requests?route=route-3", "/requests?team=team-7", "/requests?outcome=refused",
    "/requests?outcome=upstream_failed", "/requests?model=model-3", "/requests?status=429", "/requests?key=first",
    "/requests?app=app-199&status=502", "/requests?target=provider-3/model-3", "/requests?live=true",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to the API. `age_s`: how long before its asking each time in it lay."""

    path: str
    query: tuple[tuple[str, str], ...]
    ages_s: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, url: str) -> "Asked":
        parts = urlsplit(url)
        query, ages = [], []
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", value):
                age = datetime.now(UTC) - datetime.fromisoformat(value)
                ages.append((name, round(age.total_seconds() / 60) * 60))
            else:
                query.append((name, value))
        return cls(parts.path, tuple(query), tuple(ages))

    def url(self) -> str:
        now = time.time()
        times = [(name, datetime.fromtimestamp(now - age, UTC).isoformat()) for name, age in self.ages_s]
        return f"{self.path}?{urlencode([*self.query, *times], quote_via=quote)}"

    def __str__(self) -> str:
        times = [(name, f"-{age / 3600:g}h") for name, age in self.ages_s]
        return f"{self.path}?{urlencode([*self.query, *times], safe=',/')}".rstrip("?")


@dataclass(slots=True)
class Figures:
    asked_ms: dict[Asked, list[float]] = field(default_factory=dict)
    pages: dict[str, list[Asked]] = field(default_factory=dict)
    usable_ms: list[float] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000_000, metavar="N", help="in the ledger (10000000)")
    parser.add_argument("--asks", type=int, default=50, metavar="N", help="of each question (50)")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--only", default="", metavar="PATTERN", help="pages whose address has this in it")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="make the SQLite ledger there, or use what is there"
    )


def measure(given: argparse.Namespace) -> None:
    figures: dict[str, Any] = {"rows": given.rows, "asks": given.asks}
    held = True
    for database in ("sqlite", "postgresql") if given.database == "both" else (given.database,):
        print(f"{database}:")
        with serving(database, given.rows, given.keep) as running:
            found = look(running, given.asks, given.only)
        slowest = {
            page: max(p95(found.asked_ms[asked]) for asked in pages) for page, pages in found.pages.items() if pages
        }
        tell(found, slowest)
        usable_ms = statistics.median(found.usable_ms)
        figures[database] = {
            "pages": {page: round(ms, 1) for page, ms in slowest.items()},
            "usable_ms": round(usable_ms),
        }
        held = held and max(slowest.values()) <= BAR_MS and usable_ms <= USABLE_BAR_MS
    rig.conclude("console", figures, f"each page's API ≤ {BAR_MS:g} ms p95, usable ≤ {USABLE_BAR_MS:g} ms", held)


@contextmanager
def serving(database: str, rows: int, keep: Path | None) -> Iterator[live.Live]:
    """The gateway over a ledger of so many rows, which go when the block ends."""
    rig.raise_file_limits()
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-bench-")))
        url = None
        if database == "postgresql":
            server = Postgres()
            stack.callback(server.remove)
            server.start()
            url = server.url(server.new_database())
        running = live.Live(folder / database, workers=1, database_url=url, env={})
        token = folder / database / "token"
        if keep and token.exists():
            engine = make_engine(Settings(data=running.data).database_url)
            migrate.upgrade(engine)
            engine.dispose()
        if not token.exists():
            (folder / database).mkdir(parents=True, exist_ok=True)
            began = time.monotonic()
            made = prepare(running.data, url, big_ledger.configuration("http://127.0.0.1:9"))
            engine = make_engine(Settings(data=running.data, database=url).database_url)
            hours = big_ledger.fill(engine, rows)
            engine.dispose()
            print(f"  {rows:,} rows and {hours:,} of the roll-up made in {time.monotonic() - began:.0f} s")
            if not keep or not url:  # PostgreSQL's are never kept
                token.write_text(made)
            running.token = made
        running.token = running.token or token.read_text()
        try:
            running.start(ready=False)
            running.wait_ready(rig.READY_WITHIN_S)
            yield running
        finally:
            running.finish()


def look(running: live.Live, asks: int, only: str) -> Figures:
    """Open the pages, then ask what they asked."""
    figures = Figures()
    user = f"bench-{time.time_ns()}"  # a ledger that was kept knows those of the runs before
    owner = {"name": user, "role": "owner", "password": PASSWORD}
    running.api.post("/api/v1/users", json=owner).raise_for_status()
    with sync_playwright() as playwright:
        executable = shutil.which("chromium")
        if executable is None:
            raise SystemExit("Chromium is missing: apt-get install chromium")
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        cookie = signed_in(running, user)
        wanted = [page for page in addresses(running) if re.search(only, page)]
        figures.pages = dict(visits(chromium, running, cookie, wanted))
        figures.usable_ms = [usable(chromium, running, cookie) for _ in range(5)]
        chromium.close()
    for asked in dict.fromkeys(each for page in figures.pages.values() for each in page):
        figures.asked_ms[asked] = ask(running.api, asked, asks)
    return figures


def addresses(running: live.Live) -> list[str]:
    """Of every page there is: those of the console's router, with all ranges, some filtered, and some drawers."""
    pages = sorted(set(re.findall(r'path: "(/[^"$]*)"', ROUTER.read_text())) - {"/login"})
    request = running.api.get("/api/v1/ledger?limit=1").json()["items"][0]["id"]
    found = [*pages, *FILTERED, *DETAILS, f"/requests/{request}"]
    return [f"{page}{'&' if '?' in page else '?'}range={range_}" for page in found for range_ in RANGES]


def signed_in(running: live.Live, user: str) -> Any:
    answer = httpx2.post(running.url + "/api/v1/session", json={"username": user, "password": PASSWORD}, timeout=30)
    answer.raise_for_status()
    (cookie,) = answer.cookies.items()
    return {"name": cookie[0], "value": cookie[1], "url": running.url}


def context_of(chromium: Browser, running: live.Live, cookie: Any) -> BrowserContext:
    context = chromium.new_context(base_url=running.url, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(READY_WITHIN_MS)
    context.add_cookies([cookie])
    return context


def visits(
    chromium: Browser, running: live.Live, cookie: Any, pages: Sequence[str]
) -> Iterator[tuple[str, list[Asked]]]:
    """Each page with what it asked of the API until it stood."""
    context = context_of(chromium, running, cookie)
    for address in pages:
        page = context.new_page()
        questions = Questions(page)
        page.goto("/console" + address)
        questions.wait_for_all()
        page.close()
        yield address, list(dict.fromkeys(Asked.of(url) for url in questions.urls))
    context.close()


class Questions:
    """What a page asks of the API."""

    def __init__(self, page: Page) -> None:
        self.urls: list[str] = []
        self._page = page
        self._open = 0
        page.on("request", self._asked)
        page.on("requestfinished", self._answered)
        page.on("requestfailed", self._answered)

    def wait_for_all(self) -> None:
        """Until all is answered and nothing more was asked for a while."""
        deadline = time.monotonic() + READY_WITHIN_MS / 1000
        quiet = 0
        while quiet < (3 if self.urls else ASKS_NOTHING):
            asked = len(self.urls)
            self._page.wait_for_timeout(QUIET_MS)
            quiet = quiet + 1 if asked == len(self.urls) and not self._open else 0
            if time.monotonic() > deadline:
                raise SystemExit(f"{self._page.url} still waits for {self._open} answers")

    def _asked(self, request: Request) -> None:
        if _is_question(request):
            self.urls.append(request.url)
            self._open += 1

    def _answered(self, request: Request) -> None:
        self._open -= _is_question(request)


def _is_question(request: Request) -> bool:
    path = urlsplit(request.url).path
    return request.method == "GET" and path.startswith(API) and path != ENDLESS


def usable(chromium: Browser, running: live.Live, cookie: Any) -> float:
    """Milliseconds until the overview stands in a browser that knows nothing."""
    context = context_of(chromium, running, cookie)
    page = context.new_page()
    page.goto("/console/", wait_until="commit")
    stood = page.wait_for_function(STANDS, timeout=READY_WITHIN_MS, polling="raf")
    took_ms = stood.json_value()
    context.close()
    return float(took_ms)


def ask(api: httpx2.Client, asked: Asked, times: int) -> list[float]:
    """Milliseconds of each time, after a first one."""
    taken = []
    for _ in range(times + 1):
        url = asked.url()
        began = time.monotonic()
        answer = api.get(url, timeout=120)
        taken.append((time.monotonic() - began) * 1000)
        if answer.status_code >= 500:
            raise SystemExit(f"{asked}: {answer.status_code} {answer.text[:500]}")
    return taken[1:]


def p95(taken: Sequence[float]) -> float:
    return statistics.quantiles(taken, n=20, method="inclusive")[-1]


def tell(found: Figures, slowest: Mapping[str, float]) -> None:
    print(f"  usable after {', '.join(f'{ms:.0f}' for ms in found.usable_ms)} ms; {len(slowest)} pages, the slowest:")
    shown = [item for item in slowest.items() if item[1] > BAR_MS]
    shown += sorted(slowest.items(), key=lambda item: -item[1])[len(shown) : MOST_TOLD]
    for page, ms in shown:
        worst = max(found.pages[page], key=lambda asked: p95(found.asked_ms[asked]))
        middle = statistics.median(found.asked_ms[worst])
        print(f"  {'MISSED ' if ms > BAR_MS else ''}{page}: p50 {middle:.1f} p95 {ms:.1f} ms: {worst}")
