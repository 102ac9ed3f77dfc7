"""The systemd units as they stand in the repository: no fault in systemd's eyes, and as confined as works."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy/systemd"
EXPOSED_AT_MOST = {"sluicegate.service": 1.7, "sluicegate-agent.service": 3.4}
"""Of 10 (`systemd-analyze security`); what is left is their work, the network, that the agent is root's, and what its
probes take: BPF, perf events, other processes."""

pytestmark = [
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"),
    pytest.mark.parametrize("name", EXPOSED_AT_MOST),
]


@pytest.fixture
def unit(name: str, tmp_path: Path) -> Path:
    """As install.sh fills it in."""
    command = tmp_path / "bin/sluicegate"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    text = (UNITS / name).read_text().replace("@PREFIX@", str(tmp_path)).replace("@DATA@", "/var/lib/sluicegate")
    text = text.replace("@UNIT@", "sluicegate.service").replace("@USER@", "games")  # any user that each Debian has
    assert "@" not in re.sub(r"(?m)^(#|SystemCallFilter=).*", "", text)
    file = tmp_path / name
    file.write_text(text)
    return file


def test_systemd_finds_no_fault(unit: Path) -> None:
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert [line for line in said.stderr.splitlines() if unit.name in line] == []
    assert said.returncode == 0


def test_what_it_is_exposed_to(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
    if found is None:
        pytest.skip(f"this systemd cannot judge a file: {said.stderr.strip()[:200]}")
    print(said.stdout)
    assert float(found[1]) <= EXPOSED_AT_MOST[unit.name], said.stdout
