"""Whom an identity provider's groups admit, and as what: pure decisions over claims and mapping rules.

Rules go in order, the first whose group the person is in decides; one without a group fits everybody. Whom none fits is
refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.policy.roles import Role

NAME_CLAIMS: Final = ("preferred_username", "email", "upn")
"""Tried behind the configured one; the subject, which is nobody's name, is the last resort."""
LONGEST_NAME: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    group: str | None
    """None = everybody."""
    role: Role
    team: str | None


def admit(groups: Iterable[str], rules: Sequence[Rule]) -> Rule | None:
    """The rule that decides. None = none admits them."""
    held = frozenset(groups)
    return next((rule for rule in rules if rule.group is None or rule.group in held), None)


def claim_at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by a path with dots where it is nested (Keycloak: `realm_access.roles`). None: absent."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def groups_in(claims: Mapping[str, Any], path: str) -> tuple[str, ...] | None:
    """The groups that a claim names, as list or as one text; None = the claim is absent."""
    found = claim_at(claims, path)
    if found is None:
        return None
    if isinstance(found, str):
        return (found,)
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def name_in(claims: Mapping[str, Any], claim: str) -> str:
    """What the person is called here. An address that the provider has not verified is nobody's name."""
    for each in (claim, *NAME_CLAIMS, "sub"):
        found = claim_at(claims, each)
        if each == "email" and claims.get("email_verified") is False:
            continue
        if isinstance(found, str) and (name := _usable(found)):
            return name
    return _usable(f"user-{claims['sub']}")


def directory_name_in(claims: Mapping[str, Any], claim: str) -> str | None:
    """The configured claim as it stands, to find a directory's account by. None = it proves nobody's name: absent, no
    text, or an address that the provider does not call verified."""
    found = claim_at(claims, claim)
    if claim == "email" and claims.get("email_verified") is not True:
        return None
    return found if isinstance(found, str) else None


def _usable(text: str) -> str:
    """A name as users have them: no control characters, no slash, not digits alone."""
    name = "".join(each for each in text if each.isprintable() and each != "/").strip()[:LONGEST_NAME].strip()
    return "" if name.isdecimal() or name == "*" else name
