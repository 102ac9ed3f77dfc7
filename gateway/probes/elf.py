"""Functions that an ELF file exports: where in the file each begins, and where it returns.

Only what a uprobe needs: `.dynsym`, which stripped libraries keep, and program headers to turn addresses into offsets
(System V ABI, "ELF-64 Object File Format"). A function's returns come from `x86_returns`; on arm64 instructions are
four bytes each, so that `ret` cannot be mistaken.
"""

import os
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from gateway.probes.x86_returns import NotUnderstood, returns_of

X86_64: Final = 62
AARCH64: Final = 183
"""`e_machine`"""
MACHINES: Final = {"x86_64": X86_64, "aarch64": AARCH64}
PT_LOAD: Final = 1
SHT_DYNSYM: Final = 11
STT_FUNC: Final = 2
ARM_RETURN: Final = 0xD65F03C0
MOST_SECTIONS: Final = 4096
MOST_TABLE_BYTES: Final = 64 * 1024 * 1024
MOST_FUNCTION_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Function:
    """Offsets in the file, in bytes."""

    entry: int
    returns: tuple[int, ...]
    why_none: str | None
    """Why its returns are not known."""


def functions(descriptor: int, names: Collection[str]) -> dict[str, Function]:
    """Those of `names` that an open file exports; empty for what is no ELF file of this machine. Raises OSError and
    ValueError for one that is broken."""
    head = os.pread(descriptor, 64, 0)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return {}
    machine = struct.unpack_from("<H", head, 18)[0]
    if machine != MACHINES.get(os.uname().machine):
        return {}
    segments_at, sections_at = struct.unpack_from("<QQ", head, 32)
    segment_bytes, segments, section_bytes, sections = struct.unpack_from("<HHHH", head, 54)
    if segment_bytes < 56 or section_bytes < 64 or sections > MOST_SECTIONS:
        return {}
    loaded = []
    for index in range(segments):
        kind, _, offset, address, _, size = struct.unpack(
            "<IIQQQQ", _read(descriptor, segments_at + index * segment_bytes, 40)
        )
        if kind == PT_LOAD:
            loaded.append((address, size, offset))
    table = [
        struct.unpack("<IIQQQQIIQQ", _read(descriptor, sections_at + index * section_bytes, 64))
        for index in range(sections)
    ]
    found: dict[str, Function] = {}
    for section in table:
        if section[1] != SHT_DYNSYM or section[6] >= len(table):
            continue
        texts = _read(descriptor, table[section[6]][4], table[section[6]][5])
        for at, info, _, _, value, size in struct.iter_unpack("<IBBHQQ", _read(descriptor, section[4], section[5])):
            name = _name(texts, at, names) if info & 15 == STT_FUNC and value else None
            if name is not None and name not in found:
                found[name] = _function(descriptor, machine, loaded, value, size)
    return found


def _name(texts: bytes, at: int, wanted: Collection[str]) -> str | None:
    """A linker may lay a name into another's end, so that the text decides and not its place."""
    end = texts.find(b"\0", at, at + 64)
    name = texts[at:end].decode("latin-1") if end >= 0 else ""
    return name if name in wanted else None


def _function(descriptor: int, machine: int, loaded: list[tuple[int, int, int]], address: int, size: int) -> Function:
    for begin, length, offset in loaded:
        if begin <= address and address + size <= begin + length:
            entry = address - begin + offset
            break
    else:
        raise ValueError("a function lies in no segment of the file")
    if not 0 < size <= MOST_FUNCTION_BYTES:
        return Function(entry, (), f"a function has {size} bytes")
    code = _read(descriptor, entry, size)
    try:
        found = returns_of(code) if machine == X86_64 else _arm_returns(code)
    except NotUnderstood as error:
        return Function(entry, (), str(error))
    return Function(entry, tuple(entry + each for each in found), None)


def _arm_returns(code: bytes) -> list[int]:
    words = struct.unpack(f"<{len(code) // 4}I", code[: len(code) // 4 * 4])
    found = [index * 4 for index, word in enumerate(words) if word == ARM_RETURN]
    if not found:
        raise NotUnderstood("it has no return")
    return found


def _read(descriptor: int, at: int, size: int) -> bytes:
    if size > MOST_TABLE_BYTES:
        raise ValueError("a table of the file is too large")
    data = os.pread(descriptor, size, at)
    if len(data) != size:
        raise ValueError("the file ends too early")
    return data
