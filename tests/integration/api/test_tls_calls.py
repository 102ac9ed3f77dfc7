"""Calls within TLS from the setting to the findings: a gateway that serves, and an agent that has no kernel."""

import json
import time
from pathlib import Path
from typing import Any

from tests.integration.api.test_discoveries import YAML, agent_of, discoveries, found
from tests.support import live
from tests.support.cli import Cli
from tests.support.fake_agent import FakeAgent, finding

ID = "4f2a" * 16
WHO = {"pid": 4242, "process": "curl", "executable": "/usr/bin/curl", "user": "mia", "container": None}


def call(**fields: Any) -> dict[str, Any]:
    return {
        **WHO, "host": "api.openai.com:443", "dialect": "openai", "model": "gpt-x", "input_tokens": 11,
        "output_tokens": 7, "status": 200, "at_s": time.time(), **fields,
    }  # fmt: skip


SHOWN = {name: WHO[name] for name in ("process", "executable", "user", "container")}


def chosen(running: live.Live) -> dict[str, Any]:
    answer: dict[str, Any] = running.api.get("/api/v1/discoveries/coverage").json()
    return answer


def coverage(agent: FakeAgent, *items: dict[str, Any]) -> None:
    agent.send({"type": "tls_coverage", "items": list(items)})


def test_calls_are_added_to_their_findings(tmp_path: Path, database_url: str) -> None:
    env = {"SLUICEGATE_TLS_WATCHED": json.dumps(["*/curl", "user:mia", "container:4f2a4f2a4f2a"])}
    with live.gateway(tmp_path, YAML, database_url=database_url, env=env) as running, agent_of(running) as agent:
        agent.until(lambda: agent.tls_watched)
        assert agent.tls_watched[0] == {
            "type": "tls_watched", "executables": ["*/curl"], "users": ["mia"], "containers": ["4f2a4f2a4f2a"],
        }  # fmt: skip
        agent.send({"type": "tls_calls", "items": [call(), {}, call(host=None), call(input_tokens=-1)]})
        boxed = finding(container="web", cgroup=f"/docker/{ID}")
        first, other, inside = found(running, agent, finding(), finding(user="joe", uid=7), boxed)
        names = ("calls", "input_tokens", "output_tokens", "models")

        def counted(number: int) -> list[Any]:
            shown = running.api.get(f"/api/v1/discoveries/{number}").json()
            return [shown[name] for name in names]

        running.until(lambda: counted(first["id"]) == [1, 11, 7, ["gpt-x"]], 5)  # it came before its finding
        more = [call(model=f"m{n},", input_tokens=None, output_tokens=1) for n in range(12)]
        agent.send({"type": "tls_calls", "items": [*more, call(container="4f2a4f2a4f2a", model=None)]})
        running.until(lambda: counted(first["id"])[0] == 13 and counted(inside["id"])[0] == 1, 5)
        assert counted(first["id"]) == [13, 11, 19, ["gpt-x", *(f"m{n}" for n in range(9))]]
        assert counted(inside["id"]) == [1, 11, 7, []]
        assert counted(other["id"]) == [0, 0, 0, []]

        assert [item["coverage"] for item in discoveries(running)] == [None] * 3
        none = {**WHO, "state": "no_libssl", "reason": "it has mapped no libssl"}
        coverage(agent, none, {"state": "odd"})
        running.until(lambda: discoveries(running)[-1]["coverage"] == "no_libssl", 2)
        assert discoveries(running)[-1]["coverage_reason"] == "it has mapped no libssl"
        coverage(agent, none, {**WHO, "pid": 4243, "state": "covered", "reason": None})
        running.until(lambda: discoveries(running)[-1]["coverage"] == "covered", 2)
        by_id = {item["id"]: item["coverage"] for item in discoveries(running)}
        assert by_id == {first["id"]: "covered", other["id"]: None, inside["id"]: None}
        coverage(agent, {**WHO, "executable": "/node", "state": "http2", "reason": "so"})
        running.until(lambda: len(chosen(running)["processes"]) == 2, 2)
        assert discoveries(running)[-1]["coverage"] == "covered"  # as long as they ran
        assert chosen(running) == {
            "chosen": ["*/curl", "user:mia", "container:4f2a4f2a4f2a"],
            "processes": [
                {**SHOWN, "executable": "/node", "state": "http2", "reason": "so", "running": 1},
                {**SHOWN, "state": "covered", "reason": None, "running": 0},
            ],
            "reason": None,
        }


def test_by_default_nobody_is_chosen(tmp_path: Path) -> None:
    with live.gateway(tmp_path, YAML) as running, agent_of(running) as agent:
        agent.until(lambda: agent.tls_watched)
        assert agent.tls_watched[0] == {"type": "tls_watched", "executables": [], "users": [], "containers": []}
        (one,) = found(running, agent, finding())
        agent.send({"type": "tls_coverage", "items": [{**WHO, "state": "refused", "reason": "so"}]})
        running.until(lambda: discoveries(running)[0]["coverage"] == "refused", 2)
        shown = Cli(running.data)("discoveries", "show", str(one["id"])).ok().out
        assert "coverage\trefused" in shown
        assert "coverage_reason\tso" in shown
        assert "calls\t0" in shown
        said = Cli(running.data)("discoveries", "coverage").ok()
        assert "curl\t/usr/bin/curl\tmia\t-\tno\t1\tso" in said.out
        assert "nobody is chosen" in said.err
