"""Shapes of the own account: factors, passkeys, sessions. What is secret is in the answer that makes it alone."""

from datetime import datetime

from gateway.policy.roles import Role
from gateway.store.document import Document
from gateway.store.identity import Method


class AccountView(Document):
    """How one may sign in."""

    username: str
    role: Role
    team: str | None
    managed: bool
    """An identity provider manages it, and lets one in: nothing can be set up here for that."""
    has_password: bool
    totp: bool
    """An authenticator app is asked for a code after the password."""
    passkeys: int
    recovery_codes: int
    """How many are left; none without a second factor."""
    second_factor_required: bool
    """The owner of this gateway requires one for the role: the last one cannot be removed."""
    method: Method
    """How this session was begun."""


class TotpBegun(Document):
    """Shown this once, to be taken up by an authenticator app."""

    secret: str
    """Base32, 160 bits."""
    uri: str
    """`otpauth://totp/…`, for a QR code."""


class RecoveryCodes(Document):
    """Shown this once: only hashes are kept."""

    recovery_codes: list[str]
    """Each good once in place of a code or passkey; empty where there are some already."""


class PasskeyView(Document):
    id: int
    name: str
    host: str
    """Where it may be used: the gateway's host name when it was made."""
    synced: bool
    """Kept by a service of its maker, on several devices; false = bound to one device."""
    created_at: datetime
    last_used_at: datetime | None


class PasskeyMade(PasskeyView):
    recovery_codes: list[str]
    """Made along with the first factor, shown this once; else empty."""


class SessionView(Document):
    id: int
    current: bool
    """The one that asks."""
    method: Method
    address: str | None
    """From where it was begun; null = before this was kept."""
    user_agent: str | None
    created_at: datetime
    last_seen_at: datetime
    """To the minute."""
    expires_at: datetime
    """At the latest; 12 hours after the last use it ends earlier."""
