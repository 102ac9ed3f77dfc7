"""DNS and plain HTTP/1 as the first bytes of packets show them: question and answer joined by socket."""

import ctypes
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from gateway.probes import bpf_calls
from gateway.probes.owners import Owners
from gateway.probes.program import CGROUP_SKB, CGROUP_SOCK_ADDR, Program, ProgramRefused
from gateway.probes.scope import Scope
from gateway.probes.trace_events import Packet
from gateway.probes.trace_sources import Event, Source, address_of, constants, unix_s

OPEN: Final = 4096
"""Questions kept that have no answer yet; sockets, of HTTP."""
DNS_PATIENCE_S: Final = 5.0
HTTP_PATIENCE_S: Final = 60.0
PIPELINED: Final = 16
SHOWN_ANSWERS: Final = 8
SHOWN_CHARACTERS: Final = 256
CONNECTS: Final = (("on_connect4", bpf_calls.INET4_CONNECT), ("on_connect6", bpf_calls.INET6_CONNECT))
SENDS: Final = (("on_sendmsg4", bpf_calls.UDP4_SENDMSG), ("on_sendmsg6", bpf_calls.UDP6_SENDMSG))
PACKETS: Final = (("on_incoming", bpf_calls.INET_INGRESS), ("on_outgoing", bpf_calls.INET_EGRESS))


def _loaded(scope: Scope, *, dns: bool) -> Program:
    program = Program("trace_packets", {**constants(Packet), "DNS" if dns else "HTTP": 1})
    try:
        root = scope.folder
        for function, hook in (*CONNECTS, *(SENDS if dns else ())):
            program.attach(function, CGROUP_SOCK_ADDR, hook, root)
        for function, hook in PACKETS:
            program.attach(function, CGROUP_SKB, hook, root)
    except (ProgramRefused, OSError):
        program.close()
        raise
    return program


def _read(raw: bytes) -> tuple[Packet, bytes]:
    packet = Packet.from_buffer_copy(raw)
    return packet, raw[ctypes.sizeof(Packet) : ctypes.sizeof(Packet) + packet.bytes]


def _peer(packet: Packet) -> str:
    """The address at the other end."""
    head = bytes(packet.head)
    if head[0] >> 4 == 4:
        return address_of(head[16:20] if packet.outgoing else head[12:16], 4)
    return address_of(head[24:40] if packet.outgoing else head[8:24], 6)


class Dns(Source):
    """Questions over UDP, each with its answer, or without one after `DNS_PATIENCE_S`."""

    kind = "dns"

    def __init__(self, owners: Owners, scope: Scope) -> None:
        super().__init__(owners, scope)
        self._asked: OrderedDict[tuple[int, int], tuple[int, Event]] = OrderedDict()
        """By socket and id: when, and what is known."""

    def _load(self) -> Program:
        return _loaded(self.scope, dns=True)

    def _take(self, raw: bytes) -> None:
        packet, payload = _read(raw)
        try:
            # The kernel copies the first 512 bytes alone.
            message = dns.message.from_wire(payload, continue_on_error=True, ignore_trailing=True)
        except (dns.exception.DNSException, ValueError):
            return
        if not message.question:
            return
        key = (packet.cookie, message.id)
        if packet.outgoing:
            question = message.question[0]
            event = {
                "at_s": unix_s(packet.at_ns),
                **self.owners.describe(packet.who),
                "server": _peer(packet),
                "name": question.name.to_text(omit_final_dot=True)[:SHOWN_CHARACTERS],
                "type": dns.rdatatype.to_text(question.rdtype),
                "result": "no answer",
                "answers": [],
                "latency_ms": None,
            }
            self._asked[key] = (packet.at_ns, event)
            if len(self._asked) > OPEN:
                self._emit(self._asked.popitem(last=False)[1][1])
            return
        asked = self._asked.pop(key, None)
        if asked is None:
            return
        begun_ns, event = asked
        event["result"] = dns.rcode.to_text(message.rcode())
        event["answers"] = [each.to_text()[:SHOWN_CHARACTERS] for rows in message.answer for each in rows][
            :SHOWN_ANSWERS
        ]
        event["latency_ms"] = round((packet.at_ns - begun_ns) / 1e6, 4)
        self._emit(event)

    def expire(self) -> None:
        while self._asked:
            key, (begun_ns, event) = next(iter(self._asked.items()))
            if time.monotonic_ns() - begun_ns < DNS_PATIENCE_S * 1e9:
                return
            del self._asked[key]
            self._emit(event)


@dataclass(slots=True)
class _Request:
    begun_ns: int
    event: Event


class Http(Source):
    """Requests, each with its status, or without one after `HTTP_PATIENCE_S`. A connection within this host is seen at
    both its ends: the `role` says at which."""

    kind = "http"

    def __init__(self, owners: Owners, scope: Scope) -> None:
        super().__init__(owners, scope)
        self._requests: OrderedDict[int, deque[_Request]] = OrderedDict()
        """By socket, the oldest request first (RFC 9112 9.3.2)."""

    def _load(self) -> Program:
        return _loaded(self.scope, dns=False)

    def _take(self, raw: bytes) -> None:
        packet, payload = _read(raw)
        if payload.startswith(b"HTTP/1."):
            self._answered(packet, payload)
            return
        words = payload.partition(b"\r\n")[0].split(b" ")
        if len(words) < 2 or not words[0].isalpha():
            return
        request = _Request(
            packet.at_ns,
            {
                "at_s": unix_s(packet.at_ns),
                **self.owners.describe(packet.who),
                "role": "client" if packet.outgoing else "server",
                "peer": _peer(packet),
                "port": packet.remote_port if packet.outgoing else packet.local_port,
                "method": words[0].decode("ascii", "replace"),
                "host": _field(payload, b"host"),
                "path": words[1].decode("ascii", "replace")[:SHOWN_CHARACTERS],
                "result": "no answer",
                "latency_ms": None,
            },
        )
        waiting = self._requests.setdefault(packet.cookie, deque())
        waiting.append(request)
        self._requests.move_to_end(packet.cookie)
        if len(waiting) > PIPELINED:
            self._emit(waiting.popleft().event)
        if len(self._requests) > OPEN:
            for each in self._requests.popitem(last=False)[1]:
                self._emit(each.event)

    def _answered(self, packet: Packet, payload: bytes) -> None:
        waiting = self._requests.get(packet.cookie)
        status = payload[9:12]
        if not waiting or not status.isdigit() or status.startswith(b"1"):
            return  # an interim response, or a request from before the trace
        request = waiting.popleft()
        if not waiting:
            del self._requests[packet.cookie]
        request.event["result"] = status.decode()
        request.event["latency_ms"] = round((packet.at_ns - request.begun_ns) / 1e6, 4)
        self._emit(request.event)

    def expire(self) -> None:
        now_ns = time.monotonic_ns()
        for cookie in [*self._requests]:
            waiting = self._requests[cookie]
            if now_ns - waiting[0].begun_ns < HTTP_PATIENCE_S * 1e9:
                return
            del self._requests[cookie]
            for each in waiting:
                self._emit(each.event)


def _field(payload: bytes, name: bytes) -> str | None:
    """A header's value, where it lies in what was read."""
    head = payload.partition(b"\r\n\r\n")[0]
    for line in head.split(b"\r\n")[1:]:
        found, colon, value = line.partition(b":")
        if colon and found.strip().lower() == name:
            return value.strip().decode("ascii", "replace")[:SHOWN_CHARACTERS]
    return None
