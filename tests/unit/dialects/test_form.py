import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.base import Call
from gateway.dialects.body import apply_splices
from gateway.dialects.input_bound import MEDIA_TOKENS
from gateway.dialects.registry import HANDLERS, classify
from gateway.errors import BadRequest
from gateway.policy.model import Dialect
from tests.unit.wire.cutting import cut_at

TYPE = b"multipart/form-data; boundary=xyz"
OPENAI = HANDLERS[Dialect.OPENAI]
TRANSCRIPTIONS = classify(b"POST", b"/v1/audio/transcriptions", b"", [])
assert TRANSCRIPTIONS is not None


def field(name: str, content: bytes, more: str = "") -> bytes:
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*fields: bytes) -> bytes:
    return b"".join(fields) + b"--xyz--\r\n"


AUDIO = field("file", bytes(range(256)) * 400, '; filename="a.wav"')


def read(body: bytes) -> Call:
    return OPENAI.read_call(TRANSCRIPTIONS, TYPE, body)


def test_reads() -> None:
    call = read(form(AUDIO, field("model", b"whisper"), field("stream", b"true"), field("n", b"2")))
    assert (call.route, call.stream, call.choices, call.output_bound) == ("whisper", True, 2, None)
    assert MEDIA_TOKENS <= call.input_bound < MEDIA_TOKENS + 50


def test_rewrites_the_model_alone() -> None:
    body = form(field("prompt", b'name="model" whisper'), field("model", b"whisper"), AUDIO)
    call = read(body)
    assert OPENAI.rewrite(TRANSCRIPTIONS, call, TYPE, body, "large-v3") == body.replace(
        b"\r\n\r\nwhisper\r\n", b"\r\n\r\nlarge-v3\r\n"
    )
    assert OPENAI.rewrite(TRANSCRIPTIONS, call, TYPE, body, "whisper") is body


REFUSED = {
    "no model": (form(AUDIO), 'no "model"'),
    "model as a file": (form(field("model", b"whisper", '; filename="m"')), 'no "model"'),
    "two models": (form(field("model", b"a"), field("model", b"b")), "two fields"),
    "early end": (form(field("model", b"a"))[:-6], "breaks off"),
    "no number": (form(field("model", b"a"), field("n", b"many")), '"n" is not'),
    "no truth": (form(field("model", b"a"), field("stream", b"perhaps")), '"stream" is not'),
    "no form": (b'{"model":"a"}', "breaks off"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    body, words = REFUSED[name]
    with pytest.raises(BadRequest, match=words):
        read(body)
    large = OPENAI.large_call(TRANSCRIPTIONS, TYPE)
    large.feed(body)
    with pytest.raises(BadRequest, match=words):
        large.call()


def test_a_form_without_boundary() -> None:
    with pytest.raises(BadRequest, match="boundary"):
        OPENAI.read_call(TRANSCRIPTIONS, b"multipart/form-data", form(field("model", b"a")))
    large = OPENAI.large_call(TRANSCRIPTIONS, b"multipart/form-data")
    large.feed(b"x")
    with pytest.raises(BadRequest, match="boundary"):
        large.call()


@given(places=st.lists(st.integers(0, 200_000), max_size=6), last=st.booleans())
def test_a_large_form_is_read_as_a_small_one(places: list[int], last: bool) -> None:
    model = field("model", b"whisper")
    body = form(AUDIO, model) if last else form(model, AUDIO)
    large = OPENAI.large_call(TRANSCRIPTIONS, TYPE)
    for piece in cut_at(body, places):
        large.feed(piece)
    call = large.call()
    assert call == read(body)
    edited = apply_splices(body, large.splices(call, "large-v3"))
    assert edited == OPENAI.rewrite(TRANSCRIPTIONS, call, TYPE, body, "large-v3")
    assert list(large.splices(call, "whisper")) == []
