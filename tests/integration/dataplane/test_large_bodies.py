"""Bodies larger than `body_memory_bytes`: read on their way to a file, sent from it with their edits."""

import base64

import httpx2
import orjson
import pytest

from tests.integration.dataplane.conftest import KEY
from tests.support.live import Live
from tests.support.provider import Provider

IMAGE = base64.b64encode(bytes(range(256)) * 58_600).decode()
"""20 MB, as a data URL holds it."""
CONTENT = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + IMAGE}}]
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_named_at_the_end_of_20_megabytes(sluice: Live, provider: Provider, stream: bool) -> None:
    sent = {"messages": [{"role": "user", "content": CONTENT}], "x": 1.50, "stream": stream, "model": "chat"}
    body = orjson.dumps(sent)
    assert len(body) > 20_000_000
    answer = httpx2.post(f"{sluice.url}/v1/chat/completions", content=body, headers=HEADERS, timeout=60)
    assert answer.status_code == 200
    wanted = dict(sent, model="up-model", **({"stream_options": {"include_usage": True}} if stream else {}))
    assert provider.last.json == wanted
    assert (b'"prompt_tokens"' in answer.content) is not stream


def test_two_models_far_apart_are_refused(sluice: Live, provider: Provider) -> None:
    before = len(provider.requests)
    body = b'{"model":"chat","x":"' + b"x" * 2_000_000 + b'","model":"secret","messages":[]}'
    answer = httpx2.post(f"{sluice.url}/v1/chat/completions", content=body, headers=HEADERS, timeout=60)
    assert answer.status_code == 400
    assert "twice" in answer.json()["error"]["message"]
    assert len(provider.requests) == before


def test_a_large_form(sluice: Live, provider: Provider) -> None:
    audio = bytes(range(256)) * 12_000
    with httpx2.Client(timeout=60) as client:
        request = client.build_request(
            "POST",
            f"{sluice.url}/v1/audio/transcriptions",
            data={"model": "chat"},
            files={"file": ("speech.wav", audio, "audio/wav")},
            headers={"authorization": f"Bearer {KEY}"},
        )
        sent = request.read()
        client.send(request)
    assert provider.last.body == sent.replace(b"\r\n\r\nchat\r\n", b"\r\n\r\nup-model\r\n")
