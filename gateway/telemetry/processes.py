"""CPU and memory of the gateway's processes, as /proc tells (proc_pid_stat(5)).

CPU is summed by program over all processes that ever ran under that name, so that it never goes backwards when one of
them is replaced.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    identity: str
    """Process id and start time: no two processes of one boot share it."""
    cpu_s: float
    resident_bytes: int


def figures_of(pid: int) -> ProcessFigures | None:
    """None where the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(") ")[2].split()  # the name before may hold anything
    user, system, started, pages = (int(fields[at]) for at in (11, 12, 19, 21))
    return ProcessFigures(f"{pid}-{started}", (user + system) / _TICKS, pages * _PAGE_BYTES)


class ProcessBook:
    """Figures by program ("keeper", "worker-0", …)."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        """`kept`: what `state` said in an earlier life, or nothing."""
        self._retired: dict[str, float] = dict(kept.get("retired") or {})
        self._live: dict[str, tuple[str, float]] = {
            identity: (program, cpu_s) for identity, (program, cpu_s) in (kept.get("live") or {}).items()
        }
        self.resident_bytes: dict[str, int] = {}

    def look(self, running: Iterable[tuple[str, int]]) -> None:
        """Read the figures of these (program, pid); what ran before and does so no more is kept as it last was."""
        before, self._live = self._live, {}
        self.resident_bytes = {}
        for program, pid in running:
            found = figures_of(pid)
            if found is None:
                continue
            before.pop(found.identity, None)
            self._live[found.identity] = (program, found.cpu_s)
            self.resident_bytes[program] = self.resident_bytes.get(program, 0) + found.resident_bytes
        for program, cpu_s in before.values():
            self._retired[program] = self._retired.get(program, 0.0) + cpu_s

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds by program, those of ended processes included."""
        total = dict(self._retired)
        for program, cpu_s in self._live.values():
            total[program] = total.get(program, 0.0) + cpu_s
        return total

    def state(self) -> dict[str, Any]:
        """JSON-ready, for the next life of the keeper."""
        return {"retired": self._retired, "live": self._live}
