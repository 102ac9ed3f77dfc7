"""What `sluicegate ca …` does: the gateway's certificate authority, and whether this host trusts it."""

import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.cli import output
from gateway.cli.control import Control, control
from gateway.cli.options import settings_from
from gateway.cli.owner import as_owner
from gateway.cli.trust_store import TrustStore
from gateway.errors import BadRequest, NotFound, SluicegateError
from gateway.store.authority import AuthorityView, MakeAction, concern

STORE = TrustStore()


def create(**place: Any) -> None:
    gateway = control(**place)
    existed = gateway.certificate_authority()["certificate"] is not None
    shown = AuthorityView.model_validate(gateway.make_certificate_authority(MakeAction.CREATE))
    if existed:
        output.note("there is a certificate authority already; nothing was changed")
        _warn(shown)
    _describe(shown)
    if not existed:
        output.note("made; let clients trust it: `sluicegate ca trust` on this host, `sluicegate ca export` for others")


def renew(*, new_key: bool, **place: Any) -> None:
    action = MakeAction.REPLACE if new_key else MakeAction.RENEW
    shown = AuthorityView.model_validate(control(**place).make_certificate_authority(action))
    _describe(shown)
    whom = (
        "no client trusts the new key" if new_key else "clients that trust the old certificate know the old hosts only"
    )
    output.note(f"{whom}: give them the new one (`sluicegate ca trust`, `sluicegate ca export`)")


def remove(**place: Any) -> None:
    control(**place).remove_certificate_authority()
    output.say("the certificate authority and its key are gone")
    output.note("TLS of all rules passes through; `sluicegate ca untrust` where the authority was trusted")


def export(file: Path | None, **place: Any) -> None:
    shown = _made(place)
    assert shown.certificate is not None
    if file is None or str(file) == "-":
        sys.stdout.write(shown.certificate)
        sys.stdout.flush()
    else:
        file.write_text(shown.certificate)
        file.chmod(0o644)  # every client has to read it
    _warn(shown)


def status(*, json: bool, **place: Any) -> int:
    """Exit code 0 where the authority does what the interception rules ask for, 1 where it does not."""
    item = control(**place).certificate_authority()
    shown = AuthorityView.model_validate(item)
    wrong = concern(shown, datetime.now(UTC))
    if json:
        output.say(orjson.dumps(item, option=orjson.OPT_INDENT_2).decode())
        return 0 if wrong is None else 1
    if shown.certificate is None:
        output.say("no certificate authority")
        if wrong is None:
            output.note("none is needed: no interception rule terminates TLS")
    else:
        _describe(shown)
        trusted = STORE.trusts(shown.name, shown.certificate)
        output.say(f"this host      {'trusts it' if trusted else 'does not trust it'}")
    if wrong is not None:
        output.complain(wrong.message, fix=wrong.fix)
    return 0 if wrong is None else 1


def trust(**place: Any) -> None:
    STORE.require_writable()
    shown = _made(place)
    assert shown.certificate is not None
    if STORE.trusts(shown.name, shown.certificate):
        path = STORE.place_of(shown.name)
        output.say(f"this host trusts {shown.name} already ({path})")
    else:
        path = STORE.put(shown.name, shown.certificate)
        output.say(f"this host trusts {shown.name} ({path})")
    _warn(shown)
    output.note(_runtimes(path))


def untrust(*, all_: bool, **place: Any) -> None:
    STORE.require_writable()
    for path in STORE.installed() if all_ else _trusted_of(place):
        STORE.take_out(path)
        output.say(f"this host no longer trusts {path.stem}")
        output.note("programs that run keep what they have read; take back what you set for the runtimes (ca trust)")


def _trusted_of(place: dict[str, Any]) -> list[Path]:
    """The file of the gateway's authority; where the gateway cannot tell, the only one there is."""
    installed = STORE.installed()
    if not installed:
        output.say("this host trusts no certificate authority of a Sluicegate")
        return []
    name = _name(place)
    if name is not None:
        path = STORE.place_of(name)
        if path not in installed:
            output.say(f"this host does not trust {name}")
            return []
        return [path]
    if len(installed) > 1:
        raise BadRequest(
            f"this host trusts several: {', '.join(path.stem for path in installed)}",
            fix="name the gateway (--data or --url), or take all out with --all",
        )
    return installed


def _name(place: dict[str, Any]) -> str | None:
    """Of the gateway's authority, removed or not; None where there is no gateway here any more."""
    if not place["url"]:
        settings = settings_from(data=place["data"], database=place["database"])
        if not settings.data.is_dir() or (
            settings.database is None and not (settings.data / "sluicegate.sqlite").exists()
        ):
            return None
    return AuthorityView.model_validate(_fetched(place, lambda gateway: gateway.certificate_authority())).name


def _made(place: dict[str, Any]) -> AuthorityView:
    """The authority, made now where there is none."""

    def ask(gateway: Control) -> dict[str, Any]:
        found = gateway.certificate_authority()
        return found if found["certificate"] is not None else gateway.make_certificate_authority(MakeAction.CREATE)

    return AuthorityView.model_validate(_fetched(place, ask))


def _fetched(place: dict[str, Any], ask: Callable[[Control], dict[str, Any]]) -> dict[str, Any]:
    """What the gateway answers. On its host it is asked as the data folder's owner, while we stay who we are: the file
    or the trust store that is written next is the caller's."""
    if place["url"]:
        return ask(control(**place))
    settings = settings_from(data=place["data"], database=place["database"])
    if not settings.data.is_dir():
        raise NotFound(
            f"there is no data folder at {settings.data}", fix="name it with --data, or a running gateway with --url"
        )
    with tempfile.TemporaryFile() as answer:  # a pipe would fill up

        def work() -> None:
            answer.write(orjson.dumps(ask(control(**place))))
            answer.flush()

        mask = os.umask(0o022)
        try:
            code = as_owner(settings.data, work)
        finally:
            os.umask(mask)
        if code != 0:
            raise SystemExit(code)
        answer.seek(0)
        found: dict[str, Any] = orjson.loads(answer.read())
    return found


def _describe(shown: AuthorityView) -> None:
    output.say(f"name           {shown.name}")
    output.say(f"fingerprint    {shown.fingerprint}")
    output.say(f"expires        {shown.expires_at:%Y-%m-%d}")
    output.say(f"signs for      {', '.join([*shown.permitted.hosts, *shown.permitted.cidrs])}")
    if shown.surplus:
        output.say(f"  of these no rule needs {', '.join(shown.surplus)}")
    output.say(f"rules          {', '.join(shown.rules) or 'none terminates TLS'}")


def _warn(shown: AuthorityView) -> None:
    wrong: SluicegateError | None = concern(shown, datetime.now(UTC))
    if wrong is not None:
        output.complain(wrong.message, fix=wrong.fix)


def _runtimes(path: Path) -> str:
    """Who reads this host's store, and what the others want (docs/interception-tls.md has more)."""
    return f"""\
read by what starts from now on: curl, wget, git, Go, Debian's Python without certifi, Debian's Java
not read by, and what to set there:
  Python: httpx, openai, …    SSL_CERT_FILE={STORE.bundle}
  Python: requests            REQUESTS_CA_BUNDLE={STORE.bundle}
  Node.js                     NODE_EXTRA_CA_CERTS={path}
  other Java                  keytool -importcert -noprompt -cacerts -storepass changeit -alias sluicegate -file {path}
  containers                  mount {path} and set the same variables inside
  Firefox, Chrome             import it under Certificates > Authorities"""
