"""One trust store for all HTTP clients of a pytest process.

Each client that is made (and each `httpx2.get`) parses the bundle of certificate authorities anew: 30 to 70 ms of CPU
time, in most tests more than all that they are about. What a test trusts by itself, it reads by itself.
"""

import functools
import os
import ssl
from typing import Any

import certifi
import httpcore2


def share() -> None:
    """From here on the machine's authorities are read once (by httpx2, httpx, SDKs); everything else is as it was."""
    bundles = {certifi.where(), os.environ.get("SSL_CERT_FILE", certifi.where())}
    make = ssl.create_default_context
    make_once = functools.cache(make)

    def create_default_context(*arguments: Any, **options: Any) -> ssl.SSLContext:
        known = not arguments and options.keys() <= {"cafile", "capath"} and options.get("cafile") in bundles
        return (make_once if known else make)(*arguments, **options)

    ssl.create_default_context = create_default_context
    httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)
