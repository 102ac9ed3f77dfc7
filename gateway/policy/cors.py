"""Cross-origin calls from browsers (WHATWG Fetch, "CORS protocol"): which origins an app's pages may come from.

A preflight shows no key, so nobody can tell whose it is: it is answered by all apps together (`CorsUnion`), and the
answer to the call itself by the caller's own app (docs/decisions/0006-cors.md).
"""

from dataclasses import dataclass
from typing import Final

EVERY: Final = "*"
VARY: Final = b"vary: Origin\r\n"
PREFLIGHT_VARY: Final = b"vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
ANSWER_HEADERS: Final = frozenset(
    (
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-expose-headers",
        b"access-control-allow-methods",
        b"access-control-allow-headers",
        b"access-control-max-age",
    )
)
"""What an upstream says of these is about its own address, not about ours."""
OWN_EXPOSED: Final = (
    "x-request-id",
    "x-sluicegate-route",
    "x-sluicegate-target",
    "x-sluicegate-cost-usd",
    "retry-after",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """One app's rules. `origins` as browsers write them (`https://app.example`), or `*`; header names in lower case."""

    origins: frozenset[str]
    methods: frozenset[str]
    headers: frozenset[str]
    """Request headers that pages may send, or `*`."""
    expose: tuple[str, ...] = ()
    """Answer headers that pages may read beside the gateway's own."""
    credentials: bool = False
    max_age_s: int = 600

    def allows(self, origin: str) -> bool:
        return origin in self.origins or EVERY in self.origins

    def answer_lines(self, origin: bytes | None) -> bytes:
        """What an answer to a call from this origin carries; `Vary` also where it comes from none."""
        if origin is None or not self.allows(origin.decode("latin-1")):
            return VARY
        credentials = b"access-control-allow-credentials: true\r\n" if self.credentials else b""
        exposed = ", ".join((*OWN_EXPOSED, *self.expose)).encode("latin-1")
        return b"%baccess-control-allow-origin: %b\r\n%baccess-control-expose-headers: %b\r\n" % (
            VARY, origin, credentials, exposed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CorsUnion:
    """All apps that name origins, for requests of which the app is not known: preflights, and answers to bad keys."""

    rules: tuple[tuple[Cors, frozenset[str] | None], ...] = ()
    """Each app's, with the names of the routes that it may call (None = all)."""

    def __bool__(self) -> bool:
        return bool(self.rules)

    def preflight_lines(self, origin: bytes, method: bytes, headers: bytes, route: str | None) -> bytes | None:
        """Header lines of the answer, None where no app takes such a call. `headers`: names with commas between;
        `route`: the HTTP route that claims the call."""
        asked = [name.strip().lower() for name in headers.decode("latin-1").split(",") if name.strip()]
        for rules, routes in self.rules:
            if route is not None and routes is not None and route not in routes:
                continue
            if not rules.allows(origin.decode("latin-1")) or not _fits(method.decode("latin-1"), rules.methods):
                continue
            if EVERY not in rules.headers and not rules.headers.issuperset(asked):
                continue
            lines = b"%baccess-control-allow-origin: %b\r\naccess-control-allow-methods: %b\r\n" % (
                PREFLIGHT_VARY, origin, method,
            )  # fmt: skip
            if asked:
                lines += b"access-control-allow-headers: %b\r\n" % ", ".join(asked).encode("latin-1")
            if rules.credentials:
                lines += b"access-control-allow-credentials: true\r\n"
            return lines + b"access-control-max-age: %d\r\n" % rules.max_age_s
        return None

    def answer_lines(self, origin: bytes | None) -> bytes:
        """For an error whose app is not known, so that the page can read what is wrong."""
        if origin is not None:
            for rules, _ in self.rules:
                if rules.allows(origin.decode("latin-1")):
                    return rules.answer_lines(origin)
        return VARY


def _fits(method: str, allowed: frozenset[str]) -> bool:
    return EVERY in allowed or method in allowed
