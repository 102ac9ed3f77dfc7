"""What the egress guard allows, decided by the same prefixes as in the kernel."""

from ipaddress import ip_address

import pytest

from gateway.probes.egress_maps import Allowed, Wanted

MESSAGE = {
    "guard": "enforce",
    "hosts": [
        ["api.example", 443],
        ["localhost", 11434],
        ["evil.example", 443],
        ["10.1.2.3", 5432],
        ["loop.example", 80],
    ],
    "networks": [["192.168.7.0/24", 0]],
    "anywhere": [443],
}
ADDRESSES = {
    "api.example": ["203.0.113.5", "2001:db8::5"],
    "localhost": ["127.0.0.1", "::1"],
    "evil.example": ["169.254.169.254", "fd00:ec2::254"],
    "loop.example": ["127.0.0.1"],
}
CASES = {
    "a host at its port": ("203.0.113.5", 443, True),
    "a host at another port": ("203.0.113.5", 80, False),
    "over IPv6": ("2001:db8::5", 443, True),
    "localhost by name": ("127.0.0.1", 11434, True),
    "loopback by another name": ("127.0.0.1", 80, False),
    "metadata by name": ("169.254.169.254", 443, False),
    "metadata over IPv6 by name": ("fd00:ec2::254", 443, False),
    "an address as it is written": ("10.1.2.3", 5432, True),
    "a network at any port": ("192.168.7.9", 9, True),
    "anywhere public": ("198.51.100.1", 443, True),
    "anywhere is not private": ("10.9.9.9", 443, False),
    "nor what IPv6 may hide": ("64:ff9b::a00:1", 443, False),
    "a name server": ("192.0.2.53", 53, True),
    "a name server is asked for names alone": ("192.0.2.53", 80, False),
}


@pytest.mark.parametrize("case", CASES)
def test_decisions(case: str) -> None:
    address, port, allowed = CASES[case]
    found = Allowed(Wanted.of(MESSAGE), ADDRESSES, ["192.0.2.53"])
    assert found.permits(ip_address(address), port) is allowed
    assert set(found.refused_names) == {"evil.example", "loop.example"}


def test_a_list_that_is_none() -> None:
    with pytest.raises(ValueError, match="mode"):
        Wanted.of({**MESSAGE, "guard": "sometimes"})
    with pytest.raises(ValueError):
        Wanted.of({**MESSAGE, "networks": [["10.0.0.0/99", 1]]})
