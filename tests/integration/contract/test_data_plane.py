"""contract.md, "Data plane": paths, prefixes, keys, errors in the caller's dialect, headers of every answer."""

import re

import anthropic
import httpx2
import openai
import pytest

from tests.integration.contract.conftest import KEY, MESSAGES, OTHER_KEY, Caller
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.raw import RawClient
from tests.support.shapes import Tokens

OPENAI_CALLS = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/responses": {"input": "hi"},
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": ["hi", "you"]},
    "/v1/images/generations": {"prompt": "a cat"},
    "/v1/audio/speech": {"input": "hi", "voice": "alloy"},
    "/v1/moderations": {"input": "hi"},
}
ANTHROPIC_CALLS = {"/v1/messages": {"max_tokens": 9}, "/v1/messages/count_tokens": {}}


@pytest.mark.parametrize("prefix", ["", "/openai"])
@pytest.mark.parametrize("path", OPENAI_CALLS)
def test_openai_paths(ask: Caller, provider: Provider, path: str, prefix: str) -> None:
    answer = ask.post(prefix + path, {"model": "chat", **OPENAI_CALLS[path]})
    assert answer.status_code == 200, answer.text
    assert provider.last.path == path
    assert provider.last.json["model"] == "up-model"
    assert provider.last.header("authorization") == "Bearer sk-upstream-secret"
    row = ask.row(answer)
    assert (row["dialect"], row["app"], row["key"], row["team"]) == ("openai", "indexer", "ci", "search")


@pytest.mark.parametrize("prefix", ["", "/anthropic"])
@pytest.mark.parametrize("path", ANTHROPIC_CALLS)
@pytest.mark.parametrize("shown", ["x-api-key", "bearer"])
def test_anthropic_paths(ask: Caller, provider: Provider, path: str, prefix: str, shown: str) -> None:
    body = {"model": "sonnet", "messages": MESSAGES, **ANTHROPIC_CALLS[path]}
    headers = {"x-api-key": KEY} if shown == "x-api-key" else {"authorization": f"Bearer {KEY}"}
    answer = ask.client.post(prefix + path, json=body, headers={**headers, "anthropic-version": "2023-06-01"})
    assert answer.status_code == 200, answer.text
    assert provider.last.path == path
    assert provider.last.header("x-api-key") == "sk-ant-upstream"
    assert provider.last.header("authorization") is None
    assert provider.last.header("anthropic-version") == "2023-06-01"
    assert ask.row(answer)["dialect"] == "anthropic"


def test_a_base_url_works_without_its_version(ask: Caller, provider: Provider) -> None:
    assert ask.chat("bare").status_code == 200
    assert provider.last.path == "/v1/chat/completions"


