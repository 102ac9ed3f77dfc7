"""Changes of one account that meet: one waits for the other and sees what it has done, and neither waits for ever."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import event

from gateway.store import audit, login_sessions
from gateway.store.database import write_session
from gateway.store.models import LoginSession
from tests.integration.api.served import OWNER_PASSWORD, ServedApi, served
from tests.integration.api.signing import (
    browser,
    code_of,
    forget_used_codes,
    make_user,
    set_up_totp,
    sign_in,
)

MEANWHILE_S = 1.5
"""More than PostgreSQL takes to find a deadlock."""
PASSWORD = "long enough for ann"


class Meanwhile:
    """Does something from another thread at a given place, waits a while for it there, and goes on all the same."""

    def __init__(self, deed: Callable[[], httpx2.Response]) -> None:
        self._deed = deed
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answer: httpx2.Response | None = None

    def _run(self) -> None:
        self.answer = self._deed()

    def happens(self) -> None:
        self._thread.start()
        self._thread.join(MEANWHILE_S)

    def status(self) -> int:
        self._thread.join(20)
        assert self.answer is not None, "it never ended"
        return self.answer.status_code


def at_begin(monkeypatch: pytest.MonkeyPatch, meanwhile: Meanwhile) -> None:
    """Once, when somebody has been found to be who they are and their session is about to begin."""
    begin = login_sessions.begin

    def paused(*args: Any) -> login_sessions.SignedIn:
        monkeypatch.setattr(login_sessions, "begin", begin)
        meanwhile.happens()
        return begin(*args)

    monkeypatch.setattr(login_sessions, "begin", paused)


@pytest.mark.parametrize(
    "change",
    [{"password": "reset by the owner"}, {"disabled": True}, {"role": "operator"}],
    ids=lambda change: next(iter(change)),
)
def test_a_sign_in_leaves_no_session_behind_a_change(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    make_user(api, "ann", "viewer")
    with api.client() as owner, api.bare_client() as intruder:
        meanwhile = Meanwhile(lambda: owner.patch("/api/v1/users/ann", json=change))
        at_begin(monkeypatch, meanwhile)
        assert sign_in(intruder, "ann", PASSWORD).status_code == 201
        assert meanwhile.status() == 200
        assert intruder.get("/api/v1/session").status_code == 401


def test_nor_does_one_by_a_code(api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    make_user(api, "ann", "viewer")
    with browser(api, "ann", PASSWORD) as ann:
        secret, _ = set_up_totp(ann, PASSWORD)
    forget_used_codes(api)
    with api.client() as owner, api.bare_client() as intruder:
        ticket = sign_in(intruder, "ann", PASSWORD).json()["ticket"]
        meanwhile = Meanwhile(lambda: owner.post("/api/v1/users/ann/reset-factors"))
        at_begin(monkeypatch, meanwhile)
        body = {"ticket": ticket, "code": code_of(secret)}
        assert intruder.post("/api/v1/session/code", json=body).status_code == 201
        assert meanwhile.status() == 200
        assert intruder.get("/api/v1/session").status_code == 401


def test_a_deed_of_a_session_that_is_ended_meanwhile_is_not_done(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had been admitted. Who ended the session has the last word. (On SQLite nobody comes between there.)"""
    come_from = audit.come_from
    with served(tmp_path, postgres_url) as api, api.client() as owner:
        make_user(api, "ann", "admin")
        with browser(api, "ann", PASSWORD) as ann:

            def paused(*args: Any) -> None:
                monkeypatch.setattr(audit, "come_from", come_from)
                owner.delete("/api/v1/users/ann/sessions").raise_for_status()
                come_from(*args)

            monkeypatch.setattr(audit, "come_from", paused)
            refused = ann.post("/api/v1/tokens", json={"role": "admin", "name": "left-behind"})
            assert refused.status_code == 401
        assert owner.get("/api/v1/tokens/left-behind").status_code == 404


