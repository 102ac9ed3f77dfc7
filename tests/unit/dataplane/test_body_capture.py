"""Copies of bodies: bounded each and all together; what finds no place is lost, counted, and harms nothing else."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.dataplane.bodies import recorder as recording
from gateway.dataplane.bodies.capture import BodyCapture, CapturedAnswer, Copy, capture_of
from gateway.dataplane.bodies.recorder import Recorder
from gateway.dataplane.relay import ClientAnswer
from gateway.dataplane.request import RequestBody
from gateway.dataplane.target_plan import TargetPlan
from gateway.policy.capture import MARGIN_BYTES, Capture
from gateway.policy.model import Dialect, Provider, ProviderId, Route, RouteId, Strategy, Target, TargetId
from gateway.policy.snapshot import EMPTY
from gateway.policy.usage import LedgerRow
from gateway.store import bodies
from gateway.store.bodies import Found

PRIVATE = X25519PrivateKey.generate()
JSON = [(b"content-type", b"application/json")]


class Client:
    """What an answer is written to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, payload: bytes) -> None:
        self.written.append(payload)

    def writelines(self, payloads: list[bytes]) -> None:
        self.written += payloads

    def abort(self) -> None:
        raise AssertionError


def route(**capture: Any) -> Route:
    return Route(id=RouteId(3), name="r", strategy=Strategy.ORDERED, targets=(), capture=Capture(**capture))


def capture(recorder: Recorder, number: int = 1, **wanted: Any) -> BodyCapture:
    request_id = f"{time.time_ns() // 1_000_000:012x}abcdef0{number:07x}"
    choice = Capture(**wanted)
    return BodyCapture(recorder, route(), choice, PRIVATE.public_key().public_bytes_raw(), request_id)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, "abcdef0", 1 << 30, 0)


def read(tmp_path: Path, taken: BodyCapture) -> Any:
    return bodies.read(tmp_path, taken.id, PRIVATE.private_bytes_raw())


def end(taken: BodyCapture, body: bytes = b'{"a": 1}', headers: list[tuple[bytes, bytes]] = JSON) -> None:
    taken.end(headers, RequestBody.of(body), 200)


def answered(copy: Copy, *pieces: bytes, kind: bytes = b"content-type: text/event-stream\r\n") -> Client:
    client = Client()
    answer = CapturedAnswer(ClientAnswer(client, http10=False, head_only=False, keep_alive=True), copy)
    head = answer.start(200, [kind], None)
    for piece in pieces:
        answer.write(piece, head)
        head = b""
    answer.end()
    return client


def test_what_passes_is_what_would_have_passed(recorder: Recorder, tmp_path: Path) -> None:
    taken = capture(recorder)
    client = answered(taken.answer, b"data: 1\n\n", b"data: 2\n\n")
    plain = Client()
    answer = ClientAnswer(plain, http10=False, head_only=False, keep_alive=True)
    head = answer.start(200, [b"content-type: text/event-stream\r\n"], None)
    answer.write(b"data: 1\n\n", head)
    answer.write(b"data: 2\n\n")
    answer.end()
    assert client.written == plain.written
    end(taken)
    recorder.close()
    found, kept = read(tmp_path, taken)
    assert found is Found.KEPT
    assert (kept.request.text, kept.response.text, kept.response.stream) == ('{"a": 1}', "data: 1\n\ndata: 2\n\n", True)
    assert (recorder.kept, dict(recorder.lost)) == (1, {})


def test_no_more_than_the_bound_is_held(recorder: Recorder) -> None:
    copy = capture(recorder, max_bytes=2000).answer
    answered(copy, *[b"x" * 999 for _ in range(1000)])
    assert sum(map(len, copy.pieces)) == 2000 + MARGIN_BYTES
    assert copy.size == 999_000


