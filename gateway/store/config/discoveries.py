"""Findings as operators see them, and what they decide: each decision undoes what the one before it made.

`govern` makes an interception rule and `deny` a denial (for a client whose traffic this host forwards: a rule of mode
`deny`), by the same ways as if an operator had written them. They may
be removed by themselves afterwards: a finding whose rule or denial is gone is one that is observed.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Select, and_, case, exists, or_, select
from sqlalchemy.orm import joinedload

from gateway.errors import BadRequest, NotFound
from gateway.policy.discovery import AFTER, Action, State
from gateway.policy.interception import Mode
from gateway.store.config.denials import Denials
from gateway.store.config.editing import Editing
from gateway.store.config.interception import WHOLE, InterceptionRules
from gateway.store.discovery_documents import DecisionDocument, DenialDocument, DiscoveryView
from gateway.store.discovery_models import Denial, Discovery
from gateway.store.documents import DestinationsDocument, InterceptionDocument, SourcesDocument
from gateway.store.fields import Host
from gateway.store.models import App, InterceptionRule, now
from gateway.store.tls_calls import models_of

USUAL_PORTS: Final = (80, 443)
APPS_NAMED: Final = 5

state_now: Final[ColumnElement[str]] = case(
    (and_(Discovery.state == State.GOVERN, Discovery.rule_id.is_(None)), State.OBSERVE.value),
    (
        and_(
            Discovery.state == State.DENY,
            Discovery.rule_id.is_(None),
            ~exists().where(Denial.discovery_id == Discovery.id),
        ),
        State.OBSERVE.value,
    ),
    else_=Discovery.state,
)
"""The state that a finding is in: `govern` and `deny` end with what they made."""

_HOST: Final = TypeAdapter[str](Host)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryFilter:
    """What a list is confined to; None does not narrow."""

    provider: str | None = None
    process: str | None = None
    user: str | None = None
    """Name or number."""
    container: str | None = None
    state: State | None = None
    since: datetime | None = None
    """Seen at this time or later."""

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        for column, value in (
            (Discovery.provider, self.provider),
            (Discovery.process, self.process),
            (Discovery.container, self.container),
        ):
            if value is not None:
                found.append(column == value)
        if self.user is not None:
            by_name = Discovery.user == self.user
            number = int(self.user) if self.user.isdecimal() and len(self.user) <= 10 else None
            found.append(by_name if number is None else or_(by_name, Discovery.uid == number))
        if self.state is not None:
            found.append(state_now == self.state.value)
        if self.since is not None:
            found.append(Discovery.last_seen >= self.since)
        return found


class Discoveries:
    """In the caller's session, which commits it."""

    def __init__(self, editing: Editing) -> None:
        self.editing = editing
        self.session = editing.session
        self._denials = Denials(editing)
        self._rules = InterceptionRules(editing)

    def list(self, wanted: DiscoveryFilter, *, before_id: int | None = None, limit: int = 100) -> "list[DiscoveryView]":
        """The newest finding first, those with an id below `before_id`."""
        query = self._query().where(*wanted.conditions()).order_by(Discovery.id.desc()).limit(limit)
        if before_id is not None:
            query = query.where(Discovery.id < before_id)
        return [self._show(row) for row in self.session.scalars(query)]

    def get(self, number: int) -> DiscoveryView:
        """Raises NotFound."""
        return self._show(self._find(number))

    def decide(self, number: int, decision: DecisionDocument, at: datetime) -> DiscoveryView:
        """Raises NotFound; BadRequest where `govern` does not know whom to charge; Invalid for an app that is none."""
        self.editing.lock()
        row = self._find(number)
        until = None if decision.expires_in is None else at + decision.expires_in
        before = self._audited(row)
        state = state_of(row)
        if state != decision.action.value:
            self._undo(row)
            row = self._find(number)
        match decision.action:
            case Action.GOVERN:
                self._govern(row, decision)
            case Action.DENY:
                self._deny(row, until)
            case _:
                pass
        self._enter(row, State(decision.action.value), until, before)
        return self.get(number)

    def expire(self, at: datetime) -> "tuple[Sequence[int], Sequence[str]]":
        """End what has had its time, findings' states and denials. Returns the findings' ids and the other denials'
        names."""
        self.editing.lock()
        ended, removed = [], []
        query = self._query().where(Discovery.state_until <= at).order_by(Discovery.id)
        for row in self.session.scalars(query).all():
            before = self._audited(row)
            state = state_of(row)
            self._undo(row)
            self._enter(row, AFTER.get(state, State.OBSERVE), None, before)
            ended.append(row.id)
        for denial in self.session.scalars(select(Denial).where(Denial.expires_at <= at).order_by(Denial.id)).all():
            removed.append(denial.name)
            self._denials.remove(denial)
        return ended, removed

    # ---- inside

    def _query(self) -> Select[Discovery]:
        return select(Discovery).options(joinedload(Discovery.rule).options(*WHOLE), joinedload(Discovery.denial))

    def _find(self, number: int) -> Discovery:
        query = self._query().where(Discovery.id == number).execution_options(populate_existing=True)
        row = self.session.scalars(query).one_or_none()
        if row is None:
            raise NotFound(f"there is no finding {number}", fix="GET /api/v1/discoveries lists them")
        return row

    def _enter(self, row: Discovery, state: State, until: datetime | None, before: dict[str, Any]) -> None:
        """Write the state down, and audit it where it is another."""
        row.state, row.state_until = state.value, until
        self.session.flush()
        after = self._audited(self._find(row.id))
        if after == before:
            return
        row.decided_by, row.decided_at = self.editing.authority.actor, now()
        self.session.flush()
        self.editing.record(state.value, "discovery", str(row.id), before, after)

    def _undo(self, row: Discovery) -> None:
        rule, denial = row.rule, row.denial
        row.rule_id = None
        row.state = State.OBSERVE.value
        self.session.flush()
        if rule is not None:
            self._rules.remove(rule)
        if denial is not None:
            self._denials.remove(denial)
        self.session.expire(row, ["rule", "denial"])

    def _deny(self, row: Discovery, until: datetime | None) -> None:
        if row.client is not None:
            if row.rule is None:
                self._make_rule(row, None, {"mode": Mode.DENY})
            return
        if row.denial is not None:
            wanted = self._denials.document_of(row.denial).model_copy(update={"expires_at": until})
            self._denials.change(row.denial, wanted)
            return
        denial = self._denials.add(denial_for(row, self._free_name(Denial, row.id), until))
        denial.discovery_id = row.id
        self.session.flush()

    def _govern(self, row: Discovery, decision: DecisionDocument) -> None:
        if row.rule is not None:
            asked = {"app": decision.app, "tls": decision.tls}
            given = {name: value for name, value in asked.items() if value is not None}
            self._rules.change(row.rule, self._rules.document_of(row.rule).model_copy(update=given))
            return
        app = decision.app or self._only_app()
        self._make_rule(row, app, {} if decision.tls is None else {"tls": decision.tls})

    def _make_rule(self, row: Discovery, app: str | None, more: dict[str, Any]) -> None:
        rule = rule_for(row, self._free_name(InterceptionRule, row.id), app).model_copy(update=more)
        row.rule_id = self._rules.add(rule).id
        self.session.flush()

    def _only_app(self) -> str | None:
        apps = self.session.scalars(select(App.name).order_by(App.name).limit(APPS_NAMED + 1)).all()
        if len(apps) > 1:
            more = " and others" if len(apps) > APPS_NAMED else ""
            raise BadRequest(
                "the calls of a process that shows no key must be charged to an app, and there are several",
                fix=f"name one as `app` (--app): {', '.join(apps[:APPS_NAMED])}{more}",
            )
        return apps[0] if apps else None

    def _free_name(self, kind: "type[Denial] | type[InterceptionRule]", number: int) -> str:
        """`discovery-N`, or with a number behind it where an operator has taken that."""
        base = f"discovery-{number}"
        taken = set(self.session.scalars(select(kind.name).where(kind.name.like(f"{base}%"))))
        names = (base, *(f"{base}-{count}" for count in range(2, len(taken) + 3)))
        return next(name for name in names if name not in taken)

    def _audited(self, row: Discovery) -> dict[str, Any]:
        shown = self._show(row).model_dump(mode="json")
        kept = (
            "process", "executable", "user", "container", "client", "provider", "host", "state", "state_until", "rule",
            "denial",
        )  # fmt: skip
        return {name: shown[name] for name in kept}

    def _show(self, row: Discovery) -> DiscoveryView:
        state = state_of(row)
        return DiscoveryView(
            id=row.id, process=row.process, executable=row.executable, user=user_of(row), container=row.container,
            cgroup=row.cgroup, unit=row.unit, client=row.client, provider=row.provider, host=row.host,
            address=row.address, port=row.port, evidence=row.evidence, first_seen=row.first_seen,
            last_seen=row.last_seen, connections=row.connections, bytes=row.bytes, calls=row.calls,
            input_tokens=row.input_tokens, output_tokens=row.output_tokens, models=models_of(row.models),
            coverage=None, coverage_reason=None, node=row.node, state=state,
            state_until=row.state_until if state == row.state else None, decided_by=row.decided_by,
            decided_at=row.decided_at, rule=row.rule.name if row.rule is not None else None,
            denial=row.denial.name if row.denial is not None else None, in_force=None, reason=None, denied=None,
        )  # fmt: skip


