"""What passes an interface, as tcpdump tells it: flags of TCP segments, ICMP errors."""

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tests.support.lab.namespace import Namespace

LINE = re.compile(
    r"^(?P<time>\d+\.\d+) (?:\S+ +\S+ +)?IP6? (?P<source>\S+) > (?P<target>\S+): "
    r"(?:Flags \[(?P<flags>[^\]]*)\].*length (?P<length>\d+)|(?P<other>.*))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """`flags` as tcpdump writes them: S F R P . (ACK); empty for what is not TCP, whose description is `other`."""

    time_s: float
    source: str
    source_port: int
    target: str
    target_port: int
    flags: str
    length: int
    other: str


class Capture:
    """Starts at once; `stop()` gives the packets."""

    def __init__(self, where: Namespace, interface: str, *expression: str) -> None:
        command = [
            "tcpdump",
            "-Z",
            "root",
            "-i",
            interface,
            "-nn",
            "-tt",
            "-l",
            "--immediate-mode",
            "-s",
            "128",
            *expression,
        ]
        self._process = where.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said = ""
        while "listening on" not in said:
            line = self._process.stderr.readline()
            assert line, f"tcpdump ended: {said}"
            said += line
        self._packets: list[Packet] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self, after_s: float = 0.2) -> list[Packet]:
        """Everything seen so far; packets of the last moment are waited for."""
        if self._packets is None:
            time.sleep(after_s)
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, _ = self._process.communicate(timeout=10)
            self._packets = [packet for line in out.splitlines() if (packet := _read(line))]
        return self._packets

    def tcp(self, fits: Callable[[Packet], bool] = lambda packet: True) -> list[Packet]:
        return [packet for packet in self.stop() if packet.flags and fits(packet)]

    def flags_from(self, address: str, port: int | None = None) -> list[str]:
        """The flags of each segment that this end sent, in order."""
        return [
            packet.flags
            for packet in self.stop()
            if packet.flags and packet.source == address and port in (None, packet.source_port)
        ]


def _read(line: str) -> Packet | None:
    found = LINE.match(line)
    if found is None:
        return None
    source, source_port = _split(found["source"])
    target, target_port = _split(found["target"])
    return Packet(
        time_s=float(found["time"]),
        source=source,
        source_port=source_port,
        target=target,
        target_port=target_port,
        flags=found["flags"] or "",
        length=int(found["length"] or 0),
        other=found["other"] or "",
    )


def _split(text: str) -> tuple[str, int]:
    """`10.9.1.2.80` → address and port; ICMP has no port."""
    address, _, port = text.rpartition(".")
    four = address.count(".") == 3
    if port.isdigit() and (four or ":" in address):
        return address, int(port)
    return text, 0
