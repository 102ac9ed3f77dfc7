"""The measurements as commands: see tests/bench/run."""

import argparse
import signal
import sys
from collections.abc import Sequence

from tests.bench import console, growth, probes, reload, report, rig, rivals, splice, streams, workers

COMPARE = "compare"
MEASUREMENTS = {
    "streams": streams,
    "splice": splice,
    "growth": growth,
    "workers": workers,
    "report": report,
    "reload": reload,
    "console": console,
    "probes": probes,
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="Measure Sluicegate. No command: compare.")
    commands = parser.add_subparsers(dest="command", required=True)
    compared = commands.add_parser(
        COMPARE,
        help="CPU, latency, streams, memory beside nginx, the bare provider, and other gateways",
        description="Sluicegate beside nginx as a plain proxy and the bare provider; columns: tests/bench/compare.py.",
        epilog=rivals.described(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compared.add_argument(
        "--rivals",
        nargs="?",
        const=",".join(rivals.OBTAINABLE),
        default="",
        metavar="NAME,NAME",
        help="install and measure these (without names: all that can be had)",
    )
    compared.add_argument("systems", nargs="*", metavar="NAME=URL,MODEL,KEY,PID", help="a gateway that is running")
    for name, module in MEASUREMENTS.items():
        text = module.__doc__ or ""
        command = commands.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(measure=module.measure)
    words = list(arguments)
    if not words or (words[0] not in (*MEASUREMENTS, COMPARE, "-h", "--help")):
        words.insert(0, COMPARE)
    given = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    if given.command != COMPARE:
        given.measure(given)
        return
    if "=" in given.rivals:  # `--rivals NAME=URL,…`: without names of rivals, and a system behind it
        given.systems.insert(0, given.rivals)
        given.rivals = ",".join(rivals.OBTAINABLE)
    with rivals.running([name for name in given.rivals.split(",") if name]) as others:
        rig.run_compare([*others, *given.systems])


if __name__ == "__main__":
    main(sys.argv[1:])
