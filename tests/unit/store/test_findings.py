"""Findings: what makes one, how reports add up, which go first, and how many wait."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from gateway.probes.denial_maps import SLOTS
from gateway.settings import Settings
from gateway.store import findings, migrate
from gateway.store.catalogue import entries_of, merged, shipped
from gateway.store.config.denials import MOST_DENIALS
from gateway.store.database import make_engine
from gateway.store.discovery_models import Discovery
from gateway.store.sql_thread import write_transaction
from tests.support.fake_agent import finding


@pytest.fixture
def connection(sqlite_url: str) -> Iterator[Connection]:
    engine = make_engine(Settings(database=sqlite_url).database_url)
    migrate.upgrade(engine)
    with write_transaction(engine) as found:
        yield found
    engine.dispose()


def gathered(*items: dict[str, Any]) -> findings.Gathered:
    found = findings.Gathered("node")
    found.add(items)
    return found


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [
        ("pid", 7, True), ("process", "renamed", True), ("evidence", "dns", True), ("address", "192.0.2.8", True),
        ("cgroup", "/x", True), ("port", 80, True), ("executable", "/bin/other", False), ("uid", 7, False),
        ("container", "web", False), ("unit", "x.service", False), ("client", "10.9.0.7", False),
        ("provider", "mistral", False), ("host", "other.example", False),
    ],
)  # fmt: skip
def test_what_makes_it_another_finding(field: str, value: object, same: bool) -> None:
    assert len(gathered(finding(), finding(**{field: value})).take()) == (1 if same else 2)


def test_the_same_on_another_node_is_another_one() -> None:
    found = findings.finding_of(finding())
    assert findings.fingerprint("a", found) != findings.fingerprint("b", found)


def test_what_was_put_back_adds_to_what_came_meanwhile() -> None:
    waiting = gathered(finding(connections=2))
    taken = waiting.take()
    assert not waiting
    waiting.add([finding(connections=3, first_seen_s=50.0, last_seen_s=60.0, evidence="dns")])
    waiting.put_back(taken)
    (one,) = waiting.take().values()
    assert (one.connections, one.first_seen_s, one.evidence) == (5, 50.0, "sni")


def test_no_more_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "MOST_WAITING", 3)
    waiting = gathered(*(finding(host=f"h{n}.example") for n in range(5)))
    assert (len(waiting.take()), waiting.lost) == (3, 2)


@pytest.mark.parametrize(
    "wrong",
    [{"connections": -1}, {"bytes": 1.5}, {"client": "here"}, {"evidence": "guess"}, {"host": ""}, {"provider": None},
     {"last_seen_s": float("inf")}, {"first_seen_s": "then"}, {"process": 7}, {"uid": True}, {"port": "443"}],
    ids=str,
)  # fmt: skip
def test_what_is_no_finding_is_counted(wrong: dict[str, Any]) -> None:
    waiting = gathered(finding(**wrong), finding())
    assert (waiting.refused, len(waiting.take())) == (1, 1)


def test_counts_do_not_overflow(connection: Connection) -> None:
    most = {"connections": 2**63, "bytes": 2**70}
    for _ in range(2):
        findings.write(connection, "node", gathered(finding(**most), finding(**most)).take())
    row = connection.execute(select(Discovery.connections, Discovery.bytes)).one()
    assert tuple(row) == (findings.GREATEST_COUNT, findings.GREATEST_COUNT)


def test_the_longest_unseen_go_first_and_what_was_decided_stays(connection: Connection) -> None:
    items = [finding(host=f"h{n}.example", first_seen_s=100.0 + n, last_seen_s=100.0 + n) for n in range(6)]
    new = findings.write(connection, "node", gathered(*items).take())
    assert len(new) == 6
    ids = [written.id for written in new]
    for number, state in ((ids[0], "deny"), (ids[5], "ignore")):
        connection.execute(update(Discovery).where(Discovery.id == number).values(state=state))
    assert findings.forget_oldest(connection, most=6) == []
    assert findings.forget_oldest(connection, most=4) == [ids[5], ids[1]]
    assert connection.scalar(select(func.count()).select_from(Discovery)) == 4


def test_rows_are_added_to(connection: Connection) -> None:
    findings.write(connection, "node", gathered(finding(first_seen_s=100.0, last_seen_s=110.0)).take())
    again = finding(first_seen_s=105.0, last_seen_s=120.0, evidence="dns", port=80)
    assert findings.write(connection, "node", gathered(again).take()) == []
    row = connection.execute(select(Discovery)).one()
    assert (row.connections, row.bytes, row.evidence, row.port) == (2, 2000, "dns", 80)
    times = (datetime.fromtimestamp(100, UTC), datetime.fromtimestamp(120, UTC))
    assert (row.first_seen, row.last_seen) == times


def test_every_word_is_kept(connection: Connection) -> None:
    given = finding(unit="x.service", container="web", cgroup="/x", client="10.9.0.7")
    findings.write(connection, "node", gathered(given).take())
    row = connection.execute(select(Discovery)).one()
    named = {"user_name": "user"}
    kept = ("process", "executable", "uid", "user_name", "cgroup", "unit", "container", "client", "provider", "host",
            "address", "port", "evidence", "connections", "bytes")  # fmt: skip
    assert {name: getattr(row, name) for name in kept} == {name: given[named.get(name, name)] for name in kept}


def test_catalogues_are_merged() -> None:
    own = entries_of(b'[mine]\nhosts = ["*.LLM.example."]\n[openai]\nhosts = []\n')
    found = merged(shipped(), own, {"inner": "api.inner.example", "at": "192.0.2.1", "known": "a.llm.example"})
    assert found["mine"] == {"title": "mine", "hosts": ["*.llm.example"]}
    assert found["inner"]["hosts"] == ["api.inner.example"]
    assert "openai" not in found
    assert not {"at", "known"} & set(found)
    assert merged(shipped(), {}, {}) == shipped()
    for wrong in (b"[", b"a = 1", b'[a]\nhosts = ["no host"]', b"[a]", b"\xff"):
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
            entries_of(wrong)


def test_as_many_denials_are_kept_as_the_kernel_takes() -> None:
    assert MOST_DENIALS == SLOTS
