"""Single sign-on as it is configured: the policy (which group comes in as what) and the identity providers.

Every function works in the caller's session; changes are audited and let the keeper know, because the list of where our
own processes may go depends on them (`egress_list`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, joinedload

from gateway.errors import Conflict, Invalid, NotFound, PreconditionFailed
from gateway.policy.roles import Role
from gateway.policy.sign_on import Rule
from gateway.store import sign_on_sessions
from gateway.store.config.editing import Editing
from gateway.store.models import Meta, Team, now
from gateway.store.sealing import Sealer
from gateway.store.sign_on_documents import (
    AdmissionDocument,
    Passwords,
    SignInOptions,
    SignOnDocument,
    SignOnOption,
    SignOnProviderDocument,
    SignOnProviderPatch,
    SignOnProviderView,
    SignOnRuleDocument,
)
from gateway.store.sign_on_models import (
    SignOnPolicy,
    SignOnProvider,
    SignOnRule,
    SignOnSecret,
    UserIdentity,
)

KIND: Final = "sign-on"
"""As the audit log writes it."""
POLICY_NAME: Final = "policy"
MOST_PROVIDERS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownProvider:
    """What talking to a provider takes."""

    id: int
    name: str
    label: str
    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    scopes: str
    groups_claim: str
    name_claim: str
    provisions: bool
    endpoints: tuple[str, ...]


# ---- policy


def rules(session: Session) -> list[Rule]:
    """In their order."""
    query = select(SignOnRule).options(joinedload(SignOnRule.team)).order_by(SignOnRule.position)
    return [
        Rule(group=row.group_name, role=Role(row.role), team=row.team.name if row.team is not None else None)
        for row in session.scalars(query)
    ]


def policy(session: Session) -> tuple[SignOnDocument, int]:
    """What is set, and its version (0 = nothing was ever)."""
    row = session.get(SignOnPolicy, 1)
    found = rules(session)
    last = found[-1] if found and found[-1].group is None else None
    document = SignOnDocument(
        rules=[SignOnRuleDocument(group=each.group, role=each.role, team=each.team) for each in found if each.group],
        default=None if last is None else AdmissionDocument(role=last.role, team=last.team),
        passwords=Passwords(row.passwords) if row is not None else Passwords.EVERYONE,
    )
    return document, row.version if row is not None else 0


def set_policy(editing: Editing, wanted: SignOnDocument, expected_version: int | None) -> None:
    """Replace it as a whole, and end the sessions that it lets be no longer; SCIM's users are the caller's to settle
    (`scim_admission`)."""
    session = editing.session
    editing.lock()
    before, version = policy(session)
    _require_version("the sign-on policy", version, expected_version)
    row = session.get(SignOnPolicy, 1)
    if row is None:
        session.add(SignOnPolicy(id=1, passwords=wanted.passwords))
    else:
        row.passwords = wanted.passwords
        row.updated_at = now()  # another version, whatever of it changed
    session.execute(delete(SignOnRule))
    teams: dict[str, int] = dict(session.execute(select(Team.name, Team.id)).all())
    entries: list[tuple[str | None, AdmissionDocument, str]] = [
        (each.group, each, f"rules.{place}.team") for place, each in enumerate(wanted.rules)
    ]
    if wanted.default is not None:
        entries.append((None, wanted.default, "default.team"))
    for position, (group, each, place) in enumerate(entries):
        if each.team is not None and each.team not in teams:
            problem, remedy = f"there is no team {each.team!r}", "GET /api/v1/teams lists them"
            errors = [{"field": place, "problem": problem, "remedy": remedy}]
            raise Invalid(f"{place}: {problem}", fix=remedy, errors=errors)
        team_id = None if each.team is None else teams[each.team]
        session.add(SignOnRule(position=position, group_name=group, role=each.role, team_id=team_id))
    session.flush()
    sign_on_sessions.end_unadmitted(session, rules(session))
    _end_where_closed(session)
    after, _ = policy(session)
    if before != after:
        editing.record("update", KIND, POLICY_NAME, before.model_dump(mode="json"), after.model_dump(mode="json"))


def local_sign_in_is_closed(session: Session) -> bool:
    """Whether only owners may sign in without a provider. Never so while none is enabled."""
    chosen = session.scalar(select(SignOnPolicy.passwords).where(SignOnPolicy.id == 1))
    return chosen == Passwords.OWNERS and bool(session.scalar(_enabled().with_only_columns(func.count())))


def options(session: Session) -> SignInOptions:
    """What the sign-in page offers."""
    rows = session.execute(
        select(SignOnProvider.name, SignOnProvider.label).where(SignOnProvider.enabled).order_by(SignOnProvider.id)
    )
    return SignInOptions(
        providers=[SignOnOption(name=name, label=label) for name, label in rows],
        passwords=Passwords.OWNERS if local_sign_in_is_closed(session) else Passwords.EVERYONE,
    )


# ---- providers


def list_providers(session: Session) -> list[SignOnProviderView]:
    return [_view(session, row) for row in session.scalars(_all().order_by(SignOnProvider.id))]


def get_provider(session: Session, reference: str) -> SignOnProviderView:
    return _view(session, _find(session, reference))


def known_provider(session: Session, sealer: Sealer, reference: str, *, enabled_only: bool) -> KnownProvider:
    """With its secret. Raises NotFound."""
    row = _find(session, reference)
    if enabled_only and not row.enabled:
        raise _not_found(reference)
    return KnownProvider(
        id=row.id,
        name=row.name,
        label=row.label,
        issuer=row.issuer,
        client_id=row.client_id,
        client_secret=None if row.secret is None else sealer.open_row(row.secret),
        scopes=row.scopes,
        groups_claim=row.groups_claim,
        name_claim=row.name_claim,
        provisions=row.provisions,
        endpoints=tuple(row.endpoints),
    )


def require_unchanged(session: Session, provider: KnownProvider) -> None:
    """Before somebody comes in by it, who was under way while it may have been changed. Raises NotFound."""
    present = session.execute(
        select(SignOnProvider.enabled, SignOnProvider.issuer).where(SignOnProvider.id == provider.id)
    ).one_or_none()
    if present is None or not present.enabled or present.issuer != provider.issuer:
        raise _not_found(provider.name)


def create_provider(editing: Editing, wanted: SignOnProviderDocument) -> SignOnProviderView:
    session = editing.session
    editing.lock()
    _require_free_name(session, wanted.name)
    if session.scalar(select(func.count()).select_from(SignOnProvider)) == MOST_PROVIDERS:
        raise Conflict(f"there are {MOST_PROVIDERS} providers already", fix="remove one that nobody uses")
    if wanted.provisions:
        _require_no_other_directory(session, 0)
    row = SignOnProvider(
        name=wanted.name,
        label=wanted.label or wanted.name,
        issuer=wanted.issuer,
        client_id=wanted.client_id,
        scopes=wanted.scopes,
        groups_claim=wanted.groups_claim,
        name_claim=wanted.name_claim,
        enabled=wanted.enabled,
        provisions=wanted.provisions,
        endpoints=[],
    )
    session.add(row)
    session.flush()
    row = _find(session, str(row.id))
    if wanted.client_secret is not None:
        _seal(editing, row, wanted.client_secret.get_secret_value())
    _end_where_closed(session)
    shown = _view(session, row)
    editing.record("create", KIND, row.name, None, _audited(shown))
    return shown


def update_provider(
    editing: Editing, reference: str, patch: SignOnProviderPatch, expected_version: int | None
) -> SignOnProviderView:
    """Another issuer is another provider: who came by the old one has to come anew. Disabling ends its sessions."""
    session = editing.session
    editing.lock()
    row = _find(session, reference)
    _require_version(repr(row.name), row.version, expected_version)
    before = _view(session, row)
    if patch.name is not None and patch.name != row.name:
        _require_free_name(session, patch.name)
    if patch.provisions:
        _require_no_other_directory(session, row.id)
    for name in ("name", "label", "client_id", "scopes", "groups_claim", "name_claim", "enabled", "provisions"):
        value = getattr(patch, name)
        if value is not None:
            setattr(row, name, value)
    if patch.issuer is not None and patch.issuer != row.issuer:
        row.issuer, row.endpoints = patch.issuer, []
        session.execute(delete(UserIdentity).where(UserIdentity.provider_id == row.id))
        sign_on_sessions.end_of_provider(session, row.id)
    if "client_secret" in patch.model_fields_set:
        secret = patch.client_secret
        if secret is None:
            row.secret = None
        else:
            _seal(editing, row, secret.get_secret_value())
    session.flush()
    after = _view(session, row)
    if before.enabled and not after.enabled:
        sign_on_sessions.end_of_provider(session, row.id)
    _end_where_closed(session)
    shown = _audited(after) | ({"client_secret": "changed"} if "client_secret" in patch.model_fields_set else {})
    editing.record("update", KIND, before.name, _audited(before), shown)
    return after


def delete_provider(editing: Editing, reference: str, expected_version: int | None) -> None:
    """Who came by it is signed out; their accounts stay, with no way in until another provider links them."""
    session = editing.session
    editing.lock()
    row = _find(session, reference)
    _require_version(repr(row.name), row.version, expected_version)
    shown = _view(session, row)
    sign_on_sessions.end_of_provider(session, row.id)
    session.delete(row)
    session.flush()
    editing.record("delete", KIND, shown.name, _audited(shown), None)


def note_endpoints(session: Session, provider_id: int, urls: Sequence[str]) -> None:
    """Remember where a provider's discovery document leads, for the list of where our processes may go."""
    present = session.scalar(select(SignOnProvider.endpoints).where(SignOnProvider.id == provider_id).with_for_update())
    if present is None or set(present) == set(urls):
        return  # of many who begin at once the first has noted it
    session.execute(
        update(SignOnProvider)
        .where(SignOnProvider.id == provider_id)
        .values(endpoints=sorted(set(urls)), updated_at=SignOnProvider.updated_at)
    )
    session.execute(update(Meta).values(generation=Meta.generation + 1))


