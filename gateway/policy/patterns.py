"""Regular expressions of operators: RE2's, whose time is linear in the text, so that none can hold up a worker."""

from typing import Any, Final

import re2

MOST_PROGRAM_BYTES: Final = 1 << 20
"""What one compiled pattern may take; larger ones are refused."""


class PatternError(ValueError):
    """The text is no pattern that RE2 takes; its message says what is wrong with it."""


def compiled(pattern: str) -> Any:
    """The pattern, for UTF-8 bytes. Raises PatternError."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MOST_PROGRAM_BYTES
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        raise PatternError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from None
