"""The console's API client is what the API's own OpenAPI document says it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import WEB

pytestmark = [pytest.mark.timeout(90), pytest.mark.serial]


def test_client_is_generated_from_the_api_as_it_is(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    generator = WEB / "node_modules/.bin/openapi-typescript"
    if not generator.exists():
        subprocess.run(["npm", "ci"], cwd=WEB, env=environment, check=True, timeout=80)
    document, generated = tmp_path / "openapi.json", tmp_path / "schema.d.ts"
    document.write_bytes(subprocess.check_output([sys.executable, "-m", "gateway.api.openapi"], cwd=WEB.parent))
    command = [generator, document, "--default-non-nullable=false", "-o", generated]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert generated.read_text() == (WEB / "src/api/schema.d.ts").read_text(), "run `npm run client` in web/"
