"""JSON that two parsers could read differently, or that costs more to read than to send; names that end up in
headers, paths
and logs."""

import json

import pytest

from tests.integration.hostile.conftest import KEY
from tests.support.live import Live
from tests.support.raw import RawClient
from tests.support.raw_upstream import RawUpstream

KEY_LINE = f"x-api-key: {KEY}"
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
ROUTES = {"openai": b"chat", "anthropic": b"sonnet"}

REFUSED = {
    "nothing": b"",
    "a BOM": b"\xef\xbb\xbf" + b'{"model":@,"messages":[]}',
    "UTF-16": '{"model":"chat","messages":[]}'.encode("utf-16"),
    "UTF-32": '{"model":"chat","messages":[]}'.encode("utf-32"),
    "NaN": b'{"model":@,"messages":[],"temperature":NaN}',
    "Infinity": b'{"model":@,"messages":[],"temperature":-Infinity}',
    "a comment": b'{"model":@,/* hidden */"messages":[]}',
    "a trailing comma": b'{"model":@,"messages":[],}',
    "single quotes": b"{'model':'chat','messages':[]}",
    "bad UTF-8": b'{"model":@,"messages":[],"x":"\xff"}',
    "overlong UTF-8": b'{"model":@,"messages":[],"x":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"model":@,"messages":[],"x":"\xed\xa0\x80"}',
    "a raw line end in a string": b'{"model":@,"messages":[],"x":"a\nb"}',
    "a raw NUL": b'{"model":@,"messages":[],"x":"a\0b"}',
    "garbage behind": b'{"model":@,"messages":[]}x',
    "a second document behind": b'{"model":@,"messages":[]}{"model":"hidden","messages":[]}',
    "a NUL behind": b'{"model":@,"messages":[]}\0',
    "an array": b'[{"model":@,"messages":[]}]',
    "a string": b'"chat"',
    "null": b"null",
    "a number beyond JSON": b'{"model":@,"messages":[],"max_tokens":0x10}',
    "a leading zero": b'{"model":@,"messages":[],"max_tokens":010}',
    "a plus sign": b'{"model":@,"messages":[],"max_tokens":+10}',
    "a huge bound": b'{"model":@,"messages":[],"max_tokens":1e400}',
    "a bound of 400 digits": b'{"model":@,"messages":[],"max_tokens":' + b"9" * 400 + b"}",
    "model twice": b'{"model":@,"model":"hidden","messages":[]}',
    "model twice, ours last": b'{"model":"hidden","model":@,"messages":[]}',
    "model twice, equal": b'{"model":@,"model":@,"messages":[]}',
    "model twice, one escaped": b'{"model":@,"mod\\u0065l":"hidden","messages":[]}',
    "model twice, one in capitals": b'{"model":@,"MODEL":"hidden","messages":[]}',
    "model twice, far apart": b'{"model":@,"messages":[],"x":"' + b"a" * 100_000 + b'","model":"hidden"}',
    "model twice, the second null": b'{"model":@,"model":null,"messages":[]}',
    "stream twice": b'{"model":@,"stream":false,"stream":true,"messages":[]}',
    "half a surrogate in the model": b'{"model":"chat\\ud800","messages":[]}',
    "a NUL in the model": b'{"model":"chat\\u0000","messages":[]}',
    "10,000 levels": b'{"model":@,"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10,000 objects": b'{"model":@,"messages":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    "100,000 levels never closed": b'{"model":@,"messages":' + b"[" * 100_000,
    "a million levels": b"[" * 1_000_000,
    "a million objects": b'{"a":' * 1_000_000,
}


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_the_dialect(sluice: Live, upstream: RawUpstream, dialect: str, name: str) -> None:
    body = REFUSED[name].replace(b"@", b'"%b"' % ROUTES[dialect])
    with RawClient(sluice.port) as client:
        got = client.post(PATHS[dialect], body, KEY_LINE)
        assert got.status in ((404, 400) if "model" in name else (400,))
        told = json.loads(got.body)
        assert told["error"]["message"]
        assert ("type" in told) is (dialect == "anthropic")
        assert client.post("/files/a", b"", KEY_LINE).status == 200  # the connection is as good as before
    assert [seen.target for seen in upstream.seen] == ["/base/a"]


DEEP = {
    "a million levels": (b"[" * 1_000_000, b"]" * 1_000_000),
    "a million objects": (b'{"a":' * 1_000_000, b"1" + b"}" * 1_000_000),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_and_large(sluice: Live, upstream: RawUpstream, name: str) -> None:
    """Beyond what is kept in memory, bodies are scanned, not parsed: refused, or passed on as they are."""
    opening, closing = DEEP[name]
    body = b'{"model":"chat","messages":[],"x":' + opening + closing + b"}"
    with RawClient(sluice.port, timeout_s=30) as client:
        got = client.post(PATHS["openai"], body, KEY_LINE)
    assert got.status in (200, 400)
    assert [seen.body for seen in upstream.seen] == ([body.replace(b'"chat"', b'"m"')] if got.status == 200 else [])


MEANT = {
    "lone surrogates elsewhere": b'{"model":"chat","messages":[{"role":"user","content":"\\ud83d"}]}',
    "a huge number elsewhere": b'{"model":"chat","messages":[],"seed":' + b"9" * 300 + b"}",
    "model within messages": b'{"messages":[{"role":"user","content":"x","model":"hidden"}],"model":"chat"}',
    "model within a string": b'{"messages":[],"x":"\\"model\\":\\"hidden\\"","model":"chat"}',
    "an escaped name": b'{"mod\\u0065l":"ch\\u0061t","messages":[]}',
    "another name in another alphabet": '{"model":"chat","mоdel":"hidden","messages":[]}'.encode(),
}


@pytest.mark.parametrize("name", MEANT)
def test_the_model_that_was_routed_is_the_one_sent(sluice: Live, upstream: RawUpstream, name: str) -> None:
    with RawClient(sluice.port) as client:
        assert client.post(PATHS["openai"], MEANT[name], KEY_LINE).status == 200
    sent = json.loads(upstream.seen[-1].body)
    assert sent["model"] == "m"
    assert upstream.seen[-1].target == "/v1/chat/completions"


NAMES = [
    "x\r\nINJECTED: 1", "x\nINJECTED", "x\rINJECTED", "x\0INJECTED", "x\u2028INJECTED", "x\u0085INJECTED",
    "\x1b[31mINJECTED",
    "../../INJECTED", "%0d%0aINJECTED", "chat\t", " chat", "chat ", "CHAT", "ｃｈａｔ", "chat\u200b", "chat\u0301",
    "chat/../hidden",
    "{0.__class__}INJECTED", "%s%s%n", "${jndi:ldap://127.0.0.1/x}", "a" * 5000, "\u202eINJECTED",
]  # fmt: skip


@pytest.mark.parametrize("model", NAMES, ids=ascii)
def test_a_name_is_only_a_name(sluice: Live, upstream: RawUpstream, model: str) -> None:
    for dialect, path in PATHS.items():
        body = json.dumps({"model": model, "messages": [], "max_tokens": 5}).encode()
        with RawClient(sluice.port) as client:
            got = client.post(path, body, KEY_LINE, "x-request-id: mine")
            assert got.status in (400, 404), dialect
            assert b"INJECTED" not in got.head
            assert len(got.head.split(b"\r\n")) < 20
            json.loads(got.body)
            assert client.post("/files/a", b"", KEY_LINE).status == 200
    assert {seen.target for seen in upstream.seen} == {"/base/a"}
    assert not any(line.startswith(("INJECTED", "1\r")) for line in sluice.log().splitlines())
    assert "\x1b[31m" not in sluice.log()
