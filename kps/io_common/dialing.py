"""How a client tries the addresses of a server, for both drivers (RFC 8305, "happy eyeballs").

A name may have several addresses, of which some may not answer. The next one gets its chance after
``DELAY`` seconds, or as soon as the former has failed; the first that answers is taken.
"""

import socket
from itertools import zip_longest

DELAY = 0.25

AddressInfo = tuple[int, int, int, str, tuple[str | int | bytes, ...]]
"""An entry of ``getaddrinfo``: family, kind, protocol, name, address."""


def numeric(host: str, port: int) -> list[AddressInfo]:
    """Return the entry of a host that is an address; an empty list if it is a name."""
    try:
        return lookup(host, port, _NUMERIC)
    except socket.gaierror:
        return []


def lookup(host: str, port: int, flags: int = 0) -> list[AddressInfo]:
    """Return the addresses of a host. It may block. Raises :class:`OSError`."""
    # Of a text Python would make international domain names, with large tables; ours are ASCII.
    return list(socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM, flags=flags))


def in_order(found: list[AddressInfo]) -> list[AddressInfo]:
    """Return addresses in the order in which to try them: the families take turns."""
    first = [info for info in found if info[0] == found[0][0]]
    others = [info for info in found if info[0] != found[0][0]]
    return [info for pair in zip_longest(first, others) for info in pair if info is not None]


_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
