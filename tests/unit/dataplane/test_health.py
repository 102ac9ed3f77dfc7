"""The circuit breaker, set-asides and the retry budget, with time passed in."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, floats, integers

from gateway.dataplane.health import (
    FAILURES_BEFORE_COOLDOWN,
    FIRST_COOLDOWN_S,
    LONGEST_ASKED_S,
    LONGEST_COOLDOWN_S,
    Health,
    TargetState,
)
from gateway.dataplane.retry_budget import FREE_PER_S, SHARE, WINDOW_S, RetryBudget
from gateway.policy.model import Credential, CredentialId, Dialect, Provider, ProviderId


def fail(state: TargetState, now_s: float, retry_after_s: float | None = None) -> None:
    trial = state.begin(now_s)
    state.end(answered=False, ttft_s=None, trial=trial)
    state.fail(now_s, retry_after_s, trial=trial)


def test_it_opens_after_failures_in_a_row_for_twice_as_long_each_time() -> None:
    state, now_s = TargetState(), 0.0
    for _ in range(FAILURES_BEFORE_COOLDOWN - 1):
        fail(state, now_s)
        assert state.ready(now_s)
    state.end(answered=True, ttft_s=0.1, trial=state.begin(now_s))
    for _ in range(FAILURES_BEFORE_COOLDOWN):
        assert state.ready(now_s)
        fail(state, now_s)
    for opened in range(8):
        cooldown_s = min(FIRST_COOLDOWN_S * 2**opened, LONGEST_COOLDOWN_S)
        assert not state.ready(now_s + cooldown_s - 0.01)
        now_s += cooldown_s
        assert state.ready(now_s)
        fail(state, now_s)
    now_s += LONGEST_COOLDOWN_S
    state.end(answered=True, ttft_s=0.1, trial=state.begin(now_s))
    assert state.ready(now_s)
    assert (state.failures, state.opened, state.tripped) == (0, 0, False)


def test_many_failures_at_once_open_it_once() -> None:
    state = TargetState()
    for _ in range(100):
        state.begin(0.0)
    for _ in range(100):
        state.end(answered=False, ttft_s=None)
        state.fail(0.0)
    assert state.cooling_until_s == FIRST_COOLDOWN_S


def test_what_began_before_does_not_close_it() -> None:
    state = TargetState()
    early = state.begin(0.0)
    for _ in range(FAILURES_BEFORE_COOLDOWN):
        fail(state, 1.0)
    state.end(answered=True, ttft_s=0.1, trial=early)
    assert not state.ready(1.1)


def test_retry_after_is_kept_and_bounded_and_needs_no_trial() -> None:
    state = TargetState()
    streaming = state.begin(0.0)
    fail(state, 0.0, 30.0)
    state.end(answered=True, ttft_s=0.1, trial=streaming)
    assert not state.ready(29.9)
    assert state.ready(30.0)
    assert not state.begin(30.0)
    assert state.ready(30.0), "the time is over: all may come"
    fail(state, 40.0, 1e9)
    assert state.ready(40.0 + LONGEST_ASKED_S)


class Breaker(RuleBasedStateMachine):
    """However requests come, end and fail: an open breaker lets through one trial at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.state = TargetState()
        self.now_s = 0.0
        self.under_way: list[bool] = []

    @rule(seconds=floats(0.0, 100.0))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.state.available(self.now_s))
    @rule()
    def begin(self) -> None:
        self.under_way.append(self.state.begin(self.now_s))

    @precondition(lambda self: self.under_way)
    @rule(which=integers(0, 1000), answered=booleans(), asks=booleans())
    def end(self, which: int, answered: bool, asks: bool) -> None:
        trial = self.under_way.pop(which % len(self.under_way))
        self.state.end(answered=answered, ttft_s=0.1 if answered else None, trial=trial)
        if not answered:
            self.state.fail(self.now_s, 5.0 if asks else None, trial=trial)
        elif trial:
            assert self.state.ready(self.now_s)

    @invariant()
    def one_trial_at_a_time(self) -> None:
        assert sum(self.under_way) <= 1
        assert self.state.probing == any(self.under_way)
        assert self.state.in_flight == len(self.under_way)
        assert self.state.cooling_until_s <= self.now_s + max(LONGEST_COOLDOWN_S, 5.0)
        if not self.under_way:
            assert self.state.available(self.now_s)


TestBreaker = Breaker.TestCase


@dataclass
class Outage:
    """Requests that all fail and all want to be tried again."""

    budget: RetryBudget = field(default_factory=RetryBudget)
    attempts: int = 0
    retries: int = 0

    def second(self, now_s: float, requests: int, wanted: int) -> None:
        self.attempts += requests
        for _ in range(wanted):
            if self.budget.take(now_s, self.attempts):
                self.retries += 1
                self.attempts += 1


@settings(deadline=None, max_examples=40)
@given(per_second=integers(1, 500), seconds=integers(1, 30), each=integers(1, 3))
def test_an_outage_is_not_multiplied(per_second: int, seconds: int, each: int) -> None:
    outage = Outage()
    for second in range(seconds):
        outage.second(float(second), per_second, per_second * each)
    requests = per_second * seconds
    assert outage.retries <= SHARE * requests + FREE_PER_S * (seconds + WINDOW_S)
    assert outage.retries >= min(requests * each, FREE_PER_S * seconds)


def test_a_quiet_route_does_not_save_up() -> None:
    outage = Outage()
    outage.second(0.0, 100_000, 1)
    outage.second(1000.0, 1, 5_000)
    assert outage.retries <= FREE_PER_S * WINDOW_S + 2


def test_credentials_take_turns_and_those_set_aside_come_last() -> None:
    health = Health()
    credentials = tuple(Credential(id=CredentialId(n), name=f"c{n}", secret=f"s{n}") for n in range(3))
    provider = Provider(
        id=ProviderId(1), name="p", dialect=Dialect.OPENAI, base_url="http://x", credentials=credentials
    )

    def turn(now_s: float) -> str:
        found = health.credential(provider, now_s)
        assert found is not None
        return found.name

    assert [turn(0.0) for _ in range(4)] == ["c0", "c1", "c2", "c0"]
    health.set_aside(provider, credentials[1], 0.0, 10.0)
    assert {turn(1.0) for _ in range(6)} == {"c0", "c2"}
    assert {turn(10.0) for _ in range(6)} == {"c0", "c1", "c2"}
    for one, seconds in zip(credentials, (30.0, 20.0, 40.0), strict=True):
        health.set_aside(provider, one, 10.0, seconds)
    assert turn(11.0) == "c1"
    assert health.usable_credentials(provider, 11.0) == 0
