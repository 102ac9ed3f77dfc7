"""`sluicegate serve`: checks what can be checked, prepares the database, opens certificate and listening sockets, and
becomes the supervisor (`gateway.supervisor`), which runs in a fresh interpreter: it lives as long as the gateway and
needs a fifth of the memory that the command line's imports take."""

import importlib.util
import json
import logging
import os
import sys

from gateway import handover
from gateway.certificate import CertificateRefused, load_certificate
from gateway.errors import BadRequest
from gateway.handover import Handover, Turn
from gateway.listening import Listener, open_listeners
from gateway.logs import log_to_stderr
from gateway.settings import Settings

log = logging.getLogger("sluicegate.serve")


def serve(settings: Settings) -> None:
    """Become the supervisor. Raises SluicegateError, OSError or CertificateRefused when the gateway cannot start."""
    from gateway.store.database import make_engine
    from gateway.store.migrate import upgrade

    log_to_stderr(settings.log_level, settings.log_format, "serve")
    if settings.otel:
        _require_opentelemetry()
    os.umask(0o077)
    left = handover.taken_over()
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.spool_folder.mkdir(mode=0o700, exist_ok=True)
    turn = Turn.START if left is None else Turn.UPGRADE
    engine = make_engine(settings.database_url)
    try:
        # Under an upgrade the release before still works on this database: migrations only add (CONTRIBUTING.md).
        upgrade(engine)
    except Exception:
        if left is None:
            raise
        turn = Turn.UNFIT
        log.exception("the database could not be prepared; the processes of the release before go on")
    engine.dispose()
    before = left or Handover()
    before.certificate = _certificate(settings, left)
    before.listeners = _listeners(settings, left)
    before.turn = turn
    # `serve` stays among the arguments: it tells people and `sluicegate service` what this process is.
    arguments = sys.argv[sys.argv.index("serve") :] if "serve" in sys.argv else ["serve"]
    os.environ.update(settings.to_hand_down())
    os.environ[handover.STARTED_BY] = json.dumps(handover.command())
    handover.hand_over([sys.executable, "-m", "gateway.supervisor", *arguments], before)


def _certificate(settings: Settings, left: Handover | None) -> int | None:
    before = None if left is None else left.certificate
    try:
        certificate = load_certificate(settings)
    except CertificateRefused as error:
        if before is None:
            raise
        log.error("certificate not re-read, the present one stays in force", extra={"error": error.message})
        return before
    if before is not None:
        os.close(before)
    return certificate


def _listeners(settings: Settings, left: Handover | None) -> list[Listener]:
    try:
        return open_listeners(settings, left.listeners if left else [])
    except OSError as error:
        if left is None:
            raise
        log.error("the listening addresses stay as they were", extra={"error": str(error)})
        return left.listeners


def check(settings: Settings) -> None:
    """What `serve` would refuse, without starting anything. Raises as `serve` does."""
    from gateway.store.database import make_engine
    from gateway.store.migrate import refuse_unfit

    if settings.otel:
        _require_opentelemetry()
    certificate = load_certificate(settings)
    if certificate is not None:
        os.close(certificate)
    engine = make_engine(settings.database_url)
    try:
        refuse_unfit(engine)
    finally:
        engine.dispose()


def _require_opentelemetry() -> None:
    """Raises BadRequest where `otel` is on and its packages are not there."""
    for package in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise BadRequest(
                f"`otel` is on, and the package {package} is not installed",
                fix="install it: ./install.sh --with otel, or pip install 'sluicegate[otel]'; or turn `otel` off",
            )