def test_memory_runs_out_and_comes_back(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_HELD_BYTES", 30_000)
    first, second = capture(recorder, 1), capture(recorder, 2)
    answered(first.answer, b"a" * 15_000, b"bob@exam", b"ple.com" * 3000, kind=b"content-type: text/plain\r\n")
    answered(second.answer, b"b" * 25_000, kind=b"content-type: text/plain\r\n")
    assert first.answer.busy
    assert second.answer.busy
    end(first)
    end(second)
    recorder.close()
    kept, lost = read(tmp_path, first)[1].response, read(tmp_path, second)[1].response
    # What may be the beginning of something is not told where the rest is missing.
    assert (kept.cut, "bob" in kept.text, len(kept.text)) == (True, False, 15_008 - MARGIN_BYTES)
    assert (lost.text, lost.why_not) == (None, "busy")
    assert recorder.lost["memory"] == 2
    assert recorder.hold(29_000)  # all of it was given back


def test_too_many_that_wait_are_lost(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_WAITING", 0)
    end(capture(recorder))
    recorder.close()
    assert dict(recorder.lost) == {"busy": 1}


class Sender:
    """Of a body that is never paused."""

    def pause_reading(self) -> None:
        raise AssertionError

    resume_reading = pause_reading


def spilled(folder: Path, content: bytes) -> RequestBody:
    """A whole body that lies in a file."""
    body = RequestBody(Sender(), folder, memory_bytes=10, max_bytes=1 << 24)
    body.feed(content)
    body.end()
    assert body.in_file
    return body


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_body_in_a_file_is_read_by_the_thread(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop lends the file and goes on; the body is closed before anybody has read it."""
    before = open_files()
    content = b'{"a": "' + b"x" * 50_000 + b'"}'
    whole, cut = capture(recorder, 1), capture(recorder, 2, max_bytes=1000)
    readers: list[str] = []
    pread = os.pread

    def seen(descriptor: int, length: int, offset: int) -> bytes:
        readers.append(threading.current_thread().name)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", seen)
    monkeypatch.delattr(RequestBody, "read_file")
    for taken in (whole, cut):
        body = spilled(tmp_path, content)
        taken.end(JSON, body, 200)
        body.close()
    recorder.close()
    monkeypatch.undo()
    assert set(readers) == {"bodies"}
    assert (recorder.kept, dict(recorder.lost)) == (2, {})
    assert read(tmp_path, whole)[1].request.text == content.decode()
    kept = read(tmp_path, cut)[1].request
    assert (len(kept.text), kept.cut, kept.size) == (1000, True, len(content))
    assert open_files() == before


@pytest.mark.parametrize("bound", ["MOST_LENT", "MOST_WAITING"])
def test_so_many_files_wait_to_be_read(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    before = open_files()
    monkeypatch.setattr(recording, bound, 0)
    taken = capture(recorder)
    body = spilled(tmp_path, b'{"a": "too much for memory"}')
    taken.end(JSON, body, 200)
    body.close()
    recorder.close()
    assert dict(recorder.lost) == {"busy": 1}
    assert open_files() == before
    assert recorder.hold(recording.MOST_HELD_BYTES)  # what it had of the memory was given back
    if bound == "MOST_LENT":
        assert read(tmp_path, taken)[1].request.why_not == "busy"


def test_a_disk_that_takes_nothing_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "bodies").write_text("a file where a folder should be")
    recorder = Recorder(tmp_path / "bodies", "abcdef0", 1 << 30, 0)
    end(capture(recorder))
    end(capture(recorder, 2))
    recorder.close()
    assert dict(recorder.lost) == {"disk": 2}


def test_samples_are_what_they_say(recorder: Recorder) -> None:
    snapshot = EMPTY
    assert capture_of(recorder, route(sample=1e-9), snapshot, "0" * 26) is None
    assert dict(recorder.lost) == {}
    assert capture_of(recorder, route(), snapshot, "0" * 26) is None
    assert dict(recorder.lost) == {"key": 1}
    ids = [f"{number:026x}" for number in range(20_000)]
    assert 0.08 < sum(map(Capture(sample=0.1).takes, ids)) / len(ids) < 0.12


@pytest.mark.parametrize(
    ("headers", "body", "why_not"),
    [
        ([(b"content-type", b"image/png")], b"\x89PNG", "binary"),
        ([(b"content-type", b"multipart/form-data; boundary=x")], b"--x", "binary"),
        ([(b"content-type", b"text/plain; charset=utf-16")], "a".encode("utf-16"), "encoded"),
        ([(b"content-type", b"application/json"), (b"content-encoding", b"br")], b"{}", "encoded"),
        ([(b"content-type", b"application/json"), (b"content-encoding", b"gzip")], b"{}", "encoded"),
        ([(b"content-type", b"text/plain")], b"b\0o\0b\0", "binary"),
        ([], b"\xff\xfe\xfd\xfc\xfb\xfa\xf9" * 4, "binary"),
        ([], b'{"no": "type"}', None),
        ([], b"plain words", None),
        ([], b"", "empty"),
    ],
)
def test_text_alone_is_kept(
    recorder: Recorder, tmp_path: Path, headers: list[tuple[bytes, bytes]], body: bytes, why_not: str | None
) -> None:
    taken = capture(recorder)
    end(taken, body, headers)
    recorder.close()
    request = read(tmp_path, taken)[1].request
    assert (request.why_not, request.text) == (why_not, None if why_not else body.decode())


@pytest.mark.parametrize(("choice", "express"), [(None, True), (Capture(), False), (Capture(sample=0.01), False)])
def test_only_routes_that_record_leave_the_express_way(choice: Capture | None, express: bool) -> None:
    """What `express.set_out` asks of a call's target; all else on the express way knows nothing of bodies."""
    leases = SimpleNamespace(counts_cost=False, accounts=(), from_s=0.0, until_s=2e9)
    plane: Any = SimpleNamespace(pool_of=lambda provider: None, health=SimpleNamespace(of=lambda target: None))
    book: Any = SimpleNamespace(plan_of=lambda limits, now_s: leases)
    provider = Provider(id=ProviderId(1), name="p", dialect=Dialect.OPENAI, base_url="http://127.0.0.1:1")
    target = Target(id=TargetId(1), provider=provider, model="m")
    plan = TargetPlan(plane, replace(route(), capture=choice), target, None, (), 2e9)
    plan.head = b"POST / HTTP/1.1\r\n"
    plan.row_sample = vars(LedgerRow(id="x" * 26, started_at_ns=1, dialect="openai"))
    assert plan.prepare(book, 10**18) == express
