"""The state that all parts of one client share."""

from kps.errors import ClientClosed, NotConnected, Unsupported
from kps.protocol.calls import Calls
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.events import ClientEvent, Ended
from kps.protocol.client.link import ClientLink
from kps.protocol.client.outgoing import Outgoing
from kps.protocol.dialect.requests import Window
from kps.protocol.timers import Deadlines


class ClientState:
    """The time, the current connection, and the events for the driver."""

    def __init__(self, config: ClientConfig, now: float) -> None:
        self.config = config
        self.now = now
        """The time of the latest verb."""
        self.id = config.id
        """The registered id; before registration the id that the client will ask for."""
        self.calls = Calls()
        self.deadlines = Deadlines()
        self.link: ClientLink | None = None
        """The current connection, which may still be opening."""
        self.batching: Outgoing | None = None
        """Where publications go, which leave together, while the client is registered."""
        self.features: frozenset[str] = frozenset()
        """What the server of the current connection has, or that of the latest one."""
        self.window: Window | None = None
        """For how long that server knows which messages it has handled."""
        self.window_at = 0.0
        """When it said so."""
        self.epoch = 0
        """Number of connections that have ended. An ack of an earlier epoch is void."""
        self.is_closing = False
        """Whether the program has closed the client."""
        self.ended: Ended | None = None
        """How the client ended, once it has."""
        self.failure = ""
        """Why the latest attempt to connect has failed; empty while there is a connection."""
        self.dropped = 0
        """Messages accepted from the program and never written."""
        self.events: list[ClientEvent] = []
        """Events that the driver has not taken yet."""

    @property
    def ready(self) -> bool:
        """Whether the client is registered and not closing."""
        return self.link is not None and self.link.registered and not self.is_closing

    @property
    def is_over(self) -> bool:
        """Whether the client was closed or has ended."""
        return self.is_closing or self.ended is not None

    def require_link(self) -> ClientLink:
        """Return the connection on which the client is registered.

        Raises :class:`kps.NotConnected`, or :class:`kps.ClientClosed` if the client is over.
        """
        link = self.link
        if link is not None and link.registered and not self.is_closing:
            return link
        self.require_life()
        raise NotConnected("not connected to the server at the moment")

    def has_feature(self, feature: str) -> bool:
        """Tell whether the server of the connection has a feature."""
        return feature in self.features

    def require_feature(self, feature: str) -> None:
        """Raise :class:`kps.Unsupported` unless the server has a feature."""
        if feature not in self.features:
            raise Unsupported(feature)

    def note_window(self, window: Window | None) -> None:
        """Note for how long the server knows what it has handled, if a pong tells it."""
        if window is not None:
            self.window, self.window_at = window, self.now

    def require_life(self) -> None:
        """Raise :class:`kps.ClientClosed` if the client was closed or has ended."""
        if self.is_closing or (self.ended is not None and self.ended.error is None):
            raise ClientClosed("the client was closed")
        if self.ended is not None:
            raise ClientClosed(f"the client has ended: {self.ended.error}")
