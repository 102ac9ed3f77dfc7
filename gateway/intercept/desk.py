"""Who the agent speaks with over its Unix socket: workers of the gateway, and the command line.

A worker's connection is its sign of life: its end is seen at once, and silence is noticed. Messages are JSON objects
with a `type` (`agent_channel`); what each holds stands at the method that reads or writes it.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import gateway
from gateway.agent_channel import HEARTBEAT_S, VERSION, Channel, Peer, peer_of
from gateway.policy.interception import InterceptionRule, rule_of
from gateway.probes.prober import Prober

log = logging.getLogger("sluicegate.agent")

SILENT_S: Final = 2.0
"""A worker that has not answered for so long hangs: it counts as dead until it answers again."""
ANSWER_S: Final = 1.0
BACKLOG: Final = 128
ENDED_KEPT: Final = 2000
PROBE_QUESTIONS: Final = frozenset(("who", "cut"))
"""What is answered by the probes' process (`gateway.probes`); so is "trace", which lasts as long as the connection."""
PROBE_STATE: Final = frozenset(("denials", "catalogue", "watched", "tls_watched", "egress"))
"""What observers may have the probes know."""


class Interceptor(Protocol):
    """The part of the agent that the desk serves."""

    @property
    def upstream_mark(self) -> int: ...

    @property
    def listening(self) -> dict[str, socket.socket]:
        """Transparent listeners by rule."""

    @property
    def host_names(self) -> dict[str, list[str]]:
        """Addresses by host name."""

    def offered(self, listeners: Mapping[str, socket.socket]) -> None:
        """Listeners by rule that a worker has from an agent before this one; to be duplicated by whoever keeps one."""

    def rules_told(self, rules: list[InterceptionRule]) -> None: ...

    def workers_changed(self) -> None: ...

    def status(self) -> dict[str, Any]: ...

    async def order(self, what: str, options: dict[str, Any]) -> dict[str, Any]:
        """An operator's order. Raises ValueError saying why it cannot be done."""


class Caller:
    """One connection."""

    def __init__(self, desk: "Desk", sock: socket.socket, peer: Peer) -> None:
        self.peer = peer
        self.is_worker = False
        self.slot = 0
        self.may_mark = False
        self.serving: frozenset[int] = frozenset()
        """Ports of the listeners that it accepts from."""
        self.flows: Counter[str] = Counter()
        """Captured connections that it has open, by rule."""
        self.counts: Counter[str] = Counter()
        """`RULE kind` → connections, since it started."""
        self.heard_s = time.monotonic()
        self._desk = desk
        self._channel = Channel(sock, self._on_message, self._on_end)

    @property
    def alive(self) -> bool:
        return time.monotonic() - self.heard_s < SILENT_S

    @property
    def unsent_bytes(self) -> int:
        return self._channel.unsent_bytes

    def send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        self._channel.send(message, descriptors)

    def close(self) -> None:
        self._channel.close()

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        self.heard_s = time.monotonic()
        with contextlib.ExitStack() as given:  # what nobody has taken is closed
            self._desk.heard(self, message, [given.enter_context(sock) for sock in _sockets(descriptors)])

    def _on_end(self) -> None:
        self._desk.gone(self)


