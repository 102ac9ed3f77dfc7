"""One notice that cannot be delivered harms no other, and never ends the keeper."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select, update

from gateway.settings import Settings
from gateway.store import keeper_notices, keeper_portal, notice_delivery, notices
from gateway.store.contacts import ADDRESS
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.keeper_events import EventFeed
from gateway.store.keeper_notices import KeeperNotices
from gateway.store.keeper_portal import KeeperPortal
from gateway.store.notices import Channel, DeliveryState, Destination, Kind
from gateway.store.portal_models import Notice, NoticeDelivery
from gateway.store.sealing import load_sealer
from gateway.store.sql_thread import SqlThread
from tests.support import mailbox

STUMBLED_OVER = [".:@x.com", ".a:b@example.com", "(!=):[#(0:@a.b"]
"""Each makes the standard library raise another error than it documents."""
WITHIN_S = 10.0


@pytest.fixture
def settings(migrated_url: str, tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, database=migrated_url)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    found = make_engine(settings.database_url, pool_size=4)
    yield found
    found.dispose()


@pytest.fixture
def sql() -> Iterator[SqlThread]:
    found = SqlThread("tests")
    yield found
    found.close()


def send(engine: Engine, *to: Destination) -> None:
    with write_session(engine) as session:
        notices.write(session, Kind.BUDGET, "x", {}, team_id=None, to=to)


def deliveries(engine: Engine) -> dict[str, tuple[str, int, str | None]]:
    with read_session(engine) as session:
        return {
            row.destination: (row.state, row.attempts, row.error) for row in session.scalars(select(NoticeDelivery))
        }


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(keeper: KeeperNotices | KeeperPortal) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(keeper.run())
    try:
        yield task
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "address", [*STUMBLED_OVER, "a..b@c.d", ".a@b.c", "a@b..c", "a@-b.c", "x" * 65 + "@b.c", "é@b.c"]
)
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    assert not ADDRESS.fullmatch(address)


@pytest.mark.parametrize(
    "address", ["a@b", "search-team@example.com", "o'neil+x.y_z=%@a-1.example.co", "x" * 64 + "@b.c"]
)
def test_a_plain_address_is_taken(address: str) -> None:
    assert ADDRESS.fullmatch(address)


def test_a_stored_address_that_no_mail_can_name_is_tried_and_the_others_get_theirs(
    engine: Engine, settings: Settings, sql: SqlThread, caplog: pytest.LogCaptureFixture
) -> None:
    with mailbox.mailbox() as box:
        settings = settings.model_copy(
            update={
                "smtp": f"127.0.0.1:{box.port}",
                "smtp_security": "none",
                "smtp_user": mailbox.USER,
                "smtp_password": SecretStr(mailbox.PASSWORD),
            }
        )
        send(engine, *(Destination(Channel.EMAIL, each) for each in [*STUMBLED_OVER, "good@example.com"]))

        async def deliver() -> None:
            async with running(KeeperNotices(settings, engine, load_sealer(settings), sql, sql)):
                await until(lambda: box.to == ["good@example.com"])
                await until(lambda: all(deliveries(engine)[each][2] for each in STUMBLED_OVER))

        asyncio.run(deliver())
    for each in STUMBLED_OVER:
        state, attempts, error = deliveries(engine)[each]
        assert (state, attempts >= 1) == ("waiting", True)
        assert "Error" in str(error)
    assert "notice not delivered" in caplog.text


def test_a_webhook_is_done_with_its_status_whatever_it_goes_on_to_say(
    engine: Engine, settings: Settings, sql: SqlThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice_delivery, "POST_S", 0.5)

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A whole head and no end of a body; of /silent a head that never ends."""
        asked = await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\n" + (b"" if b"/silent" in asked else b"content-length: 1000000\r\n\r\n"))
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while True:
                writer.write(b"x: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)

    async def deliver() -> None:
        server = await asyncio.start_server(endless, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        send(engine, *(Destination(Channel.WEBHOOK, url + path) for path in ("/endless", "/silent")))
        async with running(KeeperNotices(settings, engine, load_sealer(settings), sql, sql)):
            await until(lambda: deliveries(engine)[url + "/endless"][0] == "sent")
            await until(lambda: "did not answer within" in str(deliveries(engine)[url + "/silent"][2]))
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.2)  # the handlers see that they are left alone

    asyncio.run(deliver())


def test_a_mail_server_that_drips_holds_up_no_other_delivery(
    engine: Engine, settings: Settings, sql: SqlThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_notices, "AT_ONCE", 2)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while True:
                writer.write(b"220-w\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)

    async def deliver() -> None:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        slow = settings.model_copy(
            update={"smtp": f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "smtp_security": "none"}
        )
        with mailbox.receiver() as hook:
            send(engine, Destination(Channel.EMAIL, "a@example.com"), Destination(Channel.WEBHOOK, hook.url + "/1"))
            async with running(KeeperNotices(slow, engine, load_sealer(settings), sql, sql)):
                await until(lambda: len(hook.posts) == 1)
                send(engine, Destination(Channel.WEBHOOK, hook.url + "/2"))  # while the mail is still under way
                await until(lambda: len(hook.posts) == 2)
                assert deliveries(engine)["a@example.com"] == ("waiting", 1, None)
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.1)

    asyncio.run(deliver())


def test_what_became_of_a_delivery_is_written_down_when_sql_is_back(
    engine: Engine, settings: Settings, sql: SqlThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be sent once more."""
    monkeypatch.setattr(keeper_notices, "FAILED_PAUSE_S", 0.01)
    keeper = KeeperNotices(settings, engine, load_sealer(settings), sql, sql)
    settle, failures = keeper._settle, [KeyError("away"), KeyError("still away")]

    def stumble(parcel: notice_delivery.Parcel, problem: str | None) -> None:
        if failures:
            raise failures.pop()
        settle(parcel, problem)

    monkeypatch.setattr(keeper, "_settle", stumble)

    async def deliver() -> None:
        with mailbox.receiver() as hook:
            send(engine, Destination(Channel.WEBHOOK, hook.url))
            async with running(keeper):
                await until(lambda: deliveries(engine)[hook.url][0] == "sent")
            assert len(hook.posts) == 1

    asyncio.run(deliver())


def test_the_portals_work_goes_on_after_any_error(
    engine: Engine,
    settings: Settings,
    sql: SqlThread,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(keeper_portal, "FAILED_PAUSE_S", 0.01)
    monkeypatch.setattr(keeper_notices, "FAILED_PAUSE_S", 0.01)
    keeper = KeeperPortal(settings, engine, load_sealer(settings), sql, sql, EventFeed(None))  # type: ignore[arg-type]
    calls = {"look": 0, "due": 0}

    def stumble(name: str) -> Callable[[], None]:
        def fail() -> None:
            calls[name] += 1
            raise KeyError(name)

        return fail

    monkeypatch.setattr(keeper, "_read", stumble("look"))
    monkeypatch.setattr(keeper._notices, "_due", stumble("due"))

    async def go_on() -> None:
        async with running(keeper):
            await until(lambda: min(calls.values()) >= 2)

    asyncio.run(go_on())
    assert "the portal's work waits" in caplog.text
    assert "notices wait" in caplog.text


def test_the_oldest_notices_go_once_they_are_delivered(engine: Engine) -> None:
    for number in range(4):
        send(engine, *[Destination(Channel.EMAIL, f"{number}@example.com")] if number != 1 else [])
    with write_session(engine) as session:
        notices.forget_oldest(session, most=1)
        assert set(session.scalars(select(Notice.id))) == {1, 3, 4}
        session.execute(update(NoticeDelivery).values(state=DeliveryState.FAILED.value))
        notices.forget_oldest(session, most=1)
        assert set(session.scalars(select(Notice.id))) == {4}
