"""Prices: the shipped table, overrides, a downloaded table."""

import json
from pathlib import Path

import pytest

from gateway.errors import Invalid
from gateway.policy.model import Dialect, Price
from gateway.settings import Settings
from gateway.store.prices import Override, PriceBook, downloaded_table, price_book, update

OPENAI = "https://api.openai.com/v1"
BOOK = PriceBook()

CASES = {
    "by base URL": (Dialect.OPENAI, OPENAI, "gpt-5-mini", Price(input=250_000, output=2_000_000, cached_input=25_000)),
    "a mirror of the vendor": (
        Dialect.OPENAI,
        "http://10.0.0.1:8080",
        "gpt-5-mini",
        Price(input=250_000, output=2_000_000, cached_input=25_000),
    ),
    "another vendor by its own URL": (
        Dialect.ANTHROPIC,
        "https://api.anthropic.com",
        "claude-haiku-4-5",
        Price(input=1_000_000, output=5_000_000, cached_input=100_000, cache_write=1_250_000),
    ),
    "tiers count as their base": (
        Dialect.GEMINI,
        "https://generativelanguage.googleapis.com",
        "gemini-2.5-pro",
        Price(input=1_250_000, output=10_000_000, cached_input=125_000),
    ),
    "no output": (Dialect.OPENAI, OPENAI, "text-embedding-3-small", Price(input=20_000, output=0)),
    "unknown model": (Dialect.OPENAI, OPENAI, "made-up-model", None),
    "unknown vendor": (Dialect.OLLAMA, "http://127.0.0.1:11434", "gpt-5-mini", None),
    "plain HTTP": (Dialect.HTTP, OPENAI, "gpt-5-mini", None),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_find(case: tuple[Dialect, str, str, Price | None]) -> None:
    dialect, base_url, model, expected = case
    assert BOOK.find(dialect, base_url, model) == expected


def test_the_most_specific_override_wins() -> None:
    patterns = ["*", "gpt-*", "gpt-5*", "gpt-5-mini"]
    overrides = [Override(model=each, price=Price(input=place, output=0)) for place, each in enumerate(patterns)]
    found = {
        model: BOOK.find(Dialect.OPENAI, OPENAI, model, overrides)
        for model in ("gpt-5-mini", "gpt-5-nano", "gpt-4o", "o3")
    }
    assert {model: price.input for model, price in found.items() if price} == {
        "gpt-5-mini": 3,
        "gpt-5-nano": 2,
        "gpt-4o": 1,
        "o3": 0,
    }


def test_a_downloaded_table_takes_over_and_a_bad_one_does_not(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    book = price_book(settings)
    assert book.find(Dialect.OPENAI, OPENAI, "made-up-model") is None
    table = tmp_path / "new.json"
    model = {
        "id": "made-up-model",
        "match": {"equals": "made-up-model"},
        "prices": {"input_mtok": 0.5, "output_mtok": 2},
    }
    provider = {"id": "openai", "name": "OpenAI", "api_pattern": r"https://api\.openai\.com", "models": [model]}
    table.write_text(json.dumps([provider]))
    assert update(settings, table) == 1
    book.refresh()
    assert book.find(Dialect.OPENAI, OPENAI, "made-up-model") == Price(input=500_000, output=2_000_000)
    for bad in ("{}", "[]", "nonsense", '[{"id": 1}]'):
        table.write_text(bad)
        with pytest.raises(Invalid, match="is not a price table"):
            update(settings, table)
    assert price_book(settings).find(Dialect.OPENAI, OPENAI, "made-up-model") is not None
    assert {path.name for path in tmp_path.iterdir()} == {"new.json", downloaded_table(settings).name}
