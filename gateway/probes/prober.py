"""The agent's side of the probes: keeps their process (`main`) alive, gives workers what they tag their sockets with,
and passes on what is found to whoever observes (the keeper, `sluicegate trace`).

The agent does not depend on it: without bcc, without the capability or on an old kernel everything else goes on, and
`status` says what is missing.
"""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Protocol

from gateway.agent_channel import Channel
from gateway.logs import LogFormat
from gateway.probes.feature import cgroup_of

log = logging.getLogger("sluicegate.agent")

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 30.0
STEADY_S: Final = 60.0
"""A process that has lived so long begins with the shortest pause again."""
ANSWER_S: Final = 3.0
END_S: Final = 1.0
MOST_UNTOLD_BYTES: Final = 4 * 1024 * 1024
"""Of a trace: who reads slower than that loses events, which are counted."""


class Observer(Protocol):
    """A connection to the agent that gets what probes find."""

    @property
    def is_worker(self) -> bool: ...

    @property
    def unsent_bytes(self) -> int: ...

    def send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None: ...


class Prober:
    """Used from the agent's event loop. `run` is its one task."""

    def __init__(self, *, wanted: bool, cgroup: str | None, log_level: str, log_format: LogFormat) -> None:
        """`cgroup`: the folder of the one that the probes are about (`gateway.probes.scope`); None = all."""
        self._wanted = wanted
        self._arguments = ["--log-level", log_level, "--log-format", log_format.value]
        if cgroup is not None:
            self._arguments += ["--cgroup", cgroup]
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._ended = asyncio.Event()
        self._observers: set[Observer] = set()
        self._workers: set[Observer] = set()
        self._tags: tuple[int, int] | None = None
        """Descriptor of the map that workers write to, and how many bits of a cookie are its index."""
        self._numbers: dict[tuple[str, str], int] = {}
        """By route and target."""
        self._kept: dict[str, dict[str, Any]] = {}
        """What the probes' process must know, by type: told again to one that is new."""
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._traces: dict[int, Observer] = {}
        """Whose each session is (`gateway.probes.trace`)."""
        self._untold: Counter[int] = Counter()
        """Of sessions: events that whoever traces was too slow for."""
        self.features: dict[str, str | None] = {}
        """By name: None = works, else why not."""
        self.trouble: str | None = "the probes have not started yet"
        self.costs: dict[str, Any] = {"programs": {}, "lost": {}}
        self.starts = 0
        self._most_series = 0
        """That the probes tell apart; what is more is not measured, and said to be lost."""
        self.series_refused = 0

    # -- life

    async def run(self) -> None:
        if not self._wanted:
            self.trouble = "probes are turned off (`probes = false`)"
            return
        pause_s = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        try:
            while True:
                begun_s = loop.time()
                self._start()
                await self._ended.wait()
                code = await self._reap()
                if loop.time() - begun_s > STEADY_S:
                    pause_s = FIRST_PAUSE_S
                self.trouble = f"the probes' process ended ({code}) and is started again"
                log.error("the probes' process ended", extra={"code": code, "again_in_s": pause_s})
                self._tell_observers({"type": "probes", "state": "away", "reason": self.trouble})
                self._end_traces(self.trouble)
                await asyncio.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        finally:
            self.close()

    def _start(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with its:
            argv = [sys.executable, "-m", "gateway.probes.main", "--channel", str(its.fileno()), *self._arguments]
            self._process = subprocess.Popen(argv, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL)  # noqa: S603
        self._ended.clear()
        self.starts += 1
        self._channel = Channel(ours, self._hear, self._ended.set)
        for message in self._kept.values():
            self._channel.send(message)
        self._tell_series_count()
        self._channel.send({"type": "begin"})

    async def _reap(self) -> int | None:
        process = self._process
        self._forget_tags()
        if self._channel is not None:
            self._channel.close()
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(process.wait, END_S)
        process.kill()
        return await asyncio.to_thread(process.wait)

    def close(self) -> None:
        """The process ends, and all its programs with it."""
        process, self._process = self._process, None
        if self._channel is not None:
            self._channel.close()
        self._forget_tags()
        if process is not None:
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # -- what others ask

    def tell(self, message: dict[str, Any]) -> None:
        """What the probes must know, by its type; kept for a process that starts anew."""
        self._kept[message["type"]] = message
        if self._channel is not None:
            self._channel.send(message)

    async def ask(self, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """A question to a feature: `{"type": kind, "id", **options}` → `{"type": "answer", "id", "said" | "error"}`.
        Raises ValueError where it refuses, or nobody is there."""
        channel = self._channel
        if channel is None or channel.closed:
            raise ValueError(self.trouble or "the probes are not running")
        self._next += 1
        number = self._next
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        channel.send({**options, "type": kind, "id": number})
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await answer
        except TimeoutError:
            raise ValueError("the probes do not answer") from None
        finally:
            del self._answers[number]
        if "error" in reply:
            raise ValueError(reply["error"])
        said: dict[str, Any] = reply["said"]
        return said

    async def trace(self, caller: Observer, options: Mapping[str, Any]) -> dict[str, Any]:
        """A session that lasts as long as the caller's connection: events go to it alone. Raises ValueError."""
        self._next += 1
        number = self._next
        self._traces[number] = caller
        try:
            return await self.ask("trace", {**options, "session": number})
        except ValueError:
            self._end_trace(number)
            raise

    def _end_trace(self, number: int) -> None:
        self._traces.pop(number, None)
        self._untold.pop(number, None)
        if self._channel is not None:
            self._channel.send({"type": "untrace", "session": number})

    def _tell_tracer(self, message: dict[str, Any]) -> None:
        caller = self._traces.get(message["session"])
        if caller is None:
            return
        if caller.unsent_bytes > MOST_UNTOLD_BYTES:
            self._untold[message["session"]] += len(message["events"])
            return
        caller.send({**message, "lost": message["lost"] + self._untold[message["session"]]})

    def _end_traces(self, reason: str) -> None:
        for number, caller in self._traces.items():
            caller.send({"type": "trace", "session": number, "ended": reason})
        self._traces.clear()
        self._untold.clear()

    def watch(self, worker_pids: list[int], mark: int) -> None:
        """Whose sockets are measured: the cgroups of the workers, and ours, to which their listeners belong. And whose
        connections are no finding: the gateway's processes, sockets with its mark for upstream connections."""
        folders = set()
        pids = [*worker_pids, os.getpid()]
        for pid in pids:
            with contextlib.suppress(OSError):
                folders.add(cgroup_of(pid))
        outermost = [folder for folder in folders if not folders & set(folder.parents)]
        told = {"paths": sorted(map(str, outermost)), "pids": pids, "workers": worker_pids, "mark": mark}
        self.tell({"type": "cgroups", **told})

    def status(self) -> dict[str, Any]:
        return {
            "running": self._channel is not None and not self._channel.closed,
            "trouble": self.trouble,
            "features": self.features,
            "programs": self.costs["programs"],
            "lost": {**self.costs["lost"], "routes.series": self.series_refused},
            "starts": self.starts,
        }

    # -- workers and observers

    def joined(self, caller: Observer) -> None:
        """`{"type": "series", "known": [[route, target, number]]}` and `{"type": "tags", "bits", "fds": 1}` to a
        worker; all that is found to others."""
        if not caller.is_worker:
            self._observers.add(caller)
            state = "away" if self.trouble else "here"
            caller.send({"type": "probes", "state": state, "reason": self.trouble, "features": self.features})
            caller.send(self._known_series())
            return
        self._workers.add(caller)
        caller.send(self._known_series())
        self._send_tags(caller)

    def left(self, caller: Observer) -> None:
        self._observers.discard(caller)
        self._workers.discard(caller)
        for number in [number for number, tracer in self._traces.items() if tracer is caller]:
            self._end_trace(number)

    def series_asked(self, route: str, target: str) -> None:
        """By a worker: `{"type": "series", "route", "target"}`. All are told, also observers, who get figures by
        number."""
        if (route, target) not in self._numbers:
            if len(self._numbers) >= self._most_series - 1:  # 0 is nobody's
                self.series_refused += 1
                return
            self._numbers[route, target] = len(self._numbers) + 1
            self._tell_series_count()
            for caller in self._workers | self._observers:
                caller.send(self._known_series())

    def _known_series(self) -> dict[str, Any]:
        return {"type": "series", "known": [[*names, number] for names, number in self._numbers.items()]}

    def _tell_series_count(self) -> None:
        if self._channel is not None:
            self._channel.send({"type": "series", "count": len(self._numbers)})

    def _send_tags(self, worker: Observer) -> None:
        if self._tags is not None:
            descriptor, bits = self._tags
            worker.send({"type": "tags", "bits": bits}, (descriptor,))

    def _forget_tags(self) -> None:
        if self._tags is not None:
            os.close(self._tags[0])
            self._tags = None

    # -- what the probes say

    def _hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        kind = message["type"]
        if kind == "tags":
            self._forget_tags()
            self._most_series = int(message["series"])
            self._tags = (os.dup(descriptors[0]), int(message["bits"]))
            for worker in self._workers:
                self._send_tags(worker)
        elif kind == "hello":
            self.features, self.trouble = message["features"], None
            self._tell_observers({"type": "probes", "state": "here", "reason": None, "features": self.features})
        elif kind == "answer":
            answer = self._answers.get(message["id"])
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif kind == "trace":
            self._tell_tracer(message)
        else:
            if kind == "costs":
                self.costs = message
            self._tell_observers(message)
        for number in descriptors:
            os.close(number)

    def _tell_observers(self, message: dict[str, Any]) -> None:
        for observer in self._observers:
            observer.send(message)
