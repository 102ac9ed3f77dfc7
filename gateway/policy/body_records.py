"""Files of recorded bodies: what a worker appends and a reader finds, byte for byte. Pure: bytes in, values out.

A file begins with MAGIC and the public half of a key pair that its writer made for this file alone. Its AES-256-GCM key
comes of that pair and the installation's own (X25519, RFC 7748; HKDF-SHA256, RFC 5869), so that the writer, who has
nothing but the installation's public half, cannot read what it or anybody wrote before.

A record is a head in clear (mark, length, state, request id) and, sealed, the deflated JSON of what was recorded. A
record that its file ends within was being written when the writer died: readers pass over it.
"""

import re
import struct
import zlib
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC: Final = b"sluicegate bodies 1\n"
KEY_BYTES: Final = 32
FILE_HEAD_BYTES: Final = len(MAGIC) + KEY_BYTES
ID_BYTES: Final = 26
"""Of a request's id (`plane.RequestIds`)."""
MARK: Final = b"\xf0BDY"
HEAD: Final = struct.Struct(f"!4sIc{ID_BYTES}s")
"""Mark, bytes of the whole record, state, request id."""
KEPT: Final = b"K"
ERASED: Final = b"E"
"""Its bodies were removed before their time: nothing but the head is left."""
STATE_AT: Final = 8
"""Where the state stands in a record."""
COMPRESSION: Final = 1
NAME: Final = re.compile(r"([0-9a-f]{7})-([0-9a-f]{12})\.bodies")
"""Of a file: its writer's part of request ids, and when it was begun (Unix milliseconds)."""
FOLDER: Final = re.compile(r"(\d+)-until-(\d{4}-\d\d-\d\d)")
"""Of the folder of one route within one day: the route's id, and the last day on which its files stay."""


class NotOurs(ValueError):
    """The bytes are no file or record of bodies, or were sealed to another key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One body as it was recorded."""

    text: str | None = None
    """Redacted; None = not kept, and `why_not` says why."""
    why_not: str | None = None
    """`off`, `empty`, `binary`, `encoded` (a coding that is not understood), `tunnel` or `busy` (no memory was left
    for it)."""
    content_type: str = ""
    size: int = 0
    """Bytes that passed, as they passed (compressed where it was)."""
    cut: bool = False
    """There was more than `max_bytes`, or the body broke off while it was read."""
    redacted: dict[str, int] = field(default_factory=dict)
    """How often what was replaced."""
    stream: bool = False
    """A sequence of events, as server-sent events or lines of JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """What is recorded of one request."""

    id: str
    route: str
    visible_to_team: bool
    recorded_at_ms: int
    request: Body
    response: Body


@dataclass(frozen=True, slots=True)
class RecordHead:
    """What of a record stands in clear. `length`: of the whole record."""

    length: int
    state: bytes
    id: bytes


def day_of(request_id: str) -> date:
    """The day (UTC) in which a request began: its id tells. Raises ValueError."""
    return datetime.fromtimestamp(int(request_id[:12], 16) / 1000, UTC).date()


def writer_of(request_id: str) -> str:
    """The part of the id that all requests of one worker's life share."""
    return request_id[12:19]


def file_name(writer: str, begun_ms: int) -> str:
    return f"{writer}-{begun_ms:012x}.bodies"


def folder_name(route_id: int, until: date) -> str:
    return f"{route_id}-until-{until.isoformat()}"


class BodyWriter:
    """Seals records of one new file to the installation's public key."""

    __slots__ = ("_aead", "head")

    def __init__(self, public: bytes) -> None:
        own = X25519PrivateKey.generate()
        ours = own.public_key().public_bytes_raw()
        self.head = MAGIC + ours
        self._aead = _aead(own.exchange(X25519PublicKey.from_public_bytes(public)), ours, public)

    def record(self, bodies: Bodies, offset: int) -> bytes:
        """What is appended at `offset`, where nothing was ever written before: it is the nonce."""
        plain = zlib.compress(orjson.dumps(asdict(bodies)), COMPRESSION)
        length = HEAD.size + len(plain) + 16
        head = HEAD.pack(MARK, length, KEPT, bodies.id.encode())
        return head + self._aead.encrypt(_nonce(offset), plain, _bound(head))


class Opener:
    """Opens records of one file by the installation's private key."""

    __slots__ = ("_aead",)

    def __init__(self, private: bytes, file_head: bytes) -> None:
        """Raises NotOurs."""
        if len(file_head) != FILE_HEAD_BYTES or not file_head.startswith(MAGIC):
            raise NotOurs("not a file of bodies")
        own = X25519PrivateKey.from_private_bytes(private)
        theirs = file_head[len(MAGIC) :]
        shared = own.exchange(X25519PublicKey.from_public_bytes(theirs))
        self._aead = _aead(shared, theirs, own.public_key().public_bytes_raw())

    def open(self, record: bytes, offset: int) -> Bodies:
        """`offset`: where the record begins in the file. Raises NotOurs."""
        head = record[: HEAD.size]
        try:
            plain = self._aead.decrypt(_nonce(offset), record[HEAD.size :], _bound(head))
        except InvalidTag:
            raise NotOurs("sealed to another key, or altered") from None
        return bodies_of(orjson.loads(zlib.decompress(plain)))


def bodies_of(named: dict[str, Any]) -> Bodies:
    """What `orjson.dumps(asdict(bodies))` became."""
    return Bodies(**{**named, "request": Body(**named["request"]), "response": Body(**named["response"])})


def head_of(head: bytes, left_bytes: int) -> RecordHead | None:
    """The head of a record that is whole in what is left of its file; None: there is none."""
    if len(head) < HEAD.size:
        return None
    mark, length, state, request_id = HEAD.unpack(head[: HEAD.size])
    if mark != MARK or not HEAD.size <= length <= left_bytes or state not in (KEPT, ERASED):
        return None
    return RecordHead(length, state, request_id)


def _nonce(offset: int) -> bytes:
    return offset.to_bytes(12, "big")


def _bound(head: bytes) -> bytes:
    """What a record's seal vouches for beside its bodies: all of its head but the state, which may change."""
    return head[:STATE_AT] + head[STATE_AT + 1 :]


def _aead(shared: bytes, writer: bytes, reader: bytes) -> AESGCM:
    key = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=MAGIC + writer + reader).derive(shared)
    return AESGCM(key)
