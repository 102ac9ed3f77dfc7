"""Denials: kept here, obeyed by the probes that the keeper tells (`store.keeper_discoveries`)."""

import secrets
from typing import Any, Final

from sqlalchemy import Select, func, select

from gateway.errors import Conflict
from gateway.policy.discovery import State
from gateway.policy.interception import OnFailure
from gateway.store.config.editing import Collection, is_new
from gateway.store.discovery_documents import DenialDocument, DenialLimit, DenialView
from gateway.store.discovery_models import Denial, Discovery
from gateway.store.models import now

MOST_DENIALS: Final = 64
"""As many have room in the kernel (`probes.denial_maps.SLOTS`)."""
OF_ENFORCEMENT: Final = {"in_force", "reason", "denied", "used", "dropped_bytes", "resets_at"}
"""Fields of views that SQL knows nothing of (`store.enforcement`)."""


def made_up_name() -> str:
    """Of a denial that was given none."""
    return f"denial-{secrets.token_hex(4)}"


def limit_of(row: Denial) -> DenialLimit | None:
    if row.limit_of is None:
        return None
    return DenialLimit.model_validate({row.limit_of: row.limit_amount, "per": row.limit_per})


class Denials(Collection[Denial, DenialDocument, DenialView]):
    kind = "denial"
    path = "denials"
    row_type = Denial
    document_type = DenialDocument

    def query(self) -> Select[Denial]:
        return select(Denial)

    def show(self, row: Denial) -> DenialView:
        document: dict[str, Any] = self.document_of(row).model_dump()
        return DenialView(
            id=row.id, version=row.version, created_at=row.created_at, updated_at=row.updated_at,
            created_by=row.created_by, discovery=row.discovery_id, in_force=None, reason=None, denied=None, used=None,
            dropped_bytes=None, resets_at=None, **document,
        )  # fmt: skip

    def document_of(self, row: Denial) -> DenialDocument:
        return DenialDocument.model_construct(
            name=row.name, executable=row.executable, user=row.user, cgroup=row.cgroup, container=row.container,
            provider=row.provider, hosts=row.hosts, cidrs=row.cidrs, ports=row.ports,
            expires_at=row.expires_at, on_failure=OnFailure(row.on_failure), note=row.note,
            limit=limit_of(row),
        )  # fmt: skip

    def fill(self, row: Denial, wanted: DenialDocument) -> None:
        if is_new(row):
            count = self.session.scalar(select(func.count()).select_from(Denial)) or 0
            if count >= MOST_DENIALS:
                raise Conflict(
                    f"there are {count} denials, and the kernel holds no more", fix="remove some, or widen one"
                )
            row.created_by = self.editing.authority.actor
        row.name = wanted.name
        row.executable, row.user, row.cgroup = wanted.executable, wanted.user, wanted.cgroup
        row.container, row.provider = wanted.container, wanted.provider
        row.hosts, row.cidrs, row.ports = list(wanted.hosts), list(wanted.cidrs), list(wanted.ports)
        row.expires_at, row.on_failure, row.note = wanted.expires_at, wanted.on_failure.value, wanted.note

        limit = wanted.limit
        row.limit_of = row.limit_amount = row.limit_per = None
        if limit is not None:
            row.limit_of = "connections" if limit.bytes is None else "bytes"
            row.limit_amount, row.limit_per = limit.bytes or limit.connections, limit.per.value

    def audited(self, row: Denial) -> dict[str, Any]:
        return {name: value for name, value in super().audited(row).items() if name not in OF_ENFORCEMENT}

    def remove(self, row: Denial) -> None:
        """The finding that it was made for is observed again."""
        finding = self.session.get(Discovery, row.discovery_id) if row.discovery_id is not None else None
        super().remove(row)
        if finding is not None and finding.state == State.DENY:
            finding.state, finding.state_until = State.OBSERVE.value, None
            finding.decided_by, finding.decided_at = self.editing.authority.actor, now()
            self.session.flush()