def test_models_in_two_shapes(ask: Caller, sluice: Live) -> None:
    in_openai = ask.get("/v1/models", OTHER_KEY).json()
    assert in_openai["object"] == "list"
    assert [model["id"] for model in in_openai["data"]] == ["chat", "sonnet"]
    assert all(model["object"] == "model" for model in in_openai["data"])
    in_anthropic = ask.get("/v1/models", OTHER_KEY, anthropic_version="2023-06-01").json()
    assert [model["id"] for model in in_anthropic["data"]] == ["chat", "sonnet"]
    assert {"has_more", "first_id", "last_id"} <= set(in_anthropic)
    assert all(model["type"] == "model" for model in in_anthropic["data"])
    assert ask.get("/openai/v1/models", anthropic_version="2023-06-01").json()["object"] == "list"
    assert "first_id" in ask.get("/anthropic/v1/models").json()
    assert ask.get("/v1/models/chat").json()["id"] == "chat"
    with openai.OpenAI(base_url=sluice.url + "/v1", api_key=OTHER_KEY, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["chat", "sonnet"]
    with anthropic.Anthropic(base_url=sluice.url, api_key=OTHER_KEY, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["chat", "sonnet"]


def test_metadata_is_neither_limited_nor_in_the_ledger(ask: Caller, sluice: Live) -> None:
    used = ask.state("by-global")["used"]
    answers = [ask.get("/v1/models"), ask.get("/v1/models/chat"), ask.get("/v1/models/nobody")]
    assert [answer.status_code for answer in answers] == [200, 200, 404]
    after = ask.row(ask.chat())
    assert after["outcome"] == "completed"
    sluice.until(lambda: ask.state("by-global")["used"] == used + 1, 2)
    for answer in answers:
        assert answer.headers["x-request-id"]
        assert sluice.api.get("/api/v1/ledger/" + answer.headers["x-request-id"]).status_code == 404


@pytest.mark.parametrize("key", [None, "sk-unknown"], ids=["none", "bad"])
def test_401_in_both_dialects(ask: Caller, provider: Provider, key: str | None) -> None:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    refused = ask.client.post("/v1/chat/completions", json={"model": "chat", "messages": MESSAGES}, headers=headers)
    assert refused.status_code == 401
    assert refused.headers["content-type"].startswith("application/json")
    error = refused.json()["error"]
    assert error["code"] == "invalid_api_key"
    assert {"message", "type", "param", "code"} <= set(error)
    assert refused.headers["x-request-id"]
    headers = {} if key is None else {"x-api-key": key}
    refused = ask.client.post("/v1/messages", json={"model": "sonnet", "messages": MESSAGES}, headers=headers)
    assert refused.status_code == 401
    assert refused.json()["type"] == "error"
    assert refused.json()["error"]["type"] == "authentication_error"
    assert refused.json()["error"]["message"]
    assert not provider.requests


def test_403_and_404_name_what_is_allowed(ask: Caller) -> None:
    forbidden = ask.chat("hidden", OTHER_KEY)
    assert forbidden.status_code == 403
    assert ask.row(forbidden)["status"] == 403
    unknown = ask.chat("nobody", OTHER_KEY)
    assert unknown.status_code == 404
    assert "chat" in unknown.json()["error"]["message"]
    assert "sonnet" in unknown.json()["error"]["message"]
    assert "hidden" not in unknown.json()["error"]["message"]
    assert ask.row(unknown)["status"] == 404
    assert ask.row(unknown)["outcome"] == "refused"
    in_anthropic = ask.message("nobody", OTHER_KEY)
    assert in_anthropic.status_code == 404
    assert in_anthropic.json()["error"]["type"] == "not_found_error"
    assert "sonnet" in in_anthropic.json()["error"]["message"]
    assert ask.message("hidden", OTHER_KEY).json()["error"]["type"] == "permission_error"


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/threads", "/v1/messages/what", "/openai/v1/what", "/v1/"])
def test_an_unlisted_path_is_a_404_in_its_dialect(ask: Caller, provider: Provider, path: str) -> None:
    answer = ask.post(path, {"model": "chat"})
    assert answer.status_code == 404
    told = answer.json()
    assert path in told["error"]["message"]
    assert told.get("type") == ("error" if "messages" in path else None)
    assert not provider.requests, "an HTTP route by path shadows the data plane"


def test_413_in_both_dialects(ask: Caller, sluice: Live) -> None:
    head = "POST {} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n"
    for path in ("/v1/chat/completions", "/v1/messages", "/files/x"):
        with RawClient(sluice.port) as client:
            client.send(head.format(path, KEY, 101 * 1024 * 1024).encode())
            answer = client.answer()
        assert answer.status == 413
        assert b'"error"' in answer.body
        assert sluice.row(answer.header("x-request-id"))["status"] == 413


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages":[]}', b'{"model":7}', b"\xff\xfe"])
def test_400_in_both_dialects(ask: Caller, provider: Provider, body: bytes) -> None:
    told = ask.post("/v1/chat/completions", body)
    assert told.status_code == 400, told.text
    assert told.json()["error"]["type"] == "invalid_request_error"
    told = ask.post("/v1/messages", body)
    assert told.status_code == 400
    assert told.json()["error"]["type"] == "invalid_request_error"
    assert not provider.requests


def test_a_route_without_a_target_of_the_dialect_is_dialect_unsupported(ask: Caller) -> None:
    refused = ask.chat("sonnet")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "dialect_unsupported"
    assert ask.chat("mixed").headers["x-sluicegate-target"] == "up/mixed-b"


def test_every_answer_carries_the_headers(ask: Caller, provider: Provider) -> None:
    answer = ask.chat(headers={"x-request-id": "mine-42"})
    assert answer.headers["x-sluicegate-route"] == "chat"
    assert answer.headers["x-sluicegate-target"] == "up/up-model"
    assert re.fullmatch(r"0\.000025", answer.headers["x-sluicegate-cost-usd"])  # 11 × 1 + 7 × 2 micro-USD
    assert answer.headers["x-request-id"] != "mine-42"
    row = ask.row(answer)
    assert row["client_request_id"] == "mine-42"
    assert row["id"] == answer.headers["x-request-id"]
    assert provider.last.header("x-request-id") is None
    refused = ask.chat("nobody", headers={"x-request-id": "mine-43"})
    assert ask.row(refused)["client_request_id"] == "mine-43"
    streamed = ask.chat(stream=True)
    assert streamed.headers["x-sluicegate-route"] == "chat"
    assert streamed.headers["x-sluicegate-target"] == "up/up-model"


def test_the_cost_formula_and_the_price_keys(ask: Caller, provider: Provider) -> None:
    provider.behave(tokens=Tokens(input=1001, cached=400, output=503, reasoning=77))
    answer = ask.chat()
    micros = (601 * 1_000_000 + 400 * 500_000 + 426 * 2_000_000 + 77 * 3_000_000 + 500_000) // 1_000_000
    assert answer.headers["x-sluicegate-cost-usd"] == f"0.{micros:06d}"
    row = ask.row(answer)
    assert row["cost_usd_micros"] == micros
    names = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    assert tuple(row[name] for name in names) == (1001, 400, 503, 77)
    provider.forget()
    provider.behave(tokens=Tokens(input=5, output=2))
    assert ask.row(ask.chat("keys"))["cost_usd_micros"] == (7 * 333_333 + 500_000) // 1_000_000 + 7  # per_request
    provider.forget()
    provider.behave(tokens=Tokens(input=1000, cached=300, cache_written=200, output=50))
    row = ask.row(ask.message())
    assert (row["input_tokens"], row["cached_tokens"], row["cache_write_tokens"]) == (1000, 300, 200)
    assert row["cost_usd_micros"] == (500 * 3_000_000 + 300 * 300_000 + 200 * 3_750_000 + 50 * 15_000_000) // 1_000_000


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_streams_are_metered(ask: Caller, provider: Provider, path: str) -> None:
    provider.behave(tokens=Tokens(input=40, output=5, cached=10))
    body = {"model": "sonnet" if "messages" in path else "chat", "stream": True, "max_tokens": 50}
    body |= {"input": "hi"} if "responses" in path else {"messages": MESSAGES}
    answer = ask.post(path, body)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    if path == "/v1/chat/completions":
        assert '"usage"' not in answer.text, "usage that the caller had not asked for"
    row = ask.row(answer)
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (40, 5, 10)
    assert (row["estimated"], row["outcome"]) == (False, "completed")
    assert row["ttft_ms"] is not None
    assert row["ttft_ms"] <= row["latency_ms"]


def test_what_the_caller_asked_for_passes_byte_for_byte(ask: Caller, provider: Provider) -> None:
    body = b'{ "model" : "chat",  "messages":[{"role":"user","content":"\\u00e9\\/"}], "x_new_field":{"a":[1.0,2e3]} }'
    provider.behave(body=b'{"id":"1",  "unknown":[ 1.50 ],"usage":{"prompt_tokens":1,"completion_tokens":1}}')
    answer = ask.post("/v1/chat/completions", body)
    assert provider.last.body == body.replace(b'"chat"', b'"up-model"')
    assert answer.content == b'{"id":"1",  "unknown":[ 1.50 ],"usage":{"prompt_tokens":1,"completion_tokens":1}}'


def test_sdk_errors_are_of_the_right_class(sluice: Live, provider: Provider) -> None:
    with openai.OpenAI(base_url=sluice.url + "/v1", api_key="sk-no", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as unknown:
            client.chat.completions.create(model="chat", messages=MESSAGES)
        assert unknown.value.request_id
        assert unknown.value.code == "invalid_api_key"
    with openai.OpenAI(base_url=sluice.url + "/v1", api_key=OTHER_KEY, max_retries=0) as client:
        with pytest.raises(openai.PermissionDeniedError):
            client.chat.completions.create(model="hidden", messages=MESSAGES)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nobody", messages=MESSAGES)
    with anthropic.Anthropic(base_url=sluice.url, api_key="sk-no", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError):
            client.messages.create(model="sonnet", max_tokens=5, messages=MESSAGES)
    with anthropic.Anthropic(base_url=sluice.url, auth_token=OTHER_KEY, max_retries=0) as client:
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="nobody", max_tokens=5, messages=MESSAGES)
        assert client.messages.create(model="sonnet", max_tokens=5, messages=MESSAGES).usage.output_tokens == 7


def test_the_ledger_row_has_every_field(ask: Caller) -> None:
    named = """id started_at team app key route target dialect model status input_tokens cached_tokens output_tokens
        cost_usd_micros latency_ms ttft_ms upstream_status attempts outcome reasoning_tokens cache_write_tokens
        estimated overrun client_request_id process user container"""
    row = ask.row(ask.chat(max_tokens=20))
    assert set(named.split()) <= set(row)
    assert (row["model"], row["route"], row["target"]) == ("up-model", "chat", "up/up-model")
    assert (row["status"], row["upstream_status"], row["attempts"]) == (200, 200, 1)
    assert row["started_at"].endswith("Z")


def test_head_get_and_other_methods(ask: Caller) -> None:
    got = ask.client.get("/v1/chat/completions", headers={"authorization": f"Bearer {KEY}"})
    assert got.status_code in (404, 405)
    assert "error" in got.json()
    assert httpx2.head(ask.client.base_url.join("/v1/models"), headers={"x-api-key": KEY}).status_code == 200
