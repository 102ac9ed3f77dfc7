"""Pipes are lent, come back empty, and are not to be had without end."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.dataplane.splice_pipes import KEPT, PIPE_BYTES, SMALLEST_BYTES, Pipe, PipePool

NOBODY = 64322
"""A user whose pipes are counted for this test alone."""


@pytest.fixture
def pool() -> Iterator[PipePool]:
    made = PipePool(most=KEPT + 2)
    yield made
    assert made.lent == 0
    made.close()


def taken(pool: PipePool) -> Pipe:
    pipe = pool.take()
    assert pipe is not None
    return pipe


def test_an_empty_pipe_is_lent_again(pool: PipePool) -> None:
    first = taken(pool)
    assert first.size >= PIPE_BYTES or os.geteuid() != 0
    pool.give_back(first, empty=True)
    assert taken(pool) is first
    pool.give_back(first, empty=True)


def test_a_pipe_with_bytes_in_it_is_not(pool: PipePool) -> None:
    first = taken(pool)
    os.write(first.write_fd, b"of another connection")
    pool.give_back(first, empty=False)
    with pytest.raises(OSError):
        os.fstat(first.read_fd)
    second = taken(pool)
    with pytest.raises(BlockingIOError):
        os.read(second.read_fd, 1)
    pool.give_back(second, empty=True)


def test_no_more_are_lent_than_agreed_nor_kept(pool: PipePool) -> None:
    files = len(os.listdir("/proc/self/fd"))
    pipes = [taken(pool) for _ in range(KEPT + 2)]
    assert pool.take() is None
    for pipe in pipes:
        pool.give_back(pipe, empty=True)
    assert len(os.listdir("/proc/self/fd")) - files == 2 * KEPT


def test_none_where_no_file_may_be_opened(pool: PipePool) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as next_file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_file.fileno(), hard))
        try:
            assert pool.take() is None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_user_without_privileges_gets_pipes_of_use_or_none() -> None:
    """pipe-user-pages-soft, 64 MB: beyond it new pipes are not enlarged, then they are tiny. (pipe(7))"""
    program = f"""
import json, os
from gateway.dataplane.splice_pipes import PipePool
from gateway.lifetime import raise_file_limit
raise_file_limit()
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
pool, sizes = PipePool(most=2000), []
while (pipe := pool.take()) is not None:
    sizes.append(pipe.size)
print(json.dumps(sizes))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    sizes = json.loads(said)
    assert min(sizes) >= SMALLEST_BYTES
    assert sizes[0] == PIPE_BYTES
    assert len(sizes) < 2000
    assert sum(sizes) <= 65 * 1024 * 1024
