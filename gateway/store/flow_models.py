"""Sums behind the picture of flows (`store.flows`): who called what, how soon answers began, what went past us.

Each is kept by hour, day and week, in the transaction that inserts what it counts: a month is read as its weeks, and
the days and hours at its ends; no list of rows is ever scanned. Absent names are ''. In SQLite the rows lie in the
order of their keys, so that the rows of a time are read in one go.
"""

from typing import Final

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.store.base import Base
from gateway.store.ledger_models import HOUR_S

DAY_S: Final = 24 * HOUR_S
WEEK_S: Final = 7 * DAY_S
"""From Thursday to Thursday, as Unix time counts."""
STEPS_S: Final = (HOUR_S, DAY_S, WEEK_S)
"""Each a multiple of the one before."""
EVERY_TEAM: Final = "*"
"""Stands for all teams together; no team has this name (`store.fields.Name`)."""
IN_KEY_ORDER: Final = {"sqlite_with_rowid": False}


class FlowSum(Base):
    """Sums of the ledger by who called: `usage_hour` knows neither process nor container."""

    __tablename__ = "flow_sum"
    __table_args__ = IN_KEY_ORDER

    step_s: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """One of STEPS_S."""
    at_s: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """When the step began (Unix time), a multiple of it, UTC."""
    process: Mapped[str] = mapped_column(Text, primary_key=True)
    user: Mapped[str] = mapped_column(Text, primary_key=True)
    container: Mapped[str] = mapped_column(Text, primary_key=True)
    team: Mapped[str] = mapped_column(Text, primary_key=True)
    app: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    route: Mapped[str] = mapped_column(Text, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    """As in `usage_hour`: refused ones are among them."""
    refused: Mapped[int] = mapped_column(BigInteger)
    """By us, before anything went upstream."""
    unpriced: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd_micros: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Both ways, within tunnels of the forward proxy: no other row knows its bytes."""


class FirstTokenSum(Base):
    """How many answers began after how long: a histogram a route and target."""

    __tablename__ = "first_token_sum"
    __table_args__ = IN_KEY_ORDER

    step_s: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at_s: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    team: Mapped[str] = mapped_column(Text, primary_key=True)
    """EVERY_TEAM once more for all: who may see all does not add up those of each."""
    route: Mapped[str] = mapped_column(Text, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    bucket: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """A quarter octave (`probes.histogram.bucket_of`)."""
    answers: Mapped[int] = mapped_column(BigInteger)


class RouteBytes(Base):
    """TCP payload between us and upstreams, both ways, as the kernel counts it. Of all nodes."""

    __tablename__ = "route_bytes"
    __table_args__ = IN_KEY_ORDER

    step_s: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at_s: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    route: Mapped[str] = mapped_column(Text, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)


class PastSum(Base):
    """What a finding's connections past the gateway carried in one step of time."""

    __tablename__ = "past_sum"
    __table_args__ = (Index("ix_past_sum_step", "step_s", "at_s"),)

    discovery_id: Mapped[int] = mapped_column(ForeignKey("discovery.id", ondelete="CASCADE"), primary_key=True)
    step_s: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at_s: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    connections: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    calls: Mapped[int] = mapped_column(BigInteger)
    """Read within TLS, where somebody chose the process, as are tokens."""
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
