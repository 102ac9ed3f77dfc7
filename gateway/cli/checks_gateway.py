"""Checks of the gateway on this host: its folder, key, database, keeper and address."""

import os
import pwd
import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.address import api_url, readiness
from gateway.cli.checks import Finding, broken, fine, noted, weak
from gateway.cli.service import service_of
from gateway.errors import SluicegateError
from gateway.listening import split_address
from gateway.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

CONNECT_TIMEOUT_S = 2.0
MIB = 1024 * 1024
NEARLY_FULL = 0.85
"""Of what bodies may take: the keeper makes room from a little more on."""


def gateway_checks(settings: Settings) -> Iterator[Finding]:
    yield from store_checks(settings)
    running = service_of(settings).state().running
    yield from service(settings, running)


def store_checks(settings: Settings) -> Iterator[Finding]:
    """What it keeps, and what opens it."""
    yield data_folder(settings.data)
    if settings.data.is_dir():
        yield sealing_key(settings)
        yield from database(settings)
        if settings.bodies_folder.is_dir():
            yield recorded_bodies(settings.bodies_folder, settings.bodies_max_bytes)


def data_folder(folder: Path) -> Finding:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return noted("data folder", f"{folder} does not exist yet", "sluicegate service start makes it")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return broken("data folder", f"{folder} is not ours to read and write", f"chown -R {_me()} {folder}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        return weak("data folder", f"{folder} has mode {mode:04o}: others may look in", f"chmod 0700 {folder}")
    return fine("data folder", f"{folder}, mode {mode:04o}, owner {_name(status.st_uid)}")


def sealing_key(settings: Settings) -> Finding:
    from gateway.store.sealing import key_file, load_sealer

    path = key_file(settings)
    if settings.sealing_key is None and not path.exists():
        return noted("sealing key", f"{path} will be made at first use")
    try:
        sealer = load_sealer(settings)
    except SluicegateError as error:
        return broken("sealing key", error.message, error.fix)
    if settings.sealing_key is not None:
        return fine("sealing key", f"{sealer.key_id}, from SLUICEGATE_SEALING_KEY")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return broken("sealing key", f"{path} has mode {mode:04o}", f"chmod 0600 {path}; sluicegate sealing rotate")
    return fine("sealing key", f"{sealer.key_id}, {path}")


def recorded_bodies(folder: Path, most_bytes: int) -> Finding:
    """How much routes with `capture` have recorded, of what they may."""
    from gateway.store.bodies import size_of

    size = size_of(folder)
    days = sum(1 for each in folder.iterdir() if each.is_dir())
    told = f"{size / MIB:,.1f} of {most_bytes / MIB:,.0f} MiB, days recorded: {days}, in {folder}"
    if size >= NEARLY_FULL * most_bytes:
        return weak(
            "recorded bodies",
            f"{told}: the oldest make room for new ones before their time",
            "raise `bodies_max_bytes` in sluicegate.toml, or lower `sample`, `max_bytes` or `keep` of the routes",
        )
    return fine("recorded bodies", told)


def database(settings: Settings) -> Iterator[Finding]:
    """Reachable, of this release's schema, and sealed with the key that we have."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from gateway.store import migrate
    from gateway.store.database import make_engine, read_session
    from gateway.store.sealing import key_file, load_sealer, sealed_rows

    shown = make_url(settings.database_url).render_as_string(hide_password=True)
    if settings.database is None and not (settings.data / "sluicegate.sqlite").exists():
        yield noted("database", "will be made at the first start")
        return
    engine = make_engine(settings.database_url)
    try:
        if migrate.current_revision(engine) is None:
            yield noted("database", f"{shown} answers; the first start makes its tables")
            return
        migrate.check(engine)
        yield fine("database", f"{shown}, schema {migrate.current_revision(engine)}")
        with read_session(engine) as session:
            yield from authority(session)
            rows = sealed_rows(session)
            if not rows:
                return
            if settings.sealing_key is None and not key_file(settings).exists():
                fix = f"put the sealing key that belongs to this database at {key_file(settings)}"
                yield broken("credentials", f"{len(rows)} sealed secrets, and no sealing key", fix)
                return
            sealer = load_sealer(settings)
            for row in rows:
                sealer.open_row(row)
        yield fine("credentials", f"{len(rows)} sealed secrets, all open with the sealing key")
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        yield broken("database", f"{shown}: {cause}", "start the database, or set `database` in sluicegate.toml")
    except SluicegateError as error:
        yield broken("database", error.message, error.fix)
    finally:
        engine.dispose()


def authority(session: "Session") -> Iterator[Finding]:
    """Whether the certificate authority may sign for all whose TLS is to be terminated; silent where nobody asks."""
    from gateway.store.authority import concern, view

    now = datetime.now(UTC)
    shown = view(session, now)
    wrong = concern(shown, now)
    if wrong is not None:
        yield weak("authority", wrong.message, wrong.fix)
    elif shown.certificate is not None:
        yield fine("authority", f"signs for all that rules terminate, until {shown.expires_at:%Y-%m-%d}")


def service(settings: Settings, running: bool) -> Iterator[Finding]:
    """Who answers at the gateway's address, and whether it has what it needs."""
    now = readiness(settings)
    how = service_of(settings).state().how
    if now.ready:
        yield fine("gateway", f"ready at {api_url(settings)}" + (f" ({how})" if running else " (started by hand)"))
        yield keeper(settings.keeper_socket)
    elif now.answers:
        yield broken("gateway", f"{settings.listen} answers, but is not ready: {now.reason}", "sluicegate service logs")
        yield keeper(settings.keeper_socket)
    elif running:
        yield broken("gateway", f"{how} runs, but {settings.listen} does not answer", "sluicegate service logs")
    else:
        yield weak("gateway", "not running", "sluicegate service start")
        yield port(settings)


def keeper(path: Path) -> Finding:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError as error:
            return broken(
                "keeper", f"{path}: {error.strerror or error}", "sluicegate service logs; it is restarted by itself"
            )
    return fine("keeper", f"answers on {path}")


def port(settings: Settings) -> Finding:
    host, number = split_address(settings.listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return broken(
                "port",
                f"{settings.listen}: {error.strerror}",
                "set another `listen` in sluicegate.toml, or free the port",
            )
    return fine("port", f"{settings.listen} is free")


def _me() -> str:
    return _name(os.geteuid())


def _name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
