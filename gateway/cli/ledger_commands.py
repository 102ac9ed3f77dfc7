"""`sluicegate ledger …`: the requests themselves, on this host (--data) or over the REST API (--url, --token)."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import Data, Database, Token, Url

ledger_app = typer.Typer(no_args_is_help=True, help="The ledger, one row a request: list, export, prune.")


class FormatName(StrEnum):
    """`gateway.store.ledger_files.Format`, written again so that `--help` needs no import of it; a test compares."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


NARROW = "Which rows"


def _only(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=f"Only this {what}.", rich_help_panel=NARROW, metavar="NAME")
    return option


Since = Annotated[
    str | None,
    typer.Option("--from", metavar="WHEN", help="RFC 3339, a date, or e.g. 7d ago.", rich_help_panel=NARROW),
]
Until = Annotated[
    str | None, typer.Option("--to", metavar="WHEN", help="Begun before this. Default: now.", rich_help_panel=NARROW)
]
Team = Annotated[str | None, _only("team")]
App = Annotated[str | None, _only("app")]
Key = Annotated[str | None, _only("key")]
RouteName = Annotated[str | None, _only("route")]
Target = Annotated[str | None, _only("target (provider/model)")]
Provider = Annotated[str | None, _only("provider")]
Model = Annotated[str | None, _only("model")]
OutcomeName = Annotated[
    str | None,
    typer.Option(
        help="completed, client_gone, upstream_failed, refused or interrupted.", rich_help_panel=NARROW, metavar="NAME"
    ),
]
Status = Annotated[int | None, typer.Option(help="Only this HTTP status.", rich_help_panel=NARROW, metavar="CODE")]


@ledger_app.command("list")
def ledger_list(
    since: Since = None,
    until: Until = None,
    team: Team = None,
    app: App = None,
    key: Key = None,
    route: RouteName = None,
    target: Target = None,
    provider: Provider = None,
    model: Model = None,
    outcome: OutcomeName = None,
    status: Status = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, metavar="N", help="How many, at most.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with every column.")] = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """The newest requests that fit.

    Examples:
      sluicegate ledger list --app indexer
      sluicegate ledger list --from 1h --outcome upstream_failed
    """
    from gateway.cli import ledger

    wanted = {
        "from": since,
        "to": until,
        "team": team,
        "app": app,
        "key": key,
        "route": route,
        "target": target,
        "provider": provider,
        "model": model,
        "outcome": outcome,
        "status": status,
    }
    ledger.show(wanted, limit, json, url=url, token=token, data=data, database=database)


@ledger_app.command("export")
def ledger_export(
    since: Since = None,
    until: Until = None,
    team: Team = None,
    app: App = None,
    key: Key = None,
    route: RouteName = None,
    target: Target = None,
    provider: Provider = None,
    model: Model = None,
    outcome: OutcomeName = None,
    status: Status = None,
    format: Annotated[  # noqa: A002
        FormatName | None, typer.Option("--format", help="Default: by the file's ending, else csv.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Has its name once it is whole; `-` is stdout.")
    ] = Path("-"),
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Write requests to a file, oldest first, every column, while the gateway serves.

    Times are UTC, costs whole micro-USD, absent values empty (CSV) or null. In CSV
    a text that a spreadsheet would run as a formula (=, +, -, @ …) gets an
    apostrophe in front; JSON lines and Parquet hold it as it is.

    Examples:
      sluicegate ledger export --from 2026-11-01 --to 2026-12-01 -o november.parquet
      sluicegate ledger export --team search --from 7d -o search.csv
      sluicegate ledger export --format jsonl --from 1d | jq .cost_usd_micros
    """
    from gateway.cli import ledger

    wanted = {
        "from": since,
        "to": until,
        "team": team,
        "app": app,
        "key": key,
        "route": route,
        "target": target,
        "provider": provider,
        "model": model,
        "outcome": outcome,
        "status": status,
    }
    ledger.export(wanted, format, output, url=url, token=token, data=data, database=database)


@ledger_app.command("prune")
def ledger_prune(
    before: Annotated[
        str, typer.Option("--before", metavar="WHEN", help="RFC 3339, a date, or e.g. 90d ago; down to the full hour.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: Data = None,
    database: Database = None,
) -> None:
    """Remove old requests for good, in small batches, while the gateway serves.

    Usage by hour and the state of limits and budgets stay as they are. To have it
    done all the time set `ledger_retention = "400d"` in sluicegate.toml.

    Examples:
      sluicegate ledger prune --before 400d --dry-run
      sluicegate ledger prune --before 2026-01-01 --yes
    """
    from gateway.cli import ledger

    ledger.prune(before, dry_run=dry_run, ask=not yes, data=data, database=database)
