"""What a model costs: the operator's overrides, else the table that `genai-prices` ships (or a newer one, downloaded by
`sluicegate prices update`). Unknown is None, never 0.

Simplifications, all of them visible in the price that a target shows: a tiered price counts as its base tier; a price
that changes with the time of day counts as it stands when the snapshot is compiled; audio, images and searches have no
price of their own here.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import Invalid
from gateway.policy.model import Dialect, Price
from gateway.settings import Settings

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

_MICRO: Final = Decimal(1_000_000)

_VENDOR: Final = {
    Dialect.OPENAI: "openai",
    Dialect.ANTHROPIC: "anthropic",
    Dialect.GEMINI: "google",
    Dialect.MISTRAL: "mistral",
}
"""Whose table to ask where the base URL is nobody's known: a mirror or proxy of the vendor that gave the dialect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One row of the operator's prices: `model` is a name or a shell pattern."""

    model: str
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A price and where it comes from."""

    price: Price | None
    override: str | None = None
    """The pattern of the override that fits best."""
    entry: str | None = None
    """`vendor/model` of the built-in table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """One model of the built-in table."""

    vendor: str
    vendor_name: str
    model: str
    model_name: str
    price: Price
    context_window: int | None
    deprecated: bool
    tiered: bool
    """It costs more from some number of input tokens on: `price` is the base tier's."""


class PriceBook:
    """Prices by provider and model. Loads its table (half a second) at the first question; not thread-safe."""

    def __init__(self, downloaded: Path | None = None) -> None:
        """`downloaded`: the file that `update` writes; where there is none, the table shipped with the library."""
        self._downloaded = downloaded
        self._seen: tuple[int, int] | None = None
        self._snapshot: DataSnapshot | None = None
        self._found: dict[tuple[str, str, str], Price | None] = {}

    def load(self) -> None:
        """Load the table now rather than at the first question."""
        if self._snapshot is None:
            self.refresh()
            self._snapshot = _load(self._downloaded if self._seen else None)

    def refresh(self) -> None:
        """Forget what was loaded if `update` has run since."""
        seen = None
        if self._downloaded is not None and self._downloaded.exists():
            status = self._downloaded.stat()
            seen = (status.st_ino, status.st_mtime_ns)
        if seen != self._seen:
            self._seen, self._snapshot = seen, None
            self._found.clear()

    def find(self, dialect: Dialect, base_url: str, model: str, overrides: Sequence[Override] = ()) -> Price | None:
        """The price of a provider's model. Of several overrides that fit, the most specific wins."""
        fitting = [each for each in overrides if fnmatchcase(model, each.model)]
        if fitting:
            return max(fitting, key=lambda each: _specificity(each.model)).price
        if dialect is Dialect.HTTP:
            return None
        key = (dialect.value, base_url, model)
        if key not in self._found:
            self._found[key] = self._look_up(dialect, base_url, model)
        return self._found[key]

    def source(self, dialect: Dialect, base_url: str, model: str, overrides: Sequence[Override] = ()) -> Priced:
        """The same price, and what gives it."""
        fitting = [each for each in overrides if fnmatchcase(model, each.model)]
        if fitting:
            best = max(fitting, key=lambda each: _specificity(each.model))
            return Priced(price=best.price, override=best.model)
        found = None if dialect is Dialect.HTTP else self._entry(dialect, base_url, model)
        price = None if found is None else _price(found[1].get_prices(datetime.now(UTC)))
        if found is None or price is None:
            return Priced(price=None)
        return Priced(price=price, entry=f"{found[0].id}/{found[1].id}")

    def table(self) -> list[TableEntry]:
        """All that the built-in table prices, by vendor and model."""
        self.load()
        assert self._snapshot is not None
        now, entries = datetime.now(UTC), []
        for vendor in self._snapshot.providers:
            for model in vendor.models:
                prices = model.get_prices(now)
                price = _price(prices)
                if price is not None:
                    entries.append(
                        TableEntry(
                            vendor=vendor.id,
                            vendor_name=vendor.name,
                            model=model.id,
                            model_name=model.name or model.id,
                            price=price,
                            context_window=model.context_window,
                            deprecated=bool(model.deprecated),
                            tiered=any(hasattr(value, "tiers") for value in vars(prices).values()),
                        )
                    )
        return sorted(entries, key=lambda each: (each.vendor, each.model))

    def _look_up(self, dialect: Dialect, base_url: str, model: str) -> Price | None:
        found = self._entry(dialect, base_url, model)
        return None if found is None else _price(found[1].get_prices(datetime.now(UTC)))

    def _entry(self, dialect: Dialect, base_url: str, model: str) -> tuple[Any, Any] | None:
        """Vendor and model of the table."""
        self.load()
        table = self._snapshot
        assert table is not None
        try:
            vendor = table.find_provider(None, None, base_url)
        except LookupError:
            if dialect not in _VENDOR:
                return None
            vendor = table.find_provider(None, _VENDOR[dialect], None)
        try:
            return table.find_provider_model(model.removeprefix("models/"), vendor, None, None)
        except LookupError:
            return None


