"""For whom an authority may sign: what is a name, what covers it, and the same in a certificate."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.authority import Permitted, subject

KEY = ec.generate_private_key(ec.SECP256R1())
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=2, max_size=4).map(".".join).filter(lambda name: not name[-1].isdigit())
NETWORKS = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
        lambda pair: f"{ip_address(pair[0] >> (32 - pair[1]) << (32 - pair[1]))}/{pair[1]}"
    ),
    st.tuples(st.integers(2**100, 2**128 - 1), st.integers(0, 128)).map(
        lambda pair: (
            f"{ip_address(pair[0] >> (128 - pair[1]) << (128 - pair[1]) or 0).exploded}/{pair[1]}"
            if pair[0] >> (128 - pair[1])
            else "::/0"
        )
    ),
)


def _certificate(constraints: x509.NameConstraints | None) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(KEY, hashes.SHA256())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("API.OpenAI.com.", "api.openai.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("crm", "crm"),
        ("_dns.a_b.example", "_dns.a_b.example"),
        ("10.1.2.3", ip_address("10.1.2.3")),
        ("[2001:DB8::1]", ip_address("2001:db8::1")),
        ("2001:db8::1", ip_address("2001:db8::1")),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_what_a_certificate_may_name(text: str, named: object) -> None:
    assert subject(text) == named


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "*.example.com", "*", "a..b", ".example.com", "bücher.example", "-a.example", "a b.example",
        "a.example:443", "https://a.example", "a.example/", "a" * 64 + ".example", ".".join(["a" * 49] * 6),
        "a\x00.example", "10.0.0.0/8", "a.example\n",
    ],
)  # fmt: skip
def test_what_it_may_not(text: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor an address"):
        subject(text)


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("openai.com", True),
        ("api.openai.com", True),
        ("a.b.openai.com", True),
        ("notopenai.com", False),
        ("openai.com.evil", False),
        ("com", False),
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8::5", True),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_what_is_covered(name: str, covered: bool) -> None:
    permitted = Permitted.of(["OpenAI.com", "192.0.2.7"], ["10.0.0.0/8", "2001:db8::/32"])
    assert permitted.covers(subject(name)) is covered


def test_what_is_not_permitted_at_all_is_excluded() -> None:
    def excluded(permitted: Permitted) -> set[str]:
        return {str(each.value) for each in permitted.constraints().excluded_subtrees or ()}

    assert excluded(Permitted.of(["a.example"], [])) == {"0.0.0.0/0", "::/0"}
    assert excluded(Permitted.of(["a.example"], ["10.0.0.0/8"])) == {"::/0"}
    assert excluded(Permitted.of([], ["2001:db8::/32"])) == {"", "0.0.0.0/0"}
    assert excluded(Permitted.of(["a.example"], ["10.0.0.0/8", "2001:db8::/32"])) == set()
    with pytest.raises(ValueError, match="nothing to permit"):
        Permitted().constraints()
    assert not Permitted()
    assert not Permitted.by(_certificate(None)), "a certificate without constraints is none of ours"


@given(hosts=st.lists(HOSTS, max_size=5), networks=st.lists(NETWORKS, max_size=5))
def test_a_certificate_says_just_what_was_permitted(hosts: list[str], networks: list[str]) -> None:
    permitted = Permitted.of(hosts, networks)
    if not permitted:
        return
    read = Permitted.by(_certificate(permitted.constraints()))
    assert read == permitted
    assert read.lacks(permitted) == ()
    assert Permitted().lacks(permitted) == (*permitted.hosts, *map(str, permitted.networks))


@given(mine=st.lists(HOSTS, max_size=4), wanted=st.lists(HOSTS, max_size=4), networks=st.lists(NETWORKS, max_size=4))
def test_what_is_lacked_is_what_is_not_covered(mine: list[str], wanted: list[str], networks: list[str]) -> None:
    have, want = Permitted.of(mine, networks[:2]), Permitted.of(wanted, networks[2:])
    lacked = set(have.lacks(want))
    assert {host for host in want.hosts if host in lacked} == {host for host in want.hosts if not have.covers(host)}
    for network in want.networks:
        ends = have.covers(network.network_address) and have.covers(network.broadcast_address)
        assert (str(network) in lacked) or ends
    assert Permitted.of([*mine, *wanted], networks).lacks(want) == ()
