"""`/api/v1/health`, `/settings` and `/backup`: how this installation stands, what it was told, and a copy of it."""

import asyncio
import os
import platform
import sqlite3
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import anyio
import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.engine import make_url
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

import gateway
from gateway.api.caller import CrossOrigin, Desk, permit, same_origin
from gateway.api.own_program import PIECE_BYTES, started
from gateway.api.reports import cancel_when_gone
from gateway.api.services import Services
from gateway.errors import SluicegateError, Unavailable
from gateway.policy.roles import Permission
from gateway.settings import Settings, default_data_folder
from gateway.store import audit

router = APIRouter(prefix="/api/v1", tags=["installation"])

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]

EXAMINED_FOR_S: Final = 10.0
"""DoctorFindings are made anew when they are asked for after so long."""
EXAMINE_WITHIN_S: Final = 60.0

PartState = Literal["ok", "info", "warning", "broken"]


class PartHealth(BaseModel):
    """One part of the gateway as the worker that answers sees it."""

    name: str
    state: PartState
    detail: str
    fix: str = ""
    """What mends it."""


class Versions(BaseModel):
    sluicegate: str
    python: str
    schema_revision: str | None
    """Of the database; null while it does not answer."""
    database: str | None
    kernel: str


class InstallationHealth(BaseModel):
    node: str
    """The host's name."""
    versions: Versions
    parts: list[PartHealth]


class DoctorFinding(BaseModel):
    """What `sluicegate doctor` finds."""

    subject: str
    verdict: PartState
    detail: str
    fix: str
    """The command, or the words, that mend it; empty where there is nothing to mend."""


class DoctorFindings(BaseModel):
    examined_at: datetime
    items: list[DoctorFinding]


class SettingView(BaseModel):
    name: str
    value: str | None
    """null = not set. Secrets are never shown."""
    secret: bool
    source: Literal["option", "variable", "file", "default"]
    """Of `serve`; `SLUICEGATE_…`; `sluicegate.toml`; or what it is where nobody says."""
    where: str
    """The option, the variable, the file."""
    meaning: str


class SettingsView(BaseModel):
    file: str
    """Where `sluicegate.toml` is looked for first."""
    items: list[SettingView]


# ---- health


@router.get("/health")
def get_health(desk: Reading) -> InstallationHealth:
    """The parts of the gateway on this node: workers, keeper, database, spool, agent; and what they are."""
    services = desk.services
    revision, database, database_part = _database(services)
    parts = [_worker(services), _keeper(services), database_part, _spool(services), _agent(services)]
    return InstallationHealth(
        node=platform.node(),
        versions=Versions(
            sluicegate=gateway.__version__,
            python=platform.python_version(),
            schema_revision=revision,
            database=database,
            kernel=platform.release(),
        ),
        parts=parts,
    )


def _worker(services: Services) -> PartHealth:
    missing, degraded = services.missing(), services.degraded()
    if missing:
        return PartHealth(name="worker", state="broken", detail="; ".join(missing), fix="sluicegate service logs")
    if degraded:
        return PartHealth(name="worker", state="warning", detail="; ".join(degraded), fix="sluicegate doctor")
    count = services.settings.workers
    return PartHealth(
        name="worker", state="ok", detail=f"ready, one of {count}; configuration {services.generation()} in force"
    )


def _keeper(services: Services) -> PartHealth:
    link = services.link
    if link is None or not link.connected:
        return PartHealth(
            name="keeper",
            state="broken",
            detail="not connected",
            fix="it is restarted by itself; sluicegate service logs",
        )
    if link.leases_ran_out:
        return PartHealth(
            name="keeper", state="broken", detail="leases on limits have run out", fix="is the database there?"
        )
    return PartHealth(
        name="keeper", state="ok", detail="connected: it writes rows, leases limits, compiles the configuration"
    )


