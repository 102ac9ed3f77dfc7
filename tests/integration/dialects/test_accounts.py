"""Files, batches, uploads and stored responses through the official SDKs: passed to the right account, and recorded."""

import io
import itertools
import json
from collections.abc import Iterator

import anthropic
import httpx2
import openai
import pytest
from mistralai.client import Mistral

from tests.integration.dialects.conftest import (
    ANTHROPIC_SECRET,
    FEW_KEY,
    KEY,
    MISTRAL_SECRET,
    OPENAI_SECRET,
    SPARE_SECRET,
    NewRows,
)
from tests.support import live
from tests.support.live import Live
from tests.support.processes import Process
from tests.support.provider import Provider
from tests.support.raw import RawClient

LINES = b'{"custom_id":"first","method":"POST","url":"/v1/chat/completions","body":{"model":"up-model"}}\n'
MB = 1024 * 1024


@pytest.fixture(params=["/v1", "/openai/v1"])
def client(request: pytest.FixtureRequest, sluice: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sluice.url + request.param, api_key=KEY, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def claude(sluice: Live) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=sluice.url, api_key=KEY, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def mistral(sluice: Live) -> Iterator[Mistral]:
    with Mistral(api_key=KEY, server_url=sluice.url, timeout_ms=20_000) as made:
        yield made


def test_openai_files_and_batches(provider: Provider, client: openai.OpenAI, new_rows: NewRows) -> None:
    made = client.files.create(file=("a.jsonl", LINES), purpose="batch")
    assert provider.last.path == "/v1/files"
    assert provider.last.header("authorization") == f"Bearer {OPENAI_SECRET}"
    assert KEY.encode() not in provider.last.head
    assert made.bytes == len(LINES)
    assert [one.id for one in client.files.list(limit=10)] == [made.id]
    assert provider.last.target == "/v1/files?limit=10"
    assert client.files.retrieve(made.id).filename == "a.jsonl"
    assert client.files.content(made.id).read() == LINES
    batch = client.batches.create(input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert client.batches.retrieve(batch.id).id == batch.id
    assert [one.id for one in client.batches.list()] == [batch.id]
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match="No such object"):
        client.files.retrieve(made.id)
    rows = new_rows.wait(10)
    assert {(row["app"], row["key"], row["dialect"]) for row in rows} == {("indexer", "ci", "openai")}
    assert [row["status"] for row in rows] == [200] * 9 + [404]
    assert {row["outcome"] for row in rows} == {"completed"}
    assert {row["model"] for row in rows} == {None}
    assert [row["attempts"] for row in rows] == [1] * 9 + [2]
    costs = [row["cost_usd_micros"] for row in rows]
    assert costs == [0, 0, 0, 0, None, 0, 0, 0, 0, 0]  # what a batch will cost is not known


def test_openai_uploads(provider: Provider, client: openai.OpenAI) -> None:
    upload = client.uploads.create(bytes=8, filename="a.jsonl", mime_type="text/jsonl", purpose="batch")
    parts = [client.uploads.parts.create(upload.id, data=half).id for half in (b"half", b"rest")]
    done = client.uploads.complete(upload.id, part_ids=parts)
    assert done.file is not None
    assert client.files.content(done.file.id).read() == b"halfrest"


def test_openai_stored_responses(provider: Provider, client: openai.OpenAI, new_rows: NewRows) -> None:
    provider.accounts.of(OPENAI_SECRET).responses["resp_1"] = {"id": "resp_1", "object": "response", "status": "queued"}
    assert client.responses.retrieve("resp_1").status == "queued"
    assert client.responses.cancel("resp_1").status == "cancelled"
    assert [item.id for item in client.responses.input_items.list("resp_1")] == ["msg_0"]
    client.responses.delete("resp_1")
    assert provider.last.method == "DELETE"
    assert [row["status"] for row in new_rows.wait(4)] == [200] * 4


def test_anthropic_batches_and_files(provider: Provider, claude: anthropic.Anthropic, new_rows: NewRows) -> None:
    asked = {"model": "claude-model", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    batch = claude.messages.batches.create(requests=[{"custom_id": "first", "params": asked}])
    assert provider.last.header("x-api-key") == ANTHROPIC_SECRET
    assert provider.last.json == {"requests": [{"custom_id": "first", "params": asked}]}
    assert claude.messages.batches.retrieve(batch.id).processing_status == "ended"
    assert [one.id for one in claude.messages.batches.list()] == [batch.id]
    results = [one.custom_id for one in claude.messages.batches.results(batch.id)]  # at the URL that the batch names
    assert results == ["first", "second"]
    assert claude.messages.batches.cancel(batch.id).processing_status == "canceling"
    assert claude.messages.batches.delete(batch.id).id == batch.id
    made = claude.beta.files.upload(file=("a.txt", b"hello", "text/plain"))
    assert claude.beta.files.retrieve_metadata(made.id).size_bytes == 5
    assert claude.beta.files.download(made.id).read() == b"hello"
    assert [one.id for one in claude.beta.files.list()] == [made.id]
    claude.beta.files.delete(made.id)
    rows = new_rows.wait(12)  # results() asks for the batch first
    assert {row["dialect"] for row in rows} == {"anthropic"}
    assert {row["target"] for row in rows} == {"claude/claude-model"}


def test_mistral_files_and_jobs(provider: Provider, mistral: Mistral) -> None:
    made = mistral.files.upload(file={"file_name": "a.jsonl", "content": LINES}, purpose="batch")
    assert provider.last.path == "/mistral/v1/files"
    assert provider.last.header("authorization") == f"Bearer {MISTRAL_SECRET}"
    assert mistral.files.retrieve(file_id=made.id).size_bytes == len(LINES)
    assert mistral.files.download(file_id=made.id).read() == LINES
    assert mistral.files.get_signed_url(file_id=made.id).url
    job = mistral.batch.jobs.create(endpoint="/v1/chat/completions", input_files=[made.id], model="mistral-small")
    assert mistral.batch.jobs.get(job_id=job.id).status == "QUEUED"
    assert mistral.batch.jobs.cancel(job_id=job.id).status == "CANCELLATION_REQUESTED"
    assert mistral.files.delete(file_id=made.id).deleted


# -- which account


def test_the_named_route_decides(sluice: Live, provider: Provider, client: openai.OpenAI) -> None:
    headers = {"x-sluicegate-route": "chat-spare"}
    made = client.files.with_raw_response.create(file=("a", LINES), purpose="batch", extra_headers=headers)
    assert made.headers["x-sluicegate-route"] == "chat-spare"
    assert provider.last.header("authorization") == f"Bearer {SPARE_SECRET}"
    assert provider.last.header("x-sluicegate-route") is None
    assert list(provider.accounts.of(SPARE_SECRET).files) == [made.parse().id]


def test_what_a_path_names_is_found_at_any_account(
    sluice: Live, provider: Provider, client: openai.OpenAI, new_rows: NewRows
) -> None:
    provider.accounts.of(SPARE_SECRET).files["file-far"] = LINES
    found = client.files.with_raw_response.content("file-far")
    assert found.content == LINES
    assert found.headers["x-sluicegate-target"] == "spare/spare-model"
    row = new_rows.one()
    assert (row["attempts"], row["route"], row["upstream_status"]) == (2, "chat-spare", 200)
    client.files.list()
    assert provider.last.header("authorization") == f"Bearer {OPENAI_SECRET}"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"authorization": "Bearer sk-unknown"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {FEW_KEY}"}, 400, "dialect_unsupported"),
        ({"authorization": f"Bearer {FEW_KEY}", "x-sluicegate-route": "chat"}, 403, "route_not_allowed"),
        ({"authorization": f"Bearer {KEY}", "x-sluicegate-route": "nobody"}, 404, "route_not_found"),
        ({"authorization": f"Bearer {KEY}", "x-sluicegate-route": "sonnet"}, 400, "dialect_unsupported"),
    ],
)
def test_refusals(sluice: Live, provider: Provider, headers: dict[str, str], status: int, code: str) -> None:
    answer = httpx2.get(sluice.url + "/v1/files", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert provider.requests == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/fine_tuning/jobs"),
        ("PUT", "/v1/files/file-1"),
        ("GET", "/v1/files/file-1/other"),
        ("POST", "/v1/realtime/client_secrets"),
        ("GET", "/v1/files/a%2fb"),
        ("DELETE", "/v1/batches/b"),
        ("GET", "/anthropic/v1/batches"),
    ],
)
def test_what_is_not_listed_is_still_a_404(sluice: Live, provider: Provider, method: str, path: str) -> None:
    answer = httpx2.request(method, sluice.url + path, headers={"authorization": f"Bearer {KEY}"})
    assert answer.status_code == 404
    assert provider.requests == []


