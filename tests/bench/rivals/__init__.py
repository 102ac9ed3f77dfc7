"""The other gateways of the comparison: which can be had from package registries, how each is installed and started.

A rival is a module with

    PACKAGES                  what pip installs into an environment of its own (RIVALS, default .run/rivals)
    LACKS                     what it does not do here that Sluicegate does in the same run: read the figures with it
    serve(python, folder)     a context: running on core 0 with one worker, its target the mock provider; yields the
                              NAME=URL,MODEL,KEY,PID of tests/bench/compare.py

Each is configured as its documentation advises for speed: one worker for its core, no request log, nothing sent home.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.bench.rivals import litellm, tensorzero

ROOT: Final = Path(__file__).resolve().parents[3]
OBTAINABLE: Final = {"litellm": litellm, "tensorzero": tensorzero}
NOT_OBTAINABLE: Final = {
    "bifrost": (
        "its Go module (github.com/maximhq/bifrost/transports) is refused by the module proxy"
        ' ("not available"); its npm package holds only a downloader of a binary from another host'
    ),
    "agentgateway": "no crate, no npm or Python package has it (the one of that name on PyPI is another program)",
}
"""Why; as tried in November 2026. Whoever has such a binary starts it and names it as NAME=URL,MODEL,KEY,PID."""


def described() -> str:
    """What --help says of the rivals."""
    lines = ["rivals:"]
    lines += [f"  {name}: {' '.join(rival.PACKAGES)}; {rival.LACKS}" for name, rival in OBTAINABLE.items()]
    lines += [f"  {name}: cannot be had: {reason}" for name, reason in NOT_OBTAINABLE.items()]
    return "\n".join(lines)


@contextmanager
def running(names: Sequence[str]) -> Iterator[list[str]]:
    """Install and start what is named; yields NAME=URL,MODEL,KEY,PID of each that runs. Says which do not, and why."""
    if unknown := [name for name in names if name not in OBTAINABLE and name not in NOT_OBTAINABLE]:
        raise SystemExit(f"no rival {', '.join(unknown)}: there are {', '.join([*OBTAINABLE, *NOT_OBTAINABLE])}")
    if names:
        for name, reason in NOT_OBTAINABLE.items():
            print(f"{name} is left out: {reason}")
    with contextlib.ExitStack() as stack:
        systems: list[str] = []
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-rivals-")))
        for name in names:
            if name in NOT_OBTAINABLE:
                continue
            rival = OBTAINABLE[name]
            try:
                python = install(name, rival.PACKAGES)
                (folder / name).mkdir()
                systems.append(stack.enter_context(rival.serve(python, folder / name)))
            except (OSError, subprocess.CalledProcessError, TimeoutError) as error:
                print(f"{name} is left out: {error}")
            else:
                print(f"{name} runs ({' '.join(rival.PACKAGES)}); note: {rival.LACKS}")
        yield systems


def install(name: str, packages: Sequence[str]) -> Path:
    """The Python of an environment of the rival's own with these packages, made once. Raises CalledProcessError."""
    home = Path(os.environ.get("RIVALS", ROOT / ".run" / "rivals")) / name
    stamp = home / "installed"
    python = home / "bin" / "python"
    wanted = "\n".join(packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {name} into {home}")
    shutil.rmtree(home, ignore_errors=True)
    uv = shutil.which("uv") or str(ROOT / ".run" / "uv" / "bin" / "uv")
    if Path(uv).exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, home], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *packages], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    stamp.write_text(wanted)
    return python
