"""What tests of the own account share: a browser that is signed in, codes, time that moves."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx2
import pyotp
from sqlalchemy import select

from gateway.store import throttle
from gateway.store.database import read_session, write_session
from gateway.store.factor_models import Totp
from gateway.store.models import AuditEntry
from tests.integration.api.served import OWNER_PASSWORD, ServedApi

COOKIE = "sluicegate_session"


def sign_in(client: httpx2.Client, username: str = "admin", password: str = OWNER_PASSWORD) -> httpx2.Response:
    return client.post("/api/v1/session", json={"username": username, "password": password})


@contextlib.contextmanager
def browser(api: ServedApi, username: str = "admin", password: str = OWNER_PASSWORD) -> Iterator[httpx2.Client]:
    """Signed in by password alone, as a page of ours."""
    with api.bare_client(headers={"origin": api.url}) as client:
        answer = sign_in(client, username, password)
        assert answer.status_code == 201, answer.text
        yield client


def code_of(secret: str, *, steps: int = 0) -> str:
    """The app's code now, or so many half minutes away."""
    return pyotp.TOTP(secret).at(datetime.now(UTC) + timedelta(seconds=30 * steps))


def set_up_totp(client: httpx2.Client, password: str = OWNER_PASSWORD) -> tuple[str, list[str]]:
    """The secret and the recovery codes."""
    begun = client.post("/api/v1/account/totp", json={"password": password})
    assert begun.status_code == 201, begun.text
    secret: str = begun.json()["secret"]
    confirmed = client.post("/api/v1/account/totp/confirm", json={"code": code_of(secret)})
    assert confirmed.status_code == 200, confirmed.text
    return secret, confirmed.json()["recovery_codes"]


def forget_used_codes(api: ServedApi) -> None:
    """As if half a minute had passed since the last code."""
    with write_session(api.engine) as session:
        for row in session.scalars(select(Totp)):
            row.last_step = 0


def forget_failures(api: ServedApi) -> None:
    """As if all waits were over."""
    with write_session(api.engine) as session:
        throttle.forget_all(session)


def audited(api: ServedApi, kind: str) -> list[tuple[str, str, str]]:
    """Actor, action and name of each entry of a kind, oldest first."""
    with read_session(api.engine) as session:
        found = session.scalars(select(AuditEntry).where(AuditEntry.kind == kind).order_by(AuditEntry.seq))
        return [(entry.actor, entry.action, entry.name) for entry in found]


def make_user(api: ServedApi, name: str, role: str, team: str | None = None) -> str:
    """Returns the new user's password."""
    password = f"long enough for {name}"
    with api.client() as owner:
        if team is not None:
            owner.post("/api/v1/teams", json={"name": team})
        document = {"name": name, "role": role, "team": team, "password": password}
        made = owner.post("/api/v1/users", json=document)
        assert made.status_code == 201, made.text
    return password