def _database(services: Services) -> tuple[str | None, str | None, PartHealth]:
    """Schema, kind and version, state."""
    engine = services.engine
    began = time.monotonic()
    try:
        with engine.connect() as connection:
            # Alembic's own table, but not Alembic: a worker has no other use for its 7 MB.
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            if engine.dialect.name == "sqlite":
                kind = f"SQLite {sqlite3.sqlite_version}"
                size = (services.settings.data / "sluicegate.sqlite").stat().st_size
            else:
                kind = f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar_one()}"
                size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the page is asked for
        return (
            None,
            None,
            PartHealth(
                name="database",
                state="broken",
                detail=f"does not answer: {str(getattr(error, 'orig', None) or error).splitlines()[0][:300]}",
                fix="start the database, or set `database` in sluicegate.toml",
            ),
        )
    took_ms = (time.monotonic() - began) * 1000
    detail = f"{kind}, {size / 2**20:,.0f} MiB, answered in {took_ms:.0f} ms"
    return revision, kind, PartHealth(name="database", state="ok", detail=detail)


def _spool(services: Services) -> PartHealth:
    settings = services.settings
    waiting = 0
    with suppress(FileNotFoundError):
        for segment in settings.spool_folder.iterdir():
            with suppress(FileNotFoundError):
                waiting += segment.stat().st_size
    at_most = settings.spool_max_bytes * settings.workers
    detail = f"{waiting / 2**20:,.1f} MiB of segments, {at_most / 2**20:,.0f} MiB at most"
    if services.drain is not None and services.drain.spool_full:
        return PartHealth(
            name="spool", state="broken", detail=detail + "; full", fix="is the database there? make room on the disk"
        )
    return PartHealth(name="spool", state="ok", detail=detail)


def _agent(services: Services) -> PartHealth:
    try:
        said = services.interception()
    except Unavailable as error:
        return PartHealth(name="agent", state="info", detail=error.message, fix="sudo sluicegate service start --agent")
    if said.get("trouble"):
        return PartHealth(name="agent", state="broken", detail=said["trouble"], fix="sudo sluicegate doctor")
    armed = sum(bool(rule["armed"]) for rule in said["rules"])
    detail = f"connected, {armed} of {len(said['rules'])} interception rules armed"
    if said.get("release"):
        detail = f"release {said['release']}, {detail}"
    if said.get("up") is False:
        return PartHealth(
            name="agent", state="warning", detail=detail + "; turned off", fix="sudo sluicegate intercept up"
        )
    return PartHealth(name="agent", state="ok", detail=detail)


