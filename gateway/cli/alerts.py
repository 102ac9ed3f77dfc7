"""What `sluicegate alerts` does."""

import shlex
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.cli import output
from gateway.cli.control import Item, control
from gateway.cli.moments import back

COLUMNS: Final = ("at", "kind", "process", "pid", "user", "container", "what", "refused", "count", "why")
LONGEST: Final = 100


def show(wanted: dict[str, Any], since: str | None, limit: int, json: bool, **place: Any) -> None:
    asked = {name: value for name, value in wanted.items() if value is not None}
    if since is not None:
        asked["since"] = back(since, datetime.now(UTC))
    items = control(**place).alerts(asked, limit)
    if json:
        output.say(orjson.dumps(items, option=orjson.OPT_INDENT_2).decode())
        return
    output.table(COLUMNS, [_row(item) for item in items], right=("pid", "count"))
    if not items:
        output.note("no alert" + (" fits" if asked else "; they take the agent (`sluicegate doctor`)"))


def _row(item: Item) -> list[output.Cell]:
    return [item["at"][:19], item["kind"], _cut(item["process"]), item["pid"], item["user"], item["container"],
            _what(item), "yes" if item["refused"] else "no", item["count"], item["reason"]]  # fmt: skip


def _what(item: Item) -> str | None:
    if item["destination"] is not None:
        host = f"[{item['destination']}]" if ":" in item["destination"] else item["destination"]
        return host if item["port"] is None else f"{host}:{item['port']}"
    words = item["argv"] or ([item["executable"]] if item["executable"] else [])
    return _cut(" ".join(map(shlex.quote, words)))


def _cut(text: str | None) -> str | None:
    return None if not text else text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
