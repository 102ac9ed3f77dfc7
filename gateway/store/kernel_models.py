"""The kernel's figures by minute and by hour."""

from typing import Final

from sqlalchemy import BigInteger, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.store.base import Base

MINUTE_S: Final = 60
HOUR_S: Final = 3600


class KernelFigures(Base):
    """What one node's probes measured of one route and target in one step of time. Steps without any have no row."""

    __tablename__ = "kernel_figures"

    step_s: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """60 or 3600."""
    at_s: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """When the step began (Unix time), a multiple of it."""
    node: Mapped[str] = mapped_column(String(32), primary_key=True)
    route: Mapped[str] = mapped_column(Text, primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True)
    measured: Mapped[bytes] = mapped_column(LargeBinary)
    """`kernel_series.Measured.packed`"""
