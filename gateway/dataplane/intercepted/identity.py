"""Who an intercepted request is charged to: the key that it shows, if it is one of ours, else the rule's app."""

from gateway.dataplane.forwarding import KEY_HEADERS
from gateway.dataplane.identity import Caller, KeyExpired, Shown, identify
from gateway.dataplane.proxy_identity import NO_TEXT
from gateway.errors import Unauthenticated
from gateway.policy.interception import InterceptionRule, WhoseCredential
from gateway.policy.model import Key, KeyId
from gateway.policy.snapshot import Snapshot


def caller_of(request: Shown, snapshot: Snapshot, rule: InterceptionRule, now_s: float) -> Caller | None:
    """None where it shows no key of ours and the rule charges nobody. A key of a provider is no key of ours. Raises
    KeyExpired for one of ours that is."""
    try:
        return identify(request, snapshot, now_s)
    except KeyExpired:
        raise
    except Unauthenticated:
        app = snapshot.apps.get(rule.app) if rule.app is not None else None
        if app is None:
            return None
        own = _credential_lines(request) if rule.credential is WhoseCredential.CALLER else None
        return Caller(Key(id=KeyId(-app.id), name="", app=app), NO_TEXT, own)


def _credential_lines(request: Shown) -> bytes:
    return b"".join(b"%b: %b\r\n" % (name, value) for name, value in request.headers if name in KEY_HEADERS)
