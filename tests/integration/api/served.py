"""The REST API served over a real socket, in a thread of the test process, on a database of its own."""

import contextlib
import functools
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from gateway.api.app import create_app
from gateway.policy.roles import Authority, Role
from gateway.settings import Settings
from gateway.store import members, migrate, passwords
from gateway.store.database import write_session
from gateway.store.member_documents import TokenDocument
from gateway.store.models import User

OWNER_PASSWORD = "correct horse battery"
OPERATOR = Authority(actor="cli:tests", role=Role.OWNER)


@dataclass(frozen=True, slots=True)
class ServedApi:
    """`url` is where it listens; `client` talks to it with a token of a role."""

    app: FastAPI
    url: str

    @property
    def engine(self) -> Engine:
        engine = self.app.state.services.engine
        assert isinstance(engine, Engine)
        return engine

    def token(self, role: Role, team: str | None = None) -> str:
        with write_session(self.engine) as session:
            return members.create_token(session, OPERATOR, TokenDocument(role=role, team=team)).token

    def client(self, role: Role = Role.OWNER, team: str | None = None) -> httpx2.Client:
        return self.bare_client(headers={"authorization": f"Bearer {self.token(role, team)}"})

    def bare_client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60, follow_redirects=False, **options)


@functools.cache
def owner_hash() -> str:
    """Made once: hashing is slow on purpose."""
    return passwords.hash_password(OWNER_PASSWORD)


@contextlib.contextmanager
def served(data: Path, database_url: str, **settings: Any) -> Iterator[ServedApi]:
    """Migrate, make the owner `admin`, serve on a free port; end the server when done."""
    app = create_app(Settings(data=data, database=database_url, **settings), None)
    engine = app.state.services.engine
    migrate.upgrade(engine)
    with write_session(engine) as session:
        session.add(User(name="admin", role=Role.OWNER, password_hash=owner_hash(), disabled=False))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield ServedApi(app, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        engine.dispose()
        assert not thread.is_alive(), "the server did not end"
