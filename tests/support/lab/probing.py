"""What becomes of a connection: caught by the gateway, direct, refused, hanging. And from where it is tried."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tests.support.lab.lab import SERVER4, SERVER6, Lab
from tests.support.lab.namespace import Namespace
from tests.support.lab.servers import TcpServer

PATIENCE_S = 1.0


class Fate(StrEnum):
    CAPTURED = "captured"
    """It went through the gateway: the server saw another socket than the client's."""
    DIRECT = "direct"
    REFUSED = "refused"
    """By RST, before or after it was accepted."""
    HUNG = "hung"
    ENDED = "ended"
    """Accepted, then ended (FIN) without an answer."""


@dataclass(frozen=True, slots=True)
class Way:
    """A path to the server: through the router, or from the router itself; IPv4 or IPv6."""

    local: bool
    address: str

    def __str__(self) -> str:
        return f"{'local' if self.local else 'forwarded'}-v{6 if ':' in self.address else 4}"

    def start(self, lab: Lab) -> Namespace:
        return lab.router if self.local else lab.client


WAYS = [Way(local, address) for local in (False, True) for address in (SERVER4, SERVER6)]


def probe(lab: Lab, way: Way, server: TcpServer, patience_s: float = PATIENCE_S) -> Fate:
    """Try one connection to an echo server on `way`."""
    return probe_from(way.start(lab), way.address, server, patience_s)


def probe_from(where: Namespace, address: str, server: TcpServer, patience_s: float = PATIENCE_S) -> Fate:
    word = secrets.token_bytes(12)
    try:
        with where.connect((address, server.port), within_s=patience_s) as connection:
            connection.sendall(word)
            got = b""
            while len(got) < len(word):
                piece = connection.recv(100)
                if not piece:
                    return Fate.ENDED
                got += piece
            assert got == word
            own = connection.getsockname()[:2]
    except TimeoutError:
        return Fate.HUNG
    except (ConnectionRefusedError, ConnectionResetError):
        return Fate.REFUSED
    peer = next(seen.peer for seen in server.connections if word in seen.received)
    return Fate.DIRECT if peer == own else Fate.CAPTURED


def wait_for_fate(attempt: Callable[[], Fate], wanted: Fate, within_s: float) -> list[Fate]:
    """Try until it comes out so, and tell how it came out before. Raises AssertionError when it does not in time."""
    told: list[Fate] = []
    deadline = time.monotonic() + within_s
    while True:
        told.append(attempt())
        if told[-1] is wanted:
            return told
        assert time.monotonic() < deadline, f"never {wanted} within {within_s} s, but {[str(one) for one in told]}"
        time.sleep(0.02)
