"""Where a gateway has reason to go, from settings, environment and configuration."""

from pathlib import Path
from typing import Any

from gateway.settings import Settings
from gateway.store.egress_list import egress_list, place_of


def document(**parts: Any) -> dict[str, Any]:
    return {"providers": [], "apps": [], **parts}


def test_all_that_is_named(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path,
        database="postgresql+psycopg://sg:secret@db.internal/sg",
        alert_webhook="https://hooks.example/x",
        egress_guard="enforce",
    )
    providers = [
        [1, "one", "openai", "https://api.openai.com/v1", [], None, [], ["http://proxy.internal:3128", None, None]],
        [2, "two", "ollama", "http://127.0.0.1:11434", [], None, [], None, None, None],
        [3, "three", "http", "http://[fd00::7]", [], None, [], [None, None, None], None, None],
    ]  # fmt: skip
    apps = [[1, "app", 1, "team", None, None, ["git.example", "*.public.example:8443", "10.0.0.0/8:*"], []]]
    told = egress_list(settings, document(providers=providers, apps=apps), {"https_proxy": "corp.internal:8080"})
    assert told["guard"] == "enforce"
    assert {tuple(each) for each in told["hosts"]} == {
        ("api.openai.com", 443),
        ("proxy.internal", 3128),
        ("127.0.0.1", 11434),
        ("fd00::7", 80),
        ("db.internal", 5432),
        ("hooks.example", 443),
        ("corp.internal", 8080),
        ("git.example", 80),
        ("git.example", 443),
    }
    assert told["networks"] == [("10.0.0.0/8", 0)]
    assert told["anywhere"] == [8443]


def test_places() -> None:
    assert place_of("sqlite:////var/lib/x.db") is None
    assert place_of("http://host:99999") is None
    assert place_of("rediss://cache.internal") == ("cache.internal", 6379)
