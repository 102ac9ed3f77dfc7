"""Start, drain, death and change under load: no answer broken that need not be, no request without its ledger row."""

import asyncio
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from tests.support import live
from tests.support.c_upstream import CUpstream, c_upstream
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.raw import RawClient
from tests.support.shapes import Tokens

KEY = "sk-test-life-0123456789"
MESSAGES = [{"role": "user", "content": "hi"}]


def configuration(url: str, *, model: str = "bench", budget: int = 10_000_000) -> str:
    return f"""
providers:
  - {{name: up, dialect: openai, base_url: {url}}}
  - {{name: claude, dialect: anthropic, base_url: {url}}}
routes:
  - {{name: chat, retries: 0, targets: [{{provider: up, model: {model}}}, {{provider: claude, model: {model}}}]}}
  - {{name: paced, retries: 0, targets: [{{provider: up, model: pace-20}}]}}
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
prices: [{{provider: up, model: "*", input: 1000000, output: 1000000}}]
limits:
  - {{name: calls, scope: {{key: k}}, metric: requests, window: month, at_most: {budget}}}
  - {{name: tokens, scope: {{app: a}}, metric: total_tokens, window: month, at_most: 1000000000}}
  - {{name: slots, scope: {{team: t}}, metric: concurrent_requests, at_most: 500}}
"""


@pytest.fixture
def upstream() -> Iterator[CUpstream]:
    with c_upstream() as running:
        yield running


class Load:
    """Calls from many tasks of one thread until told to end; what became of each is counted."""

    def __init__(self, sluice: Live, *, stream_every: int = 4, tasks: int = 16) -> None:
        self._sluice = sluice
        self._stream_every = stream_every
        self._tasks = tasks
        self._end = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.completed: list[str] = []
        """Request ids of the answers that were received whole."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx2.AsyncClient(base_url=self._sluice.url, timeout=20, limits=limits) as client:
            await asyncio.gather(*(self._caller(client, number) for number in range(self._tasks)))

    async def _caller(self, client: httpx2.AsyncClient, number: int) -> None:
        calls = number
        while not self._end.is_set():
            calls += 1
            stream = calls % self._stream_every == 0
            body = {"model": "chat", "messages": MESSAGES, "stream": stream, "max_tokens": 100}
            try:
                answer = await client.post("/v1/chat/completions", json=body, headers={"x-api-key": KEY})
            except httpx2.TransportError as error:
                self.outcomes[type(error).__name__] += 1
                await asyncio.sleep(0.02)
                continue
            self.outcomes[str(answer.status_code)] += 1
            if answer.status_code == 200:
                self.completed.append(answer.headers["x-request-id"])

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the load does not end"


def check_ledger(sluice: Live, upstream: CUpstream, load: Load) -> None:
    """Each answer that was received whole has one completed row, and no row is of a request that never was."""
    stats = upstream.stats()

    def settled() -> bool:
        rows = sluice.ledger()
        return set(load.completed) <= {row["id"] for row in rows if row["outcome"] != "open"}

    sluice.until(settled, 10, lambda: "rows are missing")
    rows = sluice.ledger()
    assert len({row["id"] for row in rows}) == len(rows)
    by_id = {row["id"]: row for row in rows}
    assert {by_id[request_id]["outcome"] for request_id in load.completed} <= {"completed"}
    known = [row for row in rows if row["outcome"] == "completed"]
    assert sum(row["input_tokens"] for row in known) <= stats.prompt_tokens
    assert len([row for row in rows if row["upstream_status"] == 200]) <= stats.requests


@pytest.mark.parametrize("workers", [1, 3])
def test_ledger_equals_the_providers_count(
    tmp_path: Path, upstream: CUpstream, database_url: str, workers: int
) -> None:
    with live.gateway(tmp_path, configuration(upstream.url), workers=workers, database_url=database_url) as sluice:
        with Load(sluice) as load:
            time.sleep(3)
        assert set(load.outcomes) == {"200"}
        stats = upstream.stats()
        rows = sluice.wait_for_rows(stats.requests, within_s=10)
        assert {row["outcome"] for row in rows} == {"completed"}
        assert {row["id"] for row in rows} == set(load.completed)
        assert sum(row["input_tokens"] for row in rows) == stats.prompt_tokens
        assert sum(row["output_tokens"] for row in rows) == stats.completion_tokens
        cost = stats.prompt_tokens + stats.completion_tokens
        assert sum(row["cost_usd_micros"] for row in rows) == cost
        state = sluice.api.get("/api/v1/limits/tokens/state").json()
        assert (state["used"], state["reserved"]) == (stats.prompt_tokens + stats.completion_tokens, 0)
        assert sluice.api.get("/api/v1/limits/calls/state").json()["used"] == stats.requests


def test_drain_lets_answers_end(tmp_path: Path) -> None:
    with Provider() as provider:
        provider.behave(gap_s=0.05, tokens=Tokens(output=40))
        with live.gateway(tmp_path, configuration(provider.url), workers=2) as sluice:
            with openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0) as client:
                stream = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
                events = iter(stream)
                next(events)
                sluice.signal(signal.SIGTERM)
                begun = time.monotonic()
                text = "".join(chunk.choices[0].delta.content or "" for chunk in events)
            assert text.count(" token") == 40
            sluice.until(lambda: not sluice.processes(), 15)
            assert 1.0 < time.monotonic() - begun < live.DRAIN_S + 3
            with pytest.raises(httpx2.ConnectError):
                httpx2.get(sluice.url + "/healthz")
            assert [row["outcome"] for row in sluice.ledger()] == ["completed"]


def test_a_drain_that_begins_between_head_and_first_event_is_announced(tmp_path: Path) -> None:
    """The client's head goes out with the first event, and says by then that the connection ends."""
    asked, go_on = threading.Event(), threading.Event()

    def provide(listener: socket.socket) -> None:
        with listener.accept()[0] as peer:
            got = b""
            while b"\r\n\r\n" not in got or not got.endswith(b"}"):
                got += peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            asked.set()
            go_on.wait(20)
            for event in (b'data: {"choices":[{"index":0,"delta":{"content":"late"}}]}\n\n', b"data: [DONE]\n\n"):
                peer.sendall(b"%x\r\n%b\r\n" % (len(event), event))
            peer.sendall(b"0\r\n\r\n")
            peer.recv(1)  # until the gateway lets go

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=provide, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with live.gateway(tmp_path, configuration(url)) as sluice, RawClient(sluice.port) as client:
            body = b'{"model":"chat","messages":[],"stream":true}'
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\n"
            client.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            assert asked.wait(20)
            time.sleep(0.2)
            sluice.signal(signal.SIGTERM)
            time.sleep(0.5)
            go_on.set()
            answer = client.answer()
            assert answer.status == 200
            assert b"late" in answer.body
            assert answer.header("connection") == "close"
        thread.join(10)


