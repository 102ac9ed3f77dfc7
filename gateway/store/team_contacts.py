"""Where a team hears of its notices: read, changed, and the secret that its webhook's messages are signed with."""

import base64
import secrets
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from gateway.errors import Conflict, Forbidden
from gateway.policy.roles import Authority, Permission
from gateway.store.config.editing import Editing
from gateway.store.config.teams import Teams
from gateway.store.contacts import ADDRESS
from gateway.store.document import Document
from gateway.store.fields import refused, web_address
from gateway.store.notices import Channel, shown_address
from gateway.store.portal_models import TeamContact
from gateway.store.views import View

MOST_ADDRESSES: Final = 20
MARK: Final = "whsec_"
SECRET_BYTES: Final = 32


def _address(value: str) -> str:
    if len(value) > 254 or not value.isascii() or not ADDRESS.fullmatch(value):
        raise refused(f"{value[:80]!r} is not an e-mail address", "write e.g. search-team@example.com")
    return value


class ContactDocument(Document):
    emails: list[Annotated[str, AfterValidator(_address)]] = Field(default_factory=list, max_length=MOST_ADDRESSES)
    webhook: Annotated[str, AfterValidator(web_address)] | None = None
    """URL that gets notices by POST; the platform's people name it, because the gateway connects to it."""


class ContactView(View):
    emails: list[str]
    webhook: str | None
    """Scheme and host alone for those who may not name one."""
    signed: bool
    """Whether a secret was made, with which messages to the webhook are signed."""
    sends_mail: bool
    """Whether this gateway has a mail server."""


class SecretView(View):
    secret: str
    """Shown this once (standardwebhooks.com: HMAC-SHA-256 over id, time and body)."""


def names_webhooks(authority: Authority) -> bool:
    """Whether it is theirs to say where webhooks go: others see scheme and host alone."""
    may = authority.permissions
    return Permission.CONFIGURATION_WRITE in may or (authority.team_id is None and Permission.APPS_WRITE in may)


class TeamContacts:
    """In the caller's name, within the caller's transaction; of the caller's own team for team roles."""

    def __init__(self, editing: Editing, *, sends_mail: bool) -> None:
        self._editing = editing
        self._session = editing.session
        self._sends_mail = sends_mail

    def get(self, team: str) -> ContactView:
        """Raises NotFound."""
        return self._shown(self._view(self._session.get(TeamContact, Teams(self._editing).find(team).id)))

    def put(self, team: str, wanted: ContactDocument) -> ContactView:
        """Raises NotFound, Forbidden."""
        self._editing.lock()
        found = Teams(self._editing).find(team)
        row = self._session.get(TeamContact, found.id)
        before = self._view(row)
        webhook = wanted.webhook
        if not names_webhooks(self._editing.authority):
            if webhook not in (before.webhook, self._shown(before).webhook):
                raise Forbidden("`webhook` is not a team's to change", fix="ask an operator")
            webhook = before.webhook
        if row is None:
            row = TeamContact(team_id=found.id)
            self._session.add(row)
        row.emails, row.webhook = list(dict.fromkeys(wanted.emails)), webhook
        if webhook is None:
            row.sealed, row.sealing_key_id = None, None
        self._session.flush()
        after = self._view(row)
        if after != before:
            shown = {"sends_mail"}
            self._editing.record(
                "update", "contact", found.name, before.model_dump(exclude=shown), after.model_dump(exclude=shown)
            )
        return self._shown(after)

    def make_secret(self, team: str) -> SecretView:
        """A new one; messages are signed with it from now on. Raises NotFound, and Conflict without a webhook."""
        self._editing.lock()
        found = Teams(self._editing).find(team)
        row = self._session.get(TeamContact, found.id)
        if row is None or row.webhook is None:
            raise Conflict(f"the team {found.name!r} has no webhook", fix="ask an operator to name one")
        secret = MARK + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        self._editing.sealer.seal_row(row, secret)
        self._session.flush()
        self._editing.record("rotate", "webhook secret", found.name, None, None)
        return SecretView(secret=secret)

    def _shown(self, view: ContactView) -> ContactView:
        """As the caller may see it."""
        if view.webhook is None:
            return view
        whole = names_webhooks(self._editing.authority)
        return view.model_copy(update={"webhook": shown_address(Channel.WEBHOOK, view.webhook, whole=whole)})

    def _view(self, row: TeamContact | None) -> ContactView:
        if row is None:
            return ContactView(emails=[], webhook=None, signed=False, sends_mail=self._sends_mail)
        return ContactView(
            emails=row.emails, webhook=row.webhook, signed=row.sealed is not None, sends_mail=self._sends_mail
        )
