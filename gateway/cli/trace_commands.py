"""`sluicegate trace exec|connect|dns|http`."""

from typing import Annotated, Any

import typer

from gateway.cli.options import Data, settings_from

trace_app = typer.Typer(
    no_args_is_help=True,
    help="Who does what on this host, as the kernel sees it: executions, connections, names, plain HTTP. Until Ctrl-C.",
)
FILTER = "Which"
SHOW = "How"

Pid = Annotated[
    list[int] | None, typer.Option("--pid", "-p", metavar="N", help="Of this process.", rich_help_panel=FILTER)
]
User = Annotated[
    list[str] | None,
    typer.Option(
        "--user", "--uid", "-u", metavar="NAME", help="Of this user, by name or number.", rich_help_panel=FILTER
    ),
]
Comm = Annotated[
    list[str] | None,
    typer.Option("--comm", "-c", metavar="GLOB", help="Of processes that call themselves so.", rich_help_panel=FILTER),
]
Cgroup = Annotated[
    list[str] | None,
    typer.Option(
        "--cgroup", metavar="PATH", help="In this cgroup or below it, e.g. /system.slice.", rich_help_panel=FILTER
    ),
]
Container = Annotated[
    list[str] | None, typer.Option("--container", metavar="ID", help="In this container.", rich_help_panel=FILTER)
]
Dest = Annotated[
    list[str] | None, typer.Option("--dest", "-d", metavar="CIDR", help="To these addresses.", rich_help_panel=FILTER)
]
Port = Annotated[list[int] | None, typer.Option("--port", metavar="N", help="To this port.", rich_help_panel=FILTER)]
Failed = Annotated[bool, typer.Option("--failed", "-x", help="What failed alone.", rich_help_panel=FILTER)]
Slower = Annotated[
    float | None, typer.Option("--slower", metavar="MS", help="What took at least so long.", rich_help_panel=FILTER)
]
Duration = Annotated[
    float | None,
    typer.Option("--duration", "-t", metavar="S", min=0.0, help="End after so many seconds.", rich_help_panel=SHOW),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", "-n", metavar="N", min=1, help="End after so many events.", rich_help_panel=SHOW),
]
Count = Annotated[
    str | None,
    typer.Option(
        "--count", metavar="FIELDS", help="At the end, how many by these, e.g. process,port.", rich_help_panel=SHOW
    ),
]
Histogram = Annotated[
    bool, typer.Option("--histogram", "-H", help="At the end, the latencies in powers of two.", rich_help_panel=SHOW)
]
By = Annotated[
    str | None, typer.Option("--by", metavar="FIELD", help="A histogram for each, e.g. process.", rich_help_panel=SHOW)
]
Json = Annotated[bool, typer.Option("--json", help="An object a line.", rich_help_panel=SHOW)]


