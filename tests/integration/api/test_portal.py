"""The portal by REST: the catalogue as each sees it, requests for access from wish to end, keys that overlap."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from gateway.policy.roles import Authority, Role
from gateway.settings import Settings
from gateway.store import access
from gateway.store.access import AccessRequests
from gateway.store.compiler import compile_snapshot
from gateway.store.config.editing import Editing
from gateway.store.contacts import Contacts
from gateway.store.database import read_session, write_session
from gateway.store.portal_models import AccessRequest
from tests.integration.api.served import ServedApi

YAML = """
providers:
  - {name: vendor, dialect: openai, base_url: "http://127.0.0.1:9/v1"}
  - {name: crm, dialect: http, base_url: "http://127.0.0.1:9"}
routes:
  - name: chat
    targets: [{provider: vendor, model: gpt-x}]
    service:
      title: Chat
      description: "General chat.\\n\\nFor everyone."
      owner: ai-platform@example.com
      documentation: https://wiki.example.com/chat
      access: open
  - {name: embed, targets: [{provider: vendor, model: embed-x}]}
  - {name: draft, targets: [{provider: vendor, model: draft-x}], service: {access: team-admin}}
  - {name: internal, targets: [{provider: vendor, model: i}], service: {access: closed, owner: Mia}}
  - {name: ads-only, targets: [{provider: vendor, model: a}], service: {teams: [ads]}}
  - {name: crm, match: {path: /v2/}, targets: [{provider: crm}]}
teams:
  - {name: search, apps: [{name: indexer, routes: [embed]}]}
  - {name: ads, apps: [{name: banner, routes: []}]}
limits:
  - {name: search-month, scope: {team: search}, metric: cost_usd, window: month, at_most: 50}
  - {name: ads-day, scope: {team: ads}, metric: requests, window: day, at_most: 7}
  - {name: chat-minute, scope: {route: chat}, metric: requests, window: minute, at_most: 600}
  - {name: everything, scope: {}, metric: cost_usd, window: month, at_most: 5000}
