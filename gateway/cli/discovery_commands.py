"""`sluicegate discoveries …`, `sluicegate denials …`: on this host (--data) or over the REST API (--url, --token)."""

from enum import StrEnum
from typing import Annotated

import typer

from gateway.cli.options import Data, Database, Json, Token, Url

discoveries_app = typer.Typer(
    no_args_is_help=True, help="Who talks to an AI provider past the gateway; observe, govern or deny it."
)
denials_app = typer.Typer(no_args_is_help=True, help="Who may not reach what, in this host's kernel.")


class StateName(StrEnum):
    """`gateway.policy.discovery.State`, written again so that `--help` needs no import of it; a test compares."""

    NEW = "new"
    OBSERVE = "observe"
    GOVERN = "govern"
    DENY = "deny"
    IGNORE = "ignore"


class FailureName(StrEnum):
    """`gateway.policy.interception.OnFailure`, likewise."""

    OPEN = "open"
    CLOSED = "closed"


class TlsName(StrEnum):
    """`gateway.policy.interception.Tls`, likewise."""

    PASSTHROUGH = "passthrough"
    TERMINATE = "terminate"


class PerName(StrEnum):
    """`gateway.policy.discovery.Per`, likewise."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


NARROW = "Which findings"
WHO = "Who (all that are given must fit)"
WHAT = "What (one of them must fit)"
ALLOWED = "How much may pass (default: nothing)"

Number = Annotated[int, typer.Argument(min=1, metavar="ID", help="As `sluicegate discoveries list` shows it.")]
Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="WHEN", help="Undone then: RFC 3339, a date, or e.g. 2h. Default: never."),
]


def _only(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=f"Only this {what}.", rich_help_panel=NARROW, metavar="NAME")
    return option


def _whom(what: str, metavar: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=what, rich_help_panel=WHO, metavar=metavar)
    return option


@discoveries_app.command("list")
def discoveries_list(
    state: Annotated[StateName | None, typer.Option(help="Only these.", rich_help_panel=NARROW)] = None,
    provider: Annotated[str | None, _only("provider")] = None,
    process: Annotated[str | None, _only("process")] = None,
    user: Annotated[str | None, _only("user, by name or number")] = None,
    container: Annotated[str | None, _only("container")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Seen since: RFC 3339, a date, or e.g. 1h ago.", rich_help_panel=NARROW),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, metavar="N", help="How many, at most.")] = 100,
    json: Json = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """What was found, the newest first. It takes the agent (`sluicegate doctor`).

    Examples:
      sluicegate discoveries list
      sluicegate discoveries list --state new --since 1h
      sluicegate discoveries list --provider openai --json
    """
    from gateway.cli import discoveries

    wanted = {
        "state": None if state is None else state.value, "provider": provider, "process": process, "user": user,
        "container": container,
    }  # fmt: skip
    discoveries.list_findings(wanted, since, limit, json, url=url, token=token, data=data, database=database)


@discoveries_app.command("coverage")
def discoveries_coverage(
    json: Json = False, url: Url = None, token: Token = None, data: Data = None, database: Database = None
) -> None:
    """Whose calls are read within TLS (the setting `tls_watched`), whose are not, and why.

    Example:
      sluicegate discoveries coverage
    """
    from gateway.cli import discoveries

    discoveries.show_coverage(json, url=url, token=token, data=data, database=database)


@discoveries_app.command("show")
def discoveries_show(
    number: Number, json: Json = False, url: Url = None, token: Token = None, data: Data = None,
    database: Database = None,
) -> None:  # fmt: skip
    """All that is known of one finding.

    Example:
      sluicegate discoveries show 17
    """
    from gateway.cli import discoveries

    discoveries.show(number, json, url=url, token=token, data=data, database=database)


@discoveries_app.command("observe")
def discoveries_observe(
    number: Number, expires: Expires = None, json: Json = False, url: Url = None, token: Token = None,
    data: Data = None, database: Database = None,
) -> None:  # fmt: skip
    """Leave it alone, and undo what `govern` or `deny` made.

    Example:
      sluicegate discoveries observe 17
    """
    from gateway.cli import discoveries

    discoveries.decide(number, "observe", expires, {}, json, url=url, token=token, data=data, database=database)


@discoveries_app.command("govern")
def discoveries_govern(
    number: Number,
    app: Annotated[
        str | None, typer.Option(metavar="APP", help="Whom to charge; needed where there are several apps.")
    ] = None,
    tls: Annotated[
        TlsName | None, typer.Option(help="terminate: read its requests; it must trust this gateway's CA.")
    ] = None,
    expires: Expires = None,
    json: Json = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Make an interception rule that hands its connections to the gateway.

    As narrow as can be: its cgroup, else its user, × the host that was found.

    Examples:
      sluicegate discoveries govern 17 --app indexer
      sluicegate discoveries govern 17 --app indexer --tls terminate --expires 2h
    """
    from gateway.cli import discoveries

    more = {"app": app, "tls": None if tls is None else tls.value}
    discoveries.decide(number, "govern", expires, more, json, url=url, token=token, data=data, database=database)


