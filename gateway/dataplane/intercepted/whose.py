"""Whose process a captured connection is of, attested by the kernel: the agent's probes are asked (`probes.callers`).

Asked are connections of this host, and those that came in by a bridge, behind which containers are. It goes on while
the first bytes are read, and nothing waits for it longer than `ATTRIBUTED_WITHIN_S`: who is not known by then is not
told. Where the probes are off or hang, they are left alone for a while.

Where a rule lets `callers` in by who they are, that has to be certain, and takes its time: who is not known within
`ADMITTED_WITHIN_S` is nobody.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import Unavailable
from gateway.policy.callers import attested

if TYPE_CHECKING:
    from gateway.dataplane.intercepted.flow import Flow

log = logging.getLogger("sluicegate.dataplane")

ATTRIBUTED_WITHIN_S: Final = 0.1
ADMITTED_WITHIN_S: Final = 2.0
"""To read an executable of 300 MB for the first time, or what thousands of processes have open."""
LEFT_ALONE_S: Final = 5.0
"""After a refusal: nothing is asked in vain, and nobody waits."""
MOST_SILENCES: Final = 3
"""In a row: taken for a refusal."""
MOST_ASKED: Final = 200
"""Questions on their way."""
SHORT_ID: Final = 12
"""Digits of a container's id, as runtimes print it."""

Asker = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Identity:
    """As ledger rows have it; None = not known."""

    process: str | None
    """Its comm; with what that is worth where it is not certain: `python3 (pre-existing)`."""
    user: str | None
    """Its name, or number."""
    container: str | None
    """Its name, or the beginning of its id; `NAME (unverified)` where a user may have named a cgroup so."""


def identity_of(said: dict[str, Any]) -> Identity:
    """What the answer to `who` says of somebody who was found."""
    marks, container, user = said["marks"], said["container"], said["user"]
    name = None
    if container is not None:
        name = container["name"] or container["id"][:SHORT_ID]
        if said["held"]["container"] != container["id"]:
            name += " (unverified)"
    process = _text(said["process"])
    return Identity(
        process=f"{process} ({', '.join(marks)})" if marks else process,
        user=_text(user if user is not None else str(said["uid"])),
        container=None if name is None else _text(name),
    )


def _text(given: str) -> str:
    """A process may call itself anything: what SQL and terminals take amiss is left out."""
    return "".join(letter if letter.isprintable() else "?" for letter in given)[:255]


class Whose:
    """A worker's questions. `asked` begins one for a connection, `known` waits for its answer."""

    def __init__(self, ask: Asker, counts: Counter[str]) -> None:
        """`ask`: the agent; raises Unavailable, or ValueError where it refuses. `counts`: `RULE kind` → connections."""
        self._ask = ask
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._alone_until_s = 0.0
        self._silences = 0
        self._asking: set[asyncio.Task[None]] = set()

    def asked(self, flow: "Flow") -> None:
        """Begin to ask, where there is something to be known."""
        if not flow.rule.callers and self._loop.time() < self._alone_until_s:
            return
        if not (flow.redirected or is_own(flow.client[0])):
            return
        if len(self._asking) >= MOST_ASKED:
            self._unknown(flow)
            return
        task = flow.asking = self._loop.create_task(self._find(flow))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def known(self, flow: "Flow") -> None:
        """Return when it is known, or will not be."""
        if flow.asking is not None and not flow.asking.done():
            await asyncio.wait((flow.asking,))

    def close(self) -> None:
        for task in self._asking:
            task.cancel()

    async def _find(self, flow: "Flow") -> None:
        (source, port), (destination, destination_port) = flow.client, flow.destination
        admits = bool(flow.rule.callers)
        try:
            async with asyncio.timeout(ADMITTED_WITHIN_S if admits else ATTRIBUTED_WITHIN_S):
                said = await self._ask(
                    "who", source=source, port=port, destination=destination, destination_port=destination_port,
                    care="certain" if admits else "quick",
                )  # fmt: skip
            self._silences = 0
            if said["found"]:
                flow.identity = identity_of(said)
                flow.attested = attested(said) if admits else None
                return
        except TimeoutError:
            self._silences += 1
            if self._silences >= MOST_SILENCES:
                self._leave_alone("no answer in time")
        except (Unavailable, ValueError) as error:
            self._leave_alone(str(error))
        except (KeyError, TypeError) as error:
            self._leave_alone(f"an answer that cannot be understood: {error!r}")
        self._unknown(flow)

    def _unknown(self, flow: "Flow") -> None:
        self._counts[f"{flow.rule.name} unattributed"] += 1

    def _leave_alone(self, reason: str) -> None:
        self._silences = 0
        self._alone_until_s = self._loop.time() + LEFT_ALONE_S
        log.debug("connections are not attributed to processes for a while", extra={"reason": reason})


def is_own(address: str) -> bool:
    """Whether it is an address of this host: nobody binds to another's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True
