"""The listening sockets: opened by the supervisor, one a worker and address (SO_REUSEPORT), handed to workers and to
the supervisor's own successor."""

import socket
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.dataplane.listeners import Serves

BACKLOG: Final = 4096


class Addresses(Protocol):
    """The part of the settings that is about listening."""

    @property
    def listen(self) -> str: ...

    @property
    def admin_listen(self) -> str | None: ...

    @property
    def proxy_listen(self) -> str | None: ...

    @property
    def workers(self) -> int: ...


@dataclass(slots=True)
class Listener:
    """One address and its sockets. `address` as it was configured."""

    serves: Serves
    address: str
    sockets: list[socket.socket]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def open_listeners(settings: Addresses, inherited: list[Listener]) -> list[Listener]:
    """The sockets that these settings ask for. Of `inherited` those that fit are taken and the others closed: what
    waits in their queues is lost, as it is when an address is given up. Raises OSError naming the address."""
    wanted = _addresses(settings)
    left = list(inherited)
    opened: list[Listener] = []
    for _, address in wanted:
        if all(each.address != address for each in inherited):
            _refuse_taken(address)
    for serves, address in wanted:
        found = next((each for each in left if each.address == address), None)
        if found is not None:
            left.remove(found)
            found.serves = serves
            opened.append(found)
            continue
        opened.append(Listener(serves, address, []))
    for listener in left:
        listener.close()
    for listener in opened:
        while len(listener.sockets) < settings.workers:
            listener.sockets.append(_listen(listener.address))
    return opened


def sockets_of(listeners: list[Listener], worker: int, workers: int) -> list[tuple[Serves, socket.socket]]:
    """What one of `workers` serves: every socket has one worker, also where an upgrade brought fewer of these."""
    return [
        (listener.serves, sock)
        for listener in listeners
        for slot, sock in enumerate(listener.sockets)
        if slot % workers == worker
    ]


def _addresses(settings: Addresses) -> list[tuple[Serves, str]]:
    if settings.admin_listen is None:
        wanted = [(Serves.ALL, settings.listen)]
    else:
        wanted = [(Serves.DATA, settings.listen), (Serves.ADMIN, settings.admin_listen)]
    if settings.proxy_listen is not None:
        wanted.append((Serves.PROXY, settings.proxy_listen))
    return wanted


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6 and host == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((host, port))
    sock.listen(BACKLOG)
    return sock


def _refuse_taken(address: str) -> None:
    """Another gateway on the same port would share its connections with us unseen: SO_REUSEPORT allows that."""
    host, port = split_address(address)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error


def split_address(value: str) -> tuple[str, int]:
    """`HOST:PORT`, `[v6]:PORT` or `:PORT` as host and port. Raises ValueError saying what is expected."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{value!r} is not HOST:PORT, e.g. 127.0.0.1:8080 or [::]:8080")
    return host.strip("[]") or "0.0.0.0", int(port)
