"""Which events a tracer wants."""

import ipaddress
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

Event: TypeAlias = Mapping[str, Any]
Test: TypeAlias = Callable[[Event], bool]

NAMED: Final = {"exec": ("executable",), "connect": (), "dns": ("name",), "http": ("host", "path")}
"""Fields that `match` looks at, by kind; of an exec the arguments too."""
PEERS: Final = {"exec": (), "connect": ("destination",), "dns": ("server",), "http": ("peer",)}


def filter_of(kind: str, options: Mapping[str, Any]) -> Test:
    """All of `{"pids", "uids", "processes", "cgroups", "containers", "cidrs", "ports", "match", "failed", "slower_ms"}`
    that are given hold. Raises ValueError for one that cannot be, and what is none of them."""
    tests = [_BY_NAME[name](kind, wanted) for name, wanted in _known(options).items()]
    return lambda event: all(test(event) for test in tests)


def _known(options: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = options.keys() - _BY_NAME.keys()
    if unknown:
        raise ValueError(f"no filter is called {', '.join(sorted(unknown))}")
    return {name: wanted for name, wanted in options.items() if wanted not in (None, [], False)}


def _one_of(field: str) -> Callable[[str, Any], Test]:
    def made(_kind: str, wanted: list[int]) -> Test:
        return lambda event: event[field] in wanted

    return made


def _like(field: str) -> Callable[[str, Any], Test]:
    def made(_kind: str, wanted: list[str]) -> Test:
        return lambda event: any(fnmatchcase(event[field] or "", pattern) for pattern in wanted)

    return made


def _in_cgroups(_kind: str, wanted: list[str]) -> Test:
    folders = [each.rstrip("/") for each in wanted]
    return lambda event: any(f"{event['cgroup'] or ''}/".startswith(f"{folder}/") for folder in folders)


def _in_containers(_kind: str, wanted: list[str]) -> Test:
    return lambda event: any((event["container"] or "?").startswith(each[:12]) for each in wanted)


def _to(kind: str, wanted: list[str]) -> Test:
    networks = [ipaddress.ip_network(each, strict=False) for each in wanted]
    fields = PEERS[kind]
    if not fields:
        raise ValueError(f"{kind} has no destination")
    return lambda event: any(ipaddress.ip_address(event[field]) in each for field in fields for each in networks)


def _ports(kind: str, wanted: list[int]) -> Test:
    if kind not in ("connect", "http"):
        raise ValueError(f"{kind} has no port to filter by")
    return lambda event: event["port"] in wanted


def _matches(kind: str, wanted: list[str]) -> Test:
    fields = NAMED[kind]
    if not fields:
        raise ValueError(f"{kind} has no name to match")

    def test(event: Event) -> bool:
        texts = [event[field] or "" for field in fields]
        if kind == "exec":
            texts.append(" ".join(event["argv"]))
        return any(fnmatchcase(text, pattern) for text in texts for pattern in wanted)

    return test


FINE: Final = {"exec": ("done",), "connect": ("established", "datagrams"), "dns": ("NOERROR",)}


def _failed(kind: str, _wanted: bool) -> Test:
    if kind == "http":
        return lambda event: not event["result"].startswith(("2", "3"))
    fine = FINE[kind]
    return lambda event: event["result"] not in fine


def _slower(kind: str, wanted: float) -> Test:
    if kind == "exec":
        raise ValueError("exec has no latency")
    return lambda event: event["latency_ms"] is not None and event["latency_ms"] >= wanted


_BY_NAME: Final[dict[str, Callable[[str, Any], Test]]] = {
    "pids": _one_of("pid"),
    "uids": _one_of("uid"),
    "processes": _like("process"),
    "cgroups": _in_cgroups,
    "containers": _in_containers,
    "cidrs": _to,
    "ports": _ports,
    "match": _matches,
    "failed": _failed,
    "slower_ms": _slower,
}
