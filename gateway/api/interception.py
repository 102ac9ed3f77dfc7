"""`/api/v1/interception-rules`, and what of them stands in the kernel.

What stands in the kernel is the agent's to say; without it the answers say so instead of looking idle.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import (
    DEFAULT_LIMIT,
    LARGEST_LIMIT,
    Cursor,
    ExpectedVersion,
    ListLimit,
    Page,
    id_after,
    page_by_id,
    set_etag,
)
from gateway.errors import Unavailable
from gateway.policy.interception import Mode
from gateway.policy.roles import Permission
from gateway.store.config.interception import InterceptionRules
from gateway.store.documents import InterceptionDocument
from gateway.store.patches import InterceptionPatch
from gateway.store.views import InterceptionView

router = APIRouter(prefix="/api/v1")

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]
Changing = Annotated[Desk, permit_change(Permission.CONFIGURATION_WRITE)]


@router.get("/interception-rules", tags=["interception"])
def list_interception_rules(
    desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[InterceptionView]:
    """Rules in the order in which they were made."""
    with desk.reading() as editing:
        return page_by_id(InterceptionRules(editing).list(after_id=id_after(cursor), limit=limit + 1), limit)


@router.post("/interception-rules", tags=["interception"], status_code=201)
def create_interception_rule(body: InterceptionDocument, desk: Changing, response: Response) -> InterceptionView:
    """Kept and checked; captured by the agent once it runs."""
    with desk.changing() as editing:
        created = InterceptionRules(editing).create(body)
    set_etag(response, created)
    return created


@router.get("/interception-rules/{ref}", tags=["interception"])
def get_interception_rule(ref: str, desk: Reading, response: Response) -> InterceptionView:
    with desk.reading() as editing:
        found = InterceptionRules(editing).get(ref)
    set_etag(response, found)
    return found


@router.patch("/interception-rules/{ref}", tags=["interception"])
def update_interception_rule(
    ref: str, body: InterceptionPatch, desk: Changing, version: ExpectedVersion, response: Response
) -> InterceptionView:
    """Lists are replaced as a whole."""
    with desk.changing() as editing:
        changed = InterceptionRules(editing).update(ref, body, version)
    set_etag(response, changed)
    return changed


@router.delete("/interception-rules/{ref}", tags=["interception"], status_code=204)
def delete_interception_rule(ref: str, desk: Changing, version: ExpectedVersion) -> None:
    """Connections that were captured end in their own time."""
    with desk.changing() as editing:
        InterceptionRules(editing).delete(ref, version)


class InterceptionState(BaseModel):
    """One rule as it stands in the kernel. Counts are connections since the agent started; null = not known without
    it."""

    rule: str
    mode: Mode
    armed: bool
    reason: str | None
    """Why it is not armed, or what of it is left out."""
    captured: int | None = None
    """Handed to the gateway by the kernel."""
    passed: int | None = None
    """Of these passed on untouched; under `observe` all that were seen."""
    denied: int | None = None
    bypassed: int | None = None
    """Went by while nothing was captured (`on_failure: open`)."""
    unattributed: int | None = None
    """Of this host, and nobody could tell in time which process they are of."""
    open: int | None = None
    last_canary: datetime | None = None
    destinations: list[str] | None = None
    """Networks, and the addresses that hosts have at present."""


class Repair(BaseModel):
    """Somebody changed what interception needs, and the agent put it back."""

    at: datetime
    what: str


class CanaryState(BaseModel):
    """A connection of the agent's own, once a minute, that must reach a worker the way that captured ones do."""

    path: str
    """`local-v4`, `local-v6`"""
    last_well: datetime | None
    trouble: str | None


class Interception(BaseModel):
    agent: bool
    """Whether the agent is connected."""
    up: bool | None = None
    """`sluicegate intercept up` and `down`."""
    capturing: bool | None = None
    """The heartbeat stands in the kernel: what fits a rule is captured at this moment."""
    try_until: datetime | None = None
    trouble: str | None = None
    """Why nothing at all is armed."""
    repairs: list[Repair] = []
    canaries: list[CanaryState] = []
    rules: list[InterceptionState]


@router.get("/interception", tags=["interception"])
def get_interception(desk: Reading) -> Interception:
    """Each rule as it stands in the kernel: armed, or why not."""
    try:
        said = desk.services.interception()
    except Unavailable as error:
        with desk.reading() as editing:
            rules = InterceptionRules(editing).list(limit=LARGEST_LIMIT)
        states = [
            InterceptionState(rule=rule.name, mode=rule.mode, armed=False, reason=error.message) for rule in rules
        ]
        return Interception(agent=False, trouble=error.message, rules=states)
    return Interception.model_validate({"agent": True, **said})


class EndedFlow(BaseModel):
    """A captured connection that has ended. Those that routes served are in the ledger request by request."""

    rule: str
    client: str
    destination: str
    port: int
    protocol: str
    """`http/1`, `h2`, `tls`, `other`; `silent` where the server spoke first."""
    server_name: str | None
    """What the TLS ClientHello asked for."""
    encrypted_hello: bool
    """The name may be a cover for another one (ECH)."""
    terminated: bool
    """Its TLS ended here."""
    bytes_in: int
    """From the client, as far as they were passed on untouched; `bytes_out`: to it."""
    bytes_out: int
    outcome: str
    process: str | None = None
    """Of this host or of a container on it, as the kernel tells; as `user` and `container`."""
    user: str | None = None
    container: str | None = None
    started_at: datetime
    seconds: float


class EndedFlows(BaseModel):
    items: list[EndedFlow]
    reason: str | None = None
    """Why nothing is known of any."""


@router.get("/interception/flows", tags=["interception"])
def list_ended_flows(desk: Reading, rule: str | None = None, limit: ListLimit = DEFAULT_LIMIT) -> EndedFlows:
    """The last captured connections, the newest first, as many as the agent remembers (2,000)."""
    try:
        return EndedFlows.model_validate({"items": desk.services.flows(rule, limit)})
    except Unavailable as error:
        return EndedFlows(items=[], reason=error.message)
