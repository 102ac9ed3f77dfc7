"""Types of single fields in `documents`: names, durations, URLs, secrets. Each refusal carries its remedy."""

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

NAME_LENGTH: Final = 128
GREATEST_AMOUNT: Final = 10**15
"""Of a limit or a price, in the metric's integer unit: a thousand million USD, and exact in every JSON reader."""
LONGEST_DURATION_S: Final = 86_400.0

LONGEST_OVERLAP_S: Final = 90 * 86_400.0

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")


def refused(problem: str, remedy: str, field: str = "") -> PydanticCustomError:
    """An error that `problems.from_validation` reads back. `field`: which field of the model it is about."""
    return PydanticCustomError("refused", "{problem}", {"problem": problem, "remedy": remedy, "field": field})


def _text(value: str, longest: int) -> str:
    if not value or len(value) > longest:
        raise refused(f"has {len(value)} characters", f"use 1 to {longest} characters")
    if _CONTROL.search(value):
        raise refused("has a control character", "use visible characters only")
    if value != value.strip():
        raise refused("begins or ends with a space", "remove the space")
    return value


def text_of_one_line(longest: int) -> Callable[[str], str]:
    """A check for words that people read: 1 to `longest` characters, none of them a control character."""
    return lambda value: _text(value.strip(), longest)


def text_of_lines(longest: int) -> Callable[[str], str]:
    """The same of several lines."""

    def check(value: str) -> str:
        text = value.replace("\r\n", "\n").strip()
        _text(text.replace("\n", " ").replace("\t", " ").strip(), longest)
        return text

    return check


def web_address(value: str) -> str:
    """A URL that a browser may open: http or https, with a host."""
    try:
        parts = urlsplit(_text(value, 2048))
        host = parts.hostname
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https") or " " in value:
        raise refused("is not an http or https URL", "write e.g. https://wiki.example.com/chat")
    if parts.username is not None or parts.password is not None:
        raise refused("holds a user name or password", "leave it out")
    return value


def _name(value: str) -> str:
    _text(value, NAME_LENGTH)
    if value.isdecimal():
        raise refused("has digits only and would be taken for an id", "add a letter")
    if value == "*":
        raise refused("is the sign for all", "use another name")
    return value


def _user(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and (_text(value, 255) != value or any(sign in value for sign in ":/, ")):
        raise refused("is no name or number of a user", "write it as in /etc/passwd, e.g. indexer or 1001")
    return value


def _part(value: str) -> str:
    if "/" in value:
        raise refused("has a slash, which separates names in scopes", "use another sign, e.g. a hyphen")
    return value


def _model(value: str) -> str:
    return _text(value, 255)


def _duration(value: Any) -> float:
    seconds = _seconds(value)
    if not 0 < seconds <= LONGEST_DURATION_S:
        raise refused(f"{value!r} is not a duration above 0 and up to 24h", "write e.g. 500ms, 2s, 10m or 1h")
    return seconds


def _overlap(value: Any) -> float:
    seconds = _seconds(value)
    if not 1 <= seconds <= LONGEST_OVERLAP_S:
        raise refused(f"{value!r} is not a duration of 1s to 90d", "write e.g. 1h, 24h or 7d")
    return seconds


def _seconds(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        return float(found[1]) * _SECONDS[found[2]]
    return -1.0


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(_text(value, 2048))
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise refused("is not a URL", "write e.g. https://api.openai.com/v1") from None
    if parts.scheme not in ("http", "https") or not host or not value.isascii() or " " in value:
        raise refused("is not an http or https URL", "write e.g. https://api.openai.com/v1")
    if parts.username is not None or parts.password is not None:
        raise refused("holds a user name or password", "put the secret into `credentials`")
    if parts.query or parts.fragment or value.endswith(("?", "#")):
        raise refused("has a query or fragment", "end it with the path")
    return value


def _host(value: str) -> str:
    host = value.lower().removesuffix(".")
    if host.startswith("[") and host.endswith("]"):
        return host
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise refused(f"{value!r} is not a host name", "write the name alone, without scheme, port or path")
    return host


def _path_prefix(value: str) -> str:
    _text(value, 1024)
    if not value.startswith("/") or "?" in value or "#" in value:
        raise refused(f"{value!r} is not a path", "begin it with / and leave out query and fragment")
    return value


def _cidr(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as problem:
        raise refused(str(problem), "write e.g. 10.9.0.0/16 or 2001:db8::/32") from None


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        raise refused("is empty", "give the secret, e.g. ${OPENAI_API_KEY}")
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > 8192:
        raise refused("cannot be sent in an HTTP header", "use up to 8192 visible ASCII characters without spaces")
    return value


def _key_value(value: SecretStr) -> SecretStr:
    text = _secret(value).get_secret_value()
    if text.startswith("sha256:"):
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
            raise refused("is not a SHA-256", "write sha256: and 64 lower-case hex digits")
    elif len(text) < 8:
        raise refused("is too short for a key", "use 8 characters or more, or leave `value` out to have one made")
    return value


def _amount(value: Any) -> Decimal:
    """Floats go by their shortest text, so that 0.1 is a tenth."""
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            amount = Decimal("NaN")
        if amount.is_finite():
            return amount
    raise refused(f"{value!r} is not a number", "write e.g. 50 or 0.25")


_DURATION_SCHEMA: Final = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_DURATION_S},
        {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$"},
    ],
    "examples": ["500ms", "2s", "10m"],
}
_OVERLAP_SCHEMA: Final = {
    "anyOf": [
        {"type": "number", "minimum": 1, "maximum": LONGEST_OVERLAP_S},
        {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$"},
    ],
    "examples": ["1h", "24h", "7d"],
}
_NAME_SCHEMA: Final = {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH}
_AMOUNT_SCHEMA: Final = {"type": "number", "exclusiveMinimum": 0, "examples": [50, 0.25]}

Name = Annotated[str, AfterValidator(_name), WithJsonSchema(_NAME_SCHEMA)]
PartName = Annotated[Name, AfterValidator(_part), WithJsonSchema(_NAME_SCHEMA)]
"""A name that a scope may put beside another with a slash between."""
ModelName = Annotated[str, AfterValidator(_model)]
User = Annotated[str, BeforeValidator(_user)]
"""A user of the host: name or number."""
Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
"""Seconds."""
Overlap = Annotated[float, BeforeValidator(_overlap), WithJsonSchema(_OVERLAP_SCHEMA)]
"""Seconds."""
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Host = Annotated[str, AfterValidator(_host)]
PathPrefix = Annotated[str, AfterValidator(_path_prefix)]
Cidr = Annotated[str, AfterValidator(_cidr)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
KeyValue = Annotated[SecretStr, AfterValidator(_key_value)]
Amount = Annotated[Decimal, BeforeValidator(_amount), WithJsonSchema(_AMOUNT_SCHEMA)]
