"""`fastest`: the target with the shortest recent time to its first byte; one that is not known yet is tried first."""

from collections.abc import Sequence

from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target


def order(_route: Route, targets: Sequence[Target], health: Health) -> list[Target]:
    return sorted(targets, key=lambda target: health.of(target).ttft_s or 0.0)
