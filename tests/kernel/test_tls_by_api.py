"""Calls of a real curl within TLS, from the setting to the finding and the commands, with real probes."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.test_tls_probes import provider
from tests.support.certificates import make_certificates
from tests.support.lab import Lab, gateway
from tests.support.lab.lab import SERVER4
from tests.support.lab.servers import Connection

pytestmark = pytest.mark.timeout(120)
HOST = "api.openai.com"
YAML = "teams:\n  - {name: search, apps: [{name: indexer}]}\n"


def test_calls_and_coverage_of_programs_of_a_moment(tmp_path: Path) -> None:
    context = make_certificates(tmp_path / "pki").server_context()

    def late(connection: Connection) -> None:
        time.sleep(0.1)  # as if it were not next door
        connection.socket = context.wrap_socket(connection.socket, server_side=True)
        provider(connection)

    with Lab() as lab:
        lab.hosts({HOST: SERVER4})
        lab.serve(late, 443)
        mine = lab.folder / "curl"
        shutil.copy("/usr/bin/curl", mine)
        env = {"SLUICEGATE_TLS_WATCHED": json.dumps([str(mine)])}
        with gateway(lab, YAML, armed=False, probes=True, workers=1, env=env) as running:
            running.until(lambda: running.api.get("/api/v1/discoveries").json()["reason"] is None, 20)
            assert f"no process fits {mine}" in running.cli("discoveries", "coverage").stderr
            body = json.dumps({"model": "asked", "stream": False})
            ask = ["-sk", "--http1.1", "-H", "content-type: application/json", "-d", body]

            def found() -> dict[str, Any]:
                items = running.api.get("/api/v1/discoveries", params={"process": "curl"}).json()["items"]
                return next((item for item in items if item["executable"]), {"calls": 0})

            def called() -> bool:
                lab.router.run(str(mine), *ask, f"https://{HOST}/v1/chat/completions")
                return bool(found()["calls"] >= 3)

            running.until(called, 15, lambda: str(found()))  # not each is seen while probes begin
            one = found()
            calls = one["calls"]
            names = ("host", "input_tokens", "output_tokens", "models", "coverage")
            assert [one[name] for name in names] == [HOST, 11 * calls, 7 * calls, ["m-plain"], "covered"]
            running.until(lambda: "\tyes\t0\t" in running.cli("discoveries", "coverage").stdout, 4)
