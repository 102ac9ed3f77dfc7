"""What the last hour's requests would have met under a draft, or under a version that is to be restored."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api.caller import Desk, permit
from gateway.policy.replay import MOST_NAMES, Effect, Finding
from gateway.policy.roles import Permission
from gateway.store import drafts, versions
from gateway.store.config.editing import Editing
from gateway.store.replay import Rehearsed, judge, look_back, snapshot_under

router = APIRouter(prefix="/api/v1", tags=["draft"])

Trying = Annotated[Desk, permit(Permission.CONFIGURATION_WRITE)]
Minutes = Annotated[int, Query(ge=1, le=24 * 60, description="How far to look back")]


class FindingView(BaseModel):
    """Requests that would fare differently, in the same way."""

    effect: Effect
    """`no_access`, `no_route`, `limited`: would be refused; `other_target`, `other_route`: would go elsewhere."""
    what: str
    certain: bool
    """false: an expectation, or it depends on what the ledger does not tell."""
    requests: int
    apps: list[str]
    """Whose, the busiest first; at most five."""
    more_apps: int
    example: str | None
    """Id of one of them in the ledger."""


class UnjudgedView(BaseModel):
    reason: str
    requests: int


class DryRunView(BaseModel):
    since: datetime
    """Of the requests that were judged."""
    until: datetime
    whole: bool
    """Whether these are all requests of the time asked for; else the newest 10,000."""
    requests: int
    judged: int
    refused: int
    """Were served, and would be refused."""
    rerouted: int
    """Were served, and would go to another target or route, as far as that is sure."""
    findings: list[FindingView]
    unjudged: list[UnjudgedView]
    notes: list[str]
    """What cannot be known from the ledger, where it matters here."""


@router.post("/draft/dry-run")
def dry_run_draft(desk: Trying, minutes: Minutes = 60) -> DryRunView:
    """The last requests in the ledger, under the draft: who would be refused, and who would go elsewhere."""
    return _run(desk, minutes, lambda editing: (drafts.text_to_try(editing), drafts.FILE))


@router.post("/versions/{number}/dry-run", tags=["versions"])
def dry_run_version(number: int, desk: Trying, minutes: Minutes = 60) -> DryRunView:
    """The same under a version, before it is restored."""
    return _run(
        desk, minutes, lambda editing: (versions.get(editing.session, number).document, f"version {number}")
    )  # fmt: skip


def _run(desk: Desk, minutes: int, document: Callable[[Editing], tuple[str, str]]) -> DryRunView:
    until = datetime.now(UTC)
    since = until - timedelta(minutes=minutes)
    with desk.services.prices as book:
        with desk.reading() as editing:
            text, file = document(editing)
            seen = look_back(editing, book, since, until)
        with replace(desk, dry_run=True).changing() as editing:
            after = snapshot_under(editing, text, file, book)
    return _view(judge(seen, after), since, until)


def _view(found: Rehearsed, since: datetime, until: datetime) -> DryRunView:
    told = found.replay
    first = found.first_at_s
    return DryRunView(
        since=since if found.whole or first is None else datetime.fromtimestamp(first, UTC),
        until=until,
        whole=found.whole,
        requests=told.requests,
        judged=told.judged,
        refused=told.refused,
        rerouted=told.rerouted,
        findings=[_finding(one) for one in told.findings],
        unjudged=[UnjudgedView(reason=reason, requests=count) for reason, count in told.unjudged.items()],
        notes=list(told.notes),
    )


def _finding(one: Finding) -> FindingView:
    return FindingView(
        effect=one.effect,
        what=one.what,
        certain=one.certain,
        requests=one.requests,
        apps=[name for name, _ in one.apps.most_common(MOST_NAMES)],
        more_apps=max(0, len(one.apps) - MOST_NAMES),
        example=one.example,
    )
