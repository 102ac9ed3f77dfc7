"""Drafts: collected, compared, published at once; what is changed in force meanwhile is not lost."""

import copy
import time
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gateway.policy.roles import Role
from gateway.policy.usage import LedgerRow
from gateway.store.database import write_session
from tests.integration.api.rows import insert_rows
from tests.integration.api.served import ServedApi

SECRET, NEWER = "sk-live-0123456789abcdef", "sk-live-fedcba9876543210"
BASE: dict[str, Any] = {
    "providers": [
        {
            "name": "openai",
            "dialect": "openai",
            "base_url": "https://api.openai.com/v1",
            "credentials": [{"name": "main", "value": SECRET}],
        },
        {"name": "local", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
    ],
    "routes": [
        {"name": "chat", "targets": [{"provider": "openai", "model": "gpt-5-mini", "weight": 3}]},
        {"name": "other", "targets": [{"provider": "local", "model": "m"}]},
    ],
    "teams": [
        {
            "name": "search",
            "apps": [
                {"name": "indexer", "routes": ["chat"], "keys": [{"name": "ci", "value": "sk-test-0123456789"}]}
            ],
        }
    ],
    "limits": [
        {"name": "budget", "scope": {"key": "ci"}, "metric": "cost_usd", "window": "month", "at_most": 50},
    ],
}  # fmt: skip


def text_of(document: Any) -> str:
    return httpx2.Request("POST", "http://x", json=document).content.decode()  # JSON is YAML


def parsed(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def apply(client: httpx2.Client, document: Any) -> None:
    client.post("/api/v1/apply", content=text_of(document), params={"prune": "true"}).raise_for_status()


def draft(client: httpx2.Client, kind: str, name: str, patch: dict[str, Any], etag: str | None = None) -> Any:
    headers = {"if-match": f'"{etag}"'} if etag else {}
    answer = client.patch(f"/api/v1/draft/entries/{kind}/{name}", json=patch, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def diff(client: httpx2.Client) -> Any:
    return client.get("/api/v1/draft/diff").raise_for_status().json()


def publish(client: httpx2.Client, note: str = "") -> httpx2.Response:
    revision = client.get("/api/v1/draft").json()["revision"]
    return client.post("/api/v1/versions", json={"draft": revision, "note": note})


def route(client: httpx2.Client, name: str = "chat") -> Any:
    return client.get(f"/api/v1/routes/{name}").json()


def test_changes_are_collected_compared_and_published_at_once(api: ServedApi) -> None:
    with api.client() as owner:
        apply(owner, BASE)
        assert owner.get("/api/v1/draft").json()["exists"] is False
        draft(owner, "route", "chat", {"retries": 4, "targets": [{"provider": "local", "model": "x"}]})
        draft(owner, "route", "fresh", {"targets": [{"provider": "local", "model": "y"}]})
        draft(owner, "limit", "budget", {"at_most": 10})
        assert route(owner)["retries"] == 1, "a draft puts nothing into force"
        told = owner.get("/api/v1/draft").json()
        assert (told["exists"], told["changes"], told["conflicts"]) == (True, 3, 0)
        found = diff(owner)
        by_name = {one["name"]: one for one in found["differences"]}
        assert by_name["fresh"]["action"] == "create"
        assert by_name["chat"]["words"] == [
            "target local/x added (weight 1)",
            "target openai/gpt-5-mini removed",
            "retries: 1 → 4",
        ]
        assert by_name["budget"]["words"] == ["at_most: 50 → 10"]
        assert by_name["budget"]["author"]["actor"] == told["updated_by"]
        assert "at_most: 50" in by_name["budget"]["before"]
        assert found["errors"] == found["conflicts"] == []
        published = publish(owner, "as agreed")
        assert published.status_code == 201, published.text
        assert published.json()["changes"] == ["update route chat", "create route fresh", "update limit budget"]
        assert route(owner)["retries"] == 4
        assert owner.get("/api/v1/draft").json()["exists"] is False
        assert publish(owner).status_code == 404
        number = published.json()["number"]
        draft(owner, "route", "chat", {"retries": 0})
        publish(owner)
        back = owner.get(f"/api/v1/versions/{number}/diff").json()
        assert [one["words"] for one in back["differences"]] == [["retries: 0 → 4"]]
        owner.post(f"/api/v1/versions/{number}/restore").raise_for_status()
        assert route(owner)["retries"] == 4
        assert owner.get(f"/api/v1/versions/{number}/diff").json()["differences"] == []


def test_what_is_changed_in_force_meanwhile_is_kept(api: ServedApi) -> None:
    with api.client() as one, api.client() as two:
        apply(one, BASE)
        draft(one, "route", "chat", {"retries": 5})
        two.patch("/api/v1/routes/chat", json={"max_output_tokens": 77}).raise_for_status()
        two.patch("/api/v1/routes/other", json={"retries": 9}).raise_for_status()
        (only,) = diff(one)["differences"]
        assert only["words"] == ["retries: 1 → 5"]
        assert publish(one).status_code == 201
        assert (route(one)["retries"], route(one)["max_output_tokens"], route(one, "other")["retries"]) == (5, 77, 9)


@pytest.mark.parametrize(("take", "retries"), [("draft", 5), ("in_force", 7)])
def test_the_same_field_changed_on_both_sides_waits_for_somebody_to_choose(
    sqlite_api: ServedApi, take: str, retries: int
) -> None:
    with sqlite_api.client() as one:
        apply(one, BASE)
        draft(one, "route", "chat", {"retries": 5})
        draft(one, "route", "other", {"retries": 3})
        one.patch("/api/v1/routes/chat", json={"retries": 7}).raise_for_status()
        (conflict,) = diff(one)["conflicts"]
        told = {"kind": "route", "name": "chat", "field": "retries", "base": None, "draft": 5, "in_force": 7}
        assert conflict == told
        refused = publish(one)
        assert refused.status_code == 409
        assert "route chat (retries)" in refused.json()["detail"]
        where = {"kind": "route", "name": "chat", "field": "retries"}
        one.post("/api/v1/draft/resolve", json={**where, "take": take}).raise_for_status()
        assert one.post("/api/v1/draft/resolve", json={**where, "take": take}).status_code == 404
        assert publish(one).status_code == 201
        assert (route(one)["retries"], route(one, "other")["retries"]) == (retries, 3)


def test_two_who_draft_the_same_route_see_each_other(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as one, sqlite_api.client() as two:
        apply(one, BASE)
        seen = one.get("/api/v1/draft/entries/route/chat").json()
        assert seen["drafted"] is False
        draft(two, "route", "chat", {"retries": 2}, seen["etag"])
        headers = {"if-match": f'"{seen["etag"]}"'}
        refused = one.patch("/api/v1/draft/entries/route/chat", json={"retries": 8}, headers=headers)
        assert refused.status_code == 412
        assert refused.json()["theirs"]["retries"] == 2
        draft(one, "route", "chat", {"retries": 8}, refused.json()["etag"])
        assert one.get("/api/v1/draft/entries/route/chat").json()["entry"]["retries"] == 8


def test_a_whole_document_is_checked_line_by_line(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        apply(owner, BASE)
        read = owner.get("/api/v1/draft/document").json()
        wrong = read["document"].replace("provider: local", "provider: nobody")
        refused = owner.put("/api/v1/draft", json={"document": wrong})
        assert refused.status_code == 422
        (error,) = refused.json()["errors"]
        assert "nobody" in wrong.splitlines()[error["line"] - 1]
        assert owner.get("/api/v1/draft").json()["exists"] is False
        right = read["document"].replace("weight: 3", "weight: 4")
        saved = owner.put("/api/v1/draft", json={"document": right}, headers={"if-match": '"0"'})
        assert saved.json()["changes"] == 1
        again = owner.put("/api/v1/draft", json={"document": right}, headers={"if-match": '"0"'})
        assert again.status_code == 412
        assert diff(owner)["differences"][0]["words"] == ["target openai/gpt-5-mini: weight: 3 → 4"]
        owner.put("/api/v1/draft", json={"document": read["document"]}).raise_for_status()
        assert owner.get("/api/v1/draft").json()["exists"] is False, "a draft that changes nothing is none"


def test_a_secret_can_be_drafted_and_is_never_shown(api: ServedApi) -> None:
    with api.client() as owner:
        apply(owner, BASE)
        draft(owner, "provider", "openai", {"credentials": [{"name": "main", "value": NEWER}]})
        draft(owner, "provider", "fresh", {
            "dialect": "openai", "base_url": "http://10.0.0.9/v1", "credentials": [{"name": "a", "value": NEWER}],
        })  # fmt: skip
        draft(owner, "provider", "fresh", {"credentials": [{"name": "a"}, {"name": "b", "value": SECRET}]})
        told = [owner.get(f"/api/v1/draft/{path}").text for path in ("document", "diff", "entries/provider/fresh")]
        told.append(owner.get("/api/v1/audit").text)
        assert not any(NEWER in text or SECRET in text for text in told)
        words = {one["name"]: one["words"] for one in diff(owner)["differences"]}
        assert words["openai"] == ["credential main: another secret"]
        assert publish(owner).status_code == 201
        shown = {one["name"]: one["credentials"] for one in owner.get("/api/v1/providers").json()["items"]}
        assert shown["openai"][0]["last_four"] == NEWER[-4:]
        assert [one["last_four"] for one in shown["fresh"]] == [NEWER[-4:], SECRET[-4:]]


def test_a_key_without_value_is_made_when_it_is_published(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        apply(owner, BASE)
        document = parsed(owner.get("/api/v1/draft/document").json()["document"])
        document["teams"][0]["apps"][0]["keys"].append({"name": "late"})
        owner.put("/api/v1/draft", json={"document": text_of(document)}).raise_for_status()
        (only,) = diff(owner)["differences"]
        assert (only["action"], only["kind"], only["name"]) == ("create", "key", "indexer/late")
        assert "value" not in only["after"]
        (made,) = publish(owner).json()["keys"]
        assert made["key"].startswith("sk-sg-")
        listed = {one["name"] for one in owner.get("/api/v1/keys").json()["items"]}
        assert "late" in " ".join(listed)


def test_removals_and_reverts(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        apply(owner, BASE)
        in_use = owner.delete("/api/v1/draft/entries/route/chat")
        assert in_use.status_code == 422, "the app still names it"
        owner.delete("/api/v1/draft/entries/route/other").raise_for_status()
        draft(owner, "route", "chat", {"retries": 2})
        assert owner.get("/api/v1/draft/entries/route/other").json()["entry"] is None
        assert owner.delete("/api/v1/draft/entries/route/other", params={"revert": "true"}).json()["changes"] == 1
        owner.delete("/api/v1/draft/entries/route/other").raise_for_status()
        assert publish(owner).status_code == 201
        assert owner.get("/api/v1/routes/other").status_code == 404


def test_renaming_and_discarding(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        apply(owner, BASE)
        assert owner.patch("/api/v1/draft/entries/route/chat", json={"name": "talk"}).status_code == 400
        draft(owner, "route", "chat", {"retries": 2})
        assert owner.delete("/api/v1/draft", headers={"if-match": '"99"'}).status_code == 412
        assert owner.delete("/api/v1/draft").status_code == 204
        assert owner.delete("/api/v1/draft").status_code == 404
        assert diff(owner)["differences"] == []


@pytest.mark.parametrize(
    ("kind", "name", "patch", "field"),
    [
        ("route", "chat", {"retries": 1000}, "retries"),
        ("route", "chat", {"targets": [{"provider": "nobody", "model": "m"}]}, "targets.0.provider"),
        ("app", "indexer", {"sources": ["nowhere"]}, "sources.0"),
        ("app", "indexer", {"team": "nobody"}, ""),
        ("app", "lost", {"routes": []}, "team"),
        ("limit", "budget", {"scope": {"route": "nowhere"}}, "scope.route"),
        ("provider", "openai", {"credentials": ["main"]}, "credentials.0"),
        ("provider", "openai", {"tls": "none"}, "tls"),
    ],
)
def test_what_is_wrong_names_the_entrys_own_field(
    sqlite_api: ServedApi, kind: str, name: str, patch: dict[str, Any], field: str
) -> None:
    with sqlite_api.client() as owner:
        apply(owner, BASE)
        refused = owner.patch(f"/api/v1/draft/entries/{kind}/{name}", json=patch)
        assert refused.status_code in (409, 422), refused.text
        if field:
            assert [each["field"] for each in refused.json()["errors"]] == [field]
            assert refused.json()["detail"].startswith(f"{kind} {name!r}: {field} ")
        assert owner.get("/api/v1/draft").json()["exists"] is False


def test_a_proxys_password_goes_with_its_user(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        apply(owner, BASE)
        made = draft(owner, "provider", "openai", {"proxy": "http://sluice:gate-keeper@proxy.internal:3128"})["entry"]
        assert made["proxy"]["user"] == "sluice"
        assert made["proxy"]["password"].startswith("sealed:")
        assert publish(owner).status_code == 201
        draft(owner, "provider", "openai", {"proxy": {"user": "other"}})
        only = draft(owner, "provider", "openai", {"proxy": {"user": None, "password": None}})["entry"]
        assert only["proxy"] == {"url": "http://proxy.internal:3128"}
        assert publish(owner).status_code == 201
        assert owner.get("/api/v1/providers/openai").json()["proxy"]["has_password"] is False


def test_a_draft_that_no_longer_applies_says_why(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        apply(owner, BASE)
        draft(owner, "route", "fresh", {"targets": [{"provider": "local", "model": "y"}]})
        owner.delete("/api/v1/routes/other").raise_for_status()
        owner.delete("/api/v1/providers/local").raise_for_status()
        found = diff(owner)
        assert "names no provider: 'local'" in found["errors"][0]["problem"]
        assert "local" in found["after"].splitlines()[found["errors"][0]["line"] - 1]
        assert publish(owner).status_code == 422
        owner.delete("/api/v1/draft/entries/route/fresh", params={"revert": "true"}).raise_for_status()
        assert owner.get("/api/v1/draft").json()["exists"] is False


def test_viewers_see_that_there_is_a_draft_and_nothing_of_it(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner, sqlite_api.client(Role.VIEWER) as viewer:
        apply(owner, BASE)
        draft(owner, "route", "chat", {"retries": 2})
        assert viewer.get("/api/v1/draft").json()["changes"] == 1
        assert viewer.get("/api/v1/draft/document").status_code == 403


def test_the_last_hours_requests_are_tried_under_a_draft_and_a_version(api: ServedApi) -> None:
    now_ns = time.time_ns()

    def row(number: int, minutes_ago: int, **fields: Any) -> LedgerRow:
        usual: dict[str, Any] = {
            "team": "search", "app": "indexer", "key": "ci", "route": "chat", "target": "openai/gpt-5-mini",
            "status": 200, "outcome": "completed", "input_tokens": 10, "output_tokens": 5,
        }  # fmt: skip
        started = now_ns - minutes_ago * 60_000_000_000
        return LedgerRow(id=f"{number:026x}", started_at_ns=started, dialect="openai", **{**usual, **fields})

    with api.client() as owner:
        apply(owner, BASE)
        number = owner.post("/api/v1/versions", json={}).json()["number"]
        with write_session(api.engine) as session:
            insert_rows(session, [*[row(each, 30 - each) for each in range(20)], row(99, 90)])
        nothing = owner.post("/api/v1/draft/dry-run").raise_for_status().json()
        assert (nothing["requests"], nothing["findings"]) == (20, [])
        draft(owner, "app", "indexer", {"routes": ["other"]})
        found = owner.post("/api/v1/draft/dry-run").raise_for_status().json()
        assert (found["requests"], found["refused"], found["whole"]) == (20, 20, True)
        (only,) = found["findings"]
        assert (only["effect"], only["what"]) == ("no_access", "the app indexer may not call chat")
        assert (only["certain"], only["apps"]) == (True, ["indexer"])
        assert owner.get(f"/api/v1/ledger/{only['example']}").status_code == 200
        assert owner.post("/api/v1/draft/dry-run", params={"minutes": 120}).json()["requests"] == 21
        draft(owner, "app", "indexer", {"routes": ["chat"]})
        few = {"scope": {"app": "indexer"}, "metric": "requests", "window": "lifetime", "at_most": 3}
        draft(owner, "limit", "few", few)
        assert owner.post("/api/v1/draft/dry-run").json()["refused"] == 17
        publish(owner)
        assert owner.post(f"/api/v1/versions/{number}/dry-run").json()["refused"] == 0
        assert "few" in owner.get(f"/api/v1/versions/{number}/diff").text
        assert owner.get("/api/v1/draft").json()["exists"] is False


names = st.sampled_from(["a", "b", "c"])
targets = st.lists(
    st.fixed_dictionaries({"provider": st.sampled_from(["openai", "local"]), "model": names, "weight": st.just(2)}),
    min_size=1, max_size=3, unique_by=lambda one: (one["provider"], one["model"]),
)  # fmt: skip
routes = st.fixed_dictionaries(
    {"targets": targets},
    optional={
        "retries": st.integers(0, 9),
        "timeout": st.fixed_dictionaries({}, optional={"connect": st.sampled_from(["500ms", 2, "1m"])}),
        "strategy": st.sampled_from(["ordered", "weighted", "cheapest"]),
        "prefer": st.lists(names, unique=True, max_size=2),
    },
)
limits = st.fixed_dictionaries(
    {
        "metric": st.just("cost_usd"),
        "window": st.sampled_from(["day", "month"]),
        "at_most": st.sampled_from([1, 0.25, 50.0]),
    },
    optional={"scope": st.sampled_from([{}, {"key": "ci"}, {"team": "search"}, {"credential": "main"}])},
)
documents = st.fixed_dictionaries(
    {"routes": st.dictionaries(names, routes, max_size=3), "limits": st.dictionaries(names, limits, max_size=3)}
)


def named(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, **entry} for name, entry in found.items()]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(first=documents, second=documents)
def test_what_has_been_applied_differs_from_nothing(
    sqlite_api: ServedApi, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """diff(apply(x)) is empty, whatever x; and publishing y over x leaves nothing of either between them."""
    with sqlite_api.client() as owner:
        for wanted in (first, second):
            document = copy.deepcopy(BASE)
            document["routes"] = [*named(wanted["routes"]), BASE["routes"][0]]
            document["limits"] = named(wanted["limits"])
            saved = owner.put("/api/v1/draft", json={"document": text_of(document)})
            assert saved.status_code == 200, saved.text
            if saved.json()["exists"]:
                assert len(diff(owner)["differences"]) == saved.json()["changes"]
                assert publish(owner).status_code == 201
            again = owner.put("/api/v1/draft", json={"document": text_of(document)}).json()
            assert again["exists"] is False, diff(owner)["differences"]
