"""The configuration as a whole: `POST /api/v1/apply`, `GET /api/v1/export`, and its published versions."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page, id_after
from gateway.errors import BadRequest
from gateway.policy.roles import Permission
from gateway.store import versions
from gateway.store.apply import Applied, apply
from gateway.store.document import Document
from gateway.store.export import export
from gateway.store.versions import VersionDocumentView, VersionView

router = APIRouter(prefix="/api/v1", tags=["configuration"])

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]
Exporting = Annotated[Desk, permit(Permission.CONFIGURATION_WRITE)]
Changing = Annotated[Desk, permit_change(Permission.CONFIGURATION_WRITE)]

YAML_TYPE: Final = "application/yaml"  # RFC 9512
PLACE: Final = "the request's body"


class ChangeView(BaseModel):
    action: str
    """`create`, `update` or `delete`."""
    kind: str
    name: str
    fields: list[str]
    """What an update touched."""
    text: str


class MadeKeyView(BaseModel):
    app: str
    name: str
    key: str
    """Shown this once."""


class AppliedView(BaseModel):
    changes: list[ChangeView]
    """In the order in which they were made; empty where everything was so already."""
    keys: list[MadeKeyView]
    """Keys made because the document gave them no value; none in a dry run."""


class PublishRequest(Document):
    note: str = Field(default="", max_length=1000)
    """Why: shown in the list."""
    document: Annotated[str, Field(min_length=1)] | None = None
    """A draft as YAML, brought into force first as the whole configuration. Left out: what is in force is published."""


async def document_text(request: Request) -> str:
    """Dependency: the body as text. JSON is YAML too.

    Nothing is not an empty document: with `prune` it would remove everything.
    """
    try:
        text = (await request.body()).decode()
    except UnicodeDecodeError:
        raise BadRequest("the document is not UTF-8", fix="save it as UTF-8") from None
    if not text.strip():
        raise BadRequest("there is no document", fix="send sluicegate.yaml as the body")
    return text


DOCUMENT_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "sluicegate.yaml, or the same as JSON",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/GatewayDocument"}},
            YAML_TYPE: {"schema": {"$ref": "#/components/schemas/GatewayDocument"}},
        },
    }
}


@router.post("/apply", openapi_extra=DOCUMENT_BODY)
def apply_configuration(
    desk: Changing,
    text: Annotated[str, Depends(document_text)],
    prune: Annotated[bool, Query(description="Also remove what the document does not name")] = False,
) -> AppliedView:
    """Bring the configuration to what the document says, all of it or nothing.

    `${NAME}` is the caller's environment, which this gateway does not know: such references are refused. The command
    `sluicegate apply` puts the values in before it sends the document.
    """
    with desk.changing() as editing:
        done = apply(editing, text, file=PLACE, environment={}, prune=prune)
    return applied_view(done, dry_run=desk.dry_run)


@router.get(
    "/export",
    response_class=Response,
    responses={200: {"description": "sluicegate.yaml", "content": {YAML_TYPE: {"schema": {}}}}},
)
def export_configuration(desk: Exporting) -> Response:
    """The whole configuration in the format of `apply`, secrets as references. Applying it here changes nothing."""
    with desk.reading() as editing:
        return Response(export(editing), media_type=YAML_TYPE)


@router.get("/versions", tags=["versions"])
def list_versions(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[VersionView]:
    """Published states of the configuration, newest first."""
    before = id_after(cursor) if cursor is not None else None
    with desk.read() as session:
        found = versions.published(session, before_number=before, limit=limit + 1)
    items = found[:limit]
    return Page(items=items, next_cursor=str(items[-1].number) if len(found) > limit else None)


@router.post("/versions", tags=["versions"], status_code=201)
def publish_version(body: PublishRequest, desk: Changing) -> VersionView:
    """Keep the configuration that is in force, or bring a draft into force and keep it."""
    with desk.changing() as editing:
        if body.document is not None:
            apply(editing, body.document, file="the draft", environment={}, prune=True)
        return versions.publish(editing, body.note)


@router.get("/versions/{number}", tags=["versions"])
def get_version(number: int, desk: Exporting) -> VersionDocumentView:
    """With its document, as `export` wrote it."""
    with desk.read() as session:
        return versions.get(session, number)


@router.post("/versions/{number}/restore", tags=["versions"])
def restore_version(number: int, desk: Changing) -> AppliedView:
    """Bring a published state back as the whole configuration.

    Credentials must still be stored here: a version holds references to secrets, never the secrets.
    """
    with desk.changing() as editing:
        document = versions.get(editing.session, number).document
        done = apply(editing, document, file=f"version {number}", environment={}, prune=True)
        versions.note_restored(editing, number)
    return applied_view(done, dry_run=desk.dry_run)


def applied_view(done: Applied, *, dry_run: bool) -> AppliedView:
    return AppliedView(
        changes=[
            ChangeView(action=each.action, kind=each.kind, name=each.name, fields=list(each.fields), text=str(each))
            for each in done.changes
        ],
        keys=[] if dry_run else [MadeKeyView(app=each.app, name=each.name, key=each.key) for each in done.keys],
    )
