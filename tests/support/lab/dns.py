"""A DNS server whose answers a test changes as it goes."""

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.support.lab.namespace import Namespace


@dataclass(slots=True)
class _Zone:
    addresses: list[str] = field(default_factory=list)
    ttl_s: int = 60
    alias: str = ""


class NameServer:
    """Answers over UDP and TCP on port 53; what it does not know does not exist (NXDOMAIN)."""

    def __init__(self, where: Namespace, address: str) -> None:
        self.address = address
        self.asked: list[tuple[str, str]] = []
        """Name and type of every question, in order."""
        self.failing = False
        """Answer SERVFAIL to everything."""
        self.truncating = False
        """Answer over UDP with the TC bit and nothing else, so that the question comes again over TCP."""
        self.asked_by_tcp = 0
        self._where = where
        self._names: dict[str, _Zone] = {}
        self._closing = threading.Event()

    def set(self, name: str, *addresses: str, ttl_s: int = 60, alias: str = "") -> None:
        """From now on `name` has these addresses (A and AAAA), or is another name for `alias`."""
        self._names[name.rstrip(".").lower()] = _Zone(list(addresses), ttl_s, alias)

    def forget(self, name: str) -> None:
        del self._names[name]

    def times_asked(self, name: str) -> int:
        return sum(1 for asked, _ in self.asked if asked == name)

    def __enter__(self) -> Self:
        self._udp = self._where.make_socket(kind=socket.SOCK_DGRAM)
        self._tcp = self._where.make_socket()
        for one in (self._udp, self._tcp):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((self.address, 53))
            one.settimeout(0.2)
        self._tcp.listen(64)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                wire, peer = self._udp.recvfrom(4096)
                self._udp.sendto(self._truncated(wire) if self.truncating else self._answer(wire), peer)

    def _serve_tcp(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._tcp.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        """Question after question: resolvers send those for A and AAAA over one connection."""
        with connection, contextlib.suppress(OSError, struct.error):
            connection.settimeout(5)
            stream = connection.makefile("rb")
            while not self._closing.is_set():
                (length,) = struct.unpack("!H", stream.read(2))
                self.asked_by_tcp += 1
                answer = self._answer(stream.read(length))
                connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _truncated(self, wire: bytes) -> bytes:
        answer = dns.message.make_response(dns.message.from_wire(wire))
        answer.flags |= dns.flags.TC
        return answer.to_wire()

    def _answer(self, wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA | dns.flags.AA
        if self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer.to_wire()
        zone = self._names.get(name)
        if zone is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer.to_wire()
        owner = question.name.to_text()
        while zone is not None and zone.alias:
            target = zone.alias.rstrip(".") + "."
            answer.answer.append(dns.rrset.from_text(owner, zone.ttl_s, "IN", "CNAME", target))
            owner, zone = target, self._names.get(zone.alias.rstrip(".").lower())
        if zone is not None:
            fitting = [one for one in zone.addresses if (":" in one) == (kind == "AAAA")]
            if fitting and kind in ("A", "AAAA"):
                answer.answer.append(dns.rrset.from_text(owner, zone.ttl_s, "IN", kind, *fitting))
        return answer.to_wire()
