"""SCIM 2.0 (RFC 7643, 7644) under `/scim/v2`: an identity provider makes, changes and removes users and groups.

Only a token that is confined to the scope `scim` gets in. Errors are SCIM's own (RFC 7644 3.12). Not in the OpenAPI
document: SCIM describes itself (`/Schemas`, `/ResourceTypes`, `/ServiceProviderConfig`).
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
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
    NotFoundException,
    Patch,
    PatchOp,
    ResourceType,
    SCIMException,
    ScimProvider,
    SearchRequest,
    ServiceProviderConfig,
    Sort,
    User,
)
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.api.caller import Desk, Permit, own_origin
from gateway.api.services import Services, services_of
from gateway.errors import Forbidden, SluicegateError
from gateway.policy.roles import Permission
from gateway.store import scim
from gateway.store.identity import Caller
from gateway.store.scim import MOST_RESULTS, POLICY, Client, Found, Group, UserResource

BASE: Final = "/scim/v2"
MOST_SEARCHED: Final = 10_000
"""Of users, and of groups, in a search over both."""
MEDIA_TYPE: Final = "application/scim+json"
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


class ScimRoute(APIRoute):
    """Answers every failure as SCIM does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_tell(request: Request) -> Response:
            try:
                return await handle(request)
            except SCIMException as error:
                return _error(error.to_error())
            except ValidationError as error:
                return _error(Error.from_validation_errors(error)[0])
            except RequestValidationError as error:
                first = error.errors()[0]
                return _error(Error(status=400, scim_type="invalidValue", detail=f"{first['loc'][-1]}: {first['msg']}"))
            except HTTPException as error:
                return _error(Error(status=error.status_code, detail=str(error.detail)))
            except SluicegateError as error:
                return _error(Error(status=error.status, detail=str(error)))

        return handle_or_tell


router = APIRouter(prefix=BASE, include_in_schema=False, route_class=ScimRoute)


class PermitScim(Permit):
    """Dependency that admits tokens confined to SCIM: one that may do more does not belong into a directory's hands."""

    def __init__(self) -> None:
        super().__init__(Permission.SCIM)

    def _admit(self, request: Request) -> Caller:
        caller = super()._admit(request)
        if caller.scopes != frozenset((Permission.SCIM,)):
            raise Forbidden(
                "SCIM takes a token with the scope scim alone", fix="sluicegate token create --role owner --scope scim"
            )
        return caller


Directory = Annotated[Desk, Depends(PermitScim())]


def client_of(request: Request, desk: Directory) -> Client:
    """Dependency."""
    return Client(actor=desk.actor, base_url=own_origin(request) + BASE)


async def body_of(request: Request, _services: Annotated[Services, Depends(services_of)]) -> Any:
    """Dependency: the body as JSON."""
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise InvalidSyntaxException(detail="the body is not JSON") from None


Asking = Annotated[Client, Depends(client_of)]
Body = Annotated[Any, Depends(body_of)]


def search_of(request: Request) -> SearchRequest[Any]:
    """Dependency: the query string (RFC 7644 3.4.2). Paging starts at 1; more than a page is cut to one."""
    asked = dict(request.query_params)
    for name in ("startIndex", "count"):
        if name in asked and not asked[name].lstrip("-").isdigit():
            raise InvalidSyntaxException(detail=f"{name} is no number")
    lists = {name: asked[name].split(",") for name in ("attributes", "excludedAttributes") if asked.get(name)}
    return SearchRequest.model_validate({**asked, **lists}, scim_policy=POLICY)


Search = Annotated[SearchRequest[Any], Depends(search_of)]


# ---- discovery


@router.get("/ServiceProviderConfig")
def service_provider_config(client: Asking) -> Response:
    assert SERVICE.config is not None
    config = SERVICE.config.model_copy(deep=True)
    config.meta = _place(client, "ServiceProviderConfig", "ServiceProviderConfig")
    return _answer(config.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE))


@router.get("/ResourceTypes")
def resource_types(client: Asking) -> Response:
    return _all(client, "ResourceType", "ResourceTypes", list(SERVICE.resource_types))


@router.get("/ResourceTypes/{name}")
def resource_type(client: Asking, name: str) -> Response:
    return _one(client, "ResourceType", "ResourceTypes", list(SERVICE.resource_types), name)


@router.get("/Schemas")
def schemas(client: Asking) -> Response:
    return _all(client, "Schema", "Schemas", list(SERVICE.schemas))


