"""What the built-in table knows, and which price is in force for what is used."""

from tests.integration.api.served import ServedApi

YAML = """
providers:
  - {name: openai, dialect: openai, base_url: "https://api.openai.com/v1"}
  - {name: local, dialect: openai, base_url: "http://127.0.0.1:9/v1"}
  - {name: crm, dialect: http, base_url: "http://127.0.0.1:9"}
routes:
  - {name: chat, targets: [{provider: openai, model: gpt-4o-mini}, {provider: local, model: homemade}]}
  - {name: also, targets: [{provider: openai, model: gpt-4o-mini}, {provider: openai, model: our-finetune}]}
  - {name: crm, match: {path: /crm}, targets: [{provider: crm}]}
prices:
  - {provider: openai, model: "our-*", input: 1000000, output: 2000000}
"""


def test_each_target_has_its_price_and_where_it_comes_from(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        owner.post("/api/v1/apply", content=YAML).raise_for_status()
        asked = {"also": "local/seen-once\ngone/x\nopenai/our-other"}
        items = owner.get("/api/v1/price-use", params=asked).raise_for_status().json()["items"]
        told = {f"{one['provider']}/{one['model']}": one for one in items}
        assert {name: one["source"] for name, one in told.items()} == {
            "local/homemade": "none",
            "local/seen-once": "none",
            "openai/gpt-4o-mini": "table",
            "openai/our-finetune": "override",
            "openai/our-other": "override",
        }
        assert told["openai/gpt-4o-mini"]["routes"] == ["also", "chat"]
        assert told["openai/gpt-4o-mini"]["entry"] == "openai/gpt-4o-mini"
        assert told["openai/our-finetune"]["override"] == "openai/our-*"
        assert owner.get("/api/v1/prices/openai/our-*").json()["output"] == 2000000
        assert told["local/homemade"]["price"] is None
        assert owner.get("/api/v1/price-use", params={"also": "nothing"}).status_code == 400


def test_the_table_is_searched_and_paged(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        found = owner.get("/api/v1/price-table", params={"search": "GPT-4o mini", "vendor": "openai"}).json()
        assert any(one["model"] == "gpt-4o-mini" and one["price"]["input"] == 150000 for one in found["items"])
        assert {one["vendor"] for one in found["items"]} == {"openai"}
        names, cursor = [], None
        while True:
            page = owner.get("/api/v1/price-table", params={"limit": 1000, **({"cursor": cursor} if cursor else {})})
            names += [(one["vendor"], one["model"]) for one in page.json()["items"]]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                break
        assert len(names) == len(set(names)) > 1500
        assert owner.get("/api/v1/price-table", params={"search": "no such model"}).json()["items"] == []
