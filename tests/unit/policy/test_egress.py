"""Destinations of the forward proxy: which names, which ports, which addresses."""

import ipaddress

import pytest

from gateway.policy.egress import Egress, Sources, looks_like_address, parse_destination


def egress(*entries: str) -> Egress:
    return Egress(parse_destination(each) for each in entries)


NAMES = [
    ("api.example.com", "api.example.com", 443, True),
    ("api.example.com", "api.example.com", 80, True),
    ("api.example.com", "api.example.com", 8443, False),
    ("api.example.com:8443", "api.example.com", 8443, True),
    ("api.example.com:8443", "api.example.com", 443, False),
    ("api.example.com:*", "api.example.com", 22, True),
    ("API.example.com.", "api.example.com", 443, True),
    ("api.example.com", "evil-api.example.com", 443, False),
    ("api.example.com", "api.example.com.evil.example", 443, False),
    ("*.example.com", "a.b.example.com", 443, True),
    ("*.example.com", "example.com", 443, False),
    ("*.example.com", "evilexample.com", 443, False),
    ("*", "anything.example", 443, True),
    ("*", "anything.example", 22, False),
    ("10.0.0.0/8", "10.1.2.3", 443, True),
    ("10.0.0.0/8", "11.1.2.3", 443, False),
    ("10.0.0.7:8000", "10.0.0.7", 8000, True),
    ("[2001:db8::1]:8000", "2001:db8::1", 8000, True),
    ("2001:db8::/32", "2001:db8::1", 443, True),
    ("tcp://db.example:5432", "db.example", 5432, True),
]


@pytest.mark.parametrize(("entry", "host", "port", "allowed"), NAMES)
def test_names(entry: str, host: str, port: int, allowed: bool) -> None:
    assert (egress(entry).find(host, port) is not None) is allowed


def test_what_may_be_spoken() -> None:
    both = egress("*", "db.example", "tcp://db.example:443")
    found = both.find("db.example", 443)
    assert found is not None
    assert found.opaque
    found = both.find("other.example", 443)
    assert found is not None
    assert not found.opaque


ADDRESSES = [
    ("api.example.com", "93.184.216.34", True),
    ("api.example.com", "10.0.0.7", True),  # a name that the operator wrote down may be one of the house
    ("api.example.com", "127.0.0.1", False),
    ("api.example.com", "169.254.169.254", False),
    ("api.example.com", "fd00:ec2::254", False),
    ("api.example.com", "::1", False),
    ("api.example.com", "::ffff:127.0.0.1", False),
    ("api.example.com", "64:ff9b::7f00:1", False),
    ("api.example.com", "2002:7f00:1::", False),
    ("api.example.com", "0.0.0.0", False),
    ("api.example.com", "fe80::1", False),
    ("api.example.com", "100.100.100.200", False),
    ("*", "93.184.216.34", True),
    ("*", "10.0.0.7", False),
    ("*", "fd12::1", False),
    ("*", "100.64.0.1", False),
    ("*.example.com", "192.168.1.1", False),
    ("localhost", "127.0.0.1", True),
    ("localhost", "::1", True),
    ("localhost", "10.0.0.1", False),
    ("127.0.0.0/8", "127.0.0.1", True),
    ("169.254.169.254", "169.254.169.254", True),
]


@pytest.mark.parametrize(("entry", "address", "allowed"), ADDRESSES)
def test_where_a_name_may_lead(entry: str, address: str, allowed: bool) -> None:
    own = egress(entry)
    by = parse_destination(entry)
    assert own.allows_address(by, ipaddress.ip_address(address), 443) is allowed


def test_an_address_written_down_beside_a_name() -> None:
    own = egress("*", "10.0.0.0/8:443")
    star = parse_destination("*")
    assert own.allows_address(star, ipaddress.ip_address("10.0.0.7"), 443)
    assert not own.allows_address(star, ipaddress.ip_address("10.0.0.7"), 80)


@pytest.mark.parametrize(
    "entry", ["", "a b", "http://a", "*.", "a.*", "1.2.3.4/40", "a:0", "a:99999", "[::1", "-a", "127.1"]
)
def test_what_is_no_entry(entry: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_destination(entry)


@pytest.mark.parametrize(
    ("host", "is_one"), [("127.1", True), ("0x7f.1", True), ("2130706433", True), ("a.1", True), ("1.a", False)]
)
def test_names_that_old_resolvers_take_for_addresses(host: str, is_one: bool) -> None:
    assert looks_like_address(host) is is_one


def test_the_smallest_network_wins() -> None:
    sources = Sources.of([("10.0.0.0/8", "wide"), ("10.1.0.0/16", "narrow"), ("::1/128", "here")])
    assert sources.app_at("10.2.0.1") == "wide"
    assert sources.app_at("10.1.0.1") == "narrow"
    assert sources.app_at("::ffff:10.1.0.1") == "narrow"
    assert sources.app_at("::1") == "here"
    assert sources.app_at("11.0.0.1") is None
    assert sources.app_at("") is None
