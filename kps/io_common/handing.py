"""How a parent hands connections to its workers, and workers to each other: over a socket pair.

Each message is one packet: a byte that says what it is, a text, and perhaps a descriptor. The end
of the pair is the death of the other process.
"""

import contextlib
import json
import os
import socket
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from kps.errors import InvalidArgument

BEAT = 1.0
"""Seconds after which a worker says again that it works."""

VARIABLE = "KPS_WORKER"
"""The environment variable by which a worker knows its place."""

_LARGEST = 4096  # bytes of a packet


class Place(NamedTuple):
    """What a worker knows of its place."""

    descriptor: int
    """Its end of the pair."""
    name: str
    """The id of its server."""
    host: str
    port: int
    """Where the parent listens."""
    workers: int
    """How many workers there are."""
    restarts: int
    """How often this one has been started again."""
    known: Sequence[str] = ()
    """The workers that were there before it."""

    @property
    def is_first(self) -> bool:
        """Whether this is the first worker."""
        return self.number_of(self.name) == "1"

    def number_of(self, worker: str) -> str:
        """Return the number of a worker by its name; of one of another server, the name."""
        server = self.name.rpartition(".")[0]
        return worker.removeprefix(f"{server}.")

    @classmethod
    def of_this_process(cls) -> "Place | None":
        """Return the place of this process, if it is a worker. Nothing else in it sees that."""
        told = os.environ.pop(VARIABLE, None)
        if told is None:
            return None
        try:
            place = cls(*json.loads(told))
            socket.socket(fileno=os.dup(place.descriptor)).close()
        except (OSError, TypeError, ValueError):
            raise InvalidArgument(f"{VARIABLE} is for the workers of kps serve: unset it") from None
        return place

    def environment(self) -> dict[str, str]:
        """Return the environment of a worker with this place."""
        return os.environ | {VARIABLE: json.dumps(self)}


class What(Enum):
    """What a packet is about."""

    CLIENT = b"c"
    """A connection of a client, from the address that is the text."""
    NODE = b"n"
    """A connection to the worker whose name is the text."""
    READY = b"r"
    """The worker is ready to take connections; the text is its URL."""
    CLOSED = b"d"
    """The worker has ended connections, as many as the text says."""
    LIVES = b"l"
    """The worker works. It says so now and then."""
    OPERATOR = b"o"
    """A connection of an operator, from the address that is the text."""
    OPERATOR_WAITS = b"w"
    """From the parent: an operator waits. From a worker: it takes one, so it does not hang."""


class Channel:
    """One end of the pair between the parent and a worker. It never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock

    @classmethod
    def pair(cls) -> "tuple[Channel, socket.socket]":
        """Make a pair: one end for this process, the other one for a new worker."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def send(self, what: What, text: str, descriptor: int | None = None) -> bool:
        """Send a packet; return ``False`` if the other process takes none now, or is dead."""
        packet = what.value + text.encode()
        try:
            if descriptor is None:
                self.socket.send(packet)
            else:
                socket.send_fds(self.socket, [packet], [descriptor])
        except OSError:
            return False
        return True

    def receive(self) -> tuple[What, str, int | None] | None:
        """Return the next packet: what, text, descriptor; ``None`` at the end of the pair.

        Raises ``BlockingIOError`` if there is none yet.
        """
        try:
            packet, descriptors, _, _ = socket.recv_fds(self.socket, _LARGEST, 1)
        except BlockingIOError:
            raise
        except OSError:
            return None
        if not packet:
            return None
        for more in descriptors[1:]:
            os.close(more)
        descriptor = descriptors[0] if descriptors else None
        return What(packet[:1]), packet[1:].decode(), descriptor

    def close(self) -> None:
        """Close this end."""
        with contextlib.suppress(OSError):
            self.socket.close()
