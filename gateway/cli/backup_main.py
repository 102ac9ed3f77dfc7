"""`python -m gateway.cli.backup_main`: a backup on standard output, for the REST API. Never with the sealing key.

A worker starts it and hands its settings down: reading all tables is not done beside calls.
"""

import os
from pathlib import Path
from typing import Final

from gateway.cli import backup
from gateway.settings import Settings

NICE: Final = 10
"""A tenth of a core that calls want all of."""


def main() -> None:
    os.nice(NICE)
    backup.write(Settings.handed_down(), Path("-"), with_key=False)


if __name__ == "__main__":
    main()
