"""Model and tokens of calls within TLS, of chosen processes alone (gateway/probes/tls.py)."""

import json
import shutil
import subprocess
import sys
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
            connection.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(answer), answer)
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