def test_drain_has_an_end(tmp_path: Path) -> None:
    """An answer that would last for ever is cut at the drain's limit, and has its row."""
    with Provider() as provider:
        provider.behave(gap_s=0.1, tokens=Tokens(output=100_000))
        with live.gateway(tmp_path, configuration(provider.url), options=("--drain", "1")) as sluice:
            with RawClient(sluice.port) as client:
                body = b'{"model":"chat","messages":[],"stream":true}'
                head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\n"
                client.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
                client.answer(to_head=True)
                begun = time.monotonic()
                sluice.signal(signal.SIGTERM)
                client.read_to_end()
            assert 0.5 < time.monotonic() - begun < 4
            sluice.until(lambda: not sluice.processes(), 15)
            assert len(sluice.ledger()) == 1


def test_no_connection_is_refused_while_a_worker_dies(tmp_path: Path, upstream: CUpstream) -> None:
    """kill -9 of one worker of two under load: only what it had in hand breaks, and the ledger knows of all of it."""
    with live.gateway(tmp_path, configuration(upstream.url), workers=2) as sluice:
        with Load(sluice) as load:
            time.sleep(1)
            victim = sluice.workers()[0]
            victim.kill()
            died = time.monotonic()
            sluice.until(
                lambda: len(sluice.workers()) == 2 and victim.pid not in [worker.pid for worker in sluice.workers()], 5
            )
            assert time.monotonic() - died < 3
            time.sleep(1.5)
        assert load.outcomes["200"] > 100
        assert load.outcomes["ConnectError"] == 0
        assert sum(load.outcomes.values()) - load.outcomes["200"] <= 16  # at most one call of each task
        check_ledger(sluice, upstream, load)
        sluice.until(lambda: sluice.api.get("/api/v1/limits/slots/state").json()["reserved"] == 0, 5)


def test_callers_do_not_notice_that_the_keeper_dies(tmp_path: Path, upstream: CUpstream) -> None:
    with live.gateway(tmp_path, configuration(upstream.url), workers=2) as sluice:
        with Load(sluice) as load:
            time.sleep(1)
            for _ in range(3):
                sluice.keeper().kill()
                time.sleep(1)
        assert load.outcomes["200"] > 100
        refused = sum(load.outcomes.values()) - load.outcomes["200"]
        assert refused <= load.outcomes["503"], load.outcomes
        check_ledger(sluice, upstream, load)
        rows = sluice.ledger()
        assert sum(row["input_tokens"] or 0 for row in rows) == upstream.stats().prompt_tokens


def test_everything_dies_at_once(tmp_path: Path, upstream: CUpstream) -> None:
    """kill -9 of all processes under load, start again: the ledger has every request, the limits are not overdrawn."""
    with live.gateway(tmp_path, configuration(upstream.url), workers=2) as sluice:
        with Load(sluice) as load:
            time.sleep(1.5)
            sluice.kill_all()
        sluice.start()
        check_ledger(sluice, upstream, load)
        stats = upstream.stats()
        sluice.until(lambda: len(sluice.ledger()) >= stats.requests, 5)
        interrupted = [row for row in sluice.ledger() if row["outcome"] == "interrupted"]
        assert all(row["estimated"] for row in interrupted)
        used = sluice.api.get("/api/v1/limits/calls/state").json()["used"]
        assert len(load.completed) <= used <= len(sluice.ledger())


