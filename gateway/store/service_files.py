"""OpenAPI documents of HTTP routes, bounded in size, kept as JSON. What makes one: `openapi_document`."""

from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import Invalid, NotFound
from gateway.store.config.editing import Editing
from gateway.store.config.routes import Routes
from gateway.store.models import Route, now
from gateway.store.openapi_document import OpenApiDocument
from gateway.store.portal_models import ServiceFile
from gateway.store.views import View

MOST_BYTES: Final = 1024 * 1024


class ServiceFileView(View):
    route: str
    title: str
    api_version: str
    operations: int
    bytes: int
    source: str | None
    """The URL that it was fetched from."""
    updated_at: datetime


class ServiceFiles:
    """In the caller's name, within the caller's transaction."""

    def __init__(self, editing: Editing) -> None:
        self._editing = editing
        self._session = editing.session

    def put(self, reference: str, document: OpenApiDocument, source: str | None) -> ServiceFileView:
        """Raises NotFound, and Invalid for what is no HTTP route."""
        self._editing.lock()
        route = self._http_route(reference)
        row = self._session.get(ServiceFile, route.id)
        action = "create" if row is None else "update"
        if row is None:
            row = ServiceFile(route_id=route.id)
            self._session.add(row)
        row.content, row.source, row.updated_at = document.content, source, now()
        self._session.flush()
        view = _view(route, row, document)
        self._editing.record(action, "openapi document", route.name, None, view.model_dump(mode="json"))
        return view

    def delete(self, reference: str) -> None:
        self._editing.lock()
        route = self._http_route(reference)
        row = self._session.get(ServiceFile, route.id)
        if row is None:
            raise NotFound(f"no OpenAPI document is stored for {reference!r}", fix="there is nothing to do")
        self._session.delete(row)
        self._session.flush()
        self._editing.record("delete", "openapi document", route.name, {"source": row.source}, None)

    def refuse_elsewhere(self, reference: str, url: str) -> None:
        """A document is fetched from where the route's requests go and from nowhere else: what the gateway may reach is
        what its configuration names. Raises Invalid."""
        route = self._http_route(reference)
        try:
            parts = urlsplit(url)
            asked = (parts.scheme, parts.hostname, parts.port)
        except ValueError:
            raise _invalid("url", "is not a URL", "write e.g. https://crm.internal/openapi.json") from None
        known = {urlsplit(target.provider.base_url) for target in route.targets}
        if parts.username or asked not in {(each.scheme, each.hostname, each.port) for each in known}:
            hosts = ", ".join(sorted(each.netloc for each in known))
            raise _invalid("url", f"is on no host of the route: {hosts}", "fetch it yourself and send it as the body")

    def _http_route(self, reference: str) -> Route:
        route = Routes(self._editing).find(reference)
        if route.match_host is None and route.match_path is None:
            raise _invalid(
                "route", "is asked for by model", "its API is the dialect's: OpenAPI documents are for HTTP routes"
            )
        return route


def _view(route: Route, row: ServiceFile, document: OpenApiDocument) -> ServiceFileView:
    return ServiceFileView(
        route=route.name,
        title=document.title,
        api_version=document.api_version,
        operations=document.operations,
        bytes=len(row.content.encode()),
        source=row.source,
        updated_at=row.updated_at,
    )


def _invalid(field: str, problem: str, remedy: str) -> Invalid:
    errors = [{"field": field, "problem": problem, "remedy": remedy}]
    return Invalid(f"{field} {problem}", fix=remedy, errors=errors)
