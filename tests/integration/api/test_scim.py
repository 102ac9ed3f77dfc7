"""SCIM over sockets: by a compliance tester, by a client, and in what it does to accounts."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import PatchOp, PatchOperation, User
from scim2_tester import Status, check_server
from sqlalchemy import Engine, event, text

from gateway.policy.roles import Role
from gateway.store.database import write_session
from gateway.store.models import LoginSession
from gateway.store.models import User as UserRow
from gateway.store.scim_models import ScimUser
from tests.integration.api.served import ServedApi
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, identity_provider

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
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
def directory(api: ServedApi, owner: httpx2.Client) -> Iterator[httpx2.Client]:
    """As an identity provider calls us."""
    made = owner.post("/api/v1/tokens", json={"role": "owner", "name": "directory", "scopes": ["scim"]}).json()
    headers = {"authorization": f"Bearer {made['token']}", "content-type": "application/scim+json"}
    with httpx2.Client(base_url=f"{api.url}/scim/v2", timeout=60, headers=headers) as client:
        yield client


def made(directory: httpx2.Client, name: str, **more: Any) -> dict[str, Any]:
    answer = directory.post("/Users", json={"schemas": [USER], "userName": name, **more})
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


def group(directory: httpx2.Client, name: str, *ids: str) -> dict[str, Any]:
    members = [{"value": each} for each in ids]
    answer = directory.post("/Groups", json={"schemas": [GROUP], "displayName": name, "members": members})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def patch(directory: httpx2.Client, path: str, *operations: dict[str, Any], **headers: str) -> httpx2.Response:
    return directory.patch(path, json={"schemas": [PATCH], "Operations": list(operations)}, headers=headers)


def test_a_compliance_tester_finds_nothing_wrong(directory: httpx2.Client) -> None:
    client = SyncSCIMClient(directory)
    results = check_server(client)
    wrong = [
        f"{each.title} {getattr(each, 'resource_type', '')}: {each.reason}"
        for each in results
        if each.status in (Status.ERROR, Status.CRITICAL, Status.DEVIATION)
        and "did not remove attribute 'active'" not in (each.reason or "")  # an account is always one or the other
    ]
    assert not wrong, "\n".join(wrong)
    assert sum(each.status is Status.SUCCESS for each in results) > 50


def test_a_client_does_its_whole_work(directory: httpx2.Client) -> None:
    client = SyncSCIMClient(directory)
    client.discover()
    user_model, group_model = client.provider.model_for("User"), client.provider.model_for("Group")
    assert user_model is not None
    assert group_model is not None
    ann = client.create(user_model(user_name="ann@example.com", external_id="e-1", active=True))
    staff = client.create(group_model(display_name="staff", members=[group_model.Members(value=ann.id)]))
    assert client.query(user_model, ann.id).groups[0].display == "staff"
    ann.display_name = "Ann"
    assert client.replace(ann).display_name == "Ann"
    change = PatchOp[User](operations=[PatchOperation(op="replace", path="active", value=False)])
    client.modify(user_model, ann.id, change)
    assert client.query(user_model, ann.id).active is False
    client.delete(group_model, staff.id)
    client.delete(user_model, ann.id)
    assert client.query(user_model).total_results == 0


def test_only_a_token_for_it_alone_gets_in(api: ServedApi, owner: httpx2.Client) -> None:
    with api.bare_client() as nobody:
        refused = nobody.get("/scim/v2/Users")
        assert refused.status_code == 401
        assert refused.json()["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        assert refused.headers["content-type"] == "application/scim+json"
        assert nobody.get("/scim/v2/ServiceProviderConfig").status_code == 401
    for role in Role:
        with api.client(role, "search" if role.startswith("team") else None) as client:
            answer = client.get("/scim/v2/Users")
            assert (role, answer.status_code, answer.json()["status"]) == (role, 403, "403")
    wider = owner.post("/api/v1/tokens", json={"role": "owner", "scopes": ["scim", "usage:read"]}).json()["token"]
    with api.bare_client(headers={"authorization": f"Bearer {wider}"}) as client:
        assert client.get("/scim/v2/Users").status_code == 403


def test_groups_settle_role_and_team_and_each_change_is_audited(directory: httpx2.Client, owner: httpx2.Client) -> None:
    ann, bob = made(directory, "ann"), made(directory, "bob")

    def role(name: str) -> tuple[str, str | None]:
        user = owner.get(f"/api/v1/users/{name}").json()
        assert user["source"] == "scim"
        return user["role"], user["team"]

    staff = group(directory, "staff", ann["id"], bob["id"])
    assert role("ann") == role("bob") == ("team-member", "search")
    platform = group(directory, "platform")
    add = {"op": "add", "path": "members", "value": [{"value": ann["id"]}]}
    assert patch(directory, f"/Groups/{platform['id']}", add).status_code == 200
    assert role("ann") == ("operator", None), "the first rule that fits"
    remove = {"op": "remove", "path": f'members[value eq "{ann["id"]}"]'}
    assert patch(directory, f"/Groups/{platform['id']}", remove).status_code == 200
    assert role("ann") == ("team-member", "search")
    renamed = patch(
        directory, f"/Groups/{staff['id']}", {"op": "replace", "path": "displayName", "value": "platform-2"}
    )
    assert renamed.json()["displayName"] == "platform-2"
    owner.put("/api/v1/sign-on", json={"rules": [{"group": "platform-2", "role": "viewer"}]}).raise_for_status()
    assert role("ann") == ("viewer", None), "rules that change are followed at once"
    items = owner.get("/api/v1/audit", params={"actor": "token:directory"}).json()["items"]
    assert {(each["action"], each["kind"]) for each in items} >= {
        ("create", "user"), ("create", "group"), ("update", "group"), ("update", "user"),
    }  # fmt: skip


def test_who_is_deactivated_is_out_at_once(api: ServedApi, directory: httpx2.Client, owner: httpx2.Client) -> None:
    ann = made(directory, "ann")
    staff = group(directory, "staff", ann["id"])
    accounts = {"s-1": {"preferred_username": "ann", "groups": []}}
    with identity_provider(api.url, accounts=accounts) as corp, api.bare_client() as browser:
        owner.post("/api/v1/sign-on/providers", json={
            "name": "corp", "issuer": corp.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "scopes": "openid profile groups",
        }).raise_for_status()  # fmt: skip

        def enter() -> int:
            back = corp.sign_in(browser, f"{api.url}/api/v1/sign-on/start?provider=corp", "s-1")
            return browser.get(back).status_code

        assert enter() == 303, "the account that SCIM made is theirs, and SCIM's groups admit them"
        assert browser.get("/api/v1/session").json()["team"] == "search"
        patch(directory, f"/Users/{ann['id']}", {"op": "Replace", "path": "active", "value": "False"})
        assert browser.get("/api/v1/session").status_code == 401
        assert owner.get("/api/v1/users/ann").json()["disabled"] is True
        assert enter() == 403
        patch(directory, f"/Users/{ann['id']}", {"op": "replace", "value": {"active": True}})
        assert enter() == 303
        corp.has(**{"s-1": {"preferred_username": "ann", "groups": ["staff"]}})
        assert enter() == 303
        remove = {"op": "remove", "path": "members", "value": [{"value": ann["id"]}]}  # as Entra writes it
        assert patch(directory, f"/Groups/{staff['id']}", remove).status_code == 200
        assert browser.get("/api/v1/session").status_code == 401, "who is taken out of the group is out"
        assert enter() == 403, "of a group that SCIM keeps, the provider's word does not count"
        assert directory.delete(f"/Users/{ann['id']}").status_code == 204
        assert owner.get("/api/v1/users/ann").status_code == 404


def test_an_account_of_scims_is_nobodys_by_a_name_that_proves_nothing(
    api: ServedApi, directory: httpx2.Client, owner: httpx2.Client
) -> None:
    made(directory, "ann")
    group(directory, "staff", made(directory, "bob")["id"], made(directory, "eve@example.com")["id"])
    accounts = {
        "s-fallback": {"email": "ann", "email_verified": True, "groups": ["platform"]},
        "s-cleaned": {"preferred_username": "/ann", "groups": ["platform"]},
        "s-ann": {"preferred_username": "ann", "groups": ["platform"]},
        "s-other": {"preferred_username": "ann", "groups": ["platform"]},
        "s-bob": {"preferred_username": "bob", "groups": []},
    }
    with identity_provider(api.url, accounts=accounts) as corp:
        document = {
            "issuer": corp.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "scopes": "openid profile email groups",
        }  # fmt: skip

        def enter(login: str, provider: str = "corp") -> int:
            with api.bare_client() as browser:
                back = corp.sign_in(browser, f"{api.url}/api/v1/sign-on/start?provider={provider}", login)
                return browser.get(back).status_code

        owner.post("/api/v1/sign-on/providers", json=document | {"name": "corp"}).raise_for_status()
        assert [enter("s-fallback"), enter("s-cleaned")] == [403, 403]
        assert not owner.get("/api/v1/audit", params={"kind": "user", "action": "link"}).json()["items"]
        assert enter("s-ann") == 303
        linked = owner.get("/api/v1/audit", params={"kind": "user", "action": "link"}).json()["items"]
        assert [(each["actor"], each["name"], each["after"]) for each in linked] == [
            ("sign-on:corp", "ann", {"provider": "corp", "subject": "s-ann"})
        ]
        assert enter("s-other") == 403, "it is somebody's already"
        assert enter("s-ann") == 303
        owner.post("/api/v1/sign-on/providers", json=document | {"name": "second"}).raise_for_status()
        assert [enter("s-bob"), enter("s-bob", "second")] == [403, 403], "either could have named them"
        assert enter("s-ann") == 303, "who is linked stays so"
        owner.delete("/api/v1/sign-on/providers/second").raise_for_status()
        assert enter("s-bob") == 303


def test_with_several_providers_the_directorys_is_the_one_that_is_marked(
    api: ServedApi, directory: httpx2.Client, owner: httpx2.Client
) -> None:
    people = [
        made(directory, "ann"), made(directory, "Bob@Example.com"), made(directory, "cy", externalId="00u-cy"),
        made(directory, "dan@example.com"),
    ]  # fmt: skip
    group(directory, "staff", *(each["id"] for each in people))
    accounts = {
        "s-ann": {"preferred_username": "ann", "groups": []},
        "s-bob": {"preferred_username": "bob", "email": "bob@example.com", "email_verified": True, "groups": []},
        "00u-cy": {"preferred_username": "cyril", "groups": []},
        "s-dan": {
            "preferred_username": "dan",
            "email": "dan@example.com",
            "email_verified": False,
            "groups": ["staff"],
        },
    }
    with identity_provider(api.url, accounts=accounts) as corp, identity_provider(api.url, accounts=accounts) as other:

        def document(name: str, issuer: str, **more: Any) -> dict[str, Any]:
            return {
                "name": name, "issuer": issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
                "scopes": "openid profile email groups", **more,
            }  # fmt: skip

        def enter(login: str, provider: str) -> str | None:
            """As whom; None = not at all."""
            at = corp if provider == "corp" else other
            with api.bare_client() as browser:
                back = at.sign_in(browser, f"{api.url}/api/v1/sign-on/start?provider={provider}", login)
                if browser.get(back).status_code != 303:
                    return None
                name: str = browser.get("/api/v1/session").json()["username"]
                return name

        created = owner.post("/api/v1/sign-on/providers", json=document("corp", corp.url, provisions=True))
        assert created.json()["provisions"] is True
        second = owner.post("/api/v1/sign-on/providers", json=document("other", other.url, provisions=True))
        assert second.status_code == 409
        assert "'corp'" in second.json()["detail"]
        owner.post("/api/v1/sign-on/providers", json=document("other", other.url)).raise_for_status()
        assert owner.patch("/api/v1/sign-on/providers/other", json={"provisions": True}).status_code == 409

        assert enter("s-ann", "other") is None, "another's people are not the directory's"
        assert enter("s-ann", "corp") == "ann", "by the name"
        assert enter("s-bob", "corp") == "Bob@Example.com", "by a verified address, whatever its case"
        assert enter("00u-cy", "other") is None
        assert enter("00u-cy", "corp") == "cy", "by what the directory calls them"
        assert enter("s-dan", "corp") != "dan@example.com", "an address that is not verified is nobody's"
        linked = owner.get("/api/v1/audit", params={"kind": "user", "action": "link"}).json()["items"]
        assert sorted((each["actor"], each["name"]) for each in linked) == [
            ("sign-on:corp", name) for name in ("Bob@Example.com", "ann", "cy")
        ]

        owner.patch("/api/v1/sign-on/providers/corp", json={"enabled": False}).raise_for_status()
        made(directory, "eve")
        other.has(**{"s-eve": {"preferred_username": "eve", "groups": ["staff"]}})
        assert enter("s-eve", "other") is None, "the only one that is on is not the directory's for that"
        owner.patch("/api/v1/sign-on/providers/corp", json={"provisions": False}).raise_for_status()
        owner.patch("/api/v1/sign-on/providers/other", json={"provisions": True}).raise_for_status()
        assert enter("s-ann", "other") is None, "she is somebody's already"


LARGE = 3_000


@pytest.fixture
def crowd(api: ServedApi, directory: httpx2.Client) -> list[str]:
    """Ids of many users that SCIM manages, each with a session, put there at once."""
    at = datetime.now(UTC)
    with write_session(api.engine) as session:
        users = [
            UserRow(name=f"user-{number}", role=Role.VIEWER, disabled=False, source="scim") for number in range(LARGE)
        ]
        session.add_all(users)
        session.flush()
        session.add_all(ScimUser(user_id=user.id, attributes={}, active=True) for user in users)
        session.add_all(
            LoginSession(
                digest=user.id.to_bytes(32, "big"), user_id=user.id, expires_at=at + timedelta(days=1), method="sign-on"
            )
            for user in users
        )
        session.flush()
        return [str(user.id) for user in users]


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_large_group_takes_few_statements(
    api: ServedApi, directory: httpx2.Client, owner: httpx2.Client, crowd: list[str]
) -> None:
    def count(table: str, where: str = "1 = 1") -> int:
        with api.engine.connect() as connection:
            found: int = connection.execute(text(f"SELECT count(*) FROM {table} WHERE {where}")).scalar_one()
            return found

    with counted(api.engine) as statements:
        staff = group(directory, "staff", *crowd)
    assert len(statements) < 80, len(statements)
    assert count("user_account", "role = 'team-member' AND team_id IS NOT NULL AND version = 2") == LARGE
    assert count("login_session") == 0, "who comes to another role has no session left"
    assert count("audit_entry", "kind = 'user' AND action = 'update'") == LARGE
    assert owner.get("/api/v1/audit/verify").json()["intact"] is True
    assert len(staff["members"]) == LARGE

    with counted(api.engine) as statements:
        one = {"op": "remove", "path": f'members[value eq "{crowd[0]}"]'}
        assert patch(directory, f"/Groups/{staff['id']}", one).status_code == 200
    assert len(statements) < 80, len(statements)
    assert count("scim_member") == LARGE - 1
    many = {"op": "remove", "path": "members", "value": [{"value": each} for each in crowd[1:501]]}
    with counted(api.engine) as statements:
        assert patch(directory, f"/Groups/{staff['id']}", many).status_code == 200
        put_in = {"op": "add", "path": "members", "value": many["value"]}
        assert patch(directory, f"/Groups/{staff['id']}", put_in).status_code == 200
    assert len(statements) < 160, len(statements)
    assert count("scim_member") == LARGE - 1
    stranger = {"op": "add", "path": "members", "value": [{"value": "999999"}]}
    assert patch(directory, f"/Groups/{staff['id']}", stranger).status_code == 400
    old = {"if-match": 'W/"1"'}
    assert patch(directory, f"/Groups/{staff['id']}", put_in, **old).status_code == 412

    with counted(api.engine) as statements:
        rules = [{"group": "staff", "role": "viewer"}]
        owner.put("/api/v1/sign-on", json={"rules": rules}).raise_for_status()
        assert directory.delete(f"/Groups/{staff['id']}").status_code == 204
    assert len(statements) < 160, len(statements)
    assert count("scim_member") == 0
    assert count("user_account", "role = 'viewer' AND team_id IS NULL") == LARGE - 1, (
        "whom no rule admits keeps the role"
    )
    assert owner.get("/api/v1/audit/verify").json()["intact"] is True


def test_nothing_is_lost_of_what_several_change_at_once(directory: httpx2.Client, owner: httpx2.Client) -> None:
    ids = [made(directory, f"user-{number}")["id"] for number in range(8)]
    staff = group(directory, "staff")

    def put_in(user_id: str) -> int:
        add = {"op": "add", "path": "members", "value": [{"value": user_id}]}
        return patch(directory, f"/Groups/{staff['id']}", add).status_code

    with ThreadPoolExecutor(len(ids)) as threads:
        assert set(threads.map(put_in, ids)) == {200}
    members = directory.get(f"/Groups/{staff['id']}").json()["members"]
    assert sorted(each["value"] for each in members) == sorted(ids)
    assert all(owner.get(f"/api/v1/users/user-{number}").json()["role"] == "team-member" for number in range(8))


def test_who_is_disabled_here_is_another_resource_there(directory: httpx2.Client, owner: httpx2.Client) -> None:
    ann = made(directory, "ann")
    owner.patch("/api/v1/users/ann", json={"disabled": True}).raise_for_status()
    path = f"/Users/{ann['id']}"
    rename = {"op": "replace", "path": "displayName", "value": "Ann"}
    assert patch(directory, path, rename, **{"if-match": ann["meta"]["version"]}).status_code == 412
    assert patch(directory, path, rename).json()["active"] is False


def test_a_group_that_is_no_more_gives_no_role_by_what_a_provider_said_of_it(
    api: ServedApi, directory: httpx2.Client, owner: httpx2.Client
) -> None:
    ann = made(directory, "ann")
    group(directory, "staff", ann["id"])
    platform = group(directory, "platform", ann["id"])
    accounts = {"s-ann": {"preferred_username": "ann", "groups": ["platform"]}}
    with identity_provider(api.url, accounts=accounts) as corp, api.bare_client() as browser:
        document = {
            "name": "corp", "issuer": corp.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "scopes": "openid profile email groups",
        }  # fmt: skip
        owner.post("/api/v1/sign-on/providers", json=document).raise_for_status()
        back = corp.sign_in(browser, f"{api.url}/api/v1/sign-on/start?provider=corp", "s-ann")
        assert browser.get(back).status_code == 303
        assert owner.get("/api/v1/users/ann").json()["role"] == "operator"
        assert directory.delete(f"/Groups/{platform['id']}").status_code == 204
        assert owner.get("/api/v1/users/ann").json()["role"] == "team-member"
        assert browser.get("/api/v1/session").status_code == 401, "who comes to another role has no session left"


def test_an_account_of_scims_has_no_other_way_in(
    api: ServedApi, directory: httpx2.Client, owner: httpx2.Client
) -> None:
    made(directory, "ann", password="given by the directory")
    with api.bare_client() as browser:
        signed = browser.post("/api/v1/session", json={"username": "ann", "password": "given by the directory"})
        assert signed.status_code == 401
    assert owner.patch("/api/v1/users/ann", json={"password": "given by an owner"}).status_code == 409
    assert owner.patch("/api/v1/users/ann", json={"disabled": True}).status_code == 200
    assert directory.get("/Users", params={"filter": 'userName eq "ann"'}).json()["Resources"][0]["active"] is False


def test_filters_and_pages(directory: httpx2.Client) -> None:
    ids = [made(directory, f"user-{number:02}", externalId=f"e-{number}")["id"] for number in range(7)]

    def found(filter_: str, **more: Any) -> list[str]:
        answer = directory.get("/Users", params={"filter": filter_, **more})
        assert answer.status_code == 200, answer.text
        return [each["userName"] for each in answer.json().get("Resources", [])]

    assert found('userName eq "USER-03"') == ["user-03"]
    assert found('externalId eq "e-4"') == ["user-04"]
    assert found('userName eq "user-03" and externalId eq "e-3"') == ["user-03"]
    assert found('userName eq "user-03" and externalId eq "e-4"') == []
    assert found('userName eq "user-01" or externalId eq "e-5"') == ["user-01", "user-05"]
    assert found('userName sw "user-0" and not (userName eq "user-00")') == [f"user-{n:02}" for n in range(1, 7)]
    assert found('userName eq "nobody"') == []
    for wrong in ("userName eq", 'userName like "x"', "("):
        answer = directory.get("/Users", params={"filter": wrong})
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidFilter")
    seen: list[str] = []
    for start in (1, 4, 7, 10):
        page = directory.get("/Users", params={"startIndex": start, "count": 3}).json()
        assert page["totalResults"] == 7
        assert page["startIndex"] == start
        seen += [each["id"] for each in page.get("Resources", [])]
    assert seen == ids
    assert directory.get("/Users", params={"count": 0}).json()["totalResults"] == 7
    assert "Resources" not in directory.get("/Users", params={"count": 0}).json()
    few = directory.get("/Users", params={"attributes": "userName", "count": 1}).json()["Resources"][0]
    assert set(few) == {"schemas", "id", "userName"}
    staff = group(directory, "staff", *ids)
    without = directory.get("/Groups", params={"filter": 'displayName eq "staff"', "excludedAttributes": "members"})
    assert "members" not in without.json()["Resources"][0]
    assert len(directory.get(f"/Groups/{staff['id']}").json()["members"]) == 7


def test_versions_keep_two_writers_apart(directory: httpx2.Client) -> None:
    ann = made(directory, "ann")
    path = f"/Users/{ann['id']}"
    read = directory.get(path)
    first = read.headers["etag"]
    assert first == ann["meta"]["version"]
    assert directory.get(path, headers={"if-none-match": first}).status_code == 304
    rename = {"op": "replace", "path": "displayName", "value": "Ann"}
    changed = patch(directory, path, rename, **{"if-match": first})
    assert changed.status_code == 200
    assert changed.headers["etag"] != first
    assert patch(directory, path, rename, **{"if-match": first}).status_code == 412
    assert directory.delete(path, headers={"if-match": first}).status_code == 412
    again = patch(directory, path, rename)
    assert again.headers["etag"] == changed.headers["etag"], "what changes nothing makes no version"


def test_a_replacement_takes_away_what_it_does_not_name(directory: httpx2.Client) -> None:
    extension = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
    ann = made(
        directory, "ann", displayName="Ann", emails=[{"value": "ann@example.com", "primary": True}],
        **{extension: {"department": "search"}},
    )  # fmt: skip
    assert ann[extension]["department"] == "search"
    assert ann["emails"][0]["value"] == "ann@example.com"
    path = f"/Users/{ann['id']}"
    done = directory.put(path, json={"schemas": [USER], "userName": "anne", "active": False}).json()
    assert (done["userName"], done["active"]) == ("anne", False)
    assert "displayName" not in done
    assert extension not in done


def test_names_are_taken_by_local_accounts_too(directory: httpx2.Client) -> None:
    for name in ("admin", "ADMIN"):
        answer = directory.post("/Users", json={"schemas": [USER], "userName": name})
        assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness")
    for name in ("", "12345", "a/b", "x" * 129):
        answer = directory.post("/Users", json={"schemas": [USER], "userName": name})
        assert answer.status_code == 400, name
    assert directory.get("/Users").json()["totalResults"] == 0, "local accounts are not SCIM's"


def test_the_last_owner_is_not_taken_away(api: ServedApi, directory: httpx2.Client, owner: httpx2.Client) -> None:
    owner.put(
        "/api/v1/sign-on", json={"rules": [{"group": "platform", "role": "owner"}, *RULES[1:]]}
    ).raise_for_status()
    ann = made(directory, "ann")
    platform = group(directory, "platform", ann["id"])
    with api.client() as other:
        assert other.delete("/api/v1/users/admin").status_code == 204
    assert directory.delete(f"/Users/{ann['id']}").status_code == 409
    assert (
        patch(directory, f"/Users/{ann['id']}", {"op": "replace", "path": "active", "value": False}).status_code == 409
    )
    group(directory, "staff", ann["id"])
    assert directory.delete(f"/Groups/{platform['id']}").status_code == 409
    with api.client() as other:
        user = other.get("/api/v1/users/ann").json()
        assert (user["role"], user["disabled"]) == ("owner", False)


def test_nonsense_is_answered_in_scims_words(directory: httpx2.Client) -> None:
    cases: list[tuple[httpx2.Response, int]] = [
        (directory.get("/Nothing"), 404),
        (directory.get("/Users/999"), 404),
        (directory.get("/Users/abc"), 404),
        (directory.get("/Users/1"), 404),  # the local owner
        (directory.post("/Users", content=b"{"), 400),
        (directory.post("/Users", json=[]), 400),
        (directory.post("/Users", json={"schemas": [USER]}), 400),
        (directory.post("/Groups", json={"schemas": [GROUP], "displayName": "g", "members": [{"value": "999"}]}), 400),
        (directory.get("/Users", params={"startIndex": "one"}), 400),
    ]
    for answer, status in cases:
        assert answer.status_code == status, (answer.request.url, answer.text)
        assert answer.headers["content-type"] == "application/scim+json"
        assert answer.json()["status"] == str(status)
        assert answer.json()["detail"]
