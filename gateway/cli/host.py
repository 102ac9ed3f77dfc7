"""The commands on the gateway's own host, through its data folder, whether the gateway runs or not."""

import contextlib
import os
import secrets
import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from sqlalchemy import Engine

from gateway.cli import agent_client
from gateway.cli.control import Applied, Item, MadeKey
from gateway.cli.owner import become_owner, caller_name
from gateway.errors import SluicegateError, Unavailable
from gateway.policy.discovery import State
from gateway.policy.roles import Authority, Role
from gateway.settings import Settings
from gateway.store import (
    alerts,
    apply,
    audit,
    audit_trail,
    authority,
    export,
    identity,
    ledger,
    ledger_files,
    members,
    migrate,
    problems,
    retention,
)
from gateway.store.alerts import AlertFilter
from gateway.store.audit_trail import AuditFilter, mark_from
from gateway.store.authority import MakeAction
from gateway.store.config.denials import MOST_DENIALS, Denials, made_up_name
from gateway.store.config.discoveries import Discoveries, DiscoveryFilter
from gateway.store.config.editing import Editing
from gateway.store.config.teams import Keys
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.discovery_documents import DecisionDocument, DenialCreate
from gateway.store.document import Document
from gateway.store.documents import KeyEntry
from gateway.store.enforcement import Enforcement, enforcement_of
from gateway.store.keeper_client import KeeperClient
from gateway.store.ledger import LedgerFilter
from gateway.store.member_documents import TokenDocument, UserPatch
from gateway.store.sealing import load_sealer

NAME_LETTERS: Final = string.ascii_lowercase + string.digits
PAGE: Final = 1000

Wanted = TypeVar("Wanted", bound=Document)


