"""The usual changes of a group's members, told from the body of a PATCH (RFC 7644 3.5.2) as sets of ids.

Directories put in and take out some of ten thousand members; `scim2_models` compares each with each. What is written in
any other way is the library's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

ONE_MEMBER: Final = re.compile(r'members\[value eq "([^"\\]+)"\]', re.IGNORECASE)
MESSAGE: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class Op(StrEnum):
    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class MemberChange:
    op: Op
    ids: frozenset[str]


def member_changes(body: Any) -> Sequence[MemberChange] | None:
    """In their order. None: the body has something else in it, or is not good."""
    if not isinstance(body, Mapping) or body.get("schemas") != [MESSAGE] or body.keys() - {"schemas", "Operations"}:
        return None
    operations = body.get("Operations")
    if not isinstance(operations, list) or not operations:
        return None
    found = [_change(each) for each in operations]
    changes = [each for each in found if each is not None]
    return changes if len(changes) == len(found) else None


def changed(present: set[int], changes: Sequence[MemberChange], known: Mapping[str, int]) -> set[int]:
    """Who is in the group then. `known`: user by id; who is not in it is in no group."""
    members = set(present)
    for change in changes:
        ids = {known[each] for each in change.ids if each in known}
        match change.op:
            case Op.ADD:
                members |= ids
            case Op.REMOVE:
                members -= ids
            case Op.REPLACE:
                members = ids
    return members


def _change(operation: Any) -> MemberChange | None:
    if not isinstance(operation, Mapping) or operation.keys() - {"op", "path", "value"}:
        return None
    op, path, value = operation.get("op"), operation.get("path"), operation.get("value")
    if not isinstance(op, str) or op.lower() not in list(Op) or not isinstance(path, str):
        return None
    one = ONE_MEMBER.fullmatch(path)
    if one is not None:
        return MemberChange(Op.REMOVE, frozenset(one.groups())) if op.lower() == Op.REMOVE and value is None else None
    ids = _ids(value)
    return MemberChange(Op(op.lower()), ids) if path.lower() == "members" and ids is not None else None


def _ids(value: Any) -> frozenset[str] | None:
    ids = set()
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, Mapping) or each.keys() - {"value", "display", "$ref", "type"}:
            return None
        if not isinstance(each.get("value"), str) or each.get("type", "User") != "User":
            return None
        ids.add(each["value"])
    return frozenset(ids) if ids else None
