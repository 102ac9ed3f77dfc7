"""How the console's files are served: caching, compression, policy, and never anything outside their folder."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from gateway.api import console
from tests.integration.api.served import ServedApi

SCRIPT = "assets/index-Ab12Cd34.js"


@pytest.fixture
def browser(sqlite_api: ServedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    folder = tmp_path / "console"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>console</title>")
    (folder / SCRIPT).write_text("export const a = 1;\n" * 500)
    (folder / "favicon.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("not for browsers")
    monkeypatch.setattr(console, "shelf", console.AssetShelf(folder))
    with sqlite_api.bare_client() as client:
        yield client


def test_the_root_leads_to_the_console(browser: httpx2.Client) -> None:
    for path in ("/", "/console"):
        answer = browser.get(path)
        assert answer.status_code == 307
        assert answer.headers["location"] == "/console/"


@pytest.mark.parametrize("path", ["/console/", "/console/index.html", "/console/routes/chat", "/console/a.b/c"])
def test_pages_and_client_routes_are_the_index(browser: httpx2.Client, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 200
    assert "<title>console</title>" in answer.text
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy


def test_hashed_assets_are_kept_for_ever_and_compressed(browser: httpx2.Client) -> None:
    answer = browser.get(f"/console/{SCRIPT}", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.text == "export const a = 1;\n" * 500
    plain = browser.get(f"/console/{SCRIPT}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == answer.text
    again = browser.get(f"/console/{SCRIPT}", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


def test_a_missing_asset_is_not_the_index(browser: httpx2.Client) -> None:
    assert browser.get("/console/assets/gone-00000000.js").status_code == 404


@pytest.mark.parametrize("path", ["/console/../secret.txt", "/console/..%2fsecret.txt", "/console/%2e%2e/secret.txt"])
def test_nothing_outside_the_folder_is_served(browser: httpx2.Client, path: str) -> None:
    assert "not for browsers" not in browser.get(path).text


def test_a_new_build_is_seen(browser: httpx2.Client, tmp_path: Path) -> None:
    browser.get("/console/")
    (tmp_path / "console/index.html").write_text("<!doctype html><title>newer console</title>")
    assert "newer" in browser.get("/console/").text


def test_a_file_is_compressed_only_where_it_gets_smaller(tmp_path: Path) -> None:
    text = tmp_path / "a.css"
    text.write_text("a{}" * 1000)
    asset = console.load_asset(text)
    assert asset.compressed is not None
    assert gzip.decompress(asset.compressed) == asset.content
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG" * 1000)
    assert console.load_asset(picture).compressed is None


def test_without_a_build_the_page_says_how_to_make_one(
    sqlite_api: ServedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "shelf", console.AssetShelf(tmp_path / "nothing"))
    with sqlite_api.bare_client() as client:
        answer = client.get("/console/")
        assert answer.status_code == 503
        assert "npm run build" in answer.text
