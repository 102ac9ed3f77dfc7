"""How many input tokens a request can be at most, and how many it probably is, from its decoded body.

No tokeniser makes more than one token of one byte of text, so the bytes of all text bound the tokens of it; chat
templates add a few tokens around each message. Media in base64 are read by no tokeniser: an image is charged by its
size in pixels, which its bytes bound only roughly, so each counts its bytes but at most `MEDIA_TOKENS`.
"""

import re
from typing import Any, Final

import orjson

MEDIA_TOKENS: Final = 50_000
"""More than any provider charges for one image (OpenAI's dearest: 36,835)."""
MESSAGE_TOKENS: Final = 12
"""What a chat template puts around one message, and once around the whole."""
BYTES_PER_TOKEN: Final = 4

_MEDIA_NAMES: Final = frozenset(
    {b"data", b"file_data", b"url", b"image_url", b"image", b"b64_json", b"audio", b"video_url", b"images"}
)
_DATA_URL: Final = re.compile(rb"data:[a-zA-Z0-9.+/;=_-]{0,120};base64,")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_=\r\n\\-]*+")


def is_media(name: bytes, head: bytes) -> bool:
    """Whether a long string named `name` with these first bytes is an encoded file rather than text."""
    if name not in _MEDIA_NAMES:
        return False
    url = _DATA_URL.match(head)
    encoded = _BASE64.match(head, url.end() if url else 0)
    return encoded is not None and encoded.end() == len(head)


def text_bytes(value: str) -> int:
    return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))


def content_bytes(value: Any, name: str = "") -> int:
    """Bytes of all that a provider could show its model of a value: strings, numbers and member names. `name`: of the
    member whose value it is; files are told by it."""
    if isinstance(value, str):
        return text_bytes(value)
    total = 0
    waiting: list[tuple[str, Any]] = [(name, value)]
    while waiting:  # no recursion: bodies may be nested as deep as the decoder allows
        name, part = waiting.pop()
        if isinstance(part, str):
            size = len(part) if part.isascii() else text_bytes(part)
            if size > MEDIA_TOKENS and is_media(name.encode(errors="replace"), part[:512].encode(errors="replace")):
                size = MEDIA_TOKENS
            total += size
        elif isinstance(part, dict):
            for key, member in part.items():
                total += text_bytes(key)
                waiting.append((key, member))
        elif isinstance(part, list):
            waiting += [(name, item) for item in part]
        elif part is not None:
            total += len(str(part))
    return total


def messages_bound(messages: Any) -> int:
    """A list of chat messages: each one's content and a template's tokens around it."""
    if not isinstance(messages, list):
        return content_bytes(messages) + MESSAGE_TOKENS
    total = MESSAGE_TOKENS * (len(messages) + 1)
    for message in messages:
        if isinstance(message, dict):
            for name, value in message.items():
                total += text_bytes(value) if isinstance(value, str) else content_bytes(value, name)
        else:
            total += content_bytes(message)
    return total


def schema_bytes(value: Any) -> int:
    """Tools, functions, response formats: the model sees their JSON, or something shorter made of it."""
    if value is None:
        return 0
    try:
        return len(orjson.dumps(value))
    except (TypeError, ValueError):  # lone surrogates
        return content_bytes(value) * 2


def token_input_bound(value: Any) -> int:
    """`input` of embeddings, `prompt` of completions: text, texts, token ids, or lists of token ids."""
    if isinstance(value, list):
        total = 0
        for item in value:
            if isinstance(item, str):
                total += text_bytes(item) + 2
            elif isinstance(item, list):
                total += len(item) + 2
            elif isinstance(item, int):
                total += 1
            else:
                total += content_bytes(item) + MESSAGE_TOKENS
        return total + 2
    return content_bytes(value) + 2


def estimate_of(bound: int) -> int:
    """The probable input of a request whose text is `bound` bytes long."""
    return -(-bound // BYTES_PER_TOKEN)
