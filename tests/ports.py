"""Ports for tests that need one by its number: to listen there later, or again."""

import contextlib
import socket
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def kept_port() -> Iterator[int]:
    """Keep a port of 127.0.0.1 until the end of the block, for servers that come and go there.

    A port that was free a moment ago may be another's when the server is there at last. This one is
    bound, so the system gives it to nobody who asks for any port. But nobody listens on it, so it
    refuses connections. And Linux lets a server listen on it all the same, if both allow it.
    Elsewhere we can but let go.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port = keeper.getsockname()[1]
        if sys.platform != "linux":
            keeper.close()
        yield port


@contextlib.contextmanager
def kept_address() -> Iterator[str]:
    """Keep a port, as its address."""
    with kept_port() as port:
        yield f"127.0.0.1:{port}"
