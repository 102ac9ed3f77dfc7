"""What each listening address serves: with `--admin-listen` console and REST API have one of their own, and the forward
proxy always has."""

from enum import StrEnum


class Serves(StrEnum):
    """By these words supervisor and workers tell each other what a listening socket is for."""

    ALL = "all"
    """Data plane, console and REST API."""
    DATA = "data"
    ADMIN = "admin"
    """Console and REST API."""
    PROXY = "proxy"
    """The forward proxy: CONNECT and absolute-form requests, never console or REST API."""
    TRANSPARENT = "transparent"
    """What the kernel hands over: never console or REST API, whatever it asks for."""
