"""Tells clients and servers that they are in a forked child, where they must not be used.

Their threads, and whoever held their locks, exist in the parent only; their sockets belong to it.
An event loop of asyncio shares even its list of sockets with the child's copy (on Linux it is an
object of the system's): the child must neither use nor close a socket that is on that list.
"""

import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NoReturn, Protocol
from weakref import WeakSet

from kps.errors import InvalidState


class Forkable(Protocol):
    """What must know of a fork."""

    def forked(self) -> None:
        """In a forked child, before it runs any code: refuse all further use, touch no socket."""


class HasDescriptor(Protocol):
    """A socket, or what has one."""

    def fileno(self) -> int:
        """Return the descriptor, or -1 when there is none any more."""


_known: WeakSet[Forkable] = WeakSet()
_sockets: WeakSet[HasDescriptor] = WeakSet()
_listeners: WeakSet[socket.socket] = WeakSet()


def watch_forks(target: Forkable) -> None:
    """Have ``target.forked`` called in each forked child, while ``target`` lives."""
    _known.add(target)


def keep_from_children(sock: HasDescriptor) -> None:
    """Let the socket be the parent's alone: in each forked child its number is that of a dead one.

    The loop's copy in the child, which runs on when the child calls ``sys.exit``, then reads
    nothing of the parent's, writes nothing to its peers, and cannot end its watch on the socket.
    """
    _sockets.add(sock)


def keep_listener_from_children(sock: socket.socket) -> None:
    """Do the same with a listening socket: nobody connects to that of the child."""
    _listeners.add(sock)


def in_child() -> NoReturn:
    """Raise: what answers every call of a client or server in a forked child."""
    raise InvalidState("this process is a fork of the one that started it; make a new one here")


def _tell_all() -> None:
    with ExitStack() as all_of_them:  # also when one of them raises
        all_of_them.callback(_replace_sockets)
        for target in list(_known):
            all_of_them.callback(target.forked)


def _replace_sockets() -> None:
    if _sockets:
        dead, other = socket.socketpair()
        other.close()
        _put_in_place_of(_sockets, dead)
    if _listeners:
        deaf = socket.create_server(("127.0.0.1", 0))
        deaf.setblocking(False)
        _put_in_place_of(_listeners, deaf)


def _put_in_place_of(sockets: Iterable[HasDescriptor], substitute: socket.socket) -> None:
    with substitute:
        for sock in list(sockets):
            if (number := sock.fileno()) >= 0:
                os.dup2(substitute.fileno(), number, inheritable=False)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_tell_all)
