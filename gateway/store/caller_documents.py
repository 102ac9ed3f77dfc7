"""The shape of `callers` of an interception rule: whom the kernel's word is enough for."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, model_validator

from gateway.store.document import Document
from gateway.store.fields import ModelName, PartName, User, refused

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_UNIT: Final = re.compile(r"[^/\s]+\.(?:service|scope|socket|mount|swap)")


def _executable(value: str) -> str:
    if not value.startswith("/"):
        raise refused(f"{value!r} is a relative path", "write the whole path, e.g. /usr/bin/indexer")
    if any(part in ("", ".", "..") for part in value[1:].split("/")):
        raise refused(
            f"{value!r} is not how the kernel writes a path",
            "leave out //, . and .., and follow links: `readlink -f` says it",
        )
    return value


def _sha256(value: Any) -> Any:
    if not isinstance(value, str) or not _SHA256.fullmatch(found := value.lower().removeprefix("sha256:")):
        raise refused("is not a SHA-256", "write the 64 hex digits that `sha256sum` prints")
    return found


def _unit(value: str) -> str:
    if not _UNIT.fullmatch(value):
        raise refused(f"{value!r} is no unit of systemd that processes run in", "write e.g. indexer.service")
    return value


def _label(value: str) -> str:
    if not value.partition("=")[0] or "=" not in value:
        raise refused(f"{value!r} is no label with its value", "write key=value")
    return value


def _cgroup(value: str) -> str:
    parts = value.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise refused(f"{value!r} is no path of a cgroup", "write e.g. system.slice/indexer.service")
    return "/".join(parts)


class CallerDocument(Document):
    """Fits whoever all that is given here fits."""

    executable: Annotated[ModelName, AfterValidator(_executable)] | None = None
    """Path of the file that the process runs; of a script it is the interpreter's."""
    sha256: Annotated[ModelName, AfterValidator(_sha256)] | None = None
    """Of that very file's content."""
    user: User | None = None
    unit: Annotated[ModelName, AfterValidator(_unit)] | None = None
    """Of the system's systemd, not of a user's own."""
    container: ModelName | None = None
    """Name, or id from 12 digits."""
    image: ModelName | None = None
    """As the container was started with it."""
    label: Annotated[ModelName, AfterValidator(_label)] | None = None
    """`key=value`"""
    cgroup: Annotated[ModelName, AfterValidator(_cgroup)] | None = None
    """Path below the root of cgroup version 2; those within count too."""
    app: PartName | None = None
    """Who is charged; left out: the rule's `app`."""

    @model_validator(mode="after")
    def _names_somebody(self) -> "CallerDocument":
        if not any(getattr(self, name) is not None for name in type(self).model_fields if name != "app"):
            raise refused("would fit everybody", "give one at least of executable, sha256, user, unit, container, …")
        return self