"""

TEAM_ROLES = (Role.TEAM_MEMBER, Role.TEAM_ADMIN)


class People:
    """Clients of the roles that the tests speak as."""

    def __init__(self, api: ServedApi, stack: ExitStack) -> None:
        self.api = api
        self.owner = stack.enter_context(api.client())
        self.owner.post("/api/v1/apply", content=YAML).raise_for_status()
        self.operator = stack.enter_context(api.client(Role.OPERATOR))
        self.viewer = stack.enter_context(api.client(Role.VIEWER))
        self.member = stack.enter_context(api.client(Role.TEAM_MEMBER, "search"))
        self.admin = stack.enter_context(api.client(Role.TEAM_ADMIN, "search"))
        self.ads = stack.enter_context(api.client(Role.TEAM_ADMIN, "ads"))

    def allowed(self, app: str) -> Any:
        """Names of the routes that workers would let the app call."""
        with read_session(self.api.engine) as session:
            document = compile_snapshot(session, self.api.app.state.services.sealer)
        return {row[1]: row[4] for row in document["apps"]}.get(app)


@pytest.fixture
def people(api: ServedApi) -> Iterator[People]:
    with ExitStack() as stack:
        yield People(api, stack)


def asked(client: httpx2.Client, *routes: str, app: str = "indexer", **fields: Any) -> httpx2.Response:
    body = {"app": app, "routes": list(routes), "reason": "for the launch", **fields}
    return client.post("/api/v1/access-requests", json=body)


def made(client: httpx2.Client, *routes: str, **fields: Any) -> dict[str, Any]:
    answer = asked(client, *routes, **fields)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def decide(client: httpx2.Client, request: dict[str, Any], deed: str, **fields: Any) -> httpx2.Response:
    return client.post(f"/api/v1/access-requests/{request['id']}/{deed}", json=fields)


def catalogue(client: httpx2.Client, **query: str) -> dict[str, dict[str, Any]]:
    answer = client.get("/api/v1/catalogue", params=query)
    assert answer.status_code == 200, answer.text
    return {item["name"]: item for item in answer.json()["items"]}


# ---- the catalogue


def test_a_team_sees_services_and_nothing_of_others(people: People) -> None:
    seen = catalogue(people.member)
    assert set(seen) == {"chat", "embed", "draft", "internal", "crm"}
    assert set(catalogue(people.ads)) == set(seen) | {"ads-only"}
    assert people.member.get("/api/v1/catalogue/ads-only").status_code == 404
    assert people.member.get("/api/v1/catalogue", params={"team": "ads"}).status_code == 404
    assert "ads" not in people.member.get("/api/v1/catalogue").text.replace("threads", "")
    chat = seen["chat"]
    assert (chat["title"], chat["owner"], chat["access"]) == ("Chat", "ai-platform@example.com", "open")
    assert chat["description"] == "General chat.\n\nFor everyone."
    assert seen["embed"]["title"] == "embed"
    assert seen["embed"]["access"] == "approval"
    assert [each["app"] for each in seen["embed"]["apps"]] == ["indexer"]
    assert chat["apps"] == []
    assert chat["models"][0]["model"] == "gpt-x"
    # Its own limits by name, those of the route without, and the gateway's as a whole not at all.
    assert [(each["limit"], each["at_most"], each["this_route"]) for each in chat["limits"]] == [
        ("search-month", 50, False), (None, 600, True)
    ]  # fmt: skip


def test_the_platform_sees_all_and_what_a_team_sees(people: People) -> None:
    assert set(catalogue(people.viewer)) == {"chat", "embed", "draft", "internal", "ads-only", "crm"}
    assert catalogue(people.viewer)["ads-only"]["teams"] == ["ads"]
    assert set(catalogue(people.operator, team="search")) == {"chat", "embed", "draft", "internal", "crm"}
    assert set(catalogue(people.viewer, q="GENERAL chat")) == {"chat"}


def test_the_catalogue_is_paged(people: People) -> None:
    names, cursor = [], ""
    while True:
        page = people.member.get(
            "/api/v1/catalogue", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
        ).json()
        names += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == ["chat", "embed", "draft", "internal", "crm"]


def test_a_hidden_route_is_seen_by_whoever_may_call_it(people: People) -> None:
    people.owner.patch("/api/v1/apps/indexer", json={"routes": ["ads-only"]}).raise_for_status()
    found = catalogue(people.member)["ads-only"]
    assert found["teams"] == []
    assert people.member.get("/api/v1/routes/ads-only").json()["service"]["teams"] == []


def test_code_is_ready_in_each_dialect(people: People) -> None:
    chat = people.member.get("/api/v1/catalogue/chat").json()
    assert chat["base_url"] == people.api.url
    assert {(each["dialect"], each["language"]) for each in chat["examples"]} == {
        (dialect, language) for dialect in ("openai", "mistral") for language in ("curl", "python", "node")
    }
    for each in chat["examples"]:
        assert people.api.url in each["code"]
        assert "SLUICEGATE_KEY" in each["code"]
        assert "chat" in each["code"]
    crm = people.member.get("/api/v1/catalogue/crm").json()
    assert (crm["kind"], crm["match"]) == ("http", {"host": None, "path": "/v2/"})
    assert f"{people.api.url}/v2/" in crm["examples"][0]["code"]


def test_services_come_back_from_an_export_and_follow_a_renamed_team(people: People) -> None:
    text = people.owner.get("/api/v1/export").text
    assert "title: Chat" in text
    assert "teams:" in text
    assert people.owner.post("/api/v1/apply", content=text).json()["changes"] == []
    people.owner.patch("/api/v1/teams/ads", json={"name": "marketing"}).raise_for_status()
    assert people.owner.get("/api/v1/routes/ads-only").json()["service"]["teams"] == ["marketing"]
    cleared = people.owner.patch("/api/v1/routes/ads-only", json={"service": {"teams": None}}).json()
    assert cleared["service"]["teams"] is None
    bad = people.owner.patch("/api/v1/routes/chat", json={"service": {"teams": ["nobody"]}})
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["field"] == "service.teams.0"


@pytest.mark.parametrize(
    "service",
    [
        {"title": ""},
        {"title": "x" * 121},
        {"description": "x" * 4001},
        {"description": "bell \x07"},
        {"documentation": "javascript:alert(1)"},
        {"documentation": "https://user:secret@example.com"},
        {"access": "maybe"},
        {"teams": ["ads", "ads"]},
    ],
)
def test_what_people_read_is_checked(people: People, service: dict[str, Any]) -> None:
    assert people.owner.patch("/api/v1/routes/chat", json={"service": service}).status_code == 422


# ---- asking


def test_an_open_route_is_there_at_once(people: People) -> None:
    request = made(people.member, "chat")
    assert (request["state"], request["decided_by"]) == ("approved", None)
    assert people.allowed("indexer") == ["chat", "embed"]
    assert catalogue(people.member)["chat"]["apps"] == [
        {"app": "indexer", "expires_at": None, "request": request["id"]}
    ]
    app = people.member.get("/api/v1/apps/indexer").json()
    assert app["routes"] == ["embed"]
    assert [each["route"] for each in app["granted"]] == ["chat"]
    assert "chat" in [item["name"] for item in people.member.get("/api/v1/routes").json()["items"]]
    # What was granted is not the team's to hand on, and no document takes it away.
    assert people.admin.patch("/api/v1/apps/indexer", json={"routes": ["chat", "embed"]}).status_code == 403
    people.owner.post("/api/v1/apply", content=YAML, params={"prune": "true"}).raise_for_status()
    assert people.allowed("indexer") == ["chat", "embed"]


def test_the_owner_approves_and_the_app_is_made(people: People) -> None:
    request = made(people.member, "chat", "draft", "crm", app="search.crawler", new_app=True)
    assert request["state"] == "pending"
    assert request["new_app"]
    assert request["you_may"] == ["withdraw"]
    assert people.allowed("search.crawler") is None
    assert people.operator.get("/api/v1/access-requests/pending").json() == {"pending": 1}
    shown = people.operator.get(f"/api/v1/access-requests/{request['id']}").json()
    assert shown["you_may"] == ["approve", "deny", "withdraw"]
    until = datetime.now(UTC) + timedelta(days=30)
    approved = decide(people.operator, request, "approve", reason="welcome", expires_at=until.isoformat()).json()
    assert (approved["state"], approved["new_app"], approved["decision_reason"]) == ("approved", False, "welcome")
    assert datetime.fromisoformat(approved["expires_at"]) == until
    assert people.allowed("search.crawler") == ["chat", "crm", "draft"]
    key = people.member.post("/api/v1/keys", json={"app": "search.crawler", "name": "ci"})
    assert key.status_code == 201
    assert key.json()["key"].startswith("sk-sg-")
    assert people.operator.get("/api/v1/access-requests/pending").json() == {"pending": 0}
    kinds = [
        entry["action"]
        for entry in people.owner.get("/api/v1/audit", params={"kind": "access-request"}).json()["items"]
    ]
    assert kinds == ["approve", "create"]


def test_a_team_admin_decides_where_the_route_says_so(people: People) -> None:
    request = made(people.member, "draft")
    assert decide(people.member, request, "approve").status_code == 403
    assert decide(people.ads, request, "approve").status_code == 404
    assert decide(people.viewer, request, "approve").status_code == 403
    assert decide(people.admin, request, "approve").json()["state"] == "approved"
    mixed = made(people.member, "crm", "chat")
    assert decide(people.admin, mixed, "approve").status_code == 403
    assert decide(people.admin, mixed, "deny").status_code == 403
    assert decide(people.operator, mixed, "deny", reason="too early").json()["decision_reason"] == "too early"
    assert people.allowed("indexer") == ["draft", "embed"]
    assert decide(people.operator, mixed, "approve").status_code == 409


def test_what_is_granted_ends_by_hand(people: People) -> None:
    for deed, client in (("revoke", people.operator), ("withdraw", people.member)):
        request = made(people.member, "chat")
        assert people.allowed("indexer") == ["chat", "embed"]
        assert decide(client, request, deed).status_code == 200
        assert people.allowed("indexer") == ["embed"]
    assert decide(people.member, made(people.member, "chat"), "revoke").status_code == 403


def test_what_is_granted_ends_by_itself(people: People) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    request = made(people.member, "chat", expires_at=soon.isoformat())
    assert people.allowed("indexer") == ["chat", "embed"]
    with write_session(people.api.engine) as session:
        row = session.get(AccessRequest, request["id"])
        assert row is not None
        row.expires_at = datetime.now(UTC) - timedelta(seconds=1)
    # At once, and also before the keeper has written it down.
    assert people.allowed("indexer") == ["embed"]
    assert people.member.get(f"/api/v1/access-requests/{request['id']}").json()["state"] == "expired"
    settings: Settings = people.api.app.state.services.settings
    for ended in (1, 0):
        with write_session(people.api.engine) as session:
            keeper = Authority(actor="gateway", role=Role.OWNER)
            editing = Editing(session=session, authority=keeper, sealer=people.api.app.state.services.sealer)
            assert AccessRequests(editing, Contacts.of(settings)).end_expired() == ended
    told = people.member.get("/api/v1/notices").json()["items"]
    assert [each["kind"] for each in told] == ["access-expired", "access-approved"]
    assert made(people.member, "chat")["state"] == "approved"


@pytest.mark.parametrize("role", TEAM_ROLES)
def test_others_requests_do_not_exist(people: People, role: Role) -> None:
    theirs = made(people.ads, "crm", app="banner")
    with people.api.client(role, "search") as client:
        assert client.get("/api/v1/access-requests").json()["items"] == []
        assert client.get("/api/v1/access-requests/pending").json() == {"pending": 0}
        assert client.get("/api/v1/notices").json()["items"] == []
        for number in (theirs["id"], 424242):
            answers = [
                client.get(f"/api/v1/access-requests/{number}"),
                client.post(f"/api/v1/access-requests/{number}/withdraw", json={}),
            ]
            assert [each.status_code for each in answers] == [404, 404]
        assert asked(client, "crm", app="banner").json()["detail"] == asked(client, "crm", app="zzz").json()[
            "detail"
        ].replace("zzz", "banner")
        hidden, nothing = asked(client, "ads-only"), asked(client, "zzz-only")
        assert hidden.status_code == nothing.status_code == 422
        assert hidden.json()["detail"].replace("ads-only", "zzz-only") == nothing.json()["detail"]


def test_what_cannot_be_asked_for_is_refused(people: People) -> None:
    closed = asked(people.member, "internal")
    assert closed.status_code == 403
    assert "ask Mia" in closed.json()["fix"]
    assert asked(people.member, "embed").status_code == 409
    made(people.member, "crm")
    assert asked(people.member, "crm", "draft").status_code == 409
    assert asked(people.member, "chat", app="indexer", new_app=True).status_code == 409
    assert asked(people.member, "chat", app="search.x", new_app=True, team="ads").status_code == 422
    past = datetime.now(UTC) - timedelta(minutes=1)
    assert asked(people.member, "chat", expires_at=past.isoformat()).status_code == 422
    assert asked(people.member, "chat", reason="  ").status_code == 422
    assert asked(people.viewer, "chat").status_code == 403
    # An operator may ask for a team, and name its new app's team.
    assert made(people.operator, "crm", app="fresh", new_app=True, team="ads")["team"] == "ads"


@pytest.mark.settings(team_names="prefixed")
def test_a_name_that_others_have_is_refused_like_any_that_is_not_the_teams(people: People) -> None:
    """Whether the app `banner` of the team ads exists is not to be learned by asking for one of that name."""
    for client in (people.member, people.admin):
        for routes in (["crm"], ["chat"]):  # to be decided, and open
            theirs, nobodys = (asked(client, *routes, app=name, new_app=True) for name in ("banner", "poster"))
            assert theirs.status_code == nobodys.status_code == 422
            assert alike(theirs, "banner") == alike(nobodys, "poster")
    # What the team itself has is no secret to it, and within its own part it names as it likes.
    assert asked(people.member, "crm", app="indexer", new_app=True).status_code == 409
    assert made(people.member, "crm", app="search.poster", new_app=True)["state"] == "pending"
    assert made(people.operator, "crm", app="poster", new_app=True, team="search")["state"] == "pending"


@pytest.mark.settings(team_names="prefixed")
def test_what_others_have_asked_for_by_another_name_is_not_a_team_admins_to_name(people: People) -> None:
    """A request of the platform's, or one from before names were the teams'."""
    request = made(people.operator, "draft", app="banner-2", new_app=True, team="search")
    assert decide(people.admin, request, "approve").status_code == 422
    assert decide(people.operator, request, "approve").json()["state"] == "approved"


def alike(answer: httpx2.Response, name: str) -> dict[str, Any]:
    """What it says, but for the name that was asked for."""
    text = answer.text.replace(name, "NAME")
    return {key: value for key, value in json.loads(text).items() if key != "request_id"}


def test_what_is_granted_is_not_asked_for_again(people: People) -> None:
    soon, later = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2))
    made(people.member, "chat", expires_at=later.isoformat())
    assert asked(people.member, "chat", expires_at=soon.isoformat()).status_code == 409
    made(people.member, "chat")  # for longer
    again = asked(people.member, "chat", "embed")
    assert again.status_code == 409
    assert "may call that already" in again.json()["detail"]
    assert asked(people.member, "chat", expires_at=later.isoformat()).status_code == 409


def test_a_team_has_so_many_approved_requests(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_IN_FORCE", 2)
    requests = [
        made(people.member, "chat", expires_at=(datetime.now(UTC) + timedelta(hours=hours)).isoformat())
        for hours in (1, 2)
    ]
    refused = asked(people.member, "chat")
    assert refused.status_code == 409
    assert "2 approved requests" in refused.json()["detail"]
    decide(people.member, requests[0], "withdraw").raise_for_status()
    assert made(people.member, "chat")["state"] == "approved"
    assert made(people.ads, "chat", app="banner")["state"] == "approved"


def test_an_app_is_made_at_once_for_those_who_may_make_one(people: People) -> None:
    request = made(people.member, "chat", app="search.crawler", new_app=True)
    assert request["state"] == "pending"
    assert people.allowed("search.crawler") is None
    assert decide(people.admin, request, "approve").json()["state"] == "approved"
    assert people.allowed("search.crawler") == ["chat"]
    assert made(people.admin, "chat", app="search.spider", new_app=True)["state"] == "approved"


def test_a_team_admin_hands_on_no_route_that_was_hidden_since(people: People) -> None:
    request = made(people.member, "draft")
    people.owner.patch("/api/v1/routes/draft", json={"service": {"teams": ["ads"]}}).raise_for_status()
    assert people.admin.get(f"/api/v1/access-requests/{request['id']}").json()["you_may"] == ["deny", "withdraw"]
    assert decide(people.admin, request, "approve").status_code == 403
    assert decide(people.operator, request, "approve").json()["state"] == "approved"


def test_where_the_platform_heard_of_it_is_not_the_teams_to_read(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_to = Contacts(sends_mail=False, emails=(), webhook="https://hooks.example.com/token")
    monkeypatch.setattr(Contacts, "of", lambda _settings: told_to)
    decide(people.member, made(people.member, "crm"), "withdraw").raise_for_status()
    for client, told in ((people.member, 0), (people.admin, 0), (people.owner, 1)):
        items = client.get("/api/v1/notices").json()["items"]
        assert [(each["kind"], len(each["deliveries"])) for each in items] == [
            ("access-withdrawn", told), ("access-requested", told)
        ]  # fmt: skip


def test_an_app_that_moves_takes_along_what_it_was_granted(people: People) -> None:
    granted, pending = made(people.member, "chat"), made(people.member, "crm")
    ended = made(people.member, "draft")
    decide(people.member, ended, "withdraw").raise_for_status()
    people.operator.patch("/api/v1/apps/indexer", json={"team": "ads"}).raise_for_status()
    theirs = people.ads.get("/api/v1/access-requests").json()["items"]
    assert [(each["id"], each["state"], each["team"]) for each in theirs] == [(granted["id"], "approved", "ads")]
    old = {each["id"]: each for each in people.member.get("/api/v1/access-requests").json()["items"]}
    assert {number: each["state"] for number, each in old.items()} == {
        pending["id"]: "denied", ended["id"]: "withdrawn"
    }  # fmt: skip
    assert "moved" in old[pending["id"]]["decision_reason"]
    assert people.allowed("indexer") == ["chat", "embed"]
    assert decide(people.operator, pending, "approve").status_code == 409
    assert decide(people.ads, granted, "withdraw").json()["state"] == "withdrawn"
    entries = people.owner.get("/api/v1/audit", params={"kind": "access-request"}).json()["items"]
    assert {(each["action"], each["name"]) for each in entries} >= {
        ("update", str(granted["id"])), ("deny", str(pending["id"]))
    }  # fmt: skip


def test_a_decision_on_what_has_changed_meanwhile_is_refused(people: People) -> None:
    request = made(people.member, "crm")
    decide(people.member, request, "withdraw").raise_for_status()
    late = people.operator.post(
        f"/api/v1/access-requests/{request['id']}/approve", json={}, headers={"if-match": f'"{request["version"]}"'}
    )
    assert late.status_code == 412


def test_a_granted_route_is_not_deleted_unseen(people: People) -> None:
    made(people.member, "chat")
    refused = people.owner.delete("/api/v1/routes/chat")
    assert refused.status_code == 409
    assert "indexer" in refused.json()["detail"]


# ---- keys


def test_a_rotated_key_overlaps(people: People) -> None:
    def good() -> list[tuple[str, float | None]]:
        with read_session(people.api.engine) as session:
            rows = compile_snapshot(session, people.api.app.state.services.sealer)["keys"]
        return [(row[0], row[4]) for row in rows]

    people.member.post("/api/v1/keys", json={"app": "indexer", "name": "ci"}).raise_for_status()
    (first, _), *_ = good()
    rotated = people.member.post("/api/v1/keys/indexer%2Fci/rotate", json={"overlap": "7d"})
    assert rotated.status_code == 200
    assert rotated.json()["key"]
    until = datetime.fromisoformat(rotated.json()["previous_until"])
    assert timedelta(days=6.9) < until - datetime.now(UTC) < timedelta(days=7)
    (second, forever), (old, end) = good()
    assert old == first != second
    assert forever is None
    assert end == pytest.approx(until.timestamp())
    # Within the overlap the old text is nobody else's; it ends by hand, or with the next rotation.
    assert people.member.post("/api/v1/keys/indexer%2Fci/retire").json()["previous_until"] is None
    assert [digest for digest, _ in good()] == [second]
    assert people.member.post("/api/v1/keys/indexer%2Fci/retire").status_code == 409
    people.member.post("/api/v1/keys/indexer%2Fci/rotate").raise_for_status()
    assert len(good()) == 1
    assert good()[0][0] != second
    assert people.member.post("/api/v1/keys/indexer%2Fci/rotate", json={"overlap": "1y"}).status_code == 422


# ---- OpenAPI documents and contacts

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "CRM", "version": "2"},
    "paths": {"/v2/customers": {"get": {}, "post": {}}},
}


def test_an_openapi_document_is_stored_and_read(people: People) -> None:
    path = "/api/v1/service-openapi/crm"
    assert people.member.get(path).status_code == 404
    stored = people.operator.put(path, json=DOCUMENT)
    assert stored.status_code == 200, stored.text
    assert (stored.json()["title"], stored.json()["operations"]) == ("CRM", 2)
    assert people.member.get(path).json() == DOCUMENT
    assert catalogue(people.member)["crm"]["has_openapi"] is True
    yaml = (
        "openapi: 3.0.3\ninfo: {title: CRM, version: 1}\npaths: {/v2/x: {get: {responses: {200: {description: ok}}}}}\n"
    )
    assert people.operator.put(path, content=yaml).json()["operations"] == 1
    assert people.member.get(path).json()["paths"]["/v2/x"]["get"]["responses"]["200"]["description"] == "ok"
    assert people.member.put(path, json=DOCUMENT).status_code == 403
    assert people.member.get("/api/v1/service-openapi/ads-only").status_code == 404
    assert people.operator.delete(path).status_code == 204
    assert people.member.get(path).status_code == 404


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{}", 422),
        (b'{"swagger": "2.0", "paths": {}}', 422),
        (b"a: &a [x]\nopenapi: 3.0.0\npaths: {x: *a}\n", 422),
        (b"\xff\xfe", 422),
        (b'{"openapi": "3.0.0", "paths": {"/": ' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}}", 422),
        (b'{"openapi": "3.0.0", "paths": {}, "x": "' + b"x" * 1024 * 1024 + b'"}', 413),
    ],
)
def test_what_is_no_openapi_document_is_refused(people: People, content: bytes, status: int) -> None:
    assert people.operator.put("/api/v1/service-openapi/crm", content=content).status_code == status


def test_a_large_document_takes_no_time_of_the_workers(people: People) -> None:
    """A reporter reads it: this process, which stands for the worker, only passes it on."""
    paths = "".join(f"  /v2/{number}: {{get: {{summary: one of many, tags: [a, b]}}}}\n" for number in range(16_000))
    content = f"openapi: 3.0.3\ninfo: {{title: CRM, version: 1}}\npaths:\n{paths}".encode()
    assert 900_000 < len(content) < 1024 * 1024
    begun_s = time.process_time()
    stored = people.operator.put("/api/v1/service-openapi/crm", content=content, timeout=60)
    took_s = time.process_time() - begun_s
    assert (stored.status_code, stored.json()["operations"]) == (200, 16_000), stored.text
    assert took_s < 1.5  # to read it here took eight
    refused = people.operator.put("/api/v1/service-openapi/crm", content=content + b"x: &a [1]\ny: *a\n", timeout=60)
    assert (refused.status_code, refused.json()["errors"][0]["problem"]) == (422, "uses YAML aliases")


def test_a_document_is_fetched_from_a_host_of_the_route_alone(people: People) -> None:
    path = "/api/v1/service-openapi/crm"
    for url in (
        "http://169.254.169.254/latest",
        "http://127.0.0.1:8080/x",
        "file:///etc/passwd",
        "http://[x/",
        "nothing",
    ):
        assert people.operator.put(path, params={"url": url}).status_code == 422
    refused = people.operator.put(path, params={"url": "http://127.0.0.1:9/openapi.json"})
    assert refused.status_code == 502  # allowed, and nobody listens there
    assert people.operator.put("/api/v1/service-openapi/chat", json=DOCUMENT).status_code == 422


def test_a_team_names_addresses_and_the_platform_a_webhook(people: People) -> None:
    path = "/api/v1/teams/search/contact"
    assert people.member.get(path).json() == {"emails": [], "webhook": None, "signed": False, "sends_mail": False}
    assert people.member.put(path, json={"emails": ["a@example.com"]}).status_code == 403
    assert people.admin.put(path, json={"emails": ["a@example.com"]}).json()["emails"] == ["a@example.com"]
    assert people.admin.put(path, json={"webhook": "http://169.254.169.254/"}).status_code == 403
    assert people.admin.post(f"{path}/secret").status_code == 409
    hook = {"emails": ["a@example.com"], "webhook": "https://hooks.example.com/x"}
    assert people.operator.put(path, json=hook).status_code == 200
    # The path often is what lets one in: those who may not name it see scheme and host, and send that back.
    for client in (people.member, people.admin, people.viewer):
        assert client.get(path).json()["webhook"] == "https://hooks.example.com"
    shown = people.admin.put(path, json=hook | {"emails": ["b@example.com"], "webhook": "https://hooks.example.com"})
    assert (shown.status_code, shown.json()["webhook"]) == (200, "https://hooks.example.com")
    assert people.operator.get(path).json()["webhook"] == hook["webhook"]
    decide(people.operator, made(people.member, "crm"), "deny").raise_for_status()
    for client, destination in ((people.admin, "https://hooks.example.com"), (people.operator, hook["webhook"])):
        newest = client.get("/api/v1/notices").json()["items"][0]
        assert [each["destination"] for each in newest["deliveries"]] == [destination]
    secret = people.admin.post(f"{path}/secret").json()["secret"]
    assert secret.startswith("whsec_")
    assert people.member.get(path).json()["signed"] is True
    assert secret not in people.owner.get("/api/v1/audit").text
    assert people.ads.get(path).status_code == 404
    for bad in ("nobody", ".:@x.com", "a@b@c", "a b@c.d", "x@" + "y" * 300, 'a"@b.c'):
        assert people.admin.put(path, json={**hook, "emails": [bad]}).status_code == 422
