"""Tells clients and servers that they are in a forked child, where they must not be used.

Their threads, and whoever held their locks, exist in the parent only; their sockets belong to it.
"""

import os
from contextlib import ExitStack
from typing import NoReturn, Protocol
from weakref import WeakSet

from kps.errors import InvalidState


class Forkable(Protocol):
    """What must know of a fork."""

    def forked(self) -> None:
        """In a forked child, before it runs any code: refuse all further use, touch no socket."""


_known: WeakSet[Forkable] = WeakSet()


def watch_forks(target: Forkable) -> None:
    """Have ``target.forked`` called in each forked child, while ``target`` lives."""
    _known.add(target)


def in_child() -> NoReturn:
    """The clock of a client or server in a forked child."""
    raise InvalidState("this process is a fork of the one that started it; make a new one here")


def _tell_all() -> None:
    with ExitStack() as all_of_them:  # also when one of them raises
        for target in list(_known):
            all_of_them.callback(target.forked)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_tell_all)
