"""The picture of flows and the times to first tokens, from SQL to the finished JSON. Pure, like `store.report`.

A path is one way through the gateway: who called (process, or the key where none is known), app, route, target,
provider. What has no room is added up as `others`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from gateway.probes.histogram import lower_ns
from gateway.store.report import Fetch, Statement, shown_group

TOKEN_SUMS: Final = ("input_tokens", "output_tokens")
MOST_PAST: Final = 500
"""Findings of one picture, the largest first."""

Histograms: TypeAlias = dict[tuple[Any, ...], dict[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokenQuestion:
    statements: Sequence[Statement]
    """Each row: the groups, a bucket, how many answers."""
    groups: Sequence[str]
    kind: str = "first_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowQuestion:
    since: str
    until: str
    """Echoed."""
    paths: Sequence[Statement]
    """Each row: the names, then the sums."""
    names: Sequence[str]
    sums: Sequence[str]
    measure: str
    """What the largest paths are the largest by: `requests`, `tokens`, `cost` or `bytes`."""
    limit: int
    first_tokens: Sequence[Statement]
    """Each row: route, target, provider, bucket, answers."""
    first_tokens_before: Sequence[Statement]
    """The same of as much time before."""
    carried: Sequence[Statement]
    """Each row: route, target, bytes."""
    past: Sequence[Statement]
    """Each row: PAST, then the sums."""
    past_fields: Sequence[str]
    past_sums: Sequence[str]
    denials: Sequence[dict[str, Any]]
    """As they stand in the kernel: `{finding, process, user, container, provider, refused, …}`."""
    kernel: str | None
    """Why nothing is measured and found there; None = all is well."""
    kind: str = "flows"


def first_token_page(question: FirstTokenQuestion, fetch: Fetch) -> bytes:
    """`{items}`, in the groups' order."""
    items = []
    for group, histogram in sorted(_histograms(question.statements, len(question.groups), fetch).items()):
        shown = {name: shown_group(name, value) for name, value in zip(question.groups, group, strict=True)}
        items.append(shown | _percentiles(histogram))
    return orjson.dumps({"items": items, "next_cursor": None})


def flow_page(question: FlowQuestion, fetch: Fetch) -> bytes:
    """The whole picture as one object (`api.flows.Flows`)."""
    rows = _added(question.paths, len(question.names), fetch)
    paths = [dict(zip((*question.names, *question.sums), (*names, *sums), strict=True)) for names, sums in rows.items()]
    paths = [path for path in paths if path["requests"]]
    carried = {(row[0], row[1]): int(row[2]) for statement in question.carried for row in fetch(statement)}
    _share_out(paths, carried)
    paths.sort(key=lambda path: (-_size(path, question.measure), -path["requests"], *[path[n] for n in question.names]))
    shown, rest = paths[: question.limit], paths[question.limit :]
    for path in shown:
        path.update({name: path[name] or None for name in question.names})
    others = {name: sum(path[name] for path in rest) for name in question.sums if name != "bytes"}
    first_tokens, before = (
        _histograms(statements, 3, fetch) for statements in (question.first_tokens, question.first_tokens_before)
    )
    return orjson.dumps(
        {
            "from": question.since,
            "to": question.until,
            "paths": shown,
            "others": {"paths": len(rest), **others} if rest else None,
            "first_tokens": {
                "all": _compared(first_tokens, before, lambda _: "").get(""),
                "routes": _compared(first_tokens, before, lambda names: names[0]),
                "targets": _compared(first_tokens, before, lambda names: names[1]),
                "providers": _compared(first_tokens, before, lambda names: names[2]),
            },
            "past": _past(question, fetch),
            "kernel": question.kernel,
        }
    )


def _size(path: dict[str, Any], measure: str) -> int:
    match measure:
        case "tokens":
            return sum(path[name] for name in TOKEN_SUMS)
        case "cost":
            return int(path["cost_usd_micros"])
        case "bytes":
            return path["bytes"] or 0
        case _:
            return int(path["requests"])


