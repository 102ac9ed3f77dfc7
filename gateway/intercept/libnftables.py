"""libnftables through ctypes: a thin layer over libnftables.h (nftables ≥ 1.0.2), as its own Python module is one.

One `Nftables` is one netlink socket. A table with `flags owner` belongs to that socket: it is gone when the object is
closed, or when the process dies.
"""

import ctypes
import json
from typing import Any, Final

LIBRARY: Final = "libnftables.so.1"
_JSON: Final = 1 << 4
"""NFT_CTX_OUTPUT_JSON"""
_NUMERIC: Final = 1 << 6 | 1 << 7 | 1 << 8
"""NFT_CTX_OUTPUT_NUMERIC_PROTO | _PRIO | _SYMBOL"""
_TERSE: Final = 1 << 11
"""NFT_CTX_OUTPUT_TERSE: sets without their elements"""


class NftablesMissing(OSError):
    """The library is not on this host."""


class NftablesRefused(OSError):
    """The kernel, or the library, refused a transaction; nothing of it stands."""


class Nftables:
    """Runs transactions. Not thread-safe, and blocking: a transaction takes milliseconds."""

    def __init__(self, *, dry_run: bool = False) -> None:
        """`dry_run`: the kernel checks each transaction and throws it away. Raises NftablesMissing."""
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise NftablesMissing(f"{LIBRARY} is not on this host: apt-get install nftables") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_get_output_buffer",
                     "nft_ctx_get_error_buffer"):  # fmt: skip
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise NftablesMissing("libnftables gives no context")
        library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        library.nft_ctx_set_dry_run(self._context, dry_run)
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Owned tables go with it."""
        context, self._context = self._context, None
        if context:
            self._library.nft_ctx_free(context)

    def run(self, commands: str) -> None:
        """One transaction: all of it or nothing. Raises NftablesRefused."""
        self._run(commands, 0)

    def tables(self) -> "list[tuple[str, str]]":
        """Family and name of each. Raises NftablesRefused."""
        words = (line.split() for line in self._run("list tables", 0).splitlines())
        return [(word[1], word[2]) for word in words if len(word) == 3 and word[0] == "table"]

    def shape(self, table: str) -> str:
        """A table (`inet NAME`) as `nft -t` prints it: what it consists of, without the elements of its sets. Raises
        NftablesRefused."""
        return self._run(f"list table {table}", _NUMERIC | _TERSE)

    def list(self, commands: str) -> "list[dict[str, Any]]":
        """The objects that `list …` shows, as libnftables-json(5) writes them. Raises NftablesRefused.

        Never for what shows a table itself: where that has flags, libnftables 1.0.6 (Debian 12) reads and frees what it
        has freed already (table_flags_json), which ends the process sooner or later.
        """
        shown = self._run(commands, _JSON | _NUMERIC)
        found: list[dict[str, Any]] = json.loads(shown)["nftables"] if shown else []
        return found

    def text(self, commands: str) -> str:
        """What `nft` would print, with numbers for names. Raises NftablesRefused."""
        return self._run(commands, _NUMERIC)

    def _run(self, commands: str, flags: int) -> str:
        if not self._context:
            raise NftablesRefused("it is closed")
        library, context = self._library, self._context
        library.nft_ctx_output_set_flags(context, flags)
        failed = library.nft_run_cmd_from_buffer(context, commands.encode())
        output = (library.nft_ctx_get_output_buffer(context) or b"").decode()
        error = (library.nft_ctx_get_error_buffer(context) or b"").decode()
        if failed:
            raise NftablesRefused(error.strip().partition("\n")[0] or "refused without a reason")
        return output
