"""A page as everybody has to be able to use it: no violation that axe finds, nothing wider than the screen."""

from pathlib import Path
from typing import Any, Final, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Response, expect

SIZES: Final = {"desk": (1440, 900), "phone": (390, 844), "small": (360, 640)}
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")

EXPERIMENTAL: Final = {"label-content-name-mismatch": {"enabled": True}}
"""Rules that axe leaves off and Lighthouse asks for: WCAG 2.5.3, a button is called what is written on it."""

FIRST_PAGE: Final = 300 * 1024
"""Bytes."""

COME_TO_REST: Final = """async () => {
    const ends = each => each.effect.getComputedTiming().iterations !== Infinity;
    await Promise.allSettled(document.getAnimations().filter(ends).map(each => each.finished));
}"""
"""Colours that change do so at once for nobody: half-way they have no contrast."""


def ready(page: Page) -> None:
    """The page stands: its title is there and nothing is loading any more."""
    page.get_by_role("heading", level=1).first.wait_for()
    # What the doctor looks at takes seconds.
    expect(page.locator("[aria-busy=true], .mantine-Skeleton-root")).to_have_count(0, timeout=20_000)


def too_much(page: Page, path: str, leads_to: str | None = None) -> list[tuple[int, str]]:
    """What the page at `path` loads of the console, in bytes as they travel, the largest first; [] where it is no more
    than a first page may be. The browser has nothing of it yet. `leads_to`: where it leads on to by itself."""
    sizes: dict[str, int] = {}

    def note(response: Response) -> None:
        if "/console/" in response.url:
            sizes[response.url] = int(response.headers["content-length"])

    page.on("response", note)
    page.goto(path)
    page.wait_for_url(f"**{leads_to or path}")
    ready(page)
    page.remove_listener("response", note)
    assert sizes
    return (
        sorted(((size, url) for url, size in sizes.items()), reverse=True) if sum(sizes.values()) > FIRST_PAGE else []
    )


def wrong_with(page: Page, path: str | None = None, *, pictures: Path | None = None) -> list[str]:
    """What is wrong with the page at `path` (None: as it stands) in light and dark, at the desk and on phones.

    With `pictures`, this folder gets one of each: SIZE-SCHEME.png. The page is left light and at the desk.
    """
    if path is not None:
        page.goto(path)
        ready(page)
    found: list[str] = []
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.evaluate(COME_TO_REST)
            if pictures is not None:
                pictures.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=pictures / f"{size}-{scheme}.png", full_page=True)
            if size != "small":  # which differs from the phone in its width alone
                # Dark changes colours only: what depends on them is looked at again.
                options = {"rules": EXPERIMENTAL} if scheme == "light" else {"runOnly": ["color-contrast"]}
                for each in Axe().run(page, options=options).response["violations"]:
                    nodes = [node for node in each["nodes"] if not (each["id"] in EXPERIMENTAL and _drawn(node))]
                    if nodes:
                        found.append(f"{size}, {scheme}: {each['id']} {[node['target'] for node in nodes[:3]]}")
        wide = max(page.evaluate(f"document.querySelector('{part}').scrollWidth") for part in ("html", "main"))
        if wide > width:
            found.append(f"{size}: {wide} px wide")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1440, "height": 900})
    return found


def _drawn(node: dict[str, Any]) -> bool:
    """A part of a picture, whose words axe reads without the spaces between them."""
    return str(node["html"]).startswith("<g ")
