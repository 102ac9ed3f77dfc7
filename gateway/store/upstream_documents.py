"""How a provider is reached: proxy, TLS, health check. Part of `documents.ProviderDocument`."""

from typing import Annotated, Any, Final
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, SecretStr, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.policy.model import HealthCheck
from gateway.store.document import Document
from gateway.store.fields import Duration, Host, refused

DIRECT: Final = "none"
SEALED_MARK: Final = "sealed:"
"""Begins a reference to a secret that this installation already has, as `export` writes it."""
PROXY_PASSWORD: Final = "proxy.password"  # noqa: S105 - its name
TLS_KEY: Final = "tls.key"
"""Names of a provider's secrets that are no credentials (`models.ProviderSecret`)."""
LONGEST_PEM: Final = 1_000_000


# ---- proxy


def _proxy_url(value: str) -> str:
    if value == DIRECT:
        return value
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not value.isascii() or " " in value or len(value) > 2048:
        raise refused(
            "is not the URL of an HTTP proxy", "write e.g. http://proxy.internal:3128, or `none` for no proxy"
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise refused("has a path or query, which a proxy has not", "end it with the port")
    if parts.username is not None:
        raise refused("holds a user name", "put it into `user` and `password`")
    return value.rstrip("/")


def proxy_from_text(value: Any) -> Any:
    """`proxy: URL` is `proxy: {url: URL}`; user and password within the URL go where they belong."""
    if not isinstance(value, str):
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        return {"url": value}
    place = parts.netloc.rpartition("@")[2]
    return {
        "url": parts._replace(netloc=place).geturl() if parts.username is not None else value,
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
    }


def _proxy_secret(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isprintable() or len(value.get_secret_value()) > 1024:
        raise refused("cannot be sent", "use up to 1024 visible characters")
    return value


class ProxyDocument(Document):
    """An HTTP proxy towards the provider. A text stands for `url` alone."""

    url: Annotated[str, AfterValidator(_proxy_url)]
    """`http://HOST:PORT`, `https://HOST:PORT`, or `none`: no proxy, whatever the environment says."""
    user: str | None = Field(default=None, min_length=1, max_length=256)
    password: Annotated[SecretStr, AfterValidator(_proxy_secret)] | None = None
    """Left out: the one that is stored stays."""

    @model_validator(mode="after")
    def _consistent(self) -> "ProxyDocument":
        if self.user is not None and (self.url == DIRECT or ":" in self.user or not self.user.isprintable()):
            raise refused("cannot be sent to a proxy", "remove it, or write it without colon and control signs", "user")
        if self.password is not None and self.user is None:
            raise refused("has no user", "add `user`", "password")
        return self


class _OrText:
    """Says in the JSON schema that a text is taken too."""

    @staticmethod
    def __get_pydantic_json_schema__(schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "examples": ["http://proxy.internal:3128", DIRECT]}, handler(schema)]}


ProxyField = Annotated[ProxyDocument, BeforeValidator(proxy_from_text), _OrText]


# ---- TLS


def _pem(value: str) -> str:
    if len(value) > LONGEST_PEM:
        raise refused(f"has {len(value)} characters", f"use at most {LONGEST_PEM}")
    try:
        x509.load_pem_x509_certificates(value.encode())
    except ValueError:
        raise refused("is not PEM of one or more certificates", "begin it with -----BEGIN CERTIFICATE-----") from None
    return value.strip() + "\n"


def _pem_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text.startswith(SEALED_MARK):
        return value
    try:
        load_pem_private_key(text.encode(), None)
    except TypeError:
        raise refused("is encrypted", "give it without passphrase: `openssl pkey -in KEY`; it is sealed here") from None
    except Exception:  # noqa: BLE001 - cryptography raises several kinds, and a parser's words may hold key material
        raise refused("is not a private key in PEM", "begin it with -----BEGIN PRIVATE KEY-----") from None
    return SecretStr(text.strip() + "\n")


class UpstreamTlsDocument(Document):
    """TLS towards the provider. PEM texts, not file names: they hold on every node, and in a backup."""

    ca: Annotated[str, AfterValidator(_pem)] | None = None
    """Authorities that are believed, in place of the system's."""
    cert: Annotated[str, AfterValidator(_pem)] | None = None
    """Our certificate, with its chain."""
    key: Annotated[SecretStr, AfterValidator(_pem_key)] | None = None
    """Its private key. Left out: the one that is stored stays."""
    server_name: Host | None = None
    """For SNI and the provider's certificate, in place of the base URL's host."""
    verify: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> "UpstreamTlsDocument":
        if self.key is not None and self.cert is None:
            raise refused("has no certificate", "add `cert`", "key")
        if not self.verify and self.ca is not None:
            raise refused("is not looked at without verification", "remove it, or `verify: false`", "ca")
        return self


def is_pair(cert: str, key: str) -> bool:
    """Whether the private key belongs to the first certificate."""
    mine = load_pem_private_key(key.encode(), None).public_key()
    return x509.load_pem_x509_certificates(cert.encode())[0].public_key() == mine


# ---- health


def _check_path(value: str) -> str:
    if not value.startswith("/") or "#" in value or not value.isascii() or not value.isprintable() or " " in value:
        raise refused(f"{value!r} is not a path", "begin it with /")
    return value


_USUAL: Final = HealthCheck(path="/")


class HealthDocument(Document):
    """An active check. The provider is well while `GET path` answers 2xx or 3xx in time."""

    path: Annotated[str, Field(max_length=1024), AfterValidator(_check_path)]
    """On the base URL's host, from its root; a query may follow."""
    interval: Duration = _USUAL.interval_s
    timeout: Duration = _USUAL.timeout_s
    healthy_after: int = Field(default=_USUAL.healthy_after, ge=1, le=100)
    """Good answers in a row."""
    unhealthy_after: int = Field(default=_USUAL.unhealthy_after, ge=1, le=100)
    """Bad ones in a row."""

    @model_validator(mode="after")
    def _not_too_often(self) -> "HealthDocument":
        if self.interval < 0.5:
            raise refused("is shorter than 500ms", "check less often", "interval")
        return self
