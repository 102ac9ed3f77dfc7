"""`sluicegate agent` and `sluicegate intercept …`."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import Data, Json, Token, Url, settings_from

intercept_app = typer.Typer(
    no_args_is_help=True, help="Applications that change nothing: what is captured, why not, and the switch."
)


def add_intercept_commands(app: typer.Typer, run_panel: str, care_panel: str) -> None:
    app.command(rich_help_panel=run_panel)(agent)
    app.add_typer(intercept_app, name="intercept", rich_help_panel=care_panel)


def agent(
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where it listens; default: agent.sock in the data folder.")
    ] = None,
    data: Data = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="text or json.")] = None,
    probes: Annotated[
        bool | None, typer.Option("--probes/--no-probes", help="Measure and watch in the kernel (default), or do not.")
    ] = None,
    cgroup: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The cgroup (v2) whose programs the probes see, attribute, limit and deny; default: the whole host.",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Say whether it would start here, and start nothing.")] = False,
) -> None:
    """The privileged helper for interception, in the foreground until SIGTERM.

    Runs as root beside `sluicegate serve`, in either order, and gives up what it
    does not need. It may die and return: captured connections go on. While it is
    away rules with `on_failure: open` let connections pass, those with `closed`
    refuse them. SIGUSR2, or `sluicegate service upgrade`: it becomes the installed
    release, and not a moment goes by in which it does not capture.

    Examples:
      sudo sluicegate agent
      sudo sluicegate agent --socket /run/sluicegate/agent.sock
      sudo sluicegate agent --cgroup /sys/fs/cgroup/tenant-a.slice
    """
    from gateway import agent as running
    from gateway.cli.output import fail
    from gateway.intercept.succession import taken_over
    from gateway.logs import log_to_stderr

    try:
        left = taken_over()
        if left is not None:  # it has given up what reading the settings takes
            log_to_stderr(left.log_level, left.log_format, "agent")
            running.take_over(left)
            return
        if check:
            running.check()
            return
        settings = settings_from(
            data=data, agent_socket=socket, log_level=log_level, log_format=log_format, probes=probes, cgroup=cgroup
        )
        log_to_stderr(settings.log_level, settings.log_format, "agent")
        named = settings.data if data is not None or "SLUICEGATE_DATA" in os.environ else None
        running.run(
            settings.agent_socket_path,
            data=named,
            log_level=settings.log_level,
            log_format=settings.log_format,
            probes=settings.probes,
            cgroup=settings.cgroup,
        )
    except running.AgentFailed as error:
        fail(str(error), fix="sluicegate doctor")


@intercept_app.command("status")
def intercept_status(url: Url = None, token: Token = None, data: Data = None, json: Json = False) -> None:
    """Each rule as it stands in the kernel: armed or why not, and what it has caught.

    Exit code 0: every rule is armed, 1: one is not, 3: no agent runs.
    """
    from gateway.cli import intercept

    raise typer.Exit(intercept.status(url=url, token=token, data=data, as_json=json))


@intercept_app.command("flows")
def intercept_flows(
    rule: Annotated[str | None, typer.Option(metavar="NAME", help="Of this rule alone.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=2000, help="How many.")] = 30,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """The last captured connections: who, where to, what was spoken, how it ended."""
    from gateway.cli import intercept

    intercept.flows(rule, limit, url=url, token=token, data=data, as_json=json)


@intercept_app.command("up")
def intercept_up(
    trial: Annotated[
        str | None,
        typer.Option("--try", metavar="TIME", help="Go down again after this, e.g. 60s, unless `up` comes once more."),
    ] = None,
    data: Data = None,
) -> None:
    """Arm the rules; it is the state in which the agent starts.

    With --try nothing is lost by a mistake: interception goes down by itself
    unless you confirm it.

    Example:
      sluicegate intercept up --try 60s
    """
    from gateway.cli import intercept

    intercept.up(data, None if trial is None else _time(trial))


@intercept_app.command("down")
def intercept_down(data: Data = None) -> None:
    """Capture nothing more. What is captured goes on until it ends; then nothing is left in the kernel.

    Stays so until `up`, also over restarts. Works without a running agent too.
    """
    from gateway.cli import intercept

    intercept.down(data)


def _time(text: str) -> timedelta:
    """`60s`, `5m`, `1h`, or seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        return timedelta(seconds=float(number) * {"s": 1, "m": 60, "h": 3600}[unit])
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time, e.g. 60s or 5m", param_hint="--try") from None
