"""Which HTTP proxy stands between us and a provider: the provider's own, else what the environment says.

`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, lower case first, read as curl reads them (curl(1),
"ENVIRONMENT"): `NO_PROXY` holds host names with their subdomains, addresses, networks, each with an optional port, or
`*`. As in Go, the environment never sends loopback through a proxy: what is on this host is not reached from elsewhere.
"""

import base64
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from gateway.policy.model import Proxy


class ProxyError(OSError):
    """The proxy cannot be used, or would not connect us."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class ProxyServer:
    """Where a proxy listens."""

    tls: bool
    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)
    """The value of Proxy-Authorization (RFC 9110 11.7.1)."""
    unusable: str = ""
    """Why it cannot be used; connecting then fails with these words rather than going past it."""

    @property
    def lines(self) -> bytes:
        return b"" if self.authorization is None else b"proxy-authorization: %b\r\n" % self.authorization


def proxy_server(url: str, user: str | None = None, password: str | None = None, source: str = "proxy") -> ProxyServer:
    """What the URL names, with or without its scheme; `source`: where it was written, for the error."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if parts.scheme not in ("http", "https") or not host:
        return ProxyServer(False, host, 0, unusable=f"{source} is not the URL of an HTTP proxy: http://HOST:PORT")
    if user is None and parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
    authorization = None
    if user is not None:
        authorization = b"Basic " + base64.b64encode(f"{user}:{password or ''}".encode())
    tls = parts.scheme == "https"
    return ProxyServer(tls, host, port or (443 if tls else 80), authorization)


class EnvironmentProxies:
    """The variables as they were when the process started."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        def read(name: str) -> tuple[str, str]:
            found = name if name in environment else name.upper()
            return found, environment.get(found, "").strip()

        self._by_scheme: dict[bool, ProxyServer | None] = {}
        for tls, name in ((False, "http_proxy"), (True, "https_proxy")):
            source, url = read(name)
            if not url:
                source, url = read("all_proxy")
            self._by_scheme[tls] = proxy_server(url, source=source) if url else None
        self._direct = [word for word in read("no_proxy")[1].replace(",", " ").split() if word]

    def of(self, host: str, port: int, *, tls: bool) -> ProxyServer | None:
        """The proxy towards this origin; None = none."""
        server = self._by_scheme[tls]
        if server is None or _loopback(host) or any(_names(entry, host, port) for entry in self._direct):
            return None
        return server


def choose(
    own: Proxy | None, environment: EnvironmentProxies, host: str, port: int, *, tls: bool
) -> ProxyServer | None:
    """The provider's own choice, which may be none, beats the environment."""
    if own is None:
        return environment.of(host, port, tls=tls)
    return None if own.url is None else proxy_server(own.url, own.user, own.password)


def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _names(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY covers the host."""
    if entry == "*":
        return True
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdigit() and (":" not in name or name.startswith("[")):
        if int(digits) != port:
            return False
        entry = name
    entry = entry.strip("[]").lower()
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except (ValueError, TypeError):
            return False
    entry = entry.removeprefix("*").removeprefix(".").removesuffix(".")
    host = host.lower().removesuffix(".")
    return bool(entry) and (host == entry or host.endswith("." + entry))
