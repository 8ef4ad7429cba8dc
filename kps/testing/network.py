"""A bus in memory: a server and clients, links between them, and time set by hand."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

from kps.errors import ConnectFailed
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.events import ClientEvent, ConnectNeeded
from kps.protocol.client.reconnect import Backoff
from kps.protocol.client.session import ClientSession
from kps.protocol.limits import ClientLimits
from kps.protocol.server.config import HubConfig
from kps.protocol.server.events import HubEvent, SessionFailed
from kps.protocol.server.hub import Hub
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.endpoint import Endpoint
from kps.protocol.wire.websocket import Output


class ManualClock:
    """A time that only moves when it is told to. Seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def advance(self, seconds: float) -> float:
        """Move forward; return the new time."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self.now += seconds
        return self.now


def split(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut bytes into pieces of the given sizes, over and over (so ``[1]`` is byte by byte)."""
    position = 0
    turn = 0
    while position < len(data):
        size = max(1, sizes[turn % len(sizes)]) if sizes else len(data)
        yield data[position : position + size]
        position += size
        turn += 1


class _Pipe:
    """One direction of a link: what has left one end and has not been read at the other."""

    def __init__(self, source: Endpoint, target: Endpoint) -> None:
        self.source = source
        self.target = target
        self.waiting = b""
        """What has arrived at the other end."""
        self.under_way: deque[tuple[float, bytes]] = deque()
        """What arrives later, and when."""
        self.is_read = True
        """Whether the target's driver reads."""

    @property
    def size(self) -> int:
        """Bytes that the network holds."""
        return len(self.waiting) + sum(len(data) for _, data in self.under_way)

    def send(self, data: bytes, arrives: float) -> None:
        """Put bytes on their way. They do not overtake others."""
        if self.under_way:
            arrives = max(arrives, self.under_way[-1][0])
        self.under_way.append((arrives, data))

    def arrive(self, now: float) -> None:
        """Let arrive what has been under way for long enough."""
        while self.under_way and self.under_way[0][0] <= now:
            self.waiting += self.under_way.popleft()[1]


class Link:
    """A transport in memory between two endpoints, which pauses as drivers and networks do.

    An end that wants a pause is not read for; ``capacity`` is how many bytes the network then
    holds in each direction before it takes no more. ``cut`` breaks the link as a network does;
    ``stalled`` lets nothing through, as ends that do not read; ``swallows`` takes everything and
    loses it, as a router does in front of a dead host; ``sizes`` splits what passes into pieces;
    ``delay`` says for each piece that leaves an end how many seconds it is under way.
    """

    def __init__(
        self, client: Endpoint, server: Endpoint, clock: ManualClock, capacity: int = 256 * 1024
    ) -> None:
        self.client = client
        self.server = server
        self.capacity = capacity
        self.sizes: Sequence[int] = ()
        self.delay: Callable[[], float] | None = None
        self.stalled = False
        self.swallows = False
        self.alive = True
        self.server_is_due = True
        """Whether the server has something for its end to do. As a driver does, nobody looks
        at the server's end otherwise."""
        self._clock = clock
        self._up = _Pipe(client, server)
        self._down = _Pipe(server, client)

    def transfer(self) -> bool:
        """Move what waits, in both directions; tell whether anything moved."""
        if not self.alive:
            return False
        for pipe in (self._up, self._down):
            pipe.arrive(self._clock.now)
        moved = self._fill(self._up)
        moved = self._drain(self._up, looks=self._up.is_read or self.server_is_due) or moved
        if self.alive and (self.server_is_due or self._down.waiting):
            filled = self._fill(self._down)
            drained = self.alive and self._drain(self._down, looks=True)
            self.server_is_due = filled or drained or self.stalled or bool(self._down.waiting)
            moved = moved or filled or drained
        return moved and not (self.stalled and self.alive)

    def next_deadline(self) -> float | None:
        """When something arrives that is under way, if anything is."""
        arrivals = [pipe.under_way[0][0] for pipe in (self._up, self._down) if pipe.under_way]
        return min(arrivals, default=None)

    def cut(self) -> None:
        """Break the connection; both ends notice."""
        if self.alive:
            self.alive = False
            self.client.connection_lost(self._clock.now)
            self.server.connection_lost(self._clock.now)

    def _fill(self, pipe: _Pipe) -> bool:
        """Let the network take what an end has to write, as far as it has room."""
        room = self.capacity - pipe.size
        data = b"" if self.stalled or room <= 0 else pipe.source.data_to_send(room)
        if data and not self.swallows:
            delay = 0.0 if self.delay is None else self.delay()
            pipe.send(data, self._clock.now + delay)
            pipe.arrive(self._clock.now)
        return bool(data)

    def _drain(self, pipe: _Pipe, *, looks: bool) -> bool:
        """Let an end read, unless it wants a pause; then do what the other end wants done."""
        now, target = self._clock.now, pipe.target
        moved = False
        waiting, pipe.waiting = pipe.waiting, b""
        pieces = list(split(waiting, self.sizes))
        while True:
            is_read = not target.wants_pause if looks else pipe.is_read
            if is_read is not pipe.is_read:
                pipe.is_read = is_read
                target.set_reading(is_read, now)
            if not pieces or not is_read or self.stalled or not self.alive:
                break
            target.receive_data(pieces.pop(0), now)
            moved = True
        pipe.waiting = b"".join(pieces) + pipe.waiting
        output = pipe.source.output
        is_deaf = self.stalled or self.swallows or pipe.size > 0
        if output is Output.KEEP or (is_deaf and output is not Output.ABORT):
            return moved
        if output is Output.HALF_CLOSE:
            before = target.output
            target.receive_eof(now)
            return moved or target.output is not before
        self.cut()
        return True


