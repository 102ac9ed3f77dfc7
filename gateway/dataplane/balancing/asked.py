"""What a strategy may know of the request besides its route."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.policy.model import Target


@dataclass(frozen=True, slots=True)
class Asked:
    now_s: float
    """The event loop's."""
    cost_of: Callable[[Target], int | None] | None = None
    """The most that the request may cost on a target, in micro-USD; None = not known."""
