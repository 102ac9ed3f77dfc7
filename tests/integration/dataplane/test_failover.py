"""Retries, failover, cooldown, credentials, weights: what a caller gets when providers misbehave."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.ports import free_port
from tests.support.provider import Behaviour, Provider
from tests.support.raw import RawAnswer, RawClient
from tests.support.shapes import Tokens

KEY = "sk-test-failover-0123456789"
CASES = 30
"""Routes case-0 … case-29: each test uses models of its own, since what a worker learnt of a target stays with it."""


@dataclass(frozen=True, slots=True)
class Rig:
    sluice: Live
    first: Provider
    second: Provider

    def post(self, route: str, *, stream: bool = False, path: str = "/v1/chat/completions") -> RawAnswer:
        body = json.dumps({"model": route, "messages": [], "stream": stream, "max_tokens": 20}).encode()
        with RawClient(self.sluice.port) as client:
            return client.post(path, body, f"authorization: Bearer {KEY}", "content-type: application/json")


def configuration(first: str, second: str) -> str:
    routes = "\n".join(
        f"  - {{name: case-{n}, retries: 2, timeout: {{first_byte: 500ms}}, targets: "
        f"[{{provider: first, model: case-{n}}}, {{provider: second, model: case-{n}}}]}}"
        for n in range(CASES)
    )
    return f"""
providers:
  - {{name: first, dialect: openai, base_url: {first}/v1, credentials: [{{name: main, value: sk-first-secret-1}}]}}
  - {{name: second, dialect: openai, base_url: {second}/v1, credentials: [{{name: main, value: sk-second-secret-1}}]}}
  - {{name: dead, dialect: openai, base_url: "http://127.0.0.1:{free_port()}/v1"}}
  - name: many
    dialect: openai
    base_url: {first}/v1
    credentials: [{{name: a, value: sk-many-secret-a}}, {{name: b, value: sk-many-secret-b}}]
