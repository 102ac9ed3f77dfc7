"""`sluicegate usage`: sums of the ledger, as a table, CSV or JSON."""

import csv
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.cli import output
from gateway.cli.control import Item, control
from gateway.cli.moments import back
from gateway.errors import BadRequest

GROUPS: Final = ("team", "app", "key", "route", "target", "provider", "model", "day", "hour")
SUMS: Final = ("requests", "errors", "input_tokens", "output_tokens", "cost_usd_micros")
ALL_SUMS: Final = (
    "requests", "errors", "unpriced", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_usd_micros",
)  # fmt: skip
SORTS: Final = {
    "requests": "requests", "errors": "errors", "input": "input_tokens", "output": "output_tokens",
    "cost": "cost_usd_micros",
}  # fmt: skip
HEADINGS: Final = {"input_tokens": "tokens in", "output_tokens": "tokens out", "cost_usd_micros": "USD"}


def show(
    group_by: str, since: str, until: str | None, *, json: bool, as_csv: bool, sort: str | None, **place: Any
) -> None:
    groups = [word.strip() for word in group_by.split(",") if word.strip()]
    for word in groups:
        if word not in GROUPS:
            raise BadRequest(f"cannot group by {word!r}", fix=f"use some of {', '.join(GROUPS)}")
    if sort is not None and sort not in SORTS:
        raise BadRequest(f"cannot sort by {sort!r}", fix=f"use one of {', '.join(SORTS)}")
    if json and as_csv:
        raise BadRequest("--json and --csv exclude each other", fix="leave one of them out")
    now = datetime.now(UTC)
    items = control(**place).usage(groups, back(since, now), back(until, now) if until else None)
    if sort is not None:
        items.sort(key=lambda item: -(item[SORTS[sort]] or 0))
    if json:
        output.say(orjson.dumps(items, option=orjson.OPT_INDENT_2).decode())
    elif as_csv:
        _print_csv(groups, items)
    else:
        _print_table(groups, items)
    unpriced = sum(item.get("unpriced") or 0 for item in items)
    if unpriced:
        output.note(f"{unpriced} requests have no known price and are not in the cost; see `prices` in sluicegate.yaml")
    if not items:
        output.note("nothing was used in this time")


def _print_csv(groups: Sequence[str], items: Sequence[Item]) -> None:
    """RFC 4180, with one heading line; an unknown name is empty."""
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow([*groups, *ALL_SUMS])
    writer.writerows([[_guarded(item[name]) for name in groups] + [item[name] for name in ALL_SUMS] for item in items])
    sys.stdout.flush()


def _guarded(value: object) -> object:
    """A name that a spreadsheet would run as a formula stays text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _print_table(groups: Sequence[str], items: Sequence[Item]) -> None:
    figures = [HEADINGS.get(name, name) for name in SUMS]
    rows = [[*(item[group] for group in groups), *_figures(item)] for item in items]
    total = None
    if len(items) > 1:
        sums: Item = {name: sum(item[name] or 0 for item in items) for name in SUMS}
        total = [*(["total"] + [""] * (len(groups) - 1) if groups else []), *_figures(sums)]
    output.table([*groups, *figures], rows, right=figures, total=total)


def _figures(item: Item) -> list[output.Cell]:
    """Figures that people read have their thousands apart; what goes into a pipe has not."""
    counts: list[output.Cell] = [item[name] for name in SUMS[:-1]]
    if output.at_terminal():
        counts = [None if count is None else f"{count:,}" for count in counts]
    return [*counts, output.usd(item["cost_usd_micros"])]
