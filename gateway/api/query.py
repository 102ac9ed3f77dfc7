"""Query parameters that an endpoint does not have are refused: `?prun=true` must not be dropped in silence."""

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


async def refuse_unknown_query(request: Request) -> None:
    """Dependency of all documented endpoints. Raises RequestValidationError naming each unknown parameter."""
    if not request.url.query:
        return
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not route.include_in_schema:
        return
    known = known_parameters(route)
    unknown = [name for name in dict.fromkeys(request.query_params.keys()) if name not in known]
    if unknown:
        raise RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", name), "msg": "is not known here"} for name in unknown]
        )


def known_parameters(route: APIRoute) -> frozenset[str]:
    """Names in the query string that the endpoint or one of its dependencies reads."""
    names: set[str] = set()
    pending = [route.dependant]
    while pending:
        dependant = pending.pop()
        names.update(field.alias for field in dependant.query_params)
        pending.extend(dependant.dependencies)
    return frozenset(names)
