"""The choreography of `sluicegate demo`: gateway, model, configuration, two chats, their ledger rows, what to paste."""

import os
import shutil
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from gateway.cli import service
from gateway.cli.address import console_url, data_plane_url, readiness
from gateway.cli.host import HostControl
from gateway.demo.fetch import DemoFailed, fetch, is_complete
from gateway.demo.files import DemoFiles
from gateway.demo.model_server import MODEL_NAME
from gateway.demo.snippets import snippets
from gateway.demo.talk import PAIRS, Added, Answer, Talk
from gateway.demo.undo import parts, remove_configuration
from gateway.errors import NotFound
from gateway.handover import COMMAND_VARIABLE
from gateway.policy.usage import LedgerRow
from gateway.settings import Settings
from gateway.store import ledger
from gateway.store.database import read_session

PLAIN_QUESTION: Final = "In one sentence, what does a sluice gate do?"
STREAMED_QUESTION: Final = "Name three rivers in Europe."
MODEL_PATIENCE_S: Final = 60.0
LEDGER_PATIENCE_S: Final = 5.0
FETCHING: Final = "fetching llama.cpp and a model, some 300 MB, once"
CONFIGURATION: Final = Path(__file__).parent / "sluicegate.yaml"


def run(settings: Settings) -> None:
    """Everything, in the order in which a person sees it. Raises DemoFailed with the reason."""
    console = Console(highlight=False, soft_wrap=True)
    _print_title(console)
    began_s = time.monotonic()
    if not readiness(settings).ready:
        service.start(settings)
    host = HostControl(settings)
    files = DemoFiles.of(settings)
    _require_free_names(host, files)
    files.make()
    _done(console, "gateway", f"ready at {data_plane_url(settings)}")
    _fetch(console, files)
    _done(console, "model", f"{MODEL_NAME}, SHA-256 verified")
    model_url = _start_model(console, files)
    _apply(console, host, files)
    talk = Talk(data_plane_url(settings), files.key())
    try:
        talk.wait_until_known()
        _chat(console, host, talk)
        added = talk.added_latency(model_url)
    finally:
        talk.close()
    _print_end(console, settings, files, added, time.monotonic() - began_s)


def take_down(settings: Settings) -> None:
    """Stop the model server and delete what the demo made. Ledger rows stay: they are history."""
    host = HostControl(settings)
    files = DemoFiles.of(settings)
    if not files.folder.is_dir():
        Console(highlight=False).print("there is no demo here")
        return
    if (files.folder / "port").exists() and not files.model_process().stop(patience_s=10):
        raise DemoFailed("the model server does not end", fix=f"see {files.folder / 'model.log'}")
    removed = remove_configuration(host) if files.applied.exists() else []
    files.remove()
    for line in removed:
        print(line)
    print(f"removed {files.folder}; the ledger keeps what the demo used")


# ---- steps -----------------------------------------------------------------------------------------------------------