@router.get("/Schemas/{urn}")
def schema(client: Asking, urn: str) -> Response:
    return _one(client, "Schema", "Schemas", list(SERVICE.schemas), urn)


def _all(client: Client, kind: str, path: str, described: list[Any]) -> Response:
    shown = [_described(client, kind, path, each) for each in described]
    return _answer(
        {
            "schemas": [str(ListResponse.__schema__)],
            "totalResults": len(shown),
            "itemsPerPage": len(shown),
            "startIndex": 1,
            "Resources": shown,
        }
    )


def _one(client: Client, kind: str, path: str, described: list[Any], wanted: str) -> Response:
    found = next((each for each in described if str(each.id).lower() == wanted.lower()), None)
    if found is None:
        raise NotFoundException(detail=f"there is no {kind} {wanted[:100]!r}")
    return _answer(_described(client, kind, path, found))


def _described(client: Client, kind: str, path: str, resource: Any) -> Any:
    copy = resource.model_copy(deep=True)
    copy.meta = _place(client, kind, f"{path}/{resource.id}")
    return copy.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)


def _place(client: Client, kind: str, path: str) -> Any:
    return Meta(resource_type=kind, location=f"{client.base_url}/{path}")


# ---- users


@router.get("/Users")
def list_scim_users(desk: Directory, client: Asking, search: Search) -> Response:
    start, count = _window(search)
    with desk.read() as session:
        found = scim.list_users(session, client, search.filter, start, count)
    return _list(found, search, start)


@router.post("/Users", status_code=201)
def create_scim_user(desk: Directory, client: Asking, body: Body) -> Response:
    wanted = UserResource.model_validate(body, scim_ctx=Context.RESOURCE_CREATION_REQUEST, scim_policy=POLICY)
    with desk.change() as session:
        made = scim.create_user(session, client, wanted)
    return _resource(made, Context.RESOURCE_CREATION_RESPONSE, status=201)


@router.get("/Users/{ref}")
def get_scim_user(desk: Directory, client: Asking, search: Search, request: Request, ref: str) -> Response:
    with desk.read() as session:
        return _read(scim.get_user(session, client, ref), search, request)


@router.put("/Users/{ref}")
def replace_scim_user(desk: Directory, client: Asking, body: Body, request: Request, ref: str) -> Response:
    wanted = UserResource.model_validate(body, scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST, scim_policy=POLICY)
    with desk.change() as session:
        wanted.replace(scim.get_user(session, client, ref))
        done = scim.replace_user(session, client, ref, wanted, request.headers.get("if-match"))
    return _resource(done, Context.RESOURCE_REPLACEMENT_RESPONSE)


@router.patch("/Users/{ref}")
def patch_scim_user(desk: Directory, client: Asking, body: Body, request: Request, ref: str) -> Response:
    asked = PatchOp[UserResource].model_validate(body, scim_ctx=Context.RESOURCE_PATCH_REQUEST, scim_policy=POLICY)
    with desk.change() as session:
        present = scim.get_user(session, client, ref)
        asked.patch(present, scim_policy=POLICY)
        done = scim.replace_user(session, client, ref, present, request.headers.get("if-match"))
    return _resource(done, Context.RESOURCE_PATCH_RESPONSE)


@router.delete("/Users/{ref}", status_code=204)
def delete_scim_user(desk: Directory, client: Asking, request: Request, ref: str) -> Response:
    with desk.change() as session:
        scim.delete_user(session, client, ref, request.headers.get("if-match"))
    return Response(status_code=204)


# ---- groups


@router.get("/Groups")
def list_scim_groups(desk: Directory, client: Asking, search: Search) -> Response:
    start, count = _window(search)
    members = "members" not in {str(each).lower() for each in search.excluded_attributes or ()}
    with desk.read() as session:
        found = scim.list_groups(session, client, search.filter, start, count, members=members)
    return _list(found, search, start)


@router.post("/Groups", status_code=201)
def create_scim_group(desk: Directory, client: Asking, body: Body) -> Response:
    wanted = Group.model_validate(body, scim_ctx=Context.RESOURCE_CREATION_REQUEST, scim_policy=POLICY)
    with desk.change() as session:
        made = scim.create_group(session, client, wanted)
    return _resource(made, Context.RESOURCE_CREATION_RESPONSE, status=201)


@router.get("/Groups/{ref}")
def get_scim_group(desk: Directory, client: Asking, search: Search, request: Request, ref: str) -> Response:
    with desk.read() as session:
        return _read(scim.get_group(session, client, ref), search, request)


