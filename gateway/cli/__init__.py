"""The `sluicegate` command. `app` lists the commands; each body imports what it needs, so that `--help` stays quick."""

import os
import sys


def main() -> None:
    """Run the command line and end the process: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted."""
    # The processes that we start by module name must never take a folder `gateway` of the caller's for ours.
    os.environ["PYTHONSAFEPATH"] = "1"
    from gateway.cli.app import app
    from gateway.cli.failures import explain

    try:
        app(prog_name="sluicegate")
    except (KeyboardInterrupt, BrokenPipeError):
        # The reader of a pipe may leave early; Python would complain again when it flushes at the end.
        sys.stderr.close()
        raise SystemExit(130) from None
    except Exception as error:
        raise SystemExit(explain(error)) from error
