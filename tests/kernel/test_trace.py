"""`sluicegate trace` on the real kernel: what it shows, through which filters, and that nothing of it stays behind."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import agent_client
from tests.support.lab import Gateway, Lab, gateway, servers
from tests.support.lab.lab import SERVER4, SERVER6
from tests.support.lab.talking import wait_until
from tests.support.lab.world import BASE
from tests.support.own_cgroup import cgroup_name, cgroup_root

Event = dict[str, Any]
SLUICEGATE = str(Path(sys.executable).parent / "sluicegate")
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
CLOSED_PORT = 4


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    with Lab() as lab, gateway(lab, BASE, probes=True, armed=False) as started:
        wait_until(lambda: "trace" in probes(started)["features"], 30, started.agent.log)
        yield started


def probes(running: Gateway) -> Any:
    return agent_client.ask(running.agent.socket, "status")["probes"]


class Tracer:
    """A `sluicegate trace` that has begun."""

    def __init__(self, running: Gateway, *words: str) -> None:
        env = {"SLUICEGATE_DATA": str(running.data), "SLUICEGATE_AGENT_SOCKET": str(running.agent.socket)}
        # What it prints is read at its end: with the usual 64 KiB it would wait for its reader after 150 events.
        self.process = running.lab.router.popen(
            [SLUICEGATE, "trace", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=1 << 20, text=True, env=env,
        )  # fmt: skip
        said = self.process.stderr.readline()
        assert "tracing" in said, said + self.process.stderr.read()

    def end(self, number: signal.Signals | None = signal.SIGINT) -> str:
        """All that it printed."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=15)
        assert self.process.returncode == 0, err
        assert "Traceback" not in err, err
        return str(out)

    def events(self, after_s: float = 0.4) -> list[Event]:
        """Of one with `--json`: what it has seen after so long."""
        time.sleep(after_s)
        return [json.loads(line) for line in self.end().splitlines()]


@contextmanager
def tracer(running: Gateway, *words: str) -> Iterator[Tracer]:
    made = Tracer(running, *words)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.process.kill()
        made.process.wait(5)


def probes_pid(running: Gateway) -> int:
    """Of the agent's child that holds the programs."""
    return next(
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit()
        and b"gateway.probes.main" in (folder / "cmdline").read_bytes()
        and f"PPid:\t{running.agent.pid}\n" in (folder / "status").read_text()
    )