def test_configuration_changes_under_load(tmp_path: Path, upstream: CUpstream) -> None:
    """A change acts in every worker within a second, and breaks nothing that is under way."""
    with live.gateway(tmp_path, configuration(upstream.url), workers=2) as sluice:
        with Load(sluice) as load:
            for number in range(5):
                sluice.apply(configuration(upstream.url, model=f"model-{number}"))
                applied = time.monotonic()
                targets: set[str | None] = set()
                while targets != {f"up/model-{number}"}:
                    assert time.monotonic() - applied < 2, targets
                    targets = {_target(sluice) for _ in range(8)}
                    if targets == {f"up/model-{number}"}:
                        assert time.monotonic() - applied < 1.3
        assert set(load.outcomes) == {"200"}


def _target(sluice: Live) -> str | None:
    with RawClient(sluice.port) as client:
        answer = client.post("/v1/chat/completions", b'{"model":"chat","messages":[]}', f"x-api-key: {KEY}")
        return answer.header("x-sluicegate-target")


def test_a_revoked_key_ends_within_a_second(tmp_path: Path, upstream: CUpstream) -> None:
    with live.gateway(tmp_path, configuration(upstream.url), workers=2) as sluice:
        assert _target(sluice) == "up/bench"
        keys = sluice.api.get("/api/v1/keys").json()["items"]
        assert sluice.api.delete(f"/api/v1/keys/{keys[0]['id']}").status_code == 204
        time.sleep(1.0)
        with RawClient(sluice.port) as client:
            answer = client.post("/v1/chat/completions", b'{"model":"chat","messages":[]}', f"x-api-key: {KEY}")
            assert answer.status == 401


@contextmanager
def _asking(sluice: Live, path: str, token: str) -> Iterator[None]:
    """Somebody keeps a page of the console open."""
    end = threading.Event()

    def ask() -> None:
        # A thousand rows come from the reporter, which comes last on a core that calls fill.
        with httpx2.Client(base_url=sluice.url, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
            while not end.is_set():
                assert client.get(path).status_code == 200

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(70)


def test_a_busy_console_does_not_break_calls(tmp_path: Path, upstream: CUpstream) -> None:
    with live.gateway(tmp_path, configuration(upstream.url)) as sluice:
        with Load(sluice) as load, _asking(sluice, "/api/v1/ledger?limit=1000", sluice.token):
            time.sleep(3)
        assert set(load.outcomes) == {"200"}


def test_metrics_agree_with_the_ledger(tmp_path: Path, upstream: CUpstream) -> None:
    """/metrics speaks for all workers, whichever of them is asked."""
    with live.gateway(tmp_path, configuration(upstream.url), workers=2) as sluice:
        with Load(sluice) as load:
            time.sleep(1)
        count = load.outcomes["200"]
        sluice.wait_for_rows(count)

        def total(name: str) -> float:
            lines = httpx2.get(sluice.url + "/metrics").text.splitlines()
            return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))

        sluice.until(
            lambda: total("sluicegate_requests_total") == count,
            3,
            lambda: str((total("sluicegate_requests_total"), count)),
        )
        rows = sluice.ledger()
        tokens = sum(row["input_tokens"] + row["output_tokens"] for row in rows)
        assert total("sluicegate_tokens_total") == tokens
        assert total("sluicegate_in_flight") == 0


def test_serve_refuses_a_taken_port(tmp_path: Path) -> None:
    with Provider() as provider:
        running = live.Live(tmp_path, workers=1, database_url=None, env={})
        running.port = provider.port
        running.start(ready=False)
        sluice_process = running._process
        assert sluice_process is not None
        assert sluice_process.wait(15) != 0
        assert str(provider.port) in running.log()
        assert "Traceback" not in running.log()


def test_data_folder_is_private(tmp_path: Path, upstream: CUpstream) -> None:
    with live.gateway(tmp_path, configuration(upstream.url)) as sluice:
        assert _target(sluice) == "up/bench"
        assert sluice.data.stat().st_mode & 0o077 == 0
        open_to_others = [path for path in sluice.data.rglob("*") if path.stat().st_mode & 0o077]
        assert open_to_others == []


def test_no_secret_is_logged(tmp_path: Path, upstream: CUpstream) -> None:
    with live.gateway(tmp_path, configuration(upstream.url), env={"SLUICEGATE_LOG_LEVEL": "debug"}) as sluice:
        assert _target(sluice) == "up/bench"
        httpx2.post(sluice.url + "/v1/chat/completions", json={"model": "x"}, headers={"x-api-key": "sk-wrong-key-1"})
        said = sluice.log() + json.dumps(sluice.ledger(), default=str)
        assert KEY not in said
        assert "sk-wrong" not in said
        assert sluice.token not in said
