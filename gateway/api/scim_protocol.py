"""What SCIM's endpoints do: parse, ask the store, show; the same for users and groups.

Loaded when a directory asks (`gateway.late`). Errors of the protocol leave it as `ScimRefused`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import Request
from pydantic import ValidationError
from scim2_models import (
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    Context,
    EnterpriseUser,
    Error,
    ETag,
    Filter,
    InvalidFilterException,
    InvalidSyntaxException,
    ListResponse,
    Meta,
    Patch,
    PatchOp,
    Resource,
    ResourceType,
    SCIMException,
    ScimProvider,
    SearchRequest,
    ServiceProviderConfig,
    Sort,
    User,
)
from sqlalchemy.orm import Session
from starlette.responses import Response

from gateway.api.caller import Desk, own_origin
from gateway.api.scim import BASE, MEDIA_TYPE, Kind, ScimRefused
from gateway.store import scim
from gateway.store.scim import MOST_RESULTS, POLICY, ChangedMeanwhile, Client, Found, Group, UserResource
from gateway.store.scim_member_changes import member_changes

MOST_SEARCHED: Final = 10_000
"""Of users, and of groups, in a search over both."""
MOST_ATTEMPTS: Final = 20
"""To change what others change at the same time."""
SERVICE: Final = ScimProvider(
    models=[User, EnterpriseUser, Group],
    resource_types=[ResourceType.from_resource(UserResource), ResourceType.from_resource(Group)],
    config=ServiceProviderConfig(
        patch=Patch(supported=True),
        bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
        filter=Filter(supported=True, max_results=MOST_RESULTS),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=False),
        etag=ETag(supported=True),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                description="A token of this gateway that is confined to the scope scim",
                primary=True,
            )
        ],
    ),
    policy=POLICY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Store:
    """What is kept of a kind of resource."""

    model: Any
    """A `scim2_models.Resource`."""
    find: Callable[..., Found]
    get: Callable[[Session, Client, str], Any]
    create: Callable[[Session, Client, Any], str]
    replace: Callable[[Session, Client, str, Any, str], None]
    delete: Callable[[Session, Client, str, str | None], None]


STORES: Final[Mapping[Kind, _Store]] = {
    Kind.USERS: _Store(
        model=UserResource,
        find=scim.list_users,
        get=scim.get_user,
        create=scim.create_user,
        replace=scim.replace_user,
        delete=scim.delete_user,
    ),
    Kind.GROUPS: _Store(
        model=Group,
        find=scim.list_groups,
        get=scim.get_group,
        create=scim.create_group,
        replace=scim.replace_group,
        delete=scim.delete_group,
    ),
}


class Work:
    """One request of a directory. In a handler's thread; every method raises ScimRefused."""

    def __init__(self, desk: Desk, request: Request) -> None:
        self._desk = desk
        self._request = request
        self._client = Client(actor=desk.actor, base_url=own_origin(request) + BASE)

    # ---- users and groups

    def listed(self, kind: Kind, body: Any = None) -> Response:
        """By the query string, or by the body of a `.search` (RFC 7644 3.4.2, 3.4.3)."""
        with _in_our_words():
            search = self._search() if body is None else SearchRequest.model_validate(body, scim_policy=POLICY)
            start, count = _window(search)
            with self._desk.read() as session:
                found = self._find(session, kind, search, start, count)
            return _list(found, search, start)

    def searched(self, body: Any) -> Response:
        """Users, then groups. A filter that makes no sense of one of them fits none of it."""
        with _in_our_words():
            search: SearchRequest[Any] = SearchRequest.model_validate(body, scim_policy=POLICY)
            start, count = _window(search)
            found: list[Any] = []
            refused: list[InvalidFilterException] = []
            with self._desk.read() as session:
                for kind in Kind:
                    try:
                        found += self._find(session, kind, search, 0, MOST_SEARCHED).resources
                    except InvalidFilterException as error:
                        refused.append(error)
            if len(refused) == len(Kind):
                raise refused[0]
            return _list(Found(total=len(found), resources=found[start : start + count]), search, start)

    def read(self, kind: Kind, ref: str) -> Response:
        with _in_our_words():
            search = self._search()
            resource = self._get(kind, ref)
            version = resource.meta.version
            if self._request.headers.get("if-none-match") == version:
                return Response(status_code=304, headers={"etag": version})
            return _answer(_shown(resource, Context.RESOURCE_QUERY_RESPONSE, search), etag=version)

    def created(self, kind: Kind, body: Any) -> Response:
        with _in_our_words():
            store = STORES[kind]
            wanted = store.model.model_validate(body, scim_ctx=Context.RESOURCE_CREATION_REQUEST, scim_policy=POLICY)
            with self._desk.change() as session:
                ref = store.create(session, self._client, wanted)
            return _resource(self._get(kind, ref), Context.RESOURCE_CREATION_RESPONSE, status=201)

    def replaced(self, kind: Kind, ref: str, body: Any) -> Response:
        with _in_our_words():

            def replaced(present: Resource[Any]) -> Any:
                wanted = STORES[kind].model.model_validate(
                    body, scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST, scim_policy=POLICY
                )
                wanted.replace(present)
                return wanted

            return _resource(self._changed(kind, ref, replaced), Context.RESOURCE_REPLACEMENT_RESPONSE)

    def patched(self, kind: Kind, ref: str, body: Any) -> Response:
        with _in_our_words():
            changes = member_changes(body) if kind is Kind.GROUPS else None
            if changes is not None:
                with self._desk.change() as session:
                    scim.change_members(session, self._client, ref, changes, self._request.headers.get("if-match"))
                return _resource(self._get(kind, ref), Context.RESOURCE_PATCH_RESPONSE)
            asked = PatchOp[STORES[kind].model].model_validate(  # type: ignore[misc]
                body, scim_ctx=Context.RESOURCE_PATCH_REQUEST, scim_policy=POLICY
            )

            def patched(present: Resource[Any]) -> Any:
                asked.patch(present, scim_policy=POLICY)
                return present

            return _resource(self._changed(kind, ref, patched), Context.RESOURCE_PATCH_RESPONSE)

    def deleted(self, kind: Kind, ref: str) -> Response:
        with _in_our_words():
            with self._desk.change() as session:
                STORES[kind].delete(session, self._client, ref, self._request.headers.get("if-match"))
            return Response(status_code=204)

    def _find(self, session: Session, kind: Kind, search: SearchRequest[Any], start: int, count: int) -> Found:
        left_out = {str(each).lower() for each in search.excluded_attributes or ()}
        return STORES[kind].find(session, self._client, search.filter, start, count, left_out)

    def _get(self, kind: Kind, ref: str) -> Any:
        with self._desk.read() as session:
            return STORES[kind].get(session, self._client, ref)

    def _changed(self, kind: Kind, ref: str, change: Callable[[Any], Any]) -> Any:
        """Work out what it is to be while nobody waits for us; again, where somebody else was faster."""
        for _ in range(MOST_ATTEMPTS):
            present = self._get(kind, ref)
            seen = present.meta.version
            scim.require_etag(self._request.headers.get("if-match"), seen)
            wanted = change(present)
            try:
                with self._desk.change() as session:
                    STORES[kind].replace(session, self._client, ref, wanted, seen)
            except ChangedMeanwhile:
                continue
            return self._get(kind, ref)
        raise ScimRefused(409, "others change it all the time; try again")

    def _search(self) -> SearchRequest[Any]:
        """The query string. Paging starts at 1; more than a page is cut to one."""
        asked = dict(self._request.query_params)
        for name in ("startIndex", "count"):
            if name in asked and not asked[name].lstrip("-").isdigit():
                raise InvalidSyntaxException(detail=f"{name} is no number")
        lists = {name: asked[name].split(",") for name in ("attributes", "excludedAttributes") if asked.get(name)}
        return SearchRequest.model_validate({**asked, **lists}, scim_policy=POLICY)

    # ---- discovery

    def service_provider_config(self) -> Response:
        assert SERVICE.config is not None
        config = SERVICE.config.model_copy(deep=True)
        config.meta = self._place("ServiceProviderConfig", "ServiceProviderConfig")
        return _answer(config.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE))

    def resource_types(self, wanted: str | None = None) -> Response:
        return self._described("ResourceType", "ResourceTypes", list(SERVICE.resource_types), wanted)

    def schemas(self, wanted: str | None = None) -> Response:
        return self._described("Schema", "Schemas", list(SERVICE.schemas), wanted)

    def _described(self, kind: str, path: str, described: Sequence[Any], wanted: str | None) -> Response:
        """All, or the one that is wanted."""
        shown = []
        for each in described:
            copy = each.model_copy(deep=True)
            copy.meta = self._place(kind, f"{path}/{each.id}")
            shown.append(copy.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE))
        if wanted is None:
            return _answer(_listed(shown, total=len(shown), start=0) | {"Resources": shown})
        for each in shown:
            if str(each["id"]).lower() == wanted.lower():
                return _answer(each)
        raise ScimRefused(404, f"there is no {kind} {wanted[:100]!r}")

    def _place(self, kind: str, path: str) -> Any:
        return Meta(resource_type=kind, location=f"{self._client.base_url}/{path}")