def loaded(running: Gateway) -> int:
    """Programs that it has in the kernel."""
    held = 0
    for descriptor in Path(f"/proc/{probes_pid(running)}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held += "bpf-prog" in str(descriptor.readlink())
    return held


def test_exec_shows_arguments_parent_and_failures(running: Gateway) -> None:
    router = running.lab.router
    with tracer(running, "exec", "--json") as seen:
        router.run("sh", "-c", "/bin/echo one 'two words' three; /bin/true")
        router.run("sh", "-c", "exec /nowhere/at-all x", check=False)
        router.run("env", "sh", "-c", "exit 0", "x" * 300, *map(str, range(40)))
        events = seen.events()
    echo = next(each for each in events if each["argv"][1:] == ["one", "two words", "three"])
    assert echo["executable"] == "/bin/echo"
    assert echo["process"] == "echo"
    assert echo["parent_process"] == "sh"
    assert echo["uid"] == 0
    assert echo["user"] == "root"
    assert echo["result"] == "done"
    assert echo["argv_cut"] is False
    assert abs(echo["at_s"] - time.time()) < 60
    failed = next(each for each in events if each["executable"] == "/nowhere/at-all")
    assert failed["result"] == "ENOENT"
    cut = next(each for each in events if "x" * 100 in "".join(each["argv"]))
    assert cut["argv_cut"] is True
    assert len(cut["argv"]) <= 24


def test_exec_filters(running: Gateway) -> None:
    router = running.lab.router
    inside = cgroup_root() / f"{running.lab.prefix}-traced"
    inside.mkdir()
    try:
        with (
            tracer(running, "exec", "--json", "--user", "12345") as of_user,
            tracer(running, "exec", "--json", "--match", "*needle*") as matching,
            tracer(running, "exec", "--json", "--cgroup", cgroup_name(inside), "--match", "/*/true") as in_cgroup,
            tracer(running, "exec", "--json", "--failed") as failing,
        ):
            router.run("/bin/true", user=12345)
            router.run("/bin/echo", "a needle in it")
            router.run("/bin/true", cgroup=inside)
            router.run("/bin/true")
            router.run("sh", "-c", "exec /no/file", check=False)
            assert {each["uid"] for each in of_user.events()} == {12345}
            assert [each["argv"][1:] for each in matching.events(0) if each["process"] == "echo"] == [
                ["a needle in it"]
            ]
            found = in_cgroup.events(0)
            assert [each["cgroup"] for each in found] == [cgroup_name(inside)], found
            failed = failing.events(0)
            assert "/no/file" in [each["executable"] for each in failed]
            assert {each["result"] for each in failed} <= {"ENOENT"}
    finally:
        wait_until(lambda: not (inside / "cgroup.procs").read_text(), 5)
        inside.rmdir()


def test_connect_shows_who_where_and_how_long(running: Gateway) -> None:
    server = running.lab.serve(servers.echo, 4001)
    router = running.lab.router
    with tracer(running, "connect", "--json", "--comm", "python*") as seen:
        for address in (SERVER4, SERVER6):
            router.run(sys.executable, "-c", CONNECT, address, str(server.port))
        router.run(sys.executable, "-c", CONNECT, SERVER4, str(CLOSED_PORT), check=False, user=12345)
        events = [each for each in seen.events() if each["port"] in (server.port, CLOSED_PORT)]
    assert [each["destination"] for each in events] == [SERVER4, SERVER6, SERVER4]
    assert [each["result"] for each in events] == ["established", "established", "failed"]
    assert [each["uid"] for each in events] == [0, 0, 12345]
    for each in events:
        assert 0 < each["latency_ms"] < 1000
        assert each["pid"] > 0
    assert events[0]["source_port"] in [connection.peer[1] for connection in server.connections]


def test_connect_filters_counts_and_histograms(running: Gateway) -> None:
    server = running.lab.serve(servers.echo, 4002)
    port = str(server.port)
    with (
        tracer(running, "connect", "--count", "port,destination", "--dest", "10.9.2.0/24", "--port", port) as counting,
        tracer(running, "connect", "--histogram", "--by", "port", "--port", port) as measuring,
        tracer(running, "connect", "--port", port, "--limit", "3") as limited,
        tracer(running, "connect", "--duration", "1", "--count", "port", "--json", "--port", port) as short,
    ):
        for _ in range(7):
            running.lab.router.connect((SERVER4, server.port)).close()
        running.lab.router.connect((SERVER6, server.port)).close()
        lines = limited.end(None).splitlines()
        assert len(lines) == 4  # with its heading
        assert "DESTINATION" in lines[0]
        assert SERVER4 in lines[1]
        assert [json.loads(line) for line in short.end(None).splitlines()] == [{"port": server.port, "count": 8}]
        assert counting.end(signal.SIGTERM).splitlines()[1:] == [f"{port}\t{SERVER4}\t7"]
        histogram = measuring.end()
        assert f"port = {port}" in histogram
        counts = [int(line.split(":")[1].split()[0]) for line in histogram.splitlines() if "->" in line]
        assert sum(counts) == 8


def test_dns_joins_questions_and_answers(running: Gateway) -> None:
    ask = "import socket, sys; socket.getaddrinfo(sys.argv[1], 1, socket.AF_INET)"
    names = running.lab.names()
    names.set("traced.example", "192.0.2.7")
    with tracer(running, "dns", "--json", "--name", "*.example") as seen:
        for name in ("traced.example", "absent.example"):
            running.lab.router.run(sys.executable, "-c", ask, name, check=False)
        events = seen.events()
    assert {(each["name"], each["type"], each["result"], tuple(each["answers"])) for each in events} == {
        ("traced.example", "A", "NOERROR", ("192.0.2.7",)),
        ("absent.example", "A", "NXDOMAIN", ()),
    }
    for each in events:
        assert each["process"].startswith("python")
        assert each["server"] == names.address
        assert 0 < each["latency_ms"] < 1000


def test_http_shows_requests_with_their_status(running: Gateway) -> None:
    server = running.lab.serve(servers.plain_http, 8123)
    get = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1]).read()"
    url = f"http://{SERVER4}:{server.port}/some/path?q=1"
    with tracer(running, "http", "--json", "--port", str(server.port)) as seen:
        running.lab.router.run(sys.executable, "-c", get, url)
        events = {each["role"]: each for each in seen.events()}
    client, served = events["client"], events["server"]
    for each in (client, served):
        assert (each["method"], each["path"], each["host"]) == ("GET", "/some/path?q=1", f"{SERVER4}:{server.port}")
        assert each["result"] == "200"
        assert 0 < each["latency_ms"] < 1000
    assert client["process"].startswith("python")
    assert client["peer"] == SERVER4
    assert served["pid"] is None


