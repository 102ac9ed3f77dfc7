"""Passkeys over the API, with an authenticator that can be told to misbehave. (In a browser: tests/browser.)"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.store import passkeys, tickets
from tests.integration.api.served import OWNER_PASSWORD, ServedApi, served
from tests.integration.api.signing import (
    audited,
    browser,
    forget_failures,
    make_user,
    set_up_totp,
    sign_in,
)
from tests.support.authenticator import Authenticator, b64


def origin_of(api: ServedApi) -> str:
    return api.url.replace("127.0.0.1", "localhost")


def at_localhost(api: ServedApi, client: httpx2.Client) -> httpx2.Client:
    """As a browser that has the console open under a name."""
    client.headers |= {"host": origin_of(api).removeprefix("http://"), "origin": origin_of(api)}
    return client


def register(
    client: httpx2.Client, authenticator: Authenticator, name: str = "Laptop", password: str = OWNER_PASSWORD
) -> httpx2.Response:
    begun = client.post("/api/v1/account/passkey-options", json={"password": password})
    assert begun.status_code == 200, begun.text
    credential = authenticator.create(begun.json()["options"])
    body = {"ticket": begun.json()["ticket"], "name": name, "credential": credential}
    return client.post("/api/v1/account/passkeys", json=body)


def enter(client: httpx2.Client, authenticator: Authenticator) -> httpx2.Response:
    begun = client.post("/api/v1/session/passkey-options").json()
    body = {"ticket": begun["ticket"], "credential": authenticator.get(begun["options"])}
    return client.post("/api/v1/session/passkey", json=body)


def test_a_passkey_is_made_used_renamed_and_removed(api: ServedApi) -> None:
    laptop, phone = Authenticator(origin_of(api)), Authenticator(origin_of(api))
    with browser(api) as client:
        at_localhost(api, client)
        made = register(client, laptop)
        assert made.status_code == 201, made.text
        assert made.json()["host"] == "localhost"
        assert len(made.json()["recovery_codes"]) == 10
        assert client.get("/api/v1/session").json()["method"] == "passkey"
        second = register(client, phone, "Phone").json()
        assert second["recovery_codes"] == [], "they came with the first factor"
        assert laptop.user_handle == phone.user_handle, "one account to an authenticator"
        assert register(client, Authenticator(origin_of(api)), "Phone").status_code == 409
        renamed = client.patch(f"/api/v1/account/passkeys/{second['id']}", json={"name": "Old phone"})
        assert renamed.json()["name"] == "Old phone"
    with api.bare_client() as client:
        at_localhost(api, client)
        asked = sign_in(client)
        assert asked.status_code == 202
        assert (asked.json()["code"], asked.json()["passkey"]) == (False, True)
        entered = enter(client, laptop)
        assert entered.status_code == 201, entered.text
        assert (entered.json()["username"], entered.json()["method"]) == ("admin", "passkey")
        listed = client.get("/api/v1/account/passkeys").json()["items"]
        assert [(each["name"], each["last_used_at"] is None) for each in listed] == [
            ("Laptop", False),
            ("Old phone", True),
        ]
        for each in listed:
            removed = client.post(f"/api/v1/account/passkeys/{each['id']}/remove", json={"password": OWNER_PASSWORD})
            assert removed.status_code == 204
        assert client.get("/api/v1/account").json()["recovery_codes"] == 0, "nothing to stand in for"
        assert enter(client, laptop).status_code == 401
    assert [action for _, action, _ in audited(api, "factor")] == ["add", "add", "add", "update", "remove", "remove"]


def test_no_more_are_kept_than_there_may_be_however_they_are_begun(api: ServedApi) -> None:
    with browser(api) as client:
        at_localhost(api, client)
        bodies = []
        for number in range(passkeys.MOST_PASSKEYS + 6):  # while there is room for each
            begun = client.post("/api/v1/account/passkey-options", json={"password": OWNER_PASSWORD}).json()
            credential = Authenticator(origin_of(api)).create(begun["options"])
            bodies.append({"ticket": begun["ticket"], "name": f"key {number}", "credential": credential})
        first = client.post("/api/v1/account/passkeys", json=bodies.pop(0))
        assert first.status_code == 201, first.text  # the first factor: the session has another cookie now
        with ThreadPoolExecutor(6) as threads:
            statuses = list(
                threads.map(lambda body: client.post("/api/v1/account/passkeys", json=body).status_code, bodies)
            )
        assert statuses.count(201) == passkeys.MOST_PASSKEYS - 1
        assert set(statuses) == {201, 409}
        assert len(client.get("/api/v1/account/passkeys").json()["items"]) == passkeys.MOST_PASSKEYS
        refused = client.post("/api/v1/account/passkey-options", json={"password": OWNER_PASSWORD})
        assert (refused.status_code, "20 passkeys" in refused.json()["detail"]) == (409, True)


def with_other_key(credential: dict[str, Any], api: ServedApi, options: dict[str, Any]) -> dict[str, Any]:
    forger = Authenticator(origin_of(api), count=50)
    signature = forger.get(options)["response"]["signature"]
    return {**credential, "response": {**credential["response"], "signature": signature}}


def of_another_user(credential: dict[str, Any], _api: ServedApi, _options: dict[str, Any]) -> dict[str, Any]:
    return {**credential, "response": {**credential["response"], "userHandle": b64(b"x" * 32)}}


def test_answers_that_are_not_the_passkeys_are_refused(sqlite_api: ServedApi) -> None:
    api = sqlite_api
    good = Authenticator(origin_of(api))
    with browser(api) as client:
        register(at_localhost(api, client), good)

    def refused(change: Callable[[dict[str, Any], ServedApi, dict[str, Any]], dict[str, Any]] | None = None) -> None:
        with api.bare_client() as client:
            begun = at_localhost(api, client).post("/api/v1/session/passkey-options").json()
            credential = good.get(begun["options"])
            if change is not None:
                credential = change(credential, api, begun["options"])
            body = {"ticket": begun["ticket"], "credential": credential}
            answer = client.post("/api/v1/session/passkey", json=body)
            assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_refused")
            assert "set-cookie" not in answer.headers
        forget_failures(api)

    refused(with_other_key)
    refused(of_another_user)
    good.verifies = False
    refused()
    good.verifies = True
    good.origin = "http://evil.example"
    refused()
    good.origin = origin_of(api)
    good.rp_id = "evil.example"
    refused()
    good.rp_id = "localhost"
    with api.bare_client() as client:
        assert enter(at_localhost(api, client), good).status_code == 201
    good.count -= 1  # as a copy of it would count
    refused()
    good.count += 1
    with api.bare_client() as client:
        assert enter(at_localhost(api, client), good).status_code == 201
    assert {actor for actor, action, _ in audited(api, "session") if action == "refuse"} == {"user:admin"}


def test_a_challenge_is_answered_once_and_soon(sqlite_api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api = sqlite_api
    passkey = Authenticator(origin_of(api))
    with browser(api) as owner, api.bare_client() as client:
        at_localhost(api, owner)
        at_localhost(api, client)
        begun = owner.post("/api/v1/account/passkey-options", json={"password": OWNER_PASSWORD}).json()
        body = {"ticket": begun["ticket"], "name": "Laptop", "credential": passkey.create(begun["options"])}
        password = make_user(api, "mia", "viewer")
        with browser(api, "mia", password) as mia:
            stolen = at_localhost(api, mia).post("/api/v1/account/passkeys", json=body)
            assert stolen.json()["code"] == "ticket_refused", "it was begun by somebody else"
        assert owner.post("/api/v1/account/passkeys", json=body).status_code == 201
        assert owner.post("/api/v1/account/passkeys", json=body).json()["code"] == "ticket_refused"

        options = client.post("/api/v1/session/passkey-options").json()
        answer = {"ticket": options["ticket"], "credential": passkey.get(options["options"])}
        assert client.post("/api/v1/session/passkey", json=answer).status_code == 201
        passkey.count += 1
        again = {"ticket": options["ticket"], "credential": passkey.get(options["options"])}
        assert client.post("/api/v1/session/passkey", json=again).json()["code"] == "ticket_refused"
        monkeypatch.setattr(tickets, "GOOD_FOR", timedelta(0))
        assert enter(client, passkey).json()["code"] == "ticket_refused"


def test_options_say_nothing_about_anybody(sqlite_api: ServedApi) -> None:
    api = sqlite_api
    with api.bare_client() as client:
        before = at_localhost(api, client).post("/api/v1/session/passkey-options").json()["options"]
    with browser(api) as owner:
        register(at_localhost(api, owner), Authenticator(origin_of(api)))
    with api.bare_client() as client:
        after = at_localhost(api, client).post("/api/v1/session/passkey-options").json()["options"]
    assert before.pop("challenge") != after.pop("challenge")
    assert before == after
    assert after["rpId"] == "localhost"
    assert after["userVerification"] == "required"
    assert not after["allowCredentials"]


MALFORMED = [
    {},
    {"id": 7},
    {"id": "é"},
    {"id": "AAAA"},
    {"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": {}},
    {"id": "AAAA", "rawId": "AAAA", "type": "x", "response": None},
]


@pytest.mark.parametrize("credential", MALFORMED, ids=json.dumps)
def test_nonsense_is_refused_and_never_a_fault(sqlite_api: ServedApi, credential: dict[str, Any]) -> None:
    with browser(sqlite_api) as client:
        at_localhost(sqlite_api, client)
        begun = client.post("/api/v1/session/passkey-options").json()
        answer = client.post("/api/v1/session/passkey", json={"ticket": begun["ticket"], "credential": credential})
        assert answer.status_code == 401
        begun = client.post("/api/v1/account/passkey-options", json={"password": OWNER_PASSWORD}).json()
        broken = Authenticator(origin_of(sqlite_api)).create(begun["options"])
        broken["response"]["attestationObject"] = b64(b"\xa1\xff")
        for wrong in (credential, broken):
            begun = client.post("/api/v1/account/passkey-options", json={"password": OWNER_PASSWORD}).json()
            body = {"ticket": begun["ticket"], "name": "x", "credential": wrong}
            assert client.post("/api/v1/account/passkeys", json=body).status_code == 422
        assert client.get("/api/v1/account").json()["passkeys"] == 0


def test_a_known_passkey_answered_with_nonsense_is_refused(sqlite_api: ServedApi) -> None:
    passkey = Authenticator(origin_of(sqlite_api))
    with browser(sqlite_api) as client:
        register(at_localhost(sqlite_api, client), passkey)
        begun = client.post("/api/v1/session/passkey-options").json()
        good = passkey.get(begun["options"])
        for part in ("clientDataJSON", "authenticatorData", "signature"):
            for nonsense in ("", "AAAA", "é", "_" * 3000):
                wrong = {**good, "response": {**good["response"], part: nonsense}}
                body = {"ticket": begun["ticket"], "credential": wrong}
                assert client.post("/api/v1/session/passkey", json=body).status_code == 401
                forget_failures(sqlite_api)


def test_behind_a_proxy_the_setting_names_the_site(sqlite_url: str, tmp_path: Path) -> None:
    with served(tmp_path, sqlite_url, console_url="https://gw.example.com/") as api:
        public = {"origin": "https://gw.example.com"}
        with api.bare_client(headers=public) as client:
            signed_in = sign_in(client)
            assert signed_in.status_code == 201
            assert "Secure" in signed_in.headers["set-cookie"]
            client.headers["cookie"] = signed_in.headers["set-cookie"].split(";")[0]
            passkey = Authenticator("https://gw.example.com", rp_id="gw.example.com")
            assert register(client, passkey).json()["host"] == "gw.example.com"
        with api.bare_client(headers=public) as client:
            assert enter(client, passkey).status_code == 201
        with api.bare_client(headers={"origin": api.url}) as client:
            assert sign_in(client).status_code == 403, "another origin"


def test_an_app_beside_a_passkey_keeps_its_recovery_codes(sqlite_api: ServedApi) -> None:
    passkey = Authenticator(origin_of(sqlite_api))
    with browser(sqlite_api) as client:
        at_localhost(sqlite_api, client)
        codes = register(client, passkey).json()["recovery_codes"]
        _, more = set_up_totp(client)
        assert more == []
        assert client.post("/api/v1/account/totp/remove", json={"password": OWNER_PASSWORD}).status_code == 204
        assert client.get("/api/v1/account").json()["recovery_codes"] == len(codes)
