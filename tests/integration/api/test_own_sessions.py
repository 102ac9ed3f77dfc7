"""One's own sessions: listed with where they come from, ended one by one or all, and those of users by who may."""

from sqlalchemy import select

from gateway.store.database import read_session
from gateway.store.models import LoginSession
from tests.integration.api.served import OWNER_PASSWORD, ServedApi
from tests.integration.api.signing import COOKIE, audited, browser, make_user, sign_in


def test_sessions_are_listed_and_ended(api: ServedApi) -> None:
    with browser(api) as here, browser(api) as second, browser(api) as third:
        second.headers["user-agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
        assert sign_in(second).status_code == 201
        listed = here.get("/api/v1/account/sessions").json()["items"]
        assert len(listed) == 3, "signing in again ends the session that the browser had"
        assert [each["current"] for each in listed].count(True) == 1
        assert {each["address"] for each in listed} == {"127.0.0.1"}
        firefox = next(each for each in listed if "Firefox" in each["user_agent"])
        assert (firefox["method"], firefox["current"]) == ("password", False)
        assert here.delete(f"/api/v1/account/sessions/{firefox['id']}").status_code == 204
        assert here.delete(f"/api/v1/account/sessions/{firefox['id']}").status_code == 404
        assert second.get("/api/v1/session").status_code == 401
        assert third.get("/api/v1/session").status_code == 200
        assert here.delete("/api/v1/account/sessions").status_code == 204
        assert third.get("/api/v1/session").status_code == 401
        assert here.get("/api/v1/session").status_code == 200
    assert [action for _, action, _ in audited(api, "session")].count("end") == 2


def test_nobody_ends_anothers_session_by_its_id(sqlite_api: ServedApi) -> None:
    password = make_user(sqlite_api, "mia", "viewer")
    with browser(sqlite_api) as owner, browser(sqlite_api, "mia", password) as mia:
        [own] = owner.get("/api/v1/account/sessions").json()["items"]
        assert mia.delete(f"/api/v1/account/sessions/{own['id']}").status_code == 404
        assert mia.delete("/api/v1/account/sessions").status_code == 204
        assert owner.get("/api/v1/session").status_code == 200
        assert len(mia.get("/api/v1/account/sessions").json()["items"]) == 1


def test_administrators_sign_others_out(sqlite_api: ServedApi) -> None:
    password = make_user(sqlite_api, "mia", "viewer")
    with browser(sqlite_api) as owner, browser(sqlite_api, "mia", password) as mia:
        assert owner.get("/api/v1/users/mia").json()["sessions"] == 1
        version = owner.get("/api/v1/users/mia").json()["version"]
        assert owner.delete("/api/v1/users/mia/sessions").status_code == 204
        assert mia.get("/api/v1/session").status_code == 401
        seen = owner.get("/api/v1/users/mia").json()
        assert (seen["sessions"], seen["version"]) == (0, version), "it is no change of the user"
        assert seen["last_sign_in_at"] is not None


def test_a_new_password_gives_a_new_cookie(sqlite_api: ServedApi) -> None:
    with browser(sqlite_api) as client:
        before = client.cookies[COOKIE]
        body = {"current": OWNER_PASSWORD, "new": "another long one"}
        assert client.put("/api/v1/session/password", json=body).status_code == 204
        assert client.cookies[COOKIE] != before
        assert client.get("/api/v1/session").status_code == 200
        with sqlite_api.bare_client(headers={"cookie": f"{COOKIE}={before}"}) as thief:
            assert thief.get("/api/v1/session").status_code == 401


def test_a_session_that_was_planted_is_not_taken_over(sqlite_api: ServedApi) -> None:
    """Session fixation: whatever cookie a browser brings along, signing in gives it another."""
    with sqlite_api.bare_client(headers={"cookie": f"{COOKIE}=planted"}) as client:
        answer = sign_in(client)
        assert answer.status_code == 201
        assert answer.cookies[COOKIE] != "planted"
    with read_session(sqlite_api.engine) as session:
        [kept] = session.scalars(select(LoginSession.digest))
    assert answer.cookies[COOKIE].encode() not in kept
