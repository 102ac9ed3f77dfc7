"""The benchmark's mock provider (tests/bench/upstream.c) as a process: for loads that a Python provider cannot serve.

Its `/__stats` says what it served: the truth that a ledger is compared with.
"""

import hashlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port, wait_until_it_answers

SOURCES = Path(__file__).resolve().parents[1] / "bench"
BUILT = Path(__file__).resolve().parents[2] / ".run" / "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What the mock provider served since its start."""

    requests: int
    streams: int
    failed: int
    aborted: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class CUpstream:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stats(self) -> Stats:
        with urllib.request.urlopen(self.url + "/__stats", timeout=5) as answer:
            return Stats(**json.load(answer))


def build(name: str) -> Path:
    """The program tests/bench/NAME.c, built once per state of its source."""
    source = SOURCES / f"{name}.c"
    program = BUILT / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if not program.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(f".{free_port()}")
        subprocess.run(["cc", "-O2", "-o", fresh, source], check=True)
        fresh.rename(program)
    return program


@contextmanager
def c_upstream(events: int = 64, gap_us: int = 0) -> Iterator[CUpstream]:
    """Serve streams of so many events, so far apart, until the block ends."""
    port = free_port()
    command = ["setpriv", "--pdeathsig", "KILL", str(build("upstream")), str(port), str(events), str(gap_us)]
    process = subprocess.Popen(command)
    try:
        wait_until_it_answers(port, within_s=5)
        yield CUpstream(port)
    finally:
        process.kill()
        process.wait()
