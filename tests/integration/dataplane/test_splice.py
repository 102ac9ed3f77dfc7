"""The splice engine between real sockets: every byte, and each end as what it was."""

import contextlib
import errno
import hashlib
import os
import random
import select
import socket
import stat
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.dataplane import splice
from gateway.dataplane.splice import Outcome
from gateway.dataplane.splice_pipes import PipePool
from tests.support.splicing import TIMEOUT_S, Link, Splicing

RESET = struct.pack("ii", 1, 0)
MB = 1024 * 1024
BLOCK = random.Random(5).randbytes(MB)


@pytest.fixture
def splicing() -> Iterator[Splicing]:
    with Splicing() as running:
        yield running


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def send_blocks(sock: socket.socket, count_bytes: int) -> str:
    """Send, end, and return the SHA-256 of what was sent."""
    digest = hashlib.sha256()
    sent, turn = 0, 0
    while sent < count_bytes:
        turn += 1
        piece = memoryview(BLOCK)[turn % 997 :][: count_bytes - sent]  # each block differs from the one before
        sock.sendall(piece)
        digest.update(piece)
        sent += len(piece)
    sock.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def read_all(sock: socket.socket) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    while piece := sock.recv(MB):
        digest.update(piece)
        count += len(piece)
    return count, digest.hexdigest()


