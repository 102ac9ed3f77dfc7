"""Query parameters that an endpoint does not have, or that stand twice, are refused: `?prun=true` must not be dropped
in silence, nor one of two filters."""

from collections import Counter

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


async def refuse_unknown_query(request: Request) -> None:
    """Dependency of all documented endpoints. Raises RequestValidationError naming each such parameter."""
    if not request.url.query:
        return
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not route.include_in_schema:
        return
    known = known_parameters(route)
    wrong = []
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            wrong.append({"type": "extra_forbidden", "loc": ("query", name), "msg": "is not known here"})
        elif times > 1:
            wrong.append({"type": "repeated", "loc": ("query", name), "msg": f"stands {times} times"})
    if wrong:
        raise RequestValidationError(wrong)


def known_parameters(route: APIRoute) -> frozenset[str]:
    """Names in the query string that the endpoint or one of its dependencies reads. None of them is a list."""
    names: set[str] = set()
    pending = [route.dependant]
    while pending:
        dependant = pending.pop()
        names.update(field.alias for field in dependant.query_params)
        pending.extend(dependant.dependencies)
    return frozenset(names)
