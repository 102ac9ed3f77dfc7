"""Options that several commands share, with their help."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.settings import Settings

HERE = "On this host"
THERE = "A running gateway elsewhere"

Data = Annotated[
    Path | None,
    typer.Option(
        help="The gateway's data folder. Default: SLUICEGATE_DATA, else /var/lib/sluicegate.",
        rich_help_panel=HERE,
        readable=False,  # of no matter yet: the agent, when it is upgraded, may read it no more
    ),
]
Database = Annotated[
    str | None, typer.Option(help="Its database, where settings do not name it.", rich_help_panel=HERE, metavar="URL")
]
Url = Annotated[
    str | None,
    typer.Option(
        envvar="SLUICEGATE_URL", help="Base URL, e.g. https://gateway.internal.", rich_help_panel=THERE, metavar="URL"
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="SLUICEGATE_TOKEN",
        help="A token that `sluicegate token create` made; better in the variable.",
        rich_help_panel=THERE,
        metavar="TOKEN",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_from(**options: Any) -> "Settings":
    """Settings with the options that were given; the rest comes from variables, sluicegate.toml and defaults."""
    from gateway.settings import Settings  # a quarter of a second that `--help` does not need

    given = {name: value for name, value in options.items() if value is not None}
    if "data" not in given and os.environ.get("SLUICEGATE_DATA"):
        given["data"] = Path(os.environ["SLUICEGATE_DATA"])
    # Absolute, because we may leave the working folder (`owner`).
    given |= {name: value.absolute() for name, value in given.items() if isinstance(value, Path)}
    return Settings(**given, options_given=("data", *given))
