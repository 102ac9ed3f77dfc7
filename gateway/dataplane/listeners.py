"""What each listening address serves: with `--admin-listen` console and REST API have one of their own."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

WILDCARDS = frozenset(("0.0.0.0", "::"))


class Serves(Enum):
    ALL = "data plane, console and REST API"
    DATA = "data plane"
    ADMIN = "console and REST API"


class Listeners:
    """The addresses that a worker's sockets are bound to: the data plane's, and the admin listener's if there is one.

    Taken from the sockets, not from the settings: those are read again on SIGHUP, sockets stay.
    """

    def __init__(self, names: Sequence[Any] = ()) -> None:
        """`names`: as `getsockname()` tells, in the order of `gateway.server`."""
        two = len(names) > 1
        self._data: tuple[str, int] | None = names[0][:2] if two else None
        self._admin: tuple[str, int] | None = names[1][:2] if two else None

    def serves(self, local: tuple[str, int | None] | None) -> Serves:
        """What a connection to this local address may ask for."""
        if self._admin is None or self._data is None:
            return Serves.ALL
        if local is None:
            return Serves.DATA
        if self._data[1] != self._admin[1]:
            return Serves.ADMIN if local[1] == self._admin[1] else Serves.DATA
        # One port on two addresses: the kernel prefers the socket of the exact address to a wildcard's.
        exact, other = (self._data, Serves.ADMIN) if self._admin[0] in WILDCARDS else (self._admin, Serves.DATA)
        mine = Serves.DATA if exact is self._data else Serves.ADMIN
        return mine if local[0] == exact[0] else other
