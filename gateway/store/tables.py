"""All tables of the schema in one place: importing this module makes `metadata` complete."""

from gateway.store import (
    alert_models,
    body_models,
    discovery_models,
    draft_models,
    factor_models,
    flow_models,
    kernel_models,
    ledger_models,
    models,
    playground_models,
    portal_models,
    scim_models,
    sign_on_models,
    throttle,
)
from gateway.store.base import Base

metadata = Base.metadata

__all__ = [
    "alert_models",
    "body_models",
    "discovery_models",
    "draft_models",
    "factor_models",
    "flow_models",
    "kernel_models",
    "ledger_models",
    "metadata",
    "models",
    "playground_models",
    "portal_models",
    "scim_models",
    "sign_on_models",
    "throttle",
]
