"""A sign-on policy that is tightened: whom it lets in no more is out at the next request, not at the next sign-in."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from gateway.errors import NotFound
from gateway.store import sign_on
from gateway.store.database import read_session, write_session
from gateway.store.login_sessions import SignedIn, Visitor
from gateway.store.sign_on import KnownProvider
from gateway.store.sign_on_entry import Person, enter
from tests.integration.api.served import ServedApi
from tests.integration.api.signing import COOKIE, browser, make_user, sign_in

PLATFORM, STAFF = {"group": "platform", "role": "operator"}, {"group": "staff", "role": "viewer"}


def provider(api: ServedApi, name: str = "corp") -> KnownProvider:
    with read_session(api.engine) as session:
        return sign_on.known_provider(session, api.app.state.services.sealer, name, enabled_only=False)


def comes(api: ServedApi, by: KnownProvider, name: str, *groups: str) -> httpx2.Client:
    """The browser of somebody whom the provider has just sent."""
    sealer, nobody = api.app.state.services.sealer, Visitor(address="", user_agent="")
    person = Person(subject=f"s-{name}", name=name, directory_name=None, email=None, groups=groups)
    with write_session(api.engine) as session:
        entered = enter(session, sealer, by, person, "id-token", nobody, datetime.now(UTC))
    assert isinstance(entered, SignedIn)
    return api.bare_client(headers={"cookie": f"{COOKIE}={entered.cookie}"})


def inside(client: httpx2.Client) -> bool:
    return client.get("/api/v1/session").status_code == 200


@pytest.fixture
def owner(api: ServedApi) -> Iterator[httpx2.Client]:
    with api.client() as client:
        client.put("/api/v1/sign-on", json={"rules": [PLATFORM, STAFF]}).raise_for_status()
        document = {"name": "corp", "issuer": "https://login.example.com", "client_id": "sluicegate"}
        client.post("/api/v1/sign-on/providers", json=document).raise_for_status()
        yield client


@pytest.mark.parametrize(
    ("rules", "stay"),
    [
        ([PLATFORM, STAFF], {"ann", "bob"}),
        ([{"group": "others", "role": "owner"}, PLATFORM, STAFF], {"ann", "bob"}),
        ([STAFF], {"bob"}),
        ([STAFF, PLATFORM], {"bob"}),
        ([PLATFORM, {**STAFF, "role": "operator"}], {"ann"}),
        ([], set()),
    ],
)
def test_whom_the_rules_see_otherwise_signs_in_anew(
    api: ServedApi, owner: httpx2.Client, rules: list[dict[str, Any]], stay: set[str]
) -> None:
    corp = provider(api)
    with ExitStack() as stack:
        people = {
            name: stack.enter_context(comes(api, corp, name, *groups))
            for name, groups in (("ann", ("staff", "platform")), ("bob", ("staff",)))
        }
        local = stack.enter_context(browser(api))
        assert all(map(inside, people.values()))
        owner.put("/api/v1/sign-on", json={"rules": rules}).raise_for_status()
        assert {name for name, client in people.items() if inside(client)} == stay
        assert inside(local)


def test_passwords_for_owners_only_ends_what_others_began_by_them(api: ServedApi, owner: httpx2.Client) -> None:
    password = make_user(api, "mia", "viewer")
    closed = {"rules": [PLATFORM, STAFF], "passwords": "owners"}
    with (
        browser(api, "mia", password) as mia,
        browser(api) as local_owner,
        comes(api, provider(api), "bob", "staff") as bob,
    ):
        owner.put("/api/v1/sign-on", json=closed).raise_for_status()
        assert [inside(each) for each in (mia, local_owner, bob)] == [False, True, True]
    owner.patch("/api/v1/sign-on/providers/corp", json={"enabled": False}).raise_for_status()
    with browser(api, "mia", password) as mia:  # without a provider nobody is locked out
        owner.patch("/api/v1/sign-on/providers/corp", json={"enabled": True}).raise_for_status()
        assert not inside(mia)
        assert sign_in(mia, "mia", password).status_code == 403


@pytest.mark.parametrize("change", ["disabled", "another", "removed"])
def test_a_provider_that_goes_takes_its_people_along(api: ServedApi, owner: httpx2.Client, change: str) -> None:
    """Those who are in, and those who are on their way."""
    corp = provider(api)
    with comes(api, corp, "ann", "staff") as ann, browser(api) as local:
        if change == "removed":
            owner.delete("/api/v1/sign-on/providers/corp").raise_for_status()
        else:
            body = {"enabled": False} if change == "disabled" else {"issuer": "https://elsewhere.example.com"}
            owner.patch("/api/v1/sign-on/providers/corp", json=body).raise_for_status()
        assert not inside(ann)
        assert inside(local)
    with pytest.raises(NotFound, match="no sign-on provider 'corp'"):
        comes(api, corp, "ann", "staff")
