"""The state that all sessions of one server share."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from kps.protocol.access.admission import Admission
from kps.protocol.access.identity import Identity, NoIdentity
from kps.protocol.access.ids import IdOwners
from kps.protocol.access.origins import Origins
from kps.protocol.access.rate import UsedLimiters
from kps.protocol.bus.acks import AckBook, Time
from kps.protocol.bus.logs import LogBook
from kps.protocol.bus.message_ids import MessageIds
from kps.protocol.bus.topics import Bus
from kps.protocol.calls import Calls
from kps.protocol.server.compression import Compressor
from kps.protocol.server.config import HubConfig
from kps.protocol.server.encodings import FRAMES, compressed, event_encodings
from kps.protocol.server.events import HubEvent, LoginRefused
from kps.protocol.server.figures import Stats, Tally
from kps.protocol.server.journal import TOLD, Journal
from kps.protocol.server.ports import Client, Desk, Dismissal, Names, Recall
from kps.protocol.server.presence import PresenceBook
from kps.protocol.server.turns import Turns
from kps.protocol.timers import Deadlines


class Parts(NamedTuple):
    """What some tables of a server are made with, of which there is more than one kind."""

    bus: Callable[[Deadlines], Bus] = Bus
    acks: type[AckBook] = AckBook
    presence: type[PresenceBook] = PresenceBook
    logs: type[LogBook] = LogBook


PARTS = Parts()
"""Those of a server that is no node of a cluster."""


class ServerState(Time):
    """The tables of a server, the time, and the events for the driver. It decides nothing."""

    def __init__(
        self,
        config: HubConfig,
        *,
        new_id: Callable[[], str],
        now: float,
        parts: Parts = PARTS,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.now = now
        """The time of the latest verb."""
        self.started = now
        self.stopping = False
        """Whether the server ends."""
        self.suspended = False
        """Whether it serves nobody for a while."""
        self.new_id = new_id
        """Makes an unused id, for a client that names none."""
        self.calls = Calls()
        self.deadlines = Deadlines()
        self.turns = Turns()
        self.bus = parts.bus(self.deadlines)
        limits = config.limits
        self.compressed = FRAMES
        """The encodings for clients with which compression is agreed."""
        if config.compresses:
            self.compressed = compressed(Compressor(limits.compress_from, self.turns))
        self.logs: LogBook | None = None
        """The messages of topics with history, if any have it."""
        self.replays = 0
        """Topics that are being replayed, to all sessions together."""
        if config.history:
            self.logs = parts.logs(
                config.history,
                self.deadlines,
                self._random_name,
                limits.history_bytes,
                limits.history_topics,
            )
        self.event_encodings = event_encodings(self._epoch)
        """The encodings for event streams."""
        self.acks = parts.acks(self.bus, self.deadlines, limits, self._count_delivered, self)
        self.message_ids = MessageIds(
            self.deadlines, limits, self._random_name(), now=lambda: self.now
        )
        self.presence = parts.presence(
            self.bus, self.deadlines, self.turns, limits, now=lambda: self.now
        )
        self.admission = Admission(config.limits, config.proxies)
        self.used_limiters = UsedLimiters(config.limits.max_connections)
        self.origins = Origins(config.origins)
        """The pages that may connect."""
        self.anybody = Identity("", config.permissions)
        """The identity of anonymous clients."""
        self.owners = IdOwners(config.limits.max_ids, config.limits.max_all_ids)
        self.clients: dict[str, Client] = {}
        """Registered clients by id."""
        self.others: Collection[str] = ()
        """The other nodes of the cluster that can be reached, if there is one."""
        self.is_degraded = False
        """Whether it is a node of a cluster, and cannot reach the other ones."""
        self.names: Names | None = None
        """The ids in the cluster, if there is one."""
        self.recall: Recall | None = None
        """What other nodes have handled, if there is a cluster."""
        self.dismissal: Dismissal | None = None
        """Ends connections at other nodes, if there is a cluster."""
        self.addresses: set[str] = set()
        """The addresses, hosts and domains by which other servers may reach this one."""
        self.desk: Desk | None = None
        """Answers what clients ask about the server, if it tells that."""
        self.journal = Journal(lambda: self.now) if config.is_monitored else None
        """Keeps the latest events for those who watch."""
        self.stats = Stats()
        self.tally = Tally()
        self.parsed = 0
        """Bytes of the arrays of messages that wait as objects."""
        self.events: list[HubEvent] = []
        """Events that the driver has not taken yet."""
        self.unflushed: dict[int, None] = {}
        """Numbers of connections that have something to write, or a transport to close."""

    def _random_name(self) -> str:
        return self.new_id().rpartition("-")[2]

    def _epoch(self) -> str:
        """Return the epoch of offsets that tell no other."""
        return self.logs.epoch if self.logs is not None else ""

    def _count_delivered(self) -> None:
        """Count a message for a group that has found room at a member."""
        self.stats.delivered += 1

    @property
    def admits(self) -> bool:
        """Whether clients may come."""
        return not (self.stopping or self.suspended)

    def emit(self, event: HubEvent) -> None:
        """Add an event for the driver."""
        self.events.append(event)
        if self.journal is not None and type(event) in TOLD:
            self.journal.take(event)

    def note(self, kind: str, **facts: object) -> None:
        """Note what is no event for the driver, for those who watch, if anybody may."""
        if self.journal is not None:
            self.journal.note(kind, **facts)

    def charge_search(self) -> None:
        """Charge the turn for searches among the patterns."""
        self.turns.left -= self.bus.routes.searched
        self.bus.routes.searched = 0

    def refuse_login(
        self, peer: str, reason: str, verdict: object = None, *, why: str = ""
    ) -> None:
        """Count and tell that a client may not connect, have an id, or renew its identity.

        A hook's ``verdict``, or ``why``, may say more than the client is told.
        """
        self.tally.refused["login"] += 1
        why = verdict.why if isinstance(verdict, NoIdentity) else why
        self.emit(LoginRefused(peer, reason, why))

    def uptime(self) -> float:
        """Return the seconds since the start."""
        return round(self.now - self.started, 3)
