"""What `sluicegate audit verify` and `export` do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.cli import output
from gateway.cli.control import control
from gateway.cli.moments import back
from gateway.cli.options import settings_from
from gateway.cli.owner import as_owner
from gateway.cli.whole_file import whole_file
from gateway.errors import BadRequest


def verify(noted: str | None, json: bool, **place: Any) -> int:
    """The exit code: 0 = intact, 1 = tampered with."""
    verdict = control(**place).verify_audit(noted)
    if json:
        output.say(orjson.dumps(verdict, option=orjson.OPT_INDENT_2).decode())
    elif verdict["intact"]:
        output.note(f"the audit log is intact: {verdict['entries']:,} entries; the last one, to be kept elsewhere:")
        output.say(verdict["head"] or "none")
    else:
        output.complain(
            f"the audit log was tampered with: {verdict['problem']}",
            fix="compare with a backup or an earlier `sluicegate audit export`; what is before that entry is good",
        )
        output.say(f"first bad entry: {verdict['broken_at']}")
    return 0 if verdict["intact"] else 1


def export(wanted: dict[str, Any], file: Path, **place: Any) -> None:
    """Write what fits as JSON lines to `file` ("-": stdout)."""
    now = datetime.now(UTC)
    filters = {name: value for name, value in wanted.items() if value is not None}
    for written, name in (("from", "since"), ("to", "until")):
        if written in filters:
            filters[name] = back(filters.pop(written), now)

    def copy() -> None:
        count = 0
        for piece in control(**place).export_audit(filters):
            opened.write(piece)
            count += piece.count(b"\n")
        opened.flush()
        output.note(f"{count:,} entries written" + ("" if str(file) == "-" else f" to {file}"))

    with whole_file(file) as opened:
        if place["url"]:
            copy()
            return
        folder = settings_from(data=place["data"]).data
        if not folder.is_dir():
            raise BadRequest(f"there is no data folder at {folder}", fix="name it with --data, or a gateway (--url)")
        code = as_owner(folder, copy)  # the file is ours, the database the owner's
        if code != 0:
            raise SystemExit(code)
