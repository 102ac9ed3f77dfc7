"""`/api/v1/playground`: what can be tried, and a key for some minutes to try it with."""

import time
from typing import Annotated, Final

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.api.caller import Desk, permit
from gateway.api.services import Services
from gateway.policy.roles import Permission
from gateway.store.compiler import generation
from gateway.store.playground import (
    PlaygroundKeyCreated,
    PlaygroundKeyRequest,
    RouteToTry,
    make_key,
    routes_to_try,
)

router = APIRouter(prefix="/api/v1")

KNOWN_WITHIN_S: Final = 1.0
LOOK_EVERY_S: Final = 0.01


class PlaygroundView(BaseModel):
    here: bool
    """The address that serves this page serves the data plane too: false with `--admin-listen`."""
    data_plane: str
    """Where the data plane listens, HOST:PORT."""
    routes: list[RouteToTry]


@router.get("/playground", tags=["routes"])
def get_playground(desk: Annotated[Desk, permit(Permission.SERVICES_READ)]) -> PlaygroundView:
    """What can be tried: each route with the dialects that it can be called in and the targets that speak them."""
    settings = desk.services.settings
    with desk.reading() as editing:
        routes = routes_to_try(editing)
    return PlaygroundView(here=settings.admin_listen is None, data_plane=settings.listen, routes=routes)


@router.post("/playground/keys", tags=["keys"], status_code=201)
def create_playground_key(
    body: PlaygroundKeyRequest, desk: Annotated[Desk, permit(Permission.KEYS_WRITE)]
) -> PlaygroundKeyCreated:
    """Calls with it are the app's: limited, charged and recorded so. It ends after ten minutes; no list of keys has it.

    With `target` calls go to that target of the route and to no other, whatever the route's strategy says."""
    with desk.changing() as editing:
        made = make_key(editing, body)
        wanted = generation(editing.session)
    _wait_until_known(desk.services, wanted)
    return made


def _wait_until_known(services: Services, wanted: int) -> None:
    """Whoever has the key calls at once: this worker at least should know it by then."""
    give_up_s = time.monotonic() + KNOWN_WITHIN_S
    while services.generation() < wanted and time.monotonic() < give_up_s:
        time.sleep(LOOK_EVERY_S)
