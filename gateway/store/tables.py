"""All tables of the schema in one place: importing this module makes `metadata` complete."""

from gateway.store import discovery_models, kernel_models, ledger_models, models, throttle
from gateway.store.base import Base

metadata = Base.metadata

__all__ = ["discovery_models", "kernel_models", "ledger_models", "metadata", "models", "throttle"]
