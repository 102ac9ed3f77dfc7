"""The configuration as a whole: `POST /api/v1/apply`, `GET /api/v1/export`, and its published versions."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field, model_validator
from starlette.responses import Response

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page, id_after
from gateway.errors import BadRequest
from gateway.policy.roles import Permission
from gateway.store import drafts, versions
from gateway.store.apply import Applied, MadeKey, apply
from gateway.store.document import Document
from gateway.store.export import export
from gateway.store.fields import refused
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
    """YAML that is brought into force first as the whole configuration. With neither this nor `draft`, what is in force
    is kept."""
    draft: Annotated[int, Field(ge=0)] | None = None
    """The revision of the draft (`GET /api/v1/draft`) that is to be brought into force and kept."""

    @model_validator(mode="after")
    def _one_at_most(self) -> "PublishRequest":
        if self.draft is not None and self.document is not None:
            raise refused("is given beside `document`", "send one of them", "draft")
        return self


class PublishedView(VersionView):
    changes: list[str]
    """What was brought into force with it, in words."""
    keys: list[MadeKeyView]
    """Keys made because the document gave them no value."""


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
def publish_version(body: PublishRequest, desk: Changing) -> PublishedView:
    """Bring the draft, or a document, into force and keep it as a version; or keep what is in force.

    409 where the draft contradicts what has been changed in force since; 412 where it is not of that revision.
    """
    with desk.changing() as editing:
        if body.draft is not None:
            published = drafts.publish(editing, body.note, body.draft)
            version, keys = published.version, published.keys
            changes = [f"{each.action} {each.kind} {each.name}" for each in published.differences]
        else:
            done = Applied((), ())
            if body.document is not None:
                done = apply(editing, body.document, file="the document", environment={}, prune=True)
            version, keys = versions.publish(editing, body.note), done.keys
            changes = list(map(str, done.changes))
    return PublishedView(**version.model_dump(), changes=changes, keys=_made(keys, dry_run=desk.dry_run))


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
        keys=_made(done.keys, dry_run=dry_run),
    )


def _made(keys: Sequence[MadeKey], *, dry_run: bool) -> list[MadeKeyView]:
    return [] if dry_run else [MadeKeyView(app=each.app, name=each.name, key=each.key) for each in keys]