@trace_app.command("exec")
def trace_exec(
    match: Annotated[
        list[str] | None,
        typer.Option("--match", "-m", metavar="GLOB", help="Executable, or all arguments.", rich_help_panel=FILTER),
    ] = None,
    pid: Pid = None,
    user: User = None,
    comm: Comm = None,
    cgroup: Cgroup = None,
    container: Container = None,
    failed: Failed = False,
    duration: Duration = None,
    limit: Limit = None,
    count: Count = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Every execution: which file, with which arguments, whose child.

    Arguments are shown up to 24 of them, 128 bytes each, 2 KB in all; where that
    cut them the line ends with …

    Examples:
      sluicegate trace exec
      sluicegate trace exec --user www-data --match '*sh'
      sluicegate trace exec --failed --duration 10 --json
      sluicegate trace exec --count executable --duration 60
    """
    _run("exec", data, _filters(pid, user, comm, cgroup, container, match=match, failed=failed),
         duration, limit, count, json=json)  # fmt: skip


@trace_app.command("connect")
def trace_connect(
    dest: Dest = None,
    port: Port = None,
    pid: Pid = None,
    user: User = None,
    comm: Comm = None,
    cgroup: Cgroup = None,
    container: Container = None,
    failed: Failed = False,
    slower: Slower = None,
    duration: Duration = None,
    limit: Limit = None,
    count: Count = None,
    histogram: Histogram = False,
    by: By = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Every TCP connection that is made, with how long its handshake took.

    Of UDP connects, and the first datagram to each destination.

    Examples:
      sluicegate trace connect --port 443
      sluicegate trace connect --dest 10.0.0.0/8 --failed
      sluicegate trace connect --histogram --by process --duration 30
      sluicegate trace connect --count process,destination -t 60
    """
    filters = _filters(pid, user, comm, cgroup, container, cidrs=dest, ports=port, failed=failed, slower_ms=slower)
    _run("connect", data, filters, duration, limit, count, histogram=histogram, by=by, json=json)


@trace_app.command("dns")
def trace_dns(
    match: Annotated[
        list[str] | None, typer.Option("--name", "-m", metavar="GLOB", help="Names that fit.", rich_help_panel=FILTER)
    ] = None,
    server: Annotated[
        list[str] | None, typer.Option("--server", metavar="CIDR", help="Asked of these.", rich_help_panel=FILTER)
    ] = None,
    pid: Pid = None,
    user: User = None,
    comm: Comm = None,
    cgroup: Cgroup = None,
    container: Container = None,
    failed: Failed = False,
    slower: Slower = None,
    duration: Duration = None,
    limit: Limit = None,
    count: Count = None,
    histogram: Histogram = False,
    by: By = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Every name that is looked up over UDP, with its answer and how long it took.

    A question without an answer is shown after five seconds. DNS over TCP, TLS and
    HTTPS is not seen.

    Examples:
      sluicegate trace dns --name '*.openai.com'
      sluicegate trace dns --failed
      sluicegate trace dns --count process,name -t 60
    """
    filters = _filters(pid, user, comm, cgroup, container, match=match, cidrs=server, failed=failed, slower_ms=slower)
    _run("dns", data, filters, duration, limit, count, histogram=histogram, by=by, json=json)


@trace_app.command("http")
def trace_http(
    match: Annotated[
        list[str] | None, typer.Option("--match", "-m", metavar="GLOB", help="Host or path.", rich_help_panel=FILTER)
    ] = None,
    dest: Annotated[
        list[str] | None, typer.Option("--peer", "-d", metavar="CIDR", help="With these.", rich_help_panel=FILTER)
    ] = None,
    port: Port = None,
    pid: Pid = None,
    user: User = None,
    comm: Comm = None,
    cgroup: Cgroup = None,
    container: Container = None,
    failed: Failed = False,
    slower: Slower = None,
    duration: Duration = None,
    limit: Limit = None,
    count: Count = None,
    histogram: Histogram = False,
    by: By = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Every request in plain HTTP/1, with its status and the time to it.

    At both ends where both are on this host; the process is known of clients
    alone, and of connections that were made after the trace began.

    Examples:
      sluicegate trace http --port 8080
      sluicegate trace http --failed --json
      sluicegate trace http --histogram --by host -t 30
    """
    filters = _filters(
        pid, user, comm, cgroup, container, match=match, cidrs=dest, ports=port, failed=failed, slower_ms=slower
    )
    _run("http", data, filters, duration, limit, count, histogram=histogram, by=by, json=json)


def _filters(
    pid: list[int] | None,
    user: list[str] | None,
    comm: list[str] | None,
    cgroup: list[str] | None,
    container: list[str] | None,
    **others: Any,
) -> dict[str, Any]:
    given = {
        "pids": pid,
        "uids": [_uid(each) for each in user or ()],
        "processes": comm,
        "cgroups": cgroup,
        "containers": container,
        **others,
    }
    return {name: wanted for name, wanted in given.items() if wanted}


def _uid(user: str) -> int:
    if user.isdigit():
        return int(user)
    import pwd

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise typer.BadParameter(f"this host has no user {user!r}", param_hint="--user") from None


def _run(kind: str, data: Any, filters: dict[str, Any], duration: float | None, limit: int | None, count: str | None,
         *, histogram: bool = False, by: str | None = None, json: bool) -> None:  # fmt: skip
    from gateway.cli import trace

    path = settings_from(data=data).agent_socket_path
    summary = trace.summary_of(kind, count, histogram=histogram, by=by, as_json=json)
    raise typer.Exit(trace.run(path, kind, filters, summary, duration_s=duration, limit=limit, as_json=json))
