"""Connects a socket to the first address of a server that answers."""

import errno
import os
import selectors
import socket
from collections import deque
from time import monotonic

from kps.io_common.dialing import DELAY, AddressInfo, in_order, lookup
from kps.io_sync.connection import LONGEST_SELECT, new_selector

_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)


def dial(host: str, port: int, timeout: float) -> socket.socket:
    """Return a connected socket, which blocks.

    Raises :class:`TimeoutError`, or the :class:`OSError` of the first address when all fail. Only
    the lookup of a name, which the system bounds, may take longer.
    """
    ends = monotonic() + timeout
    waiting = deque(in_order(lookup(host, port)))
    errors: list[OSError] = []
    with new_selector() as selector:
        try:
            while waiting or selector.get_map():
                if waiting:
                    _begin(selector, waiting.popleft(), errors)
                left = ends - monotonic()
                if left <= 0:
                    raise TimeoutError("no answer in time")
                wait = min(left, DELAY if waiting else LONGEST_SELECT)
                for key, _ in selector.select(wait if selector.get_map() else 0):
                    sock = _finished(selector, key, errors)
                    if sock is not None:
                        return sock
        finally:
            for key in list(selector.get_map().values()):
                _socket_of(key).close()
    raise errors[0] if errors else OSError("the name has no address")


def _begin(selector: selectors.BaseSelector, info: AddressInfo, errors: list[OSError]) -> None:
    """Begin to connect to one address."""
    family, kind, protocol, _, address = info
    sock = None
    try:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        number = sock.connect_ex(address)
        if number not in _UNDER_WAY:
            raise OSError(number, os.strerror(number))
        selector.register(sock, selectors.EVENT_WRITE)
    except OSError as error:
        errors.append(error)
        if sock is not None:
            sock.close()


def _finished(
    selector: selectors.BaseSelector, key: selectors.SelectorKey, errors: list[OSError]
) -> socket.socket | None:
    """Return the socket of an attempt that is over, if it has succeeded."""
    sock = _socket_of(key)
    selector.unregister(sock)
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        errors.append(OSError(number, os.strerror(number)))
        sock.close()
        return None
    sock.setblocking(True)
    return sock


def _socket_of(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj
