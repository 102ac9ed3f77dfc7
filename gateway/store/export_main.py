"""`python -m gateway.store.export_main`: one ledger export as a process of its own, its file on stdout.

A worker starts it for `GET /api/v1/ledger/export`: turning millions of rows into text holds Python's lock, which the
data plane's event loop in the worker must not wait for. It runs at a lower priority and ends with its reader.
"""

import os
import sys
from datetime import datetime
from typing import Any

import orjson

from gateway.settings import Settings
from gateway.store.database import make_engine
from gateway.store.ledger import LedgerFilter, scan
from gateway.store.ledger_files import Format, encode

NICE = 10
TIMES = ("since", "until")


def order_of(wanted: LedgerFilter, format_: Format) -> str:
    """What `main` takes as its argument."""
    named: dict[str, Any] = {name: getattr(wanted, name) for name in LedgerFilter.__dataclass_fields__}
    return orjson.dumps({"format": format_, "wanted": named}).decode()


def main() -> int:
    order = orjson.loads(sys.argv[1])
    named = order["wanted"]
    for name in TIMES:
        named[name] = datetime.fromisoformat(named[name]) if named[name] else None
    os.nice(NICE)
    engine = make_engine(Settings.handed_down().database_url, pool_size=1)
    out = sys.stdout.buffer
    try:
        for piece in encode(Format(order["format"]), scan(engine, LedgerFilter(**named))):
            out.write(piece)
            out.flush()
    except BrokenPipeError:  # the reader has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
