"""Which container a process is in, by its cgroups, and what the runtime calls it, by the runtime's own socket."""

import contextlib
import http.client
import json
import os
import re
import socket
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

SOCKETS: Final = {"docker": "/var/run/docker.sock", "podman": "/run/podman/podman.sock"}
"""Podman answers Docker's questions, too."""
NAMED_BY: Final = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}
"""Variables that name another place, as their own commands read them: `unix://PATH`."""
ANSWER_S: Final = 0.5
KEPT: Final = 1024
KEPT_S: Final = 60.0
UNKNOWN_S: Final = 5.0
MOST_BYTES: Final = 1024 * 1024
_RUNTIMES: Final = (
    (re.compile(r"(?:/docker/|/docker-)([0-9a-f]{64})(?=\.scope|/|$)"), "docker"),
    (re.compile(r"/libpod-(?:payload-)?([0-9a-f]{64})(?=\.scope|/|$)"), "podman"),
    (re.compile(r"/(?:cri-containerd[-:])([0-9a-f]{64})(?=\.scope|/|$)"), "containerd"),
    (re.compile(r"/crio-([0-9a-f]{64})(?=\.scope|/|$)"), "cri-o"),
    (re.compile(r"/kubepods.*/([0-9a-f]{64})(?=\.scope|/|$)"), "containerd"),
)


@dataclass(frozen=True, slots=True)
class Container:
    id: str
    runtime: str
    name: str | None = None
    """None, as image and labels: the runtime does not answer."""
    image: str | None = None
    labels: dict[str, str] | None = None

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "labels": self.labels or {}}

    def called(self, name: str) -> bool:
        """By its name, or its id or the beginning of it that runtimes show (12 digits or more)."""
        return name == self.name or (len(name) >= 12 and self.id.startswith(name))


def container_of(cgroups: Iterable[str]) -> tuple[str, str] | None:
    """Id and runtime, from a process's cgroup paths."""
    for path in cgroups:
        for pattern, runtime in _RUNTIMES:
            found = pattern.search(path)
            if found:
                return found[1], runtime
    return None


class Containers:
    """What runtimes said, for a while. May wait: to be used off the event loop."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Container, float]] = OrderedDict()

    def named(self, container: str, runtime: str) -> Container:
        kept = self._known.get(container)
        if kept is not None and time.monotonic() < kept[1]:
            return kept[0]
        found = Container(container, runtime)
        path = _socket_of(runtime)
        if path is not None:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
                said = _ask(path, f"/containers/{container}/json")
                settings = said["Config"]
                labels = {str(key): str(value) for key, value in (settings.get("Labels") or {}).items()}
                found = Container(container, runtime, str(said["Name"]).lstrip("/"), str(settings["Image"]), labels)
        self._known[container] = (found, time.monotonic() + (UNKNOWN_S if found.name is None else KEPT_S))
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return found


def _socket_of(runtime: str) -> str | None:
    named = os.environ.get(NAMED_BY.get(runtime, ""), "")
    return named.removeprefix("unix://") if named.startswith("unix://") else SOCKETS.get(runtime)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(path: str, url: str) -> dict[str, Any]:
    """Raises OSError, ValueError, HTTPException."""
    with contextlib.closing(_UnixConnection(path)) as connection:
        connection.request("GET", url)
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"{path} answers {answer.status}")
        said = json.loads(answer.read(MOST_BYTES))
    if not isinstance(said, dict):
        raise ValueError(f"{path} answers with no object")
    return said
