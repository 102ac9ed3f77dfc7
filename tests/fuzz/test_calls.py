"""Request bodies: whatever comes, a call or a clean refusal, and whole and scanned reading agree.

Invariants: (1) only BadRequest is raised; (2) what is read whole is read the same when scanned, at any chunking; (3)
rewriting changes the model and what metering asks for, and nothing else; (4) two fields of the same name never pass.
"""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.base import Call
from gateway.dialects.body import apply_splices
from gateway.dialects.registry import HANDLERS, classify
from gateway.errors import BadRequest
from tests.fuzz.mutations import mutated
from tests.unit.dialects.golden import GOLDEN
from tests.unit.wire.cutting import cut_at

OPERATIONS = [
    classify(b"POST", path, b"", [])
    for path in (
        b"/v1/chat/completions",
        b"/v1/responses",
        b"/v1/embeddings",
        b"/v1/messages",
        b"/v1/completions",
        b"/api/chat",
        b"/api/generate",
        b"/api/embed",
    )
]
GEMINI = [
    classify(b"POST", f"/v1beta/models/r:{verb}".encode(), b"", [])
    for verb in ("generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents", "countTokens")
]
SEEDS = [case.request for case in GOLDEN] + [
    b'{"model":"r","stream":true,"stream_options":{"a":[]},"messages":[{"role":"user","content":"\\u00e9\\ud83d"}]}',
    b' {"x":{"model":"no"},"mod\\u0065l":"r","max_tokens":1.0,"n":null,"input":[[1,2],"a"]} ',
]
TOKENS = [
    b'"model":"b",', b'"mod\\u0065l"', b'"Model":1,', b'"stream":true,', b'"stream_options":null,', b"\\", b'"', b"{",
    b"}", b"[", b"]", b",", b":", b" ", b"\xff", b"\\ud800", b"NaN", b"1e999", b"-1", b"null", b"\r\n", b"\xef\xbb\xbf",
    b'"stream_options":{"include_usage":true},', b'"options":{"num_predict":7},',
    b'"model":"models/r",', b'"contents":',
    b'"generationConfig":{"maxOutputTokens":7,"candidateCount":"2"},', b'"generation_config":{"max_output_tokens":8},',
    b'"maxOutputTokens":9,', b'"model" :"r",', b'{"requests":[{"model":"models/r"}],"x":',
]  # fmt: skip
JSON = b"application/json"


@settings(max_examples=150)
@given(
    operation=st.sampled_from(OPERATIONS),
    body=mutated(SEEDS, TOKENS) | st.binary(max_size=60),
    places=st.lists(st.integers(0, 600), max_size=5),
)
def test_bodies(operation: Any, body: bytes, places: list[int]) -> None:
    handler = HANDLERS[operation.dialect]
    large = handler.large_call(operation, JSON)
    for piece in cut_at(body, places):
        large.feed(piece)
    try:
        call = handler.read_call(operation, JSON, body)
    except BadRequest as refusal:
        check_refusal(refusal)
        with suppress(BadRequest):  # it mostly refuses too; faults in depth it leaves to the upstream
            large.call()
        return
    scanned = large.call()
    assert without_input(scanned) == without_input(call)
    document = json.loads(body)
    assert call.route == document["model"]
    wanted = dict(document, model="new")
    if call.stream and not call.tells_usage:
        wanted["stream_options"] = {**(document.get("stream_options") or {}), "include_usage": True}
    rewritten = handler.rewrite(operation, call, JSON, body, "new")
    assert json.loads(rewritten) == wanted
    assert json.loads(apply_splices(body, large.splices(scanned, "new"))) == wanted
    top_level_once(body)


def check_refusal(refusal: BadRequest) -> None:
    assert refusal.message
    assert refusal.fix


def without_input(call: Call) -> Call:
    return replace(call, input_bound=0, input_estimate=0)


def top_level_once(body: bytes) -> None:
    """No critical name stands twice at the top, whatever escapes it is spelled with."""
    pairs: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
    names = [str(name) for name, _ in pairs]
    assert names.count("model") == 1
    assert names.count("stream") <= 1


@settings(max_examples=50)
@given(levels=st.integers(1, 30_000), opener=st.sampled_from([b"[", b'{"a":', b"[{}, ", b'[{"a":[']))
def test_any_depth(levels: int, opener: bytes) -> None:
    body = b'{"model":"r","messages":' + opener * levels
    for operation in OPERATIONS + GEMINI:
        assert operation is not None
        handler = HANDLERS[operation.dialect]
        large = handler.large_call(operation, JSON)
        large.feed(body)
        for read in (lambda: handler.read_call(operation, JSON, body), large.call):  # noqa: B023 - called at once
            try:
                read()
            except BadRequest:
                continue
            raise AssertionError("an unfinished body was read")


def renamed(value: Any, depths: tuple[int, ...], depth: int = 1) -> Any:
    """What a decoded body is to be once the route `r` became the model `new`."""
    if isinstance(value, list):
        return [renamed(item, depths, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    new = {"r": "new", "models/r": "models/new"}
    return {
        name: new[part] if name == "model" and depth in depths else renamed(part, depths, depth + 1)
        for name, part in value.items()
    }


DEPTHS = {"batchEmbedContents": (1, 3), "countTokens": (1, 2)}
GEMINI_SEEDS = [
    (
        b'{"contents":[{"role":"user","parts":[{"text":"hi"}]},{"role":"model","parts":[{"text":"\\"model\\":"}]}],'
        b'"model":"models/r","generationConfig":{"maxOutputTokens":"5","candidateCount":2}}'
    ),
    b'{"requests":[{"model":"models/r","content":{"parts":[{"text":"a"}]}},{"mod\\u0065l":"r","content":{"model":1}}]}',
    b'{"generateContentRequest":{"model":"models/r","contents":[]}}',
    *SEEDS,
]


@settings(max_examples=150)
@given(
    operation=st.sampled_from(GEMINI),
    body=mutated(GEMINI_SEEDS, TOKENS) | st.binary(max_size=60),
    places=st.lists(st.integers(0, 600), max_size=5),
)
def test_gemini_bodies(operation: Any, body: bytes, places: list[int]) -> None:
    """The path names the model: what names it in the body too follows, and nothing else changes."""
    handler = HANDLERS[operation.dialect]
    large = handler.large_call(operation, JSON)
    for piece in cut_at(body, places):
        large.feed(piece)
    try:
        call = handler.read_call(operation, JSON, body)
    except BadRequest as refusal:
        check_refusal(refusal)
        with suppress(BadRequest):
            large.call()
        return
    scanned = large.call()
    assert without_input(scanned) == without_input(call)
    assert call.route == "r"
    wanted = renamed(json.loads(body), DEPTHS.get(operation.name, (1,)))
    assert json.loads(handler.rewrite(operation, call, JSON, body, "new")) == wanted
    assert json.loads(apply_splices(body, large.splices(scanned, "new"))) == wanted
    assert handler.rewrite(operation, call, JSON, body, "r") == body
