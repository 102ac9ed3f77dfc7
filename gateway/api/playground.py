"""`POST /api/v1/playground/keys`: a key for some minutes, with which the console's playground calls the data plane."""

from typing import Annotated

from fastapi import APIRouter

from gateway.api.caller import Desk, permit
from gateway.policy.roles import Permission
from gateway.store.playground import PlaygroundKeyCreated, PlaygroundKeyRequest, make_key

router = APIRouter(prefix="/api/v1", tags=["keys"])


@router.post("/playground/keys", status_code=201)
def create_playground_key(
    body: PlaygroundKeyRequest, desk: Annotated[Desk, permit(Permission.KEYS_WRITE)]
) -> PlaygroundKeyCreated:
    """Calls with it are the app's: limited, charged and recorded so. It ends after ten minutes; no list of keys has it.

    With `target` calls go to that target of the route and to no other, whatever the route's strategy says."""
    with desk.changing() as editing:
        return make_key(editing, body)
