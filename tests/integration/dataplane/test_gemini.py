"""google-genai and raw HTTP on Gemini's paths: callers see Gemini, the provider our credential, the ledger all."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from tests.integration.dataplane.conftest import GEMINI_SECRET, KEY, STRANGER_KEY
from tests.integration.dataplane.test_sdks import COST, TEXT, TOKENS, check_row
from tests.support.live import Live
from tests.support.provider import Provider, Request

ROW = {"route": "flash", "target": "google/gemini-model", "provider": "google", "dialect": "gemini",
       "model": "gemini-model"}  # fmt: skip
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}


def client_of(sluice: Live, base: str = "", key: str = KEY, version: str | None = None) -> genai.Client:
    return genai.Client(
        api_key=key, http_options=types.HttpOptions(base_url=sluice.url + base, api_version=version, timeout=20_000)
    )


@pytest.fixture
def client(sluice: Live) -> Iterator[genai.Client]:
    with client_of(sluice) as made:
        yield made


def request_id(response: Any) -> str:
    return str(response.sdk_http_response.headers["x-request-id"])


def check_credential(request: Request) -> None:
    assert request.header("x-goog-api-key") == GEMINI_SECRET
    assert request.header("authorization") is None
    assert KEY.encode() not in request.head
    assert KEY.encode() not in request.body


def test_plain(sluice: Live, provider: Provider, client: genai.Client) -> None:
    provider.behave(tokens=TOKENS)
    answer = client.models.generate_content(model="flash", contents="Say hello.")
    assert answer.text == TEXT
    assert answer.usage_metadata
    assert answer.usage_metadata.thoughts_token_count == TOKENS.reasoning
    headers = answer.sdk_http_response.headers  # type: ignore[union-attr]
    assert headers["x-sluicegate-target"] == "google/gemini-model"  # type: ignore[index]
    assert float(headers["x-sluicegate-cost-usd"]) == pytest.approx(COST / 1e6)  # type: ignore[index]
    check_row(sluice.row(request_id(answer)), TOKENS, COST, stream=False, **ROW)
    assert provider.last.target == "/v1/models/gemini-model:generateContent"
    check_credential(provider.last)


@pytest.mark.parametrize("piece_bytes", [0, 1, 7, 4096])
def test_streamed(sluice: Live, provider: Provider, client: genai.Client, piece_bytes: int) -> None:
    provider.behave(tokens=TOKENS, piece_bytes=piece_bytes)
    chunks = list(client.models.generate_content_stream(model="flash", contents="Say hello."))
    assert "".join(chunk.text or "" for chunk in chunks) == TEXT
    check_row(sluice.row(request_id(chunks[0])), TOKENS, COST, stream=True, **ROW)
    assert provider.last.target == "/v1/models/gemini-model:streamGenerateContent?alt=sse"
    check_credential(provider.last)


def test_async(sluice: Live, provider: Provider) -> None:
    provider.behave(tokens=TOKENS)

    async def talk() -> tuple[Any, str]:
        client = client_of(sluice).aio
        answer = await client.models.generate_content(model="flash", contents="Say hello.")
        stream = await client.models.generate_content_stream(model="flash", contents="Say hello.")
        text = "".join([chunk.text or "" async for chunk in stream])
        await client.aclose()
        return answer, text

    answer, text = asyncio.run(talk())
    assert text == answer.text == TEXT
    check_row(sluice.row(request_id(answer)), TOKENS, COST, stream=False, **ROW)


@pytest.mark.parametrize(
    ("base", "version", "path"),
    [
        ("/gemini", None, "/v1/models/gemini-model:generateContent"),
        ("/gemini", "v1", "/v1/models/gemini-model:generateContent"),
        ("", "v1", "/v1/models/gemini-model:generateContent"),
        ("", "v1beta", "/v1beta/models/gemini-model:generateContent"),
    ],
)
def test_base_urls_and_versions(sluice: Live, provider: Provider, base: str, version: str | None, path: str) -> None:
    with client_of(sluice, base, version=version) as client:
        assert client.models.generate_content(model="models/org/flash", contents="Hi").text
        assert {"models/flash", "models/org/flash"} <= {model.name for model in client.models.list()}
    assert provider.last.target == path


def test_chat_and_functions(sluice: Live, provider: Provider, client: genai.Client) -> None:
    """Several turns (a role is called "model"), and a function's declaration and call, pass as they are."""
    chat = client.chats.create(model="flash")
    chat.send_message("Say hello.")
    chat.send_message("Again.")
    assert [content["role"] for content in provider.last.json["contents"]] == ["user", "model", "user"]
    declared = types.FunctionDeclaration(
        name="weather", parameters_json_schema={"type": "object", "properties": {"model": {"type": "string"}}}
    )
    answer = client.models.generate_content(
        model="flash",
        contents="Weather in Zürich?",
        config=types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])]),
    )
    assert answer.function_calls
    assert answer.function_calls[0].name == "weather"
    assert answer.function_calls[0].args == {"city": "Zürich", "usageMetadata": {}}
    row = sluice.row(request_id(answer))
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (11, 7, False)


