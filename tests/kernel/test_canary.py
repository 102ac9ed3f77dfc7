"""A connection of the agent's own shows that what is captured reaches a worker (interception.md §6: silent bypass)."""

from datetime import UTC, datetime

from tests.support.lab import Lab, gateway
from tests.support.lab.talking import wait_until
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
