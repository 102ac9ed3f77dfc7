"""Pictures of the console, for the README and for whoever changes a page.

    python -m tests.browser.pictures FOLDER [PAGE…]

A gateway with a made-up history (tests/support/busy.py) is started; each page is left as FOLDER/PAGE-light.png and
-dark.png, at a desk, and as -phone.png.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from gateway.api.console import BUILT
from gateway.settings import Settings
from gateway.store.database import make_engine
from tests.browser.conftest import PASSWORD, build, sign_in
from tests.browser.looking import ready
from tests.support import busy, live
from tests.support.fake_agent import FakeAgent
from tests.support.provider import Provider

PAGES = {
    "overview": "/console/?range=7d",
    "flows": "/console/flows?range=7d",
    "traffic": "/console/requests?range=7d",
    "discovery": "/console/discoveries",
    "limits": "/console/limits",
    "routes": "/console/routes",
    "providers": "/console/providers",
    "prices": "/console/prices",
    "publish": "/console/publish",
    "apps": "/console/apps",
    "teams": "/console/teams",
    "catalogue": "/console/catalogue",
    "interception": "/console/interception",
    "playground": "/console/playground",
    "health": "/console/health",
    "account": "/console/account",
}


def main(folder: Path, wanted: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (BUILT / "index.html").is_file():
        build()
    with (
        tempfile.TemporaryDirectory() as data,
        Provider() as provider,
        live.gateway(Path(data), busy.configuration(provider.url)) as gateway,
        FakeAgent(gateway.data / "agent.sock") as agent,
        sync_playwright() as playwright,
    ):
        agent.send({"type": "probes", "state": "here", "reason": None, "features": {}})
        gateway.api.post(
            "/api/v1/users", json={"name": "admin", "role": "owner", "password": PASSWORD}
        ).raise_for_status()
        engine = make_engine(Settings(data=gateway.data).database_url)
        busy.fill(engine)
        busy.charge(engine)
        engine.dispose()
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = chromium.new_context(base_url=gateway.url, reduced_motion="reduce", device_scale_factor=1)
        page = context.new_page()
        sign_in(page, PASSWORD)
        page.get_by_role("navigation", name="Pages").wait_for()
        for name in wanted or PAGES:
            for scheme, width, height in (("light", 1440, 1000), ("dark", 1440, 1000), ("phone", 390, 844)):
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                page.goto(PAGES.get(name, name))
                ready(page)
                page.wait_for_timeout(400)
                page.screenshot(
                    path=folder / f"{name.strip('/').replace('/', '-')}-{scheme}.png", full_page=scheme == "phone"
                )
                print(name, scheme)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
