"""Which limits have refused a request on its way, so that it goes on where they do not apply or have room enough.

A limit of one credential, target or provider leaves the others; one of the caller refuses everywhere but for its cost,
which may be less elsewhere. Nobody is asked twice for what was refused once.
"""

from typing import TYPE_CHECKING, Final

from gateway.errors import BadRequest, LimitExceeded, RequestExceedsLimit, SluicegateError
from gateway.policy.model import Metric
from gateway.policy.quota import METRIC_INDEX, Amounts

if TYPE_CHECKING:
    from gateway.dataplane.target_plan import TargetPlan

MOVES_ON: Final = (LimitExceeded, RequestExceedsLimit, BadRequest)
"""What reserving raises where another target may do: the limit is used up, too small, or counts an unknown cost."""


class Refusals:
    """Of one request."""

    __slots__ = ("_needs", "_unpriced", "error")

    def __init__(self) -> None:
        self._needs: dict[int, int] = {}
        """Limit → the smallest amount that it has refused."""
        self._unpriced: set[int] = set()
        """Limits that want a price."""
        self.error: SluicegateError = LimitExceeded("no limit has refused anything")
        """What to tell the caller where nothing is left: what waiting helps against, and of that the soonest."""

    def add(self, choice: "TargetPlan", need: Amounts, error: SluicegateError) -> None:
        limit = next(limit for limit in choice.limits if limit.name == error.fields["limit"])
        if isinstance(error, BadRequest):
            self._unpriced.add(limit.id)
        else:
            amount = need.needed()[METRIC_INDEX[limit.metric]]
            self._needs[limit.id] = min(amount, self._needs.get(limit.id, amount))
        if len(self._needs) + len(self._unpriced) == 1 or _rank(error) < _rank(self.error):
            self.error = error

    def cover(self, choice: "TargetPlan", need: Amounts) -> bool:
        """Whether a limit that has refused would refuse this too."""
        vector = need.needed()
        for limit in choice.limits:
            refused = self._needs.get(limit.id)
            if refused is not None and vector[METRIC_INDEX[limit.metric]] >= refused:
                return True
            if limit.id in self._unpriced and limit.metric is Metric.COST_USD and need.cost_microusd is None:
                return True
        return False


def _rank(error: SluicegateError) -> tuple[bool, bool, float]:
    return not isinstance(error, LimitExceeded), error.retry_after_s is None, error.retry_after_s or 0.0
