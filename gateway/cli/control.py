"""What the commands want done, and where: over a running gateway's REST API, or through its data folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from gateway.cli.options import settings_from

Item = dict[str, Any]
"""A resource as the REST API shows it."""


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key that `apply` made, to be shown this once."""

    app: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did, or would do."""

    changes: Sequence[str]
    """One line each, e.g. "create route chat"."""
    made_keys: Sequence[MadeKey]


class Control(Protocol):
    """Each method raises SluicegateError with the reason and a remedy."""

    def apply(self, file: str, text: str, *, dry_run: bool, prune: bool) -> Applied: ...

    def export(self) -> str: ...

    def create_token(
        self,
        *,
        role: str,
        team: str | None,
        name: str | None,
        expires_at: datetime | None,
        scopes: Sequence[str] | None,
    ) -> Item:
        """`scopes`: what of the role's permissions it is confined to; None = all."""

    def tokens(self) -> list[Item]: ...

    def revoke_token(self, reference: str) -> None: ...

    def create_key(self, *, app: str, name: str | None, expires_at: datetime | None) -> Item: ...

    def keys(self, app: str | None) -> list[Item]: ...

    def revoke_key(self, reference: str) -> None:
        """`reference`: id, `app/name`, or the name where one app alone has a key so named."""

    def set_password(self, user: str, password: str) -> None: ...

    def certificate_authority(self) -> Item:
        """The certificate authority, or that there is none: `store.authority.AuthorityView`."""

    def make_certificate_authority(self, action: str) -> Item:
        """`action`: one of `store.authority.MakeAction`."""

    def remove_certificate_authority(self) -> None: ...

    def usage(self, group_by: Sequence[str], since: datetime | None, until: datetime | None) -> list[Item]: ...

    def ledger(self, wanted: dict[str, Any], limit: int) -> list[Item]:
        """The newest rows that fit; `wanted`: fields of `store.ledger.LedgerFilter`."""

    def discoveries(self, wanted: dict[str, Any], limit: int) -> tuple[list[Item], str | None]:
        """What was found last first, and why nothing may be found at present; `wanted`: fields of
        `store.config.discoveries.DiscoveryFilter`."""

    def coverage(self) -> Item:
        """Whose calls are read within TLS: `store.discovery_documents.CoverageView`."""

    def discovery(self, number: int) -> Item: ...

    def decide(self, number: int, decision: dict[str, Any]) -> Item:
        """`decision`: fields of `store.discovery_documents.DecisionDocument`."""

    def denials(self) -> list[Item]: ...

    def add_denial(self, denial: dict[str, Any]) -> Item:
        """`denial`: fields of `store.discovery_documents.DenialCreate`."""

    def remove_denial(self, reference: str) -> None: ...

    def alerts(self, wanted: dict[str, Any], limit: int) -> list[Item]:
        """The newest first; `wanted`: fields of `store.alerts.AlertFilter`."""

    def verify_audit(self, noted: str | None) -> Item:
        """Whether the audit log is as it was written: `api.audit.AuditVerdict`."""

    def export_audit(self, wanted: dict[str, Any]) -> Iterator[bytes]:
        """JSON lines, oldest first, piece by piece; `wanted`: fields of `store.audit_trail.AuditFilter`."""


def control(url: str | None, token: str | None, data: Path | None, database: str | None) -> Control:
    """Where to work: the gateway at `url` if one is named, else the data folder on this host."""
    if url:
        from gateway.cli.remote import RemoteControl

        return RemoteControl(url, token)
    from gateway.cli.host import HostControl

    return HostControl(settings_from(data=data, database=database))