class Examination:
    """The doctor's last findings, of one worker: two who ask at once get the same."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._found: DoctorFindings | None = None
        self._made_s = 0.0

    async def findings(self, services: Services, *, again: bool) -> DoctorFindings:
        """`again`: not what was found before this was asked for. Raises Unavailable where the doctor does not end."""
        old_s = time.monotonic() - (0.0 if again else EXAMINED_FOR_S)
        async with self._turn:
            if self._found is None or self._made_s < old_s:
                self._found = await _examine(services.settings, services.ending)
                self._made_s = time.monotonic()
            return self._found


async def _examine(settings: Settings, ending: asyncio.Event) -> DoctorFindings:
    """`ending`: set where the worker ends, which does not wait for the doctor."""

    async def leave(process: asyncio.subprocess.Process) -> None:
        await ending.wait()
        process.kill()

    try:
        with anyio.fail_after(EXAMINE_WITHIN_S):
            async with started("gateway.cli.doctor_main", settings) as process:
                assert process.stdout is not None
                leaving = asyncio.create_task(leave(process))
                try:
                    lines = [line async for line in process.stdout]
                    code = await process.wait()
                finally:
                    leaving.cancel()
    except TimeoutError:
        raise Unavailable("the doctor takes too long", fix="run `sluicegate doctor` on the host") from None
    if code != 0:
        raise Unavailable(
            "the doctor did not finish", fix="the gateway's log says why; run `sluicegate doctor` on the host"
        )
    return DoctorFindings(examined_at=datetime.now(UTC), items=[DoctorFinding(**orjson.loads(line)) for line in lines])


@router.get("/health/findings")
async def get_findings(desk: Reading, request: Request, again: bool = False) -> DoctorFindings:
    """What the doctor finds on this node, each with what mends it; `again`: not what was found seconds ago."""
    examination: Examination = request.app.state.examination
    return await examination.findings(desk.services, again=again)


# ---- settings

SHOWN_IN_PART: Final = frozenset({"alert_webhook", "notice_webhook"})
"""URLs that may hold a token: their host is shown."""
HIDDEN: Final = frozenset({"options_given"})


@router.get("/settings")
def get_settings(desk: Reading) -> SettingsView:
    """What this worker goes by, and who said so. Secrets are not shown, only whether they are set."""
    settings = desk.services.settings
    in_file = settings.file_values()
    items = []
    for name, declared in type(settings).model_fields.items():
        if name in HIDDEN:
            continue
        source, where = _source(name, settings, in_file)
        secret = "Secret" in str(declared.annotation)
        meaning = " ".join((declared.description or "").split())
        value = _shown(name, getattr(settings, name), secret=secret)
        items.append(SettingView(name=name, value=value, secret=secret, source=source, where=where, meaning=meaning))
    return SettingsView(file=str(settings.file()), items=items)


def _source(
    name: str, settings: Settings, in_file: dict[str, Any]
) -> tuple[Literal["option", "variable", "file", "default"], str]:
    variable = f"SLUICEGATE_{name.upper()}"
    if name in settings.options_given and (name != "data" or settings.data != default_data_folder()):
        return "option", f"serve --{name.replace('_', '-')}"
    for each in (variable, f"{variable}_FILE"):
        if each in os.environ:
            return "variable", each
    if name in in_file:
        return "file", str(settings.file())
    return "default", ""


def _shown(name: str, value: Any, *, secret: bool) -> str | None:
    if value is None or value == ():
        return None
    if secret:
        return "set"
    if name == "database":
        return make_url(str(value)).render_as_string(hide_password=True)
    if name in SHOWN_IN_PART:
        parts = urlsplit(str(value))
        return f"{parts.scheme}://{parts.hostname}/…"
    if isinstance(value, timedelta):
        return f"{value / timedelta(days=1):g}d"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


# ---- backup


class BackupFailed(SluicegateError):
    status, code = 500, "backup_failed"


class BackupStream(Response):
    """The file at its reader's pace. What fails before its first piece is answered as any other error; after it the
    connection breaks off, so that nobody takes a part for the whole."""

    def __init__(self, settings: Settings) -> None:
        name = f"sluicegate-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz"
        disposition = f'attachment; filename="{name}"'
        super().__init__(
            media_type="application/gzip", headers={"content-disposition": disposition, "cache-control": "no-store"}
        )
        del self.headers["content-length"]
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        failed = False
        async with started("gateway.cli.backup_main", self._settings) as process, anyio.create_task_group() as tasks:
            assert process.stdout is not None
            tasks.start_soon(cancel_when_gone, receive, tasks.cancel_scope)
            piece = await process.stdout.read(PIECE_BYTES)
            if piece:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await process.stdout.read(PIECE_BYTES)
            failed = await process.wait() != 0
            if not failed:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()
        if failed:
            raise BackupFailed("the backup could not be finished", fix="the gateway's log says why")


CONTENT: Final[dict[str, Any]] = {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}


@router.get(
    "/backup",
    response_class=Response,
    responses={200: {"description": "Database and spool, as `sluicegate restore` takes them", "content": CONTENT}},
)
def get_backup(desk: Annotated[Desk, permit(Permission.BACKUP)], request: Request) -> BackupStream:
    """A backup of this moment, streamed, while the gateway serves. Without the sealing key: keep that elsewhere.

    Owners alone: it holds the hashes of keys and passwords, and everything that was recorded."""
    if desk.caller.user_id is not None and not same_origin(request):
        raise CrossOrigin("this download was begun by another site", fix="open the console itself")
    with desk.change() as session:
        audit.record(session, actor=desk.actor, action="download", kind="backup", name=platform.node())
    return BackupStream(desk.services.settings)
