"""The web files that a server serves: the console page, and the JavaScript client."""

import hashlib
import html
from importlib.resources import files
from pathlib import PurePath

from kps.protocol.wire.http import HttpResponse

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_CLIENT = "kps.js"
_PAGE = "console.html"
_SECURITY = (
    (
        "content-security-policy",
        "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)
# Pages of other origins may load the client; the origin check decides whether they may connect.
_FOR_ALL = (("access-control-allow-origin", "*"),)


def pages(path: str, *, console: bool) -> dict[str, HttpResponse]:
    """Return the answers by path. ``path`` is that of the WebSocket, which goes into the page."""
    found: dict[str, HttpResponse] = {}
    for file in files("kps.web").iterdir():  # which may be in a Zip archive
        name = file.name
        content_type = _TYPES.get(PurePath(name).suffix)
        if content_type is None or not (console or name == _CLIENT):
            continue
        body = file.read_bytes()
        if name == _PAGE:
            body = body.replace(b'content="/ws/bus"', f'content="{html.escape(path)}"'.encode())
        headers = (
            ("etag", f'"{hashlib.sha256(body).hexdigest()[:32]}"'),
            ("cache-control", "no-cache"),  # browsers then ask whether the file has changed
            *_SECURITY,
            *(_FOR_ALL if name == _CLIENT else ()),
        )
        found["/" if name == _PAGE else f"/{name}"] = HttpResponse(200, body, content_type, headers)
    return found
