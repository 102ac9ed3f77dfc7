"""Where a gateway with given settings is to be found from this host, and whether it answers there."""

import http.client
import json
import ssl
from dataclasses import dataclass

from gateway.listening import split_address
from gateway.settings import Settings

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `/readyz` said. `answers` is False where nobody listens."""

    answers: bool
    ready: bool
    reason: str


def data_plane_url(settings: Settings) -> str:
    """Base URL for callers on this host, without a slash at the end."""
    return _url(settings, settings.listen)


def console_url(settings: Settings) -> str:
    return _url(settings, settings.admin_listen or settings.listen) + "/console/"


def api_url(settings: Settings) -> str:
    """Base URL of REST API and health checks."""
    return _url(settings, settings.admin_listen or settings.listen)


def readiness(settings: Settings, *, timeout_s: float = 2.0) -> Readiness:
    """Ask `/readyz` on this host. Never raises for a gateway that is away."""
    host, port = _dialled(settings.admin_listen or settings.listen)
    connection: http.client.HTTPConnection
    if settings.tls_cert:
        # The certificate names the public host, not loopback; nothing secret is sent.
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=unverified)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(4096).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return Readiness(answers=False, ready=False, reason=str(error) or type(error).__name__)
    finally:
        connection.close()
    return Readiness(answers=True, ready=answer.status == 200, reason=_detail(text))


def _detail(text: str) -> str:
    """The sentence in a problem document (RFC 9457), or the text as it is."""
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text


def _url(settings: Settings, listen: str) -> str:
    host, port = _dialled(listen)
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _dialled(listen: str) -> tuple[str, int]:
    host, port = split_address(listen)
    return EVERYWHERE.get(host, host), port