def test_embeddings_and_counting(sluice: Live, provider: Provider, client: genai.Client) -> None:
    answer = client.models.embed_content(model="embedder", contents=["eins", "zwei"])
    assert answer.embeddings
    assert [one.values for one in answer.embeddings] == [[0.25, -0.5]] * 2
    assert provider.last.path == "/v1/models/embedding-model:batchEmbedContents"
    assert {one["model"] for one in provider.last.json["requests"]} == {"models/embedding-model"}
    check_credential(provider.last)
    row = sluice.row(request_id(answer))
    assert (row["output_tokens"], row["estimated"]) == (0, True)
    assert row["input_tokens"] > 0
    counted = client.models.count_tokens(model="flash", contents="Say hello.")
    assert counted.total_tokens == 11
    row = sluice.row(request_id(counted))
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd_micros"], row["estimated"]) == (0, 0, 0, False)


def test_models(sluice: Live, provider: Provider, client: genai.Client) -> None:
    names = {model.name for model in client.models.list()}
    assert {"models/flash", "models/org/flash", "models/chat"} <= names
    assert "models/crm" not in names
    model = client.models.get(model="org/flash")
    assert model.name == "models/org/flash"
    assert "generateContent" in (model.supported_actions or [])
    with pytest.raises(errors.ClientError) as caught:
        client.models.get(model="nobody")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    assert provider.requests == []


REFUSALS = [(KEY + "x", "flash", 401, "UNAUTHENTICATED"), (STRANGER_KEY, "flash", 403, "PERMISSION_DENIED"),
            (KEY, "nobody", 404, "NOT_FOUND"), (KEY, "sonnet", 400, "INVALID_ARGUMENT")]  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("key", "model", "code", "status"), REFUSALS)
def test_refusals(
    sluice: Live, provider: Provider, key: str, model: str, code: int, status: str, streamed: bool
) -> None:
    with client_of(sluice, key=key) as client, pytest.raises(errors.ClientError) as caught:
        if streamed:
            list(client.models.generate_content_stream(model=model, contents="Hi"))
        else:
            client.models.generate_content(model=model, contents="Hi")
    assert (caught.value.code, caught.value.status) == (code, status)
    assert caught.value.message
    if code == 404:
        assert "flash" in caught.value.details["error"]["sluicegate"]["routes_allowed"]
    assert provider.requests == []


def test_a_failing_provider(sluice: Live, provider: Provider, client: genai.Client) -> None:
    provider.behave(status=500)
    with pytest.raises(errors.ServerError) as caught:
        client.models.generate_content(model="flash", contents="Hi")
    assert (caught.value.code, caught.value.status) == (502, "UNAVAILABLE")
    assert caught.value.details["error"]["sluicegate"]["targets_tried"] == 2
    provider.forget()
    provider.behave(status=400)
    with pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model="flash", contents="Hi")
    assert (refused.value.code, refused.value.message) == (400, "asked to fail")


