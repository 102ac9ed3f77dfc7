"""Which hosts are AI providers', as this gateway has it: the shipped catalogue, what an operator adds to it, and the
providers that are configured here.

An operator's list is `ai-providers.toml` in the data folder, of the same form as the shipped one: an entry of a name
that the shipped one has takes its place, one without hosts removes it. It is read again when it changes.
"""

import logging
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.policy.model import Dialect
from gateway.probes import catalogue
from gateway.store.models import Provider

log = logging.getLogger(__name__)

FILE: Final = "ai-providers.toml"
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_HOSTS: Final = 20_000

Entries = dict[str, dict[str, Any]]
"""`title` and `hosts` by name."""


class OwnCatalogue:
    """Blocks on the disk: read it in a thread."""

    def __init__(self, data: Path) -> None:
        self._path = data / FILE
        self._mark: tuple[int, int, int] | None = None
        self._entries: Entries = {}

    def read(self) -> Entries:
        """The file's entries as it is now. One that is not understood is logged once, and the one before stays."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._mark, self._entries = None, {}
            return self._entries
        mark = (found.st_mtime_ns, found.st_size, found.st_ino)
        if mark != self._mark:
            self._mark = mark
            try:
                self._entries = entries_of(self._path.read_bytes())
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                told = {"file": str(self._path), "error": str(error)}
                log.error("the catalogue of AI providers is not understood", extra=told)
        return self._entries


def entries_of(content: bytes) -> Entries:
    """Raises ValueError, KeyError, TypeError and AttributeError for what is no catalogue."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    given = tomllib.loads(content.decode())
    found = {
        name: {
            "title": str(each.get("title", name)),
            "hosts": [str(host).lower().rstrip(".") for host in each["hosts"]],
        }
        for name, each in given.items()
    }
    catalogue.Catalogue(found)
    if sum(len(each["hosts"]) for each in found.values()) > MOST_HOSTS:
        raise ValueError(f"it has more than {MOST_HOSTS} hosts")
    return found


def shipped() -> Entries:
    return entries_of(catalogue.SHIPPED.read_bytes())


def configured_hosts(session: Session) -> dict[str, str]:
    """Host by name of the configured providers that speak an AI dialect."""
    rows = session.execute(select(Provider.name, Provider.base_url).where(Provider.dialect != Dialect.HTTP.value))
    return {name: (urlsplit(base_url).hostname or "").lower() for name, base_url in rows}


def merged(base: Mapping[str, Mapping[str, Any]], own: Entries, hosts: Mapping[str, str]) -> Entries:
    """All together. A configured provider's host that no entry has (and that is a name, no address) is added to the
    entry of the provider's name."""
    found: Entries = {name: dict(each) for name, each in {**base, **own}.items() if each["hosts"]}
    known = catalogue.Catalogue(found)
    for name, host in hosts.items():
        if not _is_name(host) or known.provider_of(host) is not None:
            continue
        entry = found.get(name, {"title": name, "hosts": []})
        found[name] = {**entry, "hosts": _with(entry["hosts"], host)}
    return found


def _is_name(host: str) -> bool:
    """A name with a dot, as the catalogue wants it; the last label of an address is a number."""
    if "." not in host or host.rpartition(".")[2].isdecimal():
        return False
    try:
        catalogue.HostPatterns([host])
    except ValueError:
        return False
    return True


def _with(hosts: Sequence[str], host: str) -> list[str]:
    return [*hosts, *([] if host in hosts else [host])]
