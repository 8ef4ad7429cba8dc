"""What all parts of one client share."""

from kps.errors import ClientClosed, NotConnected
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.events import ClientEvent, Ended
from kps.protocol.client.link import ClientLink
from kps.protocol.timers import Deadlines


class ClientState:
    """The time, the connection that there is, and what is to be told to the driver."""

    def __init__(self, config: ClientConfig, now: float) -> None:
        self.config = config
        self.now = now
        """The time of the latest verb."""
        self.id = config.id
        """The id that the server knows; until then the one to be asked for."""
        self.deadlines = Deadlines()
        self.link: ClientLink | None = None
        """The connection that there is, or that is being opened."""
        self.epoch = 0
        """Connections that have ended: what belongs to an earlier one means nothing any more."""
        self.is_closing = False
        """Whether the program has closed the client."""
        self.ended: Ended | None = None
        """How the client ended, once it has."""
        self.dropped = 0
        """Messages accepted from the program that were not written before a connection ended."""
        self.events: list[ClientEvent] = []
        """What the driver has not yet been told."""

    @property
    def ready(self) -> bool:
        """Whether the server knows this client now."""
        return self.link is not None and self.link.registered and not self.is_closing

    @property
    def is_over(self) -> bool:
        """Whether the client will do nothing more."""
        return self.is_closing or self.ended is not None

    def require_link(self) -> ClientLink:
        """The connection on which the server knows this client.

        Raises :class:`kps.NotConnected`, or :class:`kps.ClientClosed` if there never will be one.
        """
        link = self.link
        if link is not None and link.registered and not self.is_closing:
            return link
        self.require_life()
        raise NotConnected("not connected to the server at the moment")

    def require_life(self) -> None:
        """Raise :class:`kps.ClientClosed` if the client will do nothing more."""
        if self.is_closing or (self.ended is not None and self.ended.error is None):
            raise ClientClosed("the client was closed")
        if self.ended is not None:
            raise ClientClosed(f"the client has ended: {self.ended.error}")
