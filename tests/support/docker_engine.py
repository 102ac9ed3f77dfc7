"""A Docker engine of the tests' own, and a Debian to build on, where neither is given.

`DOCKER_HOST` names an engine and `SLUICEGATE_TEST_BASE` an image in it; else dockerd is started in a folder of its
own and debootstrap makes the base.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SUITE = "bookworm"


@dataclass(frozen=True, slots=True)
class Engine:
    env: dict[str, str]
    base: str
    """Image of a bare Debian."""

    def __call__(self, *words: str, stdin: bytes | str = "", code: int = 0, within_s: float = 300) -> str:
        """What `docker …` said. Raises AssertionError on another exit code."""
        return self.run(["docker", *words], stdin=stdin, code=code, within_s=within_s)

    def run(
        self, command: list[str], *, stdin: bytes | str = "", code: int = 0, within_s: float = 300, **env: str
    ) -> str:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            command, input=given, capture_output=True, env=self.env | env, timeout=within_s, check=False
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert done.returncode == code, f"{command}: exit {done.returncode}\n{out}\n{err}"
        return out + (err if code else "")


@contextmanager
def docker_engine(folder: Path) -> Iterator[Engine]:
    """Skips the test where that is not possible."""
    if os.geteuid() != 0 or not shutil.which("docker"):
        pytest.skip("needs root and Docker (apt install docker.io)")
    host, daemon = os.environ.get("DOCKER_HOST"), None
    if host is None:
        host, daemon = f"unix://{folder}/docker.sock", _start(folder)
    env = _environment(folder, host)
    try:
        yield Engine(env, os.environ.get("SLUICEGATE_TEST_BASE") or _imported_base(env, folder))
    finally:
        if daemon is not None:
            _end(daemon, folder)


@contextmanager
def docker_of_its_own(folder: Path, base: bytes, *, prefix: Sequence[str], options: Sequence[str]) -> Iterator[Engine]:
    """An engine whose command begins with `prefix` (a network namespace) and ends with `options`. `base`: the image's
    files, a tar."""
    folder.mkdir(parents=True)
    daemon = _start(folder, prefix, options)
    try:
        engine = Engine(_environment(folder, f"unix://{folder}/docker.sock"), "base")
        engine("import", "-", engine.base, stdin=base)
        yield engine
    finally:
        _end(daemon, folder)


def _environment(folder: Path, host: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")}
    # Debian's program first: one that came otherwise may lack what builds images (buildx).
    env["PATH"] = f"/usr/bin:{env['PATH']}"
    config = os.environ.get("DOCKER_CONFIG", str(folder))
    return env | {"DOCKER_HOST": host, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": config}


def _end(daemon: "subprocess.Popen[bytes]", folder: Path) -> None:
    daemon.terminate()
    daemon.wait(60)
    # It leaves a mount behind, over which whoever clears the folder (pytest, days later) would stumble.
    subprocess.run(["umount", "--lazy", f"{folder}/exec/netns/default"], check=False, capture_output=True)
    subprocess.run(["rm", "-rf", str(folder)], check=False)
    for cgroup in Path("/sys/fs/cgroup").glob("*/docker"):
        with contextlib.suppress(OSError):  # another engine has containers in it
            cgroup.rmdir()


def _start(folder: Path, prefix: Sequence[str] = (), options: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    if not shutil.which("dockerd"):
        pytest.skip("needs dockerd (apt install docker.io), or DOCKER_HOST")
    places = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    with (folder / "dockerd.log").open("wb") as log:
        command = [*prefix, "dockerd", *places, "-H", f"unix://{folder}/docker.sock", *options]
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    until_s = time.monotonic() + 60
    while not (folder / "docker.sock").exists():
        if daemon.poll() is not None:
            pytest.skip(f"dockerd does not run here: {(folder / 'dockerd.log').read_text()[-500:]}")
        assert time.monotonic() < until_s
        time.sleep(0.1)
    return daemon


def _imported_base(env: dict[str, str], folder: Path) -> str:
    if not shutil.which("debootstrap"):
        pytest.skip("needs debootstrap (apt install debootstrap), or SLUICEGATE_TEST_BASE")
    tree, name = folder / "base", "sluicegate-test-base"
    words = ["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(tree)]
    subprocess.run(words, check=True, capture_output=True, timeout=900)
    with subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE) as packed:
        subprocess.run(["docker", "import", "-", name], stdin=packed.stdout, env=env, check=True, capture_output=True)
    assert packed.returncode == 0
    return name
