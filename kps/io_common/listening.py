"""The listening sockets of a server, for both drivers."""

import errno
import socket
from typing import NamedTuple

from kps.errors import ServerStartFailed
from kps.io_common.dialing import lookup
from kps.io_common.forks import keep_listener_from_children
from kps.io_common.system_errors import describe
from kps.protocol.dialect.address import Address, host_and_port

BACKLOG = 1024
"""Connections that may be pending until they are accepted."""

_HINTS = {
    errno.EADDRINUSE: "; end the program that listens there, or take another port",
    errno.EADDRNOTAVAIL: "; it is none of this machine: 0.0.0.0 stands for all that it has",
    errno.EACCES: "; take a port from 1024 on, or give the program the right to this one",
}
"""What to do about an error."""


class Listeners(NamedTuple):
    """The listening sockets of a server."""

    bus: list[socket.socket]
    operators: list[socket.socket]
    """Those of the port for operators, if it has one."""

    def close(self) -> None:
        """Close all of them."""
        for listener in (*self.bus, *self.operators):
            listener.close()


def listen(address: Address | None, for_operators: Address | None) -> Listeners:
    """Listen on every address of each host name; with port 0, on one of them only.

    Without an ``address`` nothing listens for the bus, which another program carries. It may block
    on a name server. Raises :class:`kps.ServerStartFailed`.
    """
    bus = [] if address is None else _listen(address)
    try:
        return Listeners(bus, [] if for_operators is None else _listen(for_operators))
    except BaseException:
        for listener in bus:
            listener.close()
        raise


def name_of(listener: socket.socket) -> str:
    """Return the ``host:port`` of a listening socket."""
    host, port = listener.getsockname()[:2]
    return host_and_port(host, port)


def _listen(address: Address) -> list[socket.socket]:
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
        hint = _HINTS.get(error.errno or 0, "")
        raise ServerStartFailed(
            f"cannot listen on {address.netloc}: {describe(error)}{hint}"
        ) from error
    return listeners
