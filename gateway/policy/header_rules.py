"""Header rules of an HTTP route: what is removed from and added to a request or an answer on its way.

They come last: what a rule sets stands, whoever else wrote it. A rule cannot touch what frames a message or belongs to
one connection only (`FORBIDDEN`); those fields are the gateway's own work on each side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FORBIDDEN: Final = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect", "content-length", "host"),
        *("x-request-id", "x-sluicegate-route", "x-sluicegate-target", "x-sluicegate-cost-usd"),
    )
)
"""Hop-by-hop fields (RFC 9110 7.6.1), framing, Host (`preserve_host` decides it), and the gateway's own."""


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """Ready for use: `drop` holds the names (lower case) whose lines do not pass, `lines` what is written instead."""

    drop: frozenset[bytes] = frozenset()
    lines: bytes = b""


NO_RULES: Final = HeaderRules()


def header_rules(set_: Mapping[str, str], add: Mapping[str, str], remove: Sequence[str]) -> HeaderRules:
    """The rules of one direction: `remove` first, then `set` (in place of what was there), then `add` (beside it).
    Names and values as they were checked (`gateway.store.header_documents`)."""
    if not (set_ or add or remove):
        return NO_RULES
    lines = "".join([f"{name}: {value}\r\n" for rules in (set_, add) for name, value in rules.items()])
    return HeaderRules(frozenset(name.lower().encode() for name in (*remove, *set_)), lines.encode("latin-1"))
