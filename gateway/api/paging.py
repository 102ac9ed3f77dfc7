"""What lists and single resources share: `{items, next_cursor}`, `?limit&cursor`, `ETag` and `If-Match`."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar

from fastapi import Depends, Header, Query
from pydantic import BaseModel
from starlette.responses import Response

from gateway.errors import BadRequest

DEFAULT_LIMIT: Final = 100
LARGEST_LIMIT: Final = 1000
LARGEST_ID: Final = 2**62

Item = TypeVar("Item")

ListLimit = Annotated[int, Query(ge=1, le=LARGEST_LIMIT, description="How many items a page may have")]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before")]


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None
    """Pass it as `cursor` for the next page; null = this is the last."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        return f"{params[0].__name__}Page"


class Identified(Protocol):
    """What lists page by."""

    @property
    def id(self) -> int: ...


class Versioned(Protocol):
    @property
    def version(self) -> int: ...


Numbered = TypeVar("Numbered", bound=Identified)


def id_after(cursor: str | None) -> int:
    """The id that a page begins after. Raises BadRequest for a cursor that no list gave."""
    if cursor is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise BadRequest("the cursor is not one that this list gave", fix="leave `cursor` out to begin anew")
    return int(cursor)


def page_by_id(found: Sequence[Numbered], limit: int) -> "Page[Numbered]":
    """`found`: up to `limit` + 1 items by id; the one more says that there is another page."""
    items = list(found[:limit])
    return Page(items=items, next_cursor=str(items[-1].id) if len(found) > limit else None)


def expected_version(
    if_match: Annotated[str | None, Header(description='`ETag` of what was read, e.g. `"7"`')] = None,
) -> int | None:
    """Dependency: the version that `If-Match` names; None = whatever is there. Raises BadRequest."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = re.fullmatch(r'\s*"([0-9]{1,18})"\s*', if_match)
    if found is None:
        raise BadRequest(
            f"If-Match names no version: {if_match[:40]!r}", fix='send the `ETag` of what you have read, e.g. "7"'
        )
    return int(found[1])


ExpectedVersion = Annotated[int | None, Depends(expected_version)]

ETAG_HEADER: Final[dict[str, Any]] = {
    "ETag": {"description": "Version of the resource, for `If-Match`", "schema": {"type": "string"}}
}


def set_etag(response: Response, resource: Versioned) -> None:
    response.headers["etag"] = f'"{resource.version}"'
