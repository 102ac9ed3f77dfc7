"""`sluicegate alerts`: on this host (--data) or over the REST API (--url, --token)."""

from enum import StrEnum
from typing import Annotated

import typer

from gateway.cli.options import Data, Database, Json, Token, Url

NARROW = "Which"


class KindName(StrEnum):
    """Of an alert."""

    EXEC = "exec"
    CONNECT = "connect"


def _only(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=f"Only this {what}.", rich_help_panel=NARROW, metavar="NAME")
    return option


def alerts(
    kind: Annotated[KindName | None, typer.Option(help="Only these.", rich_help_panel=NARROW)] = None,
    process: Annotated[str | None, _only("process")] = None,
    user: Annotated[str | None, _only("user, by name")] = None,
    container: Annotated[str | None, _only("container, by its short id")] = None,
    refused: Annotated[
        bool | None, typer.Option("--refused/--allowed", help="Whether the kernel refused it.", rich_help_panel=NARROW)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Since: RFC 3339, a date, or e.g. 1h ago.", rich_help_panel=NARROW),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, metavar="N", help="How many, at most.")] = 50,
    json: Json = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """What the gateway's own and watched processes did that they should not, the newest first.

    They execute programs, or connect to where the configuration does not lead. Who is watched: the setting `watched`.

    Examples:
      sluicegate alerts
      sluicegate alerts --kind connect --refused --since 1h
      sluicegate alerts --user www-data --json
    """
    from gateway.cli import alerts as deeds

    wanted = {
        "kind": None if kind is None else kind.value, "process": process, "user": user, "container": container,
        "refused": refused,
    }  # fmt: skip
    deeds.show(wanted, since, limit, json, url=url, token=token, data=data, database=database)
