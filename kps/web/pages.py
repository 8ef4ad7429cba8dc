"""The web files that a server serves: the console page, and the JavaScript client."""

import hashlib
from os.path import splitext
from pkgutil import get_data  # which also reads Zip archives, and is light

from kps.protocol.dialect.address import DEFAULT_PATH
from kps.protocol.wire.http import HttpResponse

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_CLIENTS = ("kps.js", "client.js")  # for ES modules, and for all else
_PAGE = "console.html"
_PARTS = (
    *("charts", "client", "details", "events", "figures", "latest", "link", "list", "lists"),
    *("look", "publish", "table", "theme", "tips", "topic", "view", "watch"),
)
FILES = (
    *_CLIENTS,
    _PAGE,
    "console.css",
    "console.js",
    *(f"console-{part}.js" for part in _PARTS),
)
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
    """Return the answers by path. ``path`` is that of the WebSocket, which goes into the page.

    A path that does not begin with ``/`` is relative to the page.
    """
    found: dict[str, HttpResponse] = {}
    for name in FILES if console else _CLIENTS:
        body = get_data("kps.web", name)
        assert body is not None
        content_type = _TYPES[splitext(name)[1]]
        if name == _PAGE and path != DEFAULT_PATH:
            body = _with_path(body, path)
        headers = (
            ("etag", f'"{hashlib.sha256(body).hexdigest()[:32]}"'),
            ("cache-control", "no-cache"),  # browsers then ask whether the file has changed
            *_SECURITY,
            *(_FOR_ALL if name in _CLIENTS else ()),
        )
        found["/" if name == _PAGE else f"/{name}"] = HttpResponse(200, body, content_type, headers)
    return found


def _with_path(page: bytes, path: str) -> bytes:
    """Put the path of the WebSocket into the page, in place of the default."""
    import html

    written = f'content="{html.escape(path)}"'
    return page.replace(f'content="{DEFAULT_PATH}"'.encode(), written.encode())
