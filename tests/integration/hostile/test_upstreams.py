"""An upstream that lies: every answer ends as it should be, in a 502 or 504 of ours, or visibly broken off;
soon, in one upstream request, and with nothing of it in the next answer."""

import concurrent.futures
import gzip
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.integration.hostile.conftest import KEY, LIARS
from tests.support.live import Live
from tests.support.raw import RawClient
from tests.support.raw_upstream import CHAT, Conversation, RawUpstream, Script, answer, then_close, then_stay

KEY_LINE = f"x-api-key: {KEY}"
WITHIN_S = 12.0
"""The routes' timeouts are 3 s without progress and 8 s in all."""
FAILED = frozenset((502, 504))
BROKEN = frozenset((0,))
"""Not a whole answer: the connection ends before its framing says so."""
PASSES = frozenset((200,))
OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json\r\n"
SSE = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    name: str
    script: Script
    may: frozenset[int] = FAILED


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def head(name: str, wire: bytes, may: frozenset[int] = FAILED) -> list[Lie]:
    """Once with the connection kept open behind it, once closed."""
    return [
        Lie(name=f"{name}, kept open", script=then_stay(wire), may=may),
        Lie(name=f"{name}, closed", script=then_close(wire), may=may),
    ]


def flood(before: bytes, piece: bytes) -> Script:
    def script(conversation: Conversation) -> None:
        conversation.say(before)
        conversation.flood(piece)
        raise OSError

    return script


def trickle(before: bytes, piece: bytes) -> Script:
    def script(conversation: Conversation) -> None:
        conversation.say(before)
        for _ in range(200):
            conversation.say(piece)
            time.sleep(0.1)
        raise OSError

    return script


