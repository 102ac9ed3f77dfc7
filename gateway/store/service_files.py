"""OpenAPI documents of HTTP routes: checked to be such, bounded in size, kept as JSON."""

from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent

from gateway.errors import Invalid, NotFound
from gateway.store.config.editing import Editing
from gateway.store.config.routes import Routes
from gateway.store.models import Route, now
from gateway.store.portal_models import ServiceFile
from gateway.store.views import View

MOST_BYTES: Final = 1024 * 1024
DEEPEST: Final = 100


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

    def put(self, reference: str, sent: bytes, source: str | None) -> ServiceFileView:
        """Raises NotFound, and Invalid for what is no OpenAPI 3 document or no HTTP route."""
        document = read(sent)
        self._editing.lock()
        route = self._http_route(reference)
        content = orjson.dumps(document).decode()
        row = self._session.get(ServiceFile, route.id)
        action = "create" if row is None else "update"
        if row is None:
            row = ServiceFile(route_id=route.id)
            self._session.add(row)
        row.content, row.source, row.updated_at = content, source, now()
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


def read(sent: bytes) -> dict[str, Any]:
    """JSON or YAML as an OpenAPI 3 document. Raises Invalid."""
    try:
        document = orjson.loads(sent)
    except orjson.JSONDecodeError:
        document = _read_yaml(sent)
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        raise _invalid("document", "has no `paths`", "send an OpenAPI document")
    if not str(document.get("openapi", "")).startswith("3."):
        raise _invalid(
            "document", "is not OpenAPI 3", "convert it, e.g. at converter.swagger.io, or with swagger2openapi"
        )
    if _depth(document) > DEEPEST:
        raise _invalid("document", "is nested too deeply", f"{DEEPEST} levels are read")
    return document


def _read_yaml(sent: bytes) -> Any:
    """Without aliases: a few lines of them may stand for gigabytes."""
    try:
        text = sent.decode()
        yaml = YAML(typ="safe", pure=True)
        if any(isinstance(event, AliasEvent) for event in yaml.parse(text)):
            raise _invalid("document", "uses YAML aliases", "write them out, or send JSON")
        found = YAML(typ="safe", pure=True).load(text)
        return orjson.loads(orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS))
    except (UnicodeDecodeError, YAMLError, TypeError, ValueError, RecursionError):
        raise _invalid("document", "is neither JSON nor YAML", "send an OpenAPI document") from None


def _depth(value: Any) -> int:
    deepest, present = 0, [value]
    while present and deepest <= DEEPEST:
        deepest += 1
        below: list[Any] = []
        for each in present:
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
        present = below
    return deepest


def _view(route: Route, row: ServiceFile, document: dict[str, Any]) -> ServiceFileView:
    told = document.get("info")
    about = told if isinstance(told, dict) else {}
    methods = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
    operations = sum(len(methods & set(path)) for path in document["paths"].values() if isinstance(path, dict))
    return ServiceFileView(
        route=route.name,
        title=str(about.get("title", ""))[:200],
        api_version=str(about.get("version", ""))[:64],
        operations=operations,
        bytes=len(row.content.encode()),
        source=row.source,
        updated_at=row.updated_at,
    )


def _invalid(field: str, problem: str, remedy: str) -> Invalid:
    errors = [{"field": field, "problem": problem, "remedy": remedy}]
    return Invalid(f"{field} {problem}", fix=remedy, errors=errors)