def state_of(row: Discovery) -> State:
    """The same as `state_now`, of a row with rule and denial loaded."""
    state = State(row.state)
    gone = state in (State.GOVERN, State.DENY) and row.rule is None and (state is State.GOVERN or row.denial is None)
    return State.OBSERVE if gone else state


def user_of(row: Discovery) -> str | None:
    return row.user if row.user is not None else None if row.uid is None else str(row.uid)


def denial_for(row: Discovery, name: str, until: datetime | None) -> DenialDocument:
    """Whoever the finding names best × its provider and host. Raises BadRequest where it names nobody."""
    who: dict[str, str] = {}
    if row.executable is not None:
        who["executable"] = row.executable
        if row.container is not None:
            who["container"] = row.container  # the same path elsewhere is another program
    elif row.container is not None:
        who["container"] = row.container
    elif row.uid is not None or row.user is not None:
        who["user"] = str(row.uid) if row.uid is not None else str(row.user)
    else:
        raise BadRequest(
            "it is not known whose connections these are, so that they cannot be told from others",
            fix="deny the destination to those whom you mean: sluicegate denials add, POST /api/v1/denials",
        )
    hosts, cidrs = _destination(row)
    note = f"finding {row.id}: {row.process or row.client or row.container or 'unknown'} to {row.host}"
    try:
        return DenialDocument.model_validate(
            {
                **who, "name": name, "provider": row.provider, "hosts": hosts, "cidrs": cidrs,
                "ports": _own_port(row), "expires_at": until, "note": note[:1000],
            }
        )  # fmt: skip
    except ValidationError as error:
        raise BadRequest(
            f"this finding cannot be made a denial: {error.errors()[0]['msg']}", fix="write one: POST /api/v1/denials"
        ) from None