def _fetch(console: Console, files: DemoFiles) -> None:
    """With a progress bar at a terminal, else a line at each fifth."""
    told = 0

    def tell(share: float) -> None:
        nonlocal told
        if share * 5 >= told + 1:
            told = int(share * 5)
            console.print(f"  {told * 20} %")

    if not console.is_terminal:
        if not is_complete(files):
            console.print(f"  {FETCHING} …")
        fetch(files, tell)
        return
    columns = (TextColumn("  {task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=is_complete(files)) as bars:
        task = bars.add_task(FETCHING, total=1.0)
        fetch(files, lambda share: bars.update(task, completed=share))


def _start_model(console: Console, files: DemoFiles) -> str:
    """Start the model server unless it runs. Returns its base URL."""
    import httpx2

    url = f"http://127.0.0.1:{files.port()}"
    process = files.model_process()
    began_s = time.monotonic()
    guard = None if process.guard_pid() else process.start(files.python_path())
    with console.status("loading the model"):
        while True:
            try:
                if httpx2.get(f"{url}/health", timeout=2).status_code == 200:
                    break
            except httpx2.HTTPError:
                pass
            if (guard and guard.poll() is not None) or time.monotonic() - began_s > MODEL_PATIENCE_S:
                tail = " / ".join(process.last_lines(3))
                fix = "apt-get install libgomp1" if "libgomp" in tail else f"see {process.log}"
                raise DemoFailed(f"the model server did not start: {tail}", fix=fix)
            time.sleep(0.1)
    _done(
        console,
        "llama.cpp",
        f"serves it at {url}" + (f", loaded in {time.monotonic() - began_s:.1f} s" if guard else ""),
    )
    return url


def _apply(console: Console, host: HostControl, files: DemoFiles) -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    host.environment = {"SLUICEGATE_DEMO_PORT": str(files.port()), "SLUICEGATE_DEMO_KEY": files.key()}
    host.apply(CONFIGURATION.name, text, dry_run=False, prune=False)
    files.applied.touch()
    _done(console, "applied", "team demo › app demo › key · route demo · $1.00 a day · 20,000 tokens a minute")


def _require_free_names(host: HostControl, files: DemoFiles) -> None:
    """What bears one of the demo's names and is not the demo's is left alone."""
    taken = [] if files.applied.exists() else [f"a {kind} {name}" for kind, name in parts(host)]
    if taken:
        raise DemoFailed(
            f"there is already {' and '.join(taken)}, which the demo would change",
            fix="rename it, or use another --data",
        )


def _chat(console: Console, host: HostControl, talk: Talk) -> None:
    _print_question(console, "OpenAI SDK's dialect, plain", PLAIN_QUESTION)
    with console.status("thinking"):
        plain = talk.ask(PLAIN_QUESTION)
    console.print(Text(f"  {plain.text}", style="bold"))
    _print_figures(console, host, plain)
    _print_question(console, "Anthropic SDK's dialect, streamed", STREAMED_QUESTION)
    begun = [False]

    def show(piece: str) -> None:
        console.print(Text(piece if begun[0] else f"  {piece.lstrip()}", style="bold"), end="")
        begun[0] = True

    streamed = talk.stream(STREAMED_QUESTION, show)
    console.print()
    _print_figures(console, host, streamed)


def _print_figures(console: Console, host: HostControl, answer: Answer) -> None:
    """What the ledger says of an answer; it must say what the model server reported."""
    row = _ledger_row(host, answer.request_id)
    if (row.input_tokens, row.output_tokens) != (answer.input_tokens, answer.output_tokens):
        raise DemoFailed(
            f"the ledger has {row.input_tokens} + {row.output_tokens} tokens for {answer.request_id}, "
            f"the model server reported {answer.input_tokens} + {answer.output_tokens}",
            fix="please report this",
        )
    cost = "price unknown" if row.cost_usd_micros is None else f"${row.cost_usd_micros / 1e6:.6f}"
    console.print(
        f"  [dim]{row.input_tokens} tokens in · {row.output_tokens} out · {cost} · "
        f"first token {answer.first_token_s * 1000:.0f} ms · total {answer.total_s * 1000:.0f} ms · "
        f"ledger {answer.request_id[:12]}…[/]"
    )


def _ledger_row(host: HostControl, request_id: str) -> LedgerRow:
    until_s = time.monotonic() + LEDGER_PATIENCE_S
    while True:
        try:
            with read_session(host.engine) as session:
                return ledger.get_row(session, request_id)
        except NotFound:
            if time.monotonic() > until_s:
                raise
        time.sleep(0.05)


# ---- what is seen ----------------------------------------------------------------------------------------------------


def _print_title(console: Console) -> None:
    console.print("\n[bold]Sluicegate demo[/]  a real model, governed, on this machine\n")


def _done(console: Console, what: str, said: str) -> None:
    console.print(f"[green]✓[/] {what:<10} [dim]{said}[/]")


def _print_question(console: Console, how: str, question: str) -> None:
    console.print(f"\n[cyan]❯[/] {question}  [dim]({how})[/]")


def _print_end(console: Console, settings: Settings, files: DemoFiles, added: Added, took_s: float) -> None:
    if added.median_s > added.noise_s:
        figure = f"{added.median_s * 1000:.1f} ms (± {added.noise_s * 1000:.1f})"
    else:
        figure = f"less than {(max(added.median_s, 0) + added.noise_s) * 1000:.1f} ms"
    console.print(f"\n[bold]The gateway adds {figure}[/] [dim]to a call, with key, route, two limits and ledger[/]")
    console.print(
        f"[bold]Look at it[/]  {console_url(settings)}  "
        f"[dim]usage, the two requests (and {PAIRS} without tokens, which timed the gateway), the budget[/]"
    )
    console.print("\n[bold]Try it yourself[/]")
    for title, _language, text in snippets(data_plane_url(settings), files.key()):
        console.print(f"\n[dim]# {title}[/]")
        console.print(Text(text), soft_wrap=True)
    command = _command()
    ways = f"{command} usage · {command} top · {command} demo --down removes it all"
    console.print(f"\n[dim]{ways} · {took_s:.0f} s[/]\n", soft_wrap=True)


def _command() -> str:
    """What to write at a prompt to get this installation: the bare name where the shell finds this one by it."""
    installed = os.environ.get(COMMAND_VARIABLE)
    found = shutil.which("sluicegate")
    if installed is None or not Path(installed).exists() or (found and Path(found).samefile(installed)):
        return "sluicegate"
    return installed
