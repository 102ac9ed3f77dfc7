"""What the handlers of one worker share: settings, database, the link to the keeper, the snapshot in force."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol, TypeAlias, cast

import anyio
import anyio.from_thread
from fastapi import Request
from sqlalchemy import Engine

from gateway.api.oidc import Providers
from gateway.api.reports import Reports
from gateway.errors import Unavailable
from gateway.policy.explanation import Explanation, Question
from gateway.policy.provider_trial import ProviderTrial
from gateway.policy.quota import LimitState
from gateway.policy.snapshot import Snapshot
from gateway.settings import Settings
from gateway.store.enforcement import Enforcement, enforcement_of
from gateway.store.prices import PriceBook, price_book
from gateway.store.sealing import Sealer, load_sealer
from gateway.telemetry.node_gauges import OPENMETRICS_END, KeeperAway, render

NO_WORKER = "the agent is asked by a running gateway's workers, and none runs here"
NUDGE_TIMEOUT_S = 0.5
"""A nudge only spares the keeper its poll (200 ms): no answer waits for it longer than this."""


class WorkerLink(Protocol):
    """The worker's connection to the keeper, as the API uses it (`gateway.dataplane.keeper_link.KeeperLink`)."""

    connected: bool
    database_up: bool
    leases_ran_out: bool

    async def changed(self) -> None:
        """Say that the configuration in SQL has changed."""

    async def limit_state(self, limit_id: int) -> LimitState | None:
        """Live figures of one limit over all workers. Raises Unavailable where the keeper is away."""

    async def open_rows(self) -> list[dict[str, Any]]:
        """Ledger rows of requests in flight, newest first. Raises Unavailable."""

    async def health(self) -> dict[str, Any]:
        """What active checks have found, and what each worker avoids. Raises Unavailable."""

    async def kernel(self, **asked: Any) -> dict[str, Any]:
        """What this node's probes have measured. Raises Unavailable."""

    async def denials(self) -> dict[str, Any]:
        """What of the denials stands in this node's kernel. Raises Unavailable."""

    async def metrics(self, *, openmetrics: bool) -> bytes:
        """Prometheus text of the whole node. Raises Unavailable."""

    def subscribe_events(self, after: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """The live feed from now on, or from after the event of this id, for ever. Raises Unavailable."""


class Drain(Protocol):
    """Whether the worker drains, or has no room for the rows of further requests."""

    draining: bool

    @property
    def spool_full(self) -> bool: ...


class Agent(Protocol):
    """The worker's connection to the agent (`gateway.dataplane.agent_link.AgentLink`)."""

    async def ask(self, what: str, **options: Any) -> dict[str, Any]:
        """Raises Unavailable where there is none."""


ProviderTrier: TypeAlias = Callable[[str, str | None, int], Awaitable[ProviderTrial]]
"""(provider, one of its credentials or None for all, generation that must be in force) → what it said."""


class LockedPriceBook:
    """`with locked as book:` gives the price book to one thread at a time, loaded and up to date."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._lock = threading.Lock()

    def __enter__(self) -> PriceBook:
        self._lock.acquire()
        self._book.refresh()
        self._book.load()
        return self._book

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@dataclass(frozen=True, kw_only=True)  # no slots: cached_property needs a dict
class Services:
    settings: Settings
    engine: Engine
    reports: Reports
    link: WorkerLink | None
    """None where the API runs by itself (tests, the OpenAPI dump): changes are then found by the keeper's poll."""
    snapshot_generation: Callable[[], int] | None
    """Of the snapshot in force in this worker, 0 = none yet."""
    snapshot: Callable[[], Snapshot] | None = None
    """The one in force in this worker; None where the API runs by itself."""
    drain: Drain | None = None
    """The worker's data plane; None where the API runs by itself."""
    explainer: Callable[[Question], Explanation] | None = None
    """Of the worker's data plane, to be called on its event loop."""
    trials: ProviderTrier | None = None
    """The same."""
    agent: Agent | None = None
    sign_on_providers: Providers = field(default_factory=Providers)
    """Identity providers, as far as this worker knows them."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the worker drains: live feeds, which would never end by themselves, end at once."""

    @cached_property
    def sealer(self) -> Sealer:
        """Read at first use: most requests seal nothing, and the OpenAPI dump has no data folder."""
        return load_sealer(self.settings)

    @cached_property
    def prices(self) -> "LockedPriceBook":
        """The installation's price table, for one thread at a time. Loaded by the few pages that ask for it."""
        return LockedPriceBook(price_book(self.settings))

    def missing(self) -> list[str]:
        """What keeps this worker from serving, in words; empty = ready."""
        missing = []
        link, drain = self.link, self.drain
        if link is None or not link.connected:
            missing.append("the keeper is not connected")
        if self.snapshot_generation is not None and self.snapshot_generation() == 0:
            missing.append("no configuration has been loaded yet")
        if link is not None and link.leases_ran_out:
            missing.append("leases on limits have run out and the database does not answer")
        if drain is not None and drain.spool_full:
            missing.append("the spool is full: the database or the disk takes no more rows")
        if drain is not None and drain.draining:
            missing.append("this worker is draining")
        return missing

    def degraded(self) -> list[str]:
        """What does not keep it from serving now, and will if it lasts."""
        if self.link is not None and self.link.connected and not self.link.database_up:
            return ["the database does not answer: requests are served from leases, rows wait in the spool"]
        return []

    def generation(self) -> int:
        return self.snapshot_generation() if self.snapshot_generation is not None else 0

    async def metrics(self, *, openmetrics: bool) -> bytes:
        """Prometheus text: the node's figures, from the keeper. While it is away only that: a gap is a gap."""
        text = None
        if self.link is not None:
            with contextlib.suppress(Unavailable):
                text = await self.link.metrics(openmetrics=openmetrics)
        if text is None:
            text = render(KeeperAway(), openmetrics=openmetrics).encode()
        return text + OPENMETRICS_END.encode() if openmetrics else text

    def nudge(self) -> None:
        """Tell the keeper about a committed change. Called from a handler's thread; never fails."""
        if self.link is not None:
            anyio.from_thread.run(self._nudge, self.link)

    def limit_state(self, limit_id: int) -> LimitState | None:
        """Live figures of a limit, None where the keeper does not know it. From a handler's thread. Raises
        Unavailable."""
        if self.link is None:
            raise Unavailable("the keeper is away", fix="try again", retry_after_s=1)
        return anyio.from_thread.run(self.link.limit_state, limit_id)

    def open_rows(self) -> list[dict[str, Any]]:
        """Ledger rows of requests in flight. From a handler's thread. Raises Unavailable."""
        if self.link is None:
            raise Unavailable("requests in flight are known to the keeper, which is away", fix="leave `open` out")
        return anyio.from_thread.run(self.link.open_rows)

    def explain(self, question: Question) -> Explanation:
        """What this worker would do with a request. From a handler's thread."""
        if self.explainer is None:
            raise Unavailable("no data plane runs here", fix="ask a running gateway")
        return anyio.from_thread.run_sync(self.explainer, question)

    async def try_provider(self, name: str, credential: str | None, generation: int) -> ProviderTrial:
        """Ask a provider whether it takes its credentials. Raises NotFound, BadRequest, Unavailable."""
        if self.trials is None:
            raise Unavailable("no data plane runs here", fix="ask a running gateway")
        return await self.trials(name, credential, generation)

    def interception(self) -> dict[str, Any]:
        """What stands in the kernel (`gateway.intercept.status`). From a handler's thread. Raises Unavailable."""
        if self.agent is None:
            raise Unavailable(NO_WORKER, fix="ask a running gateway")
        return anyio.from_thread.run(self.agent.ask, "status")

    def flows(self, rule: str | None, limit: int) -> list[dict[str, Any]]:
        """Captured connections that have ended, the newest first. From a handler's thread. Raises Unavailable."""
        if self.agent is None:
            raise Unavailable(NO_WORKER, fix="ask a running gateway")
        said = anyio.from_thread.run(partial(self.agent.ask, "flows", rule=rule, limit=limit))
        items: list[dict[str, Any]] = said["items"]
        return items

    def limit_state_if_there(self, limit_id: int) -> LimitState | None:
        with contextlib.suppress(Unavailable):
            return self.limit_state(limit_id)
        return None

    def health_if_there(self) -> dict[str, Any] | None:
        with contextlib.suppress(Unavailable):
            return self.health()
        return None

    def health(self) -> dict[str, Any]:
        """Of providers, targets and credentials, over all workers. From a handler's thread. Raises Unavailable."""
        if self.link is None:
            raise Unavailable("what workers avoid is known to the keeper, which is away", fix="try again")
        return anyio.from_thread.run(self.link.health)

    def kernel(self, **asked: Any) -> dict[str, Any]:
        """What this node's probes have measured (`keeper_kernel`). From a handler's thread. Raises Unavailable."""
        if self.link is None:
            raise Unavailable("what probes measure is known to the keeper, which is away", fix="try again")
        return anyio.from_thread.run(partial(self.link.kernel, **asked))

    def kernel_if_there(self, **asked: Any) -> dict[str, Any] | None:
        with contextlib.suppress(Unavailable):
            return self.kernel(**asked)
        return None

    def enforcement(self, *, with_rules: bool) -> Enforcement:
        """What of denials, and `with_rules` of interception, stands in this node's kernel. From a handler's thread;
        where keeper or agent is away, that this is so."""
        if self.link is None:
            return Enforcement(reason="what the agent finds is known to the keeper, and none runs here")
        try:
            report = anyio.from_thread.run(self.link.denials)
        except Unavailable as error:
            return Enforcement(reason=error.message)
        rules: dict[str, Any] | None = None
        if with_rules:
            with contextlib.suppress(Unavailable):
                rules = self.interception()
        return enforcement_of(report, rules)

    @staticmethod
    async def _nudge(link: WorkerLink) -> None:
        with anyio.move_on_after(NUDGE_TIMEOUT_S):
            try:
                await link.changed()
            except OSError:  # the keeper is restarting and will read the new generation from SQL
                return


def services_of(request: Request) -> Services:
    """Dependency: the services that `create_app` was given."""
    return cast("Services", request.app.state.services)
