"""Tags of sockets in the array that workers and probes share: written when they change, and only then."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.dataplane.tags import SocketTag, SocketTags
from gateway.places import CLIENT, FRESH, OWNER_MASK, SERIES_MASK, SERIES_SHIFT, WORDS, owner_of, place_of

BITS = 6
FIRST, SECOND = ("route", "one"), ("route", "two")


@dataclass
class Array:
    """What probes see."""

    descriptor: int

    def words(self, cookie: int) -> tuple[int, int]:
        at = place_of(cookie, BITS) * 8
        tag, accepted_ns = (int.from_bytes(os.pread(self.descriptor, 8, at + add), "little") for add in (0, 8))
        return tag, accepted_ns

    def series(self, cookie: int) -> int | None:
        tag, _ = self.words(cookie)
        return tag >> SERIES_SHIFT & SERIES_MASK if tag & OWNER_MASK == owner_of(cookie, BITS) else None


class Transport:
    """Of a real socket, as far as tags look at it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self._sock


def new_array() -> Array:
    descriptor = os.memfd_create("places")
    os.ftruncate(descriptor, (WORDS * 8) << BITS)
    return Array(descriptor)


@pytest.fixture
def array() -> Iterator[Array]:
    made = new_array()
    yield made
    os.close(made.descriptor)


@pytest.fixture
def tags(array: Array) -> SocketTags:
    made = SocketTags()
    made.ask_by(lambda route, target: None)
    made.know({FIRST: 1, SECOND: 2})
    made.use(array.descriptor, BITS)
    return made


@pytest.fixture
def pair(tags: SocketTags) -> Iterator[tuple[SocketTag, SocketTag]]:
    """A client's and an upstream's, of real sockets."""
    with socket.socket() as client, socket.socket() as upstream:
        yield tags.accepted(Transport(client)), tags.connected(Transport(upstream))  # type: ignore[arg-type]


def test_a_client_is_known_from_its_accept_on(array: Array, pair: tuple[SocketTag, SocketTag]) -> None:
    client, upstream = pair
    tag, accepted_ns = array.words(client.cookie)
    assert tag == owner_of(client.cookie, BITS) | CLIENT
    assert accepted_ns > 0
    assert array.series(upstream.cookie) is None


def test_both_work_for_a_route_until_they_work_for_another(
    array: Array, tags: SocketTags, pair: tuple[SocketTag, SocketTag]
) -> None:
    client, upstream = pair
    tags.mark(FIRST, client, upstream, False)
    assert (array.series(client.cookie), array.series(upstream.cookie)) == (1, 1)
    assert array.words(client.cookie)[0] & CLIENT
    assert not array.words(upstream.cookie)[0] & CLIENT
    tags.mark(SECOND, client, upstream, False)
    assert (array.series(client.cookie), array.series(upstream.cookie)) == (2, 2)


def test_a_connection_that_another_one_s_tag_has_covered_is_tagged_again(
    array: Array, tags: SocketTags, pair: tuple[SocketTag, SocketTag]
) -> None:
    client, upstream = pair
    tags.mark(FIRST, client, upstream, False)
    other = SocketTag(upstream.cookie + (1 << BITS))  # it has the same place
    tags.mark(SECOND, SocketTag(0), other, False)
    assert array.series(upstream.cookie) is None
    tags.mark(FIRST, client, upstream, False)
    assert (array.series(client.cookie), array.series(upstream.cookie)) == (1, 1)


def test_a_new_tls_connection_is_fresh_for_one_call(
    array: Array, tags: SocketTags, pair: tuple[SocketTag, SocketTag]
) -> None:
    client, upstream = pair
    tags.mark(FIRST, client, upstream, True)
    assert array.words(upstream.cookie)[0] & FRESH
    tags.mark(FIRST, client, upstream, False)
    assert not array.words(upstream.cookie)[0] & FRESH


def test_probes_that_come_later_find_what_is_open(tags: SocketTags, pair: tuple[SocketTag, SocketTag]) -> None:
    client, upstream = pair
    tags.mark(FIRST, client, upstream, False)
    tags.ask_by(None)
    tags.mark(SECOND, client, upstream, False)  # nobody looks
    later = new_array()
    try:
        tags.ask_by(lambda route, target: None)
        tags.know({SECOND: 7})
        tags.use(later.descriptor, BITS)
        tags.mark(SECOND, client, upstream, False)
        assert (later.series(client.cookie), later.series(upstream.cookie)) == (7, 7)
    finally:
        os.close(later.descriptor)


def test_a_series_without_a_number_is_asked_for_once(
    array: Array, tags: SocketTags, pair: tuple[SocketTag, SocketTag]
) -> None:
    client, upstream = pair
    asked: list[tuple[str, str]] = []
    tags.ask_by(lambda route, target: asked.append((route, target)))
    new = ("route", "new")
    for _ in range(3):
        tags.mark(new, client, upstream, False)
    assert asked == [new]
    assert array.series(upstream.cookie) is None
    tags.know({new: 3})
    tags.mark(new, client, upstream, False)
    assert array.series(upstream.cookie) == 3


def test_what_a_closed_socket_has_yet_to_send_is_its_routes_and_its_place_another_ones(
    array: Array, tags: SocketTags, pair: tuple[SocketTag, SocketTag]
) -> None:
    client, upstream = pair
    tags.mark(FIRST, client, upstream, False)
    tags.forget(client)
    tags.forget(upstream)
    assert (array.series(client.cookie), array.series(upstream.cookie)) == (1, 1)
    other = SocketTag(upstream.cookie + (1 << BITS))  # it has the same place
    tags.mark(SECOND, client, other, False)
    assert array.series(other.cookie) == 2
    assert array.series(upstream.cookie) is None
