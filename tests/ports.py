"""Addresses at which nothing listens yet, and which no other test gets meanwhile."""

import contextlib
import socket
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def reserved() -> Iterator[str]:
    """An address of this machine at which nothing listens, until the test has a server there.

    Tests run side by side, and the system may pick a port that was free a moment ago for a server
    of another one. It does not while a socket has it. That one does not listen, and on Linux, if
    both allow it, another one may then listen at the same address. Elsewhere we can but let go.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        if sys.platform != "linux":
            holder.close()
        yield address
