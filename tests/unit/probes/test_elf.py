"""Where functions begin and return: against what binutils say of the libraries of this machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.probes.elf import functions
from gateway.probes.x86_returns import NotUnderstood, returns_of

NAMES = ("SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_free")


def libssl() -> Path:
    found = sorted(Path("/usr/lib").glob("*/libssl.so.*"))
    if not found or os.uname().machine != "x86_64" or shutil.which("objdump") is None:
        pytest.skip("needs libssl, x86-64 and objdump")
    return found[-1].resolve()


def test_as_objdump_says() -> None:
    path = libssl()
    with path.open("rb") as file:
        found = functions(file.fileno(), NAMES)
    assert set(found) == set(NAMES)
    for name in ("SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex"):
        listing = subprocess.run(
            ["objdump", "-d", f"--disassemble={name}", "--no-show-raw-insn", str(path)],
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout.splitlines()  # fmt: skip
        lines = [line.split() for line in listing if line.startswith(" ")]
        assert found[name].entry == int(lines[0][0].rstrip(":"), 16)  # of text at its own offset, as Debian links
        assert list(found[name].returns) == [int(line[0].rstrip(":"), 16) for line in lines if line[1] == "ret"]


def test_every_function_of_libssl_is_read_right_or_not_at_all() -> None:
    """No return is ever named that objdump does not have."""
    path = libssl()
    symbols = subprocess.run(["objdump", "-T", str(path)], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in symbols.splitlines() if " DF .text" in line]
    listing = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    returns = {
        int(line.split("\t")[0].strip().rstrip(":"), 16)
        for line in listing.splitlines()
        if line.count("\t") == 2 and line.split("\t")[2].split()[0] in ("ret", "repz")
    }
    with path.open("rb") as file:
        found = functions(file.fileno(), names)
    assert len(found) > 400
    named = {at for function in found.values() for at in function.returns}
    assert named <= returns
    understood = sum(function.why_none is None for function in found.values())
    assert understood > len(found) * 0.4


def test_what_is_no_library(tmp_path: Path) -> None:
    file = tmp_path / "text"
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + bytes(100)):
        file.write_bytes(content)
        with file.open("rb") as opened:
            assert functions(opened.fileno(), NAMES) == {}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("c4e2", "not known"),
        ("e9000000", "is cut"),
        ("eb01b8c3000000c3", "into the middle"),
        ("e9ffffff7fc3", "by a jump"),
        ("ffe0c3", "a table"),
        ("90", "no return"),
    ],
)
def test_code_that_is_not_probed(code: str, why: str) -> None:
    with pytest.raises(NotUnderstood, match=why):
        returns_of(bytes.fromhex(code))


def test_a_return_is_not_what_looks_like_one() -> None:
    assert returns_of(bytes.fromhex("b8c3c3c3c3 48c7c0c3000000 c3 f30f1efa c3")) == [12, 17]