def test_an_error_in_mid_stream(sluice: Live, provider: Provider, client: genai.Client) -> None:
    provider.behave(tokens=TOKENS, cut_after_pieces=3)
    seen: list[Any] = []
    with pytest.raises(errors.ServerError) as caught:
        seen.extend(client.models.generate_content_stream(model="flash", contents="Hi"))
    assert len(seen) == 3
    assert (caught.value.code, caught.value.status) == (502, "UNAVAILABLE")
    row = sluice.row(request_id(seen[0]))
    assert (row["outcome"], row["input_tokens"]) == ("upstream_failed", TOKENS.input)
    assert row["output_tokens"] == 3 + TOKENS.reasoning


# ---- without an SDK -----------------------------------------------------------------------------------------------

KEYS = {
    "header": ({"x-goog-api-key": KEY}, ""),
    "bearer": ({"authorization": f"Bearer {KEY}"}, ""),
    "query": ({}, f"?key={KEY}"),
    "query, spelled": ({"x-goog-api-key": KEY}, f"?%6bey={KEY}"),
    "everywhere": ({"x-goog-api-key": KEY, "authorization": f"Bearer {KEY}", "x-api-key": KEY}, f"?key={KEY}"),
}


@pytest.mark.parametrize("path", ["/v1beta", "/v1", "/gemini/v1beta", "/gemini"])
@pytest.mark.parametrize("how", KEYS)
def test_the_key_never_goes_on(sluice: Live, provider: Provider, how: str, path: str) -> None:
    headers, query = KEYS[how]
    url = f"{sluice.url}{path}/models/flash:generateContent{query}"
    answer = httpx2.post(url, headers=headers, json=CONTENTS)
    assert answer.status_code == 200
    check_credential(provider.last)
    assert "?" not in provider.last.target
    assert provider.last.body == json.dumps(CONTENTS, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("name", ["org/flash", "org%2Fflash", "org%2fflash", "models%2Forg%2Fflash"])
@pytest.mark.parametrize("colon", [":", "%3A"])
def test_names_in_the_path(sluice: Live, provider: Provider, name: str, colon: str) -> None:
    path = f"/v1beta/{name}" if name.startswith("models%2F") else f"/v1beta/models/{name}"
    answer = httpx2.post(f"{sluice.url}{path}{colon}generateContent?key={KEY}", json=CONTENTS)
    if name.startswith("models%2F"):
        assert answer.status_code == 404  # the kind of resource is part of the path
        assert answer.json()["error"]["status"] == "NOT_FOUND"
        return
    assert answer.status_code == 200
    assert provider.last.target == "/v1beta/models/gemini-model:generateContent"


@pytest.mark.parametrize("piece_bytes", [0, 1, 5, 300])
def test_array(sluice: Live, provider: Provider, piece_bytes: int) -> None:
    provider.behave(tokens=TOKENS, piece_bytes=piece_bytes)
    url = f"{sluice.url}/v1beta/models/flash:streamGenerateContent"
    answer = httpx2.post(url, headers={"x-goog-api-key": KEY}, json=CONTENTS)
    assert answer.headers["content-type"].startswith("application/json")
    told = answer.json()
    assert "".join(one["candidates"][0]["content"]["parts"][0]["text"] for one in told) == TEXT
    check_row(sluice.row(answer.headers["x-request-id"]), TOKENS, COST, stream=True, **ROW)


def test_an_array_that_breaks_off_ends_with_an_error(sluice: Live, provider: Provider) -> None:
    """It is still JSON: what came, and an error as its last element."""
    provider.behave(tokens=TOKENS, cut_after_pieces=2)
    received = b""
    with httpx2.stream(
        "POST", f"{sluice.url}/v1beta/models/flash:streamGenerateContent?key={KEY}", json=CONTENTS
    ) as answer:
        identity = answer.headers["x-request-id"]
        with pytest.raises(httpx2.RemoteProtocolError):
            for piece in answer.iter_raw():
                received += piece
    told = json.loads(received)
    assert [("error" in one) for one in told] == [False, False, True]
    assert told[-1]["error"]["code"] == 502
    row = sluice.row(identity)
    assert (row["outcome"], row["output_tokens"]) == ("upstream_failed", 2 + TOKENS.reasoning)


@pytest.mark.parametrize("query", ["?alt=sse", ""])
def test_a_client_that_leaves_cancels_the_upstream(sluice: Live, provider: Provider, query: str) -> None:
    provider.behave(tokens=TOKENS, gap_s=0.2)
    with httpx2.stream(
        "POST", f"{sluice.url}/v1beta/models/flash:streamGenerateContent{query}",
        headers={"x-goog-api-key": KEY}, json=CONTENTS,
    ) as answer:  # fmt: skip
        identity = answer.headers["x-request-id"]
        next(answer.iter_raw())
    assert provider.last.aborted.wait(2)
    row = sluice.row(identity)
    assert row["outcome"] == "client_gone"
    assert row["input_tokens"] == TOKENS.input
    assert 0 < row["output_tokens"] < TOKENS.output


def test_shared_paths(sluice: Live, provider: Provider) -> None:
    """Who speaks is told by the key's place, or by what only Gemini has."""
    bearer = {"authorization": f"Bearer {KEY}"}
    models = f"{sluice.url}/v1/models"
    assert "models" in httpx2.get(models, headers={"x-goog-api-key": KEY}).json()
    assert "models" in httpx2.get(f"{models}?key={KEY}").json()
    assert httpx2.get(models, headers=bearer).json()["object"] == "list"
    assert "has_more" in httpx2.get(models, headers={"x-api-key": KEY, "anthropic-version": "2023-06-01"}).json()
    assert httpx2.get(f"{models}/flash?key={KEY}").json()["name"] == "models/flash"
    assert httpx2.get(f"{models}/flash", headers=bearer).json()["object"] == "model"
    unknown = httpx2.get(f"{sluice.url}/v1beta/files", headers=bearer)
    assert (unknown.status_code, unknown.json()["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [
        {**CONTENTS, "model": "models/other"},
        {**CONTENTS, "model": 5},
        {**CONTENTS, "generationConfig": {"maxOutputTokens": 5}, "generation_config": {"maxOutputTokens": 6}},
        {**CONTENTS, "generationConfig": {"maxOutputTokens": 5, "max_output_tokens": 6}},
        {**CONTENTS, "generationConfig": {"maxOutputTokens": -1}},
        {**CONTENTS, "generationConfig": 5},
        b'{"contents":[],"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":900}}',
        b"[]",
        b"",
    ],
)
def test_bodies_that_could_be_read_in_two_ways(sluice: Live, provider: Provider, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"{sluice.url}/v1beta/models/flash:generateContent"
    answer = httpx2.post(url, headers={"x-goog-api-key": KEY}, content=content)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert provider.requests == []


def test_a_large_batch(sluice: Live, provider: Provider) -> None:
    """Beyond what is kept in memory: each request's model is renamed on its way from the file."""
    text = "Wörter über Wörter. " * 500
    requests = [{"model": "models/embedder", "content": {"parts": [{"text": text}]}} for _ in range(150)]
    answer = httpx2.post(
        f"{sluice.url}/v1beta/models/embedder:batchEmbedContents",
        headers={"x-goog-api-key": KEY}, content=json.dumps({"requests": requests}).encode(),
    )  # fmt: skip
    assert len(answer.json()["embeddings"]) == 150
    assert provider.last.body_bytes > 1024 * 1024
    assert provider.last.json == {"requests": [{**one, "model": "models/embedding-model"} for one in requests]}
