"""AI providers by name and hosts: the kept list (`catalogue.toml`), which the keeper may replace."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SHIPPED: Final = Path(__file__).with_name("catalogue.toml")
MOST_REMEMBERED: Final = 4096
_HOST: Final = re.compile(r"(?:\*|[a-z0-9_*-]+)(?:\.[a-z0-9_*-]+)+")


class HostPatterns:
    """Host names, some with `*`: as the first label it stands for one label or more, elsewhere for a part of one."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises ValueError for what is no host."""
        given = [pattern.lower().rstrip(".") for pattern in patterns]
        for pattern in given:
            if not _HOST.fullmatch(pattern) or pattern.endswith("*"):
                raise ValueError(f"{pattern!r} is no host name")
        self.exact: Final = frozenset(pattern for pattern in given if "*" not in pattern)
        """Those that may be looked up."""
        self._tails = tuple(pattern[1:] for pattern in given if pattern.startswith("*.") and "*" not in pattern[1:])
        parts = [_expression(pattern) for pattern in given if "*" in pattern and pattern[1:] not in self._tails]
        self._rest = re.compile("|".join(parts)) if parts else None

    def fits(self, host: str) -> bool:
        """`host`: lower case, no dot at its end."""
        if host in self.exact or host.endswith(self._tails):
            return True
        return self._rest is not None and self._rest.fullmatch(host) is not None


def _expression(pattern: str) -> str:
    head, rest = ("(?:[^.]+\\.)+", pattern[2:]) if pattern.startswith("*.") else ("", pattern)
    return head + "[^.]+".join(re.escape(part) for part in rest.split("*"))


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    title: str
    hosts: HostPatterns


class Catalogue:
    """Not changed once made."""

    def __init__(self, providers: Mapping[str, Mapping[str, Any]]) -> None:
        """`{name: {"title", "hosts"}}`. Raises ValueError, KeyError."""
        self.providers = {
            name: Provider(name, str(each["title"]), HostPatterns(each["hosts"])) for name, each in providers.items()
        }
        self._remembered: dict[str, str | None] = {}

    @classmethod
    def shipped(cls) -> "Catalogue":
        return cls(tomllib.loads(SHIPPED.read_text(encoding="utf-8")))

    @classmethod
    def of(cls, providers: Mapping[str, Mapping[str, Any]]) -> "Catalogue":
        """As the keeper tells it: the shipped one where it is empty. Raises ValueError, KeyError, TypeError."""
        return cls(providers) if providers else cls.shipped()

    def provider_of(self, host: str) -> str | None:
        """Its name."""
        if host not in self._remembered:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            fitting = (name for name, provider in self.providers.items() if provider.hosts.fits(host))
            self._remembered[host] = next(fitting, None)
        return self._remembered[host]
