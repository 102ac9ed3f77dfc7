"""Where a socket has its place in the array that workers and the kernel's probes share (`struct tag` of bpf/routes.h):
an entry for each value of a socket cookie's low bits.

An entry has two words, which a worker writes. The first is the socket's tag, in one store: whose the entry is, which
series (a number for route and target) its packets belong to now, and flags. The second is when a client's connection
was accepted (CLOCK_MONOTONIC, nanoseconds).
"""

from typing import Final

WORDS: Final = 2
"""Of 64 bits, an entry."""
OWNER_MASK: Final = 0xFFFF_FFFF
SERIES_SHIFT: Final = 32
SERIES_MASK: Final = 0xFFFF
CLIENT: Final = 1 << 48
"""The socket is a client's; the others are those of upstreams."""
FRESH: Final = 1 << 49
"""Not a first byte to go by: a new TLS connection's session tickets may come before it."""


def place_of(cookie: int, bits: int) -> int:
    """The index of a socket's first word, in an array for so many bits of cookies."""
    return (cookie & ((1 << bits) - 1)) * WORDS


def owner_of(cookie: int, bits: int) -> int:
    """What a tag says of whose it is: the other bits of the cookie, and never 0, which is nobody."""
    return cookie >> bits & OWNER_MASK | 1 << 31
