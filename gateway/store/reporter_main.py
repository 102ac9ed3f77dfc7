"""`python -m gateway.store.reporter_main`: the reporter, which answers what would take a worker's time from its calls.

A worker starts it for big reports (`store.report`), for ledger exports and for documents that people send, and ends it
when nobody has asked for a while: reading, adding up and writing out much holds Python's lock and the core that the
data plane's event loop needs. The reporter comes last on its core: calls wait for it as little as the kernel allows.

Standard input is a socket: a question a line (JSON), then the answer in frames of a kind, a length and so many bytes.
The reporter imports little (13 MB, 0.1 s); only an export loads SQLAlchemy, and its process is not used again.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import struct
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.store.questions import answer, question_of
from gateway.store.report import Fetch, Row, Statement

NICE: Final = 19
SHARE: Final = "--share"
SHARE_NICE: Final = 10
"""A tenth of a core that calls want all of."""
WITHIN_S: Final = 120
"""A report that takes longer ends with its process, whatever it is doing. Exports take as long as their readers."""
BUSY_TIMEOUT_S: Final = 5
PING_MS: Final = 1_000
"""How soon PostgreSQL sees that nobody waits for an answer any more."""

HEAD: Final = struct.Struct("!BI")
TIMES: Final = ("since", "until")


class Frame(IntEnum):
    PIECE = 0
    END = 1
    FAILED = 2
    """Its bytes are a word: one of `Failure`'s."""


class Failure:
    """Why there is no answer."""

    AWAY = b"away"
    """The database does not answer."""
    VALUE = b"value"
    """It cannot hold a value of the question."""
    FAULT = b"fault"
    """Ours; said on stderr, the gateway's log."""


@contextmanager
def fetching(database: dict[str, Any]) -> Iterator[Fetch]:
    """What runs statements on a connection that sees one state of the database and changes nothing."""
    if database["driver"] == "sqlite":
        with contextlib.closing(sqlite3.connect(database["places"][0], BUSY_TIMEOUT_S)) as connection:
            connection.isolation_level = None
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")

            def fetch_sqlite(statement: Statement) -> Iterable[Row]:
                rows: Iterable[Row] = connection.execute(statement.sql, statement.values)
                return rows

            yield fetch_sqlite
        return
    import psycopg

    with contextlib.closing(psycopg.connect(*database["places"], **database["named"])) as away:
        away.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        away.read_only = True
        # Compiling the plan of a report took longer than it saved.
        away.execute(f"SET LOCAL statement_timeout = {WITHIN_S * 1000}; SET LOCAL jit = off".encode())
        with contextlib.suppress(psycopg.Error), away.transaction():  # not where its system cannot poll so
            away.execute(f"SET LOCAL client_connection_check_interval = {PING_MS}".encode())

        def fetch_postgres(statement: Statement) -> Iterable[Row]:
            return away.execute(statement.sql.encode(), statement.values)

        yield fetch_postgres


def report(named: dict[str, Any]) -> Iterator[bytes]:
    """In one piece."""
    signal.alarm(WITHIN_S)
    with fetching(named.pop("database")) as fetch:
        page = answer(question_of(named), fetch)
    signal.alarm(0)
    yield page


def export(named: dict[str, Any]) -> Iterator[bytes]:
    """A file of all rows that fit, at its reader's pace."""
    from gateway.store.database import make_engine
    from gateway.store.ledger import LedgerFilter, scan
    from gateway.store.ledger_files import Format, encode

    wanted = named["wanted"]
    for name in TIMES:
        wanted[name] = datetime.fromisoformat(wanted[name]) if wanted[name] else None
    engine = make_engine(named["url"], pool_size=1)
    yield from encode(Format(named["format"]), scan(engine, LedgerFilter(**wanted)))


def bodies(named: dict[str, Any]) -> Iterator[bytes]:
    """What is recorded of a request: `{found, bodies}`."""
    from gateway.store.bodies import read

    found, recorded = read(Path(named["folder"]), named["id"], bytes.fromhex(named["private"]))
    yield orjson.dumps({"found": found, "bodies": recorded})


def openapi(named: dict[str, Any]) -> Iterator[bytes]:
    """An OpenAPI document that was sent, as JSON, or what is wrong with it (`openapi_document.told`)."""
    from gateway.store.openapi_document import told

    signal.alarm(WITHIN_S)
    yield from told(named["text"])
    signal.alarm(0)


def serve(worker: socket.socket) -> None:
    """Until the worker hangs up."""
    for line in worker.makefile("rb"):
        named = orjson.loads(line)
        try:
            for piece in ANSWERS.get(named["kind"], report)(named):
                if piece:
                    worker.sendall(HEAD.pack(Frame.PIECE, len(piece)))
                    worker.sendall(piece)
            last = HEAD.pack(Frame.END, 0)
        except ConnectionError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker hears of it
            word = why(error)
            traceback.print_exception(error, limit=None if word is Failure.FAULT else 0)
            last = HEAD.pack(Frame.FAILED, len(word)) + word
        worker.sendall(last)


ANSWERS: Final[dict[str, Callable[[dict[str, Any]], Iterator[bytes]]]] = {
    "export": export,
    "bodies": bodies,
    "openapi": openapi,
}
"""By kind of question; all others are reports."""


def why(error: Exception) -> bytes:
    """Both drivers name their errors as PEP 249 does."""
    names = {each.__name__ for each in type(error).__mro__}
    if "OperationalError" in names:
        return Failure.AWAY
    return Failure.VALUE if "DataError" in names else Failure.FAULT


def come_last(*, share: bool) -> None:
    """Run when nothing else wants the core; with a `share`, some of the time even then.

    A waking call takes the core from an idle policy (sched(7)) at once, from a nice process only when its slice ends.
    That policy cannot be left again without privileges, so who is to have a share is so from the start."""
    os.nice(SHARE_NICE if share else NICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH if share else os.SCHED_IDLE, os.sched_param(0))


def main() -> None:
    come_last(share=SHARE in sys.argv)
    with contextlib.suppress(ConnectionError), socket.socket(fileno=0) as worker:
        serve(worker)


if __name__ == "__main__":
    main()
