"""What `sluicegate discoveries` and `sluicegate denials` do, and how they say so."""

import re
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.cli import output
from gateway.cli.control import Item, control
from gateway.cli.moments import ahead, back
from gateway.errors import BadRequest

COLUMNS: Final = (
    "id", "state", "who", "user", "container", "provider", "host", "evidence", "connections", "bytes", "last seen",
)  # fmt: skip
COVERAGE_COLUMNS: Final = ("process", "executable", "user", "container", "read", "running", "why not")
READ: Final = {"covered": "yes", "http2": "no: HTTP/2", "no_libssl": "no: no libssl", "refused": "no"}
DENIAL_COLUMNS: Final = ("id", "name", "who", "what", "in force", "denied", "limit", "used", "expires", "made by")
SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB|)", re.IGNORECASE)
UNITS: Final = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
}  # fmt: skip
WHO: Final = ("executable", "user", "cgroup", "container")
DONE: Final = {
    "observe": "is observed, nothing else is done about it",
    "govern": "is governed by {made}",
    "deny": "is denied by {made}",
    "ignore": "is ignored",
}


def list_findings(wanted: dict[str, Any], since: str | None, limit: int, json: bool, **place: Any) -> None:
    asked = {name: value for name, value in wanted.items() if value is not None}
    if since is not None:
        asked["since"] = back(since, datetime.now(UTC))
    items, reason = control(**place).discoveries(asked, limit)
    if json:
        _print_json(items)
    else:
        output.table(COLUMNS, [_row(item) for item in items], right=("id", "connections", "bytes"))
    if reason is not None:
        output.note(f"nothing new is found at present: {reason}")
    elif not items:
        output.note("nothing was found")


def show_coverage(json: bool, **place: Any) -> None:
    found = control(**place).coverage()
    if json:
        _print_json(found)
        return
    rows = [
        [item["process"], item["executable"], item["user"], item["container"], READ[item["state"]], item["running"],
         item["reason"]]
        for item in found["processes"]
    ]  # fmt: skip
    output.table(COVERAGE_COLUMNS, rows, right=("running",))
    if found["reason"] is not None:
        output.note(f"nobody is read at present: {found['reason']}")
    elif not found["chosen"]:
        output.note('nobody is chosen: put tls_watched = ["*/curl", "user:www-data"] into sluicegate.toml')
        output.note("of the data folder, and send `sluicegate serve` SIGHUP")
    elif not rows:
        output.note(f"no process fits {', '.join(found['chosen'])}")


def show(number: int, json: bool, **place: Any) -> None:
    found = control(**place).discovery(number)
    if json:
        _print_json(found)
        return
    if found["coverage"] is None and not found["calls"]:  # nobody has looked: that is not 0
        found |= dict.fromkeys(("calls", "input_tokens", "output_tokens", "models"))
    output.table(("field", "value"), [[name, _cell(value)] for name, value in found.items()])


def decide(number: int, action: str, expires: str | None, more: dict[str, Any], json: bool, **place: Any) -> None:
    """`more`: app and TLS of a rule."""
    decision = {"action": action, **_expiry(expires), **{name: each for name, each in more.items() if each is not None}}
    found = control(**place).decide(number, decision)
    if json:
        _print_json(found)
        return
    who = found["process"] or found["client"] or found["container"] or "unknown"
    until = f" until {found['state_until']}" if found["state_until"] else ""
    made = f"the denial {found['denial']}" if found["denial"] else f"the interception rule {found['rule']}"
    done = DONE[action].format(made=made)
    output.say(f"finding {number}, {who} to {found['host']}, {done}{until}")
    if action in ("govern", "deny"):
        output.note(f"in force within a second; `sluicegate discoveries observe {number}` undoes it")


def list_denials(json: bool, **place: Any) -> None:
    items = control(**place).denials()
    if json:
        _print_json(items)
        return
    output.table(DENIAL_COLUMNS, [_denial_row(item) for item in items], right=("id", "denied", "used"))
    for item in items:
        if item["in_force"] is not True and item["reason"]:
            output.note(f"{item['name']}: {item['reason']}")


def add_denial(denial: dict[str, Any], expires: str | None, json: bool, **place: Any) -> None:
    given = {name: value for name, value in denial.items() if value is not None}
    made = control(**place).add_denial({**given, **_expiry(expires)})
    if json:
        _print_json(made)
        return
    may = f"may reach {_what(made)} within {_limit(made)}" if made["limit"] else f"may not reach {_what(made)}"
    output.say(f"{_who(made)} {may}: denial {made['name']}")
    output.note(f"in force within a second; `sluicegate denials remove {made['name']}` undoes it")


def limit_from(connections: int | None, size: str | None, per: str | None) -> dict[str, Any] | None:
    """As the API takes it. Raises BadRequest."""
    if connections is None and size is None and per is None:
        return None
    if per is None or (connections is None) == (size is None):
        raise BadRequest(
            "a limit is of --connections or of --bytes, --per something",
            fix="write e.g. --connections 100 --per minute, or --bytes 10MB --per hour",
        )
    return {"per": per, **({"connections": connections} if size is None else {"bytes": _bytes(size)})}


def _bytes(text: str) -> int:
    """Raises BadRequest."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise BadRequest(f"{text!r} is no size", fix="write a number and kB, MB, GB, KiB, MiB or GiB, e.g. 10MB")
    return int(float(found[1]) * UNITS[found[2].lower()])


def remove_denial(reference: str, **place: Any) -> None:
    control(**place).remove_denial(reference)
    output.say(f"denial {reference} is removed")


def _expiry(expires: str | None) -> dict[str, float]:
    """The distance that the API takes. Raises BadRequest."""
    if expires is None:
        return {}
    now = datetime.now(UTC)
    return {"expires_in": (ahead(expires, now) - now).total_seconds()}


def _row(item: Item) -> list[output.Cell]:
    names = ("user", "container", "provider", "host", "evidence", "connections", "bytes")
    return [item["id"], item["state"], item["process"] or item["client"], *(item[name] for name in names),
            item["last_seen"][:19]]  # fmt: skip


def _denial_row(item: Item) -> list[output.Cell]:
    in_force = {True: "yes", False: "no", None: "not known"}[item["in_force"]]
    return [item["id"], item["name"], _who(item), _what(item), in_force, item["denied"],
            _limit(item), item["used"], item["expires_at"], item["created_by"]]  # fmt: skip


def _limit(item: Item) -> str | None:
    limit = item["limit"]
    if limit is None:
        return None
    of = "connections" if limit["bytes"] is None else "bytes"
    return f"{limit[of]} {of} per {limit['per']}"


def _who(item: Item) -> str:
    return ", ".join(f"{name} {item[name]}" for name in WHO if item[name])


def _what(item: Item) -> str:
    places = [*([f"provider {item['provider']}"] if item["provider"] else []), *item["hosts"], *item["cidrs"]]
    ports = f" (ports {', '.join(map(str, item['ports']))})" if item["ports"] else ""
    return ", ".join(places) + ports


def _cell(value: object) -> output.Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _print_json(value: object) -> None:
    output.say(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
