"""The probes' process as the agent starts it, with the capabilities that it gets; the test is the agent. They are about
this pytest process's cgroup.

with probes() as running:
    running.ask("who", source=…)
    running.tell({"type": "denials", …})
    running.wait_for("denial_state", lambda message: …)
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.probes.tracefs import PLACES
from gateway.wire.frames import FrameReader, frame, message_of
from tests.support.lab.namespace import REPOSITORY, Namespace
from tests.support.own_cgroup import cgroup_root

CAPABILITIES = ("bpf", "perfmon", "net_admin", "sys_ptrace")
READY_S = 30.0
ANSWER_S = 15.0
Message = dict[str, Any]


class Probes:
    """`messages` holds the last thousand."""

    def __init__(self, where: Namespace | None, cgroup: Path) -> None:
        self.messages: deque[Message] = deque(maxlen=1000)
        self._said = threading.Condition()
        self._next = 0
        ours, its = socket.socketpair()
        self._sock = ours
        names = ",".join(["-all", *(f"+{name}" for name in CAPABILITIES)])
        confined = ["setpriv", "--bounding-set", names, "--inh-caps", "-all", "--no-new-privs"]
        mounting = f'[ -d {PLACES[0]}/events ] || mount -t tracefs tracefs {PLACES[0]}; exec "$@"'  # as the agent does
        argv = [
            "sh",
            "-c",
            mounting,
            "sh",
            *confined,
            sys.executable,
            "-m",
            "gateway.probes.main",
            "--channel",
            str(its.fileno()),
            "--cgroup",
            str(cgroup),
        ]
        if where is not None:
            argv = [*where.prefix(), *argv]
        with its:
            self.process = subprocess.Popen(argv, pass_fds=[its.fileno()], cwd=REPOSITORY, env={**os.environ})
        threading.Thread(target=self._listen, daemon=True).start()
        self.tell({"type": "begin"})

    def _listen(self) -> None:
        reader = FrameReader()
        with contextlib.suppress(OSError):
            while data := self._receive():
                for payload in reader.feed(data):
                    with self._said:
                        self.messages.append(message_of(payload))
                        self._said.notify_all()

    def _receive(self) -> bytes:
        data, descriptors, _, _ = socket.recv_fds(self._sock, 65536, 8)
        for number in descriptors:
            os.close(number)
        return data

    def tell(self, message: Message) -> None:
        self._sock.sendall(frame(message))

    def wait_for(
        self, kind: str, fits: Callable[[Message], bool] = lambda message: True, within_s: float = ANSWER_S
    ) -> Message:
        """The newest message of a type that fits, now or when it comes."""
        deadline = time.monotonic() + within_s
        with self._said:
            while True:
                for message in reversed(self.messages):
                    if message["type"] == kind and fits(message):
                        return message
                left_s = deadline - time.monotonic()
                assert left_s > 0, f"no such {kind}: {[m for m in self.messages if m['type'] == kind][-5:]}"
                self._said.wait(left_s)

    def ask(self, question: str, /, **options: Any) -> Message:
        self._next += 1
        number = self._next
        self.tell({**options, "type": question, "id": number})
        reply = self.wait_for("answer", lambda message: bool(message["id"] == number))
        assert "error" not in reply, reply
        said: Message = reply["said"]
        return said

    def who(self, source: tuple[Any, ...], destination: tuple[Any, ...]) -> Message:
        """`source` and `destination`: as getsockname(2) has them at the client."""
        return self.ask(
            "who", source=source[0], port=source[1], destination=destination[0], destination_port=destination[1]
        )

    def lost(self) -> dict[str, int]:
        """As told the next time."""
        with self._said:
            for message in [each for each in self.messages if each["type"] == "costs"]:
                self.messages.remove(message)
        lost: dict[str, int] = self.wait_for("costs")["lost"]
        return lost

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self.process.wait(10)


@contextmanager
def probes(where: Namespace | None = None, cgroup: Path | None = None) -> Iterator[Probes]:
    """Loaded: every feature works here. `cgroup`: that they are about; default: this pytest process's."""
    running = Probes(where, cgroup or cgroup_root())
    try:
        hello = running.wait_for("hello", within_s=READY_S)
        # In the network namespace that all pytest processes share there is room for two tables that watch.
        missing = {name for name, reason in hello["features"].items() if reason}
        assert missing <= (set() if where is not None else {"forwarded"}), hello
        yield running
    finally:
        running.close()
