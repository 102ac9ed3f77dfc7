"""What belongs to another team does not exist: 404, absent from lists, and not to be guessed from an error."""

import httpx2
import pytest

from gateway.policy.roles import Role
from tests.integration.api.served import ServedApi


@pytest.fixture
def gateway(api: ServedApi) -> ServedApi:
    """Two teams with an app, a key, a route of their own and a limit each."""
    with api.client() as owner:
        provider = {"name": "vendor", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}
        owner.post("/api/v1/providers", json=provider).raise_for_status()
        for team in ("search", "ads"):
            for path, body in [
                ("routes", {"name": f"{team}-route", "targets": [{"provider": "vendor", "model": "m"}]}),
                ("teams", {"name": team}),
                ("apps", {"name": f"{team}-app", "team": team, "routes": [f"{team}-route"]}),
                ("keys", {"name": f"{team}-key", "app": f"{team}-app"}),
                (
                    "limits",
                    {
                        "name": f"{team}-limit",
                        "scope": {"app": f"{team}-app"},
                        "metric": "requests",
                        "window": "day",
                        "at_most": 10,
                    },
                ),
            ]:
                owner.post(f"/api/v1/{path}", json=body).raise_for_status()
    return api


OTHERS = [
    "/api/v1/teams/ads",
    "/api/v1/apps/ads-app",
    "/api/v1/keys/ads-key",
    "/api/v1/keys/ads-app%2Fads-key",
    "/api/v1/routes/ads-route",
    "/api/v1/limits/ads-limit",
    "/api/v1/limits/ads-limit/state",
]


@pytest.mark.parametrize("role", [Role.TEAM_ADMIN, Role.TEAM_MEMBER])
def test_others_things_look_like_nothing(gateway: ServedApi, role: Role) -> None:
    with gateway.client(role, "search") as member, gateway.client() as owner:
        for path in OTHERS:
            theirs, nothing = member.get(path), member.get(path.replace("ads", "zzz"))
            assert theirs.status_code == nothing.status_code == 404
            assert theirs.json()["detail"].replace("ads", "zzz") == nothing.json()["detail"]
        for path in ("teams", "apps", "keys", "routes", "limits"):
            page = member.get(f"/api/v1/{path}")
            assert page.status_code == 200
            assert "ads" not in page.text
            assert [item["name"] for item in page.json()["items"]] == [
                item["name"] for item in owner.get(f"/api/v1/{path}").json()["items"] if "search" in item["name"]
            ]
        number = owner.get("/api/v1/keys/ads-key").json()["id"]
        assert member.get(f"/api/v1/keys/{number}").status_code == 404
        assert member.delete(f"/api/v1/keys/{number}").status_code == 404
        assert member.post(f"/api/v1/keys/{number}/rotate").status_code == 404
        assert member.patch(f"/api/v1/keys/{number}", json={"name": "mine"}).status_code == 404
        theirs = member.post("/api/v1/keys", json={"app": "ads-app", "name": "x"})
        nothing = member.post("/api/v1/keys", json={"app": "zzz-app", "name": "x"})
        assert theirs.status_code == nothing.status_code == 422
        assert theirs.json()["detail"].replace("ads", "zzz") == nothing.json()["detail"]


def test_a_member_makes_rotates_and_revokes_own_keys(gateway: ServedApi) -> None:
    with gateway.client(Role.TEAM_MEMBER, "search") as member:
        made = member.post("/api/v1/keys", json={"app": "search-app", "name": "laptop"})
        assert made.status_code == 201
        assert member.post("/api/v1/keys/laptop/rotate").json()["key"] != made.json()["key"]
        assert member.delete("/api/v1/keys/laptop").status_code == 204
        assert member.post("/api/v1/apps", json={"name": "new", "team": "search"}).status_code == 403


def test_a_team_admin_manages_apps_within_the_routes_of_the_team(gateway: ServedApi) -> None:
    with gateway.client(Role.TEAM_ADMIN, "search") as admin:
        made = admin.post("/api/v1/apps", json={"name": "search.second", "team": "search", "routes": ["search-route"]})
        assert made.status_code == 201
        assert admin.patch("/api/v1/apps/search.second", json={"routes": []}).status_code == 200
        for routes in ("*", ["ads-route"]):
            assert admin.patch("/api/v1/apps/search.second", json={"routes": routes}).status_code in (403, 422)
        assert admin.patch("/api/v1/apps/search.second", json={"team": "ads"}).status_code == 422
        assert admin.post("/api/v1/apps", json={"name": "search.third", "team": "ads"}).status_code == 422
        assert admin.delete("/api/v1/apps/search.second").status_code == 204
        assert admin.delete("/api/v1/apps/ads-app").status_code == 404


