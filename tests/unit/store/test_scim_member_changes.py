"""Changes of members as sets come to what the library makes of the same PATCH; all else is left to it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scim2_models import Context, PatchOp

from gateway.store.scim import POLICY, Group, GroupMember
from gateway.store.scim_member_changes import MESSAGE, changed, member_changes

IDS = st.sampled_from(["1", "2", "3", "4", "5"])


def body(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [MESSAGE], "Operations": list(operations)}


def some(ids: list[str]) -> list[dict[str, str]]:
    return [{"value": each} for each in ids]


def operations() -> st.SearchStrategy[list[dict[str, Any]]]:
    ids = st.lists(IDS, min_size=1, max_size=4, unique=True)
    change = st.one_of(
        st.builds(lambda some_ids: {"op": "add", "path": "members", "value": some(some_ids)}, ids),
        st.builds(lambda some_ids: {"op": "Replace", "path": "members", "value": some(some_ids)}, ids),
        st.builds(lambda some_ids: {"op": "remove", "path": "members", "value": some(some_ids)}, ids),
        st.builds(lambda one: {"op": "Remove", "path": f'members[value eq "{one}"]'}, IDS),
    )
    return st.lists(change, min_size=1, max_size=5)


@given(present=st.sets(IDS), asked=operations())
def test_it_comes_to_the_same(present: set[str], asked: list[dict[str, Any]]) -> None:
    changes = member_changes(body(*asked))
    assert changes is not None
    ours = changed({int(each) for each in present}, changes, {each: int(each) for each in "12345"})
    group = Group(display_name="staff", members=[GroupMember(value=each, type="User") for each in sorted(present)])
    patch = PatchOp[Group].model_validate(body(*asked), scim_ctx=Context.RESOURCE_PATCH_REQUEST, scim_policy=POLICY)
    patch.patch(group, scim_policy=POLICY)
    assert ours == {int(each.value or "") for each in group.members or ()}


MEMBER = {"value": "1"}
OTHERS: list[Any] = [
    None,
    [],
    {"Operations": [{"op": "add", "path": "members", "value": [MEMBER]}]},
    body(),
    body() | {"Operations": "members"},
    body({"op": "add", "path": "members", "value": [MEMBER]}) | {"more": 1},
    body({"op": "add", "value": {"members": [MEMBER]}}),
    body({"op": "add", "path": "displayName", "value": "x"}),
    body({"op": "add", "path": "members", "value": [MEMBER]}, {"op": "replace", "path": "displayName", "value": "x"}),
    body({"op": "move", "path": "members", "value": [MEMBER]}),
    body({"op": 1, "path": "members", "value": [MEMBER]}),
    body({"op": "add", "path": 'members[value eq "1"]', "value": MEMBER}),
    body({"op": "remove", "path": "members"}),
    body({"op": "remove", "path": 'members[type eq "User"]'}),
    body({"op": "remove", "path": 'members[value eq "1"].display'}),
    body({"op": "add", "path": "members", "value": []}),
    body({"op": "add", "path": "members", "value": ["1"]}),
    body({"op": "add", "path": "members", "value": [{"value": 1}]}),
    body({"op": "add", "path": "members", "value": [{"value": "1", "type": "Group"}]}),
    body({"op": "add", "path": "members", "value": [{"value": "1", "primary": True}]}),
]


@pytest.mark.parametrize("asked", OTHERS, ids=str)
def test_what_is_written_otherwise_is_the_librarys(asked: Any) -> None:
    assert member_changes(asked) is None


def test_who_is_not_known_is_in_no_group() -> None:
    changes = member_changes(body({"op": "remove", "path": "members", "value": some(["9"])}))
    assert changes is not None
    assert changed({1}, changes, {}) == {1}
