"""`sluicegate import litellm`: convert, say what could not be carried over, write or apply."""

import sys
from pathlib import Path
from typing import Any

from gateway.cli import output
from gateway.cli.control import control
from gateway.cli.litellm.convert import convert
from gateway.cli.litellm.source import Remark
from gateway.cli.whole_file import whole_file
from gateway.errors import BadRequest


def litellm(file: str, *, to: Path | None, apply: bool, dry_run: bool, **place: Any) -> None:
    """Raises BadRequest where the file cannot be read as LiteLLM's, or nothing in it can be carried over."""
    if to is not None and apply:
        raise BadRequest("--output and --apply exclude each other", fix="write the file, look at it, then apply it")
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"{file} is not UTF-8 text", fix="save it as UTF-8") from None
    name = "stdin" if file == "-" else file
    converted = convert(text, file=Path(name).name)
    _tell(name, "carried over, but read this", converted.report.notes)
    _tell(name, "not carried over", converted.report.lost)
    routes = converted.document.get("routes", [])
    if not routes:
        raise BadRequest("no route could be carried over", fix="see what is said about each entry above")
    if apply or dry_run:
        _apply(name, converted.text, dry_run=dry_run, **place)
    elif to is None:
        output.say(converted.text.rstrip())
    else:
        with whole_file(to) as opened:
            opened.write(converted.text.encode())
    output.note(
        f"{len(converted.document.get('providers', []))} providers, {len(routes)} routes, "
        f"{len(converted.document.get('limits', []))} limits; {len(converted.report.lost)} settings not carried over"
    )
    if to is not None:
        output.note(f"look at {to}, then: sluicegate apply -f {to} --dry-run")


def _apply(name: str, text: str, *, dry_run: bool, **place: Any) -> None:
    done = control(**place).apply(f"(from {name})", text, dry_run=dry_run, prune=False)
    for change in done.changes:
        output.say(change)
    for made in done.made_keys:
        output.say(f"key {made.app}/{made.name}: {made.text}")


def _tell(file: str, heading: str, remarks: list[Remark]) -> None:
    if remarks:
        output.note(f"{heading}:")
        for remark in remarks:
            output.note(f"  {file}:{remark.line}: {remark.what}: {remark.text}")
