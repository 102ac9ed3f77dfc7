"""What a provider said when it was asked, unasked by callers, whether it takes our credentials."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    ACCEPTED = "accepted"
    """It answered with the credential, and not without."""
    UNPROVEN = "unproven"
    """It answers without a credential too, or none is stored: whether the credential is good, nobody knows."""
    REFUSED = "refused"
    """It does not take the credential (401, 403)."""
    LIMITED = "limited"
    """It has had enough of us for now (429): the credential may be good."""
    FAILED = "failed"
    """It answered, and not what a provider of this dialect answers."""
    UNREACHABLE = "unreachable"
    """No answer came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialTrial:
    credential: str | None
    """Its name; None where the provider has none."""
    verdict: Verdict
    status: int | None
    """Of the answer; None where none came."""
    reason: str
    fix: str
    """What to do about it; empty where all is well."""
    latency_ms: float
    aside: bool
    """Whether this worker has set the credential aside, as the provider refused it to a caller lately."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTrial:
    provider: str
    url: str
    """What was asked for."""
    credentials: tuple[CredentialTrial, ...]
    models: tuple[str, ...] | None
    """What the provider lists, in its order; None where it gave no list."""
    missing_models: tuple[str, ...]
    """Models of targets that the list does not name."""
    pid: int
    """Of the worker that asked."""
