"""What this worker has learnt of targets and credentials: failures, cooldowns, load, speed."""

from collections.abc import Sequence

from gateway.policy.model import Credential, Provider, Target

FAILURES_BEFORE_COOLDOWN = 3
FIRST_COOLDOWN_S = 2.0
LONGEST_COOLDOWN_S = 60.0
REFUSED_CREDENTIAL_S = 60.0
EWMA_WEIGHT = 0.2


class TargetState:
    """One target as this worker knows it. Times are the event loop's."""

    __slots__ = ("cooling_until_s", "failures", "in_flight", "probing", "ttft_s")

    def __init__(self) -> None:
        self.cooling_until_s = 0.0
        self.failures = 0
        """In a row."""
        self.in_flight = 0
        self.probing = False
        """A trial request is on its way to a target that cools."""
        self.ttft_s: float | None = None
        """Moving average of the time to the first byte; None until one was seen."""

    def available(self, now_s: float) -> bool:
        """Healthy, or cooling with no trial on its way: a single caller always learns the upstream's own answer."""
        return self.cooling_until_s <= now_s or not self.probing

    def begin(self, now_s: float) -> None:
        """An attempt goes to this target."""
        self.in_flight += 1
        if self.cooling_until_s > now_s:
            self.probing = True

    def end(self, *, answered: bool, ttft_s: float | None) -> None:
        """The attempt is over. `ttft_s`: seconds to the first byte of its answer, None if there was none."""
        self.in_flight -= 1
        self.probing = False
        if answered:
            self.failures = 0
            self.cooling_until_s = 0.0
            if ttft_s is not None:
                known_s = self.ttft_s
                self.ttft_s = ttft_s if known_s is None else known_s + EWMA_WEIGHT * (ttft_s - known_s)

    def fail(self, now_s: float, retry_after_s: float | None = None) -> None:
        """Count a failure; the target cools after several in a row, or for as long as the provider itself asks."""
        self.failures += 1
        if retry_after_s is not None:
            self.cooling_until_s = max(self.cooling_until_s, now_s + min(retry_after_s, LONGEST_COOLDOWN_S))
        elif self.failures >= FAILURES_BEFORE_COOLDOWN:
            doublings = min(self.failures - FAILURES_BEFORE_COOLDOWN, 8)
            self.cooling_until_s = now_s + min(FIRST_COOLDOWN_S * 2**doublings, LONGEST_COOLDOWN_S)


class Health:
    """State by target name (`provider/model`) and credential, kept over snapshots: a new configuration does not make a
    dead provider well."""

    def __init__(self) -> None:
        self._targets: dict[str, TargetState] = {}
        self._credential_until_s: dict[tuple[str, str], float] = {}
        self._next_credential: dict[str, int] = {}
        self._turns: dict[str, int] = {}

    def of(self, target: Target) -> TargetState:
        state = self._targets.get(target.name)
        if state is None:
            state = self._targets[target.name] = TargetState()
        return state

    def cooling(self, target: Target, now_s: float) -> bool:
        return self.of(target).cooling_until_s > now_s

    def cooling_targets(self, now_s: float) -> list[str]:
        """Names of the targets that cool."""
        return [name for name, state in self._targets.items() if state.cooling_until_s > now_s]

    def credentials_aside(self, now_s: float) -> list[tuple[str, str]]:
        """(provider, credential) that are set aside."""
        return [pair for pair, until_s in self._credential_until_s.items() if until_s > now_s]

    def soonest_s(self, targets: Sequence[Target], now_s: float) -> float:
        """Seconds until the first of these may be tried again."""
        return max(0.0, min(self.of(target).cooling_until_s for target in targets) - now_s)

    def next_turn(self, route: str) -> int:
        """A number that grows by one each time it is asked for, by route."""
        turn = self._turns.get(route, -1) + 1
        self._turns[route] = turn
        return turn

    # -- credentials

    def credential(self, provider: Provider, now_s: float) -> Credential | None:
        """The next credential in turn that is not set aside; if all are, the one whose time is up first."""
        credentials = provider.credentials
        if not credentials:
            return None
        if len(credentials) == 1:
            return credentials[0]
        turn = self._next_credential.get(provider.name, 0)
        self._next_credential[provider.name] = turn + 1
        order = [credentials[(turn + i) % len(credentials)] for i in range(len(credentials))]
        for credential in order:
            if self._credential_until_s.get((provider.name, credential.name), 0.0) <= now_s:
                return credential
        return min(order, key=lambda one: self._credential_until_s.get((provider.name, one.name), 0.0))

    def usable_credentials(self, provider: Provider, now_s: float) -> int:
        return sum(
            self._credential_until_s.get((provider.name, one.name), 0.0) <= now_s for one in provider.credentials
        )

    def set_aside(self, provider: Provider, credential: Credential, now_s: float, for_s: float) -> None:
        """The provider refused this credential (401, 403), or limits it (429)."""
        self._credential_until_s[provider.name, credential.name] = now_s + for_s
