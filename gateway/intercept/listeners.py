"""Transparent listening sockets, one a rule: which of them a connection came in by says which rule caught it.

All workers accept from the same socket: when one of them dies, nothing waits in a queue of its own. The socket takes
connections to any address (IP_TRANSPARENT, ip(7)), IPv4 and IPv6.
"""

import socket
from collections.abc import Mapping
from typing import Final

IPV6_TRANSPARENT: Final = 75
"""linux/in6.h; Python's socket module does not name it."""
IP_TRANSPARENT: Final = 19
BACKLOG: Final = 4096


class Listeners:
    """By the name of the rule."""

    def __init__(self, inherited: Mapping[str, socket.socket] | None = None) -> None:
        self._sockets: dict[str, socket.socket] = dict(inherited or {})

    def port(self, rule: str) -> int:
        """Of the rule's listener, which is made where there is none. Raises OSError."""
        sock = self._sockets.get(rule)
        if sock is None:
            sock = self._sockets[rule] = open_listener()
        return int(sock.getsockname()[1])

    def drop(self, rules: set[str]) -> None:
        """Close our end of those: workers that have theirs go on accepting what waits."""
        for name in rules & self._sockets.keys():
            self._sockets.pop(name).close()

    @property
    def all(self) -> dict[str, socket.socket]:
        return self._sockets


def open_listener() -> socket.socket:
    """On a free port. Raises OSError, PermissionError without CAP_NET_ADMIN among them."""
    if socket.has_dualstack_ipv6():
        return _open(socket.AF_INET6)
    return _open(socket.AF_INET)


def _open(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
            sock.bind(("::", 0))
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
            sock.bind(("0.0.0.0", 0))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
