"""The service without systemd: the same words, one guard, nothing left behind."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.ports import answers, free_port


@pytest.fixture
def port(data: Path) -> int:
    chosen = free_port()
    data.mkdir(mode=0o700)
    (data / "sluicegate.toml").write_text(f'listen = "127.0.0.1:{chosen}"\nworkers = 1\n')
    return chosen


@pytest.fixture
def service(sqlite_cli: Cli, port: int) -> Iterator[Cli]:
    yield sqlite_cli
    sqlite_cli("service", "stop").ok()
    assert not answers(port)


def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def guard_of(data: Path) -> int:
    return int((data / "service.lock").read_text())


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_start_status_stop(service: Cli, port: int) -> None:
    assert service("service", "status").code == 3
    started = service("service", "start").ok()
    assert f"http://127.0.0.1:{port}/console/" in started.out
    guard = guard_of(service.data)
    assert "already running" in service("service", "start").ok().out
    assert guard_of(service.data) == guard
    assert service("service", "status").ok().out.startswith("ready")
    assert f"serving listen=127.0.0.1:{port}" in service("service", "logs", "-n", "50").ok().out
    assert service("doctor").ok().out.count("broken\t") == 0
    service("service", "stop").ok()
    until(lambda: gone(guard), 5)
    assert service("service", "status").code == 3
    assert service("service", "stop").ok().out == "not running\n"


def test_upgrade_replaces_all_but_the_supervisor(service: Cli, port: int) -> None:
    assert service("service", "upgrade").code != 0
    service("service", "start").ok()
    (serve,) = children_of(guard_of(service.data))
    before = children_of(serve)
    assert "serves" in service("service", "upgrade").ok().out
    assert children_of(guard_of(service.data)) == [serve]
    until(lambda: not set(before) & set(children_of(serve)))
    assert service("service", "status").ok().out.startswith("ready")
    assert service("service", "upgrade").ok()


def test_what_dies_is_started_again(service: Cli, port: int) -> None:
    service("service", "start").ok()
    guard = guard_of(service.data)
    (serve,) = children_of(guard)
    time.sleep(5.5)  # an earlier end would count as a start that failed
    os.kill(serve, signal.SIGKILL)
    until(lambda: children_of(guard) not in ([], [serve]))
    until(lambda: service("service", "status").code == 0)


def test_nothing_outlives_the_guard(service: Cli, port: int) -> None:
    service("service", "start").ok()
    guard = guard_of(service.data)
    (serve,) = children_of(guard)
    os.kill(guard, signal.SIGKILL)
    until(lambda: gone(serve))
    until(lambda: not answers(port))
    assert service("service", "status").code == 3
    service("service", "start").ok()


def test_a_start_that_fails_says_why(service: Cli, port: int) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        said = service("service", "start")
        assert said.code == 1
        assert str(port) in said.err
    (service.data / "sluicegate.toml").write_text('listen = "127.0.0.1:70000"\n')
    assert "70000" in service("service", "start").err
    (service.data / "sluicegate.toml").write_text(
        f'listen = "127.0.0.1:{port}"\ndatabase = "postgresql://127.0.0.1:1/x"\n'
    )
    assert service("service", "start").code == 1
    assert service("service", "status").code == 3
