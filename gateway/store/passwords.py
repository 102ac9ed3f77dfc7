"""Passwords and random secrets: argon2id hashes, and the texts of tokens, sessions and generated passwords."""

import hashlib
import secrets
import string
import threading
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.errors import Invalid

_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
"""RFC 9106's second recommended profile, on one lane: a sign-in costs a core some 100 ms and 64 MiB."""
_ONE_AT_A_TIME: Final = threading.BoundedSemaphore(2)
"""However many sign in at once, hashing takes two cores and 128 MiB of a worker at most."""
_NOBODYS_HASH: Final = (
    "$argon2id$v=19$m=65536,t=3,p=1$c2x1aWNlZ2F0ZS1ub2JvZHk$JkTDYQqKbqqTDlOcN2cZf7LmYm2bW9LJ6ksk4UVvGDA"
)
"""Same cost as a real one: verified for unknown names, so that time does not tell them from wrong passwords."""

ALPHABET: Final = string.ascii_letters + string.digits
SHORTEST_PASSWORD: Final = 8
LONGEST_PASSWORD: Final = 512


def require_good_password(password: str, name: str) -> None:
    """Length and not the name itself (NIST SP 800-63B 5.1.1.2 asks for no more). Raises Invalid."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise Invalid(
            f"the password has {len(password)} characters",
            fix=f"use {SHORTEST_PASSWORD} to {LONGEST_PASSWORD}, e.g. four unrelated words",
        )
    if password.lower() == name.lower():
        raise Invalid("the password is the user's name", fix="use another one, e.g. four unrelated words")


def hash_password(password: str) -> str:
    with _ONE_AT_A_TIME:
        return _HASHER.hash(password)


def password_matches(password_hash: str | None, password: str) -> bool:
    """Takes the same time whether there is a hash (None: no such account, or none that signs in by password)."""
    with _ONE_AT_A_TIME:
        try:
            _HASHER.verify(password_hash or _NOBODYS_HASH, password)
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made at another cost than today's."""
    return _HASHER.check_needs_rehash(password_hash)


def random_text(length: int) -> str:
    """Letters and digits, 5.95 bits each: safe in URLs, shells and double-clicks."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def digest(secret: str) -> bytes:
    """What is kept of a token or a session. They are random, so one SHA-256 is enough (passwords are not)."""
    return hashlib.sha256(secret.encode()).digest()
