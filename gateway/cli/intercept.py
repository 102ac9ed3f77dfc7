"""`sluicegate intercept`: what is caught and why, and the switch."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from gateway.cli import agent_client
from gateway.cli.agent_client import AgentAway
from gateway.cli.options import settings_from
from gateway.cli.output import fail, note, say, table
from gateway.errors import SluicegateError

COLUMNS: Final = ("rule", "mode", "armed", "captured", "passed", "denied", "bypassed", "open", "last canary")


def status(*, url: str | None, token: str | None, data: Path | None, as_json: bool) -> int:
    """Print it. Returns the exit code: 0 where every rule is armed, 1 where one is not, 3 without an agent."""
    try:
        said = _status(url, token, data)
    except AgentAway as error:
        if as_json:
            say(json.dumps({"agent": False, "up": False, "rules": [], "trouble": error.message}))
        else:
            note(f"{error.message}: nothing is captured")
            note(f"  {error.fix}")
        return 3
    if as_json:
        say(json.dumps(said, indent=2))
    else:
        _show(said)
    return 0 if said.get("agent", True) and all(rule["armed"] for rule in said["rules"]) else 1


def _status(url: str | None, token: str | None, data: Path | None) -> dict[str, Any]:
    if url:
        from gateway.cli.remote import RemoteControl

        return RemoteControl(url, token).interception()
    return {"agent": True, **agent_client.ask(settings_from(data=data).agent_socket_path, "status")}


def _show(said: dict[str, Any]) -> None:
    if not said.get("agent", True):
        say("no agent: nothing is captured")
    elif said.get("try_until"):
        say(f"interception is up on trial until {said['try_until']}: `sluicegate intercept up` keeps it")
    elif said.get("up"):
        say("interception is up" + ("" if said.get("capturing") or not said["rules"] else ", and captures nothing now"))
    else:
        say("interception is down: sluicegate intercept up")
    if said.get("trouble"):
        note(said["trouble"])
    if said["rules"]:
        table(COLUMNS, [_row(rule) for rule in said["rules"]])
    else:
        say("no rule: add one under `interception:` in sluicegate.yaml")
    for rule in said["rules"]:
        if rule.get("reason"):
            say(f"  {rule['rule']}: {rule['reason']}")
    for song in said.get("canaries", ()):
        if song["trouble"]:
            say(f"  canary {song['path']}: {song['trouble']}")
    for repair in said.get("repairs", ())[-5:]:
        say(f"  {repair['at']}  {repair['what']}")


def _row(rule: dict[str, Any]) -> list[str]:
    figures = [rule.get(name) for name in ("captured", "passed", "denied", "bypassed", "open")]
    return [
        rule["rule"],
        rule.get("mode") or "",
        "yes" if rule["armed"] else "no",
        *("–" if each is None else str(each) for each in figures),
        rule.get("last_canary") or "–",
    ]


def flows(
    rule: str | None, limit: int, *, url: str | None, token: str | None, data: Path | None, as_json: bool
) -> None:
    if url:
        from gateway.cli.remote import RemoteControl

        items = RemoteControl(url, token).ended_flows(rule, limit)
    else:
        path = settings_from(data=data).agent_socket_path
        items = agent_client.ask(path, "flows", rule=rule, limit=limit)["items"]
    if as_json:
        say(json.dumps(items, indent=2))
        return
    table(
        ("started", "rule", "client", "process", "destination", "spoken", "in", "out", "seconds", "end"),
        [
            [
                flow["started_at"][:19],
                flow["rule"],
                flow["client"],
                " ".join(filter(None, (flow.get(name) for name in ("process", "user", "container")))),
                f"{flow['server_name'] or flow['destination']}:{flow['port']}",
                flow["protocol"] + (" (ended here)" if flow["terminated"] else ""),
                str(flow["bytes_in"]),
                str(flow["bytes_out"]),
                f"{flow['seconds']:.1f}",
                flow["outcome"],
            ]
            for flow in items
        ],
    )


def up(data: Path | None, trial: timedelta | None) -> None:
    options = {} if trial is None else {"try_s": trial.total_seconds()}
    said = agent_client.ask(settings_from(data=data).agent_socket_path, "up", **options)
    _show(said)
    if trial is not None:
        say("keep it with: sluicegate intercept up")


def down(data: Path | None) -> None:
    """Also where no agent runs: what it left behind is taken away then."""
    path = settings_from(data=data).agent_socket_path
    try:
        said = agent_client.ask(path, "down")
    except AgentAway:
        _clean_up(path)
        return
    still = sum(rule["open"] for rule in said["rules"])
    if still:
        say(f"interception is down: {still} captured connections go on until they end, then nothing is left")
    else:
        say("interception is down, nothing of it is left in the kernel")


def _clean_up(path: Path) -> None:
    if os.geteuid() != 0:
        fail("no agent runs, and without it only root can take the rules away", fix="run this with sudo")
    from gateway.agent import clean_up

    try:
        clean_up(path)
    except OSError as error:
        raise SluicegateError(f"the rules cannot be taken away: {error}", fix="sluicegate doctor") from None
    say("no agent runs; nothing of interception is left in the kernel")
