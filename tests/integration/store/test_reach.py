"""How a provider is reached: zone, tags, proxy, TLS, health check, and what is secret in them; both databases."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from gateway.errors import Invalid
from gateway.policy import codec
from gateway.policy.model import HealthCheck, Provider, Proxy
from gateway.policy.roles import Authority, Role
from gateway.store import compiler, sealing
from gateway.store.apply import Applied, apply, export
from gateway.store.config import Editing, Providers
from gateway.store.database import read_session, write_session
from gateway.store.models import ProviderSecret
from gateway.store.patches import ProviderPatch
from gateway.store.sealing import Sealer
from tests.support.certificates import Certificates, make_certificates

SEALER = Sealer(lambda: [b"k" * 32])
PASSWORD = "proxy-password-0123"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def editing_of(session: object, sealer: Sealer = SEALER) -> Editing:
    return Editing(session=session, authority=Authority(actor="cli:root", role=Role.OWNER), sealer=sealer)  # type: ignore[arg-type]


def run(engine: Engine, text: str, environment: dict[str, str]) -> Applied:
    with write_session(engine) as session:
        return apply(editing_of(session), text, file="sluicegate.yaml", environment=environment)


def exported(engine: Engine) -> str:
    with read_session(engine) as session:
        return export(editing_of(session))


def compiled(engine: Engine, sealer: Sealer = SEALER) -> Provider:
    with read_session(engine) as session:
        return codec.decode_snapshot(
            codec.encode_snapshot(compiler.compile_snapshot(session, sealer))
        ).providers["far"]  # fmt: skip


def environment(certificates: Certificates) -> dict[str, str]:
    return {
        "CA": certificates.authority.read_text(),
        "CERT": certificates.chain.read_text(),
        "CERT_KEY": certificates.key.read_text(),
        "PASSWORD": PASSWORD,
    }


DOCUMENT = """
providers:
  - name: far
    dialect: openai
    base_url: https://far.example/v1
    zone: eu-1
    tags: [eu, cheap]
    proxy: "http://someone:${PASSWORD}@proxy.internal:3128"
    tls: {ca: "${CA}", cert: "${CERT}", key: "${CERT_KEY}", server_name: real.example}
    health: {path: "/healthz?deep=1", interval: 5s}
routes:
  - {name: chat, prefer: [eu, us], targets: [{provider: far, model: m}]}
"""


def test_all_of_it_goes_in_comes_out_and_says_no_secret(engine: Engine, certificates: Certificates) -> None:
    known = environment(certificates)
    assert [str(change) for change in run(engine, DOCUMENT, known).changes] == [
        "create provider far",
        "create route chat",
    ]
    provider = compiled(engine)
    assert (provider.zone, provider.tags) == ("eu-1", {"eu", "cheap"})
    assert provider.proxy == Proxy(url="http://proxy.internal:3128", user="someone", password=PASSWORD)
    assert provider.check == HealthCheck(path="/healthz?deep=1", interval_s=5.0)
    assert provider.tls is not None
    assert provider.tls.key == known["CERT_KEY"]
    assert (provider.tls.ca, provider.tls.server_name, provider.tls.verify) == (known["CA"], "real.example", True)
    assert PASSWORD not in repr(provider)
    assert "PRIVATE KEY" not in repr(provider)
    with read_session(engine) as session:
        assert compiler.compile_snapshot(session, SEALER)["routes"][0][12] == ["eu", "us"]
        shown = Providers(editing_of(session)).get("far").model_dump_json()
        stored = b"".join(session.scalars(select(ProviderSecret.sealed)))
    for secret in (PASSWORD, "PRIVATE KEY"):
        assert secret not in shown
        assert secret.encode() not in stored
    text = exported(engine)
    assert PASSWORD not in text
    assert "PRIVATE KEY" not in text
    assert not run(engine, text, {}).changes
    assert not run(engine, DOCUMENT, known).changes
    assert exported(engine) == text


def test_patches_keep_secrets_and_drop_them_with_what_they_belong_to(
    engine: Engine, certificates: Certificates
) -> None:
    run(engine, DOCUMENT, environment(certificates))

    def patch(**fields: object) -> Provider:
        with write_session(engine) as session:
            Providers(editing_of(session)).update("far", ProviderPatch.model_validate(fields))
        return compiled(engine)

    changed = patch(proxy={"url": "http://other.internal:8080"}, tls={"server_name": None})
    assert changed.proxy == Proxy(url="http://other.internal:8080", user="someone", password=PASSWORD)
    assert changed.tls is not None
    assert changed.tls.server_name is None
    assert changed.tls.key is not None
    assert patch(proxy="none").proxy == Proxy(url=None)
    assert patch(proxy=None).proxy is None
    assert patch(tls={"cert": None}).tls.key is None  # type: ignore[union-attr]
    assert patch(tls=None, health=None, zone=None, tags=None).check is None
    with read_session(engine) as session:
        assert session.scalars(select(ProviderSecret)).all() == []


def test_secrets_follow_a_rotation_of_the_sealing_key(engine: Engine, certificates: Certificates) -> None:
    run(engine, DOCUMENT, environment(certificates))
    fresh = Sealer(lambda: [b"n" * 32])
    with write_session(engine) as session:
        assert sealing.rotate(session, SEALER, fresh, "cli") == 2
    provider = compiled(engine, fresh)
    assert provider.proxy is not None
    assert provider.proxy.password == PASSWORD


WRONG = {
    "proxy.url": ("proxy: socks5://p:1080", "not the URL of an HTTP proxy"),
    "proxy.password": ("proxy: {url: 'http://p:1', password: x}", "no user"),
    "tls.ca": ("tls: {ca: junk}", "not PEM"),
    "tls.key": ("tls: {cert: '${CERT}'}", "needs its private key"),
    "tls.key ": ("tls: {cert: '${CERT}', key: '${OTHER_KEY}'}", "does not belong to the certificate"),
    "tls": ("base_url: 'http://plain/v1', tls: {verify: false}", "is for https"),
    "health.path": ("health: {path: healthz}", "is not a path"),
    "health.interval": ("health: {path: /, interval: 10ms}", "shorter than"),
    "tags": ("tags: [a, a]", "stands twice"),
}


@pytest.mark.parametrize("field", WRONG)
def test_what_cannot_be_is_refused_with_field_and_remedy(
    engine: Engine, certificates: Certificates, tmp_path: Path, field: str
) -> None:
    given, problem = WRONG[field]
    base = "" if "base_url" in given else "base_url: 'https://a/v1', "
    known = {**environment(certificates), "OTHER_KEY": make_certificates(tmp_path / "other").key.read_text()}
    with pytest.raises(Invalid) as caught:
        run(engine, f"providers: [{{name: x, dialect: openai, {base}{given}}}]", known)
    (error,) = caught.value.fields["errors"]
    assert error["field"].endswith(field.strip())
    assert problem in error["problem"]
    assert error["remedy"]
    assert "PRIVATE" not in str(caught.value)
