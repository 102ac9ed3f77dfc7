"""Leaves minted for intercepted hosts: what stands in them, how long they are kept, and for whom there are none."""

import ssl
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.dataplane.leaves import LIFETIME, MOST_KEPT, RENEWED_BEFORE_END, CannotMint, LeafMinter
from gateway.policy.model import CertificateAuthority
from gateway.store import authority as store_authority
from tests.support.authority import made_for

HOST, LONG_HOST = "api.openai.example", ".".join(["a" * 40] * 3) + ".openai.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return made_for(tmp_path_factory.mktemp("authority"), ["openai.example"], ["127.0.0.0/8", "2001:db8::/32"])


def _handshake(server: ssl.SSLContext, authority: CertificateAuthority, name: str, **options: object) -> ssl.SSLObject:
    """Both ends in memory. Returns the client's. Raises ssl.SSLError as a client would."""
    context = ssl.create_default_context(cadata=authority.certificate)
    context.set_alpn_protocols(list(options.get("alpn", ("http/1.1",))))  # type: ignore[call-overload]
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [client, answering]
    while pending:
        for end in list(pending):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(end)
    return client


def _leaf(minter: LeafMinter, authority: CertificateAuthority, name: str) -> x509.Certificate:
    encoded = _handshake(minter.context(name), authority, name).getpeercert(binary_form=True)
    assert encoded is not None
    return x509.load_der_x509_certificate(encoded)


@pytest.mark.parametrize("name", [HOST, "openai.example", LONG_HOST, "xn--bcher-kva.openai.example", "127.0.0.1"])
def test_a_leaf_is_what_clients_ask_of_one(authority: CertificateAuthority, name: str) -> None:
    leaf, issuer = (
        _leaf(LeafMinter(authority), authority, name),
        x509.load_pem_x509_certificate(authority.certificate.encode()),
    )
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each.value) for each in names] == [name]
    assert len(leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)) == (name not in (LONG_HOST, "127.0.0.1"))
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    of_issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert of_issuer == issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert leaf.issuer == issuer.subject
    leaf.verify_directly_issued_by(issuer)
    now = datetime.now(UTC)
    assert timedelta(minutes=59) < now - leaf.not_valid_before_utc < timedelta(minutes=61)
    assert LIFETIME - timedelta(minutes=1) < leaf.not_valid_after_utc - now <= LIFETIME


def test_the_authority_is_what_the_contract_says(authority: CertificateAuthority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.certificate.encode())
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert [str(each.value) for each in constraints.value.permitted_subtrees or ()] == [
        "openai.example",
        "127.0.0.0/8",
        "2001:db8::/32",
    ]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize(
    "name",
    ["example", "notopenai.example", "openai.example.evil", "*.openai.example", "", "bücher.openai.example",
     "10.0.0.1", "::1", "api.openai.example:443"],
)  # fmt: skip
def test_nothing_is_minted_outside_the_constraints(authority: CertificateAuthority, name: str) -> None:
    with pytest.raises(CannotMint, match=r"not permitted to sign|neither a host name nor"):
        LeafMinter(authority).context(name)


@pytest.mark.parametrize(
    ("asked", "offered", "agreed"),
    [
        (("h2", "http/1.1"), ("h2", "http/1.1"), "h2"),
        (("http/1.1",), ("h2", "http/1.1"), "http/1.1"),
        (("h2", "http/1.1"), ("http/1.1",), "http/1.1"),
        (("h2",), ("http/1.1",), None),
    ],
)
def test_protocols_are_agreed_upon(
    authority: CertificateAuthority, asked: tuple[str, ...], offered: tuple[str, ...], agreed: str | None
) -> None:
    minter = LeafMinter(authority)
    client = _handshake(minter.context(HOST, offered), authority, HOST, alpn=asked)
    assert client.selected_alpn_protocol() == agreed
    assert client.version() == "TLSv1.3"


def test_nothing_older_than_tls_1_2(authority: CertificateAuthority) -> None:
    assert LeafMinter(authority).context(HOST).minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_leaf_is_kept_and_renewed_before_its_end(authority: CertificateAuthority) -> None:
    now_s = [time.time()]
    minter = LeafMinter(authority, clock=lambda: now_s[0])
    first = minter.context(HOST)
    assert minter.context(HOST) is first
    assert minter.context(HOST, ("h2",)) is not first
    assert minter.context("b.openai.example") is not first
    now_s[0] += (LIFETIME - RENEWED_BEFORE_END).total_seconds() - 1
    assert minter.context(HOST) is first
    now_s[0] += 2
    assert minter.context(HOST) is not first


def test_the_longest_unused_leaves_go_first(authority: CertificateAuthority) -> None:
    minter = LeafMinter(authority)
    first = minter.context("a0.openai.example")
    second = minter.context("a1.openai.example")
    for number in range(2, MOST_KEPT):
        minter.context(f"a{number}.openai.example")
    assert minter.context("a0.openai.example") is first
    minter.context("one-more.openai.example")
    assert minter.context("a0.openai.example") is first
    assert minter.context("a1.openai.example") is not second
    assert len(minter._kept) == MOST_KEPT


def test_no_leaf_outlives_its_authority(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    made = made_for(tmp_path, ["openai.example"], now=now - store_authority.LIFETIME + timedelta(days=3))
    end = x509.load_pem_x509_certificate(made.certificate.encode()).not_valid_after_utc
    clock_s = [now.timestamp()]
    minter = LeafMinter(made, clock=lambda: clock_s[0])
    assert _leaf(minter, made, HOST).not_valid_after_utc == end
    assert minter.context(HOST) is minter.context(HOST), "minted once, though it ends soon"
    clock_s[0] = end.timestamp() + 1
    with pytest.raises(CannotMint, match=r"expired at .*sluicegate ca renew"):
        minter.context(HOST)


def test_a_damaged_authority_is_told(authority: CertificateAuthority, tmp_path: Path) -> None:
    other = made_for(tmp_path, ["openai.example"])
    for certificate, key in (
        (authority.certificate, other.key),
        ("nonsense", authority.key),
        (authority.certificate, "nonsense"),
    ):
        with pytest.raises(CannotMint, match=r"ca renew --new-key") as found:
            LeafMinter(CertificateAuthority(certificate=certificate, key=key))
        assert key not in str(found.value)


def test_threads_share_one_minter(authority: CertificateAuthority) -> None:
    minter = LeafMinter(authority)
    names = [f"t{number % 20}.openai.example" for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        contexts = dict(zip(names, pool.map(minter.context, names), strict=True))
    assert len(contexts) == 20
    for name, context in contexts.items():
        assert minter.context(name) is context
        _handshake(context, authority, name)


@pytest.mark.serial
def test_minting_takes_two_milliseconds(authority: CertificateAuthority) -> None:
    minter = LeafMinter(authority)
    minted_ms, found_us = [], []
    for number in range(200):
        began_s = time.perf_counter()
        minter.context(f"n{number}.openai.example")
        minted_s = time.perf_counter()
        minter.context(f"n{number}.openai.example")
        minted_ms.append((minted_s - began_s) * 1e3)
        found_us.append((time.perf_counter() - minted_s) * 1e6)
    print(f"minted in {statistics.median(minted_ms):.2f} ms, found in {statistics.median(found_us):.1f} µs (medians)")
    assert min(minted_ms) < 3, "what it takes while nobody else is at work on this core: 1.4 to 2.2"
    assert statistics.median(found_us) < 100
