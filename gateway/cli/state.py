"""What the commands about state do, wherever they do it, and how they say so."""

import getpass
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.cli import output
from gateway.cli.control import control
from gateway.cli.moments import ahead
from gateway.errors import BadRequest
from gateway.settings import Settings

KEY_COLUMNS = ("id", "app", "name", "begins", "expires", "made")
TOKEN_COLUMNS = ("id", "name", "role", "team", "scopes", "begins", "expires", "made by")


def apply(file: str, *, dry_run: bool, prune: bool, **place: Any) -> None:
    """Read the file as the caller, then apply it as whoever owns the gateway."""
    text = sys.stdin.read() if file == "-" else _read(file)
    done = control(**place).apply(file, text, dry_run=dry_run, prune=prune)
    for change in done.changes:
        output.say(change)
    if not done.changes:
        output.note("nothing to change")
    elif dry_run:
        output.note(f"{len(done.changes)} changes would be made; nothing was changed (--dry-run)")
    else:
        output.note(f"{len(done.changes)} changes made, in force within a second")
    for made in done.made_keys:
        output.say(f"key {made.app}/{made.name}: {made.text}")
    if done.made_keys:
        output.note("keys are shown this once")


def export(file: Path | None, **place: Any) -> None:
    opened = file.open("w", encoding="utf-8") if file else sys.stdout  # before we may become another user
    text = control(**place).export()
    with opened:
        opened.write(text)


def create_key(app: str, name: str | None, expires: str | None, **place: Any) -> None:
    expires_at = ahead(expires, datetime.now(UTC)) if expires else None
    made = control(**place).create_key(app=app, name=name, expires_at=expires_at)
    output.note(
        f"key {made['app']}/{made['name']} of team {made['team']}, {_until(made['expires_at'])}; shown this once:"
    )
    output.say(made["key"])


def list_keys(app: str | None, json: bool, **place: Any) -> None:
    keys = control(**place).keys(app)
    if json:
        output.say(orjson.dumps(keys, option=orjson.OPT_INDENT_2).decode())
        return
    rows = [[k["id"], k["app"], k["name"], _begins(k["prefix"]), k["expires_at"], _day(k["created_at"])] for k in keys]
    output.table(KEY_COLUMNS, rows, right=("id",))


def revoke_key(reference: str, **place: Any) -> None:
    control(**place).revoke_key(reference)
    output.say(f"key {reference} is revoked")


def create_token(
    role: str, team: str | None, name: str | None, expires: str | None, scopes: list[str] | None, **place: Any
) -> None:
    expires_at = ahead(expires, datetime.now(UTC)) if expires else None
    made = control(**place).create_token(role=role, team=team, name=name, expires_at=expires_at, scopes=scopes or None)
    whose = f" of team {made['team']}" if made["team"] else ""
    if made["scopes"]:
        whose += f", confined to {', '.join(made['scopes'])}"
    output.note(f"token {made['name']} with role {made['role']}{whose}, {_until(made['expires_at'])}; shown this once:")
    output.say(made["token"])


def list_tokens(json: bool, **place: Any) -> None:
    tokens = control(**place).tokens()
    if json:
        output.say(orjson.dumps(tokens, option=orjson.OPT_INDENT_2).decode())
        return
    rows = [
        [
            t["id"],
            t["name"],
            t["role"],
            t["team"],
            " ".join(t["scopes"] or ()) or None,
            _begins(t["prefix"]),
            t["expires_at"],
            t["created_by"],
        ]
        for t in tokens
    ]
    output.table(TOKEN_COLUMNS, rows, right=("id",))


def revoke_token(reference: str, **place: Any) -> None:
    control(**place).revoke_token(reference)
    output.say(f"token {reference} is revoked")


def set_password(user: str, **place: Any) -> None:
    """From a terminal, the environment, or made here."""
    given = os.environ.get("SLUICEGATE_ADMIN_PASSWORD")
    made = None
    if not given and sys.stdin.isatty():
        given = getpass.getpass(f"New password for {user}: ")
        if given != getpass.getpass("Again: "):
            raise BadRequest("the two passwords differ", fix="run it again")
    if not given:
        from gateway.store.passwords import random_text

        given = made = random_text(20)
    control(**place).set_password(user, given)
    output.note(f"{user} has a new password and is signed out everywhere" + ("; shown this once:" if made else ""))
    if made:
        output.say(made)


def bootstrap(settings: Settings) -> None:
    from gateway.cli.host import HostControl

    password = HostControl(settings, upgrade=True).ensure_owner(os.environ.get("SLUICEGATE_ADMIN_PASSWORD") or None)
    if password is not None:
        output.say(password)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"{file} is not UTF-8 text", fix="save it as UTF-8") from None


def _until(expires_at: str | None) -> str:
    return f"until {expires_at}" if expires_at else "without end"


def _begins(prefix: str) -> str | None:
    return f"{prefix}…" if prefix else None


def _day(moment: str) -> str:
    return moment[:10]
