"""What a check of `sluicegate doctor` finds."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    FINE = "ok"
    NOTED = "info"
    """Not needed for what this installation does."""
    WEAK = "warning"
    """Works, with a risk that the detail names."""
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    verdict: Verdict
    detail: str
    fix: str = ""
    """The command, or the words, that mend it."""


def fine(subject: str, detail: str) -> Finding:
    return Finding(subject, Verdict.FINE, detail)


def noted(subject: str, detail: str, fix: str = "") -> Finding:
    return Finding(subject, Verdict.NOTED, detail, fix)


def weak(subject: str, detail: str, fix: str) -> Finding:
    return Finding(subject, Verdict.WEAK, detail, fix)


def broken(subject: str, detail: str, fix: str) -> Finding:
    return Finding(subject, Verdict.BROKEN, detail, fix)
