"""Transparent listening sockets, one a rule: which of them a connection came in by says which rule caught it.

All workers accept from the same socket: when one of them dies, nothing waits in a queue of its own. The socket takes
connections to any address (IP_TRANSPARENT, ip(7)), IPv4 and IPv6.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

IPV6_TRANSPARENT: Final = 75
"""linux/in6.h; Python's socket module does not name it."""
IP_TRANSPARENT: Final = 19
BACKLOG: Final = 4096


class Listeners:
    """By the name of the rule."""

    def __init__(
        self, inherited: Mapping[str, socket.socket] | None = None, ports: Mapping[str, int] | None = None
    ) -> None:
        """`ports`: those of a life before, taken again where they are free."""
        self._sockets: dict[str, socket.socket] = dict(inherited or {})
        self._before: dict[str, int] = dict(ports or {})

    def port(self, rule: str) -> int:
        """Of the rule's listener, which is made where there is none. Raises OSError."""
        sock = self._sockets.get(rule)
        if sock is None:
            sock = self._sockets[rule] = open_listener(self._before.get(rule, 0))
        return int(sock.getsockname()[1])

    def adopt(self, rule: str, sock: socket.socket) -> None:
        """Take back a listener that we made in a life before and that a worker has kept, if it is one and a descriptor
        is free. `sock` stays the caller's."""
        current = self._sockets.get(rule)
        port = self._before.get(rule, 0)
        if not _is_ours(sock, port) or (current is not None and current.getsockname()[1] == port):
            return
        with contextlib.suppress(OSError):
            # Not sock.dup(), which would make the listener block, the workers' ends of it too.
            self._sockets[rule] = socket.socket(fileno=os.dup(sock.fileno()))
            if current is not None:
                current.close()

    def drop(self, rules: set[str]) -> None:
        """Close our end of those: workers that have theirs go on accepting what waits."""
        for name in rules & self._sockets.keys():
            self._sockets.pop(name).close()

    @property
    def all(self) -> dict[str, socket.socket]:
        return self._sockets


def open_listener(wanted: int = 0) -> socket.socket:
    """On this port if it is free, else on any. Raises OSError, PermissionError without CAP_NET_ADMIN among them."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        return _open(family, wanted)
    except OSError:
        if not wanted:
            raise
        return _open(family, 0)


def _is_ours(sock: socket.socket, port: int) -> bool:
    """Whether it is a transparent listener on this port."""
    try:
        six = sock.family == socket.AF_INET6
        level, option = (socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if six else (socket.IPPROTO_IP, IP_TRANSPARENT)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return bool(listens and sock.getsockopt(level, option)) and sock.getsockname()[1] == port
    except OSError:
        return False


def _open(family: socket.AddressFamily, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # redirected connections of before have this port
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
            sock.bind(("::", port))
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
            sock.bind(("0.0.0.0", port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
