"""What of denials and rules stands in a node's kernel, put into the views of what SQL holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.policy.discovery import State
from gateway.store.discovery_documents import Coverage, CoverageView, DenialView, DiscoveryView
from gateway.store.tls_calls import coverage_of


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one denial or rule."""

    in_force: bool
    reason: str | None
    denied: int | None = None
    used: int | None = None
    """Of a limit, as are the next two."""
    dropped_bytes: int | None = None
    resets_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """By name, of one node."""

    reason: str | None
    """Why nothing is found and denied there at present; None = all is well."""
    denials: Mapping[str, Standing] = field(default_factory=dict)
    rules: Mapping[str, Standing] = field(default_factory=dict)
    node: str | None = None
    tls: Mapping[str, Any] | None = None
    """Who is chosen to be read within TLS, and how far they are (`keeper_tls`)."""

    def of_denial(self, view: DenialView) -> DenialView:
        standing = self.denials.get(view.name)
        usage: dict[str, Any] = {}
        if standing is not None:
            usage = {
                "used": standing.used, "dropped_bytes": standing.dropped_bytes, "resets_at": standing.resets_at
            }  # fmt: skip
        return view.model_copy(update=_fields(standing, self.reason) | usage)

    def of_discovery(self, view: DiscoveryView) -> DiscoveryView:
        return self._at_work(self._covered(view))

    def _covered(self, view: DiscoveryView) -> DiscoveryView:
        if view.node != self.node or view.client is not None:
            return view
        found = {
            "program": view.executable or view.process, "user": view.user, "container": view.container,
            "cgroup": view.cgroup,
        }  # fmt: skip
        state, reason = coverage_of(self.tls["coverage"] if self.tls is not None else (), found)
        return view.model_copy(update={"coverage": state and Coverage(state), "coverage_reason": reason})

    def coverage(self) -> CoverageView:
        if self.tls is None:
            return CoverageView(chosen=None, processes=[], reason=self.reason)
        return CoverageView.model_validate(
            {
                "chosen": self.tls["chosen"],
                "processes": self.tls["coverage"],
                "reason": self.reason or self.tls["missing"],
            }
        )

    def _at_work(self, view: DiscoveryView) -> DiscoveryView:
        if view.state not in (State.DENY, State.GOVERN):
            return view
        if view.denial is not None:
            return view.model_copy(update=_fields(self.denials.get(view.denial), self.reason))
        return view.model_copy(update=_fields(self.rules.get(view.rule or ""), None))


def enforcement_of(report: Mapping[str, Any], interception: Mapping[str, Any] | None) -> Enforcement:
    """`report`: the keeper's (`store.keeper_discoveries`); `interception`: the agent's (`intercept.status`)."""
    rules = () if interception is None else interception["rules"]
    return Enforcement(
        reason=report["reason"],
        denials={one["name"]: _standing(one) for one in report["denials"]},
        rules={rule["rule"]: Standing(rule["armed"], rule["reason"], rule.get("denied")) for rule in rules},
        node=report["node"],
        tls=report["tls"],
    )


def _standing(one: Mapping[str, Any]) -> Standing:
    resets_at_s = one.get("resets_at_s")
    return Standing(
        one["in_force"], one["reason"], one["denied"], one.get("used"), one.get("dropped_bytes"),
        None if resets_at_s is None else datetime.fromtimestamp(resets_at_s, UTC),
    )  # fmt: skip


def _fields(standing: Standing | None, reason: str | None) -> dict[str, Any]:
    """Nothing is known of what the node has not heard of yet."""
    if standing is None:
        return {"in_force": None, "reason": reason, "denied": None}
    return {"in_force": standing.in_force, "reason": standing.reason, "denied": standing.denied}
