"""`sluicegate doctor`: what this host and the gateway on it lack, each with the command that mends it."""

import sys

from gateway.cli import output
from gateway.cli.checks import Finding, Verdict
from gateway.cli.checks_gateway import gateway_checks
from gateway.cli.checks_host import host_checks
from gateway.cli.checks_interception import interception_checks
from gateway.cli.checks_probes import probe_checks
from gateway.cli.owner import become_owner
from gateway.privileges import NET_ADMIN
from gateway.settings import Settings

MARKS = {Verdict.FINE: "✓", Verdict.NOTED: "·", Verdict.WEAK: "!", Verdict.BROKEN: "✗"}
COLOURS = {Verdict.FINE: "\033[32m", Verdict.NOTED: "\033[2m", Verdict.WEAK: "\033[33m", Verdict.BROKEN: "\033[31m"}


def examine(settings: Settings) -> int:
    """Print every finding as it is made. Returns the exit code: 1 where something is broken."""
    become_owner(settings.data, keeping=(NET_ADMIN,))  # to look at nftables, and try what interception needs
    counts = dict.fromkeys(Verdict, 0)
    for findings in (
        gateway_checks(settings),
        host_checks(settings),
        interception_checks(settings),
        probe_checks(settings),
    ):
        for finding in findings:
            counts[finding.verdict] += 1
            _show(finding)
    output.say()
    if counts[Verdict.BROKEN]:
        output.say(f"{counts[Verdict.BROKEN]} broken, {counts[Verdict.WEAK]} to look at")
        return 1
    output.say(f"nothing is broken, {counts[Verdict.WEAK]} to look at" if counts[Verdict.WEAK] else "all is well")
    return 0


def _show(finding: Finding) -> None:
    if not sys.stdout.isatty():
        output.say(f"{finding.verdict}\t{finding.subject}\t{finding.detail}\t{finding.fix}")
        return
    off = "\033[0m"
    output.say(f"{COLOURS[finding.verdict]}{MARKS[finding.verdict]}{off} {finding.subject:<13} {finding.detail}")
    if finding.fix:
        output.say(f"  {'':<13} \033[36m{finding.fix}{off}")
