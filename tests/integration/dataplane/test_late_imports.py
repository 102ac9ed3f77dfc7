"""Libraries that few installations need are not in keeper and workers until somebody does."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.support import live

LATE = {"authlib", "joserfc", "scim2_models", "webauthn", "cbor2", "OpenSSL"}


def test_none_is_imported_with_the_programs() -> None:
    asked = "import sys, gateway.worker, gateway.store.keeper_main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "fastapi" in loaded
    assert not LATE & loaded


def test_all_at_once_are_loaded_once_and_work(tmp_path: Path) -> None:
    """Also where the first who need them come at the same moment, by different ways."""
    with live.gateway(tmp_path, "routes: []\n", workers=1) as sluice:
        base = str(sluice.api.base_url)
        owner = {"authorization": f"Bearer {sluice.token}"}
        token = httpx2.post(
            f"{base}/api/v1/tokens", json={"role": "owner", "scopes": ["scim"]}, headers=owner, timeout=60
        ).json()["token"]
        httpx2.post(
            f"{base}/api/v1/sign-on/providers",
            json={"name": "corp", "issuer": "http://127.0.0.1:1", "client_id": "us"},
            headers=owner,
            timeout=60,
        ).raise_for_status()

        def scim() -> int:
            headers = {"authorization": f"Bearer {token}"}
            return httpx2.get(f"{base}/scim/v2/Users", headers=headers, timeout=60).status_code

        def passkey() -> int:
            return httpx2.post(f"{base}/api/v1/session/passkey-options", timeout=60).status_code

        def sign_on() -> int:
            return httpx2.get(f"{base}/api/v1/sign-on/start?provider=corp", timeout=60).status_code

        asked = [scim, passkey, sign_on] * 3
        with ThreadPoolExecutor(len(asked)) as threads:
            answers = [done.result() for done in [threads.submit(each) for each in asked]]
        assert answers == [200, 200, 303] * 3
