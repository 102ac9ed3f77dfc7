"""By which claim an account of a directory's is somebody's."""

from typing import Any

import pytest

from gateway.policy.sign_on import directory_name_in


@pytest.mark.parametrize(
    ("claims", "claim", "name"),
    [
        ({"preferred_username": "ann"}, "preferred_username", "ann"),
        ({"preferred_username": " ann/"}, "preferred_username", " ann/"),
        ({"email": "ann@example.com", "email_verified": True}, "preferred_username", None),
        ({"preferred_username": ["ann"]}, "preferred_username", None),
        ({"person": {"name": "ann"}}, "person.name", "ann"),
        ({"email": "ann@example.com", "email_verified": True}, "email", "ann@example.com"),
        ({"email": "ann@example.com", "email_verified": False}, "email", None),
        ({"email": "ann@example.com", "email_verified": "true"}, "email", None),
        ({"email": "ann@example.com"}, "email", None),
    ],
)
def test_the_configured_claim_counts_as_it_stands(claims: dict[str, Any], claim: str, name: str | None) -> None:
    assert directory_name_in(claims, claim) == name
