"""Commands about what the gateway serves: on this host (--data), or over the REST API (--url, --token)."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.alert_commands import alerts
from gateway.cli.audit_commands import audit_app
from gateway.cli.ca_commands import ca_app
from gateway.cli.discovery_commands import denials_app, discoveries_app
from gateway.cli.import_commands import import_app
from gateway.cli.ledger_commands import ledger_app
from gateway.cli.options import Data, Database, Json, Token, Url, settings_from


class RoleName(StrEnum):
    """`gateway.policy.roles.Role`, written again so that `--help` needs no import of it; a test compares the two."""

    OWNER = "owner"
    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"
    TEAM_ADMIN = "team-admin"
    TEAM_MEMBER = "team-member"


When = Annotated[
    str | None, typer.Option("--expires", metavar="WHEN", help="RFC 3339, a date, or e.g. 30d, 12h. Default: never.")
]


def add_state_commands(app: typer.Typer, state_panel: str, care_panel: str) -> None:
    """Put the commands into `app`, under these headings of its help."""
    app.command(rich_help_panel=state_panel)(apply)
    app.command(rich_help_panel=state_panel)(export)
    app.add_typer(import_app, name="import", rich_help_panel=state_panel)
    app.add_typer(key_app, name="key", rich_help_panel=state_panel)
    app.add_typer(token_app, name="token", rich_help_panel=state_panel)
    app.add_typer(user_app, name="user", rich_help_panel=state_panel)
    app.command(rich_help_panel=state_panel)(usage)
    app.command(rich_help_panel=state_panel)(top)
    app.command(rich_help_panel=state_panel)(explain)
    app.add_typer(ca_app, name="ca", rich_help_panel=state_panel)
    app.add_typer(ledger_app, name="ledger", rich_help_panel=state_panel)
    app.add_typer(discoveries_app, name="discoveries", rich_help_panel=state_panel)
    app.add_typer(denials_app, name="denials", rich_help_panel=state_panel)
    app.command(rich_help_panel=state_panel)(alerts)
    app.add_typer(audit_app, name="audit", rich_help_panel=care_panel)
    app.add_typer(prices_app, name="prices", rich_help_panel=care_panel)
    app.command(hidden=True)(address)


def apply(
    file: Annotated[str, typer.Option("--file", "-f", metavar="FILE", help="sluicegate.yaml; `-` reads stdin.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change, change nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete what the file does not name.")] = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Bring the gateway to the state that a file describes, in one transaction.

    Prints each create, change and delete; a second time there is nothing to do.
    Keys without a value are made and printed once. ${NAME} is the environment's.
    Bad input changes nothing; every fault is named with line, field and remedy.

    Examples:
      sluicegate apply -f sluicegate.yaml --dry-run
      OPENAI_API_KEY=… sluicegate apply -f sluicegate.yaml
      sluicegate apply -f sluicegate.yaml --url https://gateway.internal
    """
    from gateway.cli import state

    state.apply(file, dry_run=dry_run, prune=prune, url=url, token=token, data=data, database=database)


