"""`/api/v1/providers`, `/prices` and `/routes`: where requests go, and what they cost there."""

from typing import Annotated

from fastapi import APIRouter, Response

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ExpectedVersion, ListLimit, Page, id_after, page_by_id, set_etag
from gateway.policy.roles import Permission
from gateway.store.config.providers import Prices, Providers
from gateway.store.config.routes import Routes
from gateway.store.documents import PriceDocument, ProviderDocument, RouteDocument
from gateway.store.patches import PricePatch, ProviderPatch, RoutePatch
from gateway.store.views import PriceView, ProviderView, RouteView

router = APIRouter(prefix="/api/v1")

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]
Changing = Annotated[Desk, permit_change(Permission.CONFIGURATION_WRITE)]
ReadingServices = Annotated[Desk, permit(Permission.SERVICES_READ)]


@router.get("/providers", tags=["providers"])
def list_providers(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[ProviderView]:
    """Accounts at vendors and plain HTTP upstreams."""
    with desk.reading() as editing:
        return page_by_id(Providers(editing).list(after_id=id_after(cursor), limit=limit + 1), limit)


@router.post("/providers", tags=["providers"], status_code=201)
def create_provider(body: ProviderDocument, desk: Changing, response: Response) -> ProviderView:
    """Credentials are sealed, and never shown again but for their last four characters."""
    with desk.changing() as editing:
        created = Providers(editing).create(body)
    set_etag(response, created)
    return created


@router.get("/providers/{ref}", tags=["providers"])
def get_provider(ref: str, desk: Reading, response: Response) -> ProviderView:
    with desk.reading() as editing:
        found = Providers(editing).get(ref)
    set_etag(response, found)
    return found


@router.patch("/providers/{ref}", tags=["providers"])
def update_provider(
    ref: str, body: ProviderPatch, desk: Changing, version: ExpectedVersion, response: Response
) -> ProviderView:
    """`credentials` is replaced as a whole; one without `value` keeps the secret stored under its name."""
    with desk.changing() as editing:
        changed = Providers(editing).update(ref, body, version)
    set_etag(response, changed)
    return changed


@router.delete("/providers/{ref}", tags=["providers"], status_code=204)
def delete_provider(ref: str, desk: Changing, version: ExpectedVersion) -> None:
    """Refused while a route's target uses it."""
    with desk.changing() as editing:
        Providers(editing).delete(ref, version)


@router.get("/prices", tags=["prices"])
def list_prices(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[PriceView]:
    """Overrides of the built-in price table, in micro-USD per million tokens."""
    with desk.reading() as editing:
        return page_by_id(Prices(editing).list(after_id=id_after(cursor), limit=limit + 1), limit)


@router.post("/prices", tags=["prices"], status_code=201)
def create_price(body: PriceDocument, desk: Changing, response: Response) -> PriceView:
    """`model` may be a shell pattern; the most specific one that fits wins."""
    with desk.changing() as editing:
        created = Prices(editing).create(body)
    set_etag(response, created)
    return created


@router.get("/prices/{ref:path}", tags=["prices"])
def get_price(ref: str, desk: Reading, response: Response) -> PriceView:
    """By id or `provider/model`."""
    with desk.reading() as editing:
        found = Prices(editing).get(ref)
    set_etag(response, found)
    return found


@router.patch("/prices/{ref:path}", tags=["prices"])
def update_price(ref: str, body: PricePatch, desk: Changing, version: ExpectedVersion, response: Response) -> PriceView:
    """In force for requests that begin after it."""
    with desk.changing() as editing:
        changed = Prices(editing).update(ref, body, version)
    set_etag(response, changed)
    return changed


@router.delete("/prices/{ref:path}", tags=["prices"], status_code=204)
def delete_price(ref: str, desk: Changing, version: ExpectedVersion) -> None:
    """The built-in price is in force again."""
    with desk.changing() as editing:
        Prices(editing).delete(ref, version)


@router.get("/routes", tags=["routes"])
def list_routes(desk: ReadingServices, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[RouteView]:
    """What callers ask for. Team roles see the routes that their team's apps may call."""
    with desk.reading() as editing:
        return page_by_id(Routes(editing).list(after_id=id_after(cursor), limit=limit + 1), limit)


@router.post("/routes", tags=["routes"], status_code=201)
def create_route(body: RouteDocument, desk: Changing, response: Response) -> RouteView:
    """A route with `match` is an HTTP route; one without is asked for as `model`."""
    with desk.changing() as editing:
        created = Routes(editing).create(body)
    set_etag(response, created)
    return created


@router.get("/routes/{ref:path}", tags=["routes"])
def get_route(ref: str, desk: ReadingServices, response: Response) -> RouteView:
    with desk.reading() as editing:
        found = Routes(editing).get(ref)
    set_etag(response, found)
    return found


@router.patch("/routes/{ref:path}", tags=["routes"])
def update_route(ref: str, body: RoutePatch, desk: Changing, version: ExpectedVersion, response: Response) -> RouteView:
    """`targets` is replaced as a whole; targets that stay keep their id and their health."""
    with desk.changing() as editing:
        changed = Routes(editing).update(ref, body, version)
    set_etag(response, changed)
    return changed


@router.delete("/routes/{ref:path}", tags=["routes"], status_code=204)
def delete_route(ref: str, desk: Changing, version: ExpectedVersion) -> None:
    """Refused while an app names it."""
    with desk.changing() as editing:
        Routes(editing).delete(ref, version)
