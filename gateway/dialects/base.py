"""What the data plane asks of a dialect: read a call, rewrite it for a target, meter the answer, word an error.

Pure: bytes and values in, bytes and values out. A dialect is one object that implements `DialectHandler`, registered in
`gateway.dialects.registry`; adding one touches its own file and that registration.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import SluicegateError
from gateway.policy.model import Dialect
from gateway.policy.usage import Figures, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a path of a dialect is for, e.g. chat completions.

    `upstream_path` is appended to the provider's base URL, version suffix included (`/v1/chat/completions`); `{model}`
    in it stands for the target's model.
    """

    name: str
    dialect: Dialect
    upstream_path: str
    listing: bool = False
    """The gateway answers by itself with the names of the routes that the key may call."""
    model: str | None = None
    """The model that the path names; of a listing: the one that is asked for (None = all)."""
    twin: Dialect | None = None
    """A dialect with the same wire format for this operation: where a route has no target of `dialect`, its targets of
    this one serve, byte for byte."""
    path_model: Callable[[str], str] = str
    """How the upstream's path writes the target's model, before it is percent-encoded."""


@dataclass(slots=True)
class Call:
    """What admission, routing and metering must know of a request's body. Never changed once made; not frozen, as that
    triples what making one costs, nor by keyword only, which doubles it: the quick paths name its fields by place."""

    route: str
    """What the caller wrote as `model`."""
    stream: bool = False
    input_bound: int = 0
    """No more input tokens than this (contract "Limits")."""
    input_estimate: int = 0
    """What the input probably is, for answers whose provider reports nothing: a token per four bytes of text."""
    output_bound: int | None = None
    """`max_tokens` × n; None where the caller gave no bound."""
    choices: int = 1
    """`n`: the route's default output bound is multiplied by it where `output_bound` is None."""
    tells_usage: bool = True
    """Whether the caller itself asked for usage in the stream; if not, what we ask for is taken out again."""


class Meter(Protocol):
    """Reads an answer's body as it passes. One a response attempt; never raises on what an upstream sends."""

    @property
    def usage(self) -> Usage | None:
        """As the provider reported, None until (or unless) it does. A later report replaces an earlier one."""

    @property
    def finish_reason(self) -> str | None: ...

    @property
    def model(self) -> str | None:
        """The model named in the answer."""

    @property
    def events(self) -> int:
        """Content events relayed so far (1 for a plain answer once its body began)."""

    def feed(self, piece: bytes) -> bytes | None:
        """Look at the next piece of the decoded body. None: pass it as it is; else pass these bytes instead."""

    def end(self) -> bytes:
        """The body ended or broke off: what was still held back and is to be passed on (mostly b"")."""

    def estimate(self) -> Usage:
        """Tokens of what was delivered, counted from the relayed events, where the provider reported none."""


class LargeCall(Protocol):
    """A call whose body is too large for memory: fed on its way to the file, then asked. `feed` never raises."""

    def feed(self, chunk: bytes) -> None: ...

    def call(self) -> Call:
        """The body is complete. Raises BadRequest."""

    def splices(self, call: Call, model: str) -> Sequence[tuple[int, int, bytes]]:
        """The edits of the body for a target, in ascending order: `body[start:end]` becomes these bytes."""


class PlainReader(Protocol):
    """Reads what nearly every call and answer of a dialect looks like, as its handler and meter would, at a fraction of
    their cost."""

    def plain_call(self, operation: Operation, body: bytes) -> Call | None:
        """`read_call` of an `application/json` body; None: it has to be read with care."""

    def plain_usage(self, operation: Operation, body: bytes) -> Figures | None:
        """What a whole `application/json` answer of status 200 reports; None: ask the meter."""


class DialectHandler(Protocol):
    dialect: Dialect

    def read_call(self, operation: Operation, content_type: bytes, body: bytes) -> Call:
        """Raises BadRequest naming the field and the remedy."""

    def large_call(self, operation: Operation, content_type: bytes) -> LargeCall:
        """What `read_call` and `rewrite` are for a body that is never held whole."""

    def rewrite(self, operation: Operation, call: Call, content_type: bytes, body: bytes, model: str) -> bytes:
        """The body for a target that knows the model as `model`: every other byte kept as the caller sent it, but for
        what metering asks (usage in the stream)."""

    def meter(self, operation: Operation, call: Call, status: int, content_type: bytes) -> Meter: ...

    def render_error(self, error: SluicegateError, request_id: str) -> bytes:
        """The JSON body of an error as this dialect's SDKs read it."""

    def render_stream_error(
        self, error: SluicegateError, request_id: str, content_type: bytes, meter: Meter | None
    ) -> bytes:
        """What tells a caller of an error after the answer began; b"" where the answer's form has no word for it.
        `meter` has read what was sent so far; None: it came compressed."""

    def render_listing(self, operation: Operation, names: Sequence[str], query: bytes = b"") -> bytes:
        """The model list, or the one model that the operation names, in this dialect's shape. `names` in order; `query`
        of the request: a dialect with pages reads its parameters there. Raises BadRequest."""

    def credential_headers(self, secret: str) -> Sequence[tuple[bytes, bytes]]:
        """The headers that carry our credential to the provider."""
