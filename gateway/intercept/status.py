"""What interception does at this moment, in words and figures: for `sluicegate intercept status` and the REST API."""

from datetime import UTC, datetime
from typing import Any

from gateway.intercept import host_facts
from gateway.intercept.arming import is_armed
from gateway.intercept.arrivals import Arrivals
from gateway.intercept.canary import Canary
from gateway.intercept.capture import Capture
from gateway.intercept.desk import Desk
from gateway.policy.interception import InterceptionRule, Mode
from gateway.probes.prober import Prober


def status_of(
    capture: Capture,
    desk: Desk,
    prober: Prober,
    *,
    release: str,
    started_at_s: float,
    upgraded_at_s: float | None,
    taking_over: bool,
    try_until_s: float | None,
    canary: Canary,
    arrivals: Arrivals,
) -> dict[str, Any]:
    """JSON-ready. Counts are connections since the agent started; times RFC 3339."""
    return {
        "release": release,
        "started_at": _time(started_at_s),
        "upgraded_at": None if upgraded_at_s is None else _time(upgraded_at_s),
        "taking_over": taking_over,
        "up": capture.wanted.up,
        "try_until": None if try_until_s is None else _time(try_until_s),
        "workers": len(desk.living),
        "capturing": capture.beating,
        "trouble": capture.trouble,
        "marks": capture.marks.plain(),
        "ipv6": capture.routes.ipv6 and host_facts.has_ipv6(),
        "repairs": [{"at": _time(repair.at_s), "what": repair.what} for repair in capture.repairs],
        "canaries": [
            {
                "path": path,
                "last_well": None if song.well_s is None else _time(song.well_s),
                "trouble": song.error,
            }
            for path, song in sorted(canary.songs.items())
        ],
        "probes": prober.status(),
        "rules": [_rule(rule, capture, desk, prober, canary, arrivals) for rule in capture.wanted.rules],
    }


def _rule(
    rule: InterceptionRule, capture: Capture, desk: Desk, prober: Prober, canary: Canary, arrivals: Arrivals
) -> dict[str, Any]:
    counts = capture.counts(rule.name)
    armed = capture.is_armed(rule.name)
    return {
        "rule": rule.name,
        "mode": rule.mode.value,
        "on_failure": rule.on_failure.value,
        "armed": armed,
        "reason": _reason(rule, capture, arrivals, armed=armed) or _shut_out(rule, prober),
        "captured": counts["captured"],
        "passed": counts["passed"] + desk.count(rule.name, "passed"),
        "denied": counts["denied"] + desk.count(rule.name, "denied"),
        "bypassed": counts["bypassed"],
        "unattributed": desk.count(rule.name, "unattributed"),
        "open": desk.flows[rule.name],
        "last_canary": _last_canary(canary) if rule.mode is Mode.GOVERN else None,
        "destinations": _destinations(rule, capture),
    }


def _reason(rule: InterceptionRule, capture: Capture, arrivals: Arrivals, *, armed: bool) -> str | None:
    """Why it is not armed, or what is wrong although it is."""
    if capture.trouble is not None:
        return capture.trouble
    if not capture.wanted.up:
        return "interception is down: sluicegate intercept up"
    lost = arrivals.lost(rule.name)
    if lost and armed:
        return (
            f"of the last {lost} connections that were captured none came to a worker: "
            "this host's firewall drops them? sluicegate doctor"
        )
    said = capture.arming.reasons.get(rule.name)
    if said is None and not armed:
        mine = next((each for each in capture.arming.rules if each.rule.name == rule.name), None)
        if mine is not None and is_armed(mine) and rule.mode is Mode.GOVERN:
            return "no worker of the gateway answers"
        return "it fits no connection: it has no destination or no source"
    return said


def _shut_out(rule: InterceptionRule, prober: Prober) -> str | None:
    """Why its `callers` are not let in."""
    if not rule.callers:
        return None
    reason = prober.trouble or prober.features.get("callers", "the probes do not know of it")
    return None if reason is None else f"nobody is let in by `callers`: {reason}"


def _last_canary(canary: Canary) -> str | None:
    """When all paths were well: the oldest of them, so that one that fails shows."""
    times = [song.well_s for song in canary.songs.values()]
    known = [each for each in times if each is not None]
    return _time(min(known)) if known and len(known) == len(times) else None


def _destinations(rule: InterceptionRule, capture: Capture) -> list[str]:
    found = [address for host in rule.hosts for address in capture.names.addresses(host)]
    return [*rule.cidrs, *dict.fromkeys(found)]


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
