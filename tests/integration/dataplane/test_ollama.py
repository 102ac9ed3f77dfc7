"""The ollama SDK and raw HTTP on Ollama's paths: callers see Ollama, the provider our credential, the ledger all."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import ollama
import pytest

from tests.integration.dataplane.conftest import KEY, OLLAMA_SECRET, STRANGER_KEY
from tests.integration.dataplane.test_sdks import TEXT, check_row
from tests.support.live import Live
from tests.support.provider import Provider, Request
from tests.support.shapes import Tokens

TOKENS = Tokens(input=120, output=9)
COST = 120 * 1 + 9 * 2
MODEL = "gemma3:270m"
ROW = {"route": "gemma", "target": f"local/{MODEL}", "provider": "local", "dialect": "ollama", "model": MODEL}
MESSAGES = [{"role": "user", "content": "Say hello."}]


def headers(key: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(params=["", "/ollama"])
def client(sluice: Live, request: pytest.FixtureRequest) -> Iterator[ollama.Client]:
    with ollama.Client(host=sluice.url + request.param, headers=headers(), timeout=20) as made:
        yield made


def post(sluice: Live, path: str, body: Any, key: str = KEY) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(sluice.url + path, headers=headers(key), content=content, timeout=20)


def check_credential(request: Request) -> None:
    assert request.header("authorization") == f"Bearer {OLLAMA_SECRET}"
    assert KEY.encode() not in request.head


def test_chat(sluice: Live, provider: Provider, client: ollama.Client) -> None:
    provider.behave(tokens=TOKENS)
    answer = client.chat(model="gemma", messages=MESSAGES)
    assert answer.message.content == TEXT
    assert (answer.prompt_eval_count, answer.eval_count) == (120, 9)
    assert provider.last.json["model"] == MODEL
    assert provider.last.target == "/api/chat"
    check_credential(provider.last)
    assert (
        "".join(part.message.content or "" for part in client.chat(model="gemma", messages=MESSAGES, stream=True))
        == TEXT
    )


def test_generate(sluice: Live, provider: Provider, client: ollama.Client) -> None:
    provider.behave(tokens=TOKENS, piece_bytes=11)
    assert client.generate(model="gemma", prompt="Say hello.").response == TEXT
    parts = list(client.generate(model="gemma", prompt="Say hello.", stream=True))
    assert "".join(part.response for part in parts) == TEXT
    assert (parts[-1].done, parts[-1].eval_count) == (True, 9)


def test_async(sluice: Live, provider: Provider) -> None:
    provider.behave(tokens=TOKENS)

    async def talk() -> str:
        async with ollama.AsyncClient(host=sluice.url, headers=headers()) as client:
            parts = await client.chat(model="gemma", messages=MESSAGES, stream=True)
            return "".join([part.message.content or "" async for part in parts])

    assert asyncio.run(talk()) == TEXT


def test_embed_list_and_show(sluice: Live, provider: Provider, client: ollama.Client) -> None:
    assert client.embed(model="gemma", input=["eins", "zwei"]).embeddings == [[0.25, -0.5]] * 2
    names = {model.model for model in client.list().models}
    assert {"gemma", "chat"} <= names
    assert "crm" not in names
    assert client.show("gemma").capabilities == ["completion"]
    assert provider.last.json["model"] == MODEL
    assert provider.last.path == "/api/show"


def test_errors(sluice: Live, provider: Provider, client: ollama.Client) -> None:
    for model, status in (("nobody", 404), ("sonnet", 400)):
        for stream in (False, True):
            with pytest.raises(ollama.ResponseError) as caught:
                list(client.chat(model=model, messages=MESSAGES, stream=stream))
            assert caught.value.status_code == status
            assert model in caught.value.error
    assert provider.requests == []
    provider.behave(status=500)
    with pytest.raises(ollama.ResponseError) as failed:
        client.chat(model="gemma", messages=MESSAGES)
    assert failed.value.status_code == 502
    assert "after 2 attempts" in failed.value.error


def test_an_error_in_mid_stream(sluice: Live, provider: Provider, client: ollama.Client) -> None:
    provider.behave(tokens=TOKENS, cut_after_pieces=3)
    seen: list[Any] = []
    with pytest.raises(ollama.ResponseError, match="closed the connection in mid-answer"):
        seen.extend(client.chat(model="gemma", messages=MESSAGES, stream=True))
    assert len(seen) == 3


# ---- without the SDK, which hides the answer's head ------------------------------------------------------------

CALLS = [("/api/chat", {"messages": MESSAGES}), ("/api/generate", {"prompt": "Say hello."})]


@pytest.mark.parametrize("piece_bytes", [0, 1, 7, 4096])
@pytest.mark.parametrize(("path", "fields"), CALLS)
def test_streams_are_the_default(sluice: Live, provider: Provider, path: str, fields: Any, piece_bytes: int) -> None:
    provider.behave(tokens=TOKENS, piece_bytes=piece_bytes)
    answer = post(sluice, path, {"model": "gemma", **fields})
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert [line["done"] for line in lines] == [False] * 9 + [True]
    check_row(sluice.row(answer.headers["x-request-id"]), TOKENS, COST, stream=True, **ROW)


@pytest.mark.parametrize(("path", "fields"), CALLS)
def test_plain(sluice: Live, provider: Provider, path: str, fields: Any) -> None:
    provider.behave(tokens=TOKENS)
    body = json.dumps({"stream": False, "model": "gemma", "keep_alive": 1.50, **fields}).encode()
    answer = post(sluice, path, body)
    assert answer.json()["done"] is True
    assert float(answer.headers["x-sluicegate-cost-usd"]) == pytest.approx(COST / 1e6)
    check_row(sluice.row(answer.headers["x-request-id"]), TOKENS, COST, stream=False, **ROW)
    assert provider.last.body == body.replace(b'"gemma"', f'"{MODEL}"'.encode())


def test_embeddings_are_metered(sluice: Live, provider: Provider) -> None:
    answer = post(sluice, "/api/embed", {"model": "gemma", "input": "eins"})
    row = sluice.row(answer.headers["x-request-id"])
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd_micros"], row["estimated"]) == (11, 0, 11, False)
    shown = post(sluice, "/api/show", {"model": "gemma"})
    row = sluice.row(shown.headers["x-request-id"])
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd_micros"], row["estimated"]) == (0, 0, 0, False)


def test_what_breaks_off_is_estimated(sluice: Live, provider: Provider) -> None:
    provider.behave(tokens=TOKENS, cut_after_pieces=4)
    with httpx2.stream("POST", sluice.url + "/api/chat", headers=headers(), json={"model": "gemma", "messages": MESSAGES}) as answer:  # fmt: skip  # noqa: E501
        identity = answer.headers["x-request-id"]
        lines = []
        with pytest.raises(httpx2.RemoteProtocolError):
            lines += list(answer.iter_lines())
    row = sluice.row(identity)
    assert (row["outcome"], row["estimated"], row["output_tokens"]) == ("upstream_failed", True, 4)
    assert row["input_tokens"] > 0


def test_a_client_that_leaves_cancels_the_upstream(sluice: Live, provider: Provider) -> None:
    provider.behave(tokens=TOKENS, gap_s=0.2)
    with httpx2.stream("POST", sluice.url + "/api/chat", headers=headers(), json={"model": "gemma", "messages": MESSAGES}) as answer:  # fmt: skip  # noqa: E501
        identity = answer.headers["x-request-id"]
        next(answer.iter_raw())
    assert provider.last.aborted.wait(2)
    row = sluice.row(identity)
    assert (row["outcome"], row["estimated"]) == ("client_gone", True)
    assert 0 < row["output_tokens"] < TOKENS.output


def test_version_and_tags(sluice: Live, provider: Provider) -> None:
    for prefix in ("", "/ollama"):
        version = httpx2.get(f"{sluice.url}{prefix}/api/version", headers=headers())
        assert [int(part) for part in version.json()["version"].split(".")] >= [0, 12, 0]
        tags = httpx2.get(f"{sluice.url}{prefix}/api/tags", headers=headers()).json()["models"]
        assert {"gemma", "chat"} <= {model["name"] for model in tags}
    assert [model["name"] for model in httpx2.get(f"{sluice.url}/api/tags", headers=headers(STRANGER_KEY)).json()["models"]] == ["chat"]  # fmt: skip  # noqa: E501
    assert provider.requests == []


def test_refusals(sluice: Live, provider: Provider) -> None:
    body = {"model": "gemma", "messages": MESSAGES}
    for key, status in ((KEY + "x", 401), (STRANGER_KEY, 403)):
        answer = post(sluice, "/api/chat", body, key)
        assert answer.status_code == status
        assert set(answer.json()) == {"error", "sluicegate"}
        assert isinstance(answer.json()["error"], str)
    assert httpx2.get(f"{sluice.url}/api/version").status_code == 401
    unknown = post(sluice, "/ollama/api/pull", body)
    assert (unknown.status_code, isinstance(unknown.json()["error"], str)) == (404, True)
    assert httpx2.get(f"{sluice.url}/api/chat", headers=headers()).status_code == 404
    for wrong in ({"options": 5}, {"options": {"num_predict": "x"}}, {"stream": "no"}, {"model": None}):
        assert post(sluice, "/api/chat", {**body, **wrong}).status_code == 400
    twice = b'{"model":"gemma","messages":[],"options":{"num_predict":1,"num_predict":9}}'
    assert post(sluice, "/api/chat", twice).status_code == 400
    assert provider.requests == []


def test_our_own_api_stays(sluice: Live) -> None:
    assert httpx2.get(f"{sluice.url}/api/openapi.json", timeout=30).json()["openapi"]
    assert httpx2.get(f"{sluice.url}/api/v1/routes").status_code == 401
    assert httpx2.get(f"{sluice.url}/api/docs").status_code == 200


def test_an_image_beyond_memory(sluice: Live, provider: Provider) -> None:
    """A body in a file, two images in it: what is reserved stays far below a token a byte."""
    image = "iVBORw0KGgo" + "A" * 1_200_000
    message = {"role": "user", "content": "What is it?", "images": [image, image]}
    answer = post(sluice, "/api/chat", {"messages": [message], "model": "gemma"})
    assert answer.status_code == 200
    assert provider.last.json == {"messages": [message], "model": MODEL}
