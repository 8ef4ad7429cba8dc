"""What one client sent and its session has not handled yet."""

import math
from collections.abc import Callable

from kps.protocol.server.gate import Phase
from kps.protocol.server.session import ServerSession
from kps.protocol.server.state import ServerState
from kps.protocol.server.throttle import TOO_FAST
from kps.protocol.wire.server_end import ServerEnd
from kps.protocol.wire.websocket import State

# Units of work (see ``turns``).
_READ = 1  # of each call of the reader
_MESSAGE = 2
_CONTROL = 1
_FRAME = 20  # of a frame that wsproto reads
_HEAD = 10  # of each part of the request
_FIELD = 2  # of each line in it
_REQUEST = 150  # of the answer to it
_KILOBYTE = 1024  # bytes that count as one unit
_INFLATED = 256  # bytes of messages that were deflated, which count as one unit

_BYTES_OF_UNIT = 4  # that are read for each unit that is left: the smallest message has eight

# Before it has registered, a client is read from message by message: the first one may be a ping,
# after which other rules hold.
_ONE_MESSAGE = 1

_HANDSHAKE = State.HANDSHAKE
_OPEN = State.OPEN
_REGISTERED = Phase.REGISTERED


class Intake:
    """Lets a session handle input while its turn lasts, and the client may be heard.

    ``requested`` is called when the request was read, or cannot be read; ``handled`` after a turn
    that may have changed more than the session; ``failed``, which drops the connection, after one
    that an exception ended.

    A client is not heard while its token is judged, while the rates delay it, and while many
    replies to it are pending. Meanwhile its input stays here, as bytes.
    """

    __slots__ = ("_controls", "_extra", "_failed", "_frames", "_handled", "_head", "_inbox",
                 "_inflated", "_last_steps", "_most_replies", "_patience", "_reader", "_requested",
                 "_session", "_socket", "_state", "gives_up_at", "is_heard", "number", "used",
                 "waits")  # fmt: skip

    def __init__(
        self,
        state: ServerState,
        session: ServerSession,
        socket: ServerEnd,
        *,
        requested: Callable[[], None],
        handled: Callable[[], None],
        failed: Callable[[], None],
    ) -> None:
        self.used = state.turns.start
        self.waits = False
        self.number = session.number
        self._state = state
        self._session = session
        self._socket = socket
        self._reader = socket.reader
        self._inbox = session.inbox
        self._requested = requested
        self._handled = handled
        self._failed = failed
        self._head = b""  # of the request, unread
        self._most_replies = state.limits.backlog_bytes
        self.is_heard = True
        """Whether the driver reads."""
        self.gives_up_at: float | None = None
        """When the steps of ``finish`` are taken in any case."""
        self._last_steps: tuple[Callable[[float], None], ...] = ()
        self._patience = state.limits.close_timeout  # before they are taken
        # Of the reader, as charged so far.
        self._frames = self._controls = self._extra = self._inflated = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes that are to be handled next."""
        waiting = self._inbox.next_bytes
        return self._reader.unread if waiting is None else waiting

    @property
    def has_input(self) -> bool:
        """Whether something is to be handled, besides the part of a frame."""
        return bool(self.waits or self._reader.has_more or self._inbox.has_rest or self._head)

    @property
    def is_blocked(self) -> bool:
        """Whether the client is not heard now.

        Once the closing handshake is under way, only the end of it is to be heard.
        """
        session, socket = self._session, self._socket
        if socket.state is not _OPEN:
            return False
        if session.gate.phase is not _REGISTERED and session.gate.holds:
            return True
        if session.throttle is not None and session.throttle.resume_at is not None:
            return True
        # A client that has left reads no replies; what it sent before is handled all the same.
        return socket.outbox.pending_replies > self._most_replies and not self._last_steps

    def receive(self, data: bytes) -> None:
        """Take bytes from the transport, and handle them now or in a later turn."""
        if self._socket.state is _HANDSHAKE:
            self._head += data
        else:
            self._socket.feed(data, self._state.now)
        self._state.turns.enter(self)

    def resume(self) -> None:
        """Go on in a later turn, because the client may be heard again."""
        if self.has_input:
            self._state.turns.wait(self)

    def finish(self, step: Callable[[float], None], now: float, patience: float = math.inf) -> None:
        """Take a step that ends the connection, once what was read is handled.

        The session gets ``close_timeout`` for that, or ``patience`` seconds if they are fewer, and
        no time if the client is not heard. Another call can only shorten it.
        Steps are taken in the order of the calls: one may not replace another, as a transport
        that was lost before the server stops must still be forgotten. A step that was interrupted
        is taken again, so each bears repetition, also after the transport is gone.
        """
        gives_up_at = now + min(self._patience, patience)
        if self.gives_up_at is None or gives_up_at < self.gives_up_at:
            self.gives_up_at = gives_up_at
        self._last_steps += (step,)
        if not self.has_input or self.is_blocked or now >= self.gives_up_at:
            self._take_last_steps(now)
        else:  # it may have been blocked until now, by replies that nobody reads any more
            self._state.turns.wait(self)

    def handle_timeout(self, now: float) -> bool:
        """Take the steps if their time has come; tell whether it had."""
        is_due = self.gives_up_at is not None and now >= self.gives_up_at
        if is_due:
            self._take_last_steps(now)
        return is_due

    def work(self) -> bool:
        """Handle input while the turn lasts; tell whether some is left."""
        session, socket, reader, inbox = self._session, self._socket, self._reader, self._inbox
        state, is_unfinished = self._state, False
        turns = state.turns
        try:
            if self._head:
                self._read_head()
            while inbox.has_rest or reader.has_more:
                if turns.left <= 0:
                    is_unfinished = True
                    break
                is_registered = session.gate.phase is _REGISTERED
                if (
                    not is_registered
                    or session.throttle is not None
                    or socket.outbox.pending_replies > self._most_replies
                ) and self.is_blocked:
                    inbox.keep_bytes()
                    break
                if inbox.has_rest:
                    inbox.go_on()
                    continue
                allowance = turns.left * _BYTES_OF_UNIT if is_registered else _ONE_MESSAGE
                messages = socket.read(state.now, allowance)
                size = allowance - reader.allowance
                turns.left -= _READ + len(messages) * _MESSAGE + size // _KILOBYTE
                if reader.met_others:
                    self._charge_others()
                if messages:
                    inbox.receive(messages)
            if not self.is_heard or socket.state is not _OPEN or session.throttle is not None:
                self._handled()
            if self._last_steps and (not is_unfinished or self.is_blocked):
                self._take_last_steps(state.now)
            return is_unfinished
        except BaseException:  # a fault, or out of a signal handler: the input has a hole
            self._failed()
            raise

    def _read_head(self) -> None:
        """Read a part of the request."""
        head, self._head = self._head, b""
        state = self._state
        state.turns.left -= _HEAD + head.count(b"\n") * _FIELD
        self._socket.feed(head, state.now)
        if self._socket.state is not _HANDSHAKE:
            state.turns.left -= _REQUEST
            self._requested()

    def _charge_others(self) -> None:
        """Charge controls and parts of messages, and end the connection for too many of them."""
        reader, state, throttle = self._reader, self._state, self._session.throttle
        reader.met_others = False
        frames, controls = reader.frames - self._frames, reader.controls - self._controls
        extra = reader.extra - self._extra
        self._frames, self._controls, self._extra = reader.frames, reader.controls, reader.extra
        state.turns.left -= frames * _FRAME + controls * _CONTROL
        if reader.inflater is not None:
            inflated = reader.inflater.inflated
            state.turns.left -= (inflated - self._inflated) // _INFLATED
            self._inflated = inflated
        if frames:
            state.unflushed[self.number] = None  # there may be a pong
        if throttle is not None and throttle.charge_extra(controls, extra, state.now):
            self._socket.fail(1008, TOO_FAST, state.now)

    def _take_last_steps(self, now: float) -> None:
        steps, self._last_steps, self.gives_up_at = self._last_steps, (), None
        if self.has_input:
            self._patience = 0.0  # no later step waits for what this one did not wait for
        done = 0
        try:
            for step in steps:
                step(now)
                done += 1
        except BaseException as error:  # a fault, or out of a signal handler
            done += isinstance(error, Exception)  # a fault would come again; the others may follow
            self._last_steps = steps[done:] + self._last_steps
            if self._last_steps:
                self._state.turns.wait(self)  # which takes them
            raise
