"""Sign-on against a certified OpenID provider: who comes in, as what, and every way in which somebody must not."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx2
import pytest
from sqlalchemy import text

from gateway.policy.roles import Role
from gateway.store.database import write_session
from gateway.store.sealing import Sealer, rotate
from tests.integration.api.served import OWNER_PASSWORD, ServedApi
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, identity_provider

START = "/api/v1/sign-on/start?provider=corp"
ACCOUNTS: dict[str, dict[str, Any]] = {
    "s-ann": {"preferred_username": "ann", "groups": ["staff", "platform"]},
    "s-bob": {"preferred_username": "bob", "groups": ["staff"]},
    "s-eve": {"preferred_username": "eve", "groups": ["visitors"]},
    "s-root": {"preferred_username": "admin", "groups": ["platform"]},
}
RULES = [
    {"group": "platform", "role": "operator"},
    {"group": "staff", "role": "team-member", "team": "search"},
]


@pytest.fixture
def owner(api: ServedApi) -> Iterator[httpx2.Client]:
    with api.client() as client:
        client.post("/api/v1/teams", json={"name": "search"}).raise_for_status()
        client.put("/api/v1/sign-on", json={"rules": RULES}).raise_for_status()
        yield client


@pytest.fixture
def corp(api: ServedApi, owner: httpx2.Client) -> Iterator[IdentityProvider]:
    with identity_provider(api.url, accounts=ACCOUNTS) as provider:
        owner.post("/api/v1/sign-on/providers", json=document(provider.url)).raise_for_status()
        yield provider


def document(issuer: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "corp",
        "label": "Example Corp",
        "issuer": issuer,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "scopes": "openid profile email groups",
        **more,
    }


def sign_in(api: ServedApi, corp: IdentityProvider, login: str, browser: httpx2.Client) -> httpx2.Response:
    return browser.get(corp.sign_in(browser, api.url + START, login))


def with_query(url: str, **changed: str | None) -> str:
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **changed}
    return urlunsplit(parts._replace(query=urlencode({name: value for name, value in query.items() if value})))


def entries(owner: httpx2.Client, **asked: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = owner.get("/api/v1/audit", params=asked).json()["items"]
    return items


def test_who_is_in_a_group_comes_in_with_its_role(api: ServedApi, owner: httpx2.Client, corp: IdentityProvider) -> None:
    with api.bare_client() as browser:
        answer = sign_in(api, corp, "s-ann", browser)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/")
        me = browser.get("/api/v1/session").json()
        assert (me["username"], me["role"], me["method"]) == ("ann", "operator", "sign-on")
    with api.bare_client() as browser:
        sign_in(api, corp, "s-bob", browser)
        me = browser.get("/api/v1/session").json()
        assert (me["username"], me["role"], me["team"]) == ("bob", "team-member", "search")
    ann = owner.get("/api/v1/users/ann").json()
    assert (ann["source"], ann["provider"]) == ("sign-on", "Example Corp")
    assert owner.get("/api/v1/users/admin").json()["source"] == "local"
    created = entries(owner, kind="user", name="ann")[0]
    assert (created["actor"], created["after"]["role"], created["origin"]) == ("sign-on:corp", "operator", "127.0.0.1")
    assert owner.get("/api/v1/sign-on/providers/corp").json()["users"] == 2


def test_the_page_that_was_asked_for_is_led_to_and_no_other_place(api: ServedApi, corp: IdentityProvider) -> None:
    for asked, led in (
        ("/console/routes?range=7d", "/console/routes?range=7d"),
        ("https://evil.example", "/console/"),
        ("//evil.example/console/", "/console/"),
        ("/console\\evil", "/console/"),
    ):
        with api.bare_client() as browser:
            start = f"{api.url}{START}&{urlencode({'next': asked})}"
            assert browser.get(corp.sign_in(browser, start, "s-ann")).headers["location"] == led


def test_nobody_comes_in_whom_no_group_admits(api: ServedApi, owner: httpx2.Client, corp: IdentityProvider) -> None:
    with api.bare_client() as browser:
        answer = sign_in(api, corp, "s-eve", browser)
        assert answer.status_code == 403
        assert answer.headers["content-type"].startswith("text/html")
        assert "none of your groups may use this gateway" in answer.text
        assert "visitors" in answer.text
        assert browser.get("/api/v1/session").status_code == 401
    assert owner.get("/api/v1/users/eve").status_code == 404
    refused = entries(owner, kind="session", action="refuse")[0]
    assert refused["after"] == {"provider": "corp", "person": "eve", "reason": "not_admitted"}
    owner.put("/api/v1/sign-on", json={"rules": RULES, "default": {"role": "viewer"}}).raise_for_status()
    with api.bare_client() as browser:
        sign_in(api, corp, "s-eve", browser)
        assert browser.get("/api/v1/session").json()["role"] == "viewer"


def test_another_group_is_another_role_at_the_next_sign_in(
    api: ServedApi, owner: httpx2.Client, corp: IdentityProvider
) -> None:
    with api.bare_client() as first, api.bare_client() as second, api.bare_client() as third:
        sign_in(api, corp, "s-bob", first)
        corp.has(**{"s-bob": {"preferred_username": "robert", "groups": ["platform"]}})
        sign_in(api, corp, "s-bob", second)
        me = second.get("/api/v1/session").json()
        assert (me["username"], me["role"], me["team"]) == ("bob", "operator", None)  # the same person by the subject
        assert first.get("/api/v1/session").status_code == 401, "what was begun with the former role has ended"
        corp.has(**{"s-bob": {"preferred_username": "bob", "groups": []}})
        assert sign_in(api, corp, "s-bob", third).status_code == 403
        assert second.get("/api/v1/session").status_code == 401, "nobody stays in whom no group admits any more"
    update = entries(owner, kind="user", name="bob", action="update")[0]
    assert (update["before"]["role"], update["after"]["role"]) == ("team-member", "operator")


def test_a_local_account_is_nobodys_by_its_name(api: ServedApi, owner: httpx2.Client, corp: IdentityProvider) -> None:
    with api.bare_client() as browser:
        answer = sign_in(api, corp, "s-root", browser)
        assert answer.status_code == 403
        assert "there is an account admin here already" in answer.text.lower().replace("there", "there")
        assert browser.get("/api/v1/session").status_code == 401
    assert owner.get("/api/v1/users/admin").json()["role"] == "owner"


def test_a_disabled_user_stays_out(api: ServedApi, owner: httpx2.Client, corp: IdentityProvider) -> None:
    with api.bare_client() as browser:
        sign_in(api, corp, "s-ann", browser)
        owner.patch("/api/v1/users/ann", json={"disabled": True}).raise_for_status()
        assert browser.get("/api/v1/session").status_code == 401
        answer = sign_in(api, corp, "s-ann", browser)
        assert answer.status_code == 403
        assert "disabled" in answer.text


def test_what_a_provider_manages_is_not_changed_here(
    api: ServedApi, owner: httpx2.Client, corp: IdentityProvider
) -> None:
    with api.bare_client() as browser:
        sign_in(api, corp, "s-ann", browser)
    for change in ({"role": "viewer"}, {"password": "a way around it"}):
        refused = owner.patch("/api/v1/users/ann", json=change)
        assert refused.status_code == 409
        assert "provider" in refused.json()["detail"]
    assert owner.patch("/api/v1/users/ann", json={"disabled": True}).status_code == 200


def test_an_answer_is_good_once_and_in_the_browser_that_asked(api: ServedApi, corp: IdentityProvider) -> None:
    with api.bare_client() as victim, api.bare_client() as other:
        back = corp.sign_in(victim, api.url + START, "s-ann")
        assert other.get(back).status_code == 400, "another browser did not begin this"
        assert victim.get(with_query(back, state="x" * 43)).status_code == 400
        assert victim.get(with_query(back, state=None)).status_code == 400
        assert other.get("/api/v1/session").status_code == 401
    with api.bare_client() as browser:
        back = corp.sign_in(browser, api.url + START, "s-ann")
        kept = dict(browser.cookies)
        assert browser.get(back).status_code == 303
        assert browser.get(back).status_code == 400, "its cookie is gone"
    with api.bare_client(cookies=kept) as again:
        answer = again.get(back)
        assert answer.status_code == 400
        assert "used already" in answer.text
        assert again.get("/api/v1/session").status_code == 401


def test_a_state_of_other_signs_is_refused(api: ServedApi, corp: IdentityProvider) -> None:
    with api.bare_client() as browser:
        back = with_query(corp.sign_in(browser, api.url + START, "s-ann"), state="é")
        assert browser.get(back).status_code == 400


def test_a_mixed_up_answer_is_refused(api: ServedApi, corp: IdentityProvider) -> None:
    """RFC 9207: the provider says whose answer it is."""
    for iss in ("https://other.example", None):
        with api.bare_client() as browser:
            back = corp.sign_in(browser, api.url + START, "s-ann")
            assert dict(parse_qsl(urlsplit(back).query))["iss"] == corp.url
            answer = browser.get(with_query(back, iss=iss))
            assert answer.status_code == 401
            assert "another provider" in answer.text


FORGED: dict[str, dict[str, Any]] = {
    "nonce": {"claims": {"nonce": "of another sign-in"}},
    "no nonce": {"without": ["nonce"]},
    "audience": {"claims": {"aud": "another-client"}},
    "audiences without us": {"claims": {"aud": ["another-client", "a-third"], "azp": "another-client"}},
    "authorized party": {"claims": {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"}},
    "issuer": {"claims": {"iss": "https://other.example"}},
    "expired": {"claims": {"exp": 1_700_000_000}},
    "no expiry": {"without": ["exp"]},
    "from the future": {"claims": {"iat": 4_000_000_000, "nbf": 4_000_000_000}},
    "no subject": {"without": ["sub"]},
    "access token of another": {"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
    "not signed": {"alg": "none"},
    "signed by the shared secret": {"alg": "HS256"},
    "signed by another key": {"strange": True},
}


def test_no_forged_token_lets_anybody_in(sqlite_api: ServedApi) -> None:
    api = sqlite_api
    with api.client() as owner, identity_provider(api.url, accounts=ACCOUNTS) as corp:
        owner.put("/api/v1/sign-on", json={"rules": RULES[:1]}).raise_for_status()
        owner.post("/api/v1/sign-on/providers", json=document(corp.url)).raise_for_status()
        for what, how in FORGED.items():
            corp.tell(tamper=how)
            with api.bare_client() as browser:
                answer = sign_in(api, corp, "s-ann", browser)
                assert (what, answer.status_code) == (what, 401)
                assert "ID token is not good" in answer.text, what
                assert browser.get("/api/v1/session").status_code == 401, what
        assert owner.get("/api/v1/users/ann").status_code == 404
        corp.tell(tamper={})  # signed again as it is: the forging itself is no reason to be refused
        with api.bare_client() as browser:
            assert sign_in(api, corp, "s-ann", browser).status_code == 303


def test_new_keys_are_taken_at_once_and_old_ones_no_more(api: ServedApi, corp: IdentityProvider) -> None:
    with api.bare_client() as browser:
        assert sign_in(api, corp, "s-ann", browser).status_code == 303
    corp.tell(rotate=True)
    with api.bare_client() as browser:
        assert sign_in(api, corp, "s-ann", browser).status_code == 303


def test_groups_may_stand_in_the_userinfo_alone(api: ServedApi, owner: httpx2.Client) -> None:
    with identity_provider(api.url, accounts=ACCOUNTS, userinfo_only=True) as corp:
        owner.post("/api/v1/sign-on/providers", json=document(corp.url)).raise_for_status()
        with api.bare_client() as browser:
            sign_in(api, corp, "s-ann", browser)
            assert browser.get("/api/v1/session").json()["role"] == "operator"


def test_who_goes_away_at_the_provider_is_told_so(api: ServedApi, corp: IdentityProvider) -> None:
    with api.bare_client() as browser:
        answer = sign_in(api, corp, "", browser)
        assert answer.status_code == 401
        assert "access_denied: the person went away" in answer.text


def test_words_of_the_provider_are_text_and_never_markup(api: ServedApi, corp: IdentityProvider) -> None:
    with api.bare_client() as browser:
        back = corp.sign_in(browser, api.url + START, "s-ann")
        answer = browser.get(with_query(back, code=None, error="<script>alert(1)</script>"))
        assert answer.status_code == 401
        assert "<script" not in answer.text
        assert "&lt;script" in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_provider_that_is_down_is_told_on_the_sign_in_page(
    api: ServedApi, owner: httpx2.Client, unused_port: int
) -> None:
    owner.post("/api/v1/sign-on/providers", json=document(f"http://127.0.0.1:{unused_port}")).raise_for_status()
    with api.bare_client() as browser:
        answer = browser.get(f"{START}&next=/console/routes")
        assert answer.status_code == 303
        assert answer.headers["location"] == (
            "/console/login?problem=sign_on_provider_away&provider=corp&next=%2Fconsole%2Froutes"
        )
        assert (
            browser.get("/api/v1/sign-on/start?provider=nobody")
            .headers["location"]
            .startswith("/console/login?problem=not_found")
        )


def test_signing_out_ends_both_sessions(api: ServedApi, corp: IdentityProvider) -> None:
    with api.bare_client() as browser:
        sign_in(api, corp, "s-ann", browser)
        answer = browser.post("/api/v1/sign-on/sign-out", headers={"origin": api.url})
        url = answer.json()["url"]
        assert url.startswith(f"{corp.url}/session/end?")
        asked = dict(parse_qsl(urlsplit(url).query))
        assert asked["post_logout_redirect_uri"] == f"{api.url}/console/login"
        assert browser.get("/api/v1/session").status_code == 401
        page = browser.get(url)
        assert page.status_code == 200, page.text  # the provider takes the hint, and asks
    with api.bare_client() as local:
        local.post("/api/v1/session", json={"username": "admin", "password": OWNER_PASSWORD}).raise_for_status()
        assert local.post("/api/v1/sign-on/sign-out", headers={"origin": api.url}).json() == {"url": None}
        assert local.get("/api/v1/session").status_code == 401


def test_id_tokens_are_kept_sealed_and_go_with_the_key(
    api: ServedApi, owner: httpx2.Client, corp: IdentityProvider
) -> None:
    with api.bare_client() as browser:
        sign_in(api, corp, "s-ann", browser)
        with api.engine.connect() as connection:
            row = connection.execute(text("SELECT * FROM sign_on_session")).mappings().one()
        kept = b"".join(bytes(value) if isinstance(value, bytes | memoryview) else b"" for value in row.values())
        assert len(kept) > 200, "there is one"
        shown = " ".join(str(value) for value in row.values())
        for text_of_it in (kept, shown.encode()):
            assert b"eyJ" not in text_of_it, "a JSON Web Token begins so"
        old = api.app.state.services.sealer
        new = Sealer(lambda: [b"n" * 32, *old._read_keys()])
        with write_session(api.engine) as session:
            assert rotate(session, old, new, "cli:tests") == 2, "the client's secret, and this"
        vars(api.app.state.services)["sealer"] = new
        url = browser.post("/api/v1/sign-on/sign-out", headers={"origin": api.url}).json()["url"]
        hint = dict(parse_qsl(urlsplit(url).query))["id_token_hint"]
        assert hint.startswith("eyJ")
        assert browser.get(url).status_code == 200, "the provider takes it"


def test_a_provider_that_is_turned_off_or_removed_lets_nobody_stay(
    api: ServedApi, owner: httpx2.Client, corp: IdentityProvider
) -> None:
    with api.bare_client() as browser:
        sign_in(api, corp, "s-ann", browser)
        owner.patch("/api/v1/sign-on/providers/corp", json={"enabled": False}).raise_for_status()
        assert browser.get("/api/v1/session").status_code == 401
        assert browser.get("/api/v1/sign-on/options").json()["providers"] == []
        assert "problem=not_found" in browser.get(START).headers["location"]
        owner.patch("/api/v1/sign-on/providers/corp", json={"enabled": True}).raise_for_status()
        sign_in(api, corp, "s-ann", browser)
        assert browser.get("/api/v1/session").status_code == 200
        assert owner.delete("/api/v1/sign-on/providers/corp").status_code == 204
        assert browser.get("/api/v1/session").status_code == 401


def test_passwords_may_be_for_owners_only_but_owners_always_get_in(
    api: ServedApi, owner: httpx2.Client, corp: IdentityProvider
) -> None:
    owner.post("/api/v1/users", json={"name": "op", "role": "operator", "password": "sesame sesame"}).raise_for_status()

    def attempt(name: str, password: str) -> httpx2.Response:
        with api.bare_client() as browser:
            return browser.post("/api/v1/session", json={"username": name, "password": password})

    assert attempt("op", "sesame sesame").status_code == 201
    owner.put("/api/v1/sign-on", json={"rules": RULES, "passwords": "owners"}).raise_for_status()
    refused = attempt("op", "sesame sesame")
    assert refused.status_code == 403
    assert "owners only" in refused.json()["detail"]
    assert attempt("admin", OWNER_PASSWORD).status_code == 201
    with api.bare_client() as browser:
        assert browser.get("/api/v1/sign-on/options").json() == {
            "providers": [{"name": "corp", "label": "Example Corp"}],
            "passwords": "owners",
        }
    owner.patch("/api/v1/sign-on/providers/corp", json={"enabled": False}).raise_for_status()
    assert attempt("op", "sesame sesame").status_code == 201, "with no provider there is no other way in"


def test_the_last_owner_is_not_demoted_by_groups(api: ServedApi, owner: httpx2.Client, corp: IdentityProvider) -> None:
    rules = [{"group": "platform", "role": "owner"}, *RULES[1:]]
    owner.put("/api/v1/sign-on", json={"rules": rules}).raise_for_status()
    with api.bare_client() as browser, api.client(Role.OWNER) as other:
        sign_in(api, corp, "s-ann", browser)
        assert other.delete("/api/v1/users/admin").status_code == 204
        corp.has(**{"s-ann": {"preferred_username": "ann", "groups": ["staff"]}})
        answer = sign_in(api, corp, "s-ann", browser)
        assert answer.status_code == 403
        assert "last owner" in answer.text
        assert other.get("/api/v1/users/ann").json()["role"] == "owner"


def test_the_test_says_what_is_wrong(api: ServedApi, owner: httpx2.Client, corp: IdentityProvider) -> None:
    def found(**changed: Any) -> dict[str, tuple[bool, str]]:
        if changed:
            owner.patch("/api/v1/sign-on/providers/corp", json=changed).raise_for_status()
        said = owner.post("/api/v1/sign-on/providers/corp/test").json()
        assert said["ok"] == all(each["ok"] for each in said["findings"])
        assert all((each["fix"] is None) == each["ok"] for each in said["findings"])
        return {each["what"]: (each["ok"], each["found"]) for each in said["findings"]}

    good = found()
    assert all(ok for ok, _ in good.values()), good
    assert set(good) == {
        "Discovery", "Authorization code", "PKCE", "Signatures", "Scopes", "Groups", "Signing out", "Keys", "Client",
        "Redirect URI",
    }  # fmt: skip
    assert "is registered" in good["Redirect URI"][1]
    assert found(client_secret="another")["Client"][0] is False
    assert found(client_secret=CLIENT_SECRET)["Client"][0] is True
    assert found(client_id="nobody")["Client"][0] is False
    scopes = found(client_id=CLIENT_ID, scopes="openid profile wardrobe")["Scopes"]
    assert scopes == (False, "it does not know wardrobe")
    wrong = found(scopes="openid", issuer=f"{corp.url}/")["Discovery"]
    assert wrong[0] is False
    assert "calls itself" in wrong[1]
    missing = found(issuer=f"{corp.url}/elsewhere")["Discovery"]
    assert missing == (False, f"{corp.url}/elsewhere/.well-known/openid-configuration answered 404")


def test_secrets_are_sealed_and_in_no_answer(api: ServedApi, owner: httpx2.Client, corp: IdentityProvider) -> None:
    assert CLIENT_SECRET not in owner.get("/api/v1/sign-on/providers/corp").text
    assert CLIENT_SECRET not in owner.get("/api/v1/audit", params={"limit": 1000}).text
    with api.engine.connect() as connection:
        sealed = connection.execute(text("SELECT sealed FROM sign_on_secret")).scalar_one()
    assert CLIENT_SECRET.encode() not in bytes(sealed)
    owner.patch("/api/v1/sign-on/providers/corp", json={"client_secret": None}).raise_for_status()
    assert owner.get("/api/v1/sign-on/providers/corp").json()["has_secret"] is False


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"issuer": "http://login.example.com"}, "issuer"),
        ({"issuer": "login.example.com"}, "issuer"),
        ({"issuer": "https://login.example.com/?tenant=1"}, "issuer"),
        ({"scopes": "profile email"}, "scopes"),
        ({"name": "a/b"}, "name"),
        ({"client_id": ""}, "client_id"),
    ],
)
def test_what_cannot_be_is_refused_by_field(owner: httpx2.Client, changed: dict[str, Any], field: str) -> None:
    answer = owner.post("/api/v1/sign-on/providers", json=document("https://login.example.com") | changed)
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == [field]


def test_rules_name_teams_that_exist_and_only_owners_change_them(api: ServedApi, owner: httpx2.Client) -> None:
    wrong = owner.put("/api/v1/sign-on", json={"rules": [{"group": "g", "role": "team-member", "team": "nowhere"}]})
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["field"] == "rules.0.team"
    read = owner.get("/api/v1/sign-on")
    assert read.json()["redirect_uri"] == f"{api.url}/api/v1/sign-on/callback"
    assert (
        owner.put("/api/v1/sign-on", json={"rules": []}, headers={"if-match": read.headers["etag"]}).status_code == 200
    )
    assert (
        owner.put("/api/v1/sign-on", json={"rules": []}, headers={"if-match": read.headers["etag"]}).status_code == 412
    )
    with api.client(Role.ADMIN) as admin:
        assert admin.get("/api/v1/sign-on").status_code == 200
        assert admin.put("/api/v1/sign-on", json={"rules": [{"group": "me", "role": "owner"}]}).status_code == 403
        assert admin.post("/api/v1/sign-on/providers", json=document("https://evil.example")).status_code == 403


def test_where_a_provider_leads_is_known_to_the_guard(
    api: ServedApi, owner: httpx2.Client, corp: IdentityProvider
) -> None:
    from gateway.store import sign_on
    from gateway.store.database import read_session

    with api.bare_client() as browser:
        sign_in(api, corp, "s-ann", browser)
    with read_session(api.engine) as session:
        found = sign_on.urls(session)
    assert found[0] == corp.url
    assert f"{corp.url}/token" in found
    assert re.search(r"/jwks", " ".join(found))