class HostControl:
    """Takes the identity of the data folder's owner for good; makes folder and schema where there are none."""

    def __init__(
        self, settings: Settings, environment: Mapping[str, str] = os.environ, *, upgrade: bool = False
    ) -> None:
        """`environment`: whose `${NAME}` an applied document may name. `upgrade`: bring an older schema up to date, as
        `serve` does; else it is refused (SchemaMismatch)."""
        self.settings = settings
        self.environment = environment
        self.authority = Authority(actor=f"cli:{caller_name()}", role=Role.OWNER)
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        become_owner(settings.data)
        self.engine: Engine = make_engine(settings.database_url)
        self.sealer = load_sealer(settings)
        if upgrade or migrate.current_revision(self.engine) is None:
            migrate.upgrade(self.engine)
        migrate.check(self.engine)

    def apply(self, file: str, text: str, *, dry_run: bool, prune: bool) -> Applied:
        with self.editing() as editing:
            done = apply.apply(editing, text, file=file, environment=self.environment, dry_run=dry_run, prune=prune)
        return Applied(
            changes=[str(change) for change in done.changes],
            made_keys=[MadeKey(made.app, made.name, made.key) for made in done.keys],
        )

    def export(self) -> str:
        with self.reading() as editing:
            return export.export(editing)

    def create_token(
        self,
        *,
        role: str,
        team: str | None,
        name: str | None,
        expires_at: datetime | None,
        scopes: Sequence[str] | None,
    ) -> Item:
        wanted = _document(
            TokenDocument, "the token", role=role, team=team, name=name, expires_at=expires_at, scopes=scopes
        )
        with write_session(self.engine) as session:
            return members.create_token(session, self.authority, wanted).model_dump(mode="json")

    def tokens(self) -> list[Item]:
        items: list[Item] = []
        with read_session(self.engine) as session:
            while True:
                after = items[-1]["id"] if items else 0
                page = members.list_tokens(session, self.authority, after_id=after, limit=PAGE)
                items += [view.model_dump(mode="json") for view in page]
                if len(page) < PAGE:
                    return items

    def revoke_token(self, reference: str) -> None:
        with write_session(self.engine) as session:
            members.delete_token(session, self.authority, reference, None)

    def create_key(self, *, app: str, name: str | None, expires_at: datetime | None) -> Item:
        name = name or "key-" + "".join(secrets.choice(NAME_LETTERS) for _ in range(6))
        wanted = _document(KeyEntry, "the key", app=app, name=name, expires_at=expires_at)
        with self.editing() as editing:
            return Keys(editing).create(wanted).model_dump(mode="json")

    def keys(self, app: str | None) -> list[Item]:
        items: list[Item] = []
        with self.reading() as editing:
            keys = Keys(editing)
            while True:
                page = keys.list(after_id=items[-1]["id"] if items else 0, limit=PAGE)
                items += [view.model_dump(mode="json") for view in page]
                if len(page) < PAGE:
                    return [item for item in items if app is None or item["app"] == app]

    def revoke_key(self, reference: str) -> None:
        with self.editing() as editing:
            Keys(editing).delete(reference)

    def set_password(self, user: str, password: str) -> None:
        patch = _document(UserPatch, "the password", password=password)
        with write_session(self.engine) as session:
            members.update_user(session, self.authority, user, patch, None)

    def certificate_authority(self) -> Item:
        with read_session(self.engine) as session:
            return authority.view(session, datetime.now(UTC)).model_dump(mode="json")

    def make_certificate_authority(self, action: str) -> Item:
        with self.editing() as editing:
            return authority.make(editing, MakeAction(action), datetime.now(UTC)).model_dump(mode="json")

    def remove_certificate_authority(self) -> None:
        with self.editing() as editing:
            authority.remove(editing)

    def discoveries(self, wanted: dict[str, Any], limit: int) -> tuple[list[Item], str | None]:
        state = wanted.get("state")
        asked = DiscoveryFilter(**{**wanted, "state": None if state is None else State(state)})
        with self.reading() as editing:
            found = Discoveries(editing).list(asked, limit=limit)
        standing = self._enforcement(with_rules=any(one.rule is not None for one in found))
        return [standing.of_discovery(one).model_dump(mode="json") for one in found], standing.reason

    def coverage(self) -> Item:
        return self._enforcement(with_rules=False).coverage().model_dump(mode="json")

    def discovery(self, number: int) -> Item:
        with self.reading() as editing:
            found = Discoveries(editing).get(number)
        return self._enforcement(with_rules=found.rule is not None).of_discovery(found).model_dump(mode="json")

    def decide(self, number: int, decision: dict[str, Any]) -> Item:
        wanted = _document(DecisionDocument, "the decision", **decision)
        with self.editing() as editing:
            return Discoveries(editing).decide(number, wanted, datetime.now(UTC)).model_dump(mode="json")

    def denials(self) -> list[Item]:
        with self.reading() as editing:
            found = Denials(editing).list(limit=MOST_DENIALS)
        standing = self._enforcement(with_rules=False)
        return [standing.of_denial(one).model_dump(mode="json") for one in found]

    def add_denial(self, denial: dict[str, Any]) -> Item:
        wanted = _document(DenialCreate, "the denial", **denial)
        with self.editing() as editing:
            made = Denials(editing).create(wanted.document(made_up_name(), datetime.now(UTC)))
        return made.model_dump(mode="json")

    def remove_denial(self, reference: str) -> None:
        with self.editing() as editing:
            Denials(editing).delete(reference)

    def alerts(self, wanted: dict[str, Any], limit: int) -> list[Item]:
        with read_session(self.engine) as session:
            found = alerts.read(session, AlertFilter(**wanted), before_id=None, limit=limit)
        return [one.model_dump(mode="json") for one in found]

    def verify_audit(self, noted: str | None) -> Item:
        with read_session(self.engine) as session:
            return audit_trail.verify(session, None if noted is None else mark_from(noted)).as_item()

    def export_audit(self, wanted: dict[str, Any]) -> Iterator[bytes]:
        return audit_trail.export(self.engine, AuditFilter(**wanted))

    def _enforcement(self, *, with_rules: bool) -> Enforcement:
        """What stands in this host's kernel; where nobody can tell, that this is so."""
        try:
            report = KeeperClient(self.settings.keeper_socket).denials()
        except Unavailable as error:
            return Enforcement(reason=error.message)
        rules: dict[str, Any] | None = None
        if with_rules:
            with contextlib.suppress(SluicegateError):  # not known then
                rules = agent_client.ask(self.settings.agent_socket_path, "status")
        return enforcement_of(report, rules)

    def ensure_owner(self, password: str | None) -> str | None:
        """Make the first owner. Returns the password to be shown once; None where there is an owner."""
        with write_session(self.engine) as session:
            return identity.ensure_owner(session, password)

    def usage(self, group_by: Sequence[str], since: datetime | None, until: datetime | None) -> list[Item]:
        with read_session(self.engine) as session:
            return ledger.usage(session, group_by, since, until)

    def ledger(self, wanted: dict[str, Any], limit: int) -> list[Item]:
        with read_session(self.engine) as session:
            page = ledger.list_ledger(session, LedgerFilter(**wanted), limit=limit)
        return [ledger_files.shown(row) for row in page.rows]

    def count_ledger_before(self, moment: datetime) -> tuple[int, datetime]:
        """How many rows `prune_ledger` would remove, and the full hour before which they began."""
        cutoff = retention.full_hour(moment)
        with read_session(self.engine) as session:
            return retention.count_before(session.connection(), cutoff), cutoff

    def prune_ledger(self, cutoff: datetime) -> Iterator[int]:
        """Remove them batch by batch; each yields how many went. The audit log says so before the first."""
        with write_session(self.engine) as session:
            after = {"before": cutoff.isoformat()}
            audit.record(session, actor=self.authority.actor, action="prune", kind="ledger", name="ledger", after=after)
        yield from retention.prune(self.engine, cutoff)

    @contextmanager
    def reading(self) -> Iterator[Editing]:
        """One state of the configuration."""
        with read_session(self.engine) as session:
            yield Editing(session=session, authority=self.authority, sealer=self.sealer)

    @contextmanager
    def editing(self) -> Iterator[Editing]:
        """One transaction of configuration changes; the keeper is told once it is committed."""
        with write_session(self.engine) as session:
            yield Editing(session=session, authority=self.authority, sealer=self.sealer)
        try:
            KeeperClient(self.settings.keeper_socket).changed()
        except (OSError, SluicegateError):
            return  # not running, or starting: it reads the generation from SQL


def _document(kind: type[Wanted], subject: str, **fields: object) -> Wanted:
    """A document of the fields that are given. Raises Invalid in our words."""
    try:
        return kind.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise problems.invalid(problems.from_validation(error, kind), subject) from None
