"""The picture that `sluicegate top` draws, with rich: groups in the window above, the newest requests below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.top_figures import NO_KERNEL, Figures, Kernel, Row, Window, in_order, is_error, percentile, total

KEYS_LINE: Final = "g group   s sort   q quit"
FEWEST_GROUPS: Final = 3
FEWEST_REQUESTS: Final = 5
CHROME_LINES: Final = 14
"""Heading, table heads and lines between."""
WIDE_COLUMNS: Final = 110
CALLERS_COLUMNS: Final = 140
CALLERS: Final = 3
HEADINGS: Final = ("started", "app", "route", "target", "status", "in", "out", "USD", "first", "total")
NARROW: Final = ("started", "app", "route", "status", "in", "out", "total")


@dataclass(slots=True)
class Choice:
    """What is to be seen, changed by keys."""

    group_by: str
    sort: str


def screen(
    window: Window,
    choice: Choice,
    in_flight: Sequence[Row],
    kernel: Mapping[str, Kernel],
    kernel_missing: str | None,
    url: str,
    now_s: float,
    width: int,
    height: int,
) -> Group:
    """`kernel`: by group, where it tells these apart; `kernel_missing`: why it says nothing at all."""
    parts = in_order(window.figures(choice.group_by, now_s, in_flight), choice.sort)
    covered_s = window.covered_s(now_s)
    room = max(FEWEST_GROUPS + FEWEST_REQUESTS, height - CHROME_LINES)
    shown = min(len(parts), room - FEWEST_REQUESTS)
    rows = [row for _, row in list(window.rows)[-(room - shown) :]][::-1]
    wide = width >= WIDE_COLUMNS
    pieces: list[RenderableType] = [
        _heading(window, total(parts), covered_s, url),
        _groups(parts[:shown], len(parts) - shown, choice, covered_s, kernel, width),
        _requests(rows, wide=wide),
        _footer(window, choice, kernel_missing, wide=wide),
    ]
    return Group(*pieces)


def _heading(window: Window, whole: Figures, covered_s: float, url: str) -> Text:
    text = Text()
    text.append("sluicegate", style="bold cyan")
    text.append(f"  {url}   the last {covered_s:.0f} s\n", style="dim")
    share = whole.error_share
    for value, unit, style in (
        (f"{whole.requests / covered_s:,.1f}", "req/s", "bold"),
        (f"{whole.in_flight:,}", "in flight", "bold"),
        (f"{whole.tokens / covered_s:,.0f}", "tokens/s", "bold"),
        (f"${whole.cost_microusd * 60 / covered_s / 1e6:,.4f}", "/min", "bold"),
        ("-" if share is None else f"{share:.1%}", "errors", "bold red" if share else "bold"),
        (_ms(percentile(whole.ttft_ms, 0.5)), "first token", "bold"),
    ):
        text.append(value, style=style)
        text.append(f" {unit}   ", style="dim")
    if whole.unpriced:
        text.append(f"\n{whole.unpriced} requests have no known price and are not in the cost", style="yellow")
    if window.gaps:
        text.append("\nsome requests are missing here: more ended than the feed shows", style="yellow")
    return text


def _groups(
    parts: Sequence[Figures], more: int, choice: Choice, covered_s: float, kernel: Mapping[str, Kernel], width: int
) -> Table:
    wide = width >= WIDE_COLUMNS
    with_kernel = wide and bool(kernel)
    table = Table(box=box.SIMPLE_HEAD, expand=True, header_style="bold", padding=(0, 1))
    columns = {
        choice.group_by: "name", "req/s": "requests", "flying": "in-flight", "tok/s": "tokens", "$/min": "cost",
        "errors": "errors", "first": "ttft",
    }  # fmt: skip
    if wide:
        columns |= {"p95": "", "total": ""}
    if with_kernel:
        columns |= {"rtt": "", "gap": "", "resent": ""}
    with_callers = width >= CALLERS_COLUMNS
    if with_callers:
        columns |= {"callers": ""}
    for heading, sort in columns.items():
        sorted_by = sort == choice.sort
        is_name = heading == choice.group_by
        table.add_column(
            f"{heading} ▾" if sorted_by else heading,
            justify="left" if is_name or heading == "callers" else "right",
            no_wrap=True,
            overflow="ellipsis",
            header_style="bold cyan" if sorted_by else "bold",
            ratio=1 if is_name else None,
            min_width=16 if is_name else None,
        )
    for each in parts:
        share = each.error_share
        figures: list[str | Text] = [
            f"{each.requests / covered_s:,.1f}",
            f"{each.in_flight:,}" if each.in_flight else "·",
            f"{each.tokens / covered_s:,.0f}",
            f"{each.cost_microusd * 60 / covered_s / 1e6:,.4f}",
            Text("·" if not share else f"{share:.1%}", style="red" if share else "dim"),
            _ms(percentile(each.ttft_ms, 0.5)),
        ]
        if wide:
            figures += [_ms(percentile(each.ttft_ms, 0.95)), _ms(percentile(each.latency_ms, 0.5))]
        if with_kernel:
            known = kernel.get(each.name, NO_KERNEL)
            resent = known.retransmits
            figures += [_ms(known.rtt_ms), _ms(known.token_gap_ms)]
            figures.append(Text("-" if resent is None else str(resent), style="red" if resent else "dim"))
        if with_callers:
            figures.append(", ".join(name for name, _ in each.callers.most_common(CALLERS)))
        table.add_row(Text(each.name, overflow="ellipsis"), *figures)
    if more > 0:
        table.add_row(Text(f"… and {more} more", style="dim"))
    if not parts:
        table.add_row(Text("nothing yet", style="dim"))
    return table


def _requests(rows: Sequence[Row], *, wide: bool) -> Table:
    """The newest requests; a narrow terminal has room for half of what is known."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, header_style="dim", padding=(0, 1))
    shown = range(len(HEADINGS)) if wide else [HEADINGS.index(name) for name in NARROW]
    for at in shown:
        heading = HEADINGS[at]
        is_name = heading in ("app", "route", "target")
        table.add_column(
            heading,
            justify="left" if is_name or not at else "right",
            no_wrap=True,
            overflow="ellipsis",
            ratio={"target": 2}.get(heading, 1) if is_name else None,
            min_width=8 if is_name or not at else None,
        )
    for row in rows:
        known = cells(row)
        style = "red" if is_error(row) else ""
        table.add_row(*(Text("-" if known[at] is None else str(known[at])) for at in shown), style=style)
    return table


def _footer(window: Window, choice: Choice, kernel_missing: str | None, *, wide: bool) -> Text:
    parts = [KEYS_LINE, f"{window.seen:,} requests seen, {window.failed:,} failed"]
    if wide:
        parts.insert(1, f"by {choice.group_by}, in the order of {choice.sort}")
    if kernel_missing is not None and wide:
        parts.append(f"kernel: {kernel_missing}")
    return Text("      ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")


def cells(row: Row) -> list[Any]:
    """One request, as the columns have it; None = unknown."""
    cost = row["cost_usd_micros"]
    return [
        str(row["started_at"])[11:19],
        row["app"],
        row["route"],
        row["target"],
        row["status"],
        row["input_tokens"],
        row["output_tokens"],
        None if cost is None else f"{cost / 1e6:.6f}",
        None if row["ttft_ms"] is None else _ms(row["ttft_ms"]),
        None if row["latency_ms"] is None else _ms(row["latency_ms"]),
    ]


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"
