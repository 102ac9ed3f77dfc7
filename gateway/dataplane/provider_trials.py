"""Ask a provider for its model list with each of its credentials, as an operator wants to know whether they are good.

The way is that of callers: the provider's connections, proxy, TLS and the kernel's guard on where a worker may go. No
redirect is followed, and nothing of what the provider says goes further than names of models.
"""

import asyncio
import os
import ssl
from typing import TYPE_CHECKING, Final

from gateway.dataplane.upstream import OriginPool, UpstreamConnection
from gateway.dialects.model_lists import HEADERS, listed_models, listing_target
from gateway.dialects.registry import HANDLERS
from gateway.errors import BadRequest, NotFound, Unavailable
from gateway.policy.model import Credential, Dialect, Provider
from gateway.policy.provider_trial import CredentialTrial, ProviderTrial, Verdict
from gateway.wire.answer_head import AnswerHead

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane

ASK_TIMEOUT_S: Final = 8.0
FORCE_TIMEOUT_S: Final = 3.0
"""How long a configuration that was just written may take until it is in force here (the contract says one)."""
AT_ONCE: Final = 4
"""Questions under way in a worker; and credentials of one provider."""
MOST_CREDENTIALS: Final = 20
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_MODELS: Final = 1000


class ProviderTrials:
    """Of one worker."""

    def __init__(self, plane: "Plane") -> None:
        self._plane = plane
        self._under_way = 0

    async def run(self, name: str, credential: str | None, generation: int) -> ProviderTrial:
        """Ask the provider, with one credential or with all. `generation`: of the configuration that must be in force
        first. On the worker's event loop. Raises NotFound, BadRequest, Unavailable."""
        if self._under_way >= AT_ONCE:
            raise Unavailable("other providers are being tested", fix="try again in a few seconds", retry_after_s=5)
        self._under_way += 1
        try:
            return await self._run(await self._provider(name, generation), credential)
        finally:
            self._under_way -= 1

    async def _provider(self, name: str, generation: int) -> Provider:
        give_up_s = asyncio.get_running_loop().time() + FORCE_TIMEOUT_S
        while self._plane.snapshot.generation < generation:
            if asyncio.get_running_loop().time() > give_up_s:
                raise Unavailable(
                    "the last change is not in force in this worker yet", fix="see /readyz, and try again"
                )
            await asyncio.sleep(0.05)
        provider = self._plane.snapshot.providers.get(name)
        if provider is None:
            raise NotFound(f"no provider {name!r} is in force here", fix="see /readyz, and try again")
        return provider

    async def _run(self, provider: Provider, only: str | None) -> ProviderTrial:
        credentials: list[Credential | None] = [one for one in provider.credentials if only in (None, one.name)]
        if only is not None and not credentials:
            raise NotFound(f"{provider.name} has no credential {only!r}", fix="leave `credential` out to test them all")
        if len(credentials) > MOST_CREDENTIALS:
            raise BadRequest(
                f"{provider.name} has {len(credentials)} credentials; {MOST_CREDENTIALS} are tested at once",
                fix="name one as `credential`",
            )
        trial = _Trial(self._plane, provider)
        turns = asyncio.Semaphore(AT_ONCE)

        async def judged(credential: Credential | None) -> CredentialTrial:
            async with turns:
                return await trial.judge(credential)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(judged(credential)) for credential in credentials or [None]]
        return ProviderTrial(
            provider=provider.name,
            url=trial.url,
            credentials=tuple([task.result() for task in tasks]),
            models=None if trial.models is None else trial.models[:MOST_MODELS],
            missing_models=self._missing(provider, trial.models),
            pid=os.getpid(),
        )

    def _missing(self, provider: Provider, models: tuple[str, ...] | None) -> tuple[str, ...]:
        if models is None:
            return ()
        asked = {
            target.model
            for route in self._plane.snapshot.routes.values()
            for target in route.targets
            if target.provider.id == provider.id and target.model is not None
        }
        listed = {*models, *[model.removesuffix(":latest") for model in models]}  # Ollama's tag that may be left out
        return tuple(sorted(asked - listed))


