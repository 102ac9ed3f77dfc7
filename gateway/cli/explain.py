"""`sluicegate explain`: what a running gateway says would happen to a request."""

from pathlib import Path
from typing import Any

import orjson

from gateway.cli import output
from gateway.cli.control import Item
from gateway.cli.remote import RemoteControl
from gateway.cli.top import entrance


def show(
    route: str,
    question: dict[str, Any],
    json: bool,
    *,
    url: str | None,
    token: str | None,
    data: Path | None,
    database: str | None,
) -> None:
    asked = {name: value for name, value in question.items() if value is not None}
    with entrance("explain", url, token, data, database) as (base, bearer):
        found = RemoteControl(base, bearer).explain(route, asked)
    if json:
        output.say(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    outcome = found["outcome"]
    status = "not known" if outcome["status"] is None else str(outcome["status"])
    output.say(f"{found['match']}; {found['access']}")
    output.say(f"answer: {status}" + (f" from {outcome['target']}" if outcome["target"] else f", {outcome['reason']}"))
    rows = [
        [target["target"], target["state"], _usd(target["cost_bound_usd"]), _room(target), "; ".join(target["reasons"])]
        for target in found["targets"]
    ]
    output.table(["target", "state", "USD at most", "limits", "why here"], rows, right=["USD at most"])
    for one in found["skipped"]:
        output.note(f"{one['target']} is not tried: it {one['reason']}")
    output.note(f"as worker {found['worker']['pid']} sees it, by configuration {found['worker']['generation']}")


def _usd(amount: float | None) -> str | None:
    return None if amount is None else f"{amount:.6f}"


def _room(target: Item) -> str:
    """Limits that have no room, or that all have."""
    full = [each["limit"] or "one of the gateway" for each in target["limits"] if each["admits"] is False]
    if full:
        return "no room in " + ", ".join(full)
    return "not known" if target["admits"] is None else f"{len(target['limits'])} have room"
