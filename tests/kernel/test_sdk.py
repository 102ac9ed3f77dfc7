"""What it is all for: an unchanged program with the official SDK in a client's namespace is governed (issue: Done)."""

import time
from collections.abc import Iterator

import pytest

from tests.support.lab import Gateway, Lab, gateway
from tests.support.lab.lab import CLIENT4, ROUTER_OUT4
from tests.support.lab.world import HOST
from tests.support.provider import Provider

DIRECT, UPSTREAM = "10.9.2.2", "10.9.2.5"
CALLERS_KEY = "sk-the-programs-own"
YAML = f"""
providers:
  - name: openai
    dialect: openai
    base_url: http://{UPSTREAM}/v1
    credentials: [{{name: main, value: sk-companys}}]
routes:
  - {{name: gpt-small, targets: [{{provider: openai, model: gpt-5-mini}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: [gpt-small]}}]}}
limits:
  - {{name: burst, scope: {{app: indexer}}, metric: requests, window: day, at_most: 4}}
interception:
  - name: openai-direct
    destinations: {{hosts: [{HOST}], ports: [80]}}
    sources: {{cidrs: ["10.9.1.0/24"]}}
    on_failure: %s
    app: indexer
"""
PROGRAM = """
import json, sys, time
import openai
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0, timeout=3)
asked = {"model": "gpt-small", "messages": [{"role": "user", "content": "hello"}]}
said = []
for number in range(int(sys.argv[3])):
    begun = time.monotonic()
    try:
        if number == 1:
            stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
            usage = [chunk.usage for chunk in stream if chunk.usage][-1]
        else:
            usage = client.chat.completions.create(**asked).usage
        said.append({"tokens": usage.total_tokens})
    except openai.APIStatusError as error:
        said.append({"status": error.status_code, "class": type(error).__name__, "code": error.code,
                     "type": error.type, "retry_after": error.response.headers.get("retry-after"),
                     "message": str(error)})
    except openai.APIConnectionError as error:
        took_s = time.monotonic() - begun
        said.append({"class": type(error).__name__, "cause": repr(error.__cause__), "took_s": took_s})
print(json.dumps(said))
"""


def run_program(lab: Lab, requests: int) -> list[dict[str, object]]:
    said: list[dict[str, object]] = lab.client.python(PROGRAM, f"http://{HOST}/v1", CALLERS_KEY, str(requests))
    return said


@pytest.fixture(params=["open", "closed"])
def scene(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Gateway, Provider, Provider, str]]:
    with Lab() as lab:
        lab.hosts({HOST: DIRECT})
        direct = lab.keep(Provider(hosts=(DIRECT,), port=80, enter=lab.server.enter))
        upstream = lab.keep(Provider(hosts=(UPSTREAM,), port=80, enter=lab.server.enter))
        with gateway(lab, YAML % request.param) as running:
            yield lab, running, direct, upstream, request.param


def test_an_unchanged_program_is_governed_limited_and_survives_us(
    scene: tuple[Lab, Gateway, Provider, Provider, str],
) -> None:
    lab, running, direct, upstream, on_failure = scene
    said = run_program(lab, 5)
    assert [one.get("tokens") for one in said[:4]] == [18] * 4
    refused = said[4]
    assert (refused["status"], refused["class"]) == (429, "RateLimitError"), refused
    assert refused["code"] == "limit_exceeded" or refused["type"]
    assert refused["retry_after"]
    assert "burst" in str(refused["message"])
    assert direct.requests == []
    assert [request.header("authorization") for request in upstream.requests] == ["Bearer sk-companys"] * 4
    assert [request.json["model"] for request in upstream.requests] == ["gpt-5-mini"] * 4
    assert {request.peer for request in upstream.requests} == {ROUTER_OUT4}
    rows = running.wait_for_ledger(5)
    assert [row["app"] for row in rows] == ["indexer"] * 5
    assert [row["status"] for row in rows] == [200] * 4 + [429]
    assert sum(row["input_tokens"] + row["output_tokens"] for row in rows[:4]) == upstream.served.input_tokens + (
        upstream.served.output_tokens
    )
    assert {row["client_ip"] for row in rows} == {CLIENT4}

    running.kill_everything()
    time.sleep(4)
    said = run_program(lab, 1)
    if on_failure == "open":
        assert said == [{"tokens": 18}]
        assert direct.last.header("authorization") == f"Bearer {CALLERS_KEY}"
        assert direct.last.peer == CLIENT4
    else:
        assert said[0]["class"] == "APIConnectionError"
        assert "refused" in str(said[0]["cause"]).lower()
        assert float(str(said[0]["took_s"])) < 0.5
        assert direct.requests == []
    assert len(upstream.requests) == 4
