"""The listening sockets of a server, for both drivers."""

import errno
import socket

from kps.errors import ServerStartFailed
from kps.io_common.dialing import lookup
from kps.io_common.forks import keep_listener_from_children
from kps.io_common.system_errors import describe
from kps.protocol.dialect.address import Address

BACKLOG = 1024
"""Connections that may be pending until they are accepted."""


def listen(address: Address) -> list[socket.socket]:
    """Listen on every address of a host name; with port 0, on one of them only.

    It may block on a name server. Raises :class:`kps.ServerStartFailed`.
    """
    host, port = address.host, address.port
    listeners: list[socket.socket] = []
    try:
        found = lookup(host, port)
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        if port == 0:  # each address would get a port of its own
            del found[1:]
        for family, _, _, _, resolved in found:
            try:
                listener = socket.create_server(
                    (str(resolved[0]), port), family=family, backlog=BACKLOG
                )
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and listeners:
                    continue  # the name also has an address of a family that is disabled
                raise
            keep_listener_from_children(listener)
            listeners.append(listener)
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise ServerStartFailed(f"cannot listen on {address.netloc}: {describe(error)}") from error
    return listeners
