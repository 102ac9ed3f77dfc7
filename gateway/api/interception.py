"""`/api/v1/interception-rules`, what stands in the kernel, and who bypasses the gateway.

The agent that acts upon the rules is not part of this release: the answers say so instead of looking idle.
"""

from datetime import datetime
from typing import Annotated, Final

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


NO_AGENT: Final = "the agent is not connected, so nothing is captured"


class InterceptionState(BaseModel):
    """One rule as it stands in the kernel. Counts are connections; null = not known without the agent."""

    rule: str
    armed: bool
    reason: str | None
    """Why it is not armed."""
    captured: int | None
    passed: int | None
    denied: int | None
    bypassed: int | None
    last_canary: datetime | None


class Interception(BaseModel):
    agent: bool
    """Whether the agent is connected."""
    rules: list[InterceptionState]


@router.get("/interception", tags=["interception"])
def get_interception(desk: Reading) -> Interception:
    """Each rule as it stands in the kernel: armed, or why not."""
    with desk.reading() as editing:
        names = [rule.name for rule in InterceptionRules(editing).list(limit=LARGEST_LIMIT)]
    states = [
        InterceptionState(
            rule=name,
            armed=False,
            reason=NO_AGENT,
            captured=None,
            passed=None,
            denied=None,
            bypassed=None,
            last_canary=None,
        )
        for name in names
    ]
    return Interception(agent=False, rules=states)


class Discovery(BaseModel):
    """A process that talks to an AI provider past the gateway."""

    id: int
    process: str | None
    executable: str | None
    user: str | None
    container: str | None
    client: str | None
    provider: str
    host: str
    evidence: str
    first_seen: datetime
    last_seen: datetime
    connections: int
    bytes: int
    state: str


class Discoveries(BaseModel):
    items: list[Discovery]
    next_cursor: str | None
    reason: str | None
    """Why the list may be empty although somebody bypasses the gateway."""


@router.get("/discoveries", tags=["interception"])
def list_discoveries(_desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Discoveries:
    """Who talks to which AI provider past the gateway. Empty, with the reason, while the agent is away."""
    id_after(cursor)
    return Discoveries(items=[], next_cursor=None, reason=NO_AGENT)
