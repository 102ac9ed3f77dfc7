"""Many who want in at once, and a provider that does not answer: it is asked once, and nobody waits for long."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import pytest

from gateway.api import oidc, oidc_client
from gateway.api.oidc import Fetched, ProviderAway
from tests.integration.api.served import ServedApi
from tests.integration.api.test_sign_on import START, document

MANY = 40
PATIENCE_S = 1.0


class Documents:
    """A provider's discovery document and keys on a socket, as long as it is well. Counts who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.well = True
        self.hangs = False
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if outer.hangs:
                    outer.release.wait(30)
                time.sleep(0.1)
                body = json.dumps(outer.document()).encode()
                self.send_response(200 if outer.well else 503)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def document(self) -> dict[str, str]:
        named = {f"{name}_endpoint": f"{self.url}/{name}" for name in ("authorization", "token")}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **named}


@pytest.fixture
def corp(sqlite_api: ServedApi) -> Iterator[Documents]:
    provider = Documents()
    thread = threading.Thread(target=provider.server.serve_forever, daemon=True)
    thread.start()
    with sqlite_api.client() as owner:
        owner.post("/api/v1/sign-on/providers", json=document(provider.url)).raise_for_status()
    yield provider
    provider.release.set()
    provider.server.shutdown()
    thread.join(10)
    provider.server.server_close()


def start(api: ServedApi) -> str:
    with api.bare_client() as browser:
        answer = browser.get(START)
        assert answer.status_code in (302, 303), answer.text
        return answer.headers["location"]


def storm(api: ServedApi) -> list[str]:
    with ThreadPoolExecutor(MANY) as threads:
        return list(threads.map(lambda _: start(api), range(MANY)))


def test_a_storm_at_a_provider_that_is_well_asks_it_once(sqlite_api: ServedApi, corp: Documents) -> None:
    assert all(url.startswith(f"{corp.url}/authorization?") for url in storm(sqlite_api))
    assert len(corp.asked) == 1


def test_a_storm_at_a_provider_that_is_ill_asks_it_once_and_not_again_for_a_while(
    sqlite_api: ServedApi, corp: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    corp.well = False
    assert all("problem=sign_on_provider_away" in url for url in storm(sqlite_api))
    assert "problem=sign_on_provider_away" in start(sqlite_api)
    assert len(corp.asked) == 1, "it is left alone"
    corp.well = True
    monkeypatch.setattr(oidc, "AWAY_S", 0.0)
    assert start(sqlite_api).startswith(f"{corp.url}/authorization?")
    assert len(corp.asked) == 2


def test_a_provider_that_says_nothing_keeps_nobody_longer_than_one_answer_may_take(
    sqlite_api: ServedApi, corp: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_client, "PATIENCE_S", PATIENCE_S)
    corp.hangs = True
    began = time.monotonic()
    assert all("problem=sign_on_provider_away" in url for url in storm(sqlite_api))
    assert time.monotonic() - began < 8 * PATIENCE_S, "one after the other would be forty"
    assert len(corp.asked) == 1


def test_the_test_asks_it_all_the_same_and_what_it_finds_counts(sqlite_api: ServedApi, corp: Documents) -> None:
    corp.well = False
    assert "problem=sign_on_provider_away" in start(sqlite_api)
    corp.well = True
    assert "problem=sign_on_provider_away" in start(sqlite_api), "remembered"
    with sqlite_api.client() as owner:
        said = owner.post("/api/v1/sign-on/providers/corp/test").json()["findings"]
    assert (said[0]["what"], said[0]["ok"]) == ("Discovery", True)
    assert start(sqlite_api).startswith(f"{corp.url}/authorization?")


def test_where_the_first_goes_away_the_next_asks() -> None:
    async def main() -> None:
        fetched: Fetched[str] = Fetched(60)
        asked: list[int] = []

        async def never() -> str:
            asked.append(1)
            await anyio.sleep_forever()
            raise AssertionError

        async def at_once() -> str:
            asked.append(2)
            return "told"

        async with anyio.create_task_group() as group:
            first = anyio.CancelScope()

            async def give_up() -> None:
                with first:
                    await fetched.get(never)

            group.start_soon(give_up)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(fetched.get, at_once)
            await anyio.wait_all_tasks_blocked()
            assert asked == [1]
            first.cancel()
        assert asked == [1, 2]
        assert await fetched.get(never) == "told"

    anyio.run(main)


def test_who_wants_newer_is_not_told_what_was_asked_before_and_shares_what_is() -> None:
    async def main() -> None:
        fetched: Fetched[int] = Fetched(60)
        answers = iter(range(9))
        goes_on = anyio.Event()

        async def ask() -> int:
            number = next(answers)
            if number == 1:
                await goes_on.wait()
            return number

        assert await fetched.get(ask) == 0
        found: list[int] = []

        async def newer() -> None:
            found.append(await fetched.get(ask, newer=True))

        async with anyio.create_task_group() as group:
            group.start_soon(newer)
            await anyio.wait_all_tasks_blocked()
            for _ in range(5):
                group.start_soon(newer)
            await anyio.wait_all_tasks_blocked()
            assert await fetched.get(ask) == 0, "who does not need newer does not wait"
            goes_on.set()
        assert found == [1, 2, 2, 2, 2, 2]

    anyio.run(main)


def test_a_failure_is_told_as_it_was() -> None:
    async def main() -> None:
        fetched: Fetched[int] = Fetched(60)

        async def fail() -> int:
            raise ProviderAway("it is away", fix="wait")

        for _ in range(2):
            with pytest.raises(ProviderAway, match="it is away; wait"):
                await fetched.get(fail)

    anyio.run(main)