def read_exactly(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = sock.recv(count - len(found))
        assert piece, f"ended after {len(found)} of {count} bytes"
        found += piece
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def transfer(link: Link, to_server: int, to_client: int) -> None:
    """Both ways at once, compared by checksum, and ended."""
    sent: dict[str, str] = {}
    found: dict[str, tuple[int, str]] = {}
    threads = [
        in_thread(lambda: sent.update(up=send_blocks(link.client, to_server))),
        in_thread(lambda: sent.update(down=send_blocks(link.server, to_client))),
        in_thread(lambda: found.update(up=read_all(link.server))),
        in_thread(lambda: found.update(down=read_all(link.client))),
    ]
    for thread in threads:
        thread.join(600)
    assert found == {"up": (to_server, sent["up"]), "down": (to_client, sent["down"])}
    assert link.over.wait(TIMEOUT_S)
    assert (link.splice.outcome, link.splice.bytes_in, link.splice.bytes_out) == (
        Outcome.COMPLETED,
        to_server,
        to_client,
    )


@pytest.mark.parametrize("kinds", [("v4", "v4"), ("v6", "v6"), ("mapped", "v4")], ids="-".join)
def test_64_mb_arrive_as_they_were(splicing: Splicing, kinds: tuple[str, str]) -> None:
    transfer(splicing.link(kinds=kinds), 64 * MB, 3)


def test_both_ways_at_once(splicing: Splicing) -> None:
    transfer(splicing.link(), 32 * MB + 17, 48 * MB + 1)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_gigabyte_arrives_as_it_was(splicing: Splicing) -> None:
    transfer(splicing.link(), 1024 * MB, 1024 * MB)


def test_half_closed_by_the_client(splicing: Splicing) -> None:
    link = splicing.link()
    link.client.sendall(b"all I have to say")
    link.client.shutdown(socket.SHUT_WR)
    assert read_all(link.server)[0] == 17
    for turn in range(20):
        link.server.sendall(b"%06d" % turn)
        assert read_exactly(link.client, 6) == b"%06d" % turn
    assert not link.over.is_set()
    link.server.close()
    assert link.client.recv(1) == b""
    assert link.over.wait(TIMEOUT_S)
    assert link.splice.outcome is Outcome.COMPLETED


def test_half_closed_by_the_server_with_much_after(splicing: Splicing) -> None:
    link = splicing.link()
    link.server.shutdown(socket.SHUT_WR)
    assert link.client.recv(1) == b""
    found: list[tuple[int, str]] = []
    reader = in_thread(lambda: found.append(read_all(link.server)))
    sent = send_blocks(link.client, 16 * MB)
    reader.join(TIMEOUT_S)
    assert found == [(16 * MB, sent)]
    assert link.over.wait(TIMEOUT_S)
    assert link.splice.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("before", [b"", b"x" * 5, BLOCK[: 100 * 1024]], ids=["nothing", "little", "much"])
@pytest.mark.parametrize("half_closed", [False, True], ids=["open", "half-closed"])
def test_a_reset_is_a_reset(splicing: Splicing, who: str, before: bytes, half_closed: bool) -> None:
    """What came before it is delivered, then the other side sees ECONNRESET; also where either had ended already."""
    link = splicing.link()
    one, other = (link.client, link.server) if who == "client" else (link.server, link.client)
    if half_closed:
        other.shutdown(socket.SHUT_WR)
        assert one.recv(1) == b""
    one.sendall(before)
    until(lambda: (link.splice.bytes_in if who == "client" else link.splice.bytes_out) == len(before))
    reset(one)
    assert read_exactly(other, len(before)) == before
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    assert link.over.wait(TIMEOUT_S)
    assert link.splice.outcome == f"{who}_reset"
    assert splicing.engine.count == 0


@pytest.mark.parametrize("who", ["client", "server"])
def test_what_came_before_a_reset_is_not_lost_on_the_way(splicing: Splicing, who: str) -> None:
    """An answer, then a reset for what of the request was not read: as HTTP servers do who refuse a body."""
    link = splicing.link()
    one, other = (link.client, link.server) if who == "client" else (link.server, link.client)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
    before = BLOCK[: 700 * 1024]
    one.sendall(before)
    until(lambda: (link.splice.bytes_in if who == "client" else link.splice.bytes_out) == len(before))
    reset(one)
    time.sleep(0.1)
    assert read_exactly(other, len(before)) == before
    with pytest.raises(ConnectionResetError):
        other.recv(1)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_by_who_had_ended(splicing: Splicing, who: str) -> None:
    link = splicing.link()
    one, other = (link.client, link.server) if who == "client" else (link.server, link.client)
    one.shutdown(socket.SHUT_WR)
    assert other.recv(1) == b""
    reset(one)
    assert link.over.wait(TIMEOUT_S)
    assert link.splice.outcome == f"{who}_reset"
    # An end was seen before: Linux says EPIPE of a reset then (tcp_reset, CLOSE_WAIT), spliced or not.
    assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EPIPE


def fill(sock: socket.socket) -> int:
    """Send until nothing is taken for a while."""
    sock.settimeout(0.3)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += sock.send(BLOCK)
    return sent


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_by_who_is_not_being_read(splicing: Splicing, who: str) -> None:
    """The other side has stopped reading; it is told all the same."""
    link = splicing.link(buffer_bytes=64 * 1024)
    one, other = (link.client, link.server) if who == "client" else (link.server, link.client)
    fill(one)
    reset(one)
    watched = select.poll()
    watched.register(other, 0)
    assert [(other.fileno(), select.POLLERR | select.POLLHUP)] == watched.poll(10_000)
    assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    assert link.over.wait(TIMEOUT_S)
    assert link.splice.outcome == f"{who}_reset"


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_by_who_does_not_read(splicing: Splicing, who: str) -> None:
    """The side that sends without being read is told that the other one has gone."""
    link = splicing.link(buffer_bytes=64 * 1024)
    one, other = (link.client, link.server) if who == "client" else (link.server, link.client)
    fill(other)
    reset(one)
    other.settimeout(10)
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    assert link.over.wait(TIMEOUT_S)
    assert link.splice.outcome == f"{who}_reset"


def test_a_far_side_that_has_closed_is_a_reset_for_who_goes_on_sending(splicing: Splicing) -> None:
    link = splicing.link()
    link.server.close()
    assert link.client.recv(1) == b""
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        for _ in range(100):
            link.client.send(b"is anybody there?")
            time.sleep(0.01)
    assert link.over.wait(TIMEOUT_S)
    assert link.splice.outcome is Outcome.SERVER_RESET


def test_what_a_slow_reader_has_still_to_take_is_not_left_to_the_kernel(splicing: Splicing) -> None:
    """Both sides have ended, and our socket has all bytes: it stays until the last of them is acknowledged."""
    link = splicing.link()
    link.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
    answer = BLOCK[: 700 * 1024]
    link.server.sendall(answer)
    until(lambda: link.splice.bytes_out == len(answer))
    link.server.shutdown(socket.SHUT_WR)
    link.client.shutdown(socket.SHUT_WR)
    assert link.server.recv(1) == b""
    assert not link.over.wait(0.5)
    assert read_exactly(link.client, len(answer)) == answer
    assert link.client.recv(1) == b""
    assert link.over.wait(TIMEOUT_S)
    assert link.splice.outcome is Outcome.COMPLETED


def test_early_bytes_go_first(splicing: Splicing) -> None:
    early = BLOCK[: 300 * 1024]
    link = splicing.link(early_to_server=early, early_to_client=b"220 ready")
    link.client.sendall(b"and on")
    link.client.shutdown(socket.SHUT_WR)
    assert read_exactly(link.client, 9) == b"220 ready"
    assert read_exactly(link.server, len(early) + 6) == early + b"and on"
    link.server.close()
    assert link.over.wait(TIMEOUT_S)
    assert (link.splice.bytes_in, link.splice.bytes_out) == (len(early) + 6, 9)


def test_both_silent_for_too_long() -> None:
    with Splicing(idle_s=2) as splicing:
        link = splicing.link()
        for _ in range(5):  # one direction is enough to stay
            time.sleep(0.6)
            link.server.sendall(b"x")
        assert read_exactly(link.client, 5) == b"xxxxx"
        assert not link.over.is_set()
        assert link.over.wait(6)
        assert link.splice.outcome is Outcome.IDLE
        for sock in (link.client, link.server):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_half_closed_for_too_long() -> None:
    """Counted from the end or the last byte after it, not from the silence before."""
    with Splicing(idle_s=3600, half_closed_s=2) as splicing:
        link, other = splicing.link(), splicing.link()
        time.sleep(2.5)
        link.client.shutdown(socket.SHUT_WR)
        assert link.server.recv(1) == b""
        for _ in range(3):
            time.sleep(0.8)
            link.server.sendall(b"x")
        assert read_exactly(link.client, 3) == b"xxx"
        assert not link.over.is_set()
        assert link.over.wait(6)
        assert link.splice.outcome is Outcome.IDLE
        assert not other.over.is_set()


def test_a_slow_reader_of_the_end_is_not_idle() -> None:
    """Both sides have ended; the kernel still holds bytes, and they are being taken."""
    with Splicing(idle_s=2.5) as splicing:
        link = splicing.link(buffer_bytes=64 * 1024)
        size = fill(link.server)
        link.server.shutdown(socket.SHUT_WR)
        link.client.shutdown(socket.SHUT_WR)
        taken = 0
        while taken < size:
            taken += len(link.client.recv(size // 16))
            time.sleep(0.25)
        assert link.client.recv(1) == b""
        assert link.over.wait(TIMEOUT_S)
        assert link.splice.outcome is Outcome.COMPLETED


def test_a_reader_may_pause_longer_than_a_dead_peer_is_waited_for() -> None:
    """The kernel's TCP_USER_TIMEOUT counts a closed window too; such a peer answers probes of it."""
    with Splicing(idle_s=60, unanswered_s=1.5) as splicing:
        link = splicing.link(buffer_bytes=64 * 1024)
        size = fill(link.server)
        link.server.shutdown(socket.SHUT_WR)
        assert not link.over.wait(8)
        assert read_all(link.client)[0] == size
        link.client.sendall(b"thanks")
        assert link.server.recv(10) == b"thanks"


def test_close_by_its_owner(splicing: Splicing) -> None:
    gone, cut = splicing.link(), splicing.link()
    splicing.run(lambda: gone.splice.close(reset=False))
    splicing.run(lambda: gone.splice.close(reset=True))
    splicing.run(lambda: cut.splice.close(reset=True))
    assert (gone.client.recv(1), gone.server.recv(1)) == (b"", b"")
    for sock in (cut.client, cut.server):
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert (gone.ends, gone.splice.outcome, cut.ends, cut.splice.outcome) == (1, "shut_down", 1, "shut_down")


def test_close_all(splicing: Splicing) -> None:
    links = [splicing.link() for _ in range(20)]
    fill(links[0].client)  # bytes within pipes and sockets
    assert splicing.engine.count == 20
    splicing.run(splicing.engine.close_all)
    assert splicing.engine.count == 0
    assert [(link.ends, link.splice.outcome) for link in links] == [(1, Outcome.SHUT_DOWN)] * 20


def send_urgent(sock: socket.socket, before: bytes, after: bytes) -> None:
    sock.sendall(before)
    sock.send(b"!", socket.MSG_OOB)
    sock.sendall(after)


def test_urgent_bytes_stand_where_they_were_sent(splicing: Splicing) -> None:
    """In the middle of much, where splice(2) stops, and with nothing after that would set it going again."""
    link = splicing.link()
    for turn in range(40):
        before, after = BLOCK[: turn * 16 * 1024], BLOCK[: (turn % 3) * 50 * 1024]
        sender = in_thread(partial(send_urgent, link.client, before, after))
        assert read_exactly(link.server, len(before) + 1 + len(after)) == before + b"!" + after
        sender.join()


@pytest.mark.parametrize("refused_at", ["read", "write", "both"])
@pytest.mark.parametrize("after", [0, 5])
def test_where_splice_is_refused_bytes_are_copied(
    splicing: Splicing, monkeypatch: pytest.MonkeyPatch, refused_at: str, after: int
) -> None:
    calls = {"read": 0, "write": 0}

    def refusing(source: int, target: int, count: int, *, flags: int) -> int:
        way = "read" if stat.S_ISSOCK(os.fstat(source).st_mode) else "write"
        calls[way] += 1
        if refused_at in (way, "both") and calls[way] > after:
            raise OSError(errno.EINVAL, "Invalid argument")
        return os.splice(source, target, count, flags=flags)

    monkeypatch.setattr(splice, "splice_fd", refusing)
    transfer(splicing.link(), 8 * MB, 8 * MB)
    assert max(calls.values()) <= 2 * (after + 2)  # not asked again


def test_without_pipes_bytes_are_copied(splicing: Splicing) -> None:
    splicing.run(lambda: setattr(splicing.engine, "_pipes", PipePool(most=0)))
    transfer(splicing.link(), 8 * MB, 8 * MB)


def test_a_slow_reader_holds_the_other_side_and_no_memory(splicing: Splicing) -> None:
    links = [splicing.link(buffer_bytes=256 * 1024) for _ in range(20)]
    before = resident_bytes()
    sent = [fill(link.server) for link in links]
    assert max(sent) < 4 * MB  # sockets' and pipes'
    assert resident_bytes() - before < 2 * MB
    for link, size in zip(links, sent, strict=True):
        link.server.shutdown(socket.SHUT_WR)
        assert read_all(link.client)[0] == size


def test_idle_connections_hold_no_pipe_and_little_memory(splicing: Splicing) -> None:
    transfer(splicing.link(), 4 * MB, 4 * MB)
    for _ in range(100):  # what the first ones cost besides
        splicing.link()
    before, files = resident_bytes(), open_files()
    links = [splicing.link() for _ in range(1000)]
    for link in links:
        link.client.sendall(b"hello")
        assert link.server.recv(5) == b"hello"
    assert open_files() - files == 4 * 1000
    assert (resident_bytes() - before) / 1000 < 10 * 1024  # ours, and what this test keeps of each
    assert splicing.run(lambda: splicing.engine._pipes.lent) == 0


def test_no_descriptor_is_left() -> None:
    with Splicing():  # what the first use opens besides
        pass
    before = open_files()
    with Splicing() as splicing:
        for turn in range(40):
            link = splicing.link()
            if turn % 4 == 0:
                transfer(link, MB, MB)
            elif turn % 4 == 1:
                reset(link.client)
                assert link.over.wait(TIMEOUT_S)
            elif turn % 4 == 2:
                fill(link.client)
                reset(link.server)
                assert link.over.wait(TIMEOUT_S)
            else:
                fill(link.server)
            link.close()
    assert open_files() == before


def test_other_work_of_the_loop_goes_on_beside_bulk(splicing: Splicing) -> None:
    """And a small exchange beside it is not kept waiting."""
    bulk = [splicing.link() for _ in range(4)]
    small = splicing.link()
    over = threading.Event()

    def send(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                sock.sendall(BLOCK)

    def read(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while sock.recv(MB):
                pass

    threads = [in_thread(partial(send, link.client)) for link in bulk]
    threads += [in_thread(partial(read, link.server)) for link in bulk]
    trips, turns = [], []
    until = time.monotonic() + 2
    while time.monotonic() < until:
        began = time.monotonic()
        link_reply(small)
        trips.append(time.monotonic() - began)
        began = time.monotonic()
        splicing.run(lambda: None)
        turns.append(time.monotonic() - began)
    over.set()
    for link in bulk:
        link.close()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert sum(link.splice.bytes_in for link in bulk) > 50 * MB
    assert statistics.median(trips) < 0.1
    assert statistics.median(turns) < 0.1


def link_reply(link: Link) -> None:
    link.client.sendall(b"ping")
    assert read_exactly(link.server, 4) == b"ping"
    link.server.sendall(b"pong")
    assert read_exactly(link.client, 4) == b"pong"


def test_500_mixed_connections(splicing: Splicing) -> None:
    """Chatter, bulk, one-sided, ended, reset, silent: all at once, each as it would be alone."""
    links = [splicing.link() for _ in range(500)]
    failures: list[str] = []

    def use(turn: int, link: Link) -> None:
        try:
            match turn % 5:
                case 0:
                    for _ in range(20):
                        link_reply(link)
                    link.client.shutdown(socket.SHUT_WR)
                    assert read_all(link.server)[0] == 0
                    link.server.shutdown(socket.SHUT_WR)
                    assert link.over.wait(TIMEOUT_S)
                    assert link.splice.outcome is Outcome.COMPLETED
                case 1:
                    transfer(link, 300_000 + turn, 200_000 + turn)
                case 2:
                    link.server.sendall(b"220 ready")
                    assert read_exactly(link.client, 9) == b"220 ready"
                    reset(link.client if turn % 2 else link.server)
                    assert link.over.wait(TIMEOUT_S)
                    assert link.splice.outcome == ("client_reset" if turn % 2 else "server_reset")
                case 3:
                    sent = send_blocks(link.server, 500_000 + turn)
                    assert read_all(link.client) == (500_000 + turn, sent)
                    link.client.sendall(b"thanks")
                    link.client.shutdown(socket.SHUT_WR)
                    assert read_all(link.server)[0] == 6
                case 4:
                    time.sleep(1)
                    assert not link.over.is_set()
        except Exception as error:  # noqa: BLE001
            failures.append(f"{turn}: {error!r}")

    rounds = [[(turn, link) for turn, link in enumerate(links) if turn // 5 % 25 == part] for part in range(25)]
    threads = [in_thread(lambda part=part: [use(*each) for each in part]) for part in rounds]
    for thread in threads:
        thread.join(100)
    assert failures == []
    assert splicing.engine.count == 100


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
