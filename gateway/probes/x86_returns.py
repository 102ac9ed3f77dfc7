"""Where a function of x86-64 code returns, found by the lengths of its instructions from its first byte to its last.

A breakpoint in the middle of an instruction would break the program, so that nothing is guessed: an instruction that is
not in the tables below, a last one that does not end with the function, a jump into the middle of one, or a way out by
a jump makes the function one that is not probed. Intel SDM volume 2, appendix A; vector code (VEX, EVEX) is left out,
as functions of libssl's surface have none.
"""

from typing import Final


class NotUnderstood(Exception):
    """The text says what of the code."""


_PREFIXES: Final = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\xf0\xf2\xf3")
_NONE, _BYTE, _WORD, _LONG, _FULL = 0, 1, 2, 4, 8
"""What follows an opcode; `_LONG` is two bytes behind a prefix 66, `_FULL` eight with REX.W."""


def _of(*ranges: tuple[int, int]) -> frozenset[int]:
    return frozenset(code for first, last in ranges for code in range(first, last + 1))


_ARITHMETIC: Final = range(0, 0x40, 8)
_MODRM: Final = _of(
    *((base, base + 3) for base in _ARITHMETIC),
    (0x63, 0x63), (0x69, 0x69), (0x6B, 0x6B), (0x80, 0x81), (0x83, 0x8F), (0xC0, 0xC1), (0xC6, 0xC7), (0xD0, 0xD3),
    (0xD8, 0xDF), (0xF6, 0xF7), (0xFE, 0xFF),
)  # fmt: skip
_IMMEDIATE: Final = {
    **dict.fromkeys((base + 4 for base in _ARITHMETIC), _BYTE),
    **dict.fromkeys((base + 5 for base in _ARITHMETIC), _LONG),
    **dict.fromkeys((0x6A, 0x6B, *range(0x70, 0x80), 0x80, 0x83, 0xA8, 0xC0, 0xC1, 0xC6, 0xE3, 0xEB), _BYTE),
    **dict.fromkeys(range(0xB0, 0xB8), _BYTE),
    **dict.fromkeys(range(0xB8, 0xC0), _FULL),
    **dict.fromkeys((0x68, 0x69, 0x81, 0xA9, 0xC7), _LONG),
    **dict.fromkeys((0xE8, 0xE9), _LONG),
    0xC2: _WORD,
}
_PLAIN: Final = _of((0x50, 0x5F), (0x90, 0x99), (0x9B, 0x9F), (0xA4, 0xA7), (0xAA, 0xAF), (0xC3, 0xC3), (0xC9, 0xC9),
                    (0xCC, 0xCC), (0xF4, 0xF5), (0xF8, 0xFD))  # fmt: skip
_MODRM_0F: Final = _of((0x0D, 0x0D), (0x10, 0x1F), (0x28, 0x2F), (0x40, 0x76), (0x7C, 0x7F), (0x90, 0x9F), (0xA3, 0xA5),
                       (0xAB, 0xC7), (0xD0, 0xFE))  # fmt: skip
_BYTE_0F: Final = frozenset((0x70, 0x71, 0x72, 0x73, 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6))
_PLAIN_0F: Final = _of((0x05, 0x05), (0x0B, 0x0B), (0x77, 0x77), (0xA2, 0xA2), (0xC8, 0xCF))
_RELATIVE: Final = frozenset((*range(0x70, 0x80), 0xE3, 0xE9, 0xEB))


def returns_of(code: bytes) -> list[int]:
    """Offsets of its `ret` instructions. Raises NotUnderstood."""
    at, begins, returns, targets = 0, set(), [], []
    while at < len(code):
        begins.add(at)
        opcode, jumps, end = _instruction(code, at)
        if end > len(code):
            raise NotUnderstood("its last instruction is cut")
        if jumps is not None:
            targets.append((jumps, opcode in (0xE9, 0xEB)))
        if opcode in (0xC2, 0xC3):
            returns.append(at)
        at = end
    for target, always in targets:
        if 0 <= target < len(code):
            if target not in begins:
                raise NotUnderstood("a jump leads into the middle of an instruction")
        elif always:
            raise NotUnderstood("it ends by a jump to another function")
    if not returns:
        raise NotUnderstood("it has no return")
    return returns


def _instruction(code: bytes, begin: int) -> tuple[int, int | None, int]:
    """Its opcode (those behind 0F as 0x0Fxx), where it jumps to if it does, and its end."""
    try:
        return _read(code, begin)
    except IndexError:
        raise NotUnderstood("its last instruction is cut") from None


def _read(code: bytes, begin: int) -> tuple[int, int | None, int]:
    at, short, wide = begin, False, False
    while code[at] in _PREFIXES:
        short = short or code[at] == 0x66
        at += 1
    if code[at] & 0xF0 == 0x40:
        wide = bool(code[at] & 8)
        at += 1
    opcode = code[at]
    at += 1
    if opcode == 0x0F:
        return _read_0f(code, at)
    if opcode in _MODRM:
        modrm = code[at]
        at = _operand_end(code, at)
        if opcode in (0xF6, 0xF7) and modrm & 0x30 == 0:  # test: the only ones of this group with an operand
            at += 1 if opcode == 0xF6 else 2 if short else 4
        if opcode == 0xFF and modrm & 0x38 in (0x20, 0x28):
            raise NotUnderstood("it jumps to where a table says")
    elif opcode not in _IMMEDIATE and opcode not in _PLAIN:
        raise NotUnderstood(f"instruction {opcode:#04x} is not known")
    size = _IMMEDIATE.get(opcode, _NONE)
    if size == _FULL:
        size = 8 if wide else 2 if short else 4
    elif size == _LONG and short and opcode not in (0xE8, 0xE9) and not wide:
        size = 2
    jumps = None
    if opcode in _RELATIVE:
        jumps = at + size + int.from_bytes(code[at : at + size], "little", signed=True)
    return opcode, jumps, at + size


def _read_0f(code: bytes, at: int) -> tuple[int, int | None, int]:
    opcode = code[at]
    at += 1
    if opcode in (0x38, 0x3A):
        end = _operand_end(code, at + 1) + (opcode == 0x3A)
        return 0x0F00 | opcode, None, end
    if 0x80 <= opcode <= 0x8F:
        end = at + 4
        return 0x0F00 | opcode, end + int.from_bytes(code[at:end], "little", signed=True), end
    if opcode in _PLAIN_0F:
        return 0x0F00 | opcode, None, at
    if opcode not in _MODRM_0F:
        raise NotUnderstood(f"instruction 0f {opcode:#04x} is not known")
    return 0x0F00 | opcode, None, _operand_end(code, at) + (opcode in _BYTE_0F)


def _operand_end(code: bytes, at: int) -> int:
    """Behind a ModRM byte, its SIB byte and its displacement."""
    mode, low = code[at] >> 6, code[at] & 7
    at += 1
    if mode == 3:
        return at
    if low == 4:
        base = code[at] & 7
        at += 1
        if mode == 0 and base == 5:
            return at + 4
    elif low == 5 and mode == 0:
        return at + 4
    return at + (0, 1, 4)[mode]
