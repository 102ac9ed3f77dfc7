"""An agent that may load no program: what is left is said, and is right."""

import time

from gateway.cli import agent_client
from tests.support.lab import Lab, gateway
from tests.support.lab.gateway import PORT
from tests.support.lab.lab import ROUTER4
from tests.support.lab.world import BASE, KEY


def test_without_the_capability_routes_are_sampled_and_callers_listed(lab: Lab) -> None:
    lab.provider(80)
    with gateway(lab, BASE, agent=False, armed=False, listen="0.0.0.0", probes=True) as running:
        running.agent.start(bounding=["net_admin", "sys_ptrace", "dac_override", "chown", "setpcap"])

        def telemetry() -> dict[str, object]:
            told: dict[str, object] = running.api.get("/api/v1/telemetry").json()
            return told

        running.until(lambda: "list of sockets" in str(telemetry()["source"]), 20, telemetry)
        asked = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
        with lab.client.http(headers={"authorization": f"Bearer {KEY}"}) as client:
            for _ in range(5):
                assert client.post(f"http://{ROUTER4}:{PORT}/v1/chat/completions", json=asked).status_code == 200
                time.sleep(0.5)
            (route,) = running.api.get("/api/v1/telemetry/routes", params={"window": "60s"}).json()["items"]
        assert "CAP_BPF" in route["sources"]["kernel"]
        assert 0 < route["rtt_ms"]["p50"] < 50
        assert 0 < route["client_rtt_ms"]["p50"] < 50
        assert route["client_connections"] == 1
        assert route["bytes_in"] > 200
        assert route["retransmits"] == 0
        for name in ("connect_ms", "first_byte_ms", "token_gap_ms", "resets", "full_s"):
            assert route[name] is None, name
        running.until(
            lambda: running.api.get("/api/v1/telemetry/routes").json()["items"][0]["client_connections"] == 0, 5
        )
        assert "lacks CAP_PERFMON, CAP_BPF" in running.cli("doctor", check=False).stdout

        with lab.router.connect((ROUTER4, PORT)) as sock:
            source, port = sock.getsockname()[:2]
            said = agent_client.ask(
                running.agent.socket, "who", source=source, port=port, destination=ROUTER4, destination_port=PORT
            )
        assert said["found"] is True
        assert said["marks"] == ["pre-existing"]
        assert said["process"].startswith(("python", "pytest"))
