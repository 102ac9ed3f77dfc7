"""Users and tokens: who may make, see, change and remove whom."""

from collections.abc import Iterator

import httpx2
import pytest

from gateway.policy.roles import Role
from tests.integration.api.served import ServedApi


@pytest.fixture
def owner(api: ServedApi) -> Iterator[httpx2.Client]:
    with api.client() as client:
        for team in ("search", "ads"):
            client.post("/api/v1/teams", json={"name": team}).raise_for_status()
        yield client


def test_a_user_is_made_read_changed_and_removed(api: ServedApi, owner: httpx2.Client) -> None:
    made = owner.post("/api/v1/users", json={"name": "eve", "role": "viewer"})
    assert made.status_code == 201
    assert made.headers["etag"] == '"1"'
    password = made.json()["password"]
    with api.bare_client() as eve:
        assert eve.post("/api/v1/session", json={"username": "eve", "password": password}).status_code == 201
        renamed = owner.patch("/api/v1/users/eve", json={"name": "eva"}, headers={"if-match": '"1"'})
        assert renamed.json()["name"] == "eva"
        assert eve.get("/api/v1/session").json()["username"] == "eva"
        owner.patch("/api/v1/users/eva", json={"role": "team-member", "team": "ads"}).raise_for_status()
        assert eve.get("/api/v1/session").status_code == 401  # a new role is a new sign-in
    assert owner.get("/api/v1/users/eva").json()["team"] == "ads"
    assert "password" not in owner.get("/api/v1/users/eva").text
    assert owner.delete("/api/v1/users/eva", headers={"if-match": '"1"'}).status_code == 412
    assert owner.delete("/api/v1/users/eva").status_code == 204
    assert owner.get("/api/v1/users/eva").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "role": "team-member"}, "team"),
        ({"name": "x", "role": "team-member", "team": "nowhere"}, "team"),
        ({"name": "x", "role": "viewer", "team": "ads"}, "team"),
        ({"name": "x", "role": "viewer", "password": "short"}, "password"),
        ({"name": "12", "role": "viewer"}, "name"),
        ({"name": "x", "role": "emperor"}, "role"),
        ({"name": "x", "role": "viewer", "rank": 1}, "rank"),
    ],
)
def test_bad_users_are_refused_by_field(owner: httpx2.Client, body: dict[str, object], field: str) -> None:
    answer = owner.post("/api/v1/users", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert answer.json()["errors"][0]["remedy"]
    assert "short" not in answer.json()["detail"] or field != "password" or "'short'" not in answer.text


def test_the_last_owner_stays(owner: httpx2.Client) -> None:
    assert owner.delete("/api/v1/users/admin").status_code == 409
    assert owner.patch("/api/v1/users/admin", json={"role": "viewer"}).status_code == 409
    assert owner.patch("/api/v1/users/admin", json={"disabled": True}).status_code == 409
    owner.post("/api/v1/users", json={"name": "second", "role": "owner", "disabled": True}).raise_for_status()
    assert owner.delete("/api/v1/users/admin").status_code == 409  # a disabled owner cannot sign in
    owner.patch("/api/v1/users/second", json={"disabled": False}).raise_for_status()
    assert owner.delete("/api/v1/users/admin").status_code == 204


def test_nobody_hands_on_more_than_they_have(api: ServedApi, owner: httpx2.Client) -> None:
    for role, may_make in [
        (Role.ADMIN, {"admin", "operator", "viewer"}),
        (Role.OPERATOR, set()),
        (Role.VIEWER, set()),
    ]:
        with api.client(role) as client:
            made = {
                wanted
                for wanted in ("owner", "admin", "operator", "viewer")
                if client.post("/api/v1/tokens", json={"role": wanted}).status_code == 201
            }
            assert made == may_make
    with api.client(Role.ADMIN) as admin:
        assert admin.get("/api/v1/users/admin").status_code == 404  # the owner does not exist for an admin
        assert admin.patch("/api/v1/users/admin", json={"password": "taken over now"}).status_code == 404
        made = admin.post("/api/v1/users", json={"name": "op", "role": "operator"})
        assert made.status_code == 201
        assert admin.patch("/api/v1/users/op", json={"role": "owner"}).status_code == 403


def test_a_team_admin_sees_and_makes_members_of_the_own_team_only(api: ServedApi, owner: httpx2.Client) -> None:
    for name, team in (("ann", "search"), ("bob", "ads")):
        owner.post("/api/v1/users", json={"name": name, "role": "team-member", "team": team}).raise_for_status()
    with api.client(Role.TEAM_ADMIN, "search") as admin:
        assert [user["name"] for user in admin.get("/api/v1/users").json()["items"]] == ["ann"]
        assert admin.get("/api/v1/users/bob").status_code == 404
        assert admin.delete("/api/v1/users/bob").status_code == 404
        assert admin.patch("/api/v1/users/ann", json={"team": "ads"}).status_code == 422
        assert admin.patch("/api/v1/users/ann", json={"role": "operator", "team": None}).status_code == 403
        elsewhere = admin.post("/api/v1/tokens", json={"role": "team-member", "team": "ads"})
        nowhere = admin.post("/api/v1/tokens", json={"role": "team-member", "team": "no such team"})
        assert elsewhere.status_code == nowhere.status_code == 422
        assert elsewhere.json()["detail"].replace("ads", "") == nowhere.json()["detail"].replace("no such team", "")
        assert admin.post("/api/v1/tokens", json={"role": "team-member", "team": "search"}).status_code == 201
        assert all(token["team"] == "search" for token in admin.get("/api/v1/tokens").json()["items"])


@pytest.mark.parametrize("kind", ["users", "tokens"])
def test_lists_are_paged_by_cursor(owner: httpx2.Client, kind: str) -> None:
    before = [each["name"] for each in owner.get(f"/api/v1/{kind}").json()["items"]]
    names = [f"some-{number:02}" for number in range(7 - len(before))]
    for name in names:
        more = {"password": "long enough"} if kind == "users" else {}
        owner.post(f"/api/v1/{kind}", json={"name": name, "role": "viewer", **more}).raise_for_status()
    seen: list[str] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        page = owner.get(f"/api/v1/{kind}", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) <= 3
        seen += [each["name"] for each in page["items"]]
        cursor = page["next_cursor"]
        pages += 1
    assert seen == [*before, *names]
    assert pages == 3
    assert owner.get("/api/v1/users", params={"limit": 0}).status_code == 422
    assert owner.get("/api/v1/users", params={"limit": 1001}).status_code == 422
    assert owner.get("/api/v1/users", params={"cursor": "nonsense"}).status_code == 400


def test_a_dry_run_checks_everything_and_keeps_nothing(owner: httpx2.Client) -> None:
    tried = owner.post("/api/v1/users", json={"name": "ghost", "role": "viewer"}, params={"dry_run": True})
    assert tried.status_code == 201
    assert owner.get("/api/v1/users/ghost").status_code == 404
    taken = owner.post("/api/v1/users", json={"name": "admin", "role": "viewer"}, params={"dry_run": True})
    assert taken.status_code == 409
    audit = owner.get("/api/v1/audit").json()["items"]
    assert not [entry for entry in audit if entry["name"] == "ghost"]


def test_each_change_is_audited_without_secrets(owner: httpx2.Client) -> None:
    owner.post("/api/v1/users", json={"name": "eve", "role": "viewer", "password": "a secret of eve"})
    owner.patch("/api/v1/users/eve", json={"role": "operator"})
    token = owner.post("/api/v1/tokens", json={"role": "viewer", "name": "ci"}).json()["token"]
    owner.delete("/api/v1/users/eve")
    answer = owner.get("/api/v1/audit", params={"kind": "user", "name": "eve"})
    assert [entry["action"] for entry in answer.json()["items"]] == ["delete", "update", "create"]
    changed = answer.json()["items"][1]
    assert changed["before"]["role"] == "viewer"
    assert changed["after"]["role"] == "operator"
    everything = owner.get("/api/v1/audit", params={"limit": 1000}).text
    assert "a secret of eve" not in everything
    assert token not in everything
    assert "argon2" not in everything
