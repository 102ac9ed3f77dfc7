"""What the demo's configuration consists of, and its removal: last made, first gone."""

from typing import Any, Final

from gateway.cli.host import HostControl
from gateway.errors import NotFound
from gateway.store.config.editing import Collection, Editing
from gateway.store.config.limits import Limits
from gateway.store.config.providers import Prices, Providers
from gateway.store.config.routes import Routes
from gateway.store.config.teams import Apps, Teams

PARTS: Final[tuple[tuple[type[Collection[Any, Any, Any]], str], ...]] = (
    (Limits, "demo-pace"),
    (Limits, "demo-budget"),
    (Apps, "demo"),
    (Teams, "demo"),
    (Prices, "demo-openai/*"),
    (Prices, "demo-anthropic/*"),
    (Routes, "demo"),
    (Providers, "demo-anthropic"),
    (Providers, "demo-openai"),
)


def parts(host: HostControl) -> list[tuple[str, str]]:
    """Kind and name of each that exists."""
    with host.reading() as editing:
        return [(kind.kind, name) for kind, name in PARTS if _exists(editing, kind, name)]


def remove_configuration(host: HostControl) -> list[str]:
    """Delete all of it in one transaction. Returns a line for each thing that went."""
    with host.editing() as editing:
        for kind, name in PARTS:
            if _exists(editing, kind, name):
                kind(editing).delete(name)
        return [str(change) for change in editing.journal]


def _exists(editing: Editing, kind: type[Collection[Any, Any, Any]], name: str) -> bool:
    try:
        kind(editing).find(name)
    except NotFound:
        return False
    return True
