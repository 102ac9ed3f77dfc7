"""`/api/v1/draft`: changes that are collected, compared and tried before they are published."""

import re
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Depends, Header, Query, Response
from pydantic import BaseModel, Field

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import ExpectedVersion
from gateway.errors import BadRequest
from gateway.policy.roles import Permission
from gateway.store import drafts, versions
from gateway.store.document import Document
from gateway.store.drafts import AuthorView, Compared, DraftEntryView, DraftView
from gateway.store.entries import EntryId

router = APIRouter(prefix="/api/v1", tags=["draft"])

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]
Comparing = Annotated[Desk, permit(Permission.CONFIGURATION_WRITE)]
"""Documents and differences name everything: they are for those who may change it."""
Changing = Annotated[Desk, permit_change(Permission.CONFIGURATION_WRITE)]

Kind = Literal["provider", "route", "team", "app", "limit", "price", "interception-rule"]
Patch = Annotated[
    dict[str, Any],
    Body(
        description="A merge patch (RFC 7396) in the entry's own form, as `GET` shows it; of a new entry, all of it",
        examples=[{"retries": 2}],
    ),
]


class DraftDocumentRequest(Document):
    document: Annotated[str, Field(min_length=1)]
    """YAML of the whole configuration."""


class DraftDocumentView(BaseModel):
    revision: int
    document: str


class DifferenceView(BaseModel):
    action: Literal["create", "update", "delete"]
    kind: str
    name: str
    words: list[str]
    """What an update changes, a line each."""
    before: str | None
    """YAML of the entry; null: there is none."""
    after: str | None
    author: AuthorView | None
    """Who drafted it last; null where nobody did."""


class ConflictView(BaseModel):
    """The draft and what is in force have both changed the same."""

    kind: str
    name: str
    field: str | None
    """null: one side has removed the entry, the other has changed it."""
    base: Any
    """As it was before either."""
    draft: Any
    in_force: Any


class DocumentError(BaseModel):
    file: str
    line: int
    """Of `after`."""
    field: str
    problem: str
    remedy: str


class DifferencesView(BaseModel):
    differences: list[DifferenceView]
    before: str
    """YAML of the whole configuration, as it is."""
    after: str
    """As it would be."""
    errors: list[DocumentError]
    """Why it cannot be published as it is."""
    conflicts: list[ConflictView]


class ResolveRequest(Document):
    kind: str
    name: str
    field: str | None = None
    take: Literal["draft", "in_force"]


def expected_etag(
    if_match: Annotated[str | None, Header(description="`etag` of the entry that was read, in quotes")] = None,
) -> str | None:
    """Dependency: the state of an entry that `If-Match` names; None = whatever is there."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = re.fullmatch(r'\s*"([0-9a-z]{1,64})"\s*', if_match)
    if found is None:
        raise BadRequest(f"If-Match names no state: {if_match[:40]!r}", fix="send the entry's `etag` in quotes")
    return found[1]


ExpectedEtag = Annotated[str | None, Depends(expected_etag)]


@router.get("/draft")
def get_draft(desk: Reading, response: Response) -> DraftView:
    """Whether there is a draft, how much it changes, and who wrote it."""
    with desk.read() as session:
        return _told(response, drafts.view(session))


@router.get("/draft/document")
def get_draft_document(desk: Comparing, response: Response) -> DraftDocumentView:
    """The whole configuration as the draft would make it; without a draft, as it is. Secrets are references."""
    with desk.reading() as editing:
        revision, text = drafts.document(editing)
    response.headers["etag"] = f'"{revision}"'
    return DraftDocumentView(revision=revision, document=text)


@router.put("/draft")
def put_draft(body: DraftDocumentRequest, desk: Changing, version: ExpectedVersion, response: Response) -> DraftView:
    """Replace the draft by a whole document. It is checked as `apply` checks it, kept as `export` writes it, and puts
    nothing into force. Secrets in it are sealed at once and shown as references from then on."""
    with desk.changing() as editing:
        changed = drafts.put(editing, body.document, version)
    return _told(response, changed)


@router.delete("/draft", status_code=204)
def discard_draft(desk: Changing, version: ExpectedVersion) -> None:
    """All that is drafted is gone; what is in force stays."""
    with desk.changing() as editing:
        drafts.discard(editing, version)


@router.get("/draft/diff")
def diff_draft(desk: Comparing) -> DifferencesView:
    """What publishing would change, entry by entry, in words and as YAML; what stands in its way."""
    with replace(desk, dry_run=True).changing() as editing:
        found = drafts.compare(editing)
    return differences_view(found)


@router.post("/draft/resolve")
def resolve_conflict(body: ResolveRequest, desk: Changing, response: Response) -> DraftView:
    """Settle a conflict by one of its sides."""
    with desk.changing() as editing:
        changed = drafts.resolve(editing, EntryId(body.kind, body.name), body.field, body.take)
    return _told(response, changed)


@router.get("/draft/entries/{kind}/{ref:path}")
def get_draft_entry(kind: Kind, ref: str, desk: Comparing) -> DraftEntryView:
    """One entry as the draft would have it, and as it is in force."""
    with desk.reading() as editing:
        return drafts.entry(editing, _id(kind, ref))


@router.patch("/draft/entries/{kind}/{ref:path}")
def draft_entry(kind: Kind, ref: str, body: Patch, desk: Changing, etag: ExpectedEtag) -> DraftEntryView:
    """Draft a change of one entry, or a new one. Where it is not as `If-Match` says, 412 tells what is there (`theirs`)
    and its `etag`."""
    with desk.changing() as editing:
        return drafts.change(editing, _id(kind, ref), body, etag)


@router.delete("/draft/entries/{kind}/{ref:path}")
def draft_removal(
    kind: Kind,
    ref: str,
    desk: Changing,
    etag: ExpectedEtag,
    revert: Annotated[bool, Query(description="Take what is drafted of it back instead")] = False,
) -> DraftView:
    """Draft that the entry goes; with `revert`, that it stays as it is in force."""
    with desk.changing() as editing:
        if revert:
            return drafts.revert(editing, _id(kind, ref))
        drafts.remove(editing, _id(kind, ref), etag)
        return drafts.view(editing.session)


@router.get("/versions/{number}/diff", tags=["versions"])
def diff_version(number: int, desk: Comparing) -> DifferencesView:
    """What restoring a version would change of what is in force."""
    with replace(desk, dry_run=True).changing() as editing:
        document = versions.get(editing.session, number).document
        found = drafts.compare_document(editing, document, f"version {number}")
    return differences_view(found)


def differences_view(found: Compared) -> DifferencesView:
    authors = found.authors or {}
    return DifferencesView(
        differences=[
            DifferenceView(
                action=each.action,
                kind=each.kind,
                name=each.name,
                words=list(each.words),
                before=each.before,
                after=each.after,
                author=authors.get(f"{each.kind} {each.name}"),
            )
            for each in found.differences
        ],
        before=found.before,
        after=found.after,
        errors=[DocumentError(**each) for each in found.errors],
        conflicts=[
            ConflictView(
                kind=one.kind, name=one.name, field=one.field, base=one.base, draft=one.mine, in_force=one.theirs
            )
            for one in found.conflicts
        ],
    )


_KINDS: Final = {"interception-rule": "interception rule"}


def _id(kind: str, name: str) -> EntryId:
    return EntryId(_KINDS.get(kind, kind), name)


def _told(response: Response, draft: DraftView) -> DraftView:
    response.headers["etag"] = f'"{draft.revision}"'
    return draft
