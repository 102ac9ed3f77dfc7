"""A rival's process: on the gateways' core from its start, ended with us, its log shown where it does not come up."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.compare import GATEWAY_CORE


@contextmanager
def rival(
    command: Sequence[str | Path], log: Path, *, env: Mapping[str, str], ready: Callable[[str], bool], within_s: float
) -> Iterator[int]:
    """Run the command until the block ends; yields its pid once `ready` (given its log so far) says so.

    On one core from the start, so that a runtime which counts cores starts one worker. Raises TimeoutError."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(GATEWAY_CORE), *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **env},
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + within_s
        while not ready(log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-1500:]
                raise TimeoutError(f"not up within {within_s:.0f} s (exit {process.returncode}): {said}")
            time.sleep(0.2)
        yield process.pid
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
