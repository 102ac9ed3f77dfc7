"""The audit log over the REST API: from where, filters, verification, export."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from gateway.policy.roles import Role
from tests.integration.api.served import OWNER_PASSWORD, ServedApi


def test_each_entry_says_from_where(api: ServedApi) -> None:
    with api.client() as owner:
        owner.post("/api/v1/teams", json={"name": "search"}).raise_for_status()
        with api.bare_client() as person:
            signed_in = person.post("/api/v1/session", json={"username": "admin", "password": OWNER_PASSWORD})
            assert signed_in.status_code == 201
        items = owner.get("/api/v1/audit").json()["items"]
    assert [(each["action"], each["origin"]) for each in items if each["action"] == "sign-in"] == [
        ("sign-in", "127.0.0.1")
    ]
    assert [each["origin"] for each in items if each["name"] == "search"] == ["127.0.0.1"]
    assert [each["origin"] for each in items if each["actor"] == "cli:tests"] == [None]


def test_filters_go_together(api: ServedApi) -> None:
    with api.client() as owner:
        for name in ("search", "ads"):
            owner.post("/api/v1/teams", json={"name": name}).raise_for_status()
        owner.patch("/api/v1/teams/ads", json={"name": "adverts"}).raise_for_status()
        actor = owner.get("/api/v1/audit", params={"name": "search"}).json()["items"][0]["actor"]

        def names(**asked: str) -> list[str]:
            return [each["name"] for each in owner.get("/api/v1/audit", params=asked).json()["items"]]

        assert names(kind="team", actor=actor, action="create") == ["ads", "search"]
        assert names(actor="user:nobody") == []
        assert names(action="update", name="ads") == ["ads"]
        later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
        earlier = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        assert names(kind="team", **{"from": later}) == []
        assert len(names(kind="team", **{"from": earlier, "to": later})) == 3
        assert names(kind="team", to=earlier) == []


def test_verification_tells_of_the_first_bad_entry(api: ServedApi) -> None:
    with api.client() as owner:
        for number in range(5):
            owner.post("/api/v1/teams", json={"name": f"t{number}"}).raise_for_status()
        said = owner.get("/api/v1/audit/verify").json()
        assert said["intact"]
        assert said["problem"] is None
        noted = said["head"]
        assert owner.get("/api/v1/audit/verify", params={"noted": noted}).json()["intact"]
        other = noted[:-1] + ("0" if noted[-1] != "0" else "1")
        assert not owner.get("/api/v1/audit/verify", params={"noted": other}).json()["intact"]
        assert owner.get("/api/v1/audit/verify", params={"noted": "nonsense"}).status_code == 400
        with api.engine.begin() as connection:
            connection.execute(text("UPDATE audit_entry SET name = 'other' WHERE seq = 3"))
        said = owner.get("/api/v1/audit/verify").json()
        assert (said["intact"], said["broken_at"], said["entries"]) == (False, 3, 2)
        assert said["head"].startswith("2:")


def hash_of(entry: dict[str, Any]) -> str:
    """Computed from the export alone, as docs/identity.md says."""

    def canonical(value: Any) -> str | None:
        if value is None:
            return None
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    parts = [entry["previous_hash"], entry["seq"], entry["at"], entry["actor"], entry["action"], entry["kind"],
             entry["name"], canonical(entry["before"]), canonical(entry["after"])]  # fmt: skip
    if entry["origin"] is not None:
        parts.append(entry["origin"])
    return hashlib.sha256(json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def test_the_export_can_be_verified_by_anyone(api: ServedApi) -> None:
    with api.client() as owner:
        for number in range(300):  # more than a piece
            owner.post("/api/v1/teams", json={"name": f"t{number}-ü"}).raise_for_status()
        answer = owner.get("/api/v1/audit/export")
        assert answer.headers["content-type"].startswith("application/jsonl")
        assert "attachment" in answer.headers["content-disposition"]
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [each["seq"] for each in lines] == list(range(1, len(lines) + 1))
        previous = "00" * 32
        for each in lines:
            assert each["previous_hash"] == previous
            assert each["hash"] == hash_of(each)
            previous = each["hash"]
        few = owner.get("/api/v1/audit/export", params={"kind": "team", "name": "t7-ü"}).text.splitlines()
        assert len(few) == 1
        with api.client(Role.OPERATOR) as operator:
            assert operator.get("/api/v1/audit/export").status_code == 403