@router.put("/Groups/{ref}")
def replace_scim_group(desk: Directory, client: Asking, body: Body, request: Request, ref: str) -> Response:
    wanted = Group.model_validate(body, scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST, scim_policy=POLICY)
    with desk.change() as session:
        wanted.replace(scim.get_group(session, client, ref))
        done = scim.replace_group(session, client, ref, wanted, request.headers.get("if-match"))
    return _resource(done, Context.RESOURCE_REPLACEMENT_RESPONSE)


@router.patch("/Groups/{ref}")
def patch_scim_group(desk: Directory, client: Asking, body: Body, request: Request, ref: str) -> Response:
    asked = PatchOp[Group].model_validate(body, scim_ctx=Context.RESOURCE_PATCH_REQUEST, scim_policy=POLICY)
    with desk.change() as session:
        present = scim.get_group(session, client, ref)
        asked.patch(present, scim_policy=POLICY)
        done = scim.replace_group(session, client, ref, present, request.headers.get("if-match"))
    return _resource(done, Context.RESOURCE_PATCH_RESPONSE)


@router.delete("/Groups/{ref}", status_code=204)
def delete_scim_group(desk: Directory, client: Asking, request: Request, ref: str) -> Response:
    with desk.change() as session:
        scim.delete_group(session, client, ref, request.headers.get("if-match"))
    return Response(status_code=204)


# ---- search (RFC 7644 3.4.3), and what there is not


@router.post("/Users/.search")
def search_scim_users(desk: Directory, client: Asking, body: Body) -> Response:
    return list_scim_users(desk, client, SearchRequest.model_validate(body, scim_policy=POLICY))


@router.post("/Groups/.search")
def search_scim_groups(desk: Directory, client: Asking, body: Body) -> Response:
    return list_scim_groups(desk, client, SearchRequest.model_validate(body, scim_policy=POLICY))


@router.post("/.search")
def search_scim(desk: Directory, client: Asking, body: Body) -> Response:
    """Users, then groups. A filter that makes no sense of one of them fits none of it."""
    search: SearchRequest[Any] = SearchRequest.model_validate(body, scim_policy=POLICY)
    start, count = _window(search)
    found: list[Any] = []
    refused: list[InvalidFilterException] = []
    with desk.read() as session:
        for listed in (scim.list_users, scim.list_groups):
            try:
                found += listed(session, client, search.filter, 0, MOST_SEARCHED).resources
            except InvalidFilterException as error:
                refused.append(error)
    if len(refused) == 2:
        raise refused[0]
    return _list(Found(total=len(found), resources=found[start : start + count]), search, start)


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def no_such_endpoint(rest: str) -> Response:
    if rest.partition("/")[0] in ("ServiceProviderConfig", "ResourceTypes", "Schemas"):
        raise HTTPException(405, "it is read only")
    raise NotFoundException(detail=f"there is nothing at {BASE}/{rest[:100]}")


# ---- answers


def _window(search: SearchRequest[Any]) -> tuple[int, int]:
    """From where (0 = the first) and how many."""
    start = max(1, search.start_index or 1) - 1
    count = MOST_RESULTS if search.count is None else max(0, min(MOST_RESULTS, search.count))
    return start, count


def _list(found: Found, search: SearchRequest[Any], start: int) -> Response:
    shown = [
        each.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=search)
        for each in found.resources
    ]
    return _answer(
        {
            "schemas": [str(ListResponse.__schema__)],
            "totalResults": found.total,
            "itemsPerPage": len(shown),
            "startIndex": start + 1,
            **({"Resources": shown} if shown else {}),
        }
    )


def _read(resource: Any, search: SearchRequest[Any], request: Request) -> Response:
    version = resource.meta.version
    if request.headers.get("if-none-match") == version:
        return Response(status_code=304, headers={"etag": version})
    shown = resource.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=search)
    return _answer(shown, etag=version)


def _resource(resource: Any, context: Context, *, status: int = 200) -> Response:
    place = resource.meta.location
    return _answer(resource.model_dump(scim_ctx=context), status=status, etag=resource.meta.version, location=place)


def _answer(content: Any, *, status: int = 200, **headers: str) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _error(error: Error) -> Response:
    status = int(error.status or 400)
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return Response(orjson.dumps(error.model_dump()), status_code=status, media_type=MEDIA_TYPE, headers=headers)