class Desk:
    """The listening socket and all that came in by it."""

    def __init__(self, interceptor: Interceptor, prober: Prober, sock: socket.socket, owner_uid: int) -> None:
        """`owner_uid`: the gateway's user; it and root may speak with us."""
        self._interceptor = interceptor
        self._prober = prober
        self._sock = sock
        self._owner_uid = owner_uid
        self._callers: set[Caller] = set()
        self.counted: Counter[str] = Counter()
        """Of workers that have ended."""
        self.ended: deque[dict[str, Any]] = deque(maxlen=ENDED_KEPT)
        """Captured connections that have ended, as workers told of them (`dataplane.intercepted.flow`), newest last."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard = asyncio.Event()
        """A worker has told how it stands."""

    # -- who is there

    @property
    def workers(self) -> list[Caller]:
        return [caller for caller in self._callers if caller.is_worker]

    @property
    def living(self) -> list[Caller]:
        return [worker for worker in self.workers if worker.alive]

    @property
    def served(self) -> frozenset[int]:
        """Ports of listeners that some living worker accepts from, unless what it does then would be captured again."""
        return frozenset().union(*(worker.serving for worker in self.living if worker.may_mark or worker.peer.uid))

    @property
    def flows(self) -> Counter[str]:
        return sum((worker.flows for worker in self.workers), Counter())

    @property
    def exempt_uids(self) -> frozenset[int]:
        """Of workers that cannot mark their own connections."""
        return frozenset(worker.peer.uid for worker in self.workers if not worker.may_mark and worker.peer.uid)

    def count(self, rule: str, kind: str) -> int:
        """Connections of a rule that workers have counted."""
        key = f"{rule} {kind}"
        return self.counted[key] + sum(worker.counts[key] for worker in self.workers)

    # -- life

    def open(self) -> None:
        self._sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()
        for caller in tuple(self._callers):
            caller.close()

    async def run(self) -> None:
        """Ask workers whether they live, for ever."""
        before: set[Caller] = set()
        while True:
            for worker in self.workers:
                worker.send({"type": "beat"})
            living = set(self.living)
            if living != before:
                before = living
                self._interceptor.workers_changed()
            await asyncio.sleep(HEARTBEAT_S)

    async def ask_all(self) -> None:
        """Have every living worker tell how it stands, and wait for that."""
        asked_s = time.monotonic()
        for worker in self.living:
            worker.send({"type": "beat"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while any(worker.heard_s < asked_s for worker in self.living):
                    self._heard.clear()
                    await self._heard.wait()

    def tell_listeners(self) -> None:
        """`{"type": "listeners", "rules": [{"name", "port"}], "fds"}`: all there are, in the order of the
        descriptors. A worker keeps those that it has, and gives up those that are gone."""
        for worker in self.workers:
            self._tell_listeners(worker)

    def tell_names(self) -> None:
        """`{"type": "names", "hosts": {host: [address]}}`"""
        for worker in self.workers:
            worker.send({"type": "names", "hosts": self._interceptor.host_names})

    def _tell_listeners(self, worker: Caller) -> None:
        listening = self._interceptor.listening
        rules = [{"name": name, "port": sock.getsockname()[1]} for name, sock in listening.items()]
        worker.send({"type": "listeners", "rules": rules}, tuple(sock.fileno() for sock in listening.values()))

    # -- what they say

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("a connection cannot be accepted", extra={"error": str(error)})
                return
            peer = peer_of(sock)
            if peer.uid not in (0, self._owner_uid):
                log.warning("a stranger was refused", extra={"uid": peer.uid, "pid": peer.pid})
                sock.close()
                continue
            self._callers.add(Caller(self, sock, peer))

    def heard(self, caller: Caller, message: dict[str, Any], sockets: list[socket.socket]) -> None:
        """`sockets`: that came with the message, closed afterwards."""
        kind = message["type"]
        if kind == "hello":
            self._hello(caller, message, sockets)
        elif kind == "rules":
            self._interceptor.rules_told([rule_of(each) for each in message["rules"]])
        elif kind == "alive":
            self._alive(caller, message)
        elif kind == "series":
            self._prober.series_asked(str(message["route"]), str(message["target"]))
        elif kind in PROBE_STATE:
            self._prober.tell(message)
        elif kind == "ask":
            task = asyncio.get_running_loop().create_task(self._answer(caller, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _hello(self, caller: Caller, message: dict[str, Any], sockets: list[socket.socket]) -> None:
        """`{"type": "hello", "v", "role": "worker", "slot", "may_mark", "doors": [rule], "fds"}`; answered by `welcome`
        with the version, our release and the mark for upstream connections. `doors`: of the listeners that it has.
        Another role is `observer`: it gets what the probes find."""
        if message["v"] != VERSION:
            caller.send({"type": "refused", "reason": f"this agent speaks version {VERSION}"})
            caller.close()
            return
        caller.send(
            {"type": "welcome", "v": VERSION, "release": gateway.__version__, "mark": self._interceptor.upstream_mark}
        )
        if message["role"] == "observer":
            self._prober.joined(caller)
        if message["role"] != "worker":
            return
        caller.is_worker, caller.slot, caller.may_mark = True, int(message["slot"]), bool(message["may_mark"])
        self._interceptor.offered(dict(zip(message.get("doors", ()), sockets, strict=True)))
        self._tell_listeners(caller)
        caller.send({"type": "names", "hosts": self._interceptor.host_names})
        self._prober.joined(caller)
        self._interceptor.workers_changed()

    def _alive(self, caller: Caller, message: dict[str, Any]) -> None:
        """`{"type": "alive", "serving": [port], "flows": {rule: n}, "counts": {"rule kind": n}, "ended": [flow]}`: the
        answer to `beat`, and sent unasked when what a worker serves has changed."""
        self.ended.extend(message["ended"])
        caller.flows = _counter(message["flows"])
        caller.counts = _counter(message["counts"])
        self._heard.set()
        serving = frozenset(message["serving"])
        if serving != caller.serving:
            caller.serving = serving
            self._interceptor.workers_changed()

    async def _answer(self, caller: Caller, message: dict[str, Any]) -> None:
        """`{"type": "ask", "id", "what": "status" | an order, "options"}` → `{"type": "answer", "id", "said"}`, or
        with `error` in place of `said`."""
        reply: dict[str, Any] = {"type": "answer", "id": message["id"]}
        try:
            if message["what"] == "status":
                reply["said"] = self._interceptor.status()
            elif message["what"] == "trace":
                reply["said"] = await self._prober.trace(caller, message.get("options", {}))
            elif message["what"] in PROBE_QUESTIONS:
                reply["said"] = await self._prober.ask(message["what"], message.get("options", {}))
            elif message["what"] == "flows":
                reply["said"] = {"items": self._flows(**message.get("options", {}))}
            else:
                log.info("order", extra={"what": message["what"], "uid": caller.peer.uid, "pid": caller.peer.pid})
                reply["said"] = await self._interceptor.order(message["what"], message.get("options", {}))
        except (ValueError, TypeError) as error:  # options that we do not know are a TypeError
            reply["error"] = str(error)
        caller.send(reply)

    def _flows(self, rule: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest first."""
        fitting = (flow for flow in reversed(self.ended) if rule is None or flow["rule"] == rule)
        return list(itertools.islice(fitting, limit))

    def gone(self, caller: Caller) -> None:
        self._callers.discard(caller)
        self.counted.update(caller.counts)
        self._heard.set()
        self._prober.left(caller)
        if caller.is_worker:
            self._interceptor.workers_changed()


def _counter(given: Mapping[str, Any]) -> Counter[str]:
    """Raises ValueError for what is no count: nobody would notice before it is added to others."""
    if not all(type(count) is int for count in given.values()):
        raise ValueError("counts are whole numbers")
    return Counter(given)


def _sockets(descriptors: Sequence[int]) -> list[socket.socket]:
    """What of these is a socket; all else is closed."""
    found = []
    for number in descriptors:
        try:
            found.append(socket.socket(fileno=number))
        except OSError:
            os.close(number)
    return found


def open_socket(path: Path, owner_uid: int, owner_gid: int) -> socket.socket:
    """The agent's socket: 0600, the gateway's user's. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(mask)
    os.chown(path, owner_uid, owner_gid, follow_symlinks=False)  # the folder's owner may put anything in its place
    sock.listen(BACKLOG)
    return sock
