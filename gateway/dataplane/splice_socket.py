"""What a spliced connection asks of its sockets: their options and what the kernel knows of them."""

import errno
import fcntl
import socket
import struct
import termios
from typing import Final

RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends RST (socket(7))."""

KEEPALIVE_PROBES: Final = 4

_NO_BYTES: Final = bytes(4)


def set_options(sock: socket.socket, unanswered_s: float) -> None:
    """Notice a dead peer, pass on small pieces at once, and keep urgent bytes where they stand in the stream.

    `unanswered_s`: a peer may acknowledge nothing for this long (TCP_USER_TIMEOUT); a silent one is asked (keepalive)
    after half of it, and KEEPALIVE_PROBES times within the rest.
    """
    idle_s = max(1, int(unanswered_s / 2))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle_s // KEEPALIVE_PROBES))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    set_unanswered(sock, unanswered_s)


def set_unanswered(sock: socket.socket, unanswered_s: float) -> None:
    """After this long the kernel gives a peer up that acknowledges nothing, or whose window stays closed."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(min(unanswered_s * 1000, 2**31 - 1)))


def take_error(sock: socket.socket) -> int:
    """The errno that the kernel has noted for the socket, 0 for none; noted no longer then."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:
        return error.errno or errno.EIO


def unsent_bytes(fd: int) -> int:
    """What the peer has not acknowledged yet, our FIN included (SIOCOUTQ, tcp(7))."""
    found: int = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, _NO_BYTES))[0]
    return found


def window_is_closed(sock: socket.socket) -> bool:
    """Whether a peer for whom there are bytes takes none though it is there: nothing is on the wire, and probes of its
    window are answered (`struct tcp_info`, include/uapi/linux/tcp.h: tcpi_probes is byte 3, tcpi_unacked stands at 24).
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    on_the_wire: int = struct.unpack_from("I", info, 24)[0]
    return not on_the_wire and info[3] <= 1


def close(sock: socket.socket, *, reset: bool) -> None:
    try:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    except OSError:
        pass  # its peer is gone already
    finally:
        sock.close()
