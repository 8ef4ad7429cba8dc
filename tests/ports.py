"""Ports for tests that need one by its number: to listen there later, or again."""

import atexit
import socket
import sys


def kept_port() -> int:
    """A port of 127.0.0.1 that this process keeps to itself, for servers that come and go there.

    A port that was free a moment ago may be another's when the server is there at last. This one
    stays bound, so the system gives it to nobody who asks for any port. But nobody listens on it,
    so it refuses connections. And Linux lets a server listen on it all the same, if both allow it;
    elsewhere we can but let go.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    port: int = keeper.getsockname()[1]
    if sys.platform == "linux":
        atexit.register(keeper.close)
    else:
        keeper.close()
    return port


def kept_address() -> str:
    """Such a port with its host, as clients and servers take it."""
    return f"127.0.0.1:{kept_port()}"
