"""What would happen to a request, in words and figures: asked by the REST API, answered by a worker's data plane."""

from dataclasses import dataclass

from gateway.policy.model import Dialect, Limit, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that nobody has sent. What is None is not known, and left open in the answer."""

    route: str
    app: str | None = None
    key: str | None = None
    """Of the app; its name."""
    dialect: Dialect | None = None
    method: str = "POST"
    host: str | None = None
    path: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    body: bytes | None = None
    """A sample, in the dialect: its bounds are then read from it, and the figures above beat them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitNeed:
    """One limit that applies on a target, and what the request would reserve of it (in its metric's unit)."""

    limit: Limit
    need: int
    unpriced: bool
    """It counts money, and what the request may cost here is not known."""

    @property
    def metric(self) -> Metric:
        return self.limit.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetExplained:
    """One target in the order in which it would be tried, as this worker sees it now."""

    target: str
    provider: str
    model: str | None
    state: str
    """`ready`; `half_open` (the next request is the trial); `cooling` (tried only where nothing else is ready); `down`
    (an active check says so: never tried)."""
    reasons: tuple[str, ...]
    """Why it stands where it stands, the weightiest first."""
    zone: str | None
    tags: tuple[str, ...]
    weight: int
    in_flight: int
    ttft_ms: float | None
    cost_bound_microusd: int | None
    """The most that the request may cost here; None = the price is not known."""
    credential: str | None
    """That the next request would show."""
    credentials_aside: tuple[str, ...]
    limits: tuple[LimitNeed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What one worker would do, by the configuration it has in force. Nothing has been sent, counted or reserved."""

    pid: int
    generation: int
    claimed: bool
    """Whether a request with this host, path and dialect comes to this route at all."""
    match: str
    """Why, or to whom it goes instead."""
    allowed: bool | None
    """Whether the app may call it; None where no app was named."""
    access: str
    dialect: Dialect
    input_tokens: int
    output_tokens: int
    """Bounds that would be reserved."""
    targets: tuple[TargetExplained, ...]
    skipped: tuple[tuple[str, str], ...]
    """Targets that are not tried, each with the reason."""
    attempts: int
    """At most, retries included."""
