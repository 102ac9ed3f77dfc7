"""What the agent, which is root, makes of what a process tells it that is not."""

import os
import socket
from pathlib import Path

import pytest

from gateway.intercept.desk import open_socket
from gateway.intercept.host_facts import cgroup_path
from gateway.policy.interception import InterceptionRule, plain, rule_of


@pytest.mark.parametrize("port", ["443 } ; flush ruleset ; #", 0, 65536, True, None])
def test_ports_that_are_none_are_refused(port: object) -> None:
    told = plain(InterceptionRule(name="r", hosts=("a.test",)))
    assert rule_of(told).ports == (80, 443)
    with pytest.raises(ValueError, match="no port"):
        rule_of({**told, "ports": [443, port]})


@pytest.mark.parametrize("path", ['a" tcp dport 1 accept', "a\nflush ruleset"])
def test_a_cgroup_cannot_end_its_quotes(path: str) -> None:
    with pytest.raises(ValueError, match="cannot be told"):
        cgroup_path(path)


def test_what_the_folders_owner_puts_in_the_sockets_place_changes_no_hands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "agent.sock"
    victim.write_text("root's")
    before = victim.stat().st_uid
    umask = os.umask

    def exchanged(mask: int) -> int:
        if path.exists():  # the moment after bind
            path.unlink()
            path.symlink_to(victim)
        return umask(mask)

    monkeypatch.setattr(os, "umask", exchanged)
    sock = open_socket(path, 4711, 4711)
    assert isinstance(sock, socket.socket)
    sock.close()
    assert victim.stat().st_uid == before
