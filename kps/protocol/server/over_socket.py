"""What acts on our end of a connection for a session or an exchange has in common."""

from collections.abc import Callable
from typing import ParamSpec

from kps.protocol.server.state import ServerState
from kps.protocol.wire.server_end import ServerEnd
from kps.protocol.wire.websocket import State

P = ParamSpec("P")


class OverSocket:
    """Acts on our end of one connection, and tells the connection what that may have changed.

    ``number`` is that of the connection. ``changed`` is called with the former state of the end.
    """

    __slots__ = ("_changed", "_number", "_socket", "_state")

    def __init__(
        self,
        state: ServerState,
        number: int,
        socket: ServerEnd,
        changed: Callable[[State], None],
    ) -> None:
        self._state = state
        self._number = number
        self._socket = socket
        self._changed = changed

    def _act(self, act: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do something that may change the state of the end."""
        before = self._socket.state
        act(*args, **kwargs)
        self._changed(before)
