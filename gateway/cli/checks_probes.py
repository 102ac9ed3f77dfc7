"""Checks of the agent's probes: what is missing on this host, and the command that mends it."""

from collections.abc import Iterator

from gateway.cli import agent_client
from gateway.cli.checks import Finding, fine, weak
from gateway.errors import SluicegateError
from gateway.settings import Settings


def probe_checks(settings: Settings) -> Iterator[Finding]:
    """What of the probes works, where there is an agent; silent where there is none."""
    try:
        said = agent_client.ask(settings.agent_socket_path, "status").get("probes")
    except SluicegateError:
        return
    if said is None:
        yield weak("probes", "the agent is of a release without them", "sluicegate service upgrade --agent")
    elif said["trouble"]:
        yield weak("probes", said["trouble"], _remedy(said["trouble"]))
    else:
        for name, reason in said["features"].items():
            if reason is not None:
                yield weak("probes", f"{name}: {reason}", _remedy(reason))
        working = sorted(name for name, reason in said["features"].items() if reason is None)
        if working:
            yield fine("probes", f"{', '.join(working)}; {len(said['programs'])} programs in the kernel")


def _remedy(reason: str) -> str:
    """What mends a probe that is missing."""
    _, found, command = reason.rpartition("apt-get install ")
    if found:
        return f"apt-get install {command}; sluicegate service stop --agent; sluicegate service start"
    if "lacks" in reason:
        return "run install.sh again, so that the agent's unit is this release's; sluicegate service start"
    return "see the agent's log: sluicegate service logs"
