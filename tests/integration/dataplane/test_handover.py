"""Upgrades, settings and certificates anew, all under load: not one request fails, no answer breaks off."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.integration.dataplane.test_lifecycle import KEY, MESSAGES, Load, check_ledger, configuration
from tests.support import live
from tests.support.c_upstream import CUpstream, c_upstream
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.raw import RawClient
from tests.support.shapes import Tokens


@pytest.fixture
def upstream() -> Iterator[CUpstream]:
    with c_upstream() as running:
        yield running


def upgraded(sluice: Live, since: float, within_s: float = 60) -> None:
    """Wait for the word of the supervisor that everything was replaced."""

    def told() -> bool:
        try:
            state = json.loads((sluice.data / "serve.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(state["since"] > since and state["state"] == "serving")

    sluice.until(told, within_s, lambda: "no upgrade")


def test_an_upgrade_fails_no_request(tmp_path: Path, upstream: CUpstream) -> None:
    """SIGUSR2 under load, twice: supervisor, keeper and workers are new, the sockets the same."""
    with live.gateway(tmp_path, configuration(upstream.url), workers=2) as sluice:
        supervisor, keeper = sluice.pid, sluice.keeper().pid
        workers = {process.pid for process in sluice.workers()}
        with Load(sluice) as load:
            time.sleep(1)
            for _ in range(2):
                since = time.time()
                sluice.signal(signal.SIGUSR2)
                upgraded(sluice, since)
                time.sleep(1)
        assert set(load.outcomes) == {"200"}, load.outcomes
        assert load.outcomes["200"] > 100
        assert sluice.pid == supervisor
        assert sluice.keeper().pid != keeper
        sluice.until(lambda: len(sluice.workers()) == 2, 15)
        assert not workers & {process.pid for process in sluice.workers()}
        check_ledger(sluice, upstream, load)
        assert {row["outcome"] for row in sluice.ledger()} == {"completed"}


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGHUP], ids=["upgrade", "settings"])
def test_streams_outlive_their_worker(tmp_path: Path, number: signal.Signals) -> None:
    """A stream that lasts longer than the drain limit ends where it was to end."""
    with Provider() as provider:
        provider.behave(gap_s=0.1, tokens=Tokens(output=60))
        with live.gateway(tmp_path, configuration(provider.url), options=("--drain", "1")) as sluice:
            with openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0) as client:
                events = iter(client.chat.completions.create(model="chat", messages=MESSAGES, stream=True))
                next(events)
                before = {process.pid for process in sluice.workers()}
                sluice.signal(number)
                sluice.until(lambda: bool({process.pid for process in sluice.workers()} - before), 30)
                text = "".join(chunk.choices[0].delta.content or "" for chunk in events)
            assert text.count(" token") == 60
            sluice.until(lambda: not before & {process.pid for process in sluice.workers()}, 15)
            assert [row["outcome"] for row in sluice.wait_for_rows(1)] == ["completed"]


def test_settings_anew_fail_no_request(tmp_path: Path, upstream: CUpstream) -> None:
    with live.gateway(tmp_path, configuration(upstream.url), workers=2) as sluice:
        with Load(sluice) as load:
            for _ in range(2):
                done = sluice.log().count("workers replaced")
                sluice.signal(signal.SIGHUP)
                sluice.until(lambda done=done: sluice.log().count("workers replaced") > done, 60)  # type: ignore[misc]
                time.sleep(0.5)
        assert set(load.outcomes) == {"200"}, load.outcomes


def test_what_the_keeper_goes_by_is_read_again_without_a_pause(tmp_path: Path, upstream: CUpstream) -> None:
    with live.gateway(tmp_path, configuration(upstream.url), workers=1) as sluice:

        def chosen() -> object:
            answer = sluice.api.get("/api/v1/discoveries/coverage")
            return answer.json().get("chosen")

        sluice.until(lambda: chosen() == [], 10)
        with Load(sluice) as load:
            (sluice.data / "sluicegate.toml").write_text('tls_watched = ["*/curl"]\n')
            sluice.signal(signal.SIGHUP)
            sluice.until(lambda: chosen() == ["*/curl"], 60)
            time.sleep(0.5)
        assert set(load.outcomes) == {"200"}, load.outcomes


def test_a_release_that_would_not_start_changes_nothing(tmp_path: Path, upstream: CUpstream) -> None:
    refusing = tmp_path / "sluicegate"
    refusing.write_text("#!/bin/sh\necho 'error: this release is broken' >&2\nexit 1\n")
    refusing.chmod(0o755)
    environment = {"SLUICEGATE_COMMAND": str(refusing)}
    with live.gateway(tmp_path, configuration(upstream.url), env=environment) as sluice:
        workers = [process.pid for process in sluice.workers()]
        sluice.signal(signal.SIGUSR2)
        sluice.until(lambda: "not upgraded" in sluice.log(), 60)
        assert "error: this release is broken" in sluice.log()
        assert [process.pid for process in sluice.workers()] == workers
        assert "upgrade failed" in json.loads((sluice.data / "serve.json").read_text())["state"]
        sluice.wait_ready()
        sluice.tolerated.append("not upgraded")


def test_a_kept_connection_learns_of_the_end(tmp_path: Path, upstream: CUpstream) -> None:
    """An idle connection gets one more answer, which says that it is the last, rather than a reset."""
    with live.gateway(tmp_path, configuration(upstream.url)) as sluice:
        before = [process.pid for process in sluice.workers()]
        body = b'{"model":"chat","messages":[]}'
        with RawClient(sluice.port) as client, RawClient(sluice.port) as fresh:
            assert client.post("/v1/chat/completions", body, f"x-api-key: {KEY}").header("connection") is None
            time.sleep(0.1)
            sluice.signal(signal.SIGHUP)
            sluice.until(lambda: sluice.log().count("workers replaced") == 1, 60)
            assert before[0] in [process.pid for process in sluice.workers()]
            for each in (client, fresh):
                last = each.post("/v1/chat/completions", body, f"x-api-key: {KEY}")
                assert (last.status, last.header("connection")) == (200, "close")
                assert each.read_to_end() == b""
