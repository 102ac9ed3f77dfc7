"""The kernel's figures in SQL: minutes for 30 days, hours for a year. Written by the keeper once a minute."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.orm import Session

from gateway.store.base import Base
from gateway.store.flow_rollup import add_bytes
from gateway.store.kernel_models import HOUR_S, MINUTE_S, KernelFigures
from gateway.store.kernel_series import Measured
from gateway.store.statements import Statement

TABLE: Final[Table] = Base.metadata.tables[KernelFigures.__tablename__]
KEPT_S: Final[Mapping[int, int]] = {MINUTE_S: 30 * 86400, HOUR_S: 366 * 86400}
BYTES: Final = ("bytes_in", "bytes_out")
MOST_ROWS: Final = 50_000
"""That one question reads."""
_PUT: Final = Statement(
    "INSERT INTO kernel_figures (step_s, at_s, node, route, target, measured) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (step_s, at_s, node, route, target) DO UPDATE SET measured = excluded.measured"
)

Names: TypeAlias = tuple[str, str]
"""Route and target."""


def write_minute(connection: Connection, node: str, minute_s: int, measured: Mapping[Names, Measured]) -> None:
    """Put a minute's figures down, or add to those that are there, and add them to the hour's."""
    for step_s in (MINUTE_S, HOUR_S):
        at_s = minute_s - minute_s % step_s
        there = {
            (row.route, row.target): row.measured
            for row in connection.execute(
                select(TABLE.c.route, TABLE.c.target, TABLE.c.measured).where(
                    TABLE.c.step_s == step_s, TABLE.c.at_s == at_s, TABLE.c.node == node
                )
            )
        }
        rows = []
        for names in sorted(measured):
            whole = Measured.unpacked(there[names]) if names in there else Measured()
            whole.add(measured[names])
            rows.append((step_s, at_s, node, *names, whole.packed()))
        _PUT.run_each(connection, rows)
    carried = {names: sum(each.counts.get(name, 0) for name in BYTES) for names, each in measured.items()}
    add_bytes(connection, minute_s, carried)


def forget_old(connection: Connection, now_s: int) -> None:
    for step_s, kept_s in KEPT_S.items():
        connection.execute(delete(TABLE).where(TABLE.c.step_s == step_s, TABLE.c.at_s < now_s - kept_s))


def read_steps(
    session: Session, step_s: int, from_s: int, to_s: int, route: str | None, target: str | None
) -> dict[tuple[int, Names], Measured]:
    """By time and series, of all nodes together, in the order of time."""
    query = (
        select(KernelFigures.at_s, KernelFigures.route, KernelFigures.target, KernelFigures.measured)
        .where(KernelFigures.step_s == step_s, KernelFigures.at_s >= from_s, KernelFigures.at_s < to_s)
        .order_by(KernelFigures.at_s)
        .limit(MOST_ROWS)
    )
    if route is not None:
        query = query.where(KernelFigures.route == route)
    if target is not None:
        query = query.where(KernelFigures.target == target)
    found: dict[tuple[int, Names], Measured] = {}
    for at_s, named_route, named_target, measured in session.execute(query):
        found.setdefault((at_s, (named_route, named_target)), Measured()).add(Measured.unpacked(measured))
    return found
