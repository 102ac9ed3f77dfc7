"""`/api/v1/price-table` and `/price-use`: what the built-in table knows, and which price is in force for what."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.api.caller import Desk, permit
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page
from gateway.errors import BadRequest
from gateway.policy.model import Dialect, Price
from gateway.policy.roles import Permission
from gateway.store.compiler import overrides_by_provider
from gateway.store.models import Provider, Route, Target
from gateway.store.prices import PriceBook

router = APIRouter(prefix="/api/v1", tags=["prices"])

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]
LONGEST_ASKED = 16_000


class PriceFigures(BaseModel):
    """Micro-USD per million tokens; `per_request` micro-USD a request. null: charged as its parent kind."""

    input: int
    output: int
    cached_input: int | None
    cache_write: int | None
    reasoning: int | None
    per_request: int


class TableEntryView(BaseModel):
    vendor: str
    vendor_name: str
    model: str
    model_name: str
    price: PriceFigures
    context_window: int | None
    deprecated: bool
    tiered: bool
    """It costs more from some number of input tokens on: the base tier is what is shown and charged."""


class PriceUse(BaseModel):
    """A model of a provider that routes use, or that was asked about, and what it costs."""

    provider: str
    model: str
    routes: list[str]
    """That have it as a target."""
    price: PriceFigures | None
    """null: not known, and neither are its costs."""
    source: Literal["override", "table", "none"]
    override: str | None
    """Name of the override, for `/api/v1/prices/{ref}`."""
    entry: str | None
    """`vendor/model` of the built-in table."""


class PriceUses(BaseModel):
    items: list[PriceUse]


@router.get("/price-table")
def list_price_table(
    desk: Reading,
    search: Annotated[str, Query(max_length=200, description="Part of the name of a model or vendor")] = "",
    vendor: Annotated[str | None, Query(max_length=100)] = None,
    limit: ListLimit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[TableEntryView]:
    """The built-in prices (genai-prices, or what `sluicegate prices update` has taken), by vendor and model."""
    with desk.services.prices as book:
        entries = book.table()
    words = search.lower().split()
    found = [
        each
        for each in entries
        if vendor in (None, each.vendor)
        and all(word in f"{each.vendor} {each.vendor_name} {each.model} {each.model_name}".lower() for word in words)
        and (cursor is None or f"{each.vendor}/{each.model}" > cursor)
    ]
    items = found[:limit]
    return Page(
        items=[
            TableEntryView(
                vendor=each.vendor,
                vendor_name=each.vendor_name,
                model=each.model,
                model_name=each.model_name,
                price=_figures(each.price),
                context_window=each.context_window,
                deprecated=each.deprecated,
                tiered=each.tiered,
            )
            for each in items
        ],
        next_cursor=f"{items[-1].vendor}/{items[-1].model}" if len(found) > limit else None,
    )


@router.get("/price-use")
def get_price_use(
    desk: Reading,
    also: Annotated[
        str, Query(max_length=LONGEST_ASKED, description="`provider/model`, one a line, to be told of beside targets")
    ] = "",
) -> PriceUses:
    """Which price is in force for each target, and where it comes from."""
    with desk.services.prices as book, desk.read() as session:
        return PriceUses(items=_uses(session, book, also.splitlines()))


def _uses(session: Session, book: PriceBook, also: list[str]) -> list[PriceUse]:
    providers = {row.name: row for row in session.scalars(select(Provider))}
    routes: dict[tuple[str, str], list[str]] = {}
    for provider, model, route in session.execute(
        select(Provider.name, Target.model, Route.name)
        .join(Target, Target.provider_id == Provider.id)
        .join(Route, Route.id == Target.route_id)
        .where(Target.model.is_not(None))
        .order_by(Provider.name, Target.model, Route.name)
    ):
        routes.setdefault((provider, str(model)), []).append(route)
    for text in also:
        name, slash, model = text.partition("/")
        if not slash or not model:
            raise BadRequest(f"{text[:40]!r} is not provider/model", fix="write e.g. openai/gpt-5-mini")
        if name in providers:
            routes.setdefault((name, model), [])
    overrides = overrides_by_provider(session)
    found = []
    for (name, model), used_by in sorted(routes.items()):
        row = providers[name]
        told = book.source(Dialect(row.dialect), row.base_url, model, overrides.get(row.id, ()))
        found.append(
            PriceUse(
                provider=name,
                model=model,
                routes=used_by,
                price=None if told.price is None else _figures(told.price),
                source="override" if told.override else "table" if told.entry else "none",
                override=f"{name}/{told.override}" if told.override else None,
                entry=told.entry,
            )
        )
    return found


def _figures(price: Price) -> PriceFigures:
    return PriceFigures(
        input=price.input,
        output=price.output,
        cached_input=price.cached_input,
        cache_write=price.cache_write,
        reasoning=price.reasoning,
        per_request=price.per_request,
    )