def test_probes_stay_no_longer_than_whoever_traces(running: Gateway) -> None:
    """However it ends: by a signal, by kill -9, by a closed pipe while nothing happens."""
    time.sleep(1)
    before = loaded(running)
    first, second = Tracer(running, "connect"), Tracer(running, "connect")
    during = loaded(running)
    assert during == before + 5
    first.end()
    time.sleep(0.5)
    assert loaded(running) == during
    second.process.kill()
    second.process.wait(5)
    wait_until(lambda: loaded(running) == before, 5)
    piped = Tracer(running, "dns", "--name", "*never*")
    assert loaded(running) > before
    piped.process.stdout.close()
    assert piped.process.wait(5) == 0
    assert piped.process.stderr.read() == ""
    wait_until(lambda: loaded(running) == before, 5)


def test_wrong_questions_are_refused(running: Gateway) -> None:
    for words, said in (
        (["connect", "--count", "colour"], "no field"),
        (["connect", "--dest", "10.0.0.0/99"], "10.0.0.0/99"),
        (["exec", "--user", "nobody-of-this-name"], "no user"),
    ):
        answer = running.cli("trace", *words, check=False)
        assert answer.returncode != 0
        assert said in answer.stderr


def test_losses_are_counted_not_hidden(running: Gateway) -> None:
    """Seen and lost make up all there were."""
    server = running.lab.serve(servers.silent, 4003)
    count = 3000
    told: list[str] = []
    with tracer(running, "connect", "--json", "--port", str(server.port), "--duration", "6") as seen:
        reading = threading.Thread(target=lambda: told.extend(seen.process.communicate(timeout=20)))
        reading.start()
        for _ in range(count):
            running.lab.router.connect((SERVER4, server.port)).close()
        reading.join()
    out, err = told
    lost = sum(int(line.split()[0]) for line in err.splitlines() if "were lost" in line)
    assert len(out.splitlines()) + lost == count


def test_the_end_of_the_probes_is_told(running: Gateway) -> None:
    with tracer(running, "connect") as seen:
        running.agent.tolerated.append("the probes' process was killed")
        subprocess.run(["kill", "-9", str(probes_pid(running))], check=True)
        _, err = seen.process.communicate(timeout=10)
        assert seen.process.returncode != 0
        assert "ended" in err
    wait_until(lambda: not probes(running)["trouble"], 30, running.agent.log)
    Tracer(running, "connect", "--duration", "0.1").end(None)
