"""A mail server and a webhook's receiver on real sockets, in threads of the test process: they keep what came."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.certificates import Certificates
from tests.support.ports import free_port

USER, PASSWORD = "sluicegate", "into the mill race"


@dataclass
class Mailbox:
    """`refusing`: mail is refused for the time being (RFC 5321 4.2.2: 451)."""

    port: int
    mails: list[Message] = field(default_factory=list)
    to: list[str] = field(default_factory=list)
    refusing: bool = False
    ciphers: list[str | None] = field(default_factory=list)
    """By which each mail came; None: in the clear."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if not session.authenticated:
            return "530 sign in first"
        if self.refusing:
            return "451 come back later"
        assert isinstance(envelope.content, bytes)
        assert server.transport is not None
        cipher = server.transport.get_extra_info("cipher")
        self.ciphers.append(None if cipher is None else cipher[0])
        self.to += envelope.rcpt_tos
        self.mails.append(message_from_bytes(envelope.content))
        return "250 taken"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        good = isinstance(given, LoginPassword) and (given.login, given.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=good)  # else the server answers 535 by itself


class _Server(Controller):
    """`client`: how a client speaks to it, where it speaks TLS from the first byte."""

    client: "Certificates | None" = None

    def _trigger_server(self) -> None:
        if self.client is None:
            super()._trigger_server()
            return
        with (
            socket.create_connection((self.hostname, self.port), 5) as plain,
            self.client.client_context().wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            wrapped.recv(1024)


@contextlib.contextmanager
def mailbox(
    security: Literal["none", "starttls", "tls"] = "none", certificates: Certificates | None = None
) -> Iterator[Mailbox]:
    """It wants the user and password above, by STARTTLS not before TLS is spoken (RFC 3207)."""
    box = Mailbox(free_port())
    options: dict[str, Any] = {"auth_require_tls": security == "starttls"}
    if certificates is not None and security == "starttls":
        options |= {"tls_context": certificates.server_context(), "require_starttls": True}
    elif certificates is not None:
        options |= {"ssl_context": certificates.server_context()}
    server = _Server(box, hostname="127.0.0.1", port=box.port, authenticator=box.authenticate, **options)
    server.client = certificates if security == "tls" else None
    server.start()
    try:
        yield box
    finally:
        server.stop()


@dataclass(frozen=True)
class Post:
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.content)
        return found


@dataclass
class Receiver:
    url: str
    posts: list[Post] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """How the next ones are answered; 204 after that."""


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.posts.append(Post(self.path, headers, content))
            self.send_response(found.statuses.pop(0) if found.statuses else 204)
            self.send_header("location", "http://127.0.0.1:9/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
