"""Where a gateway's processes have reason to go, for the guard in the kernel (`gateway.probes.egress_maps`)."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.policy.codec import SnapshotDocument
from gateway.policy.egress import parse_destination
from gateway.settings import Settings

PORTS: Final = {"http": 80, "https": 443, "postgresql": 5432, "rediss": 6379, "redis": 6379, "valkey": 6379}
VARIABLES: Final = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
)  # fmt: skip
OTEL_DEFAULT: Final = ("localhost", 4318)
"""Where the exporter sends without a variable (OTLP/HTTP)."""


def egress_list(
    settings: Settings,
    document: SnapshotDocument,
    environment: Mapping[str, str] = os.environ,
    *,
    sign_on: Iterable[str] = (),
) -> dict[str, Any]:
    """The message. Providers, their proxies, what apps may reach by the forward proxy, where people sign in and teams'
    webhooks are (`sign_on`: URLs), and what settings and environment name."""
    urls = [row[3] for row in document["providers"]]
    urls += [row[7][0] for row in document["providers"] if row[7] is not None]
    urls += [settings.database, settings.alert_webhook, settings.notice_webhook, settings.smtp, *sign_on]
    urls += [environment.get(name) or environment.get(name.lower()) for name in VARIABLES]
    hosts = {place for url in urls if url and (place := place_of(url)) is not None}
    if settings.otel:
        hosts.add(OTEL_DEFAULT)
    networks: set[tuple[str, int]] = set()
    anywhere: set[int] = set()
    for entry in _entries(document):
        ports: Iterable[int] = (0,) if entry.ports is None else entry.ports
        for port in ports:
            if entry.network is not None:
                networks.add((str(entry.network), port))
            elif entry.is_pattern:
                anywhere.add(port)
            elif entry.host is not None:
                hosts.add((entry.host, port))
    return {
        "type": "egress",
        "guard": settings.egress_guard,
        "hosts": sorted(hosts),
        "networks": sorted(networks),
        "anywhere": sorted(anywhere),
    }


def place_of(url: str) -> tuple[str, int] | None:
    """Host and port; None for what names none, as SQLite's."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    scheme = parts.scheme.partition("+")[0]
    try:
        host, port = parts.hostname, parts.port or PORTS.get(scheme, 0)
    except ValueError:
        return None
    return None if not host else (host.rstrip("."), port)


def _entries(document: SnapshotDocument) -> Iterable[Any]:
    for row in document["apps"]:
        for text in row[6]:
            try:
                yield parse_destination(text)
            except ValueError:
                continue  # the workers do not go by it either
