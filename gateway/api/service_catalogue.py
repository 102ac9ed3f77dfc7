"""`/api/v1/catalogue`: routes as services, for those who want to call them."""

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from pydantic import Field

from gateway.api.call_examples import CallExample, examples, http_examples
from gateway.api.caller import Desk, is_https, own_host, permit
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page, id_after, page_by_id
from gateway.listening import split_address
from gateway.policy.model import Dialect, Price
from gateway.policy.roles import Permission
from gateway.store.config.teams import Teams
from gateway.store.service_catalogue import AppAccess, ServiceCatalogue, ServiceLimit, Standing
from gateway.store.service_documents import Access
from gateway.store.views import MatchView, View

router = APIRouter(prefix="/api/v1", tags=["portal"])

Reading = Annotated[Desk, permit(Permission.SERVICES_READ)]
AsTeam = Annotated[str | None, Query(max_length=128, description="As this team sees it; team roles: their own")]


class ModelPrice(View):
    """Micro-USD per million tokens; `per_request` micro-USD a request. null = charged as its parent kind."""

    input: int
    output: int
    cached_input: int | None
    cache_write: int | None
    reasoning: int | None
    per_request: int


class ServiceModel(View):
    model: str | None
    """null on HTTP routes."""
    price: ModelPrice | None
    """null: not known."""


class CatalogueItem(View):
    id: int
    name: str
    """What is written as the model."""
    title: str
    description: str | None
    owner: str | None
    documentation: str | None
    kind: Literal["model", "http"]
    match: MatchView | None
    access: Access
    teams: list[str] | None = Field(description="Which see it; null: all. Team roles see no other team here")
    models: list[ServiceModel]
    dialects: list[Dialect]
    max_output_tokens: int | None
    limits: list[ServiceLimit]
    apps: list[AppAccess]
    """The caller's apps that may call it now; all apps for the platform's people."""
    pending: list[int]
    """Requests of the caller's team for it that await a decision."""
    has_openapi: bool
    base_url: str
    """Of the gateway's data plane."""
    examples: list[CallExample]
    updated_at: datetime


@router.get("/catalogue")
def list_catalogue(
    request: Request,
    desk: Reading,
    team: AsTeam = None,
    q: Annotated[str, Query(max_length=200, description="Words to look for")] = "",
    limit: ListLimit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[CatalogueItem]:
    """Services, with models, prices, limits, what your apps may call already, and code that calls them."""
    with desk.reading() as editing:
        catalogue = ServiceCatalogue(editing, _team_id(desk, Teams(editing), team))
        found = catalogue.page(after_id=id_after(cursor), limit=limit + 1, words=q)
        base = base_url(request, desk)
        return page_by_id([_item(desk, each, base) for each in found], limit)


@router.get("/catalogue/{ref:path}")
def get_service(request: Request, ref: str, desk: Reading, team: AsTeam = None) -> CatalogueItem:
    """By id or by the route's name."""
    with desk.reading() as editing:
        found = ServiceCatalogue(editing, _team_id(desk, Teams(editing), team)).get(ref)
        return _item(desk, found, base_url(request, desk))


def base_url(request: Request, desk: Desk) -> str:
    """Where the data plane is, as the caller may reach it: what the setting says, else how they came here."""
    settings = desk.services.settings
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    scheme = "https" if is_https(request) else "http"
    host = own_host(request)
    if settings.admin_listen is not None:  # console and API have an address of their own
        name = urlsplit(f"//{host}").hostname or "127.0.0.1"
        bracketed = f"[{name}]" if ":" in name else name
        host = f"{bracketed}:{split_address(settings.listen)[1]}"
    return f"{scheme}://{host}"


def _team_id(desk: Desk, teams: Teams, name: str | None) -> int | None:
    """Whose view is asked for. Raises NotFound."""
    return desk.team_id if name is None else teams.get(name).id


def _item(desk: Desk, found: Standing, base: str) -> CatalogueItem:
    row, service = found.row, found.service
    is_http = row.match_host is not None or row.match_path is not None
    return CatalogueItem(
        id=row.id,
        name=row.name,
        title=service.title or row.name,
        description=service.description,
        owner=service.owner,
        documentation=service.documentation,
        kind="http" if is_http else "model",
        match=MatchView(host=row.match_host, path=row.match_path) if is_http else None,
        access=service.access,
        teams=service.teams,
        models=_models(desk, found),
        dialects=list(found.dialects),
        max_output_tokens=None if is_http else row.max_output_tokens,
        limits=found.limits,
        apps=found.apps,
        pending=found.pending,
        has_openapi=found.has_openapi,
        base_url=base,
        examples=http_examples(base, row.match_host, row.match_path)
        if is_http
        else examples(base, row.name, found.dialects),
        updated_at=row.updated_at,
    )


def _models(desk: Desk, found: Standing) -> list[ServiceModel]:
    """Each model and price once, whichever provider serves it: prices are those of the snapshot in force here."""
    snapshot = desk.services.snapshot() if desk.services.snapshot is not None else None
    route = snapshot.routes.get(found.row.name) if snapshot is not None else None
    prices = {} if route is None else {target.id: target.price for target in route.targets}
    models = [ServiceModel(model=each.model, price=_price(prices.get(each.id))) for each in found.row.targets]  # type: ignore[call-overload]
    return [each for place, each in enumerate(models) if each not in models[:place]]


def _price(price: Price | None) -> ModelPrice | None:
    if price is None:
        return None
    return ModelPrice(
        input=price.input,
        output=price.output,
        cached_input=price.cached_input,
        cache_write=price.cache_write,
        reasoning=price.reasoning,
        per_request=price.per_request,
    )
