"""Authenticator apps and recovery codes: set up, asked for at sign-in, good once, taken away; roles that need one."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select, update

from gateway.store import throttle, tickets
from gateway.store.database import read_session, write_session
from gateway.store.factor_models import RecoveryCode, Totp
from gateway.store.models import LoginSession, User
from tests.integration.api.served import OWNER_PASSWORD, ServedApi, served
from tests.integration.api.signing import (
    COOKIE,
    audited,
    browser,
    code_of,
    forget_failures,
    forget_used_codes,
    make_user,
    set_up_totp,
    sign_in,
)


def test_an_app_is_set_up_and_asked_for_from_then_on(api: ServedApi) -> None:
    with browser(api) as here, browser(api) as elsewhere:
        begun = here.post("/api/v1/account/totp", json={"password": OWNER_PASSWORD}).json()
        parts = urlsplit(begun["uri"])
        assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
        assert parse_qs(parts.query)["secret"] == [begun["secret"]]
        assert not here.get("/api/v1/account").json()["totp"], "nothing is in force before a code was shown"
        wrong = here.post("/api/v1/account/totp/confirm", json={"code": "000000"})
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["field"] == "code"
        before = here.cookies[COOKIE]
        confirmed = here.post("/api/v1/account/totp/confirm", json={"code": code_of(begun["secret"])})
        codes = confirmed.json()["recovery_codes"]
        assert len(set(codes)) == 10
        account = here.get("/api/v1/account").json()
        assert (account["totp"], account["recovery_codes"], account["method"]) == (True, 10, "password+totp")
        assert here.cookies[COOKIE] != before, "the session is worth more now: it gets another cookie"
        assert elsewhere.get("/api/v1/session").status_code == 401, "sessions without it end"
        with api.bare_client() as old:
            assert old.get("/api/v1/session", headers={"cookie": f"{COOKIE}={before}"}).status_code == 401
    with api.bare_client() as again:
        asked = sign_in(again)
        assert asked.status_code == 202
        assert "set-cookie" not in asked.headers
        step = asked.json()
        assert (step["code"], step["passkey"]) == (True, False)
        assert again.get("/api/v1/session").status_code == 401
        used = again.post("/api/v1/session/code", json={"ticket": step["ticket"], "code": code_of(begun["secret"])})
        assert used.status_code == 401, "the code that set it up is used"
        entered = again.post(
            "/api/v1/session/code", json={"ticket": step["ticket"], "code": code_of(begun["secret"], steps=1)}
        )
        assert entered.status_code == 201, entered.text
        assert entered.json()["username"] == "admin"
        assert again.get("/api/v1/session").json()["method"] == "password+totp"
    assert ("user:admin", "add", "admin") in audited(api, "factor")
    assert audited(api, "session")[-2:] == [
        ("user:admin", "refuse", "127.0.0.1"),
        ("user:admin", "sign-in", "127.0.0.1"),
    ]


def test_a_code_and_a_ticket_are_good_once(api: ServedApi) -> None:
    with browser(api) as client:
        secret, codes = set_up_totp(client)
    forget_used_codes(api)
    with api.bare_client() as client:

        def enter(code: str, ticket: str | None = None) -> int:
            ticket = ticket or sign_in(client).json()["ticket"]
            return client.post("/api/v1/session/code", json={"ticket": ticket, "code": code}).status_code

        ticket = sign_in(client).json()["ticket"]
        code = code_of(secret)
        assert enter(code, ticket) == 201
        assert enter(code) == 401, "replayed"
        assert enter(code_of(secret, steps=-1)) == 401, "older than one that was used"
        assert enter(code_of(secret, steps=1), ticket) == 401, "the ticket is used up"
        forget_failures(api)
        assert enter(code_of(secret, steps=3)) == 401
        assert enter(codes[0].upper().replace("-", " ")) == 201, "typed as people do"
        assert enter(codes[0]) == 401
        assert enter(codes[1]) == 201
        assert client.get("/api/v1/account").json()["recovery_codes"] == 8
        assert client.get("/api/v1/session").json()["method"] == "password+recovery"


def test_digits_of_other_scripts_are_no_code(sqlite_api: ServedApi) -> None:
    other = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
    with browser(sqlite_api) as client:
        secret = client.post("/api/v1/account/totp", json={"password": OWNER_PASSWORD}).json()["secret"]
        confirm = {"code": code_of(secret).translate(other)}
        assert client.post("/api/v1/account/totp/confirm", json=confirm).status_code == 422
        client.post("/api/v1/account/totp/confirm", json={"code": code_of(secret)}).raise_for_status()
    forget_used_codes(sqlite_api)
    with sqlite_api.bare_client(headers={"origin": sqlite_api.url}) as client:
        ticket = sign_in(client).json()["ticket"]
        answer = client.post("/api/v1/session/code", json={"ticket": ticket, "code": code_of(secret).translate(other)})
        assert answer.status_code == 401


def test_of_many_at_once_one_gets_in(api: ServedApi) -> None:
    """The same code, recovery code and ticket, each in parallel."""
    with browser(api) as client:
        secret, codes = set_up_totp(client)
    forget_used_codes(api)

    def enter(ticket: str, code: str) -> int:
        with api.bare_client() as client:
            return client.post("/api/v1/session/code", json={"ticket": ticket, "code": code}).status_code

    with api.bare_client() as client, ThreadPoolExecutor(4) as pool:
        for code in (code_of(secret), codes[0]):
            forget_failures(api)
            given = [sign_in(client).json()["ticket"] for _ in range(4)]
            forget_failures(api)
            assert sorted(pool.map(enter, given, [code] * 4)) == [201, 401, 401, 401]
        forget_failures(api)
        ticket = sign_in(client).json()["ticket"]
        assert sorted(pool.map(enter, [ticket] * 4, codes[1:5])) == [201, 401, 401, 401]


def test_secrets_are_sealed_and_codes_hashed(sqlite_api: ServedApi) -> None:
    with browser(sqlite_api) as client:
        secret, codes = set_up_totp(client)
    with read_session(sqlite_api.engine) as session:
        row = session.scalars(select(Totp)).one()
        assert secret.encode() not in row.sealed
        assert sqlite_api.app.state.services.sealer.open_row(row) == secret
        digests = session.scalars(select(RecoveryCode.digest)).all()
    assert not any(code.encode() in digest for code in codes for digest in digests)


def test_tickets_end_with_time_and_with_the_password(sqlite_api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    with browser(sqlite_api) as client:
        secret, _ = set_up_totp(client)
    forget_used_codes(sqlite_api)
    with sqlite_api.bare_client() as client:

        def enter(ticket: str) -> tuple[int, str]:
            answer = client.post("/api/v1/session/code", json={"ticket": ticket, "code": code_of(secret)})
            return answer.status_code, answer.json().get("code")

        for nonsense in ("x", "x.y", "0123456789abcdef.AAAA", "é.\x00"):
            assert enter(nonsense) == (401, "ticket_refused")
        options = client.post("/api/v1/session/passkey-options").json()
        assert enter(options["ticket"]) == (401, "ticket_refused"), "it is for something else"
        monkeypatch.setattr(tickets, "GOOD_FOR", timedelta(0))
        late = sign_in(client).json()["ticket"]
        assert enter(late) == (401, "ticket_refused")
        monkeypatch.undo()
        ticket = sign_in(client).json()["ticket"]
        with sqlite_api.client() as owner:
            changed = owner.patch("/api/v1/users/admin", json={"password": "quite another one"})
            assert changed.status_code == 200
        assert enter(ticket) == (401, "ticket_refused")


def test_codes_are_guessed_as_slowly_as_passwords(sqlite_api: ServedApi) -> None:
    with browser(sqlite_api) as client:
        secret, _ = set_up_totp(client)
    forget_used_codes(sqlite_api)
    with sqlite_api.bare_client() as guesser:
        ticket = sign_in(guesser).json()["ticket"]
        answers = [
            guesser.post("/api/v1/session/code", json={"ticket": ticket, "code": f"{number:06}"}).status_code
            for number in range(6)
        ]
        assert answers == [401, 401, 401, 401, 429, 429], "the right password does not forgive wrong codes"
        assert sign_in(guesser).status_code == 429
        with write_session(sqlite_api.engine) as session:
            session.execute(update(throttle.SignInFailure).values(blocked_until=throttle.NEVER))
        right = guesser.post("/api/v1/session/code", json={"ticket": ticket, "code": code_of(secret)})
        assert right.status_code == 201
    with read_session(sqlite_api.engine) as session:
        left = [each.failures for each in session.scalars(select(throttle.SignInFailure))]
    assert left == [4], "of the address, which gets back what the success had cost it"


def test_factors_change_only_with_the_password(sqlite_api: ServedApi) -> None:
    with browser(sqlite_api) as client:
        for path in ("totp", "passkey-options"):
            for body in ({}, {"password": None}, {"password": "wrong"}):
                assert client.post(f"/api/v1/account/{path}", json=body).status_code == 401
            forget_failures(sqlite_api)
        assert client.post("/api/v1/account/recovery-codes", json={"password": OWNER_PASSWORD}).status_code == 409
        _, codes = set_up_totp(client)
        assert client.post("/api/v1/account/totp", json={"password": OWNER_PASSWORD}).status_code == 409
        others = client.post("/api/v1/account/recovery-codes", json={"password": OWNER_PASSWORD}).json()
        assert not set(others["recovery_codes"]) & set(codes)
        assert client.post("/api/v1/account/totp/remove", json={"password": "wrong"}).status_code == 401
        assert client.post("/api/v1/account/totp/remove", json={"password": OWNER_PASSWORD}).status_code == 204
        account = client.get("/api/v1/account").json()
        assert (account["totp"], account["recovery_codes"]) == (False, 0)
        assert client.post("/api/v1/account/totp/remove", json={"password": OWNER_PASSWORD}).status_code == 409
    with sqlite_api.bare_client() as client:
        assert sign_in(client).status_code == 201, "the password alone does again"
    assert [action for _, action, _ in audited(sqlite_api, "factor")] == ["add", "add", "add", "remove"]


def test_who_has_no_password_must_have_just_signed_in(sqlite_api: ServedApi) -> None:
    with browser(sqlite_api) as client:
        with write_session(sqlite_api.engine) as session:
            session.execute(update(User).values(password_hash=None))
        assert client.post("/api/v1/account/totp", json={}).status_code == 201
        with write_session(sqlite_api.engine) as session:
            session.execute(update(LoginSession).values(confirmed_at=datetime.now(UTC) - timedelta(minutes=16)))
        refused = client.post("/api/v1/account/totp", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "sign_in_again")


def test_what_a_provider_manages_is_set_up_there(sqlite_api: ServedApi) -> None:
    with browser(sqlite_api) as client:
        with write_session(sqlite_api.engine) as session:
            session.execute(update(User).values(source="sign-on"))
        assert client.get("/api/v1/account").json()["managed"]
        for path in ("totp", "passkey-options"):
            assert client.post(f"/api/v1/account/{path}", json={"password": OWNER_PASSWORD}).status_code == 409
        body = {"current": OWNER_PASSWORD, "new": "another long one"}
        assert client.put("/api/v1/session/password", json=body).status_code == 409


def test_nobody_sets_their_own_password_without_the_present_one(sqlite_api: ServedApi) -> None:
    with browser(sqlite_api) as owner:
        assert owner.patch("/api/v1/users/admin", json={"password": "quite another one"}).status_code == 409
        assert owner.patch("/api/v1/users/admin", json={"disabled": False}).status_code == 200


def test_a_token_has_no_account(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as token:
        assert token.get("/api/v1/account").status_code == 400


def test_a_role_may_need_a_second_factor(sqlite_url: str, tmp_path: Path) -> None:
    with served(tmp_path, sqlite_url, require_second_factor=("owner", "team-admin")) as api:
        password = make_user(api, "mia", "viewer")
        with browser(api, "mia", password) as viewer:
            assert viewer.get("/api/v1/routes").status_code == 200
        with browser(api) as owner:
            told = owner.get("/api/v1/session").json()
            assert told["second_factor_due"]
            assert told["permissions"] == ["session"]
            for path in ("users", "routes", "audit", "events"):
                refused = owner.get(f"/api/v1/{path}")
                assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_required"), path
            set_up_totp(owner)
            assert not owner.get("/api/v1/session").json()["second_factor_due"]
            assert owner.get("/api/v1/users").status_code == 200
            last = owner.post("/api/v1/account/totp/remove", json={"password": OWNER_PASSWORD})
            assert last.status_code == 409
            assert owner.get("/api/v1/account").json()["totp"], "refused, and still there"
        with api.client() as token:
            assert token.get("/api/v1/users").status_code == 200, "tokens are not people"


def test_administrators_reset_factors_of_those_below_them(sqlite_api: ServedApi) -> None:
    api = sqlite_api
    passwords = {
        "boss": make_user(api, "boss", "admin"),
        "lead": make_user(api, "lead", "team-admin", "search"),
        "mia": make_user(api, "mia", "team-member", "search"),
        "tom": make_user(api, "tom", "team-member", "other"),
    }
    for name in ("mia", "tom"):
        with browser(api, name, passwords[name]) as client:
            set_up_totp(client, passwords[name])
    with browser(api) as owner:
        set_up_totp(owner)
        assert owner.post("/api/v1/users/admin/reset-factors").status_code == 409, "not one's own this way"
        assert owner.delete("/api/v1/users/admin/sessions").status_code == 409
    with browser(api, "lead", passwords["lead"]) as lead:
        listed = {each["name"]: each for each in lead.get("/api/v1/users").json()["items"]}
        assert listed["mia"]["totp"]
        assert listed["mia"]["sessions"] == 1
        assert listed["mia"]["last_sign_in_at"] is not None
        assert lead.post("/api/v1/users/tom/reset-factors").status_code == 404, "of another team"
        assert lead.delete("/api/v1/users/tom/sessions").status_code == 404
        assert lead.post("/api/v1/users/mia/reset-factors?dry_run=true").json()["totp"] is False
        assert lead.get("/api/v1/users/mia").json()["totp"], "it was a trial"
        done = lead.post("/api/v1/users/mia/reset-factors").json()
        assert (done["totp"], done["sessions"]) == (False, 0)
    with browser(api, "mia", passwords["mia"]):
        pass  # by password alone
    with browser(api, "boss", passwords["boss"]) as boss:
        assert boss.post("/api/v1/users/admin/reset-factors").status_code == 404, "an owner is above an admin"
        assert boss.post("/api/v1/users/tom/reset-factors").status_code == 200
    assert ("user:lead", "reset", "mia") in audited(api, "factor")


def test_failures_of_unknown_names_are_told_nowhere(sqlite_api: ServedApi) -> None:
    with sqlite_api.bare_client() as client:
        assert sign_in(client, "hunter2").status_code == 401
        assert sign_in(client, "admin", "wrong").status_code == 401
    assert audited(sqlite_api, "session") == [("user:admin", "refuse", "127.0.0.1")]


@pytest.mark.serial
def test_unknown_names_take_as_long_as_wrong_passwords(sqlite_api: ServedApi) -> None:
    """The whole answer, medians of several; each name of its own, so that nobody is made to wait."""
    took: dict[bool, list[float]] = {True: [], False: []}
    with sqlite_api.bare_client() as client:
        for number in range(14):
            known = number % 2 == 0
            if known:
                forget_failures(sqlite_api)
            begun = time.perf_counter()
            assert sign_in(client, "admin" if known else f"nobody{number}", "wrong").status_code == 401
            took[known].append(time.perf_counter() - begun)
    known_s, unknown_s = (sorted(took[which])[3] for which in (True, False))
    assert 0.75 < known_s / unknown_s < 1.33


def test_guessing_an_apps_first_code_is_slowed_down(api: ServedApi) -> None:
    with browser(api) as here:
        here.post("/api/v1/account/totp", json={"password": OWNER_PASSWORD}).raise_for_status()
        tried = [here.post("/api/v1/account/totp/confirm", json={"code": f"00000{at}"}).status_code for at in range(6)]
    assert tried == [422] * 5 + [429]
