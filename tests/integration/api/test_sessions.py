"""Signing in and out, what a session cookie may do, and how guessing is slowed down."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select, update

from gateway.policy.roles import Role
from gateway.store import passwords, throttle
from gateway.store.database import read_session, write_session
from gateway.store.models import AuditEntry, LoginSession, User
from tests.integration.api.served import OWNER_PASSWORD, ServedApi, served

COOKIE = "sluicegate_session"


def sign_in(client: httpx2.Client, password: str = OWNER_PASSWORD, username: str = "admin") -> httpx2.Response:
    return client.post("/api/v1/session", json={"username": username, "password": password})


def test_a_session_begins_tells_who_i_am_and_ends(api: ServedApi) -> None:
    with api.bare_client() as browser:
        assert browser.get("/api/v1/session").status_code == 401
        answer = sign_in(browser)
        assert answer.status_code == 201
        assert answer.json()["username"] == "admin"
        assert answer.json()["role"] == "owner"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Secure" not in cookie  # this is plain HTTP: a Secure cookie would never come back
        assert browser.get("/api/v1/session").json()["kind"] == "user"
        assert browser.get("/api/v1/users").status_code == 200
        kept = browser.cookies[COOKIE]
        assert browser.delete("/api/v1/session", headers={"origin": api.url}).status_code == 204
        again = browser.get("/api/v1/session", headers={"cookie": f"{COOKIE}={kept}"})
        assert again.status_code == 401  # the session is gone, not only the cookie
    with read_session(api.engine) as session:
        assert [entry.action for entry in session.scalars(select(AuditEntry).where(AuditEntry.kind == "session"))] == [
            "sign-in"
        ]


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "{url}"}, False),
        ({"origin": "{url}"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
    ],
)
def test_a_cookie_changes_things_only_from_our_own_pages(
    sqlite_api: ServedApi, headers: dict[str, str], accepted: bool
) -> None:
    with sqlite_api.bare_client() as browser:
        sign_in(browser)
        sent = {name: value.format(url=sqlite_api.url) for name, value in headers.items()}
        answer = browser.post("/api/v1/tokens", json={"role": "viewer"}, headers=sent)
        assert answer.status_code == (201 if accepted else 403)
        if not accepted:
            assert answer.json()["code"] == "cross_origin"
        assert browser.get("/api/v1/session", headers={"origin": "https://evil.example"}).status_code == 200


def test_another_site_cannot_sign_its_victim_in(sqlite_api: ServedApi) -> None:
    with sqlite_api.bare_client(headers={"origin": "https://evil.example"}) as browser:
        assert sign_in(browser).status_code == 403


def test_sessions_end_when_idle_when_old_and_when_the_user_is_disabled(sqlite_api: ServedApi) -> None:
    now = datetime.now(UTC)
    cases = [
        update(LoginSession).values(last_seen_at=now - timedelta(hours=13)),
        update(LoginSession).values(expires_at=now - timedelta(seconds=1)),
        update(User).values(disabled=True),
    ]
    for change in cases:
        with sqlite_api.bare_client() as browser:
            assert sign_in(browser).status_code == 201
            assert browser.get("/api/v1/session").status_code == 200
            with write_session(sqlite_api.engine) as session:
                session.execute(change)
            assert browser.get("/api/v1/session").status_code == 401


def test_use_keeps_a_session_alive_with_one_write_a_minute(sqlite_api: ServedApi) -> None:
    def last_seen() -> datetime:
        with read_session(sqlite_api.engine) as session:
            return session.scalars(select(LoginSession.last_seen_at)).one()

    with sqlite_api.bare_client() as browser:
        sign_in(browser)
        begun = last_seen()
        browser.get("/api/v1/session")
        assert last_seen() == begun
        with write_session(sqlite_api.engine) as session:
            session.execute(update(LoginSession).values(last_seen_at=begun - timedelta(minutes=2)))
        browser.get("/api/v1/session")
        assert last_seen() > begun


def test_guessing_is_slowed_down_and_others_are_not(sqlite_api: ServedApi) -> None:
    def block_until(moment: datetime) -> None:
        blocked = throttle.SignInFailure.blocked_until > throttle.NEVER
        with write_session(sqlite_api.engine) as session:
            session.execute(update(throttle.SignInFailure).where(blocked).values(blocked_until=moment))

    with sqlite_api.bare_client() as guesser:
        answers = [sign_in(guesser, password=f"guess {number}") for number in range(5)]
        assert [answer.status_code for answer in answers] == [401] * 5
        with read_session(sqlite_api.engine) as session:
            counted = session.scalars(select(throttle.SignInFailure)).all()
        assert sorted(each.failures for each in counted) == [5, 5, 5]  # pair, address, account
        assert [
            each.blocked_until - each.last_failure_at for each in counted if each.blocked_until > throttle.NEVER
        ] == [timedelta(seconds=1)]
        block_until(datetime.now(UTC) + timedelta(seconds=50))  # as after more failures
        refused = sign_in(guesser)
        assert refused.status_code == 429  # the right password does not help during the wait
        assert 40 <= int(refused.headers["retry-after"]) <= 50
        assert sign_in(guesser, username="somebody", password="else").status_code == 401
    block_until(datetime.now(UTC) - timedelta(seconds=1))
    with sqlite_api.bare_client() as owner:
        assert sign_in(owner).status_code == 201
        assert sign_in(owner, password="wrong once").status_code == 401
        assert sign_in(owner).status_code == 201  # a success has forgiven the failures before


def test_waits_double_up_to_a_quarter_of_an_hour() -> None:
    seconds = [throttle.wait_after(excess).total_seconds() for excess in (-1, 0, 1, 2, 9, 10, 1000)]
    assert seconds == [0, 1, 2, 4, 512, 900, 900]


def test_whoever_has_a_network_is_one_guesser() -> None:
    def address(text: str) -> bytes:
        return throttle.subjects("ann", text)[1].digest

    assert address("2001:db8:1:2::3") == address("2001:db8:1:2:ffff::9") != address("2001:db8:1:3::3")
    assert address("192.0.2.1") != address("192.0.2.2")
    assert address("::ffff:192.0.2.1") != address("::ffff:192.0.2.2")


def test_unknown_names_look_like_wrong_passwords(sqlite_api: ServedApi) -> None:
    with sqlite_api.bare_client() as client:
        known, unknown = (sign_in(client, username=name, password="wrong") for name in ("admin", "nobody"))
        assert known.status_code == unknown.status_code == 401
        same = {"detail", "code", "fix", "title", "type"}
        assert {name: known.json()[name] for name in same} == {name: unknown.json()[name] for name in same}


def test_unknown_names_cost_as_much_as_wrong_passwords() -> None:
    """CPU time of this thread, so that a busy machine does not matter."""

    def seconds(password_hash: str | None) -> float:
        begun = time.thread_time()
        assert not passwords.password_matches(password_hash, "wrong")
        return time.thread_time() - begun

    known = passwords.hash_password("right")
    assert 0.5 < min(seconds(known) for _ in range(3)) / min(seconds(None) for _ in range(3)) < 2


def test_changing_the_own_password_ends_the_other_sessions(api: ServedApi) -> None:
    with api.bare_client() as here, api.bare_client() as elsewhere:
        sign_in(here)
        sign_in(elsewhere)
        wrong = here.put(
            "/api/v1/session/password",
            json={"current": "not it", "new": "another long one"},
            headers={"origin": api.url},
        )
        assert wrong.status_code == 401
        done = here.put(
            "/api/v1/session/password",
            json={"current": OWNER_PASSWORD, "new": "another long one"},
            headers={"origin": api.url},
        )
        assert done.status_code == 204
        assert here.get("/api/v1/session").status_code == 200
        assert elsewhere.get("/api/v1/session").status_code == 401
        assert sign_in(elsewhere).status_code == 401
        assert sign_in(elsewhere, password="another long one").status_code == 201


def test_who_resets_a_password_has_the_last_word(api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a change of the same account that was under way."""
    hashed = passwords.hash_password
    with api.client() as owner, api.bare_client(headers={"origin": api.url}) as intruder:
        user = {"name": "ann", "role": "viewer", "password": "one long enough"}
        owner.post("/api/v1/users", json=user).raise_for_status()
        assert sign_in(intruder, username="ann", password="one long enough").status_code == 201

        def meanwhile(password: str) -> str:
            monkeypatch.setattr(passwords, "hash_password", hashed)
            owner.patch("/api/v1/users/ann", json={"password": "reset by the owner"}).raise_for_status()
            return hashed(password)

        monkeypatch.setattr(passwords, "hash_password", meanwhile)
        change = {"current": "one long enough", "new": "mine for ever now"}
        refused = intruder.put("/api/v1/session/password", json=change)
        assert (refused.status_code, refused.json()["code"]) == (403, "sign_in_again")
        assert sign_in(intruder, username="ann", password="mine for ever now").status_code == 401
        assert sign_in(intruder, username="ann", password="reset by the owner").status_code == 201


