"""Documents of what HTTP itself carries: header rules of routes, cross-origin rules and destinations of apps."""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from gateway.policy.egress import parse_destination
from gateway.policy.header_rules import FORBIDDEN
from gateway.store.document import Document
from gateway.store.fields import refused

LONGEST_VALUE: Final = 4096
MOST_RULES: Final = 64
MOST_ENTRIES: Final = 256
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _token(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise refused(f"{value!r} is not a header name", "use letters, digits and hyphens")
    return value.lower()


def _ruled_name(value: str) -> str:
    name = _token(value)
    if name in FORBIDDEN:
        remedy = "use `preserve_host`" if name == "host" else "remove it"
        raise refused(f"{name!r} belongs to one connection or to the gateway: no rule can change it", remedy)
    return name


def _set_name(value: str) -> str:
    name = _ruled_name(value)
    if name == "authorization":
        raise refused("a secret in a header rule would be shown to everyone who may see routes",
                      "put it into the provider's `credentials`")  # fmt: skip
    return name


def _value(value: str) -> str:
    if len(value) > LONGEST_VALUE:
        raise refused(f"has {len(value)} characters", f"use at most {LONGEST_VALUE}")
    if any(sign != "\t" and not 0x20 <= ord(sign) <= 0x7E for sign in value):
        raise refused("has a character that no header value may have", "use visible ASCII on one line")
    if value != value.strip():
        raise refused("begins or ends with a space", "remove the space")
    return value


def _origin(value: str) -> str:
    if value in ("*", "null"):
        return value
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or "@" in value:
        raise refused(f"{value!r} is not an origin", "write scheme and host as the browser does: https://app.example")
    shown = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, default) else "")


def _method(value: str) -> str:
    if value != "*" and not re.fullmatch(r"[A-Z][A-Z-]{0,31}", value):
        raise refused(f"{value!r} is not a method", "write it in capitals, e.g. POST, or * for all")
    return value


def _star_or_token(value: str) -> str:
    return value if value == "*" else _token(value)


def _destination(value: str) -> str:
    try:
        parse_destination(value)
    except ValueError as error:
        raise refused(str(error), "write e.g. api.example.com, *.example.com:443, 10.0.0.0/8 or *") from None
    return value.strip().lower()


HeaderName = Annotated[str, AfterValidator(_token)]
RuledName = Annotated[str, AfterValidator(_ruled_name)]
SetName = Annotated[str, AfterValidator(_set_name)]
HeaderValue = Annotated[str, AfterValidator(_value)]
Origin = Annotated[str, AfterValidator(_origin)]
Method = Annotated[str, AfterValidator(_method)]
AllowedHeader = Annotated[str, AfterValidator(_star_or_token)]
EgressEntry = Annotated[str, AfterValidator(_destination)]


class HeaderRulesDocument(Document):
    """One direction's rules: `remove` first, then `set` in place of what is there, then `add` beside it."""

    set: dict[SetName, HeaderValue] = Field(default_factory=dict, max_length=MOST_RULES)
    add: dict[SetName, HeaderValue] = Field(default_factory=dict, max_length=MOST_RULES)
    remove: list[RuledName] = Field(default_factory=list, max_length=MOST_RULES)


class CorsDocument(Document):
    """From which web pages an app's key may be used (WHATWG Fetch)."""

    origins: list[Origin] = Field(min_length=1, max_length=MOST_ENTRIES)
    """As browsers write them, `https://app.example`; `*` for all."""
    methods: list[Method] = Field(default_factory=lambda: list(_METHODS), max_length=64)
    headers: list[AllowedHeader] = Field(default_factory=lambda: ["*"], max_length=MOST_ENTRIES)
    """Request headers that pages may send; `*` for all."""
    expose: list[HeaderName] = Field(default_factory=list, max_length=MOST_ENTRIES)
    """Answer headers that pages may read, beside the gateway's own."""
    credentials: bool = False
    """Cookies and browser-kept passwords may come along; API keys need this not."""
    max_age: int = Field(default=600, ge=0, le=86_400)
    """Seconds that a browser may remember the permission."""

    @model_validator(mode="after")
    def _not_everyone_with_credentials(self) -> "CorsDocument":
        if self.credentials and "*" in self.origins:
            raise refused(
                "with `credentials` every page on the web could act as your users", "name the origins", "origins"
            )
        return self
