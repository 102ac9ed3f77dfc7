"""The lab itself: what the other tests stand on."""

import socket
import struct
import subprocess
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.lab.lab import CLIENT4, CLIENT6, ROUTER_OUT4, SERVER4, SERVER6, UNPRIVILEGED
from tests.support.lab.root import root_state
from tests.support.lab.servers import echo, plain_http, reset_after
from tests.support.processes import Process

MARKS = Path("/proc/sys/net/ipv4/conf/all/src_valid_mark")
NAMED = "import json, socket; print(json.dumps(sorted({a[4][0] for a in socket.getaddrinfo('api.example', 80)})))"


def test_hosts_reach_each_other_and_servers_see_who_it_was(lab: Lab) -> None:
    server = lab.serve(echo, 443)
    for address, peer in ((SERVER4, CLIENT4), (SERVER6, CLIENT6)):
        with lab.client.connect((address, 443)) as connection:
            connection.sendall(b"over the router")
            assert connection.recv(100) == b"over the router"
        assert server.last.peer[0] == peer
        assert server.last.local[0] == address
    with lab.router.connect((SERVER4, 443)) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert server.last.peer[0] == ROUTER_OUT4
    assert server.last.end == "fin"
    assert [bytes(one.received) for one in server.connections] == [b"over the router", b"over the router", b""]


def test_names_change_while_the_lab_runs(lab: Lab) -> None:
    lab.hosts({"api.example": [SERVER4, SERVER6]})
    assert lab.client.python(NAMED) == [SERVER4, SERVER6]
    lab.hosts({"api.example": "10.9.2.7"})
    assert lab.client.python(NAMED) == ["10.9.2.7"]
    lab.hosts({})
    names = lab.names()
    names.set("cdn.example", "10.9.2.3", "fd09:2::3", ttl_s=5)
    names.set("api.example", alias="cdn.example")
    assert lab.router.python(NAMED) == ["10.9.2.3", "fd09:2::3"]
    assert names.times_asked("api.example") == 2


def test_commands_run_as_another_user_in_a_cgroup(lab: Lab) -> None:
    cgroup = lab.cgroup("some")
    script = "id -u; grep ^0: /proc/self/cgroup; grep CapEff /proc/self/status"
    said = lab.router.run("sh", "-c", script, user=UNPRIVILEGED, cgroup=cgroup, capabilities=("net_raw",)).stdout
    uid, group, capabilities = said.splitlines()
    assert uid == str(UNPRIVILEGED)
    assert group.endswith(f"/{cgroup.name}")
    assert int(capabilities.split()[1], 16) == 1 << 13


def test_a_capture_tells_a_reset_from_an_end(lab: Lab) -> None:
    lab.serve(reset_after(4), 4000)
    lab.serve(echo, 4001)
    seen = lab.capture(lab.client, "c0", "tcp")
    with lab.client.connect((SERVER4, 4000)) as connection:
        connection.sendall(b"four")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with lab.client.connect((SERVER6, 4001)) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert any("R" in flags for flags in seen.flags_from(SERVER4, 4000))
    assert not any("F" in flags for flags in seen.flags_from(SERVER4, 4000))
    assert any("F" in flags for flags in seen.flags_from(SERVER6, 4001))
    assert not any("R" in flags for flags in seen.flags_from(SERVER6, 4001))


def test_an_http_client_and_a_provider_in_namespaces(lab: Lab) -> None:
    provider = lab.provider(80)
    lab.serve(plain_http, 81)
    with lab.client.http() as client:
        asked = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        assert client.post(f"http://[{SERVER6}]/v1/chat/completions", json=asked).json()["object"] == "chat.completion"
        assert client.get(f"http://{SERVER4}:81/").text == f"{CLIENT4} to {SERVER4}\n"
    assert provider.last.peer == CLIENT6
    assert provider.last.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


def test_sockets_and_sysctls_are_the_namespaces_own(lab: Lab) -> None:
    root_before = MARKS.read_text()
    lab.router.sysctl("net.ipv4.conf.all.src_valid_mark", 1)
    assert lab.router.sysctl("net.ipv4.conf.all.src_valid_mark") == "1"
    assert lab.client.sysctl("net.ipv4.conf.all.src_valid_mark") == "0"
    assert MARKS.read_text() == root_before
    lab.serve(echo, 443)
    with lab.client.connect((SERVER4, 443)):
        assert lab.client.sockets("dport = :443") == {"ESTAB": 1}
        assert not lab.router.sockets("dport = :443")


def test_what_is_left_over_is_found_killed_and_told() -> None:
    lab = Lab().__enter__()
    folder, prefix = lab.folder, lab.prefix
    lab.cgroup("full")
    forgotten = lab.client.run("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").stdout.strip()
    with pytest.raises(AssertionError, match=f"left running: {forgotten} sleep 1000"):
        lab.remove()
    assert Process(int(forgotten), "sleep").wait(2)
    assert not folder.exists()
    assert prefix not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert root_state(prefix).cgroups == ()


def test_a_failure_inside_removes_everything_too() -> None:
    with pytest.raises(RuntimeError, match="in the middle"), Lab(container=True) as lab:
        lab.serve(echo, 443)
        held = lab.client.connect((SERVER4, 443))
        lab.client.popen(["sleep", "1000"])
        raise RuntimeError("in the middle")
    assert lab.prefix not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    held.close()


def test_a_change_of_the_root_namespace_is_told_with_its_place() -> None:
    before = root_state("x")
    ours = type(before)(
        **{name: getattr(before, name) for name in before.__slots__} | {"rules": (*before.rules, "new")}
    )
    assert before.difference(ours) == ["rules: new: new"]
    assert ours.difference(before) == ["rules: gone: new"]