class MemoryClient:
    """A client session of a :class:`Network`."""

    def __init__(self, network: "Network", session: ClientSession) -> None:
        self.session = session
        self.link: Link | None = None
        """The latest connection."""
        self.links = 0
        """Connections made so far."""
        self.events: list[ClientEvent] = []
        """Everything that the session emitted, in order."""
        self._network = network

    def take(self) -> bool:
        """Handle the session's events; tell whether there were any."""
        events = self.session.events()
        self.events += events
        for event in events:
            if isinstance(event, ConnectNeeded):
                self._network.connect(self)
        return bool(events)


class Network:
    """A server and any number of clients in one process, without sockets.

    ``reachable`` set to ``False`` refuses new connections.
    """

    def __init__(
        self,
        config: HubConfig | None = None,
        *,
        limits: ServerLimits | None = None,
        client_limits: ClientLimits | None = None,
        clock: ManualClock | None = None,
        seed: int = 0,
    ) -> None:
        self.clock = clock or ManualClock()
        self.random = Random(seed)
        self.limits = limits or ServerLimits()
        self.client_limits = client_limits or ClientLimits()
        self.reachable = True
        self.clients: list[MemoryClient] = []
        self.links: list[Link] = []
        self._by_session: dict[int, Link] = {}
        self.hub_events: list[HubEvent] = []
        """Everything that the hub emitted, in order."""
        self._config = replace(config or HubConfig(id="server"), limits=self.limits)
        self.hub = self._new_hub()

    def client(self, client_id: str, *, reconnect: Backoff | None = None) -> MemoryClient:
        """Add a client and let it register."""
        return self.client_with(
            ClientConfig(
                id=client_id, host="memory", reconnect=reconnect, limits=self.client_limits
            )
        )

    def client_with(self, config: ClientConfig) -> MemoryClient:
        """Add a client of any configuration and let it register."""
        session = ClientSession(
            config,
            entropy=self.random.randbytes,
            chance=self.random.random,
            now=self.clock.now,
        )
        client = MemoryClient(self, session)
        self.clients.append(client)
        self.run()
        return client

    def connect(self, client: MemoryClient) -> None:
        """Answer a session's ``ConnectNeeded``."""
        now = self.clock.now
        if not self.reachable:
            client.session.connect_failed("connection refused", now)
            return
        try:
            client.session.renew_token()
        except ConnectFailed as error:
            client.session.connect_failed(str(error), now)
            return
        client.link = self.attach(client.session.connected(now))
        client.links += 1

    def attach(self, client: Endpoint) -> Link:
        """Connect the end of a client of any kind with the server."""
        session = self.hub.connect("memory:0", self.clock.now)
        link = Link(client, session, self.clock)
        self.links.append(link)
        self._by_session[session.number] = link
        return link

    def answer(self, event: HubEvent) -> bool:
        """Do what an event of the hub asks for; tell whether anything. A subclass may."""
        return False

    def run(self) -> None:
        """Move bytes and handle events until nothing moves any more."""
        moved = True
        while moved:
            moved = False
            for client in self.clients:
                moved = client.take() or moved
            for event in self.hub.events():
                self.hub_events.append(event)
                if isinstance(event, SessionFailed):
                    raise event.error
                moved = self.answer(event) or moved
            if self.hub.state.turns.are_due:
                self.hub.handle_timeout(self.clock.now)
                moved = True
            for session in self.hub.take_unflushed():
                if session in self._by_session:
                    self._by_session[session].server_is_due = True
            for link in list(self.links):
                moved = link.transfer() or moved
            self.links = [link for link in self.links if link.alive]
            self._by_session = {s: link for s, link in self._by_session.items() if link.alive}

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every deadline on the way."""
        end = self.clock.now + seconds
        while True:
            self.run()
            due = [d for d in self._deadlines() if d <= end]
            if not due:
                break
            self.clock.now = max(self.clock.now, min(due))
            self.hub.handle_timeout(self.clock.now)
            for client in self.clients:
                client.session.handle_timeout(self.clock.now)
        self.clock.now = end

    def restart(self) -> None:
        """Replace the server by a new one that knows nothing, cutting every connection."""
        for link in list(self.links):
            link.cut()
        self.links.clear()
        self.hub = self._new_hub()
        self.run()

    def _deadlines(self) -> Iterator[float]:
        deadlines: list[Callable[[], float | None]] = [self.hub.next_deadline]
        deadlines += [client.session.next_deadline for client in self.clients]
        deadlines += [link.next_deadline for link in self.links]
        for deadline in deadlines:
            due = deadline()
            if due is not None:
                yield due

    def _new_hub(self) -> Hub:
        return Hub(
            self._config,
            new_id=lambda: f"generated-{self.random.getrandbits(48):012x}",
            now=self.clock.now,
        )
