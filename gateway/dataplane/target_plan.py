"""What does not change from call to call, worked out once: where a request with this head goes on this route.

SDKs send the same head over and over, so the second call finds all of it here. A plan holds for one snapshot; with the
next it is made anew.
"""

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from gateway.dataplane.answers import route_lines
from gateway.dataplane.health import TargetState
from gateway.dataplane.identity import Caller
from gateway.dataplane.lease import LeasePlan
from gateway.dataplane.leases import LeaseBook
from gateway.dataplane.upstream import OriginPool
from gateway.dialects.base import DialectHandler
from gateway.dialects.registry import HANDLERS
from gateway.policy.model import App, Credential, Dialect, Key, Limit, Route, Target
from gateway.policy.records import RecordForms
from gateway.policy.snapshot import Snapshot
from gateway.policy.usage import LedgerRow, Rates
from gateway.policy.windows import NEVER_S

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane

_FORMS: Final = count(1)
"""Numbers of the forms of this process."""


class TargetPlan:
    """One target with one credential, for one caller."""

    __slots__ = (
        "_captured", "_expires_at_ns", "answer_lines", "credential", "express_head", "forms", "from_ns", "head",
        "keeps_model", "lease_plan", "limits", "lines", "most_tokens_out", "patience_s", "pool", "rates", "row_sample",
        "row_values", "series", "state", "target", "until_ns",
    )  # fmt: skip

    lease_plan: LeasePlan
    """What an express call takes from, set by `prepare`."""
    forms: RecordForms
    """Its records, made for these leases."""
    express_head: bytes
    """`head`, which is there then."""

    def __init__(
        self,
        plane: "Plane",
        route: Route,
        target: Target,
        credential: Credential | None,
        limits: tuple[Limit, ...],
        expires_at_s: float,
    ) -> None:
        """`expires_at_s`: when the caller's key does (Unix time)."""
        self.target = target
        self.credential = credential
        self.limits = limits
        self.pool: OriginPool = plane.pool_of(target.provider)
        self.series = (route.name, target.name)
        """By which the kernel's figures are told apart (`tags`)."""
        self.state: TargetState = plane.health.of(target)
        self.lines = route_lines(route.name, target.name)
        """`x-sluicegate-route` and `-target` of the answer."""
        self.answer_lines = self.lines
        """The same with what all answers to this head carry (CORS)."""
        self.row_values = {"target": target.name, "provider": target.provider.name, "model": target.model}
        self.head: bytes | None = None
        """The upstream's request head up to its Content-Length, once it was made."""
        self.row_sample: dict[str, Any] | None = None
        """What the first call wrote into its open record: others with this head differ in id, times and figures."""
        self.from_ns = self.until_ns = 0
        """Between these (Unix time) an express call finds all of it here, `lease_plan` and `forms` too."""
        self._expires_at_ns = int(expires_at_s * 1e9)
        self.rates = None if target.price is None else Rates(target.price)
        self.most_tokens_out = route.max_output_tokens
        """Of a call that names no bound."""
        self.keeps_model = target.model == route.name
        """The provider knows the model by the name that callers write."""
        self._captured = route.capture is not None
        self.patience_s = min(route.timeouts.first_byte_s, route.timeouts.total_s)

    def prepare(self, book: LeaseBook, now_ns: int) -> bool:
        """Work out for express calls the leases of the windows that hold `now_ns` (Unix time) and the records that name
        them. False: there can be none now."""
        plan = book.plan_of(self.limits, now_ns / 1e9)
        self.until_ns = 0
        if self._captured or self.head is None or self.row_sample is None or (plan.counts_cost and self.rates is None):
            return False
        try:
            self.forms = RecordForms(next(_FORMS), LedgerRow(**self.row_sample), plan.accounts)
        except ValueError:  # names too long, or no text
            return False
        self.lease_plan = plan
        self.express_head = self.head
        self.from_ns = int(plan.from_s * 1e9)
        self.until_ns = min(int(plan.until_s * 1e9), self._expires_at_ns)
        return now_ns < self.until_ns


class CallPlan:
    """One caller on one route."""

    __slots__ = (
        "_app", "_by_choice", "_key", "_plane", "caller", "expires_at_s", "extra", "only", "own_lines", "route",
        "row_values", "snapshot", "targets", "wire",
    )  # fmt: skip

    def __init__(
        self,
        plane: "Plane",
        snapshot: Snapshot,
        caller: Caller | None,
        app: App,
        key: Key | None,
        route: Route,
        targets: Sequence[Target],
    ) -> None:
        self._plane = plane
        self.snapshot = snapshot
        self.caller = caller
        expires_at_s = None if caller is None else caller.key.expires_at_s
        self.expires_at_s = NEVER_S if expires_at_s is None else expires_at_s
        """When the caller's key expires (Unix time)."""
        self.route = route
        self.targets = targets
        """Those of the route that can serve this caller."""
        self.wire: DialectHandler = HANDLERS[targets[0].provider.dialect if targets else Dialect.HTTP]
        """What all these targets speak."""
        self._app = app
        self._key = key
        self.row_values = {
            "team": app.team,
            "app": app.name,
            "key": key.name or None if key else None,
            "route": route.name,
        }
        self.own_lines = None if caller is None else caller.own_lines
        """The caller's own credential, where that goes upstream; None = the target's."""
        self.only: TargetPlan | None = None
        """The plan of the only target with the only credential, once it was made: there is nothing to choose."""
        self.extra = b""
        """Lines that all answers to this head carry (`ClientAnswer.extra`)."""
        self._by_choice: dict[tuple[int, int], TargetPlan] = {}

    def credential(self, target: Target, now_s: float) -> Credential | None:
        """The next in turn of the target's; None where the caller has its own. `now_s`: event-loop time."""
        return None if self.own_lines is not None else self._plane.health.credential(target.provider, now_s)

    def of(self, target: Target, credential: Credential | None) -> TargetPlan:
        choice = (target.id, credential.id if credential is not None else 0)
        plan = self._by_choice.get(choice)
        if plan is None:
            limits = self.snapshot.limits_for(self._key, self._app, self.route, target, credential)
            plan = self._by_choice[choice] = TargetPlan(
                self._plane, self.route, target, credential, limits, self.expires_at_s
            )
            plan.answer_lines = plan.lines + self.extra
            if len(self.targets) == 1 and len(target.provider.credentials) <= 1:
                self.only = plan
        return plan