def test_a_refused_credential_is_the_gateways(sluice: Live, provider: Provider, client: openai.OpenAI) -> None:
    provider.behave(status=401)
    with pytest.raises(openai.InternalServerError) as raised:
        client.batches.list()
    assert raised.value.status_code == 502
    assert raised.value.code == "provider_credentials_refused"


# -- a gateway of its own: limits, large files


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, dialect_provider: Provider) -> Iterator[Live]:
    yaml = f"""
providers:
  - {{name: up, dialect: openai, base_url: {dialect_provider.url}, credentials: [{{name: m, value: {OPENAI_SECRET}}}]}}
routes: [{{name: chat, targets: [{{provider: up, model: m}}]}}]
teams:
  - name: t
    apps:
      - {{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}
      - {{name: b, routes: "*", keys: [{{name: l, value: {FEW_KEY}}}]}}
limits:
  - {{name: three, scope: {{app: b}}, metric: requests, window: lifetime, at_most: 3}}
  - {{name: money, scope: {{app: b}}, metric: cost_usd, window: month, at_most: 1}}
"""
    env = {"SLUICEGATE_MAX_BODY_BYTES": str(MB)}
    with live.gateway(tmp_path_factory.mktemp("accounts"), yaml, env=env) as running:
        yield running


def test_limits(own: Live, provider: Provider) -> None:
    """Requests are counted; a batch, whose cost nobody knows, is refused where a limit counts cost."""
    with openai.OpenAI(base_url=own.url + "/v1", api_key=FEW_KEY, max_retries=0) as client:
        made = client.files.create(file=("a", LINES), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="what a batch will cost") as refused:
            client.batches.create(input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert refused.value.code == "price_unknown"
        client.files.list()
        client.files.list()
        with pytest.raises(openai.RateLimitError, match="three"):
            client.files.list()
    rows = [row for row in own.wait_for_rows(5) if row["app"] == "b"]
    assert [row["status"] for row in rows] == [200, 400, 200, 200, 429]


def pieces(count: int) -> Iterator[bytes]:
    yield from itertools.repeat(b"x" * 65_536, count)


@pytest.mark.serial
@pytest.mark.parametrize("megabytes", [120])
def test_large_files_are_not_held(own: Live, provider: Provider, megabytes: int) -> None:
    """The form is larger than any body that must be read first; it passes, at the provider's pace."""
    worker: Process = own.workers()[0]
    resident = worker.resident_bytes
    provider.read_gap_s = 0.0002
    try:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "multipart/form-data; boundary=b"}
        content = itertools.chain(
            [b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'],
            pieces(megabytes * 16),
            [b"\r\n--b--\r\n"],
        )
        peak = 0

        def watched() -> Iterator[bytes]:
            nonlocal peak
            for number, piece in enumerate(content):
                if number % 64 == 0:
                    peak = max(peak, worker.resident_bytes)
                yield piece

        answer = httpx2.post(own.url + "/v1/files", content=watched(), headers=headers, timeout=120)
    finally:
        provider.read_gap_s = 0.0
    assert answer.status_code == 200
    assert answer.json()["bytes"] == megabytes * MB
    assert peak - resident < 24 * MB
    downloaded = io.BytesIO()
    with httpx2.stream("GET", own.url + f"/v1/files/{answer.json()['id']}/content", headers=headers) as back:
        for piece in back.iter_bytes():
            downloaded.write(piece)
    assert downloaded.tell() == megabytes * MB


def test_an_upload_that_is_too_large(own: Live, provider: Provider) -> None:
    head = f"POST /v1/files HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\ncontent-length: {600 * MB}\r\n\r\n"
    with RawClient(own.port) as raw:
        raw.send(head.encode() + b"x")
        answer = raw.answer()
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (413, "body_too_large")
    assert provider.requests == []


def test_an_uploader_that_leaves_cancels_the_upload(own: Live, provider: Provider) -> None:
    def half() -> Iterator[bytes]:
        yield from pieces(20)
        raise ConnectionError("the caller has seen enough")

    with pytest.raises(ConnectionError):
        httpx2.post(own.url + "/v1/files", content=half(), headers={"authorization": f"Bearer {KEY}"})
    own.until(lambda: bool(provider.requests) and provider.last.aborted.is_set(), 5)
    assert not provider.last.complete