LENGTH = b"content-length: %d\r\n" % len(CHAT)
CHUNKED = b"transfer-encoding: chunked\r\n"
BODY = chunk(CHAT) + b"0\r\n\r\n"
HEADS = [
    *head("nothing", b""),
    *head("one byte", b"H"),
    *head("half a status line", b"HTTP/1.1 20"),
    *head("half a head", OK + JSON),
    *head("noise", bytes(range(256)) + b"\r\n\r\n"),
    *head("HTTP/0.9", CHAT),
    *head("HTTP/0.9 with an empty line", b"<html>\r\n\r\n</html>"),
    *head("a TLS alert", b"\x15\x03\x03\x00\x02\x02\x28"),
    *head("a frame of HTTP/2", b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\1\0\0\0\5\0\xff\xff\xff\r\n\r\n"),
    *[
        lie
        for line in (
            b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 abc OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 099 OK",
            b"HTTP/1.1 999 OK", b"HTTP/1.1 600 OK", b"HTTP/1.1 -200 OK", b"HTTP/1.1 +200 OK", b"HTTP/1.1 0x200",
            b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 200OK", b"HTTP/1.1200 OK", b" HTTP/1.1 200 OK",
            b"HTTP/1.2 200 OK", b"HTTP/2.0 200 OK", b"HTTP/2 200", b"HTTP/0.9 200 OK", b"HTTP/3 200",
            b"http/1.1 200 OK",
            b"ICY 200 OK", b"RTSP/1.0 200 OK", b"200 OK", b"GET / HTTP/1.1", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 O\0K",
            b"\0HTTP/1.1 200 OK", b"\xef\xbb\xbfHTTP/1.1 200 OK", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 2\x0000 OK",
        )
        for lie in head(f"status line {line!r}", line + b"\r\n" + JSON + LENGTH + b"\r\n" + CHAT)[:1]
    ],
    *[
        lie
        for line in (
            b"x: a\0b", b"x: a\x01b", b"x: a\x7fb", b"x: a\rb", b"x: a\nset-cookie: b", b"x : a", b"x\t: a",
            b" x: a", b": a",
            b"x", b"x\0: a", b"x\xff: a", b"x y: a", b"x(: a", b"x: a\r\n folded", b"x: a\r\n\tfolded", b"\0",
            b"content-length : 5", b"transfer-encoding : chunked", b"content-length\0: 5", b" content-length: 5",
        )
        for lie in head(f"header {line!r}", OK + JSON + line + b"\r\n" + LENGTH + b"\r\n" + CHAT)[:1]
    ],
    *head("bare LFs", (OK + JSON + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + CHAT),
    *head("a head that ends in a bare LF", OK + JSON + LENGTH + b"\n" + CHAT),
    Lie(name="a head without end", script=flood(OK, b"x: " + b"a" * 1000 + b"\r\n")),
    Lie(name="a header without end", script=flood(OK + b"x: ", b"a" * 65536)),
    Lie(name="a status line without end", script=flood(b"HTTP/1.1 200 ", b"a" * 65536)),
    Lie(name="a head drop by drop", script=trickle(OK, b"x: y\r\n")),
    Lie(name="interim answers without end", script=flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)),
    Lie(name="early hints without end", script=flood(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 500)),
    Lie(name="interim answers drop by drop", script=trickle(b"", b"HTTP/1.1 102 Processing\r\n\r\n")),
    Lie(name="an interim answer and nothing", script=then_stay(b"HTTP/1.1 100 Continue\r\n\r\n")),
    Lie(name="an interim answer and the end", script=then_close(b"HTTP/1.1 103 Early Hints\r\n\r\n")),
    Lie(name="an interim answer before",
        script=then_stay(b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n" + answer()), may=PASSES),
    Lie(name="30 interim answers before", script=then_stay(b"HTTP/1.1 102 P\r\n\r\n" * 30 + answer()), may=PASSES),
    Lie(name="a switch unasked",
        script=then_stay(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n" + answer())),
    Lie(name="a switch to h2c", script=then_stay(b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")),
    Lie(name="an upgrade offered", script=then_stay(answer().replace(b"\r\n", b"\r\nupgrade: h2c\r\n", 1)), may=PASSES),
    Lie(name="reset", script=then_close(reset=True)),
    Lie(name="reset in the head", script=then_close(OK, reset=True)),
]  # fmt: skip

LENGTHS = [
    *[
        lie
        for value in (
            b"+5", b"-5", b"", b" ", b"0x5", b"5 5", b"abc", b"5a", b"9" * 30, b"18446744073709551621", b"1e3", b"5;5",
            b"5.0", b"\xb25", b'"5"',
        )
        for lie in head(f"length {value!r}", OK + JSON + b"content-length: " + value + b"\r\n\r\nhello")[:1]
    ],
    *head("two lengths", OK + JSON + LENGTH + b"content-length: 5\r\n\r\n" + CHAT),
    *head("two lengths in one", OK + JSON + b"content-length: 5, 6\r\n\r\n" + CHAT),
    *head("two lengths, equal", OK + JSON + LENGTH + LENGTH + b"\r\n" + CHAT, FAILED | PASSES),
    *head("length and coding", OK + JSON + LENGTH + CHUNKED + b"\r\n" + BODY),
    *head("coding and length", OK + JSON + CHUNKED + LENGTH + b"\r\n" + BODY),
    *head("coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + JSON + CHUNKED + b"\r\n" + BODY),
    *[
        lie
        for value in (
            b"xchunked", b"chunked, identity", b"identity", b"gzip, chunked", b"chunked, chunked", b"chunked,", b"",
            b"\x0bchunked", b"chunked\0", b"cow",
        )
        for lie in head(f"coding {value!r}", OK + JSON + b"transfer-encoding: " + value + b"\r\n\r\n" + BODY)[:1]
    ],
    *head("coding twice", OK + JSON + CHUNKED + CHUNKED + b"\r\n" + BODY),
    Lie(name="a body that is too short", script=then_close(OK + JSON + b"content-length: 1000\r\n\r\n" + CHAT),
        may=FAILED | BROKEN),
    Lie(name="a body that is too short, reset",
        script=then_close(OK + JSON + b"content-length: 1000\r\n\r\n" + CHAT, reset=True),
        may=FAILED | BROKEN),
    Lie(name="a body that stops",
        script=then_stay(OK + JSON + b"content-length: 1000\r\n\r\n" + CHAT), may=FAILED | BROKEN),
    Lie(name="a body that is too long",
        script=then_stay(answer() + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
        may=PASSES),
    Lie(name="noise behind", script=then_stay(answer() + bytes(range(256)) * 100), may=PASSES),
    Lie(name="a body behind 204", script=then_stay(b"HTTP/1.1 204 No Content\r\n\r\nevil"), may=frozenset((204,))),
    Lie(name="a length with 204", script=then_stay(b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil"),
        may=frozenset((204,))),
    Lie(name="a huge length",
        script=then_close(OK + JSON + b"content-length: 99999999999999\r\n\r\n" + CHAT), may=FAILED | BROKEN),
    Lie(name="until the end", script=then_close(OK + JSON + b"\r\n" + CHAT), may=PASSES),
    Lie(name="until the end, in HTTP/1.0",
        script=then_close(b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n" + CHAT), may=PASSES),
    Lie(name="until a reset", script=then_close(OK + JSON + b"\r\n" + CHAT, reset=True), may=FAILED | BROKEN),
    Lie(name="close announced, kept open",
        script=then_stay(answer().replace(b"\r\n", b"\r\nconnection: close\r\n", 1)), may=PASSES),
]  # fmt: skip

SIZE = b"%x" % len(CHAT)
CHUNKS = [
    *[
        Lie(name=f"chunk {wire!r}", script=then_stay(OK + JSON + CHUNKED + b"\r\n" + wire), may=FAILED | BROKEN)
        for wire in (
            b"\r\n", b"g\r\n", b"-5\r\nhello\r\n", b"+5\r\nhello\r\n", b"0x5\r\nhello\r\n", b" 5\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhelloworld\r\n", b"5;a\nhello\r\n0\r\n\r\n",
            b"5\rhello\r\n0\r\n\r\n", b"f" * 17 + b"\r\n", b"5\0\r\nhello\r\n", b"5\r\nhello\r\n0\n\n",
            b"5\r\nhello\r\n0\r\n\n", b"5\r\nhello\r\n0\r\nx: y\n\r\n", b"5\r\nhello\r\n0\r\nxyz\r\n\r\n",
            b"5\r\nhello\r\n0\r\ncontent-length: 5\r\n\r\n",
        )
    ],
    Lie(name="a chunk without end",
        script=then_stay(OK + JSON + CHUNKED + b"\r\n" + SIZE + b"\r\n" + CHAT[:-5]), may=FAILED | BROKEN),
    Lie(name="chunks without end", script=then_stay(OK + JSON + CHUNKED + b"\r\n" + chunk(CHAT)), may=FAILED | BROKEN),
    Lie(name="chunks that break off",
        script=then_close(OK + JSON + CHUNKED + b"\r\n" + chunk(CHAT)), may=FAILED | BROKEN),
    Lie(name="a size line without end", script=flood(OK + JSON + CHUNKED + b"\r\n", b"0" * 65536), may=FAILED | BROKEN),
    Lie(name="an extension without end",
        script=flood(OK + JSON + CHUNKED + b"\r\n5;", b"a" * 65536), may=FAILED | BROKEN),
    Lie(name="trailers without end",
        script=flood(OK + JSON + CHUNKED + b"\r\n" + chunk(CHAT) + b"0\r\n", b"x: y\r\n" * 1000),
        may=FAILED | BROKEN),
    Lie(name="a huge chunk", script=then_stay(OK + JSON + CHUNKED + b"\r\nfffffffffff\r\nhello"), may=FAILED | BROKEN),
    Lie(name="an answer behind the chunks",
        script=then_stay(OK + JSON + CHUNKED + b"\r\n" + BODY + answer(b"evil")), may=PASSES),
    Lie(name="trailers",
        script=then_stay(OK + JSON + CHUNKED + b"\r\n" + chunk(CHAT) + b"0\r\nset-cookie: evil\r\n\r\n"), may=PASSES),
]  # fmt: skip

CONTENT = [
    Lie(name="events that are none",
        script=then_stay(SSE + chunk(b"\xff\xfe garbage \0\r\r\n\n\n:::\ndata\n\n") + b"0\r\n\r\n"),
        may=PASSES),
    Lie(name="events of bad JSON",
        script=then_stay(SSE + chunk(b'data: {"choices":[\n\n' * 3) + b"0\r\n\r\n"), may=PASSES),
    Lie(name="an event without end", script=then_close(SSE + chunk(EVENT[:-2])), may=FAILED | BROKEN),
    Lie(name="a large event",
        script=then_stay(SSE + chunk(b"data: " + b"a" * 3_000_000 + b"\n\n") + b"0\r\n\r\n"), may=PASSES),
    Lie(name="JSON that is none", script=then_stay(answer(b'{"choices":[')), may=PASSES),
    Lie(name="deep JSON", script=then_stay(answer(b'{"usage":' + b"[" * 100_000 + b"]" * 100_000 + b"}")), may=PASSES),
    Lie(name="usage of nonsense", script=then_stay(answer(b'{"usage":{"prompt_tokens":-5,"completion_tokens":1e400}}')),
        may=PASSES),
    Lie(name="usage beyond all numbers",
        script=then_stay(answer(b'{"usage":{"prompt_tokens":%b}}' % (b"9" * 400))), may=PASSES),
    Lie(name="compressed, but not so",
        script=then_stay(answer().replace(b"\r\n", b"\r\ncontent-encoding: gzip\r\n", 1)), may=PASSES),
    Lie(name="a bomb", may=PASSES, script=then_stay(
        answer(gzip.compress(b" " * 300_000_000, 9)).replace(b"\r\n", b"\r\ncontent-encoding: gzip\r\n", 1))),
    Lie(name="an unknown coding",
        script=then_stay(answer().replace(b"\r\n", b"\r\ncontent-encoding: cow\r\n", 1)), may=PASSES),
]  # fmt: skip

LIES = [*HEADS, *LENGTHS, *CHUNKS, *CONTENT]
CALLS = {
    "plain": ("/v1/chat/completions", b'{"model":"chat","messages":[]}'),
    "stream": ("/v1/chat/completions", b'{"model":"chat","messages":[],"stream":true}'),
    "route": ("/files/a", b"body"),
}


def tell(sluice: Live, call: str, lie: Lie, number: int) -> str:
    """What was wrong with the end of this lie; "" where nothing was."""
    path, body = CALLS[call]
    path, body = (
        path.replace("files/a", f"liar/{number}"),
        body.replace(b'"chat"', b'"%b-%d"' % (call.encode(), number)),
    )
    began = time.monotonic()
    with RawClient(sluice.port, timeout_s=WITHIN_S) as client:
        try:
            got = client.post(path, body, KEY_LINE, f"x-lie: {number}")
            status = got.status
        except (ConnectionError, ValueError):
            status = 0
        except TimeoutError:
            return f"{lie.name}: nothing within {WITHIN_S} s"
    if status not in lie.may:
        return f"{lie.name}: {status}"
    if status in FAILED and b'"error"' not in got.body:
        return f"{lie.name}: {got.body!r}"
    if status and b"evil" in got.head + got.body:
        return f"{lie.name}: it came through"
    if time.monotonic() - began > WITHIN_S:
        return f"{lie.name}: too late"
    with RawClient(sluice.port) as client:  # over whatever connection is left: nothing of the lie is in the next answer
        following = client.post("/files/next", b"%d" % number, KEY_LINE)
    return (
        "" if following.body == b'{"mark":%d}' % number else f"{lie.name}: next {following.status} {following.body!r}"
    )


@pytest.mark.parametrize("call", CALLS)
def test_lies_end_well(sluice: Live, upstream: RawUpstream, call: str) -> None:
    """All of them, some at the same time, as their ends take seconds: so answers could also be mixed up, and must
    not."""

    def lying(conversation: Conversation) -> None:
        seen = conversation.seen
        number = seen.header("x-lie")
        if number is None:
            conversation.say(answer(b'{"mark":%b}' % seen.body))
        else:
            LIES[int(number)].script(conversation)

    assert len(LIES) <= LIARS
    upstream.script = lying
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        told = list(pool.map(lambda number: tell(sluice, call, LIES[number], number), range(len(LIES))))
    assert not [complaint for complaint in told if complaint]
    asked = Counter(LIES[int(seen.header("x-lie"))].name for seen in upstream.seen if seen.header("x-lie") is not None)
    assert len(asked) == len(LIES)
    # Each once. A connection of the pool that ends without a byte may have died before: then once more, on a new one.
    assert {name for name, times in asked.items() if times > 1} <= {"nothing, closed", "reset"}
    assert max(asked.values()) <= 2


def test_a_second_answer_a_little_later(sluice: Live, upstream: RawUpstream) -> None:
    """By itself: while it is late, nobody can tell it from the answer to a request that has gone out meanwhile."""
    upstream.script = then_stay(answer(), answer(b"evil"), gap_s=0.05)
    for _ in range(3):
        with RawClient(sluice.port, timeout_s=WITHIN_S) as client:
            got = client.post("/files/a", b"body", KEY_LINE)
        assert got.status == 200
        assert b"evil" not in got.body
        time.sleep(0.3)


@pytest.mark.parametrize("greeting", [answer(b"evil"), b"HTTP/1.1 200 OK\r\n", b"220 mail.example ESMTP\r\n"])
@pytest.mark.parametrize("call", CALLS)
def test_an_answer_before_the_request(sluice: Live, upstream: RawUpstream, call: str, greeting: bytes) -> None:
    """What came before anything was asked answers nobody's question, or that of the first on this connection alone."""
    path, body = CALLS[call]
    for _ in range(3):
        upstream.greeting = then_stay(greeting)
        with RawClient(sluice.port, timeout_s=WITHIN_S) as client:
            assert client.post(path, body, KEY_LINE).status in (200, 502, 504)
    upstream.greeting = None
    for number in range(4):
        mark = b'{"number":%d}' % number
        upstream.script = lambda conversation, mark=mark: conversation.say(answer(mark))  # type: ignore[misc]
        with RawClient(sluice.port) as client:
            assert client.post("/files/a", b"", KEY_LINE).body == mark


@pytest.mark.parametrize("call", ["plain", "stream"])
@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"307 Temporary Redirect", b"308 Permanent Redirect"])
def test_a_redirect_takes_nobody_along(sluice: Live, upstream: RawUpstream, status: bytes, call: str) -> None:
    """We follow none, and the caller's SDK would follow it with our key."""
    path, body = CALLS[call]
    upstream.script = lambda conversation: conversation.say(
        b"HTTP/1.1 %b\r\nlocation: %b/stolen\r\ncontent-length: 0\r\n\r\n" % (status, upstream.url.encode())
    )
    with RawClient(sluice.port) as client:
        got = client.post(path, body, KEY_LINE)
    assert got.status == 502
    assert got.header("location") is None
    assert len(upstream.seen) == 1
