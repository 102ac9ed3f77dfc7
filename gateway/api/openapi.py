"""The OpenAPI document: FastAPI's own, with our problems, permissions and ways to authenticate written in.

`python -m gateway.api.openapi > FILE` dumps it without a database or a running gateway; the console's client is
generated from that.
"""

import sys
from collections.abc import Iterator
from typing import Any, Final

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

import gateway
from gateway.api.caller import HOST_PREFIX, SESSION_COOKIE, Permit
from gateway.api.problems import Problem
from gateway.policy.roles import PERMISSIONS, Permission
from gateway.store.documents import GatewayDocument

SCHEMA_PLACE: Final = "#/components/schemas/{model}"
UNDECLARED: Final[tuple[tuple[type[BaseModel], JsonSchemaMode], ...]] = (
    (Problem, "serialization"),
    (GatewayDocument, "validation"),
)
"""Schemas that endpoints refer to by name because FastAPI sees no parameter or answer of that type."""

DESCRIPTION: Final = """Everything the console does, for scripts and app teams.

Authenticate with `Authorization: Bearer TOKEN` (`sluicegate token create --role ROLE`). Lists answer
`{items, next_cursor}`; pass `next_cursor` as `cursor` for the next page. Paths take an id or a name.
Single things carry their version as `ETag`; send it as `If-Match` to change only what you have seen.
Errors are RFC 9457 problem details.
Times are RFC 3339 in UTC, money is integer micro-USD unless a field says otherwise."""


COOKIE_NAMES: Final = f"Over TLS it is called {HOST_PREFIX}{SESSION_COOKIE}"


def install(app: FastAPI) -> None:
    """Replace the application's `openapi()`; built once, at the first question."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="Sluicegate", version=gateway.__version__, description=DESCRIPTION, routes=app.router.routes
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for model, mode in UNDECLARED:
        schema = model.model_json_schema(ref_template=SCHEMA_PLACE, mode=mode)
        for name, part in schema.pop("$defs", {}).items():
            schemas.setdefault(name, part)
        schemas[model.__name__] = schema
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE, "description": COOKIE_NAMES},
    }
    for route, method in api_operations(app):
        operation = document["paths"][route.path_format][method.lower()]
        permission = permission_of(route)
        if permission is not None:
            operation["security"] = [{"bearer": []}, {"session": []}]
            operation["x-permission"] = permission
            operation["x-roles"] = [role for role, granted in PERMISSIONS.items() if permission in granted]
    return document


def api_operations(app: FastAPI) -> Iterator[tuple[APIRoute, str]]:
    """Every documented endpoint with each of its methods."""
    for router in app.state.routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and router.include_in_schema and route.include_in_schema:
                for method in sorted(route.methods or ()):
                    yield route, method


def permission_of(route: APIRoute) -> Permission | None:
    """What the endpoint asks of its caller; None = open to everyone."""
    pending = list(route.dependant.dependencies)
    while pending:
        dependant = pending.pop()
        if isinstance(dependant.call, Permit):
            return dependant.call.permission
        pending.extend(dependant.dependencies)
    return None


def main() -> None:
    from gateway.api.app import create_app
    from gateway.settings import Settings

    app = create_app(Settings(database="sqlite://"), None)
    sys.stdout.buffer.write(orjson.dumps(app.openapi(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
