"""An agent without a kernel: a Unix socket that speaks `gateway.agent_channel`, hears what it is told, and finds what a
test has it find.

    with FakeAgent(running.data / "agent.sock") as agent:
        agent.find(finding(process="curl"))
        agent.until(lambda: agent.denials)
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from gateway.agent_channel import VERSION, Channel
from gateway.probes.histogram import bucket_of

Message = dict[str, Any]


def finding(**fields: Any) -> Message:
    """One item of a `findings` message, of curl by default."""
    now_s = time.time()
    return {
        "process": "curl", "pid": 4242, "executable": "/usr/bin/curl", "uid": 1001, "user": "mia", "cgroup": "/",
        "unit": None, "container": None, "client": None, "provider": "openai", "host": "api.openai.com",
        "address": "192.0.2.7", "port": 443, "evidence": "sni", "first_seen_s": now_s, "last_seen_s": now_s,
        "connections": 1, "bytes": 1000, **fields,
    }  # fmt: skip


def second(times_ms: dict[str, list[float]], counts: dict[str, int], *, open_now: int = 0) -> Message:
    """What one second brought, as `gateway.probes.figures` writes it: times by histogram, and counts."""
    histograms: dict[str, list[list[int]]] = {}
    for name, values in times_ms.items():
        by_bucket: dict[int, int] = {}
        for ms in values:
            bucket = bucket_of(int(ms * 1e6))
            by_bucket[bucket] = by_bucket.get(bucket, 0) + 1
        histograms[name] = [[bucket, by_bucket[bucket]] for bucket in sorted(by_bucket)]
    return {"h": histograms, "c": counts, "g": {"open": open_now}}


class FakeAgent:
    """Its event loop runs in a thread; methods may be called from the test's."""

    def __init__(self, path: Path) -> None:
        self.denials: list[Message] = []
        """As told last."""
        self.told_s: list[float] = []
        """When denials were told (time.monotonic)."""
        self.catalogues: list[Message] = []
        self.tls_watched: list[Message] = []
        self.armed: dict[str, str | None] = {}
        """What `status` says of rules: name → why not armed."""
        self.counts: dict[str, Message] = {}
        """By rule: what else `status` says of it."""
        self.standing: Message = {}
        """What else it says of interception as a whole."""
        self.flows: list[Message] = []
        """Captured connections that have ended."""
        self.in_force = True
        """What it answers to denials."""
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._observers: set[Channel] = set()
        self._channels: set[Channel] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "FakeAgent":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        sock.bind(str(self._path))
        sock.listen(16)
        self._sock = sock
        self._loop.add_reader(sock.fileno(), self._accept)
        self._thread.start()
        self.until(lambda: bool(self._observers))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._close)
        self._thread.join(5)
        self._loop.close()

    def send(self, message: Message) -> None:
        """To all observers."""
        self._loop.call_soon_threadsafe(self._send, message)

    def find(self, *items: Message) -> None:
        self.send({"type": "findings", "items": list(items)})

    def measure(self, known: list[tuple[str, str]], *figures: Message, at_s: float | None = None) -> None:
        """A second is over: what probes measured of these routes and targets (`second`), up to now or `at_s`."""
        self.send({"type": "series", "known": [[*names, number] for number, names in enumerate(known, 1)]})
        series = {str(number): each for number, each in enumerate(figures, 1)}
        self.send({"type": "figures", "at_s": at_s or time.time(), "seconds": 1.0, "series": series})

    def refused(self, number: int, count: int, **usage: Any) -> None:
        """A denial has refused so many connections; `usage` of its limit."""
        others = [self._state(one["id"], 0) for one in self.denials if one["id"] != number]
        self.send({"type": "denial_state", "items": [*others, self._state(number, count) | usage]})

    def until(self, condition: Callable[[], Any], within_s: float = 5.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s; denials: {self.denials}"
            time.sleep(0.005)

    # -- in its own thread

    def _send(self, message: Message) -> None:
        for channel in self._observers:
            channel.send(message)

    def _accept(self) -> None:
        sock, _ = self._sock.accept()
        channel = Channel(sock, lambda message, fds: self._hear(channel, message, fds), lambda: self._left(channel))
        self._channels.add(channel)

    def _hear(self, channel: Channel, message: Message, descriptors: list[int]) -> None:
        for number in descriptors:
            os.close(number)
        match message["type"]:
            case "hello":
                channel.send({"type": "welcome", "v": VERSION, "release": "0", "mark": 0})
                if message["role"] == "observer":
                    self._observers.add(channel)
                    channel.send({"type": "probes", "state": "here", "reason": None, "features": {}})
            case "denials":
                self.told_s.append(time.monotonic())
                self.denials = message["items"]
                channel.send({"type": "denial_state", "items": [self._state(one["id"], 0) for one in self.denials]})
            case "catalogue":
                self.catalogues.append(message)
            case "tls_watched":
                self.tls_watched.append(message)
            case "ask":
                channel.send({"type": "answer", "id": message["id"], "said": self._say(message["what"])})

    def _say(self, what: str) -> Message:
        if what == "flows":
            return {"items": self.flows}
        rules = [
            {"rule": name, "mode": "govern", "armed": why is None, "reason": why, **self.counts.get(name, {})}
            for name, why in self.armed.items()
        ]
        return {"up": True, "rules": rules, **self.standing}

    def _state(self, number: int, denied: int) -> Message:
        reason = None if self.in_force else "the map is full"
        return {"id": number, "in_force": self.in_force, "reason": reason, "denied": denied}

    def _left(self, channel: Channel) -> None:
        self._channels.discard(channel)
        self._observers.discard(channel)

    def _close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for channel in tuple(self._channels):
            channel.close()
        self._path.unlink(missing_ok=True)
        self._loop.stop()
