"""Tokens that are confined to some of what their role may: enforced everywhere, and not to be handed around."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from gateway.api.openapi import api_operations, permission_of
from gateway.policy.roles import PERMISSIONS, Permission, Role
from tests.integration.api.served import ServedApi
from tests.integration.api.test_roles import endpoints


def confined(api: ServedApi, *scopes: str, role: str = "owner", **more: Any) -> httpx2.Client:
    with api.client() as owner:
        made = owner.post("/api/v1/tokens", json={"role": role, "scopes": list(scopes), **more})
        made.raise_for_status()
    assert made.json()["scopes"] == sorted(set(scopes), key=[*Permission].index)
    return api.bare_client(headers={"authorization": f"Bearer {made.json()['token']}"})


def test_each_endpoint_lets_in_just_the_scope_that_it_names(sqlite_api: ServedApi) -> None:
    api = sqlite_api
    clients = {scope: confined(api, scope) for scope in Permission if scope is not Permission.SESSION}
    wrong = []
    paths = endpoints(api)
    for route, method in api_operations(api.app):
        permission = permission_of(route)
        if permission is None:
            continue
        for scope, client in clients.items():
            body = {} if method in ("POST", "PATCH", "PUT") else None
            status = client.request(method, paths[f"{method} {route.path_format}"], json=body).status_code
            expected = permission in (scope, Permission.SESSION)
            if (status == 403) is expected and not (expected and "sign-on/sign-out" in route.path_format):
                wrong.append(f"{method} {route.path_format} with {scope}: {status}")
    for client in clients.values():
        client.close()
    assert not wrong


def test_the_session_says_what_is_left(api: ServedApi) -> None:
    with confined(api, "usage:read", "services:read", role="viewer") as client:
        assert client.get("/api/v1/session").json()["permissions"] == ["services:read", "session", "usage:read"]
        refused = client.get("/api/v1/providers")
        assert refused.status_code == 403
        assert "scope configuration:read" in refused.json()["fix"]


@pytest.mark.parametrize("scopes", [["configuration:write"], ["usage:read", "audit:read"], ["everything"], []])
def test_scopes_are_the_roles(api: ServedApi, scopes: list[str]) -> None:
    with api.client() as owner:
        answer = owner.post("/api/v1/tokens", json={"role": "viewer", "scopes": scopes})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"].startswith("scopes")


def test_nobody_hands_on_more_than_their_scopes(api: ServedApi) -> None:
    with confined(api, "members", "usage:read") as client:
        for wanted in (
            {"role": "owner"},
            {"role": "viewer"},
            {"role": "viewer", "scopes": ["services:read"]},
            {"role": "owner", "scopes": ["members", "sign-on:write"]},
        ):
            assert client.post("/api/v1/tokens", json=wanted).status_code == 403, wanted
        assert client.post("/api/v1/users", json={"name": "x", "role": "viewer"}).status_code == 403
        assert client.patch("/api/v1/users/admin", json={"password": "taken over now"}).status_code == 404
        assert client.get("/api/v1/users").json()["items"] == []
        assert client.post("/api/v1/tokens", json={"role": "viewer", "scopes": ["usage:read"]}).status_code == 201
        assert client.post("/api/v1/tokens", json={"role": "owner", "scopes": ["members"]}).status_code == 201


def test_an_admin_has_neither_sign_on_nor_scim_to_hand_on(api: ServedApi) -> None:
    assert {Permission.SIGN_ON_WRITE, Permission.SCIM} <= PERMISSIONS[Role.OWNER] - PERMISSIONS[Role.ADMIN]
    with api.client(Role.ADMIN) as admin:
        for scope in ("scim", "sign-on:write"):
            assert admin.post("/api/v1/tokens", json={"role": "owner", "scopes": [scope]}).status_code == 403
            assert admin.post("/api/v1/tokens", json={"role": "admin", "scopes": [scope]}).status_code == 422


def test_a_token_that_ends_hands_on_no_more_time_than_it_has(api: ServedApi) -> None:
    """To nobody: others would go on in its name, and it could make itself last for ever."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    sooner, later = (end - timedelta(minutes=30)).isoformat(), (end + timedelta(seconds=1)).isoformat()
    with api.client() as owner:
        made = owner.post("/api/v1/tokens", json={"role": "owner", "name": "short", "expires_at": end.isoformat()})
        owner.post("/api/v1/tokens", json={"role": "viewer", "name": "lasting"}).raise_for_status()
        with api.bare_client(headers={"authorization": f"Bearer {made.json()['token']}"}) as short:
            for beyond in ({}, {"expires_at": None}, {"expires_at": later}):
                refused = short.post("/api/v1/tokens", json={"role": "viewer", **beyond})
                assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
                assert end.isoformat() in refused.json()["fix"]
            for beyond in (None, later):
                assert short.patch("/api/v1/tokens/short", json={"expires_at": beyond}).status_code == 403
            assert short.post("/api/v1/tokens", json={"role": "viewer", "expires_at": sooner}).status_code == 201
            assert short.patch("/api/v1/tokens/lasting", json={"expires_at": later}).status_code == 200, "that is less"
            assert short.patch("/api/v1/tokens/lasting", json={"expires_at": None}).status_code == 403
            assert short.patch("/api/v1/tokens/short", json={"name": "brief"}).status_code == 200
            assert short.patch("/api/v1/tokens/brief", json={"expires_at": sooner}).status_code == 200
        assert owner.patch("/api/v1/tokens/brief", json={"expires_at": None}).status_code == 200
