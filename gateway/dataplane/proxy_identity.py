"""Whose a connection to the forward proxy is: by a key in `Proxy-Authorization`, or by where it comes from."""

import base64
import binascii
from hashlib import sha256

from gateway.dataplane.identity import Caller, check_expiry
from gateway.dataplane.request import Request
from gateway.errors import SluicegateError, Unauthenticated, Unavailable
from gateway.policy.model import Key, KeyId
from gateway.policy.snapshot import Snapshot

HOW = "set HTTPS_PROXY=http://any:KEY@HOST:PORT with a key of this gateway, or name your network in an app's `sources`"
CHALLENGE = b'proxy-authenticate: Basic realm="sluicegate", charset="UTF-8"\r\n'
NO_TEXT = b"\0"
"""What stands in no header."""


class ProxyAuthenticationRequired(SluicegateError):
    status, code = 407, "proxy_authentication_required"


def identify_proxied(request: Request, snapshot: Snapshot, client_ip: str, now_s: float) -> Caller:
    """Raises ProxyAuthenticationRequired, which never repeats what was sent."""
    shown = request.header(b"proxy-authorization")
    if shown is not None:
        for text in _keys_in(shown):
            key = snapshot.keys.get(sha256(text).digest())
            if key is not None:
                try:
                    return Caller(check_expiry(key, now_s), text)
                except Unauthenticated as error:
                    raise ProxyAuthenticationRequired(error.message, fix=error.fix) from None
    else:
        name = snapshot.sources.app_at(client_ip)
        if name is not None:
            app = snapshot.apps[name]
            return Caller(Key(id=KeyId(-app.id), name="", app=app), NO_TEXT)
    if snapshot.generation == 0:
        raise Unavailable("the gateway has not loaded its configuration yet", fix="try again shortly", retry_after_s=1)
    if shown is not None:
        raise ProxyAuthenticationRequired("the key in Proxy-Authorization is not known here", fix=HOW)
    raise ProxyAuthenticationRequired("no key was sent in Proxy-Authorization", fix=HOW)


def _keys_in(shown: bytes) -> list[bytes]:
    """What may be the key: a bearer token; the password of Basic, or its user where there is no password."""
    scheme, _, text = shown.partition(b" ")
    text = text.strip()
    if scheme.lower() == b"bearer":
        return [text] if text else []
    if scheme.lower() != b"basic":
        return []
    try:
        user, _, password = base64.b64decode(text, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return []
    return [each for each in (password or user,) if each]
