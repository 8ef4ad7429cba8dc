"""What a server of ASGI tells of a connection, as the core's requests."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from kps.protocol.access.admission import host_of
from kps.protocol.access.identity import Identity
from kps.protocol.dialect.address import host_and_port
from kps.protocol.wire.http import HttpRequest

Scope = MutableMapping[str, Any]
"""What an application is told of a connection."""
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[object]]
"""An application of ASGI (version 3)."""

_SECURE = ("https", "wss")
_WRITTEN = bytes(range(ord("!"), ord("~") + 1)).decode()
"""The characters that a target has as they are."""
_TELL_OF_A_BODY = ("content-length", "transfer-encoding")


@dataclass(frozen=True, slots=True)
class ScopedRequest(HttpRequest):
    """A request with the scope that it came with."""

    scope: Scope = field(default_factory=dict, repr=False, compare=False)
    identity: Identity | None = None
    """Whose it is, if the program has found that out before it gave the request to the bus."""


def path_below(scope: Scope) -> str:
    """Return the path below the place where the application is mounted.

    Frameworks differ in whether the ``path`` still has the ``root_path`` in front. With ASGI it
    does; where it does not, it hardly ever begins like that.
    """
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :]
    return path


def with_slash(scope: Scope) -> str:
    """Return the target of a request with a slash behind its path; empty if it has one."""
    path, query = _raw_path(scope), _query(scope)
    if path.endswith("/"):
        return ""
    # Over HTTP/2 either may have any bytes in it.
    return quote((f"{path}/?{query}" if query else f"{path}/").encode("latin-1"), safe=_WRITTEN)


def upgrade_of(scope: Scope, identity: Identity | None = None) -> ScopedRequest:
    """Return the request for a WebSocket."""
    headers = _headers(scope)
    if not any(name == "upgrade" for name, _ in headers):  # as with HTTP/2
        headers += (("upgrade", "websocket"),)
    return _request("GET", _raw_path(scope), headers, scope, identity)


def request_of(scope: Scope, path: str) -> ScopedRequest:
    """Return a plain request for a path below the place where the application is mounted."""
    headers = tuple([field for field in _headers(scope) if field[0] != "upgrade"])
    if not any(name in _TELL_OF_A_BODY for name, _ in headers):  # HTTP/2 needs neither of them
        headers += (("transfer-encoding", "chunked"),)
    # Some frameworks put a slash behind every path.
    return _request(str(scope["method"]), quote(path.rstrip("/") or "/"), headers, scope)


def scope_of(request: HttpRequest) -> Scope:
    """Return a scope for a request that came past ASGI. It has what the request has."""
    return {
        "type": "websocket",
        "scheme": "wss" if request.scheme == "https" else "ws",
        "path": request.path,
        "root_path": "",
        "query_string": request.query.encode("latin-1"),
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers
        ],
        "client": (host_of(request.peer), int(request.peer.rpartition(":")[2] or 0)),
    }


def peer_of(scope: Scope) -> str:
    """Return the ``host:port`` of the client; empty if the server does not know it."""
    client = scope.get("client")
    return "" if not client else host_and_port(str(client[0]), client[1] or 0)


def _request(
    method: str,
    path: str,
    headers: tuple[tuple[str, str], ...],
    scope: Scope,
    identity: Identity | None = None,
) -> ScopedRequest:
    query = _query(scope)
    return ScopedRequest(
        method=method,
        target=f"{path}?{query}" if query else path,
        headers=headers,
        peer=peer_of(scope),
        # What is not secure here may be so in front of a proxy that the server does not know.
        scheme="https" if scope.get("scheme") in _SECURE else "",
        scope=scope,
        identity=identity,
    )


def _raw_path(scope: Scope) -> str:
    """Return the path as it was sent, as far as is known."""
    raw = scope.get("raw_path")
    path = str(scope["path"]) or str(scope.get("root_path", ""))
    return bytes(raw).decode("latin-1") if raw else quote(path)


def _query(scope: Scope) -> str:
    return bytes(scope.get("query_string", b"")).decode("latin-1")


def _headers(scope: Scope) -> tuple[tuple[str, str], ...]:
    return tuple(
        [
            (bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1"))
            for name, value in scope["headers"]
        ]
    )
