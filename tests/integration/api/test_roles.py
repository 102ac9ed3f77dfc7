"""Every endpoint × every role: who gets in is written down here once more, by hand, and compared with what happens."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from gateway.api.openapi import api_operations, permission_of
from gateway.policy.model import TeamId
from gateway.policy.roles import GRANTABLE, PERMISSIONS, TEAM_ROLES, Authority, Role
from tests.integration.api.served import ServedApi, served

OPEN = frozenset(
    {
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "POST /api/v1/session",
        "POST /api/v1/session/code",
        "POST /api/v1/session/passkey",
        "POST /api/v1/session/passkey-options",
        "GET /api/v1/sign-on/options",
        "GET /api/v1/sign-on/start",
        "GET /api/v1/sign-on/callback",
    }
)
"""Answered without a token. `/metrics` so from this host only: test_health has the rest."""

EVERYONE = frozenset(Role)
PLATFORM = frozenset({Role.OWNER, Role.ADMIN, Role.OPERATOR, Role.VIEWER})
CHANGERS = frozenset({Role.OWNER, Role.ADMIN, Role.OPERATOR})
GRANTORS = frozenset({Role.OWNER, Role.ADMIN, Role.TEAM_ADMIN})

ALLOWED: dict[str, frozenset[Role]] = {
    "GET /api/v1/session": EVERYONE,
    "DELETE /api/v1/session": EVERYONE,
    "PUT /api/v1/session/password": EVERYONE,
    "GET /api/v1/session/confirmation": EVERYONE,
    "POST /api/v1/session/confirmation": EVERYONE,
    **{
        f"{method} /api/v1/account{path}": EVERYONE
        for method, path in (
            ("GET", ""),
            ("POST", "/totp"),
            ("POST", "/totp/confirm"),
            ("POST", "/totp/remove"),
            ("POST", "/recovery-codes"),
            ("GET", "/passkeys"),
            ("POST", "/passkeys"),
            ("POST", "/passkey-options"),
            ("PATCH", "/passkeys/{id}"),
            ("POST", "/passkeys/{id}/remove"),
            ("GET", "/sessions"),
            ("DELETE", "/sessions"),
            ("DELETE", "/sessions/{id}"),
        )
    },
    "GET /api/v1/roles": GRANTORS,
    "GET /api/v1/users": GRANTORS,
    "POST /api/v1/users": GRANTORS,
    "GET /api/v1/users/{ref}": GRANTORS,
    "PATCH /api/v1/users/{ref}": GRANTORS,
    "DELETE /api/v1/users/{ref}": GRANTORS,
    "POST /api/v1/users/{ref}/reset-factors": GRANTORS,
    "DELETE /api/v1/users/{ref}/sessions": GRANTORS,
    "GET /api/v1/tokens": GRANTORS,
    "POST /api/v1/tokens": GRANTORS,
    "GET /api/v1/tokens/{ref}": GRANTORS,
    "PATCH /api/v1/tokens/{ref}": GRANTORS,
    "DELETE /api/v1/tokens/{ref}": GRANTORS,
    **{
        f"{method} /api/v1/{kind}{path}": PLATFORM if method == "GET" else CHANGERS
        for kind in ("providers", "prices", "interception-rules")
        for method, path in (("GET", ""), ("POST", ""), ("GET", "/{ref}"), ("PATCH", "/{ref}"), ("DELETE", "/{ref}"))
    },
    **{
        f"{method} /api/v1/{kind}{path}": EVERYONE if method == "GET" else CHANGERS
        for kind in ("routes", "teams", "limits")
        for method, path in (("GET", ""), ("POST", ""), ("GET", "/{ref}"), ("PATCH", "/{ref}"), ("DELETE", "/{ref}"))
    },
    "GET /api/v1/limits/{ref}/state": EVERYONE,
    "GET /api/v1/apps": EVERYONE,
    "POST /api/v1/apps": CHANGERS | {Role.TEAM_ADMIN},
    "GET /api/v1/apps/{ref}": EVERYONE,
    "PATCH /api/v1/apps/{ref}": CHANGERS | {Role.TEAM_ADMIN},
    "DELETE /api/v1/apps/{ref}": CHANGERS | {Role.TEAM_ADMIN},
    "GET /api/v1/keys": EVERYONE,
    "POST /api/v1/keys": EVERYONE - {Role.VIEWER},
    "GET /api/v1/keys/{ref}": EVERYONE,
    "PATCH /api/v1/keys/{ref}": EVERYONE - {Role.VIEWER},
    "DELETE /api/v1/keys/{ref}": EVERYONE - {Role.VIEWER},
    "POST /api/v1/keys/{ref}/rotate": EVERYONE - {Role.VIEWER},
    "GET /api/v1/playground": EVERYONE,
    "GET /api/v1/health": PLATFORM,
    "GET /api/v1/health/findings": PLATFORM,
    "GET /api/v1/settings": PLATFORM,
    "GET /api/v1/backup": frozenset({Role.OWNER}),
    "POST /api/v1/playground/keys": EVERYONE - {Role.VIEWER},
    "POST /api/v1/keys/{ref}/retire": EVERYONE - {Role.VIEWER},
    "GET /api/v1/catalogue": EVERYONE,
    "GET /api/v1/catalogue/{ref}": EVERYONE,
    "GET /api/v1/service-openapi/{ref}": EVERYONE,
    "PUT /api/v1/service-openapi/{ref}": CHANGERS,
    "DELETE /api/v1/service-openapi/{ref}": CHANGERS,
    "GET /api/v1/teams/{ref}/contact": EVERYONE,
    "PUT /api/v1/teams/{ref}/contact": CHANGERS | {Role.TEAM_ADMIN},
    "POST /api/v1/teams/{ref}/contact/secret": CHANGERS | {Role.TEAM_ADMIN},
    "GET /api/v1/access-requests": EVERYONE,
    "POST /api/v1/access-requests": EVERYONE - {Role.VIEWER},
    "GET /api/v1/access-requests/pending": EVERYONE,
    "GET /api/v1/access-requests/{number}": EVERYONE,
    "POST /api/v1/access-requests/{number}/approve": CHANGERS | {Role.TEAM_ADMIN},
    "POST /api/v1/access-requests/{number}/deny": CHANGERS | {Role.TEAM_ADMIN},
    "POST /api/v1/access-requests/{number}/revoke": CHANGERS | {Role.TEAM_ADMIN},
    "POST /api/v1/access-requests/{number}/withdraw": EVERYONE - {Role.VIEWER},
    "GET /api/v1/notices": EVERYONE,
    "GET /api/v1/interception": PLATFORM,
    "GET /api/v1/interception/flows": PLATFORM,
    "GET /api/v1/authority": PLATFORM,
    "POST /api/v1/authority": frozenset({Role.OWNER, Role.ADMIN}),
    "DELETE /api/v1/authority": frozenset({Role.OWNER, Role.ADMIN}),
    "GET /api/v1/discoveries": PLATFORM,
    "GET /api/v1/discoveries/coverage": PLATFORM,
    "GET /api/v1/discoveries/{id}": PLATFORM,
    "POST /api/v1/discoveries/{id}/action": CHANGERS,
    "GET /api/v1/denials": PLATFORM,
    "POST /api/v1/denials": CHANGERS,
    "GET /api/v1/denials/{ref}": PLATFORM,
    "DELETE /api/v1/denials/{ref}": CHANGERS,
    "GET /api/v1/alerts": PLATFORM,
    "POST /api/v1/sign-on/sign-out": EVERYONE,
    "GET /api/v1/sign-on": frozenset({Role.OWNER, Role.ADMIN}),
    "PUT /api/v1/sign-on": frozenset({Role.OWNER}),
    "GET /api/v1/sign-on/providers": frozenset({Role.OWNER, Role.ADMIN}),
    "POST /api/v1/sign-on/providers": frozenset({Role.OWNER}),
    "GET /api/v1/sign-on/providers/{ref}": frozenset({Role.OWNER, Role.ADMIN}),
    "PATCH /api/v1/sign-on/providers/{ref}": frozenset({Role.OWNER}),
    "DELETE /api/v1/sign-on/providers/{ref}": frozenset({Role.OWNER}),
    "POST /api/v1/sign-on/providers/{ref}/test": frozenset({Role.OWNER, Role.ADMIN}),
    "GET /api/v1/audit": frozenset({Role.OWNER, Role.ADMIN}),
    "GET /api/v1/audit/verify": frozenset({Role.OWNER, Role.ADMIN}),
    "GET /api/v1/audit/export": frozenset({Role.OWNER, Role.ADMIN}),
    "GET /api/v1/ledger": EVERYONE,
    "GET /api/v1/ledger/export": EVERYONE,
    "GET /api/v1/ledger/{id}": EVERYONE,
    "GET /api/v1/ledger/{id}/bodies": EVERYONE - {Role.OPERATOR, Role.VIEWER},
    "DELETE /api/v1/ledger/{id}/bodies": frozenset({Role.OWNER}),
    "DELETE /api/v1/bodies": frozenset({Role.OWNER}),
    "GET /api/v1/usage": EVERYONE,
    "GET /api/v1/overview": EVERYONE,
    "GET /api/v1/flows": EVERYONE,
    "GET /api/v1/first-tokens": EVERYONE,
    "POST /api/v1/apply": CHANGERS,
    "GET /api/v1/export": CHANGERS,
    "GET /api/v1/draft": PLATFORM,
    "PUT /api/v1/draft": CHANGERS,
    "DELETE /api/v1/draft": CHANGERS,
    "GET /api/v1/draft/document": CHANGERS,
    "GET /api/v1/draft/diff": CHANGERS,
    "POST /api/v1/draft/resolve": CHANGERS,
    "GET /api/v1/draft/entries/{kind}/{ref}": CHANGERS,
    "PATCH /api/v1/draft/entries/{kind}/{ref}": CHANGERS,
    "DELETE /api/v1/draft/entries/{kind}/{ref}": CHANGERS,
    "GET /api/v1/versions/{number}/diff": CHANGERS,
    "GET /api/v1/price-table": PLATFORM,
    "GET /api/v1/price-use": PLATFORM,
    "POST /api/v1/draft/dry-run": CHANGERS,
    "POST /api/v1/versions/{number}/dry-run": CHANGERS,
    "GET /api/v1/versions": PLATFORM,
    "POST /api/v1/versions": CHANGERS,
    "GET /api/v1/versions/{number}": CHANGERS,
    "POST /api/v1/versions/{number}/restore": CHANGERS,
    "GET /api/v1/telemetry/routes": EVERYONE,
    "GET /api/v1/telemetry": EVERYONE,
    "GET /api/v1/telemetry/series": PLATFORM,
    "GET /api/v1/telemetry/health": PLATFORM,
    "POST /api/v1/routes/{ref}/explain": EVERYONE,
    "POST /api/v1/providers/{ref}/test": CHANGERS,
    "GET /api/v1/events": EVERYONE,
}
"""Endpoint → roles that get in. A new endpoint without a line here fails the test."""


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServedApi, dict[Role, httpx2.Client]]]:
    folder: Path = tmp_path_factory.mktemp("roles")
    with served(folder, f"sqlite:///{folder / 'roles.sqlite'}") as api:
        with api.client() as owner:
            owner.post("/api/v1/teams", json={"name": "search"}).raise_for_status()
        clients = {role: api.client(role, "search" if role in TEAM_ROLES else None) for role in Role}
        yield api, clients
        for client in clients.values():
            client.close()


def endpoints(api: ServedApi) -> dict[str, str]:
    """`METHOD /path/{ref}` → a path to ask for."""
    found = {}
    for route, method in api_operations(api.app):
        path = route.path_format
        for parameter in ("ref", "number", "name", "id"):
            path = path.replace("{" + parameter + "}", "424242")
        found[f"{method} {route.path_format}"] = path
    return found


def test_each_endpoint_lets_in_just_the_roles_that_it_names(
    walked: tuple[ServedApi, dict[Role, httpx2.Client]],
) -> None:
    api, clients = walked
    found = endpoints(api)
    assert set(found) - OPEN == set(ALLOWED), "write down who may use the new endpoint"
    wrong = []
    for endpoint, path in found.items():
        if endpoint in OPEN:
            continue
        method = endpoint.split()[0]
        with api.bare_client() as nobody:
            if nobody.request(method, path).status_code != 401:
                wrong.append(f"{endpoint} without a token is not 401")
        for role, client in clients.items():
            if endpoint == "DELETE /api/v1/session" and role is Role.OWNER:
                continue
            status = client.request(method, path, json={} if method in ("POST", "PATCH", "PUT") else None).status_code
            if (status == 403) is (role in ALLOWED[endpoint]) or status in (401, 500):
                wrong.append(f"{endpoint} as {role}: {status}")
    assert not wrong


def test_every_endpoint_declares_a_permission(walked: tuple[ServedApi, dict[Role, httpx2.Client]]) -> None:
    api, _ = walked
    without = {f"{method} {route.path_format}" for route, method in api_operations(api.app) if not permission_of(route)}
    assert without == OPEN


def test_team_roles_hold_nothing_that_the_platforms_lack() -> None:
    for role in Role:
        assert PERMISSIONS[role] <= PERMISSIONS[Role.OWNER]
        for granted in GRANTABLE[role]:
            assert PERMISSIONS[granted] <= PERMISSIONS[role], f"{role} hands on more than it has"


def test_team_authority_ends_at_its_team() -> None:
    mine = Authority(actor="user:a", role=Role.TEAM_ADMIN, team_id=TeamId(1))
    assert mine.may_grant(Role.TEAM_MEMBER, 1)
    assert not mine.may_grant(Role.TEAM_MEMBER, 2)
    assert not mine.may_grant(Role.TEAM_MEMBER, None)
    assert not mine.may_grant(Role.VIEWER, 1)
