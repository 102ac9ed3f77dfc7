"""What becomes of a finding: a process, container or client that talks to an AI provider past the gateway."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Per(StrEnum):
    """Windows of a denial's limit, from when it comes into force (`probes.allowances.PERIODS_S`)."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


class State(StrEnum):
    """Of a finding."""

    NEW = "new"
    """Nobody has decided."""
    OBSERVE = "observe"
    """Seen, and left alone."""
    GOVERN = "govern"
    """An interception rule hands its connections to the gateway."""
    DENY = "deny"
    """The kernel refuses its connections."""
    IGNORE = "ignore"
    """Not to be mentioned."""


class Action(StrEnum):
    """What may be decided. Each undoes what the one before it made."""

    OBSERVE = "observe"
    GOVERN = "govern"
    DENY = "deny"
    IGNORE = "ignore"


AFTER: Final[Mapping[State, State]] = {
    State.GOVERN: State.OBSERVE,
    State.DENY: State.OBSERVE,
    State.OBSERVE: State.NEW,
    State.IGNORE: State.NEW,
}
"""What a state becomes when its time is over."""
