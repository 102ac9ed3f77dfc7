"""`python -m gateway.cli.doctor_main`: the doctor's findings for the REST API, a JSON object a line.

A worker starts it and hands its settings down: the checks import much and take a second, and a worker serves calls. It
starts no program, for the guard over the gateway's processes would tell of it; so what `sluicegate doctor` finds by
`systemctl` is left out, and whether bcc is there, which the agent says better.
"""

import sys
from collections.abc import Iterator

import orjson

from gateway.cli.checks import Finding
from gateway.cli.checks_gateway import keeper, store_checks
from gateway.cli.checks_host import own_checks
from gateway.cli.checks_interception import interception_checks
from gateway.cli.checks_probes import probe_checks
from gateway.settings import Settings


def findings(settings: Settings) -> Iterator[Finding]:
    yield from store_checks(settings)
    yield keeper(settings.keeper_socket)
    yield from own_checks(settings)
    yield from interception_checks(settings)
    yield from probe_checks(settings)


def main() -> None:
    for finding in findings(Settings.handed_down()):
        sys.stdout.buffer.write(orjson.dumps(finding, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