routes:
{routes}
  - {{name: dead-first, retries: 1, targets: [{{provider: dead, model: m}}, {{provider: second, model: dead-first}}]}}
  - {{name: dead-only, retries: 1, targets: [{{provider: dead, model: only}}]}}
  - {{name: once, retries: 0, targets: [{{provider: first, model: once}}, {{provider: second, model: once}}]}}
  - {{name: lone, retries: 2, targets: [{{provider: first, model: lone}}]}}
  - {{name: keys, retries: 1, targets: [{{provider: many, model: keys}}]}}
  - {{name: keys-limited, retries: 0, targets: [{{provider: many, model: keys-limited}}]}}
  - name: weighted
    strategy: weighted
    targets: [{{provider: first, model: weighted, weight: 3}}, {{provider: second, model: weighted, weight: 1}}]
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
"""


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Provider() as first, Provider() as second:
        folder: Path = tmp_path_factory.mktemp("failover")
        with live.gateway(folder, configuration(first.url, second.url)) as sluice:
            yield Rig(sluice, first, second)


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.first.forget()
    shared_rig.second.forget()
    return shared_rig


FAULTS = {
    "500": Behaviour(status=500),
    "503": Behaviour(status=503),
    "529": Behaviour(status=529),
    "429": Behaviour(status=429),
    "408": Behaviour(status=408),
    "dropped": Behaviour(drop=True),
    "reset": Behaviour(drop=True, reset=True),
    "cut in a plain answer": Behaviour(cut_after_pieces=20),
    "silent": Behaviour(hang=True),
    "not HTTP": Behaviour(raw=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "bad framing": Behaviour(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"),
}


@pytest.mark.parametrize(("number", "fault"), enumerate(FAULTS.values()), ids=FAULTS.keys())
def test_failover_before_the_first_byte(rig: Rig, number: int, fault: Behaviour) -> None:
    """The second target answers, the caller notices nothing, and only what was served is charged."""
    rig.first.behave(fault)
    rig.second.behave(tokens=Tokens(input=5, output=3))
    answer = rig.post(f"case-{number}")
    assert answer.status == 200, answer
    assert answer.header("x-sluicegate-target") == f"second/case-{number}"
    row = rig.sluice.row(answer.header("x-request-id"))
    assert (row["attempts"], row["outcome"], row["target"]) == (2, "completed", f"second/case-{number}")
    assert (row["input_tokens"], row["output_tokens"]) == (5, 3)
    # A connection that was used before and ends without a word may have died in the pool: then once more is free.
    assert len(rig.first.requests) <= (2 if fault.drop else 1)
    assert len(rig.second.requests) == 1


@pytest.mark.parametrize(
    ("number", "fault"),
    [(11, Behaviour(cut_after_pieces=0)), (12, Behaviour(drop=True)), (13, Behaviour(hang_after_pieces=0))],
    ids=["head then end", "no head", "head then silence"],
)
def test_failover_of_streams_before_the_first_byte(rig: Rig, number: int, fault: Behaviour) -> None:
    rig.first.behave(fault)
    answer = rig.post(f"case-{number}", stream=True)
    assert answer.status == 200
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.header("x-sluicegate-target") == f"second/case-{number}"


def test_no_failover_after_the_first_byte(rig: Rig) -> None:
    """A stream that breaks off ends with an error event, is charged for what was delivered, and is not retried."""
    rig.first.behave(cut_after_pieces=4, tokens=Tokens(output=10))
    body = json.dumps({"model": "case-14", "messages": [], "stream": True}).encode()
    with RawClient(rig.sluice.port) as client:
        client.send(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = client.answer(to_head=True)
        rest = client.read_to_end()
    assert rest.count(b'"content":" token"') == 3
    assert b'"error"' in rest
    assert not rest.endswith(b"0\r\n\r\n")
    assert b"[DONE]" not in rest
    row = rig.sluice.row(head.header("x-request-id"))
    assert (row["outcome"], row["attempts"], row["estimated"], row["output_tokens"]) == ("upstream_failed", 1, 1, 3)
    assert len(rig.second.requests) == 0


@pytest.mark.parametrize(("number", "status"), [(15, 400), (16, 404), (17, 422)])
def test_callers_mistakes_pass_as_they_are(rig: Rig, number: int, status: int) -> None:
    error = b'{"error":{"message":"max_tokens is too large","type":"invalid_request_error","param":"max_tokens"}}'
    rig.first.behave(status=status, body=error, headers=((b"x-odd", b"1"),))
    answer = rig.post(f"case-{number}")
    assert (answer.status, answer.body, answer.header("x-odd")) == (status, error, "1")
    row = rig.sluice.row(answer.header("x-request-id"))
    assert (row["attempts"], row["status"], row["upstream_status"]) == (1, status, status)
    assert len(rig.second.requests) == 0


def test_last_429_passes_with_its_retry_after(rig: Rig) -> None:
    """The third attempt would be on the first target again, which has asked for seven seconds: it is not made."""
    rig.first.behave(status=429, headers=((b"retry-after", b"7"),))
    rig.second.behave(status=429, headers=((b"retry-after", b"9"),), body=b'{"error":{"message":"slow down"}}')
    answer = rig.post("case-18")
    assert (answer.status, answer.header("retry-after")) == (429, "9")
    assert json.loads(answer.body)["error"]["message"] == "slow down"
    assert (len(rig.first.requests), len(rig.second.requests)) == (1, 1)


def test_a_short_retry_after_is_waited_for(rig: Rig) -> None:
    """A lone target that asks for half a second gets it, and then the next attempt."""
    rig.first.behave(status=503, headers=((b"retry-after-ms", b"500"), (b"retry-after", b"1")), times=1)
    begun = time.monotonic()
    assert rig.post("lone").status == 200
    assert time.monotonic() - begun >= 0.5
    assert len(rig.first.requests) == 2


def test_upstream_500_everywhere_is_502(rig: Rig) -> None:
    rig.first.behave(status=500)
    rig.second.behave(status=503)
    answer = rig.post("case-19")
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (502, "upstream_failed")
    row = rig.sluice.row(answer.header("x-request-id"))
    assert (row["status"], row["attempts"], row["outcome"]) == (502, 3, "upstream_failed")
    assert len(rig.first.requests) + len(rig.second.requests) == 3


def test_silence_everywhere_is_504(rig: Rig) -> None:
    rig.first.behave(hang=True)
    rig.second.behave(hang=True)
    begun = time.monotonic()
    answer = rig.post("case-20")
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (504, "upstream_timeout")
    assert time.monotonic() - begun < 3


def test_refused_connection_moves_on(rig: Rig) -> None:
    answer = rig.post("dead-first")
    assert (answer.status, answer.header("x-sluicegate-target")) == (200, "second/dead-first")
    answer = rig.post("dead-only")
    assert answer.status == 502
    assert "dead" in json.loads(answer.body)["error"]["message"]


def test_retries_are_counted_over_all_targets(rig: Rig) -> None:
    rig.first.behave(status=500)
    assert rig.post("once").status == 502
    assert len(rig.second.requests) == 0
    answer = rig.post("lone")
    assert answer.status == 502
    assert rig.sluice.row(answer.header("x-request-id"))["attempts"] == 3
    assert len(rig.first.requests) == 1 + 3


def test_a_lone_target_recovers_within_its_retries(rig: Rig) -> None:
    rig.first.behave(status=503, times=1)
    rig.second.behave(status=503, times=1)
    answer = rig.post("case-21")
    assert answer.status == 200
    assert rig.sluice.row(answer.header("x-request-id"))["attempts"] == 3


def test_failing_target_cools_and_comes_back(rig: Rig) -> None:
    """After a few failures in a row callers no longer wait for it; once it answers again it is used again."""
    rig.first.behave(status=500)
    for _ in range(6):
        assert rig.post("case-22").status == 200
    assert len(rig.first.requests) < 6
    tried = len(rig.first.requests)
    assert rig.post("case-22").status == 200
    assert len(rig.first.requests) <= tried + 1
    rig.first.forget()
    deadline = time.monotonic() + 15
    while rig.post("case-22").header("x-sluicegate-target") != "first/case-22":
        assert time.monotonic() < deadline, "the target never came back"
        time.sleep(0.2)


def test_retry_after_sets_a_target_aside_for_so_long(rig: Rig) -> None:
    rig.first.behave(status=429, headers=((b"retry-after", b"2"),), times=1)
    assert rig.post("case-23").header("x-sluicegate-target") == "second/case-23"
    assert rig.post("case-23").header("x-sluicegate-target") == "second/case-23"
    assert len(rig.first.requests) == 1
    time.sleep(2.2)
    assert rig.post("case-23").header("x-sluicegate-target") == "first/case-23"


def test_a_refused_credential_is_set_aside(rig: Rig) -> None:
    """One of two credentials is revoked: callers notice nothing, and after the first refusal it is not used."""
    good, bad = "Bearer sk-many-secret-b", "Bearer sk-many-secret-a"
    rig.first.refuse_authorization(bad, status=401)
    for _ in range(8):
        assert rig.post("keys").status == 200
    used = Counter(request.header("authorization") for request in rig.first.requests)
    assert used[bad] == 1
    assert used[good] == 8


def test_all_credentials_refused_is_502_and_never_401(rig: Rig) -> None:
    rig.first.behave(status=401)
    rig.second.behave(status=401)
    answer = rig.post("case-24")
    assert answer.status == 502
    assert json.loads(answer.body)["error"]["code"] == "provider_credentials_refused"
    assert b"sk-first" not in answer.body


@pytest.mark.serial
def test_weights_are_kept(rig: Rig) -> None:
    """3 : 1 over 400 calls; 4.5 standard deviations of a fair draw are 39."""
    targets = Counter(rig.post("weighted").header("x-sluicegate-target") for _ in range(400))
    assert abs(targets["first/weighted"] - 300) <= 39


def test_weighted_falls_over_too(rig: Rig) -> None:
    rig.first.behave(status=500, model="weighted")
    assert {rig.post("weighted").status for _ in range(12)} == {200}
