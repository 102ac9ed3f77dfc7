"""Every failure as RFC 9457 problem details (`application/problem+json`), 404, 405 and unreadable bodies included.

A problem says what happened (`detail`), what to do (`fix`), which fields are meant (`errors`), and never shows a stack
trace or a secret: what nobody foresaw is logged and answered as a bare 500 with the request's id.
"""

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from gateway.errors import BadRequest, Conflict, SluicegateError, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "/api/docs#problem-"
"""Each problem's `type` is the place in this gateway's own documentation that explains its code."""


class FieldProblem(BaseModel):
    """One field that cannot be accepted."""

    field: Annotated[str, Field(description="Path of the field, e.g. `targets.0.provider`")]
    problem: str
    remedy: Annotated[str, Field(description="What to do about it; empty where `problem` says it all")]


class Problem(BaseModel):
    """RFC 9457. Other members carry facts of the case: `used`, `at_most`, `resets_at`, …"""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(description="Where this problem is explained")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Annotated[str, Field(description="Path of the request that failed")]
    code: Annotated[str, Field(description="Stable word for programs")]
    fix: Annotated[str, Field(description="What to do about it; may be empty")]
    request_id: Annotated[str, Field(description="Also in the header `x-request-id` and in the gateway's log")]
    errors: list[FieldProblem] | None = None


OPENAPI_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "What went wrong and what to do about it (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
"""Declared on every endpoint; `gateway.api.openapi` adds the schemas it refers to."""


def install(app: FastAPI) -> None:
    """Register the handlers that turn every exception into a problem."""
    app.add_exception_handler(SluicegateError, _on_sluicegate_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(DBAPIError, _on_database_error)
    app.add_exception_handler(PoolTimeout, _on_database_error)
    app.add_exception_handler(StaleDataError, _on_database_error)
    app.add_exception_handler(ResponseValidationError, on_unforeseen)


def problem_response(
    request: Request,
    *,
    status: int,
    code: str,
    detail: str,
    fix: str = "",
    headers: dict[str, str] | None = None,
    **extensions: Any,
) -> Response:
    """The problem as an answer; members of `extensions` that are None are left out."""
    document = {name: value for name, value in extensions.items() if value is not None}
    document.update(
        type=TYPE_PREFIX + code,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        fix=fix,
        request_id=request.scope.get("sluicegate.request_id", ""),
    )
    body = orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def field_problems(errors: Iterable[Any]) -> list[dict[str, str]]:
    """Pydantic's errors as ours: the path without `body`, and never the rejected value (it may be a secret)."""
    return [_field_problem(error) for error in errors]


_REMEDIES: Final = {
    "missing": "add the field",
    "repeated": "give it once",
    "extra_forbidden": "remove the field, or correct its name",
    "json_invalid": "send one JSON document in UTF-8",
}


def _field_problem(error: Any) -> dict[str, str]:
    """`fields.refused` carries the remedy, and of which of a model's fields it speaks, in the error's context."""
    context = error.get("ctx", {})
    location = [str(part) for part in error["loc"]]
    if location and location[0] in _PLACES:
        del location[0]
    if error["type"] == "json_invalid":
        location = []
    if context.get("field"):
        location.append(context["field"])
    remedy = context.get("remedy") or _REMEDIES.get(error["type"], "correct it")
    return {"field": ".".join(location), "problem": error["msg"], "remedy": remedy}


_PLACES: Final = frozenset({"body", "query", "path", "header", "cookie"})


async def _on_sluicegate_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SluicegateError)
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="sluicegate"'
    return problem_response(
        request,
        status=error.status,
        code=error.code,
        detail=error.message,
        fix=error.fix,
        headers=headers,
        **{name: value for name, value in error.fields.items() if name not in _RESERVED},
    )


_RESERVED: Final = frozenset({"request", "status", "code", "detail", "fix", "headers"})


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = field_problems(error.errors())
    if not problems[0]["field"] and _is_foreign(request.headers.get("content-type")):
        return problem_response(
            request,
            status=415,
            code="unsupported_media_type",
            detail="the body is declared as something else than JSON",
            fix="send the header `content-type: application/json`",
        )
    unreadable = any(one["type"] == "json_invalid" for one in error.errors())
    first = problems[0] if problems else {"field": "", "problem": "the request is not valid", "remedy": ""}
    named = f"{first['field']}: " if first["field"] else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return problem_response(
        request,
        status=400 if unreadable else 422,
        code="bad_request" if unreadable else "invalid",
        detail=f"{named}{first['problem']}{more}",
        fix="send a JSON document" if unreadable else first["remedy"],
        errors=problems,
    )


def _is_foreign(content_type: str | None) -> bool:
    return content_type is not None and "json" not in content_type.lower()


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    fix = ""
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = [named] if (named := headers.get("allow")) else allowed_methods(request)
        headers = {"allow": ", ".join(allowed)}
        detail = f"{request.url.path} does not answer {request.method}"
        fix = f"use {' or '.join(allowed)}"
    elif error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"nothing is served at {request.url.path}"
        fix = "the endpoints are listed at /api/docs"
    else:
        detail = str(error.detail)
        fix = _HTTP_FIXES.get(error.status_code, "")
    return problem_response(
        request, status=error.status_code, code=_code_of(error.status_code), detail=detail, fix=fix, headers=headers
    )


_HTTP_FIXES: Final[dict[int, str]] = {
    HTTPStatus.BAD_REQUEST: "send one JSON document in UTF-8",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "send less at once, e.g. in several documents",
}


def _code_of(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_").replace("'", "")


def allowed_methods(request: Request) -> list[str]:
    """Methods of all routes with this path: Starlette's own `Allow` names those of the first one only."""
    methods: set[str] = set()
    for router in request.app.state.routers:
        for route in router.routes:
            match, _ = route.matches(request.scope)
            if match is not Match.NONE:
                methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


async def _on_database_error(request: Request, error: Exception) -> Response:
    """Away or busy is 503, another writer 409, a text that PostgreSQL cannot hold 400; all else is a fault of ours."""
    if isinstance(error, IntegrityError | StaleDataError):
        return await _on_sluicegate_error(
            request, Conflict("somebody else changed the same thing at this moment", fix="read it again, and repeat")
        )
    if isinstance(error, DataError):
        return await _on_sluicegate_error(
            request, BadRequest("a value of the request cannot be stored", fix="send text without NUL characters")
        )
    away = isinstance(error, OperationalError | PoolTimeout) or getattr(error, "connection_invalidated", False)
    if not away:
        return await on_unforeseen(request, error)
    log.warning("database unavailable", extra={"reason": str(getattr(error, "orig", error))[:200]})
    return await _on_sluicegate_error(
        request,
        Unavailable("the database does not answer", fix="try again; `sluicegate doctor` says more", retry_after_s=2),
    )


async def on_unforeseen(request: Request, error: Exception) -> Response:
    request_id = request.scope.get("sluicegate.request_id", "")
    log.error("request failed", extra={"request_id": request_id, "path": request.url.path}, exc_info=error)
    return problem_response(
        request,
        status=500,
        code="internal_error",
        detail="the gateway failed to answer this request",
        fix="look for the request_id in the gateway's log, and report it",
    )
