"""Messages with ids: when their connection ends before the answer, they are sent again."""

from collections.abc import Callable
from math import inf

from kps.errors import ConnectionLost, KPSError, QueueFull
from kps.protocol.client.pending import Barrier, ClientAck, Pending, Repeat
from kps.protocol.client.state import ClientState
from kps.protocol.dialect.codes import MESSAGE_IDS


class Repeats:
    """Asks questions again whose messages the server handles only once (spec, 21.3).

    ``end`` ends a question with an error.
    """

    def __init__(
        self,
        state: ClientState,
        pending: Pending,
        end: Callable[[Barrier | ClientAck, KPSError], None],
    ) -> None:
        self._state = state
        self._pending = pending
        self._end = end
        self._count = 0
        self._lost: KPSError = ConnectionLost("the connection ended")  # the end of the latest one

    def new(self, write: Callable[[float], bytes], size: int) -> Repeat:
        """Note a message with an id that is sent now. Raises :class:`kps.QueueFull`."""
        state = self._state
        if self._pending.repeats + size > state.config.limits.queue_bytes:
            raise QueueFull("the messages with ids that wait for answers take too much memory")
        self._count += 1
        return Repeat(write, size, state.window, state.id, state.now, self._count)

    def disconnected(self, error: KPSError) -> None:
        """End the questions of a connection that has ended, but for those with message ids."""
        self._lost = error
        for question in self._pending.questions():
            if question.repeat is None:
                self._end(question, error)
            elif isinstance(question, ClientAck):
                question.position = 0  # it waits in no queue, and its time goes on

    def connected(self) -> None:
        """Ask again what has no answer, where that is safe."""
        link, now = self._state.require_link(), self._state.now
        for question in self._pending.questions():
            repeat, left = question.repeat, inf
            if isinstance(question, ClientAck):
                left = question.started + question.timeout - now
            if repeat is None or left <= 0 or not self._is_safe(repeat):
                self._end(question, self._lost)
                continue
            link.outgoing.send_anyway(repeat.write(left))
            if isinstance(question, ClientAck):
                question.position = link.outgoing.end

    def _is_safe(self, repeat: Repeat) -> bool:
        """Tell whether the server of the present connection still remembers a message."""
        state, window = self._state, repeat.window
        return (
            window is not None
            and state.has_feature(MESSAGE_IDS)
            and state.window is not None
            and state.window.name == window.name
            and state.id == repeat.client_id
            and state.now - repeat.sent < window.seconds
            and self._count - repeat.number < window.most
        )