class _Trial:
    """One provider's."""

    def __init__(self, plane: "Plane", provider: Provider) -> None:
        self._plane = plane
        self._provider = provider
        self._pool: OriginPool = plane.pool_of(provider)
        target = listing_target(provider.dialect, provider.base_url)
        if target is None:
            own = provider.check.path if provider.check is not None else ""
            target = own or self._pool.origin.prefix.decode() or "/"
        self._target = target
        scheme = "https" if self._pool.origin.tls else "http"
        self.url = f"{scheme}://{self._pool.origin.authority.decode()}{target}"
        self.models: tuple[str, ...] | None = None

    async def judge(self, credential: Credential | None) -> CredentialTrial:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        status: int | None = None
        try:
            status, body = await self._ask(credential)
        except TimeoutError:
            verdict, reason = Verdict.UNREACHABLE, f"no answer within {ASK_TIMEOUT_S:g} s"
            fix = "check the base URL, and whether this host may reach it (firewall, proxy)"
        except ssl.SSLError as error:
            verdict, reason = Verdict.UNREACHABLE, f"TLS failed: {getattr(error, 'verify_message', '') or error.reason}"
            fix = "give the provider's authority as `tls.ca`, or correct the host of the base URL"
        except OSError as error:
            verdict, reason = Verdict.UNREACHABLE, error.strerror or str(error) or type(error).__name__
            fix = "check the base URL, and whether the provider runs"
        else:
            latency_ms = (loop.time() - begun_s) * 1000
            verdict, reason, fix = await self._read(status, body, credential)
            return self._told(credential, verdict, status, reason, fix, latency_ms)
        return self._told(credential, verdict, status, reason, fix, (loop.time() - begun_s) * 1000)

    def _told(
        self, credential: Credential | None, verdict: Verdict, status: int | None, reason: str, fix: str, ms: float
    ) -> CredentialTrial:
        now_s = asyncio.get_running_loop().time()
        return CredentialTrial(
            credential=credential.name if credential else None,
            verdict=verdict,
            status=status,
            reason=reason,
            fix=fix,
            latency_ms=round(ms, 1),
            aside=credential is not None and self._plane.health.is_aside(self._provider, credential, now_s),
        )

    async def _read(self, status: int, body: bytes, credential: Credential | None) -> tuple[Verdict, str, str]:
        """Verdict, reason and remedy."""
        if status in (401, 403):
            if credential is None:
                return Verdict.REFUSED, f"it wants a credential ({status})", "add one to the provider"
            return Verdict.REFUSED, f"it does not accept this credential ({status})", "store another secret"
        if status == 429:
            return Verdict.LIMITED, "it limits us for now (429)", "try again later"
        if self._provider.dialect is Dialect.HTTP:
            if status >= 500:
                return Verdict.FAILED, f"it answers {status}", "see its own log"
            return Verdict.UNPROVEN, f"it answers ({status}); what a key is good for, only its own paths know", ""
        if not 200 <= status < 300:
            where = "what `base_url` names is not where its API begins" if status in (301, 302, 307, 308, 404) else ""
            return Verdict.FAILED, f"it answers {status} for its model list", where and f"check the base URL: {where}"
        models = listed_models(self._provider.dialect, body)
        if models is None:
            return (
                Verdict.FAILED,
                f"its answer is no model list of the dialect {self._provider.dialect}",
                "check the base URL and the dialect",
            )
        self.models = models
        if credential is None:
            return Verdict.UNPROVEN, "it answers without a credential", ""
        if await self._answers_anyone():
            return Verdict.UNPROVEN, "it lists its models without a credential, too: this one is not proven", ""
        return Verdict.ACCEPTED, f"it accepts the credential, and lists {len(models)} models", ""

    async def _answers_anyone(self) -> bool:
        try:
            status, _ = await self._ask(None)
        except OSError:  # TimeoutError among them
            return False
        return 200 <= status < 300

    async def _ask(self, credential: Credential | None) -> tuple[int, bytes]:
        """Status and body, on a connection of its own. Raises OSError (TimeoutError, ssl.SSLError among them)."""
        answer = _Answer(asyncio.get_running_loop().create_future())
        connection: UpstreamConnection | None = None
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                connection = await self._pool.connect(ASK_TIMEOUT_S)
                connection.begin(answer)
                connection.write(self._head(credential))
                return await answer.whole
        finally:
            if connection is not None:
                connection.abort()

    def _head(self, credential: Credential | None) -> bytes:
        pool, dialect = self._pool, self._provider.dialect
        pairs = [*HEADERS.get(dialect, ())]
        if credential is not None:
            pairs += HANDLERS[dialect].credential_headers(credential.secret)
        lines = [b"GET %b%b HTTP/1.1\r\nhost: %b\r\n" % (pool.absolute, self._target.encode(), pool.origin.authority)]
        lines += [pool.lines, *[b"%b: %b\r\n" % pair for pair in pairs]]
        lines.append(
            b"user-agent: sluicegate-test\r\naccept: application/json\r\naccept-encoding: identity\r\n"
            b"connection: close\r\n\r\n"
        )
        return b"".join(lines)


class _Answer:
    """Takes status and body; of what is no success, and of what is too long, the beginning is enough."""

    def __init__(self, whole: "asyncio.Future[tuple[int, bytes]]") -> None:
        self.whole = whole
        self._status = 0
        self._pieces: list[bytes] = []
        self._bytes = 0

    def on_interim(self, head: AnswerHead) -> None:
        return

    def on_head(self, head: AnswerHead) -> None:
        self._status = head.status
        if not 200 <= head.status < 300:
            self.on_end()

    def on_whole(self, head: AnswerHead, body: bytes) -> None:
        self.on_head(head)
        self.on_body(body, None)
        self.on_end()

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        self._pieces.append(payload)
        self._bytes += len(payload)
        if self._bytes > MOST_BYTES:
            self.on_end()

    def on_end(self) -> None:
        if not self.whole.done():
            self.whole.set_result((self._status, b"".join(self._pieces)))

    def on_broken(self, reason: str) -> None:
        if not self.whole.done():
            self.whole.set_exception(OSError(0, reason))

    def on_tunnel(self, rest: bytes) -> None:
        return

    def on_writable(self) -> None:
        return
