"""The schema goes up, back and up again with rows in place, and what does not fit is refused."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import BigInteger, Engine, inspect, select, text

from gateway.policy.usage import LEDGER_FIELDS, LedgerRow
from gateway.settings import Settings
from gateway.store import migrate, tables
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.ledger import get_row
from gateway.store.models import Credential, Meta, UtcTime


def _add_provider(engine: Engine) -> None:
    """With the columns of the first schema: the models know those of the newest."""
    with write_session(engine) as session:
        times = "version, created_at, updated_at"
        session.execute(
            text(
                f"INSERT INTO provider (id, name, dialect, base_url, {times})"
                " VALUES (1, 'openai', 'openai', 'u', 1, 1, 1)"
            )
        )
        session.execute(
            text(
                "INSERT INTO credential (provider_id, position, name, sealed, sealing_key_id, last_four, created_at)"
                " VALUES (1, 0, 'main', :sealed, 'k', '1234', 1)"
            ),
            {"sealed": b"x"},
        )


def test_models_are_what_the_migrations_make(engine: Engine) -> None:
    def compare_type(_context: object, _column: object, _meta: object, present: object, wanted: object) -> bool | None:
        return not isinstance(present, BigInteger) if isinstance(wanted, UtcTime) else None

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": compare_type})
        assert compare_metadata(context, tables.metadata) == []
    migrate.check(engine)


def test_up_back_and_up_again_with_rows_in_place(empty_engine: Engine) -> None:
    engine = empty_engine
    assert migrate.upgrade(engine, "0001")
    _add_provider(engine)
    migrate.upgrade(engine)
    assert not migrate.upgrade(engine)
    assert migrate.current_revision(engine) == migrate.newest_revision()
    migrate.downgrade(engine, "0001")
    assert migrate.current_revision(engine) == "0001"
    migrate.upgrade(engine)
    with read_session(engine) as session:
        assert session.scalars(select(Credential.name)).all() == ["main"]
        assert session.scalars(select(Meta.generation)).one() == 1
    migrate.check(engine)
    assert migrate.downgrade(engine, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    assert migrate.upgrade(engine)
    migrate.check(engine)


PHASES = ("admit_ms", "connect_ms", "longest_gap_ms", "events", "attempt_log")


def test_rows_from_before_phases_were_recorded_say_so(empty_engine: Engine) -> None:
    """Not known, never 0; the way back leaves the rest of the row."""
    engine = empty_engine
    migrate.upgrade(engine, "0026")
    row = LedgerRow(id="0a", started_at_ns=7, dialect="openai", team="t", app="a", status=200, latency_ms=9.5)
    named = {name: getattr(row, name) for name in LEDGER_FIELDS if name not in PHASES}
    columns = ", ".join([f'"{name}"' for name in named])
    with engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO ledger ({columns}) VALUES ({', '.join([f':{name}' for name in named])})"),
            named,
        )
    migrate.upgrade(engine)
    with read_session(engine) as session:
        assert get_row(session, "0a") == row
    migrate.downgrade(engine, "0026")
    assert not set(PHASES) & {column["name"] for column in inspect(engine).get_columns("ledger")}
    migrate.upgrade(engine)
    with read_session(engine) as session:
        assert get_row(session, "0a") == row


def test_two_starts_at_once_migrate_once(database_url: str) -> None:
    def start(_: int) -> bool:
        engine = make_engine(Settings(database=database_url).database_url)
        try:
            return migrate.upgrade(engine)
        finally:
            engine.dispose()

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(start, range(4)))
    assert sorted(outcomes) == [False, False, False, True]


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    """The switch to the write-ahead log takes a lock for which SQLite does not always wait."""

    def first_look(at: int) -> None:
        engine = make_engine(f"sqlite:///{tmp_path / str(at // 8)}.db")
        try:
            with engine.connect():
                pass
        finally:
            engine.dispose()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(first_look, range(8 * 200)))


def test_a_failed_migration_leaves_nothing(empty_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with empty_engine.begin() as connection:
        connection.execute(text("CREATE TABLE target (id INTEGER)"))  # in the way of the migration, half-way through
    before = set(inspect(empty_engine).get_table_names())
    with pytest.raises(Exception, match="target"):
        migrate.upgrade(empty_engine)
    assert set(inspect(empty_engine).get_table_names()) == before


def test_an_empty_database_is_refused_by_check(empty_engine: Engine) -> None:
    with pytest.raises(migrate.SchemaMismatch, match=r"is empty.*sluicegate serve"):
        migrate.check(empty_engine)


def test_a_newer_schema_is_refused_by_all(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (migrate.check, migrate.upgrade, lambda engine: migrate.downgrade(engine, "0001")):
        with pytest.raises(migrate.SchemaMismatch, match=r"9999 of a newer release.*install\.sh"):
            act(engine)


def test_a_partial_schema_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE price_override"))
        connection.execute(text("ALTER TABLE key DROP COLUMN prefix"))
    with pytest.raises(migrate.SchemaMismatch, match=r"lacks key\.prefix, price_override;.*restore"):
        migrate.check(engine)


def test_tables_without_a_revision_are_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    with pytest.raises(migrate.SchemaMismatch, match="names no revision"):
        migrate.upgrade(engine)


def test_sums_of_before_become_weeks_and_those_of_all_teams(engine: Engine) -> None:
    migrate.downgrade(engine, "0024")
    thursday = 20_412 * 86_400 - 20_412 * 86_400 % (7 * 86_400)
    rows = [
        {"at": thursday + day * 86_400, "team": team, "answers": 10 + day} for day in (0, 6, 7) for team in ("a", "b")
    ]
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO first_token_sum (step_s, at_s, team, route, target, provider, bucket, answers)"
                " VALUES (86400, :at, :team, 'chat', 't', 'p', 80, :answers)"
            ),
            rows,
        )
    migrate.upgrade(engine)
    asked = text("SELECT at_s, team, answers FROM first_token_sum WHERE step_s = :step ORDER BY at_s, team")
    with engine.begin() as connection:
        days = [tuple(row) for row in connection.execute(asked, {"step": 86_400})]
        weeks = [tuple(row) for row in connection.execute(asked, {"step": 7 * 86_400})]
    assert len(days) == 9
    assert days[0] == (thursday, "*", 20)
    assert weeks == [
        (at, team, count * (2 if team == "*" else 1))
        for at, count in ((thursday, 26), (thursday + 7 * 86_400, 17))
        for team in ("*", "a", "b")
    ]
    migrate.downgrade(engine, "0024")
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*), sum(answers) FROM first_token_sum")).one() == (6, 86)
