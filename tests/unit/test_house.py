"""The house rules that no linter knows: locks in step and without hosts, small files, a short top level."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "deploy" / "lock"
TOP_LEVEL = {
    *(
        "gateway",
        "bpf",
        "web",
        "migrations",
        "tests",
        "docs",
        "deploy",
        "docker-compose.yml",
        "Dockerfile",
        "install.sh",
    ),
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "alembic.ini"),
}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc"}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def wanted(name: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = list(project["project"]["dependencies"])
    if name in ("demo", "dev"):
        requirements += project["project"]["optional-dependencies"]["demo"]
    if name == "dev":
        requirements += project["dependency-groups"]["dev"]
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}


@pytest.mark.parametrize("name", ["runtime", "demo", "dev"])
def test_locks_are_in_step_with_pyproject(name: str) -> None:
    """After a change of dependencies: tests/relock --keep."""
    lock = (LOCKS / f"{name}.txt").read_text()
    locked = {canonicalize_name(found) for found in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    assert wanted(name) - locked == set()
    assert "://" not in lock
    assert len(re.findall(r"^[\w.-]+==", lock, re.MULTILINE)) <= lock.count("--hash=sha256:")


def test_no_file_is_long() -> None:
    """Near 600 lines a file holds more than one concept."""
    sources = tracked("gateway/*.py", "migrations/*.py", "tests/*.py", "bpf/*", "web/src/*.ts", "web/src/*.tsx")
    written = [path for path in sources if "/generated/" not in str(path) and not path.name.endswith(".d.ts")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in written}
    assert {path: lines for path, lines in lengths.items() if lines > 600} == {}


def test_no_file_is_a_drawer_for_everything() -> None:
    assert [path for path in tracked("gateway/*.py", "web/src/*") if path.stem.lower() in FORBIDDEN_NAMES] == []


def test_the_top_level_stays_short() -> None:
    entries = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {entry for entry in entries if not entry.startswith(".")} - TOP_LEVEL == set()


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked("gateway/*.py", "migrations/*.py", "web/src/*.ts", "web/src/*.tsx", "install.sh")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert found == []
