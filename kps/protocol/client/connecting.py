"""A client's connections, one after the other: open, register, end, reconnect."""

from collections.abc import Callable, Coroutine

from kps.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    KPSError,
    ServerError,
)
from kps.protocol.client.asking import Asking
from kps.protocol.client.events import (
    ConnectAttemptFailed,
    Connected,
    ConnectNeeded,
    Disconnected,
    Ended,
)
from kps.protocol.client.flow import Flow
from kps.protocol.client.link import ClientLink
from kps.protocol.client.sender import Sender
from kps.protocol.client.state import ClientState
from kps.protocol.client.token import check_token
from kps.protocol.client.topics import Topics
from kps.protocol.dialect.client import agreed, greeting, limit_in, window_in
from kps.protocol.dialect.codes import DISMISSED, ID_TAKEN
from kps.protocol.dialect.envelope import Fields, text
from kps.protocol.dialect.outcome import in_words
from kps.protocol.wire.client_handshake import KEY_SIZE
from kps.protocol.wire.frames import Masker
from kps.protocol.wire.websocket import CONNECTION_LOST, Closed, ClosedBy

# Connections in a row that may soon end before the waits begin to grow. A server may be restarted
# twice; but it may also accept each client and end it at once, and must not be hammered then.
_FORGIVEN = 3

# The close code for a message over the limit. Before the registration that is the first ``ping``,
# which is the same at each attempt.
_TOO_BIG = 1009
_LONG_ID = "the server takes no first message as long as this client's: its id is too long"

# After a takeover of its id a client must not take the id back in turn.
_FOR_GOOD = (ID_TAKEN, DISMISSED)

_OWN_ID = " {!r}; each client needs an id of its own, or none"

# A server with TLS takes our request for a fault in its handshake, and hangs up.
_IS_IT_TLS = " before the server has answered; if it speaks TLS, its address begins with wss://"

# HTTP statuses that refuse a client or its token (spec, 8.7).
_DENIED = (401, 403)
_FOR_NOW = (408, 429)  # the request came too slowly, or too many did


