"""From the gateway to where a captured connection wanted to go: to that very address, marked, never anywhere else."""

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Callable
from typing import Final

from gateway.dataplane.dialer import Dialer
from gateway.dataplane.dialing import Made, over
from gateway.dataplane.intercepted.flow import IP_TRANSPARENT, IPV6_TRANSPARENT, Flow
from gateway.policy.interception import SourceAddress

CONNECT_S: Final = 30.0
PORTS_OF_NOBODY: Final = range(10000, 32768)
"""Below those that Linux gives to clients by default (ip(7), ip_local_port_range)."""
TRIES: Final = 100


async def connect(dialer: Dialer, flow: Flow) -> socket.socket:
    """Raises OSError, TimeoutError among them."""
    sock = dialer.new_socket(flow.family)
    try:
        if flow.rule.source_address is SourceAddress.CLIENT:
            _wear(sock, flow)
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(sock, flow.destination)
    except BaseException:
        sock.close()
        raise
    return sock


async def speak(sock: socket.socket, flow: Flow, make: Callable[[], Made], tls: ssl.SSLContext | None) -> Made:
    """A protocol over the connection, within TLS where the client's ended here. Raises OSError."""
    _, made = await over(sock, make, tls, flow.host if tls is not None else None)
    return made


def _wear(sock: socket.socket, flow: Flow) -> None:
    """Take the client's own address, and its port where that is free. Of this host's own connections the address is
    ours already, and the port is theirs: these go out under a port of their own.

    Where the kernel has redirected the client's connection it knows its address and port as belonging to that: a second
    connection under them would be taken for the first."""
    if flow.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    if flow.redirected:
        _bind_to_nobodys_port(sock, flow.client[0])
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(OSError):
        sock.bind(flow.client)
        return
    sock.bind((flow.client[0], 0))


def _bind_to_nobodys_port(sock: socket.socket, address: str) -> None:
    """Raises OSError where hardly any is free."""
    last = OSError("no port is free")
    for port in random.sample(PORTS_OF_NOBODY, TRIES):
        try:
            sock.bind((address, port))
        except OSError as error:
            last = error
        else:
            return
    raise last
