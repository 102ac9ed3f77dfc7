"""`sluicegate usage`: sums of the ledger, as a table or JSON."""

from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.cli import output
from gateway.cli.control import Item, control
from gateway.cli.moments import back
from gateway.errors import BadRequest

GROUPS: Final = ("team", "app", "key", "route", "target", "provider", "model", "day", "hour")
SUMS: Final = ("requests", "input_tokens", "output_tokens", "cost_usd_micros")
HEADINGS: Final = {"input_tokens": "tokens in", "output_tokens": "tokens out", "cost_usd_micros": "USD"}


def show(group_by: str, since: str, until: str | None, json: bool, **place: Any) -> None:
    groups = [word.strip() for word in group_by.split(",") if word.strip()]
    for word in groups:
        if word not in GROUPS:
            raise BadRequest(f"cannot group by {word!r}", fix=f"use some of {', '.join(GROUPS)}")
    now = datetime.now(UTC)
    items = control(**place).usage(groups, back(since, now), back(until, now) if until else None)
    if json:
        output.say(orjson.dumps(items, option=orjson.OPT_INDENT_2).decode())
        return
    figures = [HEADINGS.get(name, name) for name in SUMS]
    rows = [[*(item[group] for group in groups), *_figures(item)] for item in items]
    if len(items) > 1:
        total = {name: sum(item[name] or 0 for item in items) for name in SUMS}
        rows.append([*(["total"] + [""] * (len(groups) - 1) if groups else []), *_figures(total)])
    output.table([*groups, *figures], rows, right=figures)
    unpriced = sum(item.get("unpriced") or 0 for item in items)
    if unpriced:
        output.note(f"{unpriced} requests have no known price and are not in the cost; see `prices` in sluicegate.yaml")
    if not items:
        output.note("nothing was used in this time")


def _figures(item: Item) -> list[output.Cell]:
    return [item["requests"], item["input_tokens"], item["output_tokens"], output.usd(item["cost_usd_micros"])]