@contextmanager
def _in_our_words() -> Iterator[None]:
    """What the library refuses, as `ScimRefused`."""
    try:
        yield
    except SCIMException as error:
        told = error.to_error()
    except ValidationError as error:
        told = Error.from_validation_errors(error)[0]
    else:
        return
    raise ScimRefused(int(told.status or 400), told.detail or "", scim_type=told.scim_type) from None


def _window(search: SearchRequest[Any]) -> tuple[int, int]:
    """From where (0 = the first) and how many."""
    start = max(1, search.start_index or 1) - 1
    count = MOST_RESULTS if search.count is None else max(0, min(MOST_RESULTS, search.count))
    return start, count


def _list(found: Found, search: SearchRequest[Any], start: int) -> Response:
    shown = [_shown(each, Context.RESOURCE_QUERY_RESPONSE, search) for each in found.resources]
    return _answer(_listed(shown, total=found.total, start=start))


def _listed(shown: Sequence[Any], *, total: int, start: int) -> dict[str, Any]:
    """`start` counts from 0."""
    return {
        "schemas": [str(ListResponse.__schema__)],
        "totalResults": total,
        "itemsPerPage": len(shown),
        "startIndex": start + 1,
        **({"Resources": shown} if shown else {}),
    }


def _resource(resource: Any, context: Context, *, status: int = 200) -> Response:
    place = resource.meta.location
    return _answer(_shown(resource, context), status=status, etag=resource.meta.version, location=place)


def _shown(resource: Any, context: Context, search: SearchRequest[Any] | None = None) -> dict[str, Any]:
    """As JSON. Members of a group, of which there may be thousands, go past the library where all of each is shown."""
    parts = search is not None and (search.attributes or search.excluded_attributes)
    members = resource.members if isinstance(resource, Group) and not parts else None
    if members:
        resource = resource.model_copy(update={"members": None})
    shown: dict[str, Any] = resource.model_dump(scim_ctx=context, response_parameters=search)
    if members:
        shown["members"] = [{"value": each.value, "type": each.type, "$ref": each.ref} for each in members]
    return shown


def _answer(content: Any, *, status: int = 200, **headers: str) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type=MEDIA_TYPE, headers=headers)
