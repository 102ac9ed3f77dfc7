"""The keeper's one SQL thread: jobs run one after the other, leases before anything that has waited as long."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

Args = ParamSpec("Args")
Result = TypeVar("Result")


class SqlThread:
    """Runs blocking jobs off the event loop, in the order in which they were given."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, job: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
        """The job's result. Raises what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: job(*args, **kwargs))

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """A Core transaction that begins as a writer on SQLite (`database.write_session` without the session)."""
    with engine.connect().execution_options(sluicegate_writes=True) as connection, connection.begin():
        yield connection
