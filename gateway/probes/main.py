"""The process that loads probes and reads them: `python -m gateway.probes.main --channel FD`, started by the agent.

It speaks with the agent alone, over an inherited socket whose end is its own end; its programs go with it.

    ← {"type": "begin"}                                        all that it must know first has been told
    → {"type": "hello", "features": {name: null | reason}}     what works on this host, now that this is known
    → {"type": "costs", "programs": {…}, "lost": {…}}          each second
    ↔ what each feature says and hears (`gateway.probes.feature`)
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway import privileges
from gateway.agent_channel import Channel
from gateway.logs import LogFormat, log_to_stderr
from gateway.probes.alerting import Alerts
from gateway.probes.callers import Callers, ListedCallers
from gateway.probes.denials import Denials
from gateway.probes.discovery import Discovery
from gateway.probes.egress_guard import EgressGuard
from gateway.probes.feature import Feature
from gateway.probes.forwarded import Forwarded
from gateway.probes.program import ProgramRefused
from gateway.probes.routes import Routes
from gateway.probes.routes_sampled import SampledRoutes
from gateway.probes.scope import Scope
from gateway.probes.tls import TlsCalls
from gateway.probes.toolchain import BccMissing
from gateway.probes.trace import Trace
from gateway.probes.watching import Watching

log = logging.getLogger("sluicegate.probes")

COSTS_S: Final = 1.0
NEEDED: Final = frozenset((privileges.BPF, privileges.PERFMON, privileges.NET_ADMIN))
"""To load programs and to attach them to cgroups."""
NEEDED_BY: Final = {Forwarded.name: frozenset((privileges.NET_ADMIN,))}
"""It has no programs."""


class Probes:
    """The features of this host, and their way to the agent."""

    def __init__(self, sock: socket.socket, scope: Scope) -> None:
        self._ended = asyncio.Event()
        self._channel = Channel(sock, self._hear, self._ended.set)
        self._features: list[Feature] = []
        self._told: dict[str, str | None] = {}
        """By feature: None = works, else why not."""
        callers = Callers(self.tell, scope)
        denials = Denials(self.tell, callers)
        trace, alerts = Trace(self.tell, scope), Alerts(self.tell)
        guard = EgressGuard(alerts)
        discovery = Discovery(self.tell, callers, denials.saw)
        self._possible: list[Feature] = [
            Routes(self.tell),
            callers,
            denials,
            discovery,
            Forwarded(self.tell, callers, discovery),
            trace,
            guard,
            Watching(alerts, guard, trace.sources),
            TlsCalls(self.tell, scope),
        ]

    def tell(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        self._channel.send(message, descriptors)

    def load(self) -> None:
        """Each by itself: one that this kernel refuses leaves the others."""
        held = privileges.effective()
        for feature in self._possible:
            missing = NEEDED_BY.get(feature.name, NEEDED) - held
            try:
                if missing:
                    raise ProgramRefused(f"the agent lacks {privileges.named(missing)}: start it as root")
                feature.load()
            except (BccMissing, ProgramRefused, OSError) as error:
                self._told[feature.name] = str(error)
                log.error("a probe is missing", extra={"feature": feature.name, "reason": str(error)})
                self._features += self._instead(feature)
            else:
                self._told[feature.name] = None
                self._features.append(feature)

    def _instead(self, missing: Feature) -> list[Feature]:
        """What can be had without programs in the kernel."""
        instead: Feature
        if isinstance(missing, Routes):
            instead = SampledRoutes(self.tell)
        elif isinstance(missing, Callers):
            instead = ListedCallers(self.tell, missing.scope)
        else:
            return []
        try:
            instead.load()
        except OSError as error:
            log.error("nor is there anything in its place", extra={"feature": missing.name, "reason": str(error)})
            return []
        return [instead]

    async def run(self) -> None:
        self.load()
        gc.collect()
        log.info("probes ready", extra={"features": [feature.name for feature in self._features]})
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(feature.run()) for feature in self._features]
            running.append(tasks.create_task(self._tell_costs()))
            await self._ended.wait()
            for task in running:
                task.cancel()

    async def _tell_costs(self) -> None:
        while True:
            programs = {
                f"{program.name}.{name}": [cost.seconds, cost.runs]
                for feature in self._features
                for program in feature.programs
                for name, cost in program.run_times().items()
            }
            lost = {
                f"{feature.name}.{what}": count for feature in self._features for what, count in feature.lost().items()
            }
            self.tell({"type": "costs", "programs": programs, "lost": lost})
            await asyncio.sleep(COSTS_S)

    def _hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        try:
            if message["type"] == "begin":  # heard once all is loaded, and behind what the agent told before
                self.tell({"type": "hello", "features": self._told})
            for feature in self._features:
                if message["type"] in feature.kinds:
                    feature.hear(message, descriptors)
        finally:
            for number in descriptors:
                os.close(number)


async def run(sock: socket.socket, scope: Scope) -> None:
    await Probes(sock, scope).run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gateway.probes.main")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--cgroup", type=Path, help="a folder; default: the root of the v2 hierarchy")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", default="text")
    options = parser.parse_args()
    log_to_stderr(options.log_level, LogFormat(options.log_format), "probes")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the agent ends, and we with it
    asyncio.run(run(socket.socket(fileno=options.channel), Scope.of(options.cgroup)))


if __name__ == "__main__":
    main()
