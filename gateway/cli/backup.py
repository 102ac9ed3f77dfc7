"""`sluicegate backup` and `restore`: database, spool and, where asked for, the sealing key, in one tar.gz file.

The spool is copied before the database is read: what the keeper moves from one to the other meanwhile is then in
both, and a replay of rows that are there already does nothing. The tables are read in one transaction, so that they are
of one moment. Their format (`table_rows`) is the same for both databases.
"""

import gzip
import io
import os
import socket
import sys
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import orjson
from sqlalchemy import Engine

from gateway import __version__
from gateway.cli import output, table_rows
from gateway.cli.owner import as_owner, become_owner, caller_name
from gateway.cli.whole_file import whole_file
from gateway.errors import SluicegateError
from gateway.settings import Settings
from gateway.store import audit, migrate
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.keeper import node_id
from gateway.store.sealing import key_file

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
KEY: Final = "sealing.key"
EXTRA_FILES: Final = ("prices.json",)
"""Files of the data folder that belong to its state."""


class BackupError(SluicegateError):
    code = "backup"


def write(settings: Settings, file: Path, *, with_key: bool) -> None:
    """Write a backup to `file` ("-": stdout). A file that could not be finished is removed. Raises BackupError."""
    if not settings.data.is_dir():
        raise BackupError(f"there is no data folder at {settings.data}", fix="name it with --data")
    with whole_file(file) as opened:
        code = as_owner(settings.data, lambda: _fill(settings, opened, with_key=with_key))
        if code != 0:
            raise SystemExit(code)


def _fill(settings: Settings, opened: IO[bytes], *, with_key: bool) -> None:
    engine = make_engine(settings.database_url)
    try:
        revision = migrate.current_revision(engine)
        if revision is None:
            raise BackupError("the database is empty: there is nothing to back up", fix="is --data right?")
        packed = gzip.GzipFile(fileobj=opened, mode="wb", compresslevel=1)  # tarfile's own cannot be told (3.11)
        with packed, tarfile.open(fileobj=packed, mode="w|") as archive:
            manifest = {
                "format": FORMAT,
                "sluicegate": __version__,
                "schema": revision,
                "made_at": datetime.now(UTC).isoformat(),
                "with_key": with_key,
            }
            _add(archive, MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
            segments = _add_spool(archive, settings.spool_folder)
            rows = _add_tables(archive, engine)
            _add_files(archive, settings, with_key=with_key)
    finally:
        engine.dispose()
    opened.flush()
    output.note(f"saved {rows} rows and {segments} spool segments, {'with' if with_key else 'without'} the sealing key")


def restore(settings: Settings, file: Path, *, ask: bool) -> None:
    """Bring the installation back to `file`. Raises BackupError; the database is then as it was."""
    actor = f"cli:{caller_name()}"
    with file.open("rb") as opened:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        become_owner(settings.data)
        _require_stopped(settings)
        engine = make_engine(settings.database_url)
        try:
            manifest = _verified(opened)
            revision = str(manifest["schema"])
            if revision not in migrate.revisions():
                raise BackupError(
                    f"{file} has schema {revision} of release {manifest['sluicegate']}, which is newer than this one",
                    fix=f"install {manifest['sluicegate']} or newer",
                )
            if ask and not _agreed(file, manifest, settings):
                raise BackupError("nothing was changed")
            rows = _at_schema_of(engine, revision, lambda: _bring_back(opened, engine, settings))
            with write_session(engine) as session:
                audit.record(session, actor=actor, action="restore", kind="backup", name=file.name)
        finally:
            engine.dispose()
    output.say(f"restored {rows} rows of {manifest['made_at']}")
    _judge_key(settings)


def _at_schema_of(engine: Engine, revision: str, work: Callable[[], int]) -> int:
    """Do `work` while the database has the backup's schema; this release's is there again afterwards, come what may."""
    migrate.upgrade(engine)
    migrate.downgrade(engine, revision)
    try:
        return work()
    finally:
        migrate.upgrade(engine)


# ---- writing ---------------------------------------------------------------------------------------------------------


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(content), int(time.time()), 0o600
    archive.addfile(member, io.BytesIO(content))


def _add_spool(archive: tarfile.TarFile, folder: Path) -> int:
    """Every segment as it stands. One that goes meanwhile has been taken into the database, which is read later."""
    count = 0
    for segment in sorted(folder.glob("*.spool")):
        try:
            content = segment.read_bytes()
        except FileNotFoundError:
            continue
        _add(archive, f"spool/{segment.name}", content)
        count += 1
    return count


def _add_tables(archive: tarfile.TarFile, engine: Engine) -> int:
    count = 0
    with read_session(engine) as session:
        tables = table_rows.described(session)
        for table in tables.sorted_tables:
            for number, (content, rows) in enumerate(table_rows.dump(session, table)):
                _add(archive, f"tables/{table.name}/{number:06d}.jsonl", content)
                count += rows
        _add(archive, "sequences.json", orjson.dumps(table_rows.sequences(session, tables)))
    return count


def _add_files(archive: tarfile.TarFile, settings: Settings, *, with_key: bool) -> None:
    for name in EXTRA_FILES:
        path = settings.data / name
        if path.exists():
            _add(archive, f"files/{name}", path.read_bytes())
    if not with_key:
        return
    if settings.sealing_key is not None:
        _add(archive, KEY, settings.sealing_key.get_secret_value().encode())
    elif key_file(settings).exists():
        _add(archive, KEY, key_file(settings).read_bytes())


# ---- bringing back ---------------------------------------------------------------------------------------------------


def _bring_back(opened: IO[bytes], engine: Engine, settings: Settings) -> int:
    """Read the archive once, front to back: spool beside the present one, tables in one transaction, then the rest."""
    arriving = settings.data / f"spool.restoring-{os.getpid()}"
    arriving.mkdir(mode=0o700)
    files: dict[str, bytes] = {}
    rows = 0
    try:
        with _archive(opened) as (archive, _packed), write_session(engine) as session:
            tables = table_rows.described(session)
            for table in reversed(tables.sorted_tables):
                session.execute(table.delete())
            for member in archive:
                content = _read(archive, member)
                match member.name.split("/"):
                    case ["manifest.json"]:
                        continue
                    case ["spool", segment]:
                        (arriving / segment).write_bytes(content)
                    case ["tables", table_name, _chunk]:
                        rows += table_rows.load(session, tables.tables[table_name], content)
                    case ["sequences.json"]:
                        table_rows.set_sequences(session, tables, orjson.loads(content))
                    case ["files", extra] if extra in EXTRA_FILES:
                        files[extra] = content
                    case ["sealing.key"]:
                        files[KEY] = content
                    case _:
                        raise BackupError(f"the backup holds {member.name!r}, which this release does not know")
            # All workers of the backup are gone: their leases become this node's, whose keeper frees what is unspent.
            if "lease" in tables.tables:
                session.execute(tables.tables["lease"].update().values(node=node_id(settings.data)))
        _put_aside(settings.spool_folder)
        arriving.rename(settings.spool_folder)
    finally:
        if arriving.exists():
            for segment_file in arriving.iterdir():
                segment_file.unlink()
            arriving.rmdir()
    for extra, content in files.items():
        _put_file(settings.data / extra, content)
    return rows


def _put_file(path: Path, content: bytes) -> None:
    """Replace a file, keeping one that differs beside it."""
    if path.exists() and path.read_bytes() != content:
        _put_aside(path)
    draft = path.with_name(f".{path.name}.restoring")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
    draft.replace(path)


def _put_aside(path: Path) -> None:
    if path.exists():
        path.rename(path.with_name(f"{path.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"))


@contextmanager
def _archive(opened: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, gzip.GzipFile]]:
    """The archive from its beginning, as a stream."""
    opened.seek(0)
    with gzip.GzipFile(fileobj=opened, mode="rb") as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        yield archive, packed


