"""What this worker has learnt of targets and credentials: failures, cooldowns, load, speed.

A target has a circuit breaker. After `FAILURES_BEFORE_COOLDOWN` failures in a row it opens: requests go elsewhere for
`FIRST_COOLDOWN_S`. Then one request at a time is let through as a trial, the others still go elsewhere: its answer
closes the breaker, its failure opens it for twice as long, up to `LONGEST_COOLDOWN_S`. A target that asks for a pause
(`retry-after`) gets it without a trial at its end, up to `LONGEST_ASKED_S`.

Where no target of a route is ready, one request at a time is tried all the same: a caller learns the upstream's own
answer, and a lone target that is well again is not missed. Only what an active check found down gets nothing at all.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.dataplane.retry_budget import RetryBudget
from gateway.policy.model import Credential, Provider, Target

FAILURES_BEFORE_COOLDOWN: Final = 3
FIRST_COOLDOWN_S: Final = 2.0
LONGEST_COOLDOWN_S: Final = 60.0
LONGEST_ASKED_S: Final = 600.0
REFUSED_CREDENTIAL_S: Final = 60.0
"""Of a credential that the provider does not accept (401, 403)."""
LIMITED_CREDENTIAL_S: Final = 5.0
"""Of one that it limits (429) without saying for how long."""
EWMA_WEIGHT: Final = 0.2


class TargetState:
    """One target as this worker knows it. Times are the event loop's."""

    __slots__ = (
        "begun", "begun_at_s", "cooling_until_s", "down", "failures", "in_flight", "opened", "probing", "tripped",
        "ttft_s",
    )  # fmt: skip

    def __init__(self, *, down: bool = False) -> None:
        self.cooling_until_s = 0.0
        """Until then it gets nothing but a trial, and that only where no other target is ready."""
        self.tripped = False
        """The breaker is open, or half open once `cooling_until_s` is over."""
        self.opened = 0
        """How often it has opened since it was last closed: each time for twice as long."""
        self.probing = False
        """A trial is on its way."""
        self.down = down
        """An active check says so."""
        self.failures = 0
        """In a row."""
        self.in_flight = 0
        self.begun = 0
        """Attempts since the worker started."""
        self.begun_at_s = 0.0
        """The last of them."""
        self.ttft_s: float | None = None
        """Moving average of the time to the first byte; None until one was seen since it was last well."""

    def ready(self, now_s: float) -> bool:
        """Whether requests may go to it: it is well, or half open and nobody tries it yet."""
        return self.cooling_until_s <= now_s and not self.down and not (self.tripped and self.probing)

    def available(self, now_s: float) -> bool:
        """Whether a request with nowhere else to go may try it."""
        return self.ready(now_s) or not (self.probing or self.down)

    def begin(self, now_s: float) -> bool:
        """An attempt goes to this target. Returns whether it is a trial: `end` and `fail` want to know."""
        self.in_flight += 1
        self.begun += 1
        self.begun_at_s = now_s
        if self.tripped or self.cooling_until_s > now_s:
            self.probing = True
            return True
        return False

    def end(self, *, answered: bool, ttft_s: float | None, trial: bool | None = None) -> None:
        """The attempt is over. `ttft_s`: seconds to the first byte of its answer, None if there was none. `trial`: as
        `begin` said; None = whoever asks did not keep it.

        What was under way when the breaker opened says nothing about what came after: it does not close it.
        """
        self.in_flight -= 1
        if trial is None:
            trial = self.probing
        if trial:
            self.probing = False
        if answered:
            if trial:
                self.recover()
            elif not self.tripped:
                self.failures = 0
            if ttft_s is not None:
                known_s = self.ttft_s
                self.ttft_s = ttft_s if known_s is None else known_s + EWMA_WEIGHT * (ttft_s - known_s)

    def recover(self) -> None:
        """A trial was answered: the target is well."""
        self.probing = self.tripped = False
        self.failures = self.opened = 0
        self.cooling_until_s = 0.0

    def fail(self, now_s: float, retry_after_s: float | None = None, *, trial: bool = False) -> None:
        """Count a failure, and what the target itself asks for."""
        self.failures += 1
        until_s = self.cooling_until_s
        if retry_after_s is not None:
            until_s = max(until_s, now_s + min(retry_after_s, LONGEST_ASKED_S))
        if self.failures >= FAILURES_BEFORE_COOLDOWN and (trial or not self.tripped):
            until_s = max(until_s, now_s + min(FIRST_COOLDOWN_S * 2 ** min(self.opened, 8), LONGEST_COOLDOWN_S))
            self.opened += 1
            self.tripped = True
            self.ttft_s = None
        self.cooling_until_s = until_s


