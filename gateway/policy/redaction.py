"""What is taken out of a body before it is written anywhere: keys, e-mail addresses, card and phone numbers, and what
the route's own patterns say.

Found in the texts as their reader sees them (`wire.body_texts`): through JSON's and forms' escapes, and across the
events of a stream. What was found is replaced by a word in brackets. Where a text and its neighbours could be read in
two ways, both are looked at: too much may go, too little must not. All patterns are RE2's: linear in the text.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from gateway.policy.patterns import compiled
from gateway.wire.body_texts import Channel, Kind, Text, texts_of

_SHORTEST: Final = 6
"""`a@b.co`: no shorter text is anything that is looked for, but for patterns of the route's own."""
_SHORTEST_SECRET: Final = 8

_CALLED: Final = (
    r"""(?i:\b(?:api[-_ ]?key|client[-_]?secret|secret[-_]?key|(?:access|refresh)[-_]?token|passw(?:or)?d)\\?["']?\s*"""
)
_TOLD: Final = r"""(?:[:=]|=>)\s*\\?["']?)([^\s"'\\,;}]{6,})"""
_KEY_PATTERNS: Final = (
    # Beginnings that vendors give to theirs, ours among them.
    r"\b(?:sk|pk|rk|sg|slg|sluice)[-_][A-Za-z0-9_-]{16,}",
    r"\b(?:gsk|hf|r8|xai|pplx|nvapi|fw|npm|dop_v1|glpat|glrt|lin_api|shpat|tvly|jina|voyage|pa)[-_][A-Za-z0-9_-]{16,}",
    r"\b(?:gh[opsur]|github_pat)_[A-Za-z0-9_]{16,}",
    r"\bxox[a-z]-[A-Za-z0-9-]{10,}",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\bya29\.[A-Za-z0-9_-]{20,}",
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
    r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"\bpypi-[A-Za-z0-9_-]{40,}",
    # JSON Web Tokens (RFC 7519), private keys in PEM (RFC 7468), credentials of HTTP (RFC 9110 11.4).
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
    r"(?i:\b(?:bearer|basic)\s+)([A-Za-z0-9._~+/=-]{16,})",
    # What somebody calls so.
    _CALLED + _TOLD,
)
_EMAIL: Final = r"[\pL\pN._%+'-]+(?:@|%40|\\u0040)(?:[\pL\pN][\pL\pN-]*\.)+\pL\pL+"  # letters of any script (RFC 6531)
_PHONE: Final = (
    r"(?:\+|\b00)[1-9]\d{0,2}(?:[ .\-/]?\(?\d{1,5}\)?){2,6}"  # E.164: at most 15 digits behind a plus
    r"|(?:\(\d{3}\) ?|\b\d{3}[ .\-])\d{3}[ .\-]\d{4}\b"
)
_DIGITS: Final = r"\d(?:[ -]?\d){12,40}"
_FEWEST_PHONE_DIGITS: Final = 8
_MOST_PHONE_DIGITS: Final = 15
_GROUP: Final = re.compile(rb"\d+")
_SOME_DIGITS: Final = re.compile(rb"\d.*\d", re.DOTALL)

Hit: TypeAlias = tuple[int, int, str]
"""Start, end, what it is."""


@dataclass(slots=True)
class Redacted:
    """`text`: valid UTF-8, and nothing of what was found in it. `counts`: by what it was."""

    text: str
    cut: bool
    counts: dict[str, int] = field(default_factory=dict)


