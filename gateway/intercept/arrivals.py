"""Whether what the kernel has captured comes to a worker. A firewall's input rules, which we do not own, may drop it on
its way: forwarded connections then hang, and the canary, which is this host's own, does not notice.
"""

from dataclasses import dataclass
from typing import Final

LOOK_S: Final = 10.0
FEWEST: Final = 3
"""So many captured connections, or tries of one, and none that came: that is no chance."""


@dataclass(slots=True)
class _Tally:
    arrived: int
    captured_then: int
    """When the last one came."""
    settled: int
    """Captured until the look before the latest: those have had their time."""
    latest: int


class Arrivals:
    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}

    def look(self, rule: str, captured: int, arrived: int) -> None:
        """Each `LOOK_S`. Both numbers are counts since the agent started."""
        tally = self._tallies.get(rule)
        if tally is None and not arrived:
            self._tallies[rule] = _Tally(0, 0, 0, captured)
        elif tally is None or arrived != tally.arrived or captured < tally.latest:
            self._tallies[rule] = _Tally(arrived, captured, captured, captured)
        else:
            tally.settled, tally.latest = tally.latest, captured

    def forget_others(self, rules: set[str]) -> None:
        for rule in self._tallies.keys() - rules:
            del self._tallies[rule]

    def lost(self, rule: str) -> int:
        """Tries that were captured since one came last; 0 where they are too few to tell."""
        tally = self._tallies.get(rule)
        if tally is None:
            return 0
        lost = tally.settled - tally.captured_then
        return lost if lost >= FEWEST else 0
