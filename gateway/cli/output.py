"""What the commands print: tables and progress for people at a terminal, plain lines for everyone else.

Results go to stdout, everything about them (notes, progress, errors) to stderr, so that a pipe gets results alone.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

Cell = str | int | float | None


def at_terminal() -> bool:
    return sys.stdout.isatty()


def say(text: str = "") -> None:
    """One line of result. Stdout is flushed: a pipe's reader sees it at once."""
    print(text, flush=True)


def note(text: str) -> None:
    """One line beside the result."""
    print(text, file=sys.stderr, flush=True)


def fail(message: str, *, fix: str = "", code: int = 1) -> NoReturn:
    """End the command with the reason, and what mends it, on stderr."""
    complain(message, fix=fix)
    raise SystemExit(code)


def complain(message: str, *, fix: str = "") -> None:
    red, dim, off = ("\033[1;31m", "\033[2m", "\033[0m") if sys.stderr.isatty() else ("", "", "")
    note(f"{red}error:{off} {message}")
    if fix:
        note(f"{dim}  fix:{off} {fix}")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    title: str = "",
    right: Sequence[str] = (),
    total: Sequence[Cell] | None = None,
) -> None:
    """Print `rows` under `columns`: drawn at a terminal, else tab-separated with one heading line.

    `right` names the columns that hold figures, `total` is a last row set apart. None is shown as "-": unknown is
    never 0. What is in a cell may be of anybody's making, and a terminal obeys control characters: "?" is shown.
    """
    cells = [
        ["-" if cell is None else _shown(str(cell)) for cell in row]
        for row in [*rows, *([] if total is None else [total])]
    ]
    if not at_terminal():
        say("\t".join(columns))
        for row in cells:
            say("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for at, row in enumerate(cells):
        is_total = total is not None and at == len(rows)
        drawn.add_row(*(Text(cell) for cell in row), style="bold" if is_total else "", end_section=at == len(rows) - 1)
    Console().print(drawn)


def _shown(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def usd(microusd: int | None) -> str | None:
    """Micro-USD as dollars with all six places, "-" for an unknown price (None)."""
    return None if microusd is None else f"{microusd / 1_000_000:.6f}"


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step that may take seconds: a spinner at a terminal, a line elsewhere; ends in ✓ or ✗."""
    if not sys.stderr.isatty():
        note(f"{text} …")
        yield
        return
    from rich.console import Console

    console = Console(stderr=True)
    try:
        with console.status(text):
            yield
    except BaseException:
        console.print(f"[red]✗[/] {text}", highlight=False)
        raise
    console.print(f"[green]✓[/] {text}", highlight=False)
