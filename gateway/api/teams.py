"""`/api/v1/teams`, `/apps` and `/keys`: who may call, and with what."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field
from starlette.convertors import StringConvertor, register_url_convertor

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ExpectedVersion, ListLimit, Page, id_after, page_by_id, set_etag
from gateway.policy.roles import Permission
from gateway.store.config.teams import Apps, Keys, KeysOfApp, Teams
from gateway.store.document import Document
from gateway.store.documents import AppEntry, KeyEntry, TeamEntry
from gateway.store.fields import Overlap, PartName
from gateway.store.passwords import random_text
from gateway.store.patches import AppPatch, KeyPatch, TeamPatch
from gateway.store.views import AppView, KeyCreated, KeyView, TeamView

router = APIRouter(prefix="/api/v1")

Reading = Annotated[Desk, permit(Permission.SERVICES_READ)]
ChangingTeams = Annotated[Desk, permit_change(Permission.CONFIGURATION_WRITE)]
ChangingApps = Annotated[Desk, permit_change(Permission.APPS_WRITE)]
ChangingKeys = Annotated[Desk, permit_change(Permission.KEYS_WRITE)]


@router.get("/teams", tags=["teams"])
def list_teams(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[TeamView]:
    """Teams with the names of their apps. Team roles see their own."""
    with desk.reading() as editing:
        return page_by_id(Teams(editing).list(after_id=id_after(cursor), limit=limit + 1), limit)


@router.post("/teams", tags=["teams"], status_code=201)
def create_team(body: TeamEntry, desk: ChangingTeams, response: Response) -> TeamView:
    """Apps are added by themselves."""
    with desk.changing() as editing:
        created = Teams(editing).create(body)
    set_etag(response, created)
    return created


@router.get("/teams/{ref}", tags=["teams"])
def get_team(ref: str, desk: Reading, response: Response) -> TeamView:
    with desk.reading() as editing:
        found = Teams(editing).get(ref)
    set_etag(response, found)
    return found


@router.patch("/teams/{ref}", tags=["teams"])
def update_team(
    ref: str, body: TeamPatch, desk: ChangingTeams, version: ExpectedVersion, response: Response
) -> TeamView:
    """A new name; apps, limits and members stay with it."""
    with desk.changing() as editing:
        changed = Teams(editing).update(ref, body, version)
    set_etag(response, changed)
    return changed


@router.delete("/teams/{ref}", tags=["teams"], status_code=204)
def delete_team(ref: str, desk: ChangingTeams, version: ExpectedVersion) -> None:
    """Refused while it has apps. Its users and tokens go with it."""
    with desk.changing() as editing:
        Teams(editing).delete(ref, version)


@router.get("/apps", tags=["apps"])
def list_apps(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[AppView]:
    """Consumers of routes. Team roles see those of their team."""
    with desk.reading() as editing:
        return page_by_id(Apps(editing).list(after_id=id_after(cursor), limit=limit + 1), limit)


@router.post("/apps", tags=["apps"], status_code=201)
def create_app(body: AppEntry, desk: ChangingApps, response: Response) -> AppView:
    """`routes` names what it may call, or is `*`."""
    with desk.changing() as editing:
        created = Apps(editing).create(body)
    set_etag(response, created)
    return created


@router.get("/apps/{ref}", tags=["apps"])
def get_app(ref: str, desk: Reading, response: Response) -> AppView:
    with desk.reading() as editing:
        found = Apps(editing).get(ref)
    set_etag(response, found)
    return found


@router.patch("/apps/{ref}", tags=["apps"])
def update_app(ref: str, body: AppPatch, desk: ChangingApps, version: ExpectedVersion, response: Response) -> AppView:
    """In force in every worker within a second."""
    with desk.changing() as editing:
        changed = Apps(editing).update(ref, body, version)
    set_etag(response, changed)
    return changed


@router.delete("/apps/{ref}", tags=["apps"], status_code=204)
def delete_app(ref: str, desk: ChangingApps, version: ExpectedVersion) -> None:
    """Its keys go with it. Its ledger rows stay."""
    with desk.changing() as editing:
        Apps(editing).delete(ref, version)


class KeyReference(StringConvertor):
    """`app/name` in a path, slash and all, but not the deed that follows a key. (A key so named goes by its id.)"""

    regex = "(?!.*/(?:rotate|retire)$).+"


register_url_convertor("key", KeyReference())


class NewKey(KeyEntry):
    name: PartName = Field(default_factory=lambda: f"key-{random_text(6)}")
    """Left out: one is made."""


@router.get("/keys", tags=["keys"])
def list_keys(
    desk: Reading,
    limit: ListLimit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    app: Annotated[str | None, Query(max_length=128, description="Keys of this app only")] = None,
) -> Page[KeyView]:
    """API keys without their text. Team roles see those of their team's apps."""
    with desk.reading() as editing:
        keys = Keys(editing) if app is None else KeysOfApp(editing, app)
        return page_by_id(keys.list(after_id=id_after(cursor), limit=limit + 1), limit)


@router.post("/keys", tags=["keys"], status_code=201)
def create_key(body: NewKey, desk: ChangingKeys, response: Response) -> KeyCreated:
    """The key's text is in this answer only, as `key`."""
    with desk.changing() as editing:
        created = Keys(editing).create(body)
    set_etag(response, created)
    return created


@router.get("/keys/{ref:key}", tags=["keys"])
def get_key(ref: str, desk: Reading, response: Response) -> KeyView:
    """By id, by `app/name`, or by the bare name where it is unambiguous."""
    with desk.reading() as editing:
        found = Keys(editing).get(ref)
    set_etag(response, found)
    return found


@router.patch("/keys/{ref:key}", tags=["keys"])
def update_key(ref: str, body: KeyPatch, desk: ChangingKeys, version: ExpectedVersion, response: Response) -> KeyView:
    """A new name or expiry; the key's text stays."""
    with desk.changing() as editing:
        changed = Keys(editing).update(ref, body, version)
    set_etag(response, changed)
    return changed


@router.delete("/keys/{ref:key}", tags=["keys"], status_code=204)
def delete_key(ref: str, desk: ChangingKeys, version: ExpectedVersion) -> None:
    """Revokes it: refused in every worker within a second."""
    with desk.changing() as editing:
        Keys(editing).delete(ref, version)


class Rotation(Document):
    overlap: Overlap | None = None
    """How long the old text stays good, e.g. `24h`; left out: it is refused at once."""


@router.post("/keys/{ref:path}/rotate", tags=["keys"])
def rotate_key(
    ref: str, desk: ChangingKeys, version: ExpectedVersion, response: Response, body: Rotation | None = None
) -> KeyCreated:
    """A new text for the key, shown in this answer only. Limits and usage go on as the same key's."""
    with desk.changing() as editing:
        rotated = Keys(editing).rotate(ref, version, overlap_s=None if body is None else body.overlap)
    set_etag(response, rotated)
    return rotated


@router.post("/keys/{ref:path}/retire", tags=["keys"])
def retire_key(ref: str, desk: ChangingKeys, version: ExpectedVersion, response: Response) -> KeyView:
    """End the overlap of a rotation: the text before it is refused within a second."""
    with desk.changing() as editing:
        retired = Keys(editing).retire(ref, version)
    set_etag(response, retired)
    return retired
