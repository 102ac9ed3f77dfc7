"""Libraries that few installations need (OpenID Connect, SCIM, WebAuthn) are imported when they are first used.

At the start they would cost every worker its time and its memory, whether anybody signs in so or not.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TURN: Final = threading.RLock()


@contextmanager
def importing() -> Iterator[None]:
    """Around an import at first use. In a handler's thread, never on the event loop: it takes some tenths of a second.

    One at a time: two threads that enter a ring of modules at different places would each see half of the other's.
    """
    with _TURN:
        yield
