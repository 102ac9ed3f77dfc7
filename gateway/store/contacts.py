"""To whom notices go: a team's addresses and webhook, the platform's, and the owners of services."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.settings import Settings
from gateway.store.notices import Channel, Destination
from gateway.store.portal_models import TeamContact

_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
ADDRESS: Final = re.compile(rf"(?=[^@]{{1,64}}@){_ATEXT}(?:\.{_ATEXT})*@(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
"""What is written as an e-mail address: a dot-atom (RFC 5322 3.2.3) of up to 64 octets (RFC 5321 4.5.3.1.1), and a
domain of letters, digits and hyphens. What else RFC 5322 allows, `email` may stumble over."""


def webhooks(session: Session) -> list[str]:
    """Of all teams: where this gateway has reason to go."""
    return [each for each in session.scalars(select(TeamContact.webhook)) if each is not None]


@dataclass(frozen=True, slots=True)
class Contacts:
    """`emails` and `webhook`: of the platform's people. Without a mail server nobody gets mail."""

    sends_mail: bool
    emails: tuple[str, ...]
    webhook: str | None

    @classmethod
    def of(cls, settings: Settings) -> "Contacts":
        return cls(settings.smtp is not None, settings.notice_emails, settings.notice_webhook)

    def of_platform(self, owners: Iterable[str | None] = ()) -> list[Destination]:
        """`owners`: of services; those that are e-mail addresses hear of it, too."""
        addresses = [*self.emails, *(each for each in owners if each is not None and ADDRESS.fullmatch(each))]
        return self._destinations(addresses, self.webhook)

    def of_team(self, session: Session, team_id: int) -> list[Destination]:
        row = session.get(TeamContact, team_id)
        return [] if row is None else self._destinations(row.emails, row.webhook)

    def _destinations(self, addresses: Iterable[str], webhook: str | None) -> list[Destination]:
        found = [Destination(Channel.EMAIL, each) for each in addresses] if self.sends_mail else []
        return [*found, *([] if webhook is None else [Destination(Channel.WEBHOOK, webhook)])]
