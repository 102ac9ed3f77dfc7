"""The configuration as the data plane sees it: immutable, compiled from SQL, swapped as one reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.policy.cors import CorsUnion
from gateway.policy.egress import Sources
from gateway.policy.interception import InterceptionRule
from gateway.policy.model import App, CertificateAuthority, Credential, Key, Limit, Provider, Route, Scope, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a request needs to be decided. `keys` by the SHA-256 digest of the key's text."""

    generation: int
    keys: Mapping[bytes, Key]
    routes: Mapping[str, Route]
    apps: Mapping[str, App]
    providers: Mapping[str, Provider]
    limits: Sequence[Limit]
    cors: CorsUnion = field(default_factory=CorsUnion)
    """Of all apps that name origins; false where none does."""
    sources: Sources = field(default_factory=Sources)
    """By which network callers without a key are known."""
    interception: Sequence[InterceptionRule] = ()
    """In the order in which they are tried."""
    authority: CertificateAuthority | None = None
    """None where none was made, or where its key cannot be opened."""
    body_key: bytes | None = None
    """X25519 public key that recorded bodies are sealed to; None where no route has ever recorded any."""
    _memo: dict[tuple[int, int, int, int], tuple[Limit, ...]] = field(default_factory=dict, repr=False, compare=False)

    def limits_for(
        self, key: Key | None, app: App, route: Route, target: Target, credential: Credential | None
    ) -> tuple[Limit, ...]:
        """Every limit whose scope fits this request on this target, in a fixed order (by id).

        Memoised: what it returns depends on this snapshot alone.
        """
        memo_key = (key.id if key else -app.id, route.id, target.id, credential.id if credential else 0)
        found = self._memo.get(memo_key)
        if found is None:
            found = tuple(limit for limit in self.limits if _fits(limit.scope, key, app, route, target, credential))
            self._memo[memo_key] = found
        return found


def _fits(scope: Scope, key: Key | None, app: App, route: Route, target: Target, credential: Credential | None) -> bool:
    return (
        (scope.team_id is None or scope.team_id == app.team_id)
        and (scope.app_id is None or scope.app_id == app.id)
        and (scope.key_id is None or (key is not None and scope.key_id == key.id))
        and (scope.route_id is None or scope.route_id == route.id)
        and (scope.provider_id is None or scope.provider_id == target.provider.id)
        and (scope.credential_id is None or (credential is not None and scope.credential_id == credential.id))
        and (scope.target is None or scope.target == target.name)
        and (scope.model is None or scope.model == target.model)
    )


EMPTY = Snapshot(generation=0, keys={}, routes={}, apps={}, providers={}, limits=())


class SnapshotHolder:
    """The one reference that is swapped; an exchange reads `current` once and keeps it."""

    __slots__ = ("current",)

    def __init__(self) -> None:
        self.current = EMPTY
