"""A request's body, whole or streamed, gives back what it was fed."""

import asyncio
from pathlib import Path

from gateway.dataplane.request import RequestBody


class Reading:
    paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def body(reading: Reading) -> RequestBody:
    return RequestBody(reading, Path("/tmp"), 1024 * 1024, 8 * 1024 * 1024)


def test_whole_is_all_that_came_also_once_it_is_to_be_streamed() -> None:
    made = body(Reading())
    made.feed(b"a")
    made.feed(b"b")
    assert made.whole() == b"ab"
    made.stream()
    made.stream()
    made.feed(b"c")
    made.end()
    assert made.whole() == b"abc"


def test_streamed_pauses_the_sender_and_lets_it_go_on() -> None:
    async def run() -> None:
        reading = Reading()
        made = body(reading)
        made.feed(b"x" * 200_000)
        made.stream()
        assert made.kept_bytes == 200_000
        made.feed(b"y" * 100_000)
        assert reading.paused
        assert len(await made.next_chunk()) == 200_000
        assert not reading.paused
        assert len(await made.next_chunk()) == 100_000
        waiting = asyncio.ensure_future(made.next_chunk())
        await asyncio.sleep(0)
        made.feed(b"z")
        assert await waiting == b"z"
        made.end()
        assert await made.next_chunk() == b""
        made.close()

    asyncio.run(run())
