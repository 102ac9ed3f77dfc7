"""Several keepers look at the same notices: each is written once, and each delivery is one keeper's at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from gateway.policy.model import Metric, Window
from gateway.policy.quota import account_of
from gateway.policy.roles import Authority, Role
from gateway.settings import Settings
from gateway.store import budget_notices, notices
from gateway.store.budget_notices import Reached, reached
from gateway.store.config import Editing, Limits, Teams
from gateway.store.contacts import Contacts
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.documents import LimitDocument, ScopeDocument, TeamEntry
from gateway.store.keeper_notices import KeeperNotices
from gateway.store.leases import LimitUse
from gateway.store.models import now
from gateway.store.notices import Channel, DeliveryState, Destination, Kind
from gateway.store.portal_models import Notice, NoticeDelivery
from gateway.store.sealing import load_sealer
from gateway.store.sql_thread import SqlThread

KEEPERS = 6
NOBODY = Contacts(sends_mail=True, emails=("ops@example.com",), webhook=None)


@pytest.fixture
def settings(migrated_url: str, tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, database=migrated_url)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    found = make_engine(settings.database_url, pool_size=KEEPERS)
    yield found
    found.dispose()


def limit_of(engine: Engine, settings: Settings, **fields: object) -> int:
    with write_session(engine) as session:
        authority = Authority(actor="cli:tests", role=Role.OWNER)
        editing = Editing(session=session, authority=authority, sealer=load_sealer(settings))
        if not Teams(editing).list():
            Teams(editing).create(TeamEntry(name="search"))
        wanted = {"name": "month", "metric": Metric.COST_USD, "window": Window.MONTH, "at_most": 50} | fields
        return Limits(editing).create(LimitDocument.model_validate(wanted | {"scope": ScopeDocument(team="search")})).id


def use(limit_id: int, ratio: float, *, concurrent: bool = False) -> LimitUse:
    key = (account_of(limit_id, Metric.COST_USD), 1_000)
    return LimitUse(limit_id=limit_id, name="x", key=key, at_most=50, ratio=ratio, concurrent=concurrent)


def reached_of(limit_id: int, start_s: int, threshold: int, ratio: float, at_most: int = 50) -> Reached:
    return Reached(limit_id, start_s, threshold, ratio, account_of(limit_id, Metric.COST_USD), at_most)


def test_the_highest_threshold_is_told_of() -> None:
    def found(ratio: float, refused: bool = False) -> list[int]:
        return [each.threshold for each in reached([use(1, ratio)], [1] if refused else [])]

    assert [found(ratio) for ratio in (0.0, 0.499, 0.5, 0.79, 0.8, 0.999, 1.0, 1.2)] == [
        [], [], [50], [50], [80], [80], [100], [100]
    ]  # fmt: skip
    # A refusal says that it is used up only near its end: before, others hold what is left.
    assert [found(ratio, refused=True) for ratio in (0.1, 0.6, 0.8)] == [[], [50], [100]]
    assert reached([use(1, 1.0, concurrent=True)], [1]) == []
    once = {each.once for at_most in (50, 100) for each in reached([replace(use(1, 0.5), at_most=at_most)], [])}
    assert len(once) == 2


def test_many_keepers_write_a_budgets_notice_once(engine: Engine, settings: Settings) -> None:
    limit_id = limit_of(engine, settings)

    def write(_: int) -> bool:
        with write_session(engine) as session:
            return budget_notices.write(session, NOBODY, reached_of(limit_id, 1_000, 80, 0.83))

    with ThreadPoolExecutor(KEEPERS) as pool:
        assert sorted(pool.map(write, range(KEEPERS))) == [False] * (KEEPERS - 1) + [True]
    with read_session(engine) as session:
        (found,) = session.scalars(select(Notice)).all()
        assert found.title == "Budget month: 80 % of $50.00 a month is used"
        # Another threshold, another window and a raised budget are told of for themselves.
    for what in (
        reached_of(limit_id, 1_000, 100, 1.0),
        reached_of(limit_id, 2_000, 80, 0.8),
        reached_of(limit_id, 1_000, 80, 0.8, at_most=99),
    ):
        with write_session(engine) as session:
            assert budget_notices.write(session, NOBODY, what)


@pytest.mark.parametrize(
    "fields",
    [
        {"metric": Metric.REQUESTS},
        {"window": Window.HOUR},
        {"metric": Metric.CONCURRENT_REQUESTS, "window": None},
    ],
)
def test_what_is_no_budget_is_not_told_of(engine: Engine, settings: Settings, fields: dict[str, object]) -> None:
    limit_id = limit_of(engine, settings, **fields)
    with write_session(engine) as session:
        assert not budget_notices.write(session, NOBODY, reached_of(limit_id, 1_000, 100, 1.0))


def test_a_delivery_is_one_keepers_at_a_time(engine: Engine, settings: Settings) -> None:
    with write_session(engine) as session:
        to = [Destination(Channel.EMAIL, f"{number}@example.com") for number in range(4)]
        notices.write(session, Kind.BUDGET, "x", {}, team_id=None, to=to)
    sql = SqlThread("tests")
    keepers = [KeeperNotices(settings, engine, load_sealer(settings), sql, sql) for _ in range(KEEPERS)]
    due = keepers[0]._due()
    assert len(due) == len(to)

    def claim(keeper: KeeperNotices) -> list[int]:
        return [each for each in due if keeper._claim(each) is not None]

    with ThreadPoolExecutor(KEEPERS) as pool:
        claimed = [each for found in pool.map(claim, keepers) for each in found]
    assert sorted(claimed) == sorted(due)
    assert keepers[0]._due() == []
    # Its keeper has died: after a while it is anybody's again.
    with write_session(engine) as session:
        row = session.get(NoticeDelivery, due[0])
        assert row is not None
        row.due_at = now() - timedelta(seconds=1)
    parcel = keepers[1]._claim(due[0])
    assert parcel is not None
    assert parcel.tried == 2
    keepers[1]._settle(parcel, None)
    with read_session(engine) as session:
        sent = select(func.count()).select_from(NoticeDelivery).where(NoticeDelivery.state == DeliveryState.SENT.value)
        assert session.scalar(sent) == 1
    sql.close()
