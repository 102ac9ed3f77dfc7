"""Mail to real servers: in the clear, by STARTTLS and by TLS from the first byte; each attempt has one deadline."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from gateway.settings import Settings
from gateway.store import notice_delivery
from gateway.store.models import now
from gateway.store.notice_delivery import NotDelivered, Parcel, mail
from tests.support import mailbox
from tests.support.certificates import Certificates, make_certificates

Security = Literal["none", "starttls", "tls"]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TLS: tuple[Security, ...] = ("starttls", "tls")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For localhost and 127.0.0.1, by an authority of its own."""
    return make_certificates(tmp_path_factory.mktemp("mail"))


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine trusts this authority (OpenSSL's variable)."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))


def settings_for(tmp_path: Path, server: str, security: Security) -> Settings:
    return Settings(
        data=tmp_path,
        smtp=server,
        smtp_security=security,
        smtp_user=mailbox.USER,
        smtp_password=SecretStr(mailbox.PASSWORD),
        smtp_from="gateway@example.com",
    )


def parcel() -> Parcel:
    return Parcel(
        delivery_id=7, notice_id=3, channel="email", destination="search@example.com", tried=1, kind="budget",
        title="Budget month: 80 % of $50.00 a month is used", team="search", at=now(), document={"limit": "month"},
        installation="i", secret=None,
    )  # fmt: skip


def send(settings: Settings) -> None:
    asyncio.run(mail(settings, parcel()))


@pytest.mark.parametrize("security", ["none", *TLS])
def test_a_mail_arrives_as_the_setting_says(
    tmp_path: Path, certificates: Certificates, trusted: None, security: Security
) -> None:
    with mailbox.mailbox(security, None if security == "none" else certificates) as box:
        send(settings_for(tmp_path, f"localhost:{box.port}", security))
    (received,) = box.mails
    assert (received["To"], received["From"]) == ("search@example.com", "gateway@example.com")
    assert received["Message-ID"] == "<notice-3-7@i>"
    assert [cipher is not None for cipher in box.ciphers] == [security != "none"]


@pytest.mark.parametrize("security", TLS)
def test_a_server_whose_authority_is_unknown_gets_nothing(
    tmp_path: Path, certificates: Certificates, security: Security
) -> None:
    with mailbox.mailbox(security, certificates) as box:
        with pytest.raises(NotDelivered, match=r"(?i)certificate"):
            send(settings_for(tmp_path, f"localhost:{box.port}", security))
    assert box.mails == []


@pytest.mark.parametrize("security", TLS)
def test_a_server_with_another_name_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: Security
) -> None:
    others = make_certificates(tmp_path / "others", host="mail.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(others.authority))
    with mailbox.mailbox(security, others) as box:
        with pytest.raises(NotDelivered, match=r"(?i)hostname"):
            send(settings_for(tmp_path, f"localhost:{box.port}", security))
        assert box.mails == []
        send(settings_for(tmp_path, f"127.0.0.1:{box.port}", security))
    assert len(box.mails) == 1


def test_no_password_is_told_where_starttls_is_taken_away(tmp_path: Path) -> None:
    with mailbox.mailbox("none") as box:
        with pytest.raises(NotDelivered, match="STARTTLS"):
            send(settings_for(tmp_path, f"127.0.0.1:{box.port}", "starttls"))
    assert box.mails == []


def test_a_wrong_password_is_told_in_words(tmp_path: Path) -> None:
    with mailbox.mailbox("none") as box:
        wrong = settings_for(tmp_path, f"127.0.0.1:{box.port}", "none")
        with pytest.raises(NotDelivered, match="535"):
            send(wrong.model_copy(update={"smtp_password": SecretStr("another")}))


# ---- servers that take their time


@contextlib.asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            await serve(reader, writer)

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await listening.wait_closed()


async def drip(writer: asyncio.StreamWriter, line: bytes) -> None:
    """One byte after the other, for ever."""
    while True:
        for code in line:
            writer.write(bytes((code,)))
            await writer.drain()
            await asyncio.sleep(0.01)


async def drips_its_greeting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await drip(writer, b"220-welcome\r\n")


async def drips_what_it_can(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example.com\r\n")
    await reader.readline()
    await drip(writer, b"250-AND-MORE\r\n")


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, last: str) -> list[str]:
    """An SMTP server without extensions, until the command `last` comes, which it leaves unanswered."""
    heard: list[str] = []
    writer.write(b"220 mail.example.com\r\n")
    while True:
        verb = (await reader.readline()).decode().split(" ", 1)[0].strip().upper()
        heard.append(verb)
        if verb == last:
            return heard
        writer.write(b"354 go on\r\n" if verb == "DATA" else b"250 fine\r\n")
        if verb == "DATA":
            await reader.readuntil(b"\r\n.\r\n")
            if last == ".":
                return heard
            writer.write(b"250 taken\r\n")


async def drips_whether_it_took_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await talk(reader, writer, last=".")
    await drip(writer, b"250-taken\r\n")


SLOW: tuple[Serve, ...] = (drips_its_greeting, drips_what_it_can, says_nothing, drips_whether_it_took_it)


@pytest.mark.parametrize("serve", SLOW, ids=[each.__name__ for each in SLOW])
def test_a_server_that_drips_has_until_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    """Each byte comes in time; all of it never ends."""
    monkeypatch.setattr(notice_delivery, "MAIL_S", 0.5)

    async def deliver() -> float:
        async with server(serve) as address:
            settings = settings_for(tmp_path, address, "none").model_copy(update={"smtp_user": None})
            begun_s = time.monotonic()
            with pytest.raises(NotDelivered, match="did not take the mail within"):
                await mail(settings, parcel())
            return time.monotonic() - begun_s

    assert 0.4 < asyncio.run(deliver()) < 5


def test_what_was_taken_is_delivered_however_the_server_says_good_bye(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice_delivery, "FAREWELL_S", 0.2)
    heard: list[Any] = []

    async def leaves_quit_unanswered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await talk(reader, writer, last="QUIT"))
        await drip(writer, b"221-bye\r\n")

    async def deliver() -> None:
        async with server(leaves_quit_unanswered) as address:
            settings = settings_for(tmp_path, address, "none").model_copy(update={"smtp_user": None})
            await mail(settings, parcel())

    asyncio.run(deliver())
    assert heard[-2:] == ["DATA", "QUIT"]