class Redactor:
    """Of one route: to be made once a snapshot, in the thread that uses it."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._keys, self._email = compiled("|".join(_KEY_PATTERNS)), compiled(_EMAIL)
        self._digits, self._phone = compiled(_DIGITS), compiled(_PHONE)
        self._own = [compiled(pattern) for pattern in patterns]

    def redact(self, body: bytes, kind: Kind, most_bytes: int, secrets: Iterable[bytes] = ()) -> Redacted:
        """`body`: all that there is, or `most_bytes` and MARGIN_BYTES of it; no more than `most_bytes` of it are told.
        `secrets`: texts that are nobody's business, whatever they look like."""
        known = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
        edits: list[Hit] = []
        channels: dict[Channel, list[Text]] = defaultdict(list)
        places: dict[Channel, list[Text]] = defaultdict(list)
        clean: set[bytes] = set()
        for text in texts_of(body, kind):
            for channel in text.channels:
                channels[channel].append(text)
            if text.place is not None:
                places[text.place].append(text)
            if text.decoded in clean:
                continue  # events of a stream repeat most of what they say
            hits = self._hits(text.decoded, known)
            if not hits:
                clean.add(text.decoded)
            quoted = kind is Kind.JSON and not text.in_string
            for start, end, what in hits:
                edits.append((text.at(start), text.at(end), f'"[{what}]"' if quoted else f"[{what}]"))
        alone = {pieces[0].start for pieces in channels.values() if len(pieces) == 1}
        by_place = [pieces for pieces in places.values() if any(piece.start in alone for piece in pieces)]
        looked_at: set[tuple[int, ...]] = set()
        for pieces in [*channels.values(), *by_place]:
            starts = tuple(piece.start for piece in pieces)
            if len(pieces) > 1 and starts not in looked_at:
                looked_at.add(starts)
                edits += self._across(pieces, known)
        told, counts = _edited(body, edits, most_bytes)
        # Once more, as it will stand in the file: whatever its writer meant, nothing that looks so stays.
        more = self._hits(told, known)
        if more:
            told, again = _edited(told, [(start, end, f"[{what}]") for start, end, what in more], len(told))
            counts += again
        return Redacted(told.decode("utf-8", "replace"), len(body) > most_bytes, dict(counts))

    def _across(self, pieces: Sequence[Text], known: Sequence[bytes]) -> Iterator[Hit]:
        """What stands in several pieces of one text: the word comes in the first place, the others are emptied."""
        joined = b"".join(piece.decoded for piece in pieces)
        starts = []
        size = 0
        for piece in pieces:
            starts.append(size)
            size += len(piece.decoded)
        at = 0
        for start, end, what in self._hits(joined, known):
            while at + 1 < len(starts) and starts[at + 1] <= start:
                at += 1
            word, each = f"[{what}]", at
            while each < len(pieces) and starts[each] < end:
                piece, begin = pieces[each], starts[each]
                inner = max(start - begin, 0), min(end - begin, len(piece.decoded))
                if inner[0] < inner[1]:
                    yield piece.at(inner[0]), piece.at(inner[1]), word
                    word = ""
                each += 1

    def _hits(self, text: bytes, known: Sequence[bytes]) -> list[Hit]:
        """Apart and in order."""
        found: list[Hit] = []
        for secret in known:
            at = text.find(secret)
            while at >= 0:
                found.append((at, at + len(secret), "key"))
                at = text.find(secret, at + len(secret))
        if len(text) >= _SHORTEST:
            found += [(*_told(each), "key") for each in self._keys.finditer(text)]
            if b"@" in text or b"40" in text:
                found += [(*each.span(), "email") for each in self._email.finditer(text)]
            if _SOME_DIGITS.search(text):
                for each in self._digits.finditer(text):
                    found += [(*span, "card") for span in _cards(text, *each.span())]
                for each in self._phone.finditer(text):
                    if _FEWEST_PHONE_DIGITS <= sum(map(len, _GROUP.findall(each[0]))) <= _MOST_PHONE_DIGITS:
                        found.append((*each.span(), "phone"))
        for pattern in self._own:
            found += [(*each.span(), "redacted") for each in pattern.finditer(text) if each.end() > each.start()]
        return _apart(found)


def _told(found: Any) -> tuple[int, int]:
    """The part that gives something away, where a pattern names what stands before it."""
    for group in range(1, len(found.groups()) + 1):
        start, end = found.span(group)
        if start >= 0:
            return start, end
    start, end = found.span()
    return start, end


def _cards(text: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Numbers of cards within a run of digits, alone or in groups: 13 to 19 digits whose last one checks the others
    (ISO/IEC 7812-1, Luhn)."""
    groups = [each.span() for each in _GROUP.finditer(text, start, end)]
    until = 0
    for first in range(len(groups)):
        if first < until:
            continue
        digits = b""
        best = None
        for last in range(first, len(groups)):
            digits += text[slice(*groups[last])]
            if len(digits) > 19:
                break
            if len(digits) >= 13 and digits[:1] in b"23456" and _checks(digits):
                best = last
        if best is not None:
            until = best + 1
            yield groups[first][0], groups[best][1]


def _checks(digits: bytes) -> bool:
    total = 0
    for place, code in enumerate(reversed(digits)):
        digit = code - 48
        if place % 2:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return total % 10 == 0


def _apart(found: list[Hit]) -> list[Hit]:
    """Without overlaps: what overlaps becomes one, called as its first that has a name."""
    merged: list[Hit] = []
    for start, end, what in sorted(found, key=lambda hit: hit[:2]):
        if merged and start < merged[-1][1]:
            first, until, name = merged[-1]
            merged[-1] = (first, max(until, end), name or what)
        else:
            merged.append((start, end, what))
    return merged


def _edited(body: bytes, edits: list[Hit], most_bytes: int) -> tuple[bytes, Counter[str]]:
    """The body with its edits, up to its byte `most_bytes`."""
    pieces: list[bytes] = []
    counts: Counter[str] = Counter()
    last = 0
    for start, end, word in _apart(edits):
        if start >= most_bytes:
            break
        pieces += (body[last:start], word.encode())
        if word:
            counts[word.strip('"[]')] += 1
        last = end
    if last < most_bytes:
        pieces.append(_whole_signs(body[last:most_bytes]))
    return b"".join(pieces), counts


def _whole_signs(text: bytes) -> bytes:
    """Without the beginning of a UTF-8 sign at its end."""
    for back in range(1, min(4, len(text)) + 1):
        code = text[-back]
        if code & 0xC0 == 0x80:
            continue
        wanted = 2 if code >> 5 == 6 else 3 if code >> 4 == 14 else 4 if code >> 3 == 30 else 1
        return text[:-back] if wanted > back else text
    return text