def export(
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: stdout.")] = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Write the gateway's state in the format of `apply`, secrets as references.

    Example:
      sluicegate export > sluicegate.yaml
    """
    from gateway.cli import state

    state.export(output, url=url, token=token, data=data, database=database)


key_app = typer.Typer(no_args_is_help=True, help="API keys: what apps call the gateway with.")


@key_app.command("create")
def key_create(
    app: Annotated[str, typer.Option(metavar="APP", help="Whose key it is.")],
    name: Annotated[str | None, typer.Option(help="Default: made up.")] = None,
    expires: When = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Make a key and print it, this once, alone on the last line.

    Examples:
      sluicegate key create --app indexer --name ci --expires 90d
      KEY=$(sluicegate key create --app indexer | tail -1)
    """
    from gateway.cli import state

    state.create_key(app, name, expires, url=url, token=token, data=data, database=database)


@key_app.command("list")
def key_list(
    app: Annotated[str | None, typer.Option(metavar="APP", help="Only this app's.")] = None,
    json: Json = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """List keys: how each begins, never the key.

    Example:
      sluicegate key list --app indexer
    """
    from gateway.cli import state

    state.list_keys(app, json, url=url, token=token, data=data, database=database)


@key_app.command("revoke")
def key_revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id, APP/NAME, or the name where only one is so named.")],
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Make a key worthless, in every worker within a second.

    Example:
      sluicegate key revoke indexer/ci
    """
    from gateway.cli import state

    state.revoke_key(key, url=url, token=token, data=data, database=database)


token_app = typer.Typer(no_args_is_help=True, help="Bearer tokens for the REST API and for this command's --token.")


@token_app.command("create")
def token_create(
    role: Annotated[RoleName, typer.Option(help="What it may do.")],
    team: Annotated[str | None, typer.Option(metavar="TEAM", help="For team-admin and team-member: whose.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: made from the role.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help="Confine it to this permission of the role; may be repeated. Default: all."),
    ] = None,
    expires: When = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Make a token and print it, this once, alone on the last line.

    Examples:
      sluicegate token create --role admin --name ci --expires 30d
      export SLUICEGATE_TOKEN=$(sluicegate token create --role viewer | tail -1)
      sluicegate token create --role team-member --team search
      sluicegate token create --role viewer --scope usage:read --expires 90d
      sluicegate token create --role owner --scope scim --name directory
    """
    from gateway.cli import state

    state.create_token(str(role), team, name, expires, scope, url=url, token=token, data=data, database=database)


@token_app.command("list")
def token_list(
    json: Json = False, url: Url = None, token: Token = None, data: Data = None, database: Database = None
) -> None:
    """List tokens: how each begins, never the token.

    Example:
      sluicegate token list --json
    """
    from gateway.cli import state

    state.list_tokens(json, url=url, token=token, data=data, database=database)


@token_app.command("revoke")
def token_revoke(
    name: Annotated[str, typer.Argument(metavar="TOKEN", help="Its name or id.")],
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Make a token worthless at once.

    Example:
      sluicegate token revoke ci
    """
    from gateway.cli import state

    state.revoke_token(name, url=url, token=token, data=data, database=database)


user_app = typer.Typer(no_args_is_help=True, help="People who sign in to the console.")


@user_app.command("passwd")
def user_passwd(
    user: Annotated[str, typer.Argument(metavar="NAME")] = "admin",
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Set a user's password and end their sessions.

    Asks for it at a terminal; else takes it from SLUICEGATE_ADMIN_PASSWORD, or
    makes one and prints it on the last line.

    Examples:
      sluicegate user passwd
      sluicegate user passwd mia --url https://gateway.internal
    """
    from gateway.cli import state

    state.set_password(user, url=url, token=token, data=data, database=database)


@user_app.command("bootstrap")
def user_bootstrap(data: Data = None, database: Database = None) -> None:
    """Make the first owner, `admin`, and print the password, this once.

    Prepares the database where it is empty or of an older release. Prints nothing where there is an owner;
    SLUICEGATE_ADMIN_PASSWORD sets the password. install.sh does this by itself.
    """
    from gateway.cli import state

    state.bootstrap(settings_from(data=data, database=database))


def usage(
    group_by: Annotated[
        str, typer.Option(metavar="LIST", help="Of team, app, key, route, target, provider, model, day, hour.")
    ] = "app,model",
    since: Annotated[str, typer.Option("--from", metavar="WHEN", help="RFC 3339, a date, or e.g. 7d ago.")] = "30d",
    until: Annotated[str | None, typer.Option("--to", metavar="WHEN", help="Default: now.")] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="WHAT", help="Most first: requests, errors, input, output or cost.")
    ] = None,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with all figures.")] = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """What was used and what it cost, from the ledger.

    Examples:
      sluicegate usage
      sluicegate usage --group-by model --sort cost
      sluicegate usage --group-by app,day --from 7d --csv
      sluicegate usage --group-by app --from 2026-11-01 --to 2026-12-01 --json
    """
    from gateway.cli import usage

    usage.show(
        group_by, since, until, json=json, as_csv=as_csv, sort=sort, url=url, token=token, data=data, database=database
    )


def top(
    group_by: Annotated[
        str, typer.Option("--by", metavar="WHAT", help="route, app, target, team, key or model.")
    ] = "route",
    sort: Annotated[
        str, typer.Option(metavar="WHAT", help="Most first: requests, in-flight, tokens, cost, errors, ttft; or name.")
    ] = "requests",
    window: Annotated[float, typer.Option(min=0.5, max=600, metavar="SECONDS", help="What rates are of.")] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Watch one window, print it and end: for scripts.")] = False,
    json: Annotated[bool, typer.Option("--json", help="With --once: print JSON.")] = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Watch what goes through: rates, tokens, cost, errors, time to the first token.

    Live at a terminal (g changes the group, s the order, q ends); into a pipe
    a line a request.

    Examples:
      sluicegate top
      sluicegate top --by app --sort cost
      sluicegate top --once --window 5 --json
    """
    from gateway.cli import top

    top.watch(
        group_by=group_by, sort=sort, window_s=window, once=once, json=json, url=url, token=token, data=data,
        database=database,
    )  # fmt: skip


def explain(
    route: Annotated[str, typer.Argument(metavar="ROUTE", help="Its name or id.")],
    app: Annotated[str | None, typer.Option(metavar="APP", help="Whose limits and permissions count.")] = None,
    key: Annotated[str | None, typer.Option(metavar="APP/KEY", help="The same of one key.")] = None,
    input_tokens: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of its prompt.")] = None,
    output_tokens: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The most it asks for. Default: the route's bound.")
    ] = None,
    json: Json = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """What would happen to a request: access, targets in order with reasons, limits, the most it may cost.

    Asks the running gateway; sends, counts and reserves nothing.

    Examples:
      sluicegate explain chat --app indexer
      sluicegate explain chat --key indexer/ci --input-tokens 1200 --output-tokens 400 --json
    """
    from gateway.cli import explain

    question = {"app": app, "key": key, "input_tokens": input_tokens, "output_tokens": output_tokens}
    explain.show(route, question, json, url=url, token=token, data=data, database=database)


prices_app = typer.Typer(no_args_is_help=True, help="The table of model prices.")


@prices_app.command("update")
def prices_update(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]", help="data.json (v2) of genai-prices: a file or URL. Default: where it is published."
        ),
    ] = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Take newer model prices into use. Your own `prices` in sluicegate.yaml go before them.

    Examples:
      sluicegate prices update
      sluicegate prices update ./data.json
    """
    from gateway.cli import prices

    prices.update(settings_from(data=data, database=database), source)


def address(
    console: Annotated[bool, typer.Option("--console", help="Of the console instead of the data plane.")] = False,
    data: Data = None,
) -> None:
    """Print where the gateway is to be found from this host."""
    from gateway.cli.address import console_url, data_plane_url

    settings = settings_from(data=data)
    typer.echo(console_url(settings) if console else data_plane_url(settings))