def price_book(settings: Settings) -> PriceBook:
    """The installation's: the table downloaded last, else the shipped one."""
    return PriceBook(downloaded_table(settings))


def downloaded_table(settings: Settings) -> Path:
    return settings.data / "prices.json"


def update(settings: Settings, source: Path) -> int:
    """Take a newer table (the library's `data.json`) into use. Returns how many models it prices.

    The snapshot knows it from its next compilation on. Raises Invalid and changes nothing where it is not such a table.
    """
    content = source.read_bytes()
    count = sum(len(provider.models) for provider in _load(source).providers)
    path = downloaded_table(settings)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        draft.write_bytes(content)
        draft.chmod(0o600)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _load(table: Path | None) -> "DataSnapshot":
    from genai_prices import data_snapshot, types  # half a second: paid by the keeper alone, once

    if table is None:
        return data_snapshot.get_snapshot()
    try:
        raw = json.loads(table.read_bytes())
        if not isinstance(raw, list) or not raw:
            raise ValueError("not a list of providers")
        return data_snapshot.DataSnapshot(types._providers_from_raw(raw), from_auto_update=True)  # noqa: SLF001
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise Invalid(
            f"{table} is not a price table: {error}", fix="use data.json (v2) of the genai-prices project"
        ) from None


def _specificity(pattern: str) -> tuple[bool, int]:
    """A plain name beats a pattern, then more literal characters beat fewer."""
    literal = sum(character not in "*?[]" for character in pattern)
    return literal == len(pattern), literal


def _price(found: Any) -> Price | None:
    input_price, output_price = _per_million(found.input_mtok), _per_million(found.output_mtok)
    if input_price is None and output_price is None:
        return None
    per_request = _base(found.requests_kcount)
    return Price(
        input=input_price or 0,
        output=output_price or 0,
        cached_input=_per_million(found.cache_read_mtok),
        cache_write=_per_million(found.cache_write_mtok),
        reasoning=_per_million(found.output_reasoning_mtok),
        per_request=0 if per_request is None else _rounded(per_request / 1000 * _MICRO),
    )


def _per_million(value: Any) -> int | None:
    """USD per million tokens as micro-USD per million tokens."""
    base = _base(value)
    return None if base is None else _rounded(base * _MICRO)


def _base(value: Any) -> Decimal | None:
    """Tiers begin at a number of input tokens; the base is what every smaller request pays."""
    if value is None or isinstance(value, Decimal):
        return value
    base = value.base
    assert isinstance(base, Decimal)
    return base


def _rounded(amount: Decimal) -> int:
    return int(amount.to_integral_value(rounding=ROUND_HALF_UP))