def test_nobody_waits_for_ever(api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign-in, which clears away sessions that have run out, meets a directory that removes the user of one."""
    make_user(api, "ann", "viewer")
    record, long_ago = audit.record, datetime.now(UTC) - timedelta(days=9)
    with api.client() as owner, api.bare_client() as ann, api.bare_client() as directory:
        token = owner.post("/api/v1/tokens", json={"role": "owner", "scopes": ["scim"]}).json()["token"]
        directory.headers |= {"authorization": f"Bearer {token}", "content-type": "application/scim+json"}
        user = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "bob"}
        bob = directory.post("/scim/v2/Users", json=user).json()["id"]
        with write_session(api.engine) as session:
            session.add(
                LoginSession(
                    digest=bytes(32), user_id=int(bob), created_at=long_ago, last_seen_at=long_ago, expires_at=long_ago
                )
            )
        meanwhile = Meanwhile(lambda: directory.delete(f"/scim/v2/Users/{bob}"))

        def paused(*args: Any, **entry: Any) -> None:
            if entry["action"] == "sign-in":
                monkeypatch.setattr(audit, "record", record)
                meanwhile.happens()
            record(*args, **entry)

        monkeypatch.setattr(audit, "record", paused)
        assert sign_in(ann, "ann", PASSWORD).status_code == 201
        assert meanwhile.status() == 204


# ---- the order of locks

WRITES = re.compile(
    r"\s*(?:INSERT INTO|UPDATE|DELETE FROM) "
    r"(user_account|token|totp|passkey|recovery_code|login_session|user_identity|sign_on_session|spent_ticket)\b"
)
LOCK = re.compile(r"\s*SELECT meta\.audit_seq")


@contextmanager
def transactions_of(api: ServedApi) -> Iterator[list[list[str]]]:
    """The statements of each transaction of the API, as they come."""
    found: list[list[str]] = []
    open_: dict[int, list[str]] = {}

    def begun(connection: Any) -> None:
        open_[id(connection)] = []
        found.append(open_[id(connection)])

    def executed(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        open_.setdefault(id(connection), []).append(statement)

    event.listen(api.engine, "begin", begun)
    event.listen(api.engine, "before_cursor_execute", executed)
    yield found
    event.remove(api.engine, "begin", begun)
    event.remove(api.engine, "before_cursor_execute", executed)


def test_the_log_is_locked_before_any_row(api: ServedApi) -> None:
    """`audit.lock`: one order for all that changes users, tokens, sessions and factors."""
    make_user(api, "eve", "viewer")
    with api.client() as owner, api.bare_client(headers={"origin": api.url}) as ann, transactions_of(api) as found:
        user = {"name": "ann", "role": "viewer", "password": PASSWORD}
        deeds = [
            owner.post("/api/v1/users", json=user),
            owner.patch("/api/v1/users/ann", json={"role": "admin"}),
            owner.post("/api/v1/tokens", json={"role": "viewer", "name": "one"}),
            owner.patch("/api/v1/tokens/one", json={"name": "two"}),
            owner.delete("/api/v1/tokens/two"),
            sign_in(ann, "ann", PASSWORD),
        ]
        _, codes = set_up_totp(ann, PASSWORD)
        deeds += [
            ann.post("/api/v1/session/confirmation", json={"code": codes[0]}),
            others := ann.post("/api/v1/account/recovery-codes", json={"password": PASSWORD}),
            ann.put("/api/v1/session/password", json={"current": PASSWORD, "new": OWNER_PASSWORD}),
            asked := sign_in(ann, "ann", OWNER_PASSWORD),
        ]
        second = {"ticket": asked.json()["ticket"], "code": others.json()["recovery_codes"][0]}
        deeds += [
            ann.post("/api/v1/session/code", json=second),
            ann.delete("/api/v1/account/sessions"),
            ann.post("/api/v1/account/totp/remove", json={"password": OWNER_PASSWORD}),
            ann.delete("/api/v1/session"),
            owner.post("/api/v1/users/ann/reset-factors"),
            owner.delete("/api/v1/users/ann/sessions"),
            owner.delete("/api/v1/users/ann"),
        ]
    assert all(deed.is_success for deed in deeds)
    changing = [statements for statements in found if any(map(WRITES.match, statements))]
    assert len(changing) >= len(deeds)  # the password's first step changes nothing, setting up an app twice
    for statements in changing:
        first = next(place for place, each in enumerate(statements) if WRITES.match(each))
        assert any(map(LOCK.match, statements[:first])), "\n".join(statements)
