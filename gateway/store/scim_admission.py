"""What SCIM's groups make of its users: role and team by the sign-on rules.

Whom no rule admits keeps the account, without a session and with no way in until a rule does (`sign_on_entry`): the
groups may be the provider's to say. Ten thousand users take some dozen statements: others wait meanwhile.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from gateway.policy.roles import Role
from gateway.policy.sign_on import Rule, admit
from gateway.store import audit, sign_on
from gateway.store.accounts import OutcomeRefused, Source
from gateway.store.audit import Change
from gateway.store.models import LoginSession, Team, User, now
from gateway.store.scim_groups import groups_of_each, portions
from gateway.store.scim_models import ScimUser


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """Of a user, what is settled here."""

    name: str
    role: str
    team: str | None
    disabled: bool

    @property
    def is_owner(self) -> bool:
        return self.role == Role.OWNER and not self.disabled

    def as_audited(self) -> dict[str, Any]:
        """As `accounts.as_audited`."""
        return {
            "name": self.name,
            "role": self.role,
            "team": self.team,
            "disabled": self.disabled,
            "source": Source.SCIM,
        }


def settle_all(session: Session, actor: str) -> None:
    """After the rules have changed. Raises OutcomeRefused where no owner would be left."""
    settle(session, session.scalars(select(ScimUser.user_id)).all(), actor)


def settle(session: Session, user_ids: Collection[int], actor: str) -> None:
    """Bring users to what the client and the rules say. Who is inactive, comes to another role or is admitted no more
    has no session left. Rows of theirs that the session holds are not brought up to date.

    Raises OutcomeRefused where no owner would be left.
    """
    rules = sign_on.rules(session)
    before: dict[int, _Standing] = {}
    after: dict[int, _Standing] = {}
    out: list[int] = []
    for ids in portions(sorted(user_ids)):
        standing, inactive = _standing(session, ids)
        groups = groups_of_each(session, ids)
        for user_id, present in standing.items():
            rule = admit(groups[user_id], rules)
            settled = _settled(present, rule, inactive=user_id in inactive)
            if settled != present:
                before[user_id], after[user_id] = present, settled
            if settled != present or rule is None:
                out.append(user_id)
    _require_an_owner(session, before, after)
    _keep(session, after)
    for ids in portions(out):
        session.execute(delete(LoginSession).where(LoginSession.user_id.in_(ids)))
    audit.record_all(
        session,
        [
            Change(
                actor=actor,
                action="update",
                kind="user",
                name=after[user_id].name,
                before=before[user_id].as_audited(),
                after=after[user_id].as_audited(),
            )
            for user_id in sorted(after)
        ],
    )


def _standing(session: Session, ids: Sequence[int]) -> tuple[dict[int, _Standing], set[int]]:
    """By user, and which of them the client calls inactive."""
    query = (
        select(User.id, User.name, User.role, Team.name.label("team"), User.disabled, ScimUser.active)
        .join(ScimUser, ScimUser.user_id == User.id)
        .outerjoin(Team, Team.id == User.team_id)
    )
    rows = session.execute(query.where(User.id.in_(ids))).all()
    standing = {row.id: _Standing(name=row.name, role=row.role, team=row.team, disabled=row.disabled) for row in rows}
    return standing, {row.id for row in rows if not row.active}


def _settled(present: _Standing, rule: Rule | None, *, inactive: bool) -> _Standing:
    settled = replace(present, disabled=inactive)
    return settled if rule is None else replace(settled, role=rule.role, team=rule.team)


def _require_an_owner(session: Session, before: Mapping[int, _Standing], after: Mapping[int, _Standing]) -> None:
    """Locks the owners, so that two cannot go at once. Raises OutcomeRefused."""
    gone = {user_id for user_id, present in before.items() if present.is_owner and not after[user_id].is_owner}
    if not gone:
        return
    owners = select(User.id).where(User.role == Role.OWNER, ~User.disabled).order_by(User.id).with_for_update()
    come = {user_id for user_id, settled in after.items() if settled.is_owner}
    if not (set(session.scalars(owners)) - gone) | come:
        raise OutcomeRefused(f"{before[min(gone)].name!r} is the last owner", fix="make another owner first")


def _keep(session: Session, after: Mapping[int, _Standing]) -> None:
    """Users of one outcome by one statement."""
    teams: dict[str, int] = dict(session.execute(select(Team.name, Team.id)).all()) if after else {}
    alike: dict[tuple[str, str | None, bool], list[int]] = {}
    for user_id, settled in after.items():
        alike.setdefault((settled.role, settled.team, settled.disabled), []).append(user_id)
    for (role, team, disabled), all_ids in alike.items():
        values = {"role": role, "team_id": None if team is None else teams[team], "disabled": disabled}
        for ids in portions(sorted(all_ids)):
            session.execute(
                update(User)
                .where(User.id.in_(ids))
                .values(**values, version=User.version + 1, updated_at=now())
                .execution_options(synchronize_session=False)
            )