def _share_out(paths: Iterable[dict[str, Any]], carried: dict[tuple[Any, ...], int]) -> None:
    """The kernel knows the bytes of a route and target, not whose they were: a path gets its part by tokens, or by
    requests where there are none. A tunnel knows its own."""
    parts: dict[tuple[Any, ...], list[int]] = {}
    for path in paths:
        part = parts.setdefault((path["route"], path["target"]), [0, 0])
        part[0] += _size(path, "tokens")
        part[1] += path["requests"]
    for path in paths:
        link = (path["route"], path["target"])
        path["bytes_estimated"] = not path["bytes"] and link in carried
        if path["bytes_estimated"]:
            tokens, requests = parts[link]
            mine, all_ = (_size(path, "tokens"), tokens) if tokens else (path["requests"], requests)
            path["bytes"] = carried[link] * mine // all_
        elif not path["bytes"]:
            path["bytes"] = None


def _past(question: FlowQuestion, fetch: Fetch) -> list[dict[str, Any]]:
    """What went past the gateway, and what was refused it."""
    denials = {denial["finding"]: denial for denial in question.denials if denial["finding"] is not None}
    found = []
    for statement in question.past:
        for row in fetch(statement):
            item = dict(zip((*question.past_fields, *question.past_sums), row, strict=True))
            denial = denials.get(item["finding"])
            item["refused"] = denial and denial["refused"]
            found.append(item)
    named = {item["finding"] for item in found}
    nothing = dict.fromkeys(question.past_sums, 0)
    found.extend(
        dict.fromkeys(question.past_fields) | denial | nothing
        for denial in question.denials
        if denial["finding"] is None or denial["finding"] not in named
    )
    found.sort(key=lambda item: (-item["bytes"], item["process"] or "", item["provider"] or ""))
    return found[:MOST_PAST]


def _compared(
    now: Histograms, before: Histograms, name_of: Callable[[tuple[Any, ...]], str]
) -> dict[str, dict[str, Any]]:
    """Percentiles by name, with those of the time before."""
    found: dict[str, dict[str, Any]] = {}
    past = _merged(before, name_of)
    for name, histogram in _merged(now, name_of).items():
        earlier = past.get(name)
        found[name] = _percentiles(histogram) | {"before": earlier and _percentiles(earlier)}
    return found


def _merged(histograms: Histograms, name_of: Callable[[tuple[Any, ...]], str]) -> dict[str, dict[int, int]]:
    merged: dict[str, dict[int, int]] = {}
    for names, histogram in histograms.items():
        into = merged.setdefault(name_of(names), {})
        for bucket, answers in histogram.items():
            into[bucket] = into.get(bucket, 0) + answers
    return merged


def _percentiles(histogram: dict[int, int]) -> dict[str, Any]:
    """In milliseconds. Within a bucket times are taken to lie evenly: by its middle, neighbours would look the same."""
    total = sum(histogram.values())
    return {f"p{percent}": _rank_ms(histogram, percent / 100 * total) for percent in (50, 95, 99)} | {"count": total}


def _rank_ms(histogram: dict[int, int], rank: float) -> float:
    seen = 0
    for bucket in sorted(histogram):
        answers = histogram[bucket]
        if seen + answers >= rank:
            lower, upper = lower_ns(bucket), lower_ns(bucket + 1)
            return round((lower + (upper - lower) * (rank - seen) / answers) / 1e6, 3)
        seen += answers
    raise ValueError("a histogram without counts has no ranks")


def _histograms(statements: Iterable[Statement], names: int, fetch: Fetch) -> Histograms:
    found: Histograms = {}
    for group, (answers,) in _added(statements, names + 1, fetch).items():
        found.setdefault(group[:-1], {})[int(group[-1])] = answers
    return found


def _added(statements: Iterable[Statement], names: int, fetch: Fetch) -> dict[tuple[Any, ...], list[int]]:
    """Groups that several statements give, added up."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for statement in statements:
        for row in fetch(statement):
            group, amounts = tuple(row[:names]), [int(amount) for amount in row[names:]]
            known = found.get(group)
            found[group] = (
                amounts if known is None else [one + other for one, other in zip(known, amounts, strict=True)]
            )
    return found
