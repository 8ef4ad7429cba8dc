"""Messages with ids: when their connection ends before the answer, they are sent again."""

from collections.abc import Callable
from math import inf

from kps.errors import ConnectionLost, KPSError, QueueFull
from kps.protocol.client.events import AckStatusRefused
from kps.protocol.client.pending import Barrier, ClientAck, Pending, Repeat
from kps.protocol.client.state import ClientState
from kps.protocol.dialect.codes import MESSAGE_IDS
from kps.protocol.dialect.envelope import Fields

_NOT_AGAIN = "; it is not sent again, as the server may not remember it: was it restarted?"


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
        self.lost = ConnectionLost("the connection ended")
        """How the latest connection has ended."""

    def new(self, write: Callable[[Fields, float], bytes], size: int) -> Repeat:
        """Note a message with an id that is sent now. Raises :class:`kps.QueueFull`."""
        state = self._state
        if self._pending.repeats + size > state.config.limits.queue_bytes:
            raise QueueFull("the messages with ids that wait for answers take too much memory")
        self._count += 1
        window, until = state.window, 0.0
        if window is not None:  # by our clock, which may have stood still: then it is less
            until = window.time + (state.now - state.window_at) + window.seconds
        return Repeat(write, size, window, state.id, until, self._count)

    def disconnected(self, error: ConnectionLost) -> None:
        """End the questions of a connection that has ended, but for those with message ids."""
        self.lost = error
        for question in self._pending.questions():
            if question.repeat is None:
                self._end(question, error)
            elif isinstance(question, ClientAck):
                question.position = 0  # it waits in no queue, and its time goes on
                self._state.events.append(AckStatusRefused(question, error))

    def connected(self) -> None:
        """Ask again what has no answer, where that is safe."""
        link, now = self._state.require_link(), self._state.now
        for question in self._pending.questions():
            repeat, left = question.repeat, inf
            if isinstance(question, ClientAck):
                left = question.started + question.timeout - now
            if repeat is None or left <= 0:
                self._end(question, self.lost)
                continue
            if not self._is_safe(repeat):
                self._end(question, ConnectionLost(f"{self.lost}{_NOT_AGAIN}", self.lost.code))
                continue
            question.repeat = repeat._replace(is_again=True)
            link.outgoing.send_anyway(repeat.write({"repeat_until": repeat.until}, left))
            if isinstance(question, ClientAck):
                question.position = link.outgoing.end

    def _is_safe(self, repeat: Repeat) -> bool:
        """Tell whether it is the same server, which may still remember a message."""
        state, window = self._state, repeat.window
        return (
            window is not None
            and state.has_feature(MESSAGE_IDS)
            and state.window is not None
            and state.window.name == window.name
            and state.id == repeat.client_id
            and self._count - repeat.number < window.most
        )
