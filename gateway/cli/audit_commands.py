"""`sluicegate audit …`: on this host (--data) or over the REST API (--url, --token)."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import Data, Database, Json, Token, Url

audit_app = typer.Typer(no_args_is_help=True, help="The audit log, who changed what: verify, export.")

NARROW = "Which entries"


def _only(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=f"Only {what}.", rich_help_panel=NARROW, metavar="NAME")
    return option


@audit_app.command("verify")
def audit_verify(
    noted: Annotated[
        str | None,
        typer.Option(metavar="SEQ:HASH", help="What an earlier run printed: proves that nothing before was rewritten."),
    ] = None,
    json: Json = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Whether the log is as it was written: nothing altered, removed or put in, its end still there.

    Prints the last entry's number and hash. Keep them outside this host: given
    to a later run they find out even who rewrote the whole log. Exit code 1, and
    the first bad entry, where the log was tampered with.

    Examples:
      sluicegate audit verify
      sluicegate audit verify --noted 1204:9f86d081884c7d65…
    """
    from gateway.cli import audit

    raise typer.Exit(audit.verify(noted, json, url=url, token=token, data=data, database=database))


@audit_app.command("export")
def audit_export(
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="WHEN", help="RFC 3339, a date, or e.g. 7d ago.", rich_help_panel=NARROW),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="WHEN", help="Before this. Default: now.", rich_help_panel=NARROW)
    ] = None,
    actor: Annotated[str | None, _only("by this actor, e.g. user:admin")] = None,
    action: Annotated[str | None, _only("of this action, e.g. create, sign-in")] = None,
    kind: Annotated[str | None, _only("about this kind, e.g. route, key, user")] = None,
    name: Annotated[str | None, _only("about the thing of this name")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Has its name once it is whole; `-` is stdout.")
    ] = Path("-"),
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Write entries as JSON lines, oldest first, with the hashes that chain them.

    Examples:
      sluicegate audit export -o audit.jsonl
      sluicegate audit export --actor user:admin --from 30d | jq .name
    """
    from gateway.cli import audit

    wanted = {"from": since, "to": until, "actor": actor, "action": action, "kind": kind, "name": name}
    audit.export(wanted, output, url=url, token=token, data=data, database=database)
