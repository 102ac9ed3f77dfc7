"""How many retries a route may spend on targets that fail, so that an outage is not multiplied.

A retry on a target that works is failover and costs nothing; this is for those that go to a target whose last answer
was a failure. As in Finagle and Linkerd: each request earns a fifth of a retry, and ten a second are free.
"""

from typing import Final

SHARE: Final = 0.2
"""Retries a request earns."""
FREE_PER_S: Final = 10.0
WINDOW_S: Final = 10.0
"""What was earned longer ago is lost."""


class RetryBudget:
    """Of one route in one worker. Times are the caller's clock, in seconds."""

    __slots__ = ("_balance", "_last_s", "_recent", "_requests", "_taken")

    def __init__(self) -> None:
        self._balance = FREE_PER_S * WINDOW_S
        self._recent = 0.0
        """Requests of the window, those of its beginning fading."""
        self._requests = 0
        self._taken = 0
        self._last_s = 0.0

    def take(self, now_s: float, attempts: int) -> bool:
        """Whether one more retry may be made; if so, it is spent. `attempts`: how many were made since ever, those that
        this budget allowed included: they earn nothing."""
        passed_s = max(0.0, now_s - self._last_s)
        requests = attempts - self._taken
        fresh = max(0, requests - self._requests)
        self._last_s, self._requests = now_s, requests
        self._recent = self._recent * max(0.0, 1 - passed_s / WINDOW_S) + fresh / max(1.0, passed_s / WINDOW_S)
        most = FREE_PER_S * WINDOW_S + SHARE * self._recent
        self._balance = min(most, self._balance + FREE_PER_S * passed_s + SHARE * fresh)
        if self._balance < 1:
            return False
        self._balance -= 1
        self._taken += 1
        return True
