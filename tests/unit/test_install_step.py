"""install.sh's `step`: whatever fails within a step ends the installation, at a terminal and without one."""

import re
import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "install.sh"
AROUND = """set -euo pipefail
work=$1 erase=$2 bold="" dim="" red="" green="" blue="" plain=""
fail() { echo "error: $1" >&2; exit 1; }
two_commands() { echo "this went wrong"; false; echo "went on all the same"; }
"""


def step(folder: Path, erase: str, call: str) -> subprocess.CompletedProcess[str]:
    found = re.search(r"^step\(\) \{.*?^\}$", INSTALL.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    script = f"{AROUND}\n{found[0]}\n{call}\necho 'the next step'"
    return subprocess.run(
        ["bash", "-c", script, "install", str(folder), erase], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("erase", ["", "\r"], ids=["pipe", "terminal"])
def test_a_failure_in_the_middle_of_a_step_ends_it(tmp_path: Path, erase: str) -> None:
    done = step(tmp_path, erase, "step 'doing two things' two_commands")
    assert done.returncode == 1
    assert "the next step" not in done.stdout
    assert "this went wrong" in done.stderr
    assert "went on all the same" not in done.stderr
    assert "error: this step failed with code 1: doing two things" in done.stderr


@pytest.mark.parametrize("erase", ["", "\r"], ids=["pipe", "terminal"])
def test_a_step_that_succeeds_is_followed_by_the_next(tmp_path: Path, erase: str) -> None:
    done = step(tmp_path, erase, "step 'doing it' true")
    assert done.returncode == 0, done.stderr
    assert "doing it" in done.stdout
    assert done.stdout.endswith("the next step\n")
