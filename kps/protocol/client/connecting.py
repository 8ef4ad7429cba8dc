"""A client's connections, one after the other: opening, registering, ending, coming back."""

from collections.abc import Callable

from kps.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    KPSError,
    ServerError,
)
from kps.protocol.client.asking import Asking
from kps.protocol.client.config import check_token
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
from kps.protocol.client.topics import Topics
from kps.protocol.dialect.client import agreed, greeting, limit_in
from kps.protocol.dialect.codes import ID_TAKEN, TEMPORARY
from kps.protocol.dialect.envelope import Fields, text
from kps.protocol.wire.frames import Masker
from kps.protocol.wire.websocket import Closed

# What a server answers to a client that may not connect, or not with that token (spec, 8.7).
_DENIED = (401, 403)


class Connecting:
    """Keeps one connection, as long as the program wants one.

    ``chance()`` returns a number in [0, 1). ``receive`` takes what comes on a connection.
    """

    def __init__(
        self,
        state: ClientState,
        sender: Sender,
        asking: Asking,
        topics: Topics,
        flow: Flow,
        *,
        masker: Masker,
        chance: Callable[[], float],
        receive: Callable[[ClientLink, list[bytes]], None],
    ) -> None:
        self._state = state
        self._sender = sender
        self._asking = asking
        self._topics = topics
        self._flow = flow
        self._masker = masker
        self._chance = chance
        self.received = receive
        token = state.config.token
        self._token = None if callable(token) else token
        self._attempt = 0
        self._was_connected = False
        self._retry_at: float | None = None
        state.events.append(ConnectNeeded())

    # -- what a driver calls ----------------------------------------------------------------

    def renew_token(self) -> None:
        """Have the program give the token of the next connection, if it gives one for each.

        Raises :class:`kps.ConnectFailed`.
        """
        give = self._state.config.token
        if not callable(give):
            return
        try:
            token = give()
        except Exception as error:
            what = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise ConnectFailed(f"the function for the token failed: {what}") from error
        try:
            self._token = check_token(token)
        except InvalidArgument as error:
            raise ConnectFailed(f"the function for the token failed: {error}") from None

    def connected(self) -> ClientLink:
        """Take the transport that is open now, in answer to ``ConnectNeeded``."""
        state = self._state
        link = ClientLink(self, state.config, state, self._masker, self._token)
        if state.is_over:
            link.abandon()
        else:
            state.link = link
        state.deadlines.schedule(link)
        return link

    def attempt_failed(self, error: ConnectFailed) -> None:
        """Note that no connection came about, and try again later if that can help."""
        state = self._state
        if state.is_over:
            self.end(None)
        elif state.config.reconnect is None or self._is_refused_for_good(error.status):
            host = state.config.host
            self.end(ConnectFailed(f"cannot connect to {host}: {error}", error.status))
        else:
            state.events.append(ConnectAttemptFailed(str(error), self._wait()))

    def close(self) -> None:
        """Close for good, behind what is queued."""
        state = self._state
        if state.is_over:
            return
        state.is_closing = True
        self._retry_at = None
        self._asking.end_all(ClientClosed("the client was closed"))
        self._topics.disconnected()
        link = state.link
        if link is None:
            self.end(None)
        elif link.registered:
            link.close()
        else:
            link.abandon()

    def next_deadline(self) -> float | None:
        return self._retry_at

    def handle_timeout(self, now: float) -> None:
        """Ask for the next connection when it is due."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._state.events.append(ConnectNeeded())

    # -- what happens on a connection -------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Whether the program is behind, and nothing more is to be read for it."""
        return self._flow.is_paused

    def schedule(self, link: ClientLink) -> None:
        """The link has a new deadline."""
        self._state.deadlines.schedule(link)

    def link_opened(self, link: ClientLink) -> None:
        """The opening handshake is done: register, under the id that the client has."""
        link.outgoing.send(greeting(self._state.id, self._state.config.level))

    def registered(self, link: ClientLink, pong: Fields) -> None:
        """The server knows the client from now on: it answered the first ping."""
        state = self._state
        link.registered = True
        link.outgoing.speak(agreed(pong, state.config.level), limit_in(pong))
        state.id = text(pong, "id") or state.id
        state.events.append(Connected(state.id, self._was_connected))
        self._was_connected = True
        self._attempt = 0
        self._topics.connected()
        self._sender.send_kept()

    def refused(self, link: ClientLink, error: ServerError) -> None:
        """The server does not take this client: it answered the first ping with an error."""
        link.refuse(f"the server refused: {error}")
        if error.code not in TEMPORARY:  # else another attempt can help
            self.end(ServerError(f"the server refused this client: {error}", error.code))

    def link_ended(self, link: ClientLink, closed: Closed) -> None:
        """A connection has ended; what belongs to it ends as well."""
        state = self._state
        if link is not state.link:
            return
        state.link = None
        state.epoch += 1
        unsent = link.take_unsent()
        if not link.registered:
            if state.is_closing:
                self.end(None)
            else:
                self.attempt_failed(ConnectFailed(closed.reason, link.refused))
            return
        dropped = self._sender.keep(unsent) + link.dropped
        state.dropped += dropped
        lost = ConnectionLost(f"the connection ended: {closed.reason or closed.code}", closed.code)
        self._asking.end_all(lost)
        self._topics.disconnected()
        # A client that was replaced under its id would replace the other one in turn.
        retries = (
            not state.is_closing and state.config.reconnect is not None and closed.code != ID_TAKEN
        )
        retry_in = self._wait() if retries else None
        state.events.append(Disconnected(closed, retry_in, dropped))
        if not retries:
            self.end(None if state.is_closing else lost)

    def link_gone(self, link: ClientLink) -> None:
        """The transport of a connection is gone."""
        self._state.deadlines.cancel(link)
        # What was still to go out behind the program's own close, and did not.
        self._state.dropped += sum(entry.messages for entry in link.take_unsent())

    def end(self, error: KPSError | None) -> None:
        """End the client for good; ``error`` tells why, unless the program closed it."""
        state = self._state
        if state.ended is None:
            state.ended = Ended(error)
            state.deadlines.cancel(self)
            self._asking.end_all(error or ClientClosed("the client was closed"))
            self._topics.disconnected()
            state.dropped += self._sender.give_up()
            state.events.append(state.ended)

    # -- within -----------------------------------------------------------------------------

    def _wait(self) -> float:
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
            return not callable(self._state.config.token)  # else there will be another token
        # A proxy in front of a server that restarts may say anything for a while.
        return status is not None and 400 <= status < 500 and not self._was_connected
