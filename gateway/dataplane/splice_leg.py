"""A spliced connection: two sockets, and what is on its way from each of them to the other."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from gateway.dataplane.splice import Splices
    from gateway.dataplane.splice_pipes import Pipe


class Outcome(StrEnum):
    """How a splice ended. A peer that no longer answers counts as one that reset."""

    COMPLETED = "completed"
    CLIENT_RESET = "client_reset"
    SERVER_RESET = "server_reset"
    IDLE = "idle"
    SHUT_DOWN = "shut_down"


class Leg:
    """One of the two sockets, and the direction that leads from it to its `peer`.

    `readable` and `writable` hold until a call has said otherwise: epoll tells of edges only.
    """

    __slots__ = (
        "bulk",
        "copies",
        "ended",
        "fd",
        "held",
        "moved",
        "passed_end",
        "patient",
        "peer",
        "pending",
        "pipe",
        "plain",
        "queued",
        "readable",
        "sock",
        "splice",
        "to_the_end",
        "unsent",
        "writable",
    )

    peer: Leg
    splice: Splice

    def __init__(self, splice: Splice, sock: socket.socket, early: bytes) -> None:
        self.splice = splice
        self.sock = sock
        self.fd = sock.fileno()
        """-1 once closed."""
        self.readable = False
        self.writable = False
        self.to_the_end = False
        """A read that brings less than was asked for does not show that there is no more: its end has come, or an
        urgent mark stopped it."""
        self.queued = False
        """It is among the engine's `due`."""

        self.plain = False
        """Nothing is on its way from it, and what comes next may be copied to its peer at once."""
        self.held: bytes | None = early or None
        """Bytes that were read and not yet written, ahead of those in the pipe."""
        self.pipe: Pipe | None = None
        self.pending = 0
        """Bytes in the pipe."""
        self.bulk = False
        """Much comes at once: worth a pipe."""
        self.copies = False
        """splice(2) cannot be used on it."""
        self.moved = 0
        """Bytes that its peer's socket has taken."""
        self.ended = False
        """It sends no more, and all was read."""
        self.passed_end = False
        """All that it sent, its FIN included, is with its peer's socket."""
        self.unsent = 0
        """Bytes that its peer had not acknowledged when it was last looked at."""
        self.patient = False
        """It takes nothing but answers: its TCP_USER_TIMEOUT is the idle time then."""


OnEnd: TypeAlias = "Callable[[Splice], None]"


class Splice:
    __slots__ = (
        "_engine",
        "active_at",
        "client",
        "closed",
        "on_end",
        "outcome",
        "reset_by",
        "reset_until_s",
        "server",
    )

    def __init__(
        self,
        engine: Splices,
        client: socket.socket,
        server: socket.socket,
        on_end: OnEnd,
        early: tuple[bytes, bytes],
        now_s: float,
    ) -> None:
        self._engine = engine
        self.client = Leg(self, client, early[0])
        self.server = Leg(self, server, early[1])
        self.client.peer, self.server.peer = self.server, self.client
        self.on_end = on_end
        self.active_at = now_s
        """When bytes or an end moved last (monotonic)."""
        self.outcome = Outcome.COMPLETED
        """Final when `on_end` is called."""
        self.reset_by: Leg | None = None
        """The leg that was reset; the other one is told as soon as it has taken what came before."""
        self.reset_until_s = 0.0
        """It is told then at the latest (monotonic)."""
        self.closed = False

    @property
    def bytes_in(self) -> int:
        """From client to server, as far as the server's socket has taken them."""
        return self.client.moved

    @property
    def bytes_out(self) -> int:
        return self.server.moved

    def close(self, reset: bool) -> None:
        """End it now, outcome `shut_down`; what is under way within us is dropped. `reset`: both sides see a reset,
        not an end that might be taken for the end of what was being sent."""
        self._engine.end(self, Outcome.SHUT_DOWN, reset=reset)
