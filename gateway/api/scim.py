"""SCIM 2.0 (RFC 7643, 7644) under `/scim/v2`: an identity provider makes, changes and removes users and groups.

Only a token that is confined to the scope `scim` gets in. Errors are SCIM's own (RFC 7644 3.12). Not in the OpenAPI
document: SCIM describes itself (`/Schemas`, `/ResourceTypes`, `/ServiceProviderConfig`). What the endpoints do is next
door (`scim_protocol`), loaded when a directory asks.
"""

from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.api.caller import Desk, Permit
from gateway.errors import Forbidden, SluicegateError
from gateway.late import importing
from gateway.policy.roles import Permission
from gateway.store.identity import Caller

if TYPE_CHECKING:
    from gateway.api.scim_protocol import Work

BASE: Final = "/scim/v2"
MEDIA_TYPE: Final = "application/scim+json"
ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"


class Kind(StrEnum):
    """What there is, as its path is called."""

    USERS = "Users"
    GROUPS = "Groups"


class ScimRefused(SluicegateError):
    """What RFC 7644 has an error for."""

    code = "scim"

    def __init__(self, status: int, detail: str, *, scim_type: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.scim_type = scim_type


class ScimRoute(APIRoute):
    """Answers every failure as SCIM does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_tell(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                return _error(400, f"{first['loc'][-1]}: {first['msg']}", "invalidValue")
            except HTTPException as error:
                return _error(error.status_code, str(error.detail))
            except ScimRefused as error:
                return _error(error.status, error.message, error.scim_type)
            except SluicegateError as error:
                return _error(error.status, str(error))

        return handle_or_tell


router = APIRouter(prefix=BASE, include_in_schema=False, route_class=ScimRoute)


class PermitScim(Permit):
    """Dependency that admits tokens confined to SCIM: one that may do more does not belong into a directory's hands."""

    def __init__(self) -> None:
        super().__init__(Permission.SCIM)

    def admit(self, request: Request) -> Caller:
        caller = super().admit(request)
        if caller.scopes != frozenset((Permission.SCIM,)):
            raise Forbidden(
                "SCIM takes a token with the scope scim alone", fix="sluicegate token create --role owner --scope scim"
            )
        return caller


Directory = Annotated[Desk, Depends(PermitScim())]


async def body_of(request: Request, _desk: Directory) -> Any:
    """Dependency: the body as JSON, of those who are let in."""
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise ScimRefused(400, "the body is not JSON", scim_type="invalidSyntax") from None


Body = Annotated[Any, Depends(body_of)]


def _work(desk: Desk, request: Request) -> "Work":
    with importing():
        from gateway.api.scim_protocol import Work
    return Work(desk, request)


# ---- discovery


@router.get("/ServiceProviderConfig")
def service_provider_config(desk: Directory, request: Request) -> Response:
    return _work(desk, request).service_provider_config()


@router.get("/ResourceTypes")
def resource_types(desk: Directory, request: Request) -> Response:
    return _work(desk, request).resource_types()


@router.get("/ResourceTypes/{name}")
def resource_type(desk: Directory, request: Request, name: str) -> Response:
    return _work(desk, request).resource_types(name)


@router.get("/Schemas")
def schemas(desk: Directory, request: Request) -> Response:
    return _work(desk, request).schemas()


@router.get("/Schemas/{urn}")
def schema(desk: Directory, request: Request, urn: str) -> Response:
    return _work(desk, request).schemas(urn)


# ---- users and groups


def _add_endpoints(kind: Kind) -> None:
    """The same for either."""
    all_of_them, one_of_them = f"/{kind}", f"/{kind}/{{ref}}"

    @router.get(all_of_them, name=f"list_scim_{kind.lower()}")
    def list_resources(desk: Directory, request: Request) -> Response:
        return _work(desk, request).listed(kind)

    @router.post(all_of_them, name=f"create_scim_{kind.lower()}", status_code=201)
    def create_resource(desk: Directory, request: Request, body: Body) -> Response:
        return _work(desk, request).created(kind, body)

    @router.post(f"{all_of_them}/.search", name=f"search_scim_{kind.lower()}")
    def search_resources(desk: Directory, request: Request, body: Body) -> Response:
        return _work(desk, request).listed(kind, body)

    @router.get(one_of_them, name=f"get_scim_{kind.lower()}")
    def get_resource(desk: Directory, request: Request, ref: str) -> Response:
        return _work(desk, request).read(kind, ref)

    @router.put(one_of_them, name=f"replace_scim_{kind.lower()}")
    def replace_resource(desk: Directory, request: Request, ref: str, body: Body) -> Response:
        return _work(desk, request).replaced(kind, ref, body)

    @router.patch(one_of_them, name=f"patch_scim_{kind.lower()}")
    def patch_resource(desk: Directory, request: Request, ref: str, body: Body) -> Response:
        return _work(desk, request).patched(kind, ref, body)

    @router.delete(one_of_them, name=f"delete_scim_{kind.lower()}", status_code=204)
    def delete_resource(desk: Directory, request: Request, ref: str) -> Response:
        return _work(desk, request).deleted(kind, ref)


for each in Kind:
    _add_endpoints(each)


# ---- search over both (RFC 7644 3.4.3), and what there is not


@router.post("/.search")
def search_scim(desk: Directory, request: Request, body: Body) -> Response:
    return _work(desk, request).searched(body)


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def no_such_endpoint(rest: str) -> Response:
    if rest.partition("/")[0] in ("ServiceProviderConfig", "ResourceTypes", "Schemas"):
        raise HTTPException(405, "it is read only")
    raise ScimRefused(404, f"there is nothing at {BASE}/{rest[:100]}")


def _error(status: int, detail: str, scim_type: str | None = None) -> Response:
    """RFC 7644 3.12."""
    told = {"schemas": [ERROR], "status": str(status), "detail": detail, "scimType": scim_type}
    shown = {name: value for name, value in told.items() if value}
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return Response(orjson.dumps(shown), status_code=status, media_type=MEDIA_TYPE, headers=headers)