def _verified(opened: IO[bytes]) -> dict[str, Any]:
    """Read all of the file before anything is changed. Returns its manifest; raises BackupError unless it is whole."""
    try:
        with _archive(opened) as (archive, packed):
            first = archive.next()
            if first is None or first.name != MANIFEST:
                raise BackupError("this is not a Sluicegate backup: it has no manifest")
            manifest: dict[str, Any] = orjson.loads(_read(archive, first))
            for _ in archive:
                pass
            while packed.read(1 << 20):  # to the checksum at its end: tar alone misses no member
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise BackupError(f"this is not a whole Sluicegate backup: {error}", fix="nothing was changed") from error
    if manifest.get("format") != FORMAT:
        raise BackupError(f"the backup has format {manifest.get('format')}, not {FORMAT}", fix="use a newer release")
    return manifest


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    if opened is None:
        raise BackupError(f"the backup holds {member.name!r}, which is no file")
    content = opened.read()
    if len(content) != member.size:
        raise EOFError(f"{member.name} is cut short")
    return content


def _require_stopped(settings: Settings) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        if probe.connect_ex(str(settings.keeper_socket)) == 0:
            raise BackupError(
                "the gateway is running", fix="sluicegate service stop; restore; sluicegate service start"
            )


def _agreed(file: Path, manifest: dict[str, Any], settings: Settings) -> bool:
    """Asked at a terminal only: scripts say what they mean."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    output.note(
        f"{file} was made at {manifest['made_at']}. It replaces everything in {settings.data} and its database."
    )
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")


def _judge_key(settings: Settings) -> None:
    """Say at once where the restored credentials cannot be opened here."""
    from gateway.cli.checks import Verdict
    from gateway.cli.checks_gateway import database

    for finding in database(settings):
        if finding.verdict is Verdict.BROKEN:
            output.complain(finding.detail, fix=finding.fix)
