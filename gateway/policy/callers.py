"""Who needs no key: processes of this host that an interception rule claims by what the kernel says of them.

Pure: what the kernel says is found by `dataplane.intercepted.whose`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

SHORTEST_ID: Final = 12
"""Hex digits of a container's id that name it."""
BEARABLE: Final = frozenset(("namespaced", "unsettled"))
"""What `who` may say (`probes.callers`) and yet it is certain who is at the other end; of the executable it is not."""
_UNIT: Final = re.compile(r"[^/]+\.(?:service|scope|socket|mount|swap)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerClaim:
    """Fits whoever all that is given here fits."""

    app: str
    """Who is charged."""
    executable: str | None = None
    """Its absolute path."""
    sha256: str | None = None
    """Of its content; lower-case hex."""
    user: str | None = None
    """Name or number."""
    unit: str | None = None
    """Of the system's systemd, e.g. `indexer.service`."""
    container: str | None = None
    """Name or id, or the beginning of it."""
    image: str | None = None
    """As the container was started with."""
    label: str | None = None
    """`key=value`"""
    cgroup: str | None = None
    """Path below the root of cgroup v2; those within count too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What the kernel says of a connection's process. None: it does not, or it is not certain."""

    marks: tuple[str, ...]
    executable: str | None
    sha256: str | None
    uid: int
    user: str | None
    cgroup: str | None
    """As far as only root could have made it so."""
    container: str | None
    """Id, likewise."""
    container_name: str | None
    image: str | None
    labels: tuple[str, ...]


def attested(said: Mapping[str, Any]) -> Attested:
    """From the answer to `who` of somebody who was found. Raises KeyError and TypeError for anything else."""
    held = said["held"]
    container = said["container"] if held["container"] else None
    return Attested(
        marks=tuple(said["marks"]),
        executable=said["executable"],
        sha256=said["sha256"],
        uid=int(said["uid"]),
        user=said["user"],
        cgroup=held["cgroup"],
        container=None if container is None else container["id"],
        container_name=None if container is None else container["name"],
        image=None if container is None else container["image"],
        labels=tuple(f"{key}={value}" for key, value in sorted(container["labels"].items())) if container else (),
    )


def app_of(claims: Iterable[CallerClaim], who: Attested | None) -> str | None:
    """Whom the first claim that fits charges."""
    if who is None or not BEARABLE.issuperset(who.marks):
        return None
    return next((claim.app for claim in claims if _fits(claim, who)), None)


def _fits(claim: CallerClaim, who: Attested) -> bool:
    if (claim.executable is not None or claim.sha256 is not None) and who.marks:
        return False
    wanted = (
        (claim.executable, who.executable),
        (claim.sha256, who.sha256),
        (claim.unit, unit_of(who.cgroup)),
        (claim.image, who.image),
    )
    return (
        all(asked is None or asked == found for asked, found in wanted)
        and (claim.user is None or claim.user in (who.user, str(who.uid)))
        and (claim.label is None or claim.label in who.labels)
        and (claim.container is None or _is_called(claim.container, who))
        and (claim.cgroup is None or _is_within(claim.cgroup, who.cgroup))
    )


def unit_of(cgroup: str | None) -> str | None:
    """The system's unit: what is within it is named by who runs there, as the units of a user's own systemd are."""
    for name in (cgroup or "").strip("/").split("/"):
        if not name.endswith(".slice"):
            return name if _UNIT.fullmatch(name) else None
    return None


def _is_called(name: str, who: Attested) -> bool:
    if who.container is None:
        return False
    return name == who.container_name or (len(name) >= SHORTEST_ID and who.container.startswith(name))


def _is_within(folder: str, cgroup: str | None) -> bool:
    return cgroup is not None and (cgroup.strip("/") + "/").startswith(folder.strip("/") + "/")


def claims_of(given: Iterable[Mapping[str, Any]]) -> tuple[CallerClaim, ...]:
    """What `dataclasses.asdict` made of claims. Raises KeyError, ValueError."""
    names = [field.name for field in fields(CallerClaim)]
    return tuple(CallerClaim(**{name: _text(each[name]) for name in names}) for each in given)


def _text(given: Any) -> Any:
    if given is not None and (type(given) is not str or "\0" in given):
        raise ValueError(f"{given!r} is no text")
    return given
