"""Connections passed on untouched: bytes both ways, each end as what it was, FIN as FIN and RST as RST.

One engine for each event loop. Its epoll instance knows every socket once, edge-triggered, for both directions and for
errors: a side that is not being read because the other is slow is still seen to be reset. (The event loop's own
handles watch reading and writing apart, tell nothing of a socket that they do not read, and take more memory and
system calls.) The loop watches that instance as one file.

How bytes move is settled for each direction by what comes: what fits a small buffer is copied through one that all
share; where more comes at once, splice(2) moves pages through a pipe (docs/decisions/0011-splice.md). A direction whose
far side takes no more is read no further, so that back-pressure goes from socket to socket.

A direction is, in this order:
    open        bytes move
    ended       its source sent FIN and was read to its end; the rest is on its way
    passed end  the far side's socket has all bytes and our FIN (shutdown)
With both directions there and all of it acknowledged, the sockets are closed: what a slow peer has still to take is
not left to the kernel, which gives up an orphan within two minutes. A reset ends both directions at once: what came
before it is passed on as far as the other side takes it, within a second, then that side is reset.
"""

import asyncio
import errno
import select
import socket
from collections import deque
from os import read as read_fd
from os import splice as splice_fd
from time import monotonic
from typing import Final

from gateway.dataplane import splice_socket
from gateway.dataplane.splice_leg import Leg, OnEnd, Outcome, Splice
from gateway.dataplane.splice_pipes import PIPE_BYTES, PipePool

__all__ = ["Leg", "Outcome", "Splice", "Splices"]

OUT: Final = select.EPOLLOUT
ARRIVED: Final = select.EPOLLIN | OUT
"""What epoll tells nearly always: bytes have come, and more could be sent back."""
RARE: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLPRI
READ: Final = select.EPOLLIN | RARE
WATCHED: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET
FLAGS: Final = 1 | 2
"""SPLICE_F_MOVE | SPLICE_F_NONBLOCK (splice(2)); `os` names neither."""

REFUSED: Final = (errno.EINVAL, errno.ENOSYS, errno.EPERM)
"""What splice(2) says where it cannot be used on a socket, or not at all."""

COPIED_BYTES: Final = 16 * 1024
"""What is read at once where it is copied. A read that fills this is followed by splice(2)."""
BULK_BYTES: Final = 8 * 1024
"""Where a splice brings less, the next ones are copied again."""
TURN_BYTES: Final = 1024 * 1024
"""After these, a direction lets the others go first."""
TURN_S: Final = 1e-3
"""After this, the event loop's other work goes first."""
TURN_EVENTS: Final = 64

RESET_WITHIN_S: Final = 1.0
"""What was sent before a reset is delivered if the other side takes it within this."""
RESET_LOOK_S: Final = 2e-3
"""First look at whether it has; each next one after twice the time."""

UNANSWERED_S: Final = 120.0
"""A peer that acknowledges nothing for this long is gone. One that does, but takes no bytes, may go on so."""
LOOK_EACH_S: Final = 30.0
"""So often each splice is looked at for what no event tells."""
LOOKED_AT: Final = 256
"""At once, before the event loop's other work goes first."""


