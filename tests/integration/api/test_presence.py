"""Deeds that outlive a session ask once more who sits there: which, of whom, and what opens them again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, update

from gateway.store.database import read_session, write_session
from gateway.store.models import LoginSession, User
from tests.integration.api.served import OWNER_PASSWORD, ServedApi
from tests.integration.api.signing import (
    COOKIE,
    audited,
    browser,
    code_of,
    forget_used_codes,
    make_user,
    set_up_totp,
)
from tests.integration.api.test_passkeys import at_localhost, origin_of, register
from tests.support.authenticator import Authenticator

CONFIRMATION = "/api/v1/session/confirmation"
PROVIDER = {"name": "corp", "issuer": "https://login.example.com", "client_id": "sluicegate"}


def time_passes(api: ServedApi, minutes: int = 16) -> None:
    """Everybody signed in so long ago."""
    ago = datetime.now(UTC) - timedelta(minutes=minutes)
    with write_session(api.engine) as session:
        session.execute(update(LoginSession).values(created_at=ago, confirmed_at=ago))


@pytest.fixture
def owner(api: ServedApi) -> Iterator[httpx2.Client]:
    make_user(api, "ann", "viewer")
    with api.client() as token:
        token.post("/api/v1/tokens", json={"role": "viewer", "name": "there"}).raise_for_status()
    with browser(api) as client:
        yield client


DEEDS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/v1/tokens", {"role": "owner"}),
    ("PATCH", "/api/v1/tokens/there", {"expires_at": None}),
    ("POST", "/api/v1/users", {"name": "eve", "role": "owner"}),
    ("PATCH", "/api/v1/users/ann", {"password": "somebody else's now"}),
    ("PATCH", "/api/v1/users/ann", {"role": "owner"}),
    ("PATCH", "/api/v1/users/ann", {"disabled": False}),
    ("POST", "/api/v1/users/ann/reset-factors", {}),
    ("PUT", "/api/v1/sign-on", {"rules": [{"group": "all", "role": "owner"}]}),
    ("POST", "/api/v1/sign-on/providers", PROVIDER),
]


@pytest.mark.parametrize(("method", "path", "body"), DEEDS)
def test_an_old_session_may_do_it_once_it_is_confirmed(
    api: ServedApi, owner: httpx2.Client, method: str, path: str, body: dict[str, Any]
) -> None:
    time_passes(api)
    refused = owner.request(method, path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "confirm_it_is_you")
    assert "confirmation" in refused.json()["fix"]
    assert owner.post(CONFIRMATION, json={"password": OWNER_PASSWORD}).status_code == 204
    assert owner.request(method, path, json=body).is_success
    time_passes(api)
    assert owner.request(method, path, json=body).status_code == 403, "for a quarter of an hour"


@pytest.mark.parametrize(("method", "path", "body"), DEEDS)
def test_who_has_just_signed_in_and_tokens_are_not_asked(
    sqlite_api: ServedApi, method: str, path: str, body: dict[str, Any]
) -> None:
    make_user(sqlite_api, "ann", "viewer")
    with browser(sqlite_api) as session, sqlite_api.client() as token:
        token.post("/api/v1/tokens", json={"role": "viewer", "name": "there"}).raise_for_status()
        assert session.request(method, f"{path}?dry_run=true", json=body).is_success
        time_passes(sqlite_api)
        assert token.request(method, path, json=body).is_success


def test_what_takes_away_is_not_asked(api: ServedApi, owner: httpx2.Client) -> None:
    time_passes(api)
    assert owner.patch("/api/v1/users/ann", json={"disabled": True}).status_code == 200
    assert owner.delete("/api/v1/users/ann/sessions").status_code == 204
    assert owner.delete("/api/v1/users/ann").status_code == 204
    assert owner.delete("/api/v1/tokens/there").status_code == 204
    assert owner.get("/api/v1/users").status_code == 200


def test_a_copy_of_the_cookie_gains_nothing(api: ServedApi, owner: httpx2.Client) -> None:
    stolen = owner.cookies[COOKIE]
    time_passes(api)
    assert owner.post(CONFIRMATION, json={"password": OWNER_PASSWORD}).status_code == 204
    assert owner.cookies[COOKIE] != stolen
    with api.bare_client(headers={"origin": api.url, "cookie": f"{COOKIE}={stolen}"}) as thief:
        assert thief.post("/api/v1/tokens", json={"role": "owner"}).status_code == 401


def test_guesses_count_as_failed_sign_ins(api: ServedApi, owner: httpx2.Client) -> None:
    time_passes(api)
    guesses = [owner.post(CONFIRMATION, json={"password": f"guess {number}"}) for number in range(6)]
    assert [each.status_code for each in guesses] == [401] * 5 + [429]
    assert owner.post("/api/v1/tokens", json={"role": "owner"}).status_code == 403
    assert [action for _, action, _ in audited(api, "session")].count("refuse") == 5


def test_a_code_confirms_once(api: ServedApi, owner: httpx2.Client) -> None:
    secret, recovery = set_up_totp(owner)
    forget_used_codes(api)
    for code in (code_of(secret), recovery[0]):
        time_passes(api)
        told = owner.get(CONFIRMATION).json()
        assert told == {
            "username": "admin", "confirmed": False, "until": None,
            "password": True, "code": True, "passkey": False, "provider": None,
        }  # fmt: skip
        assert owner.post(CONFIRMATION, json={"code": code}).status_code == 204
        assert owner.get(CONFIRMATION).json()["confirmed"]
        assert owner.post("/api/v1/tokens", json={"role": "viewer"}).status_code == 201
        time_passes(api)
        assert owner.post(CONFIRMATION, json={"code": code}).status_code == 401
    assert [action for _, action, _ in audited(api, "session")].count("confirm") == 2


def test_ones_own_passkey_confirms_and_no_other(sqlite_api: ServedApi) -> None:
    def shown(client: httpx2.Client, authenticator: Authenticator) -> dict[str, Any]:
        begun = client.post("/api/v1/session/passkey-options").json()
        return {"ticket": begun["ticket"], "credential": authenticator.get(begun["options"])}

    password = make_user(sqlite_api, "ann", "viewer")
    own, anns = (Authenticator(origin_of(sqlite_api)) for _ in range(2))
    with browser(sqlite_api) as owner, browser(sqlite_api, "ann", password) as ann:
        at_localhost(sqlite_api, owner)
        at_localhost(sqlite_api, ann)
        assert register(owner, own).status_code == 201
        assert register(ann, anns, password=password).status_code == 201
        time_passes(sqlite_api)
        assert owner.get(CONFIRMATION).json()["passkey"]
        assert owner.post(CONFIRMATION, json=shown(owner, anns)).status_code == 401
        assert owner.post("/api/v1/tokens", json={"role": "viewer"}).status_code == 403
        answer = shown(owner, own)
        assert owner.post(CONFIRMATION, json=answer).status_code == 204
        assert owner.post("/api/v1/tokens", json={"role": "viewer"}).status_code == 201
        assert owner.post(CONFIRMATION, json=answer).status_code == 401, "once"


def test_one_way_at_a_time(sqlite_api: ServedApi) -> None:
    with browser(sqlite_api) as owner:
        for body in ({}, {"password": "a", "code": "b"}, {"ticket": "a"}, {"password": "a", "credential": {}}):
            assert owner.post(CONFIRMATION, json=body).status_code == 422
    with sqlite_api.client() as token:
        assert token.get(CONFIRMATION).status_code == 400


def test_who_has_no_password_is_not_confirmed_by_having_just_signed_in(sqlite_api: ServedApi) -> None:
    """Else a session would stay fresh for ever."""
    with browser(sqlite_api) as owner:
        with write_session(sqlite_api.engine) as session:
            session.execute(update(User).values(password_hash=None))
        assert owner.post(CONFIRMATION, json={"password": "whatever"}).status_code == 400
        time_passes(sqlite_api)
        assert owner.post(CONFIRMATION, json={"password": "whatever"}).status_code == 403
    with read_session(sqlite_api.engine) as session:
        [confirmed_at] = session.scalars(select(LoginSession.confirmed_at))
    assert confirmed_at is not None
    assert confirmed_at < datetime.now(UTC) - timedelta(minutes=15)