def urls(session: Session) -> list[str]:
    """Where our processes have reason to go for sign-on."""
    found: list[str] = []
    for issuer, endpoints in session.execute(select(SignOnProvider.issuer, SignOnProvider.endpoints)):
        found += [issuer, *endpoints]
    return found


def came_by(session: Session, user_ids: Sequence[int]) -> dict[int, str]:
    """By which provider users came last, as its button says; who never did is left out."""
    query = select(UserIdentity.user_id, SignOnProvider.label).join(
        SignOnProvider, SignOnProvider.id == UserIdentity.provider_id
    )
    found = session.execute(query.where(UserIdentity.user_id.in_(user_ids)).order_by(UserIdentity.seen_at))
    return dict(found.all())


def _all() -> Any:
    return select(SignOnProvider).options(joinedload(SignOnProvider.secret))


def _enabled() -> Any:
    return select(SignOnProvider).where(SignOnProvider.enabled)


def _find(session: Session, reference: str) -> SignOnProvider:
    by_id = reference.isascii() and reference.isdigit()
    which = SignOnProvider.id == min(int(reference[:18]), 2**31 - 1) if by_id else SignOnProvider.name == reference
    row: SignOnProvider | None = session.scalars(_all().where(which)).one_or_none()
    if row is None:
        raise _not_found(reference)
    return row


