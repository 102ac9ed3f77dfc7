"""Who an intercepted request is charged to: the key that it shows, if it is one of ours, else whom its rule says: the
app of the first of its `callers` that fits the process (`policy.callers`), or its `app` where it has none.
"""

from gateway.dataplane.forwarding import KEY_HEADERS
from gateway.dataplane.identity import Caller, KeyExpired, Shown, identify
from gateway.dataplane.intercepted.flow import Flow
from gateway.dataplane.proxy_identity import NO_TEXT
from gateway.errors import Unauthenticated
from gateway.policy.callers import app_of
from gateway.policy.interception import WhoseCredential
from gateway.policy.model import Key, KeyId
from gateway.policy.snapshot import Snapshot


def caller_of(request: Shown, snapshot: Snapshot, flow: Flow, now_s: float) -> Caller | None:
    """None where it shows no key of ours and the rule charges nobody. A key of a provider is no key of ours. Raises
    KeyExpired for one of ours that is."""
    try:
        return identify(request, snapshot, now_s)
    except KeyExpired:
        raise
    except Unauthenticated:
        name = _charged(snapshot, flow)
        app = snapshot.apps.get(name) if name is not None else None
        if app is None:
            return None
        own = _credential_lines(request) if flow.rule.credential is WhoseCredential.CALLER else None
        return Caller(Key(id=KeyId(-app.id), name="", app=app), NO_TEXT, own)


def _charged(snapshot: Snapshot, flow: Flow) -> str | None:
    """Connections go on under the rule that caught them; but who is let in by what the kernel says, the rule of today
    decides: what it has taken back is taken back."""
    rule = flow.rule
    now = next((each for each in snapshot.interception if each.name == rule.name), None)
    if now is not None and now.callers:
        return app_of(now.callers, flow.attested)
    if rule.callers:
        return None if now is None else now.app
    return rule.app


def _credential_lines(request: Shown) -> bytes:
    return b"".join(b"%b: %b\r\n" % (name, value) for name, value in request.headers if name in KEY_HEADERS)
