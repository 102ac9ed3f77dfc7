import os
from pathlib import Path

import pytest

from gateway.intercept.memory import Known, Memory
from gateway.policy.interception import InterceptionRule


def test_what_was_known_is_known_again(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path / "agent.state")
    known = Known([InterceptionRule(name="r", cidrs=("10.0.0.0/8",))], up=False, numbers={"r": 3})
    memory.write(known)
    assert Memory.open(tmp_path / "agent.state").read() == known


def test_a_torn_write_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "agent.state"
    Memory.open(path).write(Known(numbers={"r": 3}))
    path.write_bytes(path.read_bytes()[:-1])
    assert Memory.open(path).read() == Known()


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "pipe"])
def test_what_somebody_has_put_there_is_not_written_to(tmp_path: Path, kind: str) -> None:
    precious, path = tmp_path / "precious", tmp_path / "agent.state"
    precious.write_text("of somebody else")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "hard link":
        path.hardlink_to(precious)
    else:
        path.symlink_to(precious)
    with pytest.raises(OSError, match=r"agent\.state"):
        Memory.open(path)
    assert precious.read_text() == "of somebody else"
