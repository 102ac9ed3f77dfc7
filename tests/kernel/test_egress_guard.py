"""Where the gateway's own processes may go, in the kernel: what is not configured is an alert, or refused."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.cli import agent_client
from tests.support.lab import Gateway, Lab, gateway, servers
from tests.support.lab.lab import SERVER4
from tests.support.lab.talking import wait_until
from tests.support.lab.world import KEY, rule

METADATA = "169.254.169.254"
REBOUND = f"""
providers:
  - {{name: api, dialect: openai, base_url: "http://api.example:4010/v1", credentials: [{{name: main, value: sk-one}}]}}
  - {{name: literal, dialect: openai, base_url: "http://10.9.2.3:80/v1", credentials: [{{name: main, value: sk-two}}]}}
routes:
  - {{name: chat, targets: [{{provider: api, model: gpt-real}}]}}
  - {{name: other, targets: [{{provider: literal, model: gpt-real}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: [chat, other], keys: [{{name: ci, value: "{KEY}"}}]}}]}}
"""


@contextmanager
def guarded(lab: Lab, mode: str, yaml: str = REBOUND, *, armed: bool = False) -> Iterator[Gateway]:
    lab.router.ip("addr", "add", f"{METADATA}/32", "dev", "lo")
    env = {"SLUICEGATE_EGRESS_GUARD": mode}
    with gateway(lab, yaml, workers=1, probes=True, armed=armed, env=env) as running:
        wait_until(lambda: "egress_guard" in features(running), 30, running.agent.log)
        time.sleep(2.5)  # names are looked up, processes found
        yield running


def features(running: Gateway) -> Any:
    return agent_client.ask(running.agent.socket, "status")["probes"]["features"]


def ask(running: Gateway, model: str = "chat") -> int:
    asked = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    with running.lab.router.http(headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
        return client.post(f"{running.url}/v1/chat/completions", json=asked).status_code


def alerts(running: Gateway, **query: str) -> list[Any]:
    answer = running.api.get("/api/v1/alerts", params=query)
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


def test_a_name_that_turns_into_the_metadata_address_is_refused(lab: Lab) -> None:
    """The provider's name is rebound while the gateway runs: the worker gets EPERM, and there is an alert. What the
    configuration names goes on."""
    names = lab.names()
    names.set("api.example", SERVER4, ttl_s=1)
    lab.provider(80)
    metadata = lab.serve(servers.plain_http, 4010, where=lab.router)
    with guarded(lab, "enforce") as running:
        assert ask(running, "other") == 200
        assert alerts(running, kind="connect") == []
        names.set("api.example", METADATA, ttl_s=1)
        wait_until(lambda: ask(running) >= 500 and alerts(running, kind="connect"), 20, running.agent.log)
        found = alerts(running, kind="connect")[0]
        assert (found["destination"], found["port"], found["refused"]) == (METADATA, 4010, True)
        assert found["executable"].rpartition("/")[2].startswith("python")
        assert found["uid"] != 0
        assert metadata.connections == []
        assert ask(running, "other") == 200
        time.sleep(1)
        assert {each["destination"] for each in alerts(running, kind="connect")} == {METADATA}


def test_observing_tells_and_lets_pass(lab: Lab) -> None:
    names = lab.names()
    names.set("api.example", METADATA, ttl_s=1)
    metadata = lab.serve(servers.plain_http, 4010, where=lab.router)
    with guarded(lab, "observe") as running:
        wait_until(lambda: ask(running) and alerts(running, kind="connect"), 20, running.agent.log)
        found = alerts(running, kind="connect")[0]
        assert (found["destination"], found["refused"], found["kind"]) == (METADATA, False, "connect")
        first = found["id"]
        assert metadata.connections
        for _ in range(3):
            ask(running)
        time.sleep(1.5)
        assert [each["id"] for each in alerts(running, kind="connect")] == [first]  # once a minute


def test_splices_go_where_clients_asked_to_and_nowhere_else(lab: Lab) -> None:
    """Captured connections pass the guard by what the kernel saw of them."""
    server = lab.serve(servers.echo, 4001)
    yaml = REBOUND + "interception:\n" + rule("open", range(4001, 4003))
    with guarded(lab, "enforce", yaml, armed=True) as running:
        for where in (lab.client, lab.router):
            with where.connect((SERVER4, server.port)) as connection:
                connection.sendall(b"hello")
                assert connection.recv(5) == b"hello"
        time.sleep(1)
        assert alerts(running, kind="connect") == []
        assert running.rule("open")["captured"] == 2


def test_off_says_nothing(lab: Lab) -> None:
    names = lab.names()
    names.set("api.example", METADATA, ttl_s=1)
    with guarded(lab, "off") as running:
        ask(running)
        time.sleep(1.5)
        assert alerts(running, kind="connect") == []
