"""What the agent tells the kernel, as text; whether the kernel takes it, tests/kernel shows."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.intercept import ruleset
from gateway.intercept.arming import by_family
from gateway.intercept.marks import WHOLE, Marks, NoFreeMarks, choose, used_bits
from gateway.intercept.ruleset import ArmedRule, HostFacts
from gateway.intercept.tables import AddressSet, Chain, Present, Table, put
from gateway.policy.interception import InterceptionRule, Mode, OnFailure, RuleSources, plain, rule_of

MODES = [
    (Mode.GOVERN, OnFailure.OPEN, "bypassed"),
    (Mode.GOVERN, OnFailure.CLOSED, "denied"),
    (Mode.DENY, OnFailure.OPEN, "denied"),
    (Mode.OBSERVE, OnFailure.OPEN, "passed"),
]


@given(st.integers(0, WHOLE))
def test_marks_take_no_bit_that_is_in_use_and_none_twice(used: int) -> None:
    try:
        marks = choose(used)
    except NoFreeMarks:
        return
    parts = [marks.forwarded, marks.upstream, marks.local, marks.field]
    assert not any(part & used for part in parts)
    assert not any(one & other for one, other in itertools.combinations(parts, 2))
    assert all(part.bit_count() == 1 for part in parts[:3])
    assert sum(parts) <= WHOLE
    assert Marks.of(marks.plain()) == marks


def test_bits_of_others_are_found_in_what_the_host_shows() -> None:
    listed = [
        "meta mark and 0xff0000 == 0x40000 accept\n",
        "ct mark set 0x00000001\n",
        "-A X -j MARK --set-xmark 0x4000/0x4000\n",
        "tcp dport 0x50 accept\n",
        "meta mark set mark and 0xfffffbff\n",
    ]
    assert used_bits(listed, [(0x200, 0x200), (51820, WHOLE)]) == 0xFF0000 | 1 | 0x4000 | 0x400 | 0x200 | 51820


def test_a_rule_survives_its_way_through_json() -> None:
    rule = InterceptionRule(name="a", hosts=("x.example",), sources=RuleSources(users=("u",), local=True), app="b")
    assert rule_of(plain(rule)) == rule


def test_each_mode_captures_refuses_or_counts() -> None:
    rules = [
        ArmedRule(
            rule=InterceptionRule(name=str(number), mode=mode, on_failure=on_failure, ports=(80,)),
            number=number,
            port=4000 + number if mode is Mode.GOVERN else None,
            v4=("10.0.0.1",),
        )
        for number, (mode, on_failure, _) in enumerate(MODES, 1)
    ]
    host = HostFacts(marks=Marks())
    owner, outliving = ruleset.owner_table(rules, host), ruleset.plain_table(rules, host)
    captured = "\n".join(rule for chain in owner.chains for rule in chain.rules)
    assert owner.counters == ("captured_1", "captured_2")
    assert {f"tproxy ip to :400{number}" in captured for number in (1, 2)} == {True}
    assert ":4003" not in captured
    assert outliving.counters == tuple(f"{kind}_{number}" for number, (_, _, kind) in enumerate(MODES, 1))
    refusals = [rule for chain in outliving.chains for rule in chain.rules if "reject with tcp reset" in rule]
    assert {number for number in (1, 2, 3, 4) if any(f"_{number} reject" in rule for rule in refusals)} == {2, 3}
    for chain in (*owner.chains, *outliving.chains):
        if "output" in chain.hook and chain.rules:
            assert chain.rules[0].startswith(f"meta mark & {Marks().upstream:#x}")


def test_a_table_is_changed_in_place() -> None:
    before = Present(sets={"d4_1", "s4_9", "hb"}, counters={"captured_1", "captured_2"}, chains={"pre", "old"})
    table = Table(
        name="t",
        owner=True,
        sets=(AddressSet("d4_1", "ipv4_addr", ("10.0.0.1",)), AddressSet("d6_1", "ipv6_addr", ())),
        counters=("captured_1", "captured_3"),
        chains=(Chain("pre", "filter hook prerouting priority mangle", ("accept",)),),
    )
    commands = put(table, before).splitlines()
    assert commands[0] == "add table inet t { flags owner; }"
    assert "delete table inet t" not in commands
    assert commands.index("flush table inet t") < commands.index("delete chain inet t old")
    assert commands.index("flush set inet t d4_1") < commands.index("add element inet t d4_1 { 10.0.0.1 }")
    assert "delete set inet t hb" not in commands
    assert commands[-2:] == ["delete set inet t s4_9", "delete counter inet t captured_2"]
    assert "add counter inet t captured_3" in commands
    assert "add counter inet t captured_1" not in commands


@given(st.lists(st.ip_addresses(v=4), max_size=20))
def test_destinations_are_told_apart_and_never_overlap(addresses: list[object]) -> None:
    v4, v6 = by_family([*map(str, addresses), "10.0.0.0/8", "10.1.2.3", "fd00::1", "::/0"])
    assert "10.0.0.0/8" in ",".join(v4) or any(part.startswith("0.") for part in v4)
    assert "10.1.2.3" not in v4
    assert v6 == ("::/1, 8000::/1",)
