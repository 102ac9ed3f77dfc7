"""All tables of the schema in one place: importing this module makes `metadata` complete."""

from gateway.store import models
from gateway.store.base import Base

metadata = Base.metadata

__all__ = ["metadata", "models"]
