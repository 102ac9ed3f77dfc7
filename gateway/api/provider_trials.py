"""`POST /api/v1/providers/{ref}/test`: whether a provider takes the credentials that are stored for it."""

from datetime import UTC, datetime
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from gateway.api.caller import Desk, permit
from gateway.policy.provider_trial import Verdict
from gateway.policy.roles import Permission
from gateway.store.config.providers import Providers
from gateway.store.models import Meta

router = APIRouter(prefix="/api/v1")


class ProviderTestRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}, {"credential": "main"}]})

    credential: Annotated[str | None, Field(max_length=200)] = None
    """Left out: all of the provider's are tested."""


class CredentialTested(BaseModel):
    credential: str | None
    """null: the provider has none, and was asked without."""
    verdict: Verdict
    """`accepted`; `unproven` (it answers without a credential, too); `refused`; `limited`; `failed` (what it says is
    not what a provider of its dialect says); `unreachable`."""
    status: int | None
    reason: str
    fix: str
    """What to do; empty where nothing is."""
    latency_ms: float
    aside: bool
    """Whether the answering worker has set the credential aside, as the provider refused it to a caller lately."""


class ProviderTested(BaseModel):
    provider: str
    url: str
    """What was asked for."""
    tested_at: datetime
    credentials: list[CredentialTested]
    models: list[str] | None
    """What it lists, at most 1000; null where it gave no list."""
    missing_models: list[str]
    """Models of targets that the list does not name: calls for them will probably fail."""
    pid: int
    """Of the worker that asked."""


@router.post("/providers/{ref}/test", tags=["providers"])
async def test_provider(
    ref: str, body: ProviderTestRequest, desk: Annotated[Desk, permit(Permission.CONFIGURATION_WRITE)]
) -> ProviderTested:
    """Ask the provider for its model list with each credential, the way a caller's request goes. Nothing is charged.

    It takes at most 16 seconds a credential. Secrets never come back, nor does what the provider answers but for names
    of models.
    """

    def look() -> tuple[str, int]:
        with desk.reading() as editing:
            name = Providers(editing).get(ref).name
            return name, editing.session.scalars(select(Meta.generation)).one()

    name, generation = await anyio.to_thread.run_sync(look)
    found = await desk.services.try_provider(name, body.credential, generation)
    return ProviderTested(
        provider=found.provider,
        url=found.url,
        tested_at=datetime.now(UTC),
        credentials=[
            CredentialTested(
                credential=each.credential,
                verdict=each.verdict,
                status=each.status,
                reason=each.reason,
                fix=each.fix,
                latency_ms=each.latency_ms,
                aside=each.aside,
            )
            for each in found.credentials
        ],
        models=None if found.models is None else list(found.models),
        missing_models=list(found.missing_models),
        pid=found.pid,
    )
