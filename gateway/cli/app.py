"""The commands, in the order of a first hour: run a gateway, look after it, try it. State has its own file."""

from pathlib import Path
from typing import Annotated

import typer

import gateway
from gateway.cli.admin_commands import admin_app
from gateway.cli.intercept_commands import add_intercept_commands
from gateway.cli.options import Data, Database, settings_from
from gateway.cli.state_commands import add_state_commands
from gateway.cli.trace_commands import trace_app

RUN = "Run"
CARE = "Look after it"
STATE = "What it serves"

EXAMPLES = """\
An AI/API gateway of your own: keys, budgets, routing, usage.

First steps:
  sluicegate demo                        a real model behind a real gateway, on this machine
  sluicegate service start               run in the background (systemd where there is one)
  sluicegate apply -f sluicegate.yaml    providers, routes, teams, limits from a file
  sluicegate key create --app indexer    a key for an app
  sluicegate doctor                      what this host lacks, and the command that mends it
"""

app = typer.Typer(
    name="sluicegate",
    help=EXAMPLES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sluicegate {gateway.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


@app.command(rich_help_panel=RUN)
def serve(
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Default 127.0.0.1:8080.")] = None,
    admin_listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Console and REST API here; --listen then has the data plane alone."),
    ] = None,
    proxy_listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A forward proxy here: HTTPS_PROXY brings applications under policy."),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Data folder; made (0700) where missing.")] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="postgresql://… ; default: SQLite in the data folder.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Worker processes; default: one a core.")
    ] = None,
    drain: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="How long answers may take to end after SIGTERM (15)."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve HTTPS with this certificate chain.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="… and its key.")] = None,
    proxy_protocol: Annotated[
        bool | None, typer.Option("--proxy-protocol", help="Expect the PROXY protocol on each connection.")
    ] = None,
    trusted_hops: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Proxies in front whose X-Forwarded-For is believed (0).")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where this host is: targets of this zone come first.")
    ] = None,
    agent_socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where the agent is; default DIR/agent.sock.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None,
    otel: Annotated[
        bool | None, typer.Option("--otel", help="Traces and metrics by OTLP/HTTP, as OTEL_* variables say.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="text or json.")] = None,
    access_log: Annotated[
        str | None, typer.Option(metavar="WHICH", help="A line a request: off, errors, all, or a share such as 0.01.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check settings, certificate and database, start nothing.")
    ] = False,
) -> None:
    """Run the gateway in the foreground until SIGTERM.

    Every option is also a variable (SLUICEGATE_LISTEN, …) and a key of
    sluicegate.toml in the data folder. SIGTERM drains, SIGHUP re-reads settings
    and certificates, SIGUSR2 changes to the installed release without a pause.
    Ready when GET /readyz answers 200.

    Examples:
      sluicegate serve
      sluicegate serve --listen 0.0.0.0:8080 --workers 4
      sluicegate serve --database postgresql://sluicegate@db.internal/sluicegate
    """
    from gateway.cli.owner import become_owner
    from gateway.privileges import NET_RAW

    settings = settings_from(
        listen=listen,
        admin_listen=admin_listen,
        proxy_listen=proxy_listen,
        data=data,
        database=database,
        workers=workers,
        drain=drain,
        tls_cert=tls_cert,
        tls_key=tls_key,
        proxy_protocol=proxy_protocol,
        trusted_hops=trusted_hops,
        zone=zone,
        agent_socket=agent_socket,
        log_level=log_level,
        otel=otel,
        log_format=log_format,
        access_log=access_log,
    )
    become_owner(settings.data, keeping=(NET_RAW,))  # to mark its connections, where there is an agent
    from gateway import server

    if check:
        server.check(settings)
        raise typer.Exit
    server.serve(settings)


service_app = typer.Typer(
    no_args_is_help=True, help="Keep gateway and agent running in the background: start, stop, status, logs, upgrade."
)
app.add_typer(service_app, name="service", rich_help_panel=RUN)


@service_app.command("start")
def service_start(data: Data = None) -> None:
    """Start it and wait until it is ready. Fine where it runs already.

    As root it starts the agent too, for interception.
    """
    from gateway.cli import service

    service.start(settings_from(data=data))


@service_app.command("upgrade")
def service_upgrade(
    agent: Annotated[bool, typer.Option("--agent", help="The agent alone.")] = False, data: Data = None
) -> None:
    """Change to the release that is installed now, without a pause.

    The gateway that runs hands its sockets over. Not one request fails, and
    answers in progress end where they were to end. If the new release would not
    start, the present one goes on. The agent, where one runs, does the same after
    it. install.sh does this by itself.
    """
    from gateway.cli import agent_service, service

    settings = settings_from(data=data)
    agent_service.upgrade(settings) if agent else service.upgrade(settings)


@service_app.command("stop")
def service_stop(
    agent: Annotated[bool, typer.Option("--agent", help="The agent alone.")] = False, data: Data = None
) -> None:
    """Let answers in progress end, then stop the gateway, and its agent after it."""
    from gateway.cli import service

    service.stop(settings_from(data=data), agent_alone=agent)


@service_app.command("status")
def service_status(data: Data = None) -> None:
    """Say whether it runs. Exit code 0: ready, 1: running but not ready, 3: not running."""
    from gateway.cli import service

    raise typer.Exit(service.status(settings_from(data=data)))


@service_app.command("logs")
def service_logs(
    data: Data = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines back.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
) -> None:
    """Show what it logged."""
    from gateway.cli import service

    raise typer.Exit(service.logs(settings_from(data=data), lines=lines, follow=follow))


@app.command(rich_help_panel=RUN)
def demo(
    down: Annotated[bool, typer.Option("--down", help="Remove everything that the demo made.")] = False,
    data: Data = None,
) -> None:
    """See the whole job on this machine, with no account anywhere.

    Starts a small real model (Gemma 3 270M on llama.cpp, some 300 MB once), puts
    it behind the gateway with a team, an app, a key, a price and a budget, asks it
    something twice, and shows what each answer used, cost and was delayed by.
    """
    from gateway.demo import show

    settings = settings_from(data=data)
    show.take_down(settings) if down else show.run(settings)


@app.command(rich_help_panel=CARE)
def doctor(data: Data = None, database: Database = None) -> None:
    """What this host and the gateway on it lack, each with the command that mends it.

    Exit code 0 where nothing is broken.
    """
    from gateway.cli import doctor

    raise typer.Exit(doctor.examine(settings_from(data=data, database=database)))


@app.command(rich_help_panel=CARE)
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written anew, mode 0600; `-` is stdout.")],
    with_key: Annotated[
        bool, typer.Option("--with-key", help="Put the sealing key in: keep the file as safe as it.")
    ] = False,
    data: Data = None,
    database: Database = None,
) -> None:
    """Save database and spool to one file, consistent while the gateway serves.

    The file suits both databases: what SQLite held may be restored into
    PostgreSQL. Without --with-key it holds no way to open provider credentials
    and the certificate authority's key: keep sealing.key elsewhere then.

    Example:
      sluicegate backup /var/backups/sluicegate-$(date +%F).tar.gz
    """
    from gateway.cli import backup

    backup.write(settings_from(data=data, database=database), file, with_key=with_key)


@app.command(rich_help_panel=CARE)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `sluicegate backup` wrote.")],
    data: Data = None,
    database: Database = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before what is there is replaced.")] = False,
) -> None:
    """Bring database and spool back to a backup.

    What is there now is replaced, in one transaction. The gateway must not run
    meanwhile: `sluicegate service stop` first.

    Example:
      sluicegate restore /var/backups/sluicegate-2026-11-26.tar.gz
    """
    from gateway.cli import backup

    backup.restore(settings_from(data=data, database=database), file, ask=not yes)


sealing_app = typer.Typer(no_args_is_help=True, help="The key that secrets in the database are sealed with.")
app.add_typer(sealing_app, name="sealing", rich_help_panel=CARE)


@sealing_app.command("rotate")
def sealing_rotate(data: Data = None, database: Database = None) -> None:
    """Make a new sealing key and seal every provider credential, and the authority's key, with it."""
    from gateway.cli import sealing

    sealing.rotate(settings_from(data=data, database=database))


app.add_typer(admin_app, name="admin", rich_help_panel=CARE)
add_intercept_commands(app, RUN, CARE)
app.add_typer(trace_app, name="trace", rich_help_panel=CARE)
add_state_commands(app, STATE, CARE)
