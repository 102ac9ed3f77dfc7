"""The probes' process: its start, what it takes, its death, and that nothing of it stays behind."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import agent_client
from gateway.errors import SluicegateError
from tests.bench.compare import family
from tests.bench.rig import memory
from tests.support.lab import Lab, gateway
from tests.support.lab.gateway import PORT, Gateway
from tests.support.lab.lab import ROUTER4
from tests.support.lab.world import BASE, KEY

MEMORY_MB = 220
PROG_GET_NEXT_ID, PROG_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD = 11, 13, 15
OURS = {b"on_socket", b"on_incoming", b"on_outgoing", b"on_connect4", b"on_connect6"}


def programs() -> set[tuple[int, bytes]]:
    """Number and name of every program in this kernel (bpf(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = set()
    number = 0
    while True:
        attributes = (ctypes.c_uint32 * 4)(number, 0, 0, 0)
        if libc.syscall(321, PROG_GET_NEXT_ID, ctypes.byref(attributes), 12) < 0:
            return found
        number = attributes[1]
        attributes = (ctypes.c_uint32 * 4)(number, 0, 0, 0)
        descriptor = libc.syscall(321, PROG_GET_FD_BY_ID, ctypes.byref(attributes), 12)
        if descriptor < 0:
            continue
        info = (ctypes.c_char * 256)()
        asked = (ctypes.c_uint32 * 4)(descriptor, 256)
        ctypes.memmove(ctypes.byref(asked, 8), ctypes.byref(ctypes.c_uint64(ctypes.addressof(info))), 8)
        if libc.syscall(321, OBJ_GET_INFO_BY_FD, ctypes.byref(asked), 16) == 0:
            found.add((number, info[64:80].split(b"\0")[0]))
        os.close(descriptor)


def status(running: Gateway) -> Any:
    return agent_client.ask(running.agent.socket, "status")["probes"]


def prober(running: Gateway) -> int:
    (pid,) = (
        pid
        for pid in family([running.agent.pid])
        if b"gateway.probes.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    return pid


def wait_here(running: Gateway) -> None:
    def here() -> bool:
        try:
            return bool(status(running)["trouble"] is None)
        except SluicegateError:
            return False

    running.until(here, 30, running.agent.log)


@pytest.fixture
def running(lab: Lab) -> Iterator[Gateway]:
    lab.provider(80)
    with gateway(lab, BASE, armed=False, listen="0.0.0.0", probes=True) as running:
        wait_here(running)
        yield running


def call(running: Gateway) -> None:
    asked = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
    with running.lab.client.http(headers={"authorization": f"Bearer {KEY}"}) as client:
        assert client.post(f"http://{ROUTER4}:{PORT}/v1/chat/completions", json=asked).status_code == 200


def measured(running: Gateway) -> bool:
    """Whether the kernel tells of a call that is made now."""
    call(running)
    time.sleep(1.2)
    items = running.api.get("/api/v1/telemetry/routes", params={"window": "2s"}).json()["items"]
    return bool(items) and items[0]["client_first_byte_ms"] is not None


def test_all_features_load_and_take_little_memory(running: Gateway) -> None:
    assert set(status(running)["features"].values()) == {None}
    call(running)
    taken = memory(family([running.agent.pid]))
    assert taken.total < MEMORY_MB, taken


def test_kill_9_of_the_agent_leaves_no_program(running: Gateway) -> None:
    before = {number for number, name in programs() if name in OURS}
    held = prober(running)
    assert before
    running.agent.kill()
    # those of other agents on this machine stay, ours go with the process that held them
    running.until(lambda: not Path(f"/proc/{held}").exists(), 5)
    running.until(lambda: len(before & {number for number, _ in programs()}) <= len(before) - len(OURS), 5, programs)
    call(running)
    running.agent.start()
    wait_here(running)
    running.until(lambda: measured(running), 20)


def test_the_process_is_started_again_and_the_agent_does_not_mind(running: Gateway) -> None:
    running.until(lambda: measured(running), 20)
    first = prober(running)
    agent = running.agent.pid
    os.kill(first, signal.SIGKILL)
    running.until(
        lambda: status(running)["starts"] == 2 and status(running)["trouble"] is None, 20, lambda: status(running)
    )
    assert prober(running) != first
    assert running.agent.pid == agent
    running.until(lambda: measured(running), 20)
    assert "started again" in running.agent.log() or "the probes' process ended" in running.agent.log()


def test_an_upgrade_of_the_agent_brings_its_probes_along(running: Gateway) -> None:
    first = prober(running)
    running.cli("service", "upgrade", "--agent")
    wait_here(running)
    running.until(lambda: not Path(f"/proc/{first}").exists(), 5)
    assert prober(running) != first
    running.until(lambda: measured(running), 20)


def test_probes_turned_off_are_not_there(lab: Lab) -> None:
    lab.provider(80)
    with gateway(lab, BASE, armed=False, listen="0.0.0.0", probes=False) as running:
        running.until(lambda: "turned off" in str(status(running)["trouble"]), 10)
        call(running)
        running.until(lambda: bool(running.api.get("/api/v1/telemetry/routes").json()["items"]), 5)
        (item,) = running.api.get("/api/v1/telemetry/routes").json()["items"]
        assert item["rtt_ms"] is None
        assert item["retransmits"] is None
        assert "turned off" in item["sources"]["kernel"]