class RouteState:
    """What strategies and retries of one route remember between requests."""

    __slots__ = ("budget", "requests", "turns", "weights")

    def __init__(self) -> None:
        self.requests = 0
        """Of those with a choice between targets."""
        self.turns = 0
        self.weights: dict[str, int] = {}
        """Current weight by target (`balancing.weighted`)."""
        self.budget = RetryBudget()


class Health:
    """State by target name (`provider/model`) and credential, kept over snapshots: a new configuration does not make a
    dead provider well."""

    def __init__(self, zone: str | None = None) -> None:
        self.zone = zone
        """Where this worker runs; targets of its zone come first."""
        self._targets: dict[str, TargetState] = {}
        self._routes: dict[str, RouteState] = {}
        self._down: frozenset[str] = frozenset()
        self._credential_until_s: dict[tuple[str, str], float] = {}
        self._next_credential: dict[str, int] = {}

    def of(self, target: Target) -> TargetState:
        state = self._targets.get(target.name)
        if state is None:
            down = target.provider.name in self._down
            state = self._targets[target.name] = TargetState(down=down)
        return state

    def route(self, name: str) -> RouteState:
        state = self._routes.get(name)
        if state is None:
            state = self._routes[name] = RouteState()
        return state

    def scratch(self, route: str) -> "Health":
        """The same for trying out what one route would do: turns that are taken there are not taken here."""
        tried = Health(self.zone)
        tried._targets, tried._down, tried._credential_until_s = self._targets, self._down, self._credential_until_s
        tried._next_credential = dict(self._next_credential)
        tried._routes = {route: copy.deepcopy(self.route(route))}
        return tried

    def cooling_targets(self, now_s: float) -> list[str]:
        """Names of the targets that get no request but a trial."""
        return [
            name
            for name, state in self._targets.items()
            if state.cooling_until_s > now_s or state.tripped or state.down
        ]

    def credentials_aside(self, now_s: float) -> list[tuple[str, str]]:
        """(provider, credential) that are set aside."""
        return [pair for pair, until_s in self._credential_until_s.items() if until_s > now_s]

    def soonest_s(self, targets: Sequence[Target], now_s: float) -> float:
        """Seconds until the first of these may be tried again."""
        return max(0.0, min(self.of(target).cooling_until_s for target in targets) - now_s)

    # -- active checks

    @property
    def down(self) -> frozenset[str]:
        """Names of the providers that active checks found down."""
        return self._down

    def set_down(self, providers: Iterable[str]) -> None:
        """From now on these are down, and no others. A target that comes up starts afresh."""
        down = frozenset(providers)
        if down == self._down:
            return
        changed = down ^ self._down
        self._down = down
        for name, state in self._targets.items():
            provider = name.partition("/")[0]
            if provider in changed:
                state.down = provider in down
                if not state.down:
                    state.recover()
                    state.ttft_s = None

    # -- credentials

    def credential(self, provider: Provider, now_s: float) -> Credential | None:
        """The next credential in turn that is not set aside; if all are, the one whose time is up first."""
        credentials = provider.credentials
        if not credentials:
            return None
        return credentials[0] if len(credentials) == 1 else self.credentials(provider, now_s)[0]

    def credentials(self, provider: Provider, now_s: float) -> list[Credential]:
        """All of them: from the next in turn on, those that are set aside behind the others."""
        credentials, until_s = provider.credentials, self._credential_until_s
        turn = self._next_credential.get(provider.name, 0)
        self._next_credential[provider.name] = turn + 1
        order = [credentials[(turn + i) % len(credentials)] for i in range(len(credentials))]
        order.sort(key=lambda one: max(now_s, until_s.get((provider.name, one.name), 0.0)))
        return order

    def aside_until_s(self, provider: Provider, credential: Credential) -> float:
        return self._credential_until_s.get((provider.name, credential.name), 0.0)

    def usable_credentials(self, provider: Provider, now_s: float) -> int:
        return sum(self.aside_until_s(provider, one) <= now_s for one in provider.credentials)

    def is_aside(self, provider: Provider, credential: Credential, now_s: float) -> bool:
        """Whether the provider has refused it lately."""
        return self._credential_until_s.get((provider.name, credential.name), 0.0) > now_s

    def set_aside(self, provider: Provider, credential: Credential, now_s: float, for_s: float) -> None:
        """The provider refused this credential (401, 403), or limits it (429)."""
        self._credential_until_s[provider.name, credential.name] = now_s + min(for_s, LONGEST_ASKED_S)