@discoveries_app.command("deny")
def discoveries_deny(
    number: Number, expires: Expires = None, json: Json = False, url: Url = None, token: Token = None,
    data: Data = None, database: Database = None,
) -> None:  # fmt: skip
    """Have the kernel refuse its connections to this provider, within a second.

    By its executable, else its container, else its user. `observe` undoes it.

    Examples:
      sluicegate discoveries deny 17
      sluicegate discoveries deny 17 --expires 2h
    """
    from gateway.cli import discoveries

    discoveries.decide(number, "deny", expires, {}, json, url=url, token=token, data=data, database=database)


@discoveries_app.command("ignore")
def discoveries_ignore(
    number: Number, expires: Expires = None, json: Json = False, url: Url = None, token: Token = None,
    data: Data = None, database: Database = None,
) -> None:  # fmt: skip
    """Do not mention it, and undo what `govern` or `deny` made.

    Example:
      sluicegate discoveries ignore 17 --expires 30d
    """
    from gateway.cli import discoveries

    discoveries.decide(number, "ignore", expires, {}, json, url=url, token=token, data=data, database=database)


@denials_app.command("list")
def denials_list(
    json: Json = False, url: Url = None, token: Token = None, data: Data = None, database: Database = None
) -> None:
    """Denials as they stand in the kernel, and how often each has refused.

    Example:
      sluicegate denials list --json
    """
    from gateway.cli import discoveries

    discoveries.list_denials(json, url=url, token=token, data=data, database=database)


@denials_app.command("add")
def denials_add(
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Default: made up.")] = None,
    executable: Annotated[str | None, _whom("Path of the program.", "PATH")] = None,
    user: Annotated[str | None, _whom("User of this host, name or number.", "USER")] = None,
    cgroup: Annotated[str | None, _whom("Path below the cgroup root.", "PATH")] = None,
    container: Annotated[str | None, _whom("Container, name or id.", "NAME")] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="All its hosts, by the catalogue.", rich_help_panel=WHAT)
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="May be repeated.", rich_help_panel=WHAT)
    ] = None,
    cidr: Annotated[
        list[str] | None, typer.Option(metavar="CIDR", help="May be repeated.", rich_help_panel=WHAT)
    ] = None,
    port: Annotated[list[int] | None, typer.Option(metavar="N", help="Only these ports; may be repeated.")] = None,
    connections: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Refuse only beyond so many.", rich_help_panel=ALLOWED)
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--bytes", metavar="SIZE", help="Hold back beyond this, e.g. 10MB.", rich_help_panel=ALLOWED),
    ] = None,
    per: Annotated[PerName | None, typer.Option(help="In each of these.", rich_help_panel=ALLOWED)] = None,
    expires: Expires = None,
    on_failure: Annotated[
        FailureName | None, typer.Option(help="closed: it holds while the agent is away. Default: open.")
    ] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for those who read the list.")] = None,
    json: Json = False,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Refuse connections in the kernel, within a second.

    Examples:
      sluicegate denials add --user www-data --provider openai
      sluicegate denials add --executable /usr/bin/curl --host api.openai.com --expires 2h
      sluicegate denials add --container web --cidr 198.51.100.0/24 --port 443
      sluicegate denials add --user batch --provider openai --connections 100 --per minute
      sluicegate denials add --user batch --provider openai --bytes 10MB --per minute
    """
    from gateway.cli import discoveries

    denial = {
        "name": name, "executable": executable, "user": user, "cgroup": cgroup, "container": container,
        "provider": provider, "hosts": host or None, "cidrs": cidr or None, "ports": port or None,
        "on_failure": None if on_failure is None else on_failure.value, "note": note,
        "limit": discoveries.limit_from(connections, size, None if per is None else per.value),
    }  # fmt: skip
    discoveries.add_denial(denial, expires, json, url=url, token=token, data=data, database=database)


@denials_app.command("remove")
def denials_remove(
    denial: Annotated[str, typer.Argument(metavar="DENIAL", help="Its name or id.")],
    url: Url = None,
    token: Token = None,
    data: Data = None,
    database: Database = None,
) -> None:
    """Let connections through again, within a second.

    Example:
      sluicegate denials remove discovery-17
    """
    from gateway.cli import discoveries

    discoveries.remove_denial(denial, url=url, token=token, data=data, database=database)