class Splices:
    """All splices of one event loop; made and used in it."""

    def __init__(
        self, *, idle_s: float = 3600.0, half_closed_s: float | None = None, unanswered_s: float = UNANSWERED_S
    ) -> None:
        """A splice on which no byte moves for `idle_s` ends, by a reset of both sides; `half_closed_s`: the same where
        one side has ended (`idle_s`). `unanswered_s`: a peer of which the kernel hears nothing for so long is gone."""
        self._loop = asyncio.get_running_loop()
        self._idle_s = idle_s
        self._half_closed_s = idle_s if half_closed_s is None else half_closed_s
        self._unanswered_s = min(unanswered_s, idle_s)
        self._epoll = select.epoll()
        self._legs: dict[int, Leg] = {}
        self._splices: set[Splice] = set()
        self._due: deque[Leg] = deque()
        """Legs from which bytes may be moved."""
        self._scheduled = False
        self._pipes = PipePool()
        self._buffer = memoryview(bytearray(COPIED_BYTES))
        self._now_s = monotonic()
        self._look_each_s = max(
            0.05, min(LOOK_EACH_S, self._unanswered_s / 4, self._idle_s / 4, self._half_closed_s / 4)
        )
        self._round: list[Splice] = []
        self._looking = self._loop.call_later(self._look_each_s, self._look_at_all)
        self._loop.add_reader(self._epoll.fileno(), self._on_ready)

    @property
    def count(self) -> int:
        return len(self._splices)

    def start(
        self,
        client: socket.socket,
        server: socket.socket,
        on_end: OnEnd,
        early_to_server: bytes = b"",
        early_to_client: bytes = b"",
    ) -> Splice:
        """Splice two connected, non-blocking TCP sockets, which are ours from now on, also where this raises OSError.

        The early bytes were read already and go first. `on_end` is called once, when both sockets are closed.
        """
        splice = Splice(self, client, server, on_end, (early_to_server, early_to_client), monotonic())
        legs = (splice.client, splice.server)
        try:
            for leg in legs:
                splice_socket.set_options(leg.sock, self._unanswered_s)
                self._epoll.register(leg.fd, WATCHED)  # it tells at once how the socket is
        except OSError:
            client.close()
            server.close()
            raise
        for leg in legs:
            self._legs[leg.fd] = leg
        self._splices.add(splice)
        return splice

    def close_all(self, *, reset: bool = True) -> None:
        """End every splice with `shut_down`."""
        for splice in list(self._splices):
            self.end(splice, Outcome.SHUT_DOWN, reset=reset)

    def close(self) -> None:
        """End every splice and the engine."""
        self.close_all()
        self._looking.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._pipes.close()
        self._due.clear()

    def end(self, splice: Splice, outcome: Outcome, *, reset: bool) -> None:
        """Close both sockets, with a reset for who is still there, and tell the owner. Once; later calls do nothing."""
        if splice.closed:
            return
        splice.closed = True
        splice.outcome = outcome
        for leg in (splice.client, splice.server):
            del self._legs[leg.fd]
            leg.fd = -1
            leg.readable = leg.writable = leg.ended = False  # who is moving its bytes stops
            self._drop(leg)
            splice_socket.close(leg.sock, reset=reset and leg is not splice.reset_by)
            del leg.peer, leg.splice  # no circle is left for the collector
        splice.reset_by = None
        self._splices.discard(splice)
        on_end, splice.on_end = splice.on_end, _told
        try:
            on_end(splice)
        except Exception as error:  # noqa: BLE001  # its owner's, as where the event loop calls it
            self._loop.call_exception_handler(
                {"message": "the owner of a splice failed at its end", "exception": error}
            )

    # Turns of the event loop

    def _on_ready(self) -> None:
        if not self._scheduled:
            self._turn()

    def _turn(self) -> None:
        """Take in what epoll tells and move bytes, until there is no more or for about TURN_S."""
        self._scheduled = False
        due, now_s = self._due, monotonic()
        until_s = now_s + TURN_S
        while now_s < until_s and not self._epoll.closed:
            self._now_s = now_s
            arrived = self._epoll.poll(0, TURN_EVENTS)
            if not arrived and not due:
                return
            self._take_in(arrived)
            while due:
                leg = due.popleft()
                leg.queued = False
                try:
                    if leg.fd >= 0 and self._move(leg):
                        self._queue(leg)
                except Exception as error:  # noqa: BLE001
                    self._give_up(leg, error)
                if monotonic() >= until_s:
                    break
            now_s = monotonic()
        if due:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _take_in(self, arrived: list[tuple[int, int]]) -> None:
        """Note what epoll tells. What is ordinary is passed on at once, the rest is due."""
        due, legs = self._due, self._legs
        for fd, events in arrived:
            leg = legs.get(fd)
            if leg is None:  # closed meanwhile
                continue
            try:
                source = leg.peer
                if events == ARRIVED and leg.plain and source.plain and self._copy(leg, source):
                    continue
                if events & OUT:
                    leg.writable = True
                    if not source.queued and (source.readable or source.pending or source.held is not None):
                        source.queued = True
                        due.append(source)
                if events & READ:
                    leg.readable = True
                    if not leg.queued:
                        leg.queued = True
                        due.append(leg)
                    if events & RARE:
                        self._take_in_rare(leg, events)
            except Exception as error:  # noqa: BLE001  # no other splice is lost by it
                self._give_up(leg, error)

    def _queue(self, leg: Leg) -> None:
        if not leg.queued:
            leg.queued = True
            self._due.append(leg)

    def _give_up(self, leg: Leg, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a splice failed", "exception": error})
        if leg.fd >= 0:
            self.end(leg.splice, Outcome.SHUT_DOWN, reset=True)

    def _take_in_rare(self, leg: Leg, events: int) -> None:
        """Ends, errors, urgent bytes."""
        leg.to_the_end = True
        leg.plain = False
        if events & select.EPOLLPRI:
            leg.copies = True  # at an urgent mark splice(2) finds nothing, or even the end
        if events & select.EPOLLERR and splice_socket.take_error(leg.sock):
            self._on_reset(leg)
        elif leg.passed_end and leg.peer.passed_end:
            self._end_if_acknowledged(leg.splice)

    # Bytes

    def _move(self, leg: Leg) -> bool:
        """Pass on what comes from a leg. True: there is more, but it is others' turn."""
        peer = leg.peer
        if leg.splice.reset_by is peer:
            return False
        until = leg.moved + TURN_BYTES
        while leg.moved < until:
            if leg.pending or leg.held is not None:
                if not peer.writable:
                    return False
                self._write(leg, peer)
            elif leg.ended:
                if not leg.passed_end:
                    self._pass_end(leg)
                return False
            elif not peer.writable:
                return False
            elif not leg.readable:
                leg.plain = not (leg.bulk or leg.to_the_end)
                return False
            elif leg.bulk:
                self._fill_pipe(leg)
            else:
                self._copy(leg, peer)
        return True

    def _copy(self, leg: Leg, peer: Leg) -> bool:
        """Pass on one buffer full. True: that was all, and nothing out of the ordinary."""
        buffer = self._buffer
        try:
            count = leg.sock.recv_into(buffer)
        except BlockingIOError:
            leg.readable = False
            return True
        except OSError:
            leg.ended, leg.plain = True, False
            self._on_reset(leg)
            return False
        if not count:
            leg.ended, leg.plain = True, False
            return False
        try:
            sent = peer.sock.send(buffer[:count])
        except BlockingIOError:
            sent = 0
        except OSError:
            self._on_reset(peer)
            return False
        leg.moved += sent
        leg.splice.active_at = self._now_s
        if sent == count < COPIED_BYTES and not leg.to_the_end:
            leg.readable = False  # that was all: epoll(7), question 9
            return True
        leg.plain = False
        if sent < count:
            leg.held = bytes(buffer[sent:count])
            peer.writable = sent > 0
        if count == COPIED_BYTES:
            leg.bulk = not leg.copies
        return False

    def _fill_pipe(self, leg: Leg) -> None:
        """Move pages from the socket into a pipe. Where that cannot be, the next bytes are copied."""
        pipe = self._pipes.take()
        if pipe is None:
            leg.bulk = False
            return
        try:
            count = splice_fd(leg.fd, pipe.write_fd, PIPE_BYTES, flags=FLAGS)
        except BlockingIOError:
            leg.readable = False
            self._pipes.give_back(pipe, empty=True)
            return
        except OSError as error:
            self._pipes.give_back(pipe, empty=True)
            if error.errno in REFUSED:
                leg.copies, leg.bulk = True, False
            else:
                leg.ended = True
                self._on_reset(leg)
            return
        if count < BULK_BYTES:
            leg.bulk = False
            if not count:  # the end, or an urgent mark: reading will tell
                leg.to_the_end = True
                self._pipes.give_back(pipe, empty=True)
                return
        leg.pipe = pipe
        leg.pending = count

    def _write(self, leg: Leg, peer: Leg) -> None:
        """Pass on what was read from `leg`."""
        held, pipe = leg.held, leg.pipe
        try:
            if held is not None:
                count = peer.sock.send(held)
                leg.held = held[count:] or None
            else:
                assert pipe is not None
                count = splice_fd(pipe.read_fd, peer.fd, leg.pending, flags=FLAGS)
                leg.pending -= count
        except BlockingIOError:
            peer.writable = False
            return
        except OSError as error:
            if pipe is None or held is not None or error.errno not in REFUSED:
                self._on_reset(peer)
                return
            leg.copies, leg.bulk = True, False
            leg.held = read_fd(pipe.read_fd, leg.pending)
            count = leg.pending = 0
        if pipe is not None and not leg.pending:
            leg.pipe = None
            self._pipes.give_back(pipe, empty=True)
        leg.moved += count
        leg.splice.active_at = self._now_s

    def _drop(self, leg: Leg) -> None:
        """What came from a leg and was not passed on."""
        leg.held = None
        if leg.pipe is not None:
            self._pipes.give_back(leg.pipe, empty=not leg.pending)
            leg.pipe = None
            leg.pending = 0

    # Ends

    def _pass_end(self, leg: Leg) -> None:
        """All that came from a leg is with its peer's socket: so shall be its end."""
        peer, splice = leg.peer, leg.splice
        if splice.reset_by is not None:
            if splice.reset_by is leg:
                self._end_if_taken(splice)
            return
        leg.passed_end = True
        splice.active_at = self._now_s
        try:
            peer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._on_reset(peer)
            return
        if peer.passed_end:
            self._end_if_acknowledged(splice)

    def _end_if_acknowledged(self, splice: Splice) -> None:
        """Both directions have ended. What is not acknowledged yet is waited for: its end is an event of epoll."""
        if not splice_socket.unsent_bytes(splice.client.fd) and not splice_socket.unsent_bytes(splice.server.fd):
            self.end(splice, Outcome.COMPLETED, reset=False)

    def _on_reset(self, leg: Leg) -> None:
        """A leg is gone. Its peer shall see that as soon as it has taken what came before."""
        splice = leg.splice
        if splice.reset_by is not None:
            if splice.reset_by is not leg:
                self.end(splice, splice.outcome, reset=False)  # nobody is left to be told
            return
        splice.reset_by = leg
        splice.reset_until_s = monotonic() + RESET_WITHIN_S
        splice.outcome = Outcome.CLIENT_RESET if leg is splice.client else Outcome.SERVER_RESET
        leg.readable, leg.writable = True, False
        leg.plain = leg.peer.plain = False
        self._drop(leg.peer)
        self._queue(leg)
        self._loop.call_later(RESET_LOOK_S, self._look_at_reset, splice, RESET_LOOK_S)

    def _look_at_reset(self, splice: Splice, after_s: float) -> None:
        left_s = splice.reset_until_s - monotonic()
        if splice.closed or self._end_if_taken(splice):
            return
        if left_s <= 0:
            self.end(splice, splice.outcome, reset=True)
            return
        self._loop.call_later(min(2 * after_s, left_s), self._look_at_reset, splice, 2 * after_s)

    def _end_if_taken(self, splice: Splice) -> bool:
        """End a splice of which one leg was reset once the other one has all that came before."""
        leg = splice.reset_by
        assert leg is not None
        if not leg.ended or leg.pending or leg.held is not None or splice_socket.unsent_bytes(leg.peer.fd):
            return False
        self.end(splice, splice.outcome, reset=True)
        return True

    # The round that finds what tells nothing by itself

    def _look_at_all(self) -> None:
        self._round = list(self._splices)
        self._look_at_some()

    def _look_at_some(self) -> None:
        """Some splices, then the event loop's other work, then the next; and after a while all again."""
        now_s = monotonic()
        for _ in range(min(LOOKED_AT, len(self._round))):
            splice = self._round.pop()
            if not splice.closed and splice.reset_by is None:
                self._look_at(splice, now_s)
        if self._round:
            self._looking = self._loop.call_later(0, self._look_at_some)
        else:
            self._looking = self._loop.call_later(self._look_each_s, self._look_at_all)

    def _look_at(self, splice: Splice, now_s: float) -> None:
        for leg in (splice.client, splice.server):
            unsent = splice_socket.unsent_bytes(leg.fd)
            if unsent != leg.unsent:
                leg.unsent = unsent
                splice.active_at = now_s  # it takes what the kernel holds for it
            patient = unsent > 0 and splice_socket.window_is_closed(leg.sock)
            if patient != leg.patient:
                leg.patient = patient
                splice_socket.set_unanswered(leg.sock, self._idle_s if patient else self._unanswered_s)
        half_closed = splice.client.passed_end or splice.server.passed_end
        if now_s - splice.active_at >= (self._half_closed_s if half_closed else self._idle_s):
            self.end(splice, Outcome.IDLE, reset=True)


def _told(_: Splice) -> None:
    """For a splice whose owner knows of its end."""
