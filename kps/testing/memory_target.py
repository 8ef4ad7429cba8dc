"""A server in memory for the vectors, whose time is set by hand."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from kps.protocol.access.identity import ALL, OPEN
from kps.protocol.bus.history import History
from kps.protocol.dialect import level1
from kps.protocol.dialect.address import origin_of
from kps.protocol.limits import ClientLimits
from kps.protocol.server.config import HubConfig
from kps.protocol.server.events import RelayRequested
from kps.protocol.server.hub import Hub
from kps.protocol.wire.client_handshake import KEY_SIZE, ClientWebSocket
from kps.protocol.wire.frames import Masker
from kps.protocol.wire.outbox import Kind, control
from kps.protocol.wire.websocket import ClosedBy, Output
from kps.testing.network import ManualClock, split
from kps.testing.vectors import messages_in

_VECTORS_SERVER = HubConfig(
    id="refserver", permissions=replace(OPEN, relay=ALL), history=(History("kept/**", size=5),)
)


class MemoryTarget:
    """A server in memory for :func:`run_vector`, whose time is set by hand.

    ``sizes`` splits what passes into pieces, as for a :class:`Link`.
    """

    address = "localhost:9313"

    def __init__(self, config: HubConfig | None = None, *, sizes: Sequence[int] = ()) -> None:
        self.clock = ManualClock()
        self.sizes = sizes
        self.random = Random(0)
        self.hub = Hub(
            config or _VECTORS_SERVER,
            new_id=lambda: f"generated-{self.random.getrandbits(48):012x}",
            now=self.clock.now,
        )
        self.hub.addresses.add(self.address)
        self._masker = Masker(self.random.randbytes)
        self._clients: dict[str, _RawClient] = {}

    def open(self, client: str) -> None:
        self._clients[client] = self._new_client()
        self._run()

    def send_text(self, client: str, text: str) -> None:
        self.send_raw(client, self._masker.text_frame(text.encode()))

    def send_binary(self, client: str, data: bytes) -> None:
        frame = self._masker.text_frame(data)
        self.send_raw(client, b"\x82" + frame[1:])

    def send_raw(self, client: str, data: bytes) -> None:
        self._clients[client].socket.queue(control(data), self.clock.now)
        self._run()

    def close(self, client: str) -> None:
        self._clients[client].socket.close(1000, "", self.clock.now)
        self._run()

    def drop(self, client: str) -> None:
        self._clients[client].end()
        self._run()

    def receive(self, client: str, count: int) -> list[str | int]:
        inbox = self._clients[client].inbox
        received = list(inbox)
        inbox.clear()
        return received

    def wait(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while (due := self.hub.next_deadline()) is not None and due <= end:
            self.clock.now = max(self.clock.now, due)
            self.hub.handle_timeout(self.clock.now)
            self._run()
        self.clock.now = end

    def _run(self) -> None:
        """Move bytes and handle events until nothing moves any more."""
        moved = True
        while moved:
            moved = False
            for client in list(self._clients.values()):
                moved = client.transfer() or moved
            for event in self.hub.events():
                if isinstance(event, RelayRequested):
                    self._relay(event)
                    moved = True
            if self.hub.state.turns.are_due:
                self.hub.handle_timeout(self.clock.now)
                moved = True
            self.hub.take_unflushed()

    def _new_client(self) -> "_RawClient":
        return _RawClient(self.hub, self.address, self._masker, self.clock, self.sizes)

    def _relay(self, request: RelayRequested) -> None:
        """Pass a message to another server: to this one, the only one in this memory."""
        error: str | None = "connection refused"
        target = request.target
        if target.address == self.address:
            error = None
            path = self.hub.config.path
            origin = origin_of(self.address, path, secure=False, client_id=request.sender)
            relay = self._new_client()
            relay.transfer()
            for message in (
                level1.ping("relay"),
                level1.server_to_server(target.address, target.proxied, origin, request.data),
            ):
                relay.socket.send(message, Kind.FORWARDED, self.clock.now)
            relay.socket.close(1000, "", self.clock.now)
            while relay.transfer():
                pass
        self.hub.relay_finished(request.session, request.to, error, self.clock.now)


class _RawClient:
    """A WebSocket in memory without a client's mind: what is sent and received is JSON text."""

    def __init__(
        self, hub: Hub, host: str, masker: Masker, clock: ManualClock, sizes: Sequence[int]
    ) -> None:
        # It takes whatever comes: judging the server is for others.
        limits = ClientLimits(max_message=1 << 30, queue_bytes=1 << 30)
        self.socket = ClientWebSocket(
            host=host,
            target=hub.config.path,
            headers=[],
            key=bytes(KEY_SIZE),
            text_frame=masker.text_frame,
            limits=limits,
            now=clock.now,
        )
        self.session = hub.connect("memory:0", clock.now)
        self.inbox: list[str | int] = []
        self._clock = clock
        self._sizes = sizes
        self._alive = True

    def transfer(self) -> bool:
        """Move what waits, in both directions; tell whether anything moved."""
        if not self._alive:
            return False
        now = self._clock.now
        up = self.socket.data_to_send()
        for piece in split(up, self._sizes):
            self.session.receive_data(piece, now)
        down = self.session.data_to_send()
        for piece in split(down, self._sizes):
            self.socket.feed(piece, now)
            while texts := self.socket.read(now):
                for text in texts:
                    self.inbox += messages_in(text.decode())
        if up or down:
            return True
        if self.socket.output is Output.KEEP and self.session.output is Output.KEEP:
            return False
        self.end()
        assert self.socket.closed is not None
        if self.socket.closed.by is not ClosedBy.LOCAL:
            self.inbox.append(self.socket.closed.code)
        return True

    def end(self) -> None:
        """End the transport; both ends notice."""
        self._alive = False
        self.socket.connection_lost(self._clock.now)
        self.session.connection_lost(self._clock.now)
