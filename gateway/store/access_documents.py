"""Shapes of the portal for app teams: requests for access to routes, decisions on them, and how they stand."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from gateway.store.document import Document
from gateway.store.documents import Moment
from gateway.store.fields import Name, PartName, text_of_lines
from gateway.store.views import View

MOST_ROUTES: Final = 50
"""Of one request."""

Reason = Annotated[str, AfterValidator(text_of_lines(2_000))]


class RequestState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    """By the team itself, before or after the decision."""
    EXPIRED = "expired"
    REVOKED = "revoked"


class Deed(StrEnum):
    """What can be done with a request."""

    APPROVE = "approve"
    DENY = "deny"
    WITHDRAW = "withdraw"
    REVOKE = "revoke"


class AccessAsked(Document):
    """A wish: this app may call these routes."""

    app: PartName
    """An app of the team, or with `new_app` the name of one that is made when the request is approved."""
    new_app: bool = False
    team: PartName | None = None
    """Of a new app, for roles that belong to no team."""
    routes: list[Name] = Field(min_length=1, max_length=MOST_ROUTES)
    reason: Reason
    expires_at: Moment | None = None
    """Until when it is needed; left out: for good."""


class AccessDecision(Document):
    reason: Reason | None = None
    """Shown to the team."""


class AccessApproval(AccessDecision):
    expires_at: Moment | None = None
    """Until when. Left out: as was asked; null: for good."""


class AccessRequestView(View):
    id: int
    version: int
    created_at: datetime
    updated_at: datetime
    team: str
    app: str
    new_app: bool
    """The app does not exist until this is approved."""
    routes: list[str]
    state: RequestState
    reason: str
    asked_until: datetime | None
    requested_by: str
    """`user:NAME` or `token:NAME`."""
    decided_by: str | None
    """null: nobody yet, or the routes are open to all."""
    decided_at: datetime | None
    decision_reason: str | None
    expires_at: datetime | None
    """When the access ends by itself; null: never, or it was never given."""
    you_may: list[Deed]
    """What the caller may do with it now."""
