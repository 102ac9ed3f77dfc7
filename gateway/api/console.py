"""The console's files (`gateway/console/`, built from `web/`), served with a strict policy and long caching.

Files are read and compressed once, in a thread, and then held in memory: compressing on the event loop would delay
the data plane, which shares it. Unknown paths below `/console/` are the client's own routes and answer `index.html`.
"""

import gzip
import hashlib
import mimetypes
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

import gateway
from gateway.api.caller import session_cookie

BUILT: Final = Path(gateway.__file__).parent / "console"

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""No third party, no inline script. Style attributes (positions of charts and pop-ups) are allowed, style elements
are not."""
HASHED: Final = re.compile(r"[-.][A-Za-z0-9_-]{8,}\.[a-z0-9]+$")
"""File names that carry their content's hash, as the bundler makes them below `assets/`."""
FOR_EVER: Final = "public, max-age=31536000, immutable"
COMPRESSIBLE: Final = ("text/", "application/javascript", "application/json", "image/svg+xml", "application/manifest")
SMALLEST_COMPRESSED: Final = 1024

NOT_BUILT: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sluicegate</title>
<h1>The console is not built</h1>
<p>The gateway runs; its REST API is documented at <a href="/api/docs">/api/docs</a>.</p>
<p>To build the console in a checkout (Node 22.19 or newer):</p>
<pre>cd web &amp;&amp; npm ci &amp;&amp; npm run build</pre>
<p>A released wheel, and <code>./install.sh</code>, bring it built.</p></html>
"""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file ready to send. `compressed` is None where it would not be smaller."""

    content: bytes
    compressed: bytes | None
    media_type: str
    etag: str
    immutable: bool


class AssetShelf:
    """The built files by their path below `/console/`; read again when a file has changed (a new build)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._assets: dict[str, tuple[tuple[int, int], Asset]] = {}
        self._lock = threading.Lock()

    def find(self, path: str) -> Asset | None:
        """None: no such file. Never leaves the folder, whatever the path says."""
        file = (self._folder / path).resolve()
        if not file.is_relative_to(self._folder.resolve()) or not file.is_file():
            return None
        state = file.stat()
        version = (state.st_mtime_ns, state.st_size)
        with self._lock:
            held = self._assets.get(path)
            if held is None or held[0] != version:
                held = (version, load_asset(file))
                self._assets[path] = held
        return held[1]


def load_asset(file: Path) -> Asset:
    """Read, hash and compress one file."""
    content = file.read_bytes()
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if media_type == "text/javascript" or file.suffix == ".js":
        media_type = "text/javascript; charset=utf-8"
    elif media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    compressed = None
    if len(content) >= SMALLEST_COMPRESSED and media_type.startswith(COMPRESSIBLE):
        packed = gzip.compress(content, compresslevel=9, mtime=0)
        compressed = packed if len(packed) < len(content) else None
    return Asset(
        content=content,
        compressed=compressed,
        media_type=media_type,
        etag=f'"{hashlib.sha256(content).hexdigest()[:24]}"',
        immutable=file.parent.name == "assets" and HASHED.search(file.name) is not None,
    )


shelf: Final = AssetShelf(BUILT)


@router.get("/")
async def root() -> Response:
    return RedirectResponse("/console/", status_code=307)


@router.get("/console")
async def console_without_slash() -> Response:
    return RedirectResponse("/console/", status_code=307)


@router.api_route("/console/{path:path}", methods=["GET", "HEAD"])
def console(path: str, request: Request) -> Response:
    """A file, or `index.html` for the client's own routes. A missing asset is a 404, never a page in its place."""
    asset = shelf.find(path) if path else None
    if asset is None and not path.startswith("assets/"):
        asset = shelf.find("index.html")
        if asset is None:
            return HTMLResponse(NOT_BUILT, status_code=503, headers={"cache-control": "no-store"})
    if asset is None:
        return Response("no such file", status_code=404, media_type="text/plain")
    headers = {
        "etag": asset.etag,
        "vary": "accept-encoding",
        "cache-control": FOR_EVER if asset.immutable else "no-cache",
        "content-security-policy": CONTENT_POLICY,
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
    }
    if asset.media_type.startswith("text/html"):
        # What a page cannot see of an HttpOnly cookie: without one it asks for no session, which could only fail.
        known = "maybe" if session_cookie(request)[0] else "none"
        headers["server-timing"] = f'session;desc="{known}"'
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    content = asset.content
    if asset.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        content = asset.compressed
        headers["content-encoding"] = "gzip"
    return Response(content, media_type=asset.media_type, headers=headers)