def test_behind_a_trusted_proxy_the_cookie_is_secure_and_the_origin_is_the_proxys(
    sqlite_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    proxied = [
        ("x-forwarded-for", "203.0.113.66"),  # the browser's own line: nobody believes it
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-host", "gw.example.com"),
        ("x-forwarded-proto", "http, https"),
    ]
    with (
        served(tmp_path_factory.mktemp("data"), sqlite_url, trusted_hops=1) as api,
        httpx2.Client(base_url=api.url, headers=proxied, timeout=30) as browser,
        api.client() as owner,
    ):
        answer = sign_in(browser)
        told = owner.get("/api/v1/audit", params={"kind": "session"}).json()["items"][0]
        assert (told["action"], told["origin"]) == ("sign-in", "192.0.2.7")
        assert "Secure" in answer.headers["set-cookie"]
        cookie = {"cookie": f"__Host-{COOKIE}={answer.cookies[f'__Host-{COOKIE}']}"}
        allowed = browser.post(
            "/api/v1/tokens", json={"role": "viewer"}, headers=cookie | {"origin": "https://gw.example.com"}
        )
        assert allowed.status_code == 201
        refused = browser.post("/api/v1/tokens", json={"role": "viewer"}, headers=cookie | {"origin": api.url})
        assert refused.status_code == 403


def test_over_tls_nobody_else_plants_a_cookie(sqlite_url: str, tmp_path: Path) -> None:
    """The prefix has browsers take it from this host over TLS alone (RFC 6265bis 4.1.3.2). Sessions that a release
    before had begun by the plain name go on."""
    tls = {"x-forwarded-for": "192.0.2.7", "x-forwarded-host": "gw.example.com", "x-forwarded-proto": "https"}
    tls["origin"] = "https://gw.example.com"
    with served(tmp_path, sqlite_url, trusted_hops=1) as api, api.bare_client(headers=tls) as client:
        answer = sign_in(client)
        named, _, rest = answer.headers["set-cookie"].partition("=")
        assert named == f"__Host-{COOKIE}"
        assert {"path=/", "secure", "httponly"} <= {part.strip().lower() for part in rest.split(";")}
        assert "domain" not in rest.lower()
        secret = answer.cookies[named]
        by_the_plain_name = {"cookie": f"{COOKIE}={secret}"}
        assert client.get("/api/v1/session", headers={"cookie": f"{named}={secret}"}).status_code == 200
        assert client.get("/api/v1/session", headers=by_the_plain_name).status_code == 401, "somebody planted it"
        page = client.get("/console/", headers={"cookie": f"{named}={secret}"})
        if page.status_code == 200:  # 503 where the console has not been built
            assert page.headers["server-timing"] == 'session;desc="maybe"'
        with write_session(api.engine) as session:
            session.execute(update(LoginSession).values(confirmed_at=None))  # as the release before began them
        assert client.get("/api/v1/session", headers=by_the_plain_name).status_code == 200
        change = {"current": OWNER_PASSWORD, "new": "another long one"}
        renewed = client.put("/api/v1/session/password", json=change, headers=by_the_plain_name)
        assert renewed.status_code == 204
        set_, dropped = renewed.headers.get_list("set-cookie")
        assert set_.startswith(f"__Host-{COOKIE}=")
        assert dropped.startswith(f'{COOKIE}=""')
        left = client.delete("/api/v1/session", headers={"cookie": set_.partition(";")[0]})
        assert left.headers["set-cookie"].startswith(f'__Host-{COOKIE}=""')
        assert "Secure" in left.headers["set-cookie"], "else browsers would not take it"


def test_tokens_end_with_their_expiry_and_their_revocation(api: ServedApi) -> None:
    with api.client() as owner:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        made = owner.post("/api/v1/tokens", json={"role": "viewer", "expires_at": tomorrow, "name": "short"}).json()
        headers = {"authorization": f"Bearer {made['token']}"}
        with api.bare_client(headers=headers) as viewer:
            assert viewer.get("/api/v1/session").json()["username"] == "short"
            past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
            assert owner.patch("/api/v1/tokens/short", json={"expires_at": past}).status_code == 200
            assert viewer.get("/api/v1/session").status_code == 401
            assert owner.patch("/api/v1/tokens/short", json={"expires_at": None}).status_code == 200
            assert viewer.get("/api/v1/session").status_code == 200
            assert owner.delete("/api/v1/tokens/short").status_code == 204
            assert viewer.get("/api/v1/session").status_code == 401


@pytest.mark.parametrize("authorization", ["Bearer nonsense", "Bearer", "Basic YWRtaW46eA==", "x" * 3000])
def test_bad_credentials_are_refused_with_the_way_in(sqlite_api: ServedApi, authorization: str) -> None:
    with sqlite_api.bare_client(headers={"authorization": authorization}) as client:
        answer = client.get("/api/v1/users")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["fix"]


def test_a_token_of_a_team_role_is_confined_to_it(sqlite_api: ServedApi) -> None:
    with pytest.raises(Exception, match="team"):
        sqlite_api.token(Role.TEAM_MEMBER)


def test_many_sign_ins_at_once_do_not_hold_up_the_api(sqlite_api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing takes turns of two; whoever waits for one holds none of the handlers' threads."""
    hashing = threading.Semaphore(0)
    go_on = threading.Event()

    def hash_for_ever(_password_hash: str | None, _password: str) -> bool:
        hashing.release()
        go_on.wait(30)
        return False

    def guess(number: int) -> int:
        with sqlite_api.bare_client() as client:
            return sign_in(client, username=f"nobody{number}", password="wrong").status_code

    monkeypatch.setattr(passwords, "password_matches", hash_for_ever)
    with ThreadPoolExecutor(16) as pool, sqlite_api.client() as owner:
        guesses = [pool.submit(guess, number) for number in range(16)]
        try:
            for _ in range(2):
                assert hashing.acquire(timeout=20)
            assert not hashing.acquire(timeout=1), "more than two passwords are hashed at once"
            assert owner.get("/api/v1/users").status_code == 200
        finally:
            go_on.set()
        assert {each.result() for each in guesses} == {401}
