"""Interception rules: which connections the kernel hands to the gateway, and what becomes of them there.

Keeper, workers and agent pass them on as JSON-ready dictionaries (`plain`, `rule_of`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from ipaddress import ip_network
from typing import Any, Final

from gateway.policy.callers import CallerClaim, claims_of

CANARY_V4: Final = "192.0.2.53"
CANARY_V6: Final = "100::53"
CANARY_PORT: Final = 53
"""Where the agent's own connections go, by which it sees whether what is captured is answered (`intercept.canary`):
networks that lead nowhere (RFC 5737, RFC 6666)."""


class Mode(StrEnum):
    OBSERVE = "observe"
    """Counted by the kernel, never captured."""
    GOVERN = "govern"
    DENY = "deny"


class OnFailure(StrEnum):
    """What becomes of connections while no gateway answers."""

    OPEN = "open"
    """They go to their destination directly."""
    CLOSED = "closed"
    """They are refused at once."""


class Tls(StrEnum):
    PASSTHROUGH = "passthrough"
    TERMINATE = "terminate"


class RefusedCertificate(StrEnum):
    """What becomes of a client that does not accept our certificate, under `tls: terminate`."""

    FAIL = "fail"
    """It fails each time, and is counted."""
    PASSTHROUGH = "passthrough"
    """From its next connection on to this host it is passed on untouched."""


class SourceAddress(StrEnum):
    """Whose address the upstream sees."""

    GATEWAY = "gateway"
    CLIENT = "client"


class Unmatched(StrEnum):
    """What becomes of captured connections that no route claims."""

    SPLICE = "splice"
    METER = "meter"
    DENY = "deny"


class WhoseCredential(StrEnum):
    PROVIDER = "provider"
    CALLER = "caller"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSources:
    """Whose connections: those that match any of these."""

    everyone: bool = False
    cidrs: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    """Names or numbers of users of this host."""
    cgroups: tuple[str, ...] = ()
    """Paths below the cgroup root, e.g. `system.slice/indexer.service`."""
    local: bool = False
    """This host's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterceptionRule:
    """One rule. Where several fit a connection, the first in the order of the configuration decides."""

    name: str
    hosts: tuple[str, ...] = ()
    cidrs: tuple[str, ...] = ()
    ports: tuple[int, ...] = (80, 443)
    sources: RuleSources = RuleSources(everyone=True)
    mode: Mode = Mode.GOVERN
    on_failure: OnFailure = OnFailure.OPEN
    tls: Tls = Tls.PASSTHROUGH
    refused_certificate: RefusedCertificate = RefusedCertificate.FAIL
    source_address: SourceAddress = SourceAddress.GATEWAY
    unmatched: Unmatched = Unmatched.SPLICE
    credential: WhoseCredential = WhoseCredential.PROVIDER
    app: str | None = None
    """Whom to charge when the caller shows no key of ours, and `callers` is empty."""
    callers: tuple[CallerClaim, ...] = ()
    """Processes of this host that need none; the first that fits says who is charged."""


def plain(rule: InterceptionRule) -> dict[str, Any]:
    """The rule as a JSON-ready dictionary."""
    return asdict(rule)


def rule_of(given: Mapping[str, Any]) -> InterceptionRule:
    """The rule that `plain` wrote. Raises KeyError, TypeError and ValueError for anything else: the agent, which is
    root, hears rules from a process that is not."""
    sources = given["sources"]
    return InterceptionRule(
        name=_text(given["name"]),
        hosts=tuple(map(_text, given["hosts"])),
        cidrs=tuple(map(_network, given["cidrs"])),
        ports=tuple(map(_port, given["ports"])),
        sources=RuleSources(
            everyone=bool(sources["everyone"]),
            cidrs=tuple(map(_network, sources["cidrs"])),
            users=tuple(map(_text, sources["users"])),
            cgroups=tuple(map(_text, sources["cgroups"])),
            local=bool(sources["local"]),
        ),
        mode=Mode(given["mode"]),
        on_failure=OnFailure(given["on_failure"]),
        tls=Tls(given["tls"]),
        refused_certificate=RefusedCertificate(given["refused_certificate"]),
        source_address=SourceAddress(given["source_address"]),
        unmatched=Unmatched(given["unmatched"]),
        credential=WhoseCredential(given["credential"]),
        app=None if given["app"] is None else _text(given["app"]),
        callers=claims_of(given.get("callers", ())),  # a worker of the release before knows of none
    )


def _text(given: Any) -> str:
    if type(given) is not str or "\0" in given:
        raise ValueError(f"{given!r} is no text")
    return given


def _network(given: Any) -> str:
    ip_network(_text(given), strict=False)
    return str(given)


def _port(given: Any) -> int:
    if type(given) is not int or not 0 < given < 65536:
        raise ValueError(f"{given!r} is no port")
    return given
