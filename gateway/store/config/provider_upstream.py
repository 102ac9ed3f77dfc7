"""How a provider is reached, between its row and its documents: proxy, TLS, health check, and the secrets of these."""

from typing import Any

from pydantic import SecretStr

from gateway.store.documents import ProviderDocument
from gateway.store.models import Provider, ProviderSecret
from gateway.store.sealing import Sealer
from gateway.store.upstream_documents import (
    PROXY_PASSWORD,
    TLS_KEY,
    HealthDocument,
    ProxyDocument,
    UpstreamTlsDocument,
)
from gateway.store.views import HealthView, ProxyView, UpstreamTlsView


def documents(row: Provider) -> dict[str, Any]:
    """The fields of `ProviderDocument`, without secrets."""
    proxy, tls, health = row.proxy, row.tls, row.health
    return {
        "proxy": None if proxy is None else ProxyDocument.model_construct(**proxy),
        "tls": None if tls is None else UpstreamTlsDocument.model_construct(**tls),
        "health": None if health is None else HealthDocument.model_construct(**health),
    }


def views(row: Provider) -> dict[str, Any]:
    """The fields of `ProviderView`."""
    known = {each.name for each in row.secrets}
    found = documents(row)
    proxy, tls, health = found["proxy"], found["tls"], found["health"]
    return {
        "proxy": proxy and ProxyView(url=proxy.url, user=proxy.user, has_password=PROXY_PASSWORD in known),
        "tls": tls
        and UpstreamTlsView(
            ca=tls.ca, cert=tls.cert, has_key=TLS_KEY in known, server_name=tls.server_name, verify=tls.verify
        ),
        "health": health and HealthView(**health.model_dump()),
    }


def fill(row: Provider, wanted: ProviderDocument) -> None:
    """Bring the row to `wanted`, but for the secrets."""
    proxy, tls, health = wanted.proxy, wanted.tls, wanted.health
    row.proxy = None if proxy is None else proxy.model_dump(exclude={"password"})
    row.tls = None if tls is None else tls.model_dump(exclude={"key"})
    row.health = None if health is None else health.model_dump()


def fill_secrets(row: Provider, wanted: ProviderDocument, sealer: Sealer) -> None:
    """Seal the secrets to the row, which has its id. A secret goes with what it belongs to."""
    proxy, tls = wanted.proxy, wanted.tls
    given: dict[str, SecretStr | None] = {}
    if proxy is not None and proxy.user is not None:
        given[PROXY_PASSWORD] = proxy.password
    if tls is not None and tls.cert is not None:
        given[TLS_KEY] = tls.key
    present = {each.name: each for each in row.secrets}
    secrets = []
    for name, value in given.items():
        secret = present.get(name)
        if value is not None:
            sealed = sealer.seal(value.get_secret_value(), row.id, f"/{name}")
            secret = secret or ProviderSecret(name=name)
            secret.sealed, secret.sealing_key_id = sealed.ciphertext, sealed.key_id
        if secret is not None:
            secrets.append(secret)
    row.secrets = secrets