class Connecting:
    """Maintains one connection until the program closes the client.

    ``entropy(n)`` returns ``n`` unpredictable bytes, ``chance()`` a number in [0, 1). ``receive``
    handles the messages of a connection.
    """

    def __init__(
        self,
        state: ClientState,
        sender: Sender,
        asking: Asking,
        topics: Topics,
        flow: Flow,
        *,
        entropy: Callable[[int], bytes],
        chance: Callable[[], float],
        receive: Callable[[ClientLink, list[bytes]], None],
    ) -> None:
        self._state = state
        self._sender = sender
        self._asking = asking
        self._topics = topics
        self._flow = flow
        self._entropy = entropy
        self._masker = Masker(entropy)
        self._chance = chance
        self.received = receive
        token = state.config.token
        self._token = None if callable(token) else token
        self._attempt = 0  # failed attempts, and before them connections that soon ended
        self._short_lived = 0  # connections in a row that soon ended
        self._registered_at = 0.0
        self._was_connected = False
        self._is_answered = False  # whether the opening handshake of the connection is done
        self._retry_at: float | None = None
        state.events.append(ConnectNeeded())

    # -- called by a driver -----------------------------------------------------------------

    def renew_token(self) -> None:
        """Call the program's function for the token of the next connection, if it gave one.

        Raises :class:`kps.ConnectFailed`.
        """
        give = self._state.config.token
        if not callable(give):
            return
        try:
            token = give()
            if isinstance(token, Coroutine):
                token.close()
            self._token = check_token(token)
        except BaseException as error:  # the driver must hear of it, whatever it is
            raise ConnectFailed(f"the function for the token failed: {_words(error)}") from error

    def connected(self) -> ClientLink:
        """Make the link for a new transport, in answer to ``ConnectNeeded``."""
        state = self._state
        key = self._entropy(KEY_SIZE)
        self._is_answered = False
        link = ClientLink(self, state.config, state, self._masker, key, self._token)
        if state.is_over:
            link.abandon()
        else:
            state.link = link
        state.deadlines.schedule(link)
        return link

    def attempt_failed(self, error: ConnectFailed) -> None:
        """Note that an attempt failed; plan the next one if it can help, else end."""
        state = self._state
        if state.is_over:
            self.end(None)
        elif state.config.reconnect is None or self._is_refused_for_good(error.status):
            server = state.config.server
            self.end(ConnectFailed(f"cannot connect to {server}: {error}", error.status))
        else:
            state.failure = str(error)
            state.events.append(ConnectAttemptFailed(state.failure, self._plan_retry()))

    def close(self, timeout: float | None) -> None:
        """Close for good, behind the queued data, within a time. May be called again."""
        state = self._state
        if state.ended is not None:
            return
        if not state.is_closing:
            state.is_closing = True
            state.batching = None
            self._retry_at = None
            self._asking.end_all(ClientClosed("the client was closed"))
            self._topics.disconnected()
        link = state.link
        if link is None:
            self.end(None)
        elif link.registered:
            link.close(timeout)
        else:
            link.abandon()

    def next_deadline(self) -> float | None:
        return self._retry_at

    def handle_timeout(self, now: float) -> None:
        """Ask the driver for the next connection when it is due."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._state.events.append(ConnectNeeded())

    # -- events of a connection -------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Whether reading is paused, because the program is behind."""
        return self._flow.is_paused

    def schedule(self, link: ClientLink) -> None:
        """Schedule the link's new deadline."""
        self._state.deadlines.schedule(link)

    def link_opened(self, link: ClientLink) -> None:
        """Register under the client's id: the opening handshake is done."""
        self._is_answered = True
        link.outgoing.send(greeting(self._state.id, self._state.config.level))

    def registered(self, link: ClientLink, pong: Fields) -> None:
        """Note the registration: the server answered the first ping with ``pong``."""
        state = self._state
        link.registered = True
        link.outgoing.speak(agreed(pong, state.config.level), limit_in(pong))
        state.features = link.outgoing.dialect.features(pong)
        state.window = None
        state.note_window(window_in(pong))
        if not state.is_closing:
            state.batching = link.outgoing
        state.id = text(pong, "id") or state.id
        state.failure = ""
        state.events.append(Connected(state.id, self._was_connected))
        self._was_connected = True
        self._registered_at = state.now
        self._attempt = max(0, self._short_lived - _FORGIVEN)
        self._topics.connected()
        self._asking.repeats.connected()
        self._sender.send_kept()

    def refused(self, link: ClientLink, error: ServerError) -> None:
        """Close, because the server answered the first ping with ``error``."""
        link.refuse(f"the server refused: {error}")
        if not error.is_temporary:  # else another attempt may help
            self.end(ServerError(f"the server refused this client: {error}", error.code))

    def link_ended(self, link: ClientLink, closed: Closed) -> None:
        """End everything that belongs to a connection that has ended."""
        state = self._state
        if link is not state.link:
            return
        state.link = state.batching = None
        state.epoch += 1
        unsent = link.take_unsent()
        if not link.registered:
            if state.is_closing:
                self.end(None)
            elif closed.code == _TOO_BIG and closed.by is ClosedBy.PEER:
                self.end(ConnectFailed(f"cannot connect to {state.config.server}: {_LONG_ID}"))
            else:
                self.attempt_failed(ConnectFailed(self._why(closed), link.refused))
            return
        dropped = self._sender.keep(unsent) + link.dropped
        state.dropped += dropped
        hint = _OWN_ID.format(state.id) if closed.code == ID_TAKEN else ""
        why = f"the connection ended: {closed.reason or closed.code}{hint}"
        lost = ConnectionLost(why, closed.code)
        backoff = state.config.reconnect
        retries = not state.is_closing and backoff is not None and closed.code not in _FOR_GOOD
        if retries:
            self._asking.repeats.disconnected(lost)
        else:
            self._asking.end_all(lost)
        self._topics.disconnected()
        if backoff is not None and state.now - self._registered_at >= backoff.longest:
            self._attempt = self._short_lived = 0
        self._short_lived += 1
        retry_in = self._plan_retry() if retries else None
        state.events.append(Disconnected(closed, retry_in, dropped))
        if not retries:
            self.end(None if state.is_closing else lost)

    def link_gone(self, link: ClientLink, lost: int) -> None:
        """Note that the transport is gone; ``lost`` messages, not counted yet, were unwritten."""
        self._state.deadlines.cancel(link)
        # After the program's own close, some publications may still have been queued.
        self._state.dropped += lost + sum(entry.messages for entry in link.take_unsent())

    def end(self, error: KPSError | None) -> None:
        """End the client for good; ``error`` says why, unless the program closed it."""
        state = self._state
        if state.ended is None:
            state.ended = Ended(error)
            state.deadlines.cancel(self)
            self._asking.end_all(error or ClientClosed("the client was closed"))
            self._topics.disconnected()
            state.dropped += self._sender.give_up()
            state.events.append(state.ended)

    # -- within -----------------------------------------------------------------------------

    def _why(self, closed: Closed) -> str:
        """Return why a connection has ended on which the client has not registered."""
        is_mute = closed.reason == CONNECTION_LOST and not self._is_answered
        hint = _IS_IT_TLS if is_mute and not self._state.config.is_secure else ""
        return closed.reason + hint

    def _plan_retry(self) -> float:
        """Plan the next attempt; return the seconds until then."""
        state = self._state
        assert state.config.reconnect is not None
        delay = state.config.reconnect.delay(self._attempt, self._chance())
        self._attempt += 1
        self._retry_at = state.now + delay
        state.deadlines.schedule(self)
        return delay

    def _is_refused_for_good(self, status: int | None) -> bool:
        if status in _DENIED:
            return not callable(self._state.config.token)  # a function may return a new token
        if status is None or status in _FOR_NOW or self._was_connected:
            return False  # while a server restarts, a proxy in front of it may answer anything
        return 400 <= status < 500


def _words(error: BaseException) -> str:
    """Put an exception of the program into words."""
    kind, words = type(error), in_words(error)
    if issubclass(kind, InvalidArgument) or words == kind.__name__:
        return words
    return f"{kind.__name__}: {words}"
