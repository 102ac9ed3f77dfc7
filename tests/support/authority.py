"""A certificate authority as the gateway makes it: rules in SQL, made by the store, opened by the snapshot's way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from gateway.policy import codec
from gateway.policy.model import CertificateAuthority
from gateway.policy.roles import Authority, Role
from gateway.store import authority, migrate
from gateway.store.authority import MakeAction
from gateway.store.compiler import compile_snapshot
from gateway.store.config import Editing, InterceptionRules
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.documents import InterceptionDocument
from gateway.store.sealing import Sealer

SEALER = Sealer(lambda: [b"k" * 32])


class AuthorityStore:
    """A database with interception rules, of which one may be there for each call of `intercept`."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        migrate.upgrade(self.engine)

    @contextmanager
    def editing(self) -> Iterator[Editing]:
        with write_session(self.engine) as session:
            yield Editing(session=session, authority=Authority(actor="cli:root", role=Role.OWNER), sealer=SEALER)

    def intercept(
        self, name: str, hosts: Sequence[str] = (), cidrs: Sequence[str] = (), tls: str = "terminate"
    ) -> None:
        wanted = {"name": name, "destinations": {"hosts": [*hosts], "cidrs": [*cidrs]}, "tls": tls}
        with self.editing() as editing:
            InterceptionRules(editing).create(InterceptionDocument.model_validate(wanted))

    def make(self, action: MakeAction = MakeAction.CREATE, now: datetime | None = None) -> CertificateAuthority:
        """The authority as a worker has it after this."""
        with self.editing() as editing:
            authority.make(editing, action, now or datetime.now(UTC))
        with read_session(self.engine) as session:
            snapshot = codec.decode_snapshot(codec.encode_snapshot(compile_snapshot(session, SEALER)))
        assert snapshot.authority is not None
        return snapshot.authority


def made_for(
    folder: Path, hosts: Sequence[str] = (), cidrs: Sequence[str] = (), now: datetime | None = None
) -> CertificateAuthority:
    """An authority for these destinations, in a SQLite file of its own."""
    store = AuthorityStore(f"sqlite:///{folder / 'authority.sqlite'}")
    try:
        store.intercept("rule", hosts, cidrs)
        return store.make(now=now)
    finally:
        store.engine.dispose()
