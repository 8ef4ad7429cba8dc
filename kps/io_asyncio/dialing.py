"""Connects a socket to the first address of a server that answers.

The loops cannot do it for us: that of asyncio tries one address after the other unless it is told
otherwise, and uvloop cannot be told. Nor do we let uvloop look up names, or connect a socket, which
looks up even an address: it does so in threads that a forked child lacks, and for which it waits
when it ends by ``sys.exit``, until it crashes.
"""

import asyncio
import os
import socket
import sys
from collections import deque

from kps.io_common import dialing
from kps.io_common.dialing import DELAY, AddressInfo, in_order, numeric
from kps.io_common.forks import keep_from_children


async def dial(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """Return a connected socket. Raises :class:`OSError` of the first address when all fail."""
    waiting = deque(in_order(numeric(host, port) or await lookup(loop, host, port)))
    running: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(_connect(loop, waiting.popleft())))
            done, _ = await asyncio.wait(
                running,
                timeout=DELAY if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                running.discard(task)
                error = task.exception()
                if error is None:
                    return task.result()
                errors.append(error)
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close)
    raise errors[0] if errors else OSError("the name has no address")


async def lookup(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[AddressInfo]:
    """Return the addresses of a name. Raises :class:`OSError`."""
    return await loop.run_in_executor(None, dialing.lookup, host, port)


async def _connect(loop: asyncio.AbstractEventLoop, info: AddressInfo) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    keep_from_children(sock)
    try:
        sock.setblocking(False)
        if sys.platform == "win32":
            await loop.sock_connect(sock, address)
        else:
            await _establish(loop, sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _establish(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, address: tuple[str | int | bytes, ...]
) -> None:
    try:
        sock.connect(address)
    except BlockingIOError:
        writable = asyncio.Event()
        loop.add_writer(sock, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(sock)
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number)) from None


def _close(task: "asyncio.Task[socket.socket]") -> None:
    """Close the socket of an attempt that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