def rule_for(row: Discovery, name: str, app: str | None) -> InterceptionDocument:
    """Captures as little else as can be: the client, else the cgroup, else the user's connections to this host. Raises
    BadRequest where the destination cannot be written in a rule."""
    cgroup = (row.cgroup or "").strip("/")
    sources: dict[str, Any]
    if row.client is not None:
        sources = {"cidrs": [str(ipaddress.ip_network(row.client))]}
    elif cgroup:
        sources = {"cgroups": [cgroup]}
    elif row.uid is not None or row.user is not None:
        sources = {"users": [str(row.uid) if row.uid is not None else row.user]}
    else:
        sources = {"local": True}
    hosts, cidrs = _destination(row)
    ports = list(USUAL_PORTS) if row.port is None or row.port in USUAL_PORTS else [row.port]
    try:
        return InterceptionDocument(
            name=name,
            destinations=DestinationsDocument(hosts=hosts, cidrs=cidrs, ports=ports),
            sources=SourcesDocument(**sources),
            app=app,
        )
    except ValidationError as error:
        raise BadRequest(
            f"this finding cannot be made a rule: {error.errors()[0]['msg']}",
            fix="write one: POST /api/v1/interception-rules",
        ) from None


def _own_port(row: Discovery) -> list[int]:
    """What is on this host is one service among others, the gateway itself among them."""
    here = row.address is not None and ipaddress.ip_address(row.address).is_loopback
    return [row.port] if here and row.port is not None else []


def _destination(row: Discovery) -> "tuple[list[str], list[str]]":
    """Hosts and networks: the name, and the address that it had, which name servers may not give to us. A name that no
    rule can hold (a client may send anything) is left out."""
    networks = []
    for text in (row.host, row.address):
        try:
            networks.append(str(ipaddress.ip_network(text or "")))
        except ValueError:
            continue
    try:
        hosts = (
            [] if row.host in (network.partition("/")[0] for network in networks) else [_HOST.validate_python(row.host)]
        )
    except ValidationError:
        hosts = []
    return hosts, sorted(set(networks))
