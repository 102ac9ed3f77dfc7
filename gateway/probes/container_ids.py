"""Ids of containers, as the names of cgroups tell them."""

import re
from typing import Final

CONTAINER: Final = re.compile(r"(?<![0-9a-f])([0-9a-f]{64})(?![0-9a-f])")
"""docker-ID.scope, crio-ID.scope, libpod-ID.scope, …/docker/ID: runtimes name a container's cgroup by its id."""
SHORT_ID: Final = 12


def container_of(cgroup: str | None) -> str | None:
    """The id, as short as runtimes print it, of the container that a cgroup is of."""
    found = CONTAINER.findall(cgroup or "")
    return found[-1][:SHORT_ID] if found else None
