"""Programs of ours that a worker starts with its own settings, and whose output it reads: the doctor, a backup.

They live in `gateway.cli`, of which the API imports nothing: what they need to load stays out of the worker.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from gateway.settings import Settings

PIECE_BYTES: Final = 64 * 1024


@asynccontextmanager
async def started(module: str, settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m MODULE`, its output a pipe; ended with the block, whatever it is doing. Its errors are the gateway's
    log's."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **settings.to_hand_down()},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()
