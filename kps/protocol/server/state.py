"""What all sessions of one server share."""

from collections.abc import Callable

from kps.protocol.access.admission import Admission
from kps.protocol.access.identity import Identity
from kps.protocol.access.ids import IdOwners
from kps.protocol.bus.acks import AckBook
from kps.protocol.bus.topics import Bus
from kps.protocol.server.config import HubConfig
from kps.protocol.server.events import HubEvent
from kps.protocol.server.figures import Stats
from kps.protocol.server.ports import Client
from kps.protocol.timers import Deadlines


class ServerState:
    """The tables of a server, the time, and what is to be told to the driver.

    It decides nothing: the parts that share it do.
    """

    def __init__(self, config: HubConfig, *, new_id: Callable[[], str], now: float) -> None:
        self.config = config
        self.limits = config.limits
        self.now = now
        """The time of the latest verb."""
        self.started = now
        self.stopping = False
        self.new_id = new_id
        """Makes an id that is not in use, for a client that gives none."""
        self.deadlines = Deadlines()
        self.bus = Bus()
        self.acks = AckBook(self.deadlines, config.limits)
        self.admission = Admission(config.limits, config.proxies)
        self.anybody = Identity("", config.permissions)
        """The identity of clients of whom nothing is known."""
        self.owners = IdOwners(config.limits.max_ids, config.limits.max_all_ids)
        self.clients: dict[str, Client] = {}
        """Registered clients by id."""
        self.addresses: set[str] = set()
        """The addresses, hosts and domains under which other servers may reach this one."""
        self.stats = Stats()
        self.events: list[HubEvent] = []
        """What the driver has not yet been told."""
        self.unflushed: dict[int, None] = {}
        """Numbers of connections that have something to write, or a transport to close."""

    def emit(self, event: HubEvent) -> None:
        """Tell the driver something."""
        self.events.append(event)

    def uptime(self) -> float:
        """Seconds since the start."""
        return round(self.now - self.started, 3)
