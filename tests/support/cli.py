"""`sluicegate` as a user types it, with a data folder and database of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = Path(sys.executable).parent / "sluicegate"
WITHIN_S = 150


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.out.splitlines()[-1]

    def ok(self) -> "Said":
        assert self.code == 0, f"exit {self.code}\n{self.out}\n{self.err}"
        return self


@dataclass(frozen=True, slots=True)
class Cli:
    """Runs commands; what the machine's own environment says about Sluicegate is left out."""

    data: Path
    database: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, stdin: str = "", **env: str) -> Said:
        own = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")}
        own |= {"SLUICEGATE_DATA": str(self.data), "SLUICEGATE_AGENT": "no", **self.env, **env}
        if self.database is not None:
            own["SLUICEGATE_DATABASE"] = self.database
        done = subprocess.run(
            [COMMAND, *words], input=stdin, capture_output=True, text=True, env=own, timeout=WITHIN_S, check=False
        )
        return Said(done.returncode, done.stdout, done.stderr)
