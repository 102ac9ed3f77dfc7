"""What one HTTP/2 client may hold, throw away and send for nothing (RFC 9113 10.5)."""

from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

MOST_STREAMS: Final = 100
"""At once."""
MOST_STREAMS_EVER: Final = 20_000
"""Of one connection; then the client is asked for another one."""
HEADER_LIST_BYTES: Final = 64 * 1024
STREAM_WINDOW_BYTES: Final = 256 * 1024
CONNECTION_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""What a connection may hold of requests that nobody takes."""
ENCODER_TABLE_BYTES: Final = 4096
"""Of our side of HPACK, whatever more the client would bear: it is our memory."""
LAST_ID: Final = 2**31 - 1
"""The highest number that a stream can have."""


class Allowance:
    """Of what a client may do now and then, and not without end."""

    __slots__ = ("_at_s", "_left", "_most", "_per_s")

    def __init__(self, most: int, per_s: float, now_s: float) -> None:
        self._left = float(most)
        self._most = most
        self._per_s = per_s
        self._at_s = now_s

    def spend(self, now_s: float) -> bool:
        """Whether there was any left."""
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s) - 1
        self._at_s = now_s
        return self._left >= 0


def new_connection() -> H2Connection:
    """Fields are checked by `h2_text`: what is malformed ends its stream, not the connection."""
    connection = H2Connection(
        H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    connection.local_settings = _settings(MOST_STREAMS)
    return connection


def _settings(streams: int) -> Settings:
    return Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        },
    )


def count_streams_ourselves(connection: H2Connection) -> None:
    """h2 would end the connection for a stream too many, which a client may open before it has read the settings."""
    connection.local_settings = _settings(LAST_ID)
