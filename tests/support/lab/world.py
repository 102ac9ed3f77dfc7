"""A lab with a gateway whose rules cover what most tests of tests/kernel ask for, a range of ports a rule.

To start a gateway takes seconds; so tests share one, and each takes ports of its own from the range that it is about.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.lab.gateway import Gateway, gateway
from tests.support.lab.lab import Lab
from tests.support.lab.servers import Handler, TcpServer

NETS = '["10.9.2.0/28", "fd09:2::/64"]'
EVERYONE = '{cidrs: ["10.9.1.0/24", "fd09:1::/64"], local: true}'
HOST = "api.openai.example"
KEY = "sg-lab-" + "k" * 43

BASE = f"""
providers:
  - {{name: api, dialect: openai, base_url: "http://10.9.2.2/v1", credentials: [{{name: main, value: sk-provider}}]}}
routes:
  - {{name: chat, targets: [{{provider: api, model: gpt-real}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: [chat], keys: [{{name: ci, value: "{KEY}"}}]}}]}}
"""


def rule(
    name: str,
    ports: Sequence[int],
    *,
    cidrs: str = NETS,
    hosts: str = "[]",
    sources: str = EVERYONE,
    more: str = "",
) -> str:
    """A line of `interception:`; `more` are further fields (`mode: deny`)."""
    listed = ", ".join(str(port) for port in ports)
    where = f"destinations: {{hosts: {hosts}, cidrs: {cidrs}, ports: [{listed}]}}"
    return f"  - {{name: {name}, {where}, sources: {sources}, app: indexer{', ' if more else ''}{more}}}\n"


EVERYWHERE = '["0.0.0.0/0", "::/0"]'
RANGES = {"open": range(4001, 4100), "closed": range(5001, 5050), "everywhere": range(6001, 6020)}
RULES = {
    "open": rule("open", [*RANGES["open"], 443]),
    "closed": rule("closed", RANGES["closed"], more="on_failure: closed"),
    "everywhere": rule("everywhere", RANGES["everywhere"], cidrs=EVERYWHERE),
}
WORLD = BASE + "interception:\n" + "".join(RULES.values())


@dataclass
class World:
    lab: Lab
    gateway: Gateway
    applied: str = ""
    """The configuration that a test last gave it."""
    _ports: dict[str, Iterator[int]] = field(default_factory=lambda: {k: itertools.cycle(v) for k, v in RANGES.items()})

    def port(self, name: str = "open") -> int:
        """A port that the rule of this name catches and that no other test of the moment uses."""
        return next(self._ports[name])

    def serve(self, handler: Handler, name: str = "open") -> TcpServer:
        """A server on such a port until the test ends."""
        return self.lab.serve(handler, self.port(name))

    @property
    def well(self) -> bool:
        """Whether a test before has left it in order."""
        return self.gateway.agent.running and len(self.gateway.workers()) == self.gateway.workers_wanted


@contextmanager
def make_world() -> Iterator[World]:
    with Lab() as lab, gateway(lab, WORLD) as running:
        yield World(lab, running)
