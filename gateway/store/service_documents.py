"""What a route is to those who read of it before they call it: a service of the catalogue (`service:` of a route)."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from gateway.store.document import Document
from gateway.store.fields import PartName, refused, text_of_lines, text_of_one_line, web_address

MOST_TEAMS: Final = 1_000


class Access(StrEnum):
    """How an app team comes to a route."""

    OPEN = "open"
    """Whoever asks may call it, at once."""
    TEAM = "team-admin"
    """An admin of the team that asks decides, or the platform's people."""
    APPROVAL = "approval"
    """The platform's people decide: owner, admin, operator."""
    CLOSED = "closed"
    """It cannot be asked for."""


Title = Annotated[str, AfterValidator(text_of_one_line(120))]
Prose = Annotated[str, AfterValidator(text_of_lines(4_000))]
Contact = Annotated[str, AfterValidator(text_of_one_line(255))]
WebAddress = Annotated[str, AfterValidator(web_address)]


class ServiceDocument(Document):
    """What people read of a route before they call it, and who may ask for it. All of it may be left out."""

    title: Title | None = None
    description: Prose | None = None
    owner: Contact | None = None
    """Whom to ask: a name, an e-mail address (which then hears of requests), a channel."""
    documentation: WebAddress | None = None
    access: Access = Access.APPROVAL
    teams: list[PartName] | None = Field(default=None, max_length=MOST_TEAMS)
    """Which teams see it in the catalogue; left out: all. Teams whose apps may call it see it anyway."""

    @model_validator(mode="after")
    def _teams_once(self) -> "ServiceDocument":
        for place, name in enumerate(self.teams or ()):
            if name in (self.teams or ())[:place]:
                raise refused(f"{name!r} stands twice", "remove one", "teams")
        return self
