"""What interception tells of itself: that what is captured arrives (silent bypass is the worst bug), what passed."""

from datetime import UTC, datetime

from tests.support.lab import Lab, gateway
from tests.support.lab.lab import CLIENT4, SERVER4
from tests.support.lab.probing import probe_from
from tests.support.lab.servers import echo
from tests.support.lab.talking import client_hello, read_exactly, wait_until
from tests.support.lab.world import BASE, rule

YAML = BASE + "interception:\n" + rule("open", [4001])


def test_it_sings_on_both_families_and_never_leaves_the_host() -> None:
    with Lab() as lab, gateway(lab, YAML) as running:
        begun = datetime.now(UTC)
        wait_until(lambda: len(running.interception()["canaries"]) == 2, 10)
        wait_until(lambda: all(song["last_well"] for song in running.interception()["canaries"]), 10,
                   say=lambda: running.interception()["canaries"])  # fmt: skip
        told = running.interception()
        assert {song["path"] for song in told["canaries"]} == {"local-v4", "local-v6"}
        assert [song["trouble"] for song in told["canaries"]] == [None, None]
        last = datetime.fromisoformat(told["rules"][0]["last_canary"])
        assert abs((last - begun).total_seconds()) < 30

        running.cli("intercept", "down")
        routes = lab.router.run("ip", "route", "show", "192.0.2.53").stdout
        assert routes == ""


def test_what_was_passed_on_is_told_of() -> None:
    """Who, where to, what was spoken and how much (issue: passthrough records name, bytes, times)."""
    with Lab() as lab, gateway(lab, YAML) as running:
        server = lab.serve(echo, 4001)
        hello = client_hello("api.openai.example")
        with lab.client.connect((SERVER4, server.port)) as connection:
            connection.sendall(hello)
            assert read_exactly(connection, len(hello)) == hello

        def told() -> list[dict[str, object]]:
            items: list[dict[str, object]] = running.api.get("/api/v1/interception/flows").json()["items"]
            return items

        wait_until(lambda: told(), 5)
        flow = told()[0]
        assert (flow["rule"], flow["protocol"], flow["server_name"]) == ("open", "tls", "api.openai.example")
        assert (flow["client"], flow["destination"], flow["port"]) == (CLIENT4, SERVER4, 4001)
        assert flow["bytes_in"] == flow["bytes_out"] == len(hello)
        assert flow["outcome"] == "completed"
        assert "api.openai.example:4001" in running.cli("intercept", "flows").stdout


def test_counts_outlive_down_and_a_rule_that_takes_anothers_place() -> None:
    """What is counted since the agent started is not forgotten by `down`, nor given to another rule."""
    with Lab() as lab, gateway(lab, YAML) as running:
        server = lab.serve(echo, 4001)
        probe_from(lab.client, SERVER4, server)
        wait_until(lambda: running.rule("open")["captured"] == 1, 5)
        running.cli("intercept", "down")
        assert running.rule("open")["captured"] == 1
        said = running.cli("intercept", "up", "--try", "30s").stdout
        assert "trial" in said
        assert running.rule("open")["armed"]
        probe_from(lab.client, SERVER4, server)
        wait_until(lambda: running.rule("open")["captured"] == 2, 5)
        running.apply(BASE + "interception:\n" + rule("another", [4001]), prune=True)
        running.wait_armed("another")
        assert running.rule("another")["captured"] == 0
