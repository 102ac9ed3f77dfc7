"""How an endpoint answers a `store.report` question: at once where little is to be read, else by a reporter.

What is little is found by trying: the worker's thread runs the SQL until it has taken some milliseconds or has given
more than a few rows. What was too much goes to a reporter at once for as long as it is remembered.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import anyio
import orjson
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.reporters import Reporters
from gateway.errors import SluicegateError
from gateway.store.database import CONNECT_TIMEOUT_S, read_session
from gateway.store.ledger import fetching
from gateway.store.questions import Question, answer
from gateway.store.report import Row, Statement

SQLITE_S: Final = 0.01
"""Of the thread's CPU time."""
LOOK_EVERY: Final = 10_000
"""Steps of SQLite's virtual machine: some tenths of a millisecond."""
POSTGRES_MS: Final = 20
"""Of time, which is not the worker's."""
FEW_ROWS: Final = 300
"""As JSON: some 3 ms."""
REMEMBERED: Final = 256
REMEMBERED_S: Final = 300.0
POSTGRES_CANCELLED: Final = "57014"
MEDIA_TYPE: Final = "application/json"


class TooMuch(Exception):
    """More than a worker should do between its calls."""


class Reports:
    """Of one worker."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._heavy: dict[str, float] = {}
        """Shapes of questions that were too much, and when (monotonic), the oldest first."""
        self.reporters = Reporters()

    def respond(self, question: Question, shape: str) -> Response:
        """Blocks for some milliseconds (SQL): call it in a handler's thread.

        `shape`: the same of all questions that read as much."""
        found_s = self._heavy.get(shape)
        if found_s is None or time.monotonic() - found_s > REMEMBERED_S:
            try:
                return Response(answer_here(self._engine, question), media_type=MEDIA_TYPE)
            except TooMuch:
                self._remember(shape)
        named = {"database": _place_of(self._engine), **orjson.loads(orjson.dumps(question))}
        return ReportResponse(self.reporters, named)

    def _remember(self, shape: str) -> None:
        self._heavy.pop(shape, None)
        self._heavy[shape] = time.monotonic()
        for oldest in list(self._heavy)[:-REMEMBERED]:
            self._heavy.pop(oldest, None)


class ReportResponse(Response):
    """A reporter's answer, once it is whole. What goes wrong is any other error; who leaves ends the work."""

    def __init__(self, reporters: Reporters, question: Mapping[str, Any]) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        self._reporters = reporters
        self._question = question

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome: bytes | SluicegateError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_gone, receive, tasks.cancel_scope)
            try:
                outcome = await self._reporters.report(self._question)
            except SluicegateError as error:
                outcome = error
            tasks.cancel_scope.cancel()
        if isinstance(outcome, SluicegateError):
            raise outcome
        if outcome is not None:
            await Response(outcome, media_type=MEDIA_TYPE)(scope, receive, send)


async def cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Once the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def answer_here(engine: Engine, question: Question) -> bytes:
    """The answer by SQL of this thread. Raises TooMuch."""
    with read_session(engine) as session:
        connection = session.connection()
        fetch = fetching(connection)

        def fetch_few(statement: Statement) -> Iterable[Row]:
            rows = fetch(statement).fetchmany(FEW_ROWS + 1)
            if len(rows) > FEW_ROWS:
                raise TooMuch
            return rows

        with _within_milliseconds(connection):
            return answer(question, fetch_few)


@contextmanager
def _within_milliseconds(connection: Connection) -> Iterator[None]:
    """Raises TooMuch where SQL within takes longer."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {POSTGRES_MS}")
        try:
            yield
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) == POSTGRES_CANCELLED:
                raise TooMuch from error
            raise
        return
    sqlite = connection.connection.driver_connection
    assert isinstance(sqlite, sqlite3.Connection)
    until_s = time.thread_time() + SQLITE_S
    too_long = False

    def look() -> bool:
        nonlocal too_long
        too_long = time.thread_time() > until_s
        return too_long

    sqlite.set_progress_handler(look, LOOK_EVERY)
    try:
        yield
    except OperationalError as error:
        if too_long:
            raise TooMuch from error
        raise
    finally:
        sqlite.set_progress_handler(None, 0)


def _place_of(engine: Engine) -> dict[str, Any]:
    """Of the database, as its driver's `connect` takes it."""
    places, named = engine.dialect.create_connect_args(engine.url)
    named = {"connect_timeout": CONNECT_TIMEOUT_S, **named}
    named.pop("context", None)  # how SQLAlchemy has psycopg read kinds of values that a ledger has none of
    return {"driver": engine.dialect.name, "places": places, "named": named}
