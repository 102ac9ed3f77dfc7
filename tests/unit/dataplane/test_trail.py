"""A request's attempts: told once each, in their order, and never more than a ledger row has room for."""

from gateway.dataplane.trail import NONE_YET, Trail
from gateway.policy.attempts import MOST_TOLD
from gateway.policy.usage import LedgerRow

MS = 1_000_000


def row(attempts: int, target: str = "up/m") -> LedgerRow:
    return LedgerRow(id="0", started_at_ns=5, dialect="openai", target=target, attempts=attempts)


def test_times_are_those_since_the_request_came() -> None:
    trail = Trail()
    trail.connect_ns = 3 * MS
    trail.add(row(1), 100 * MS, 102 * MS, 150 * MS, 151 * MS, 503, None)
    assert trail.attempts == [
        {
            "target": "up/m", "started_ms": 2.0, "connect_ms": 3.0, "first_byte_ms": 50.0, "ended_ms": 51.0,
            "status": 503, "error_code": None,
        }
    ]  # fmt: skip


def test_what_never_came_about_is_not_known() -> None:
    trail = Trail()
    trail.connect_ns = NONE_YET
    trail.add(row(1), 0, 2 * MS, 0, 7 * MS, None, "connect_failed")
    (attempt,) = trail.attempts
    assert (attempt["connect_ms"], attempt["first_byte_ms"], attempt["ended_ms"]) == (None, None, 7.0)


def test_a_refusal_without_a_body_came_with_its_head() -> None:
    trail = Trail()
    trail.add(row(1), 0, 2 * MS, 0, 7 * MS, 429, None)
    assert trail.attempts[0]["first_byte_ms"] == 7.0
    assert trail.attempts[0]["connect_ms"] == 0.0


def test_an_attempt_is_told_of_once() -> None:
    trail = Trail()
    for _ in range(2):
        trail.add(row(1), 0, 1, 2, 3, 500, None)
    trail.add(row(2), 0, 4, 5, 6, 200, None)
    assert [attempt["status"] for attempt in trail.attempts] == [500, 200]


def test_of_many_the_first_and_the_last_are_told() -> None:
    trail = Trail()
    for number in range(1, 41):
        trail.add(row(number, f"up/{number}"), 0, number, 0, number, None, "connect_failed")
    targets = [attempt["target"] for attempt in trail.attempts]
    assert targets == [*[f"up/{number}" for number in range(1, MOST_TOLD)], "up/40"]
