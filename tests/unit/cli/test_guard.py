"""The lock that says whether a guard lives, and the log that does not grow for ever."""

import fcntl
import os
from pathlib import Path

from gateway.cli import guard
from gateway.cli.background import BackgroundProcess


def process(folder: Path) -> BackgroundProcess:
    return BackgroundProcess(lock=folder / "lock", log=folder / "log", command=["true"])


def test_a_number_in_a_lock_that_nobody_holds_means_nothing(tmp_path: Path) -> None:
    assert process(tmp_path).guard_pid() is None
    (tmp_path / "lock").write_text(f"{os.getpid()}\n")
    assert process(tmp_path).guard_pid() is None


def test_a_held_lock_whose_number_is_not_a_guard_s_means_nothing(tmp_path: Path) -> None:
    held = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.write(held, b"1\n")
    try:
        assert process(tmp_path).guard_pid() is None
    finally:
        os.close(held)


def test_one_guard_at_a_time(tmp_path: Path) -> None:
    first = guard.hold(tmp_path / "lock")
    assert first is not None
    try:
        assert guard.hold(tmp_path / "lock") is None
    finally:
        os.close(first)
    again = guard.hold(tmp_path / "lock")
    assert again is not None
    os.close(again)


def test_a_great_log_is_moved_aside_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "sluicegate.log"
    with log.open("ab") as writer:
        writer.truncate(guard.LOG_MAX_BYTES + 1)
        guard.Guard(log, ["true"]).trim_log()
        assert log.stat().st_size == 0
        assert (tmp_path / "sluicegate.log.1").stat().st_size == guard.LOG_MAX_BYTES + 1
        writer.write(b"next\n")
    assert log.read_bytes() == b"next\n"


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "sluicegate.log"
    log.write_text("a line\n")
    guard.Guard(log, ["true"]).trim_log()
    assert log.read_text() == "a line\n"
    assert not (tmp_path / "sluicegate.log.1").exists()