def _not_found(reference: str) -> NotFound:
    return NotFound(f"there is no sign-on provider {reference!r}", fix="GET /api/v1/sign-on/providers lists them")


def _require_free_name(session: Session, name: str) -> None:
    if session.scalar(select(SignOnProvider.id).where(SignOnProvider.name == name)) is not None:
        raise Conflict(f"the sign-on provider {name!r} exists already", fix="choose another name")


def _require_no_other_directory(session: Session, but: int) -> None:
    other = select(SignOnProvider.name).where(SignOnProvider.provisions, SignOnProvider.id != but).limit(1)
    name = session.scalar(other)
    if name is not None:
        raise Conflict(f"the directory's provider is {name!r}", fix=f"take the mark `provisions` from {name!r} first")


def _require_version(what: str, present: int, expected: int | None) -> None:
    if expected is not None and present != expected:
        raise PreconditionFailed(
            f"{what} has been changed since (version {present}, not {expected})",
            fix="read it again, and repeat the change on what you see",
        )


def _seal(editing: Editing, row: SignOnProvider, secret: str) -> None:
    sealed = row.secret or SignOnSecret(provider_id=row.id)
    editing.sealer.seal_row(sealed, secret)
    row.secret = sealed


def _end_where_closed(session: Session) -> None:
    """Whoever may not sign in by password any more has no session that was begun so."""
    if local_sign_in_is_closed(session):
        sign_on_sessions.end_local(session)


def _view(session: Session, row: SignOnProvider) -> SignOnProviderView:
    counted = select(func.count(UserIdentity.user_id.distinct())).where(UserIdentity.provider_id == row.id)
    return SignOnProviderView(
        id=row.id,
        name=row.name,
        label=row.label,
        issuer=row.issuer,
        client_id=row.client_id,
        has_secret=row.secret is not None,
        scopes=row.scopes,
        groups_claim=row.groups_claim,
        name_claim=row.name_claim,
        enabled=row.enabled,
        provisions=row.provisions,
        users=session.scalar(counted) or 0,
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
    )


def _audited(view: SignOnProviderView) -> dict[str, Any]:
    return view.model_dump(mode="json", exclude={"id", "created_at", "updated_at", "version", "users"})