def test_routes_of_others_cannot_be_guessed_by_granting_them(gateway: ServedApi) -> None:
    with gateway.client(Role.TEAM_ADMIN, "search") as admin:
        theirs = admin.post("/api/v1/apps", json={"name": "search.x", "team": "search", "routes": ["ads-route"]})
        nothing = admin.post("/api/v1/apps", json={"name": "search.x", "team": "search", "routes": ["zzz-route"]})
        assert theirs.status_code == nothing.status_code
        assert theirs.json()["detail"].replace("ads", "zzz") == nothing.json()["detail"]


@pytest.mark.settings(team_names="prefixed")
@pytest.mark.parametrize(
    ("path", "own", "body"),
    [
        ("apps", "search-app", {"team": "search"}),
        ("users", "ann", {"role": "team-member", "team": "search", "password": "long enough to be good"}),
        ("tokens", "of-search", {"role": "team-member", "team": "search"}),
    ],
)
def test_no_answer_tells_whether_another_team_has_a_name(
    gateway: ServedApi, path: str, own: str, body: dict[str, str]
) -> None:
    """Names are one space for all teams: with `team_names = "prefixed"` a team's own begin with its name."""
    with gateway.client() as owner, gateway.client(Role.TEAM_ADMIN, "search") as admin:
        if path != "apps":
            owner.post(f"/api/v1/{path}", json={**body, "name": own}).raise_for_status()
            owner.post(f"/api/v1/{path}", json={**body, "name": "ads-app", "team": "ads"}).raise_for_status()

        def tried(name: str) -> list[tuple[int, str]]:
            """Making one, and giving the name to one that is there."""
            answers = [
                admin.post(f"/api/v1/{path}", json={**body, "name": name}),
                admin.patch(f"/api/v1/{path}/{own}", json={"name": name}),
            ]
            return [
                (each.status_code, str([each.json()["detail"], each.json()["errors"]]).replace(name, "NAME"))
                for each in answers
            ]

        assert tried("ads-app") == tried("zzz-app")
        assert [status for status, _ in tried("ads-app")] == [422, 422]
        # Its own names are no secret to it, and those that it gives are free but for its own.
        assert admin.post(f"/api/v1/{path}", json={**body, "name": own}).status_code == 409
        assert admin.post(f"/api/v1/{path}", json={**body, "name": "search.one"}).status_code == 201
        assert admin.post(f"/api/v1/{path}", json={**body, "name": "search.one"}).status_code == 409
        assert admin.patch(f"/api/v1/{path}/{own}", json={"name": "search.two"}).status_code == 200


def test_a_teams_people_name_as_they_like_unless_told_otherwise(gateway: ServedApi) -> None:
    with gateway.client(Role.TEAM_ADMIN, "search") as admin:
        assert admin.get("/api/v1/session").json()["names_begin_with"] == ""
        assert admin.post("/api/v1/apps", json={"name": "crawler", "team": "search"}).status_code == 201
        token = {"name": "of-ci", "role": "team-member", "team": "search"}
        assert admin.post("/api/v1/tokens", json=token).status_code == 201
        taken = admin.post("/api/v1/apps", json={"name": "ads-app", "team": "search"})
        assert taken.status_code == 409


def test_a_limit_of_the_team_is_seen_and_not_changed(gateway: ServedApi) -> None:
    with gateway.client(Role.TEAM_ADMIN, "search") as admin:
        assert admin.get("/api/v1/limits/search-limit").json()["at_most"] == 10
        assert admin.patch("/api/v1/limits/search-limit", json={"at_most": 99}).status_code == 403


def test_wide_limits_are_not_shown_to_teams(gateway: ServedApi) -> None:
    with gateway.client() as owner, gateway.client(Role.TEAM_MEMBER, "search") as member:
        everything = {"name": "all", "scope": {}, "metric": "requests", "window": "day", "at_most": 10}
        owner.post("/api/v1/limits", json=everything).raise_for_status()
        assert member.get("/api/v1/limits/all").status_code == 404


def test_a_member_whose_team_is_gone_is_gone(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        owner.post("/api/v1/teams", json={"name": "brief"}).raise_for_status()
        with gateway.client(Role.TEAM_MEMBER, "brief") as member:
            assert member.get("/api/v1/teams").status_code == 200
            for token in owner.get("/api/v1/tokens").json()["items"]:
                if token["team"] == "brief":
                    owner.delete(f"/api/v1/tokens/{token['id']}").raise_for_status()
            owner.delete("/api/v1/teams/brief").raise_for_status()
            assert member.get("/api/v1/teams").status_code == 401


def test_no_two_teams_see_each_others_totals(gateway: ServedApi) -> None:
    with gateway.client(Role.TEAM_MEMBER, "search") as member:
        for path in ("/api/v1/providers", "/api/v1/users", "/api/v1/audit", "/api/v1/interception"):
            assert isinstance(member, httpx2.Client)
            assert member.get(path).status_code == 403
