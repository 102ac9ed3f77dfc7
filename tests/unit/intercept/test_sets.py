"""What changes in the sets of tables whose rules stay as they are."""

from typing import Any, cast

from gateway.intercept.arming import arm
from gateway.intercept.capture import Capture
from gateway.intercept.libnftables import Nftables, NftablesRefused
from gateway.intercept.listeners import Listeners
from gateway.intercept.marks import Marks
from gateway.intercept.names import Names
from gateway.intercept.ruleset import ArmedRule
from gateway.policy.interception import InterceptionRule, Mode, RuleSources


class Told:
    """An nftables that only listens."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def run(self, commands: str) -> None:
        self.commands.append(commands)

    def shape(self, _: str) -> str:
        raise NftablesRefused("there is no such table")


def armed(source: str) -> ArmedRule:
    rule = InterceptionRule(name="r", cidrs=("10.0.0.1/32",), sources=RuleSources(cidrs=(source,)), mode=Mode.DENY)
    return ArmedRule(rule=rule, number=1, v4=("10.0.0.1",), source_v4=(source,))


def test_other_sources_reach_the_kernel() -> None:
    told = Told()
    nothing = cast("Any", None)
    capture = Capture(cast("Nftables", told), nothing, nothing, Listeners(), Marks())
    capture._install([armed("10.9.0.0/16")])
    capture._install([armed("10.9.0.0/16")])
    assert len(told.commands) == 1
    capture._install([armed("10.8.0.0/16")])
    assert "s4_1 { 10.8.0.0/16 }" in told.commands[-1]
    assert "flush set inet sluicegate s4_1" in told.commands[-1]


def test_a_rule_that_cannot_catch_local_connections_says_so() -> None:
    rules = [InterceptionRule(name=f"r{number}", cidrs=("10.0.0.1/32",)) for number in (15, 16)]
    names = Names()
    arming = arm(rules, {"r15": 15, "r16": 16}, names, lambda _: 4000, Marks(field_bits=4).most_local_rules, {})
    assert list(arming.reasons) == ["r16"]
    assert "room for 15" in arming.reasons["r16"]
