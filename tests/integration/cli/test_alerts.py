"""`sluicegate alerts`: on the gateway's host and over the network."""

import json
import time
from pathlib import Path
from typing import Any

from tests.support import live
from tests.support.cli import Cli
from tests.support.fake_agent import FakeAgent


def alert(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "kind": kind, "at_s": time.time(), "pid": 7, "process": "curl", "executable": "/usr/bin/curl", "uid": 33,
        "user": "www-data", "cgroup": "/", "container": None, "reason": "so", "count": 1, **fields,
    }  # fmt: skip


def test_alerts_are_listed_and_filtered(tmp_path: Path) -> None:
    with live.gateway(tmp_path, "providers: []\n") as running, FakeAgent(running.data / "agent.sock") as agent:
        agent.until(lambda: agent.tls_watched)
        argv = ["curl", "-d", "two words\x1b[2J", "x" * 500]
        agent.send({"type": "alerts", "items": [
            alert("exec", argv=argv), alert("connect", destination="2001:db8::1", port=443, refused=True, count=3),
        ]})  # fmt: skip
        running.until(lambda: len(running.api.get("/api/v1/alerts").json()["items"]) == 2, 4)
        network = {"SLUICEGATE_URL": running.url, "SLUICEGATE_TOKEN": running.token}
        for cli in (Cli(running.data), Cli(tmp_path / "none", env=network)):
            _, connect, execution = cli("alerts").ok().out.splitlines()
            assert connect.split("\t")[1:] == [
                "connect", "curl", "7", "www-data", "-", "[2001:db8::1]:443", "yes", "3", "so",
            ]  # fmt: skip
            assert execution.split("\t")[6].startswith("curl -d 'two words?[2J' xxx")
            assert len(execution.split("\t")[6]) == 100
            for narrow, kinds in (
                (["--refused", "--since", "1h"], ["connect"]), (["--allowed"], ["exec"]),
                (["--kind", "exec"], ["exec"]), (["--user", "mia"], []), (["-n", "1"], ["connect"]),
            ):  # fmt: skip
                items = json.loads(cli("alerts", "--json", *narrow).ok().out)
                assert [item["kind"] for item in items] == kinds
            none = cli("alerts", "--process", "nc").ok()
            assert "no alert fits" in none.err
