"""All tables of the schema in one place: importing this module makes `metadata` complete."""

from gateway.store import ledger_models, models, throttle
from gateway.store.base import Base

metadata = Base.metadata

__all__ = ["ledger_models", "metadata", "models", "throttle"]
