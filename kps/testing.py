"""What tests of programs that use KPS need: a bus in memory, and time that is set by hand.

Nothing here uses a socket, sleeps or reads a clock, and pytest is not needed::

    network = Network()
    alice, bob = network.client("alice"), network.client("bob")
    mailbox = bob.session.subscribe("news", network.clock.now)
    network.run()
    alice.session.publish("news", "hello", network.clock.now)
    network.run()
    assert mailbox.take().data == "hello"
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, NoReturn, Protocol

from kps.errors import ConnectFailed
from kps.protocol import level1
from kps.protocol.access import ALL, OPEN
from kps.protocol.backoff import Backoff
from kps.protocol.client_session import ClientConfig, ClientSession
from kps.protocol.endpoint import Endpoint
from kps.protocol.events import ClientEvent, ConnectNeeded, HubEvent, RelayRequested
from kps.protocol.frames import Masker
from kps.protocol.hub import Hub, HubConfig
from kps.protocol.limits import Limits
from kps.protocol.relay import origin_of
from kps.protocol.server_session import ServerSession
from kps.protocol.websocket import ClientWebSocket, ClosedBy, Output


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


class Link:
    """A transport in memory between two endpoints.

    ``cut`` breaks it as a network does; ``stalled`` lets nothing through, as ends that do not
    read; ``swallows`` takes everything and loses it, as a router does in front of a dead host;
    ``sizes`` splits what passes into pieces.
    """

    def __init__(self, client: Endpoint, server: Endpoint, clock: ManualClock) -> None:
        self.client = client
        self.server = server
        self.sizes: Sequence[int] = ()
        self.stalled = False
        self.swallows = False
        self.alive = True
        self.server_is_due = True
        """Whether the server has something for its end to do. As a driver does, nobody looks
        at the server's end otherwise."""
        self._clock = clock

    def transfer(self) -> bool:
        """Move what waits, in both directions; tell whether anything moved."""
        if not self.alive:
            return False
        moved = self._move(self.client, self.server)
        if self.alive and self.server_is_due:
            self.server_is_due = self._move(self.server, self.client) or self.stalled
            moved = moved or self.server_is_due
        return moved and not (self.stalled and self.alive)

    def cut(self) -> None:
        """Break the connection; both ends notice."""
        if self.alive:
            self.alive = False
            self.client.connection_lost(self._clock.now)
            self.server.connection_lost(self._clock.now)

    def _move(self, source: Endpoint, target: Endpoint) -> bool:
        data = b"" if self.stalled else source.data_to_send()
        for piece in split(b"" if self.swallows else data, self.sizes):
            target.receive_data(piece, self._clock.now)
        output = source.output
        is_deaf = self.stalled or self.swallows
        if output is Output.KEEP or (is_deaf and output is not Output.ABORT):
            return bool(data)
        if output is Output.HALF_CLOSE:
            before = target.output
            target.receive_eof(self._clock.now)
            return bool(data) or target.output is not before
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
        limits: Limits | None = None,
        clock: ManualClock | None = None,
        seed: int = 0,
    ) -> None:
        self.clock = clock or ManualClock()
        self.random = Random(seed)
        self.limits = limits or Limits()
        self.reachable = True
        self.clients: list[MemoryClient] = []
        self.links: list[Link] = []
        self._by_session: dict[ServerSession, Link] = {}
        self.hub_events: list[HubEvent] = []
        """Everything that the hub emitted, in order."""
        self._config = replace(config or HubConfig(id="server"), limits=self.limits)
        self.hub = self._new_hub()

    def client(self, client_id: str, *, reconnect: Backoff | None = None) -> MemoryClient:
        """Add a client and let it register."""
        return self.client_with(
            ClientConfig(id=client_id, host="memory", reconnect=reconnect, limits=self.limits)
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
        session = self.hub.connect("memory:0", now)
        link = Link(client.session.connected(now), session, self.clock)
        client.link = link
        client.links += 1
        self.links.append(link)
        self._by_session[session] = link

    def run(self) -> None:
        """Move bytes and handle events until nothing moves any more."""
        moved = True
        while moved:
            moved = False
            for client in self.clients:
                moved = client.take() or moved
            self.hub_events += self.hub.events()
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


# -- vectors: what a server must answer, as data -----------------------------------------


@dataclass(frozen=True, slots=True)
class Vector:
    """One exchange with a server. ``spec/README.md`` explains the steps."""

    name: str
    steps: Sequence[Mapping[str, Any]]
    clauses: tuple[str, ...] = ()
    """What it shows: clauses of ``spec/PROTOCOL.md``."""


class VectorFailure(AssertionError):
    """A server did not answer as a vector says."""


class _Unplayable(Exception):
    """A step that cannot be done: the vector is at fault."""


class VectorTarget(Protocol):
    """A server under test, as :func:`run_vector` reaches it.

    :class:`MemoryTarget` is one; for a server behind a socket any WebSocket client
    makes another. ``client`` is always a name that the vector chose.
    """

    @property
    def address(self) -> str:
        """``host:port`` of the server, as its clients have it in their ``Host`` header."""

    def open(self, client: str) -> None:
        """Connect and do the opening handshake, and no more."""

    def send_text(self, client: str, text: str) -> None:
        """Send a text message."""

    def send_binary(self, client: str, data: bytes) -> None:
        """Send a binary message."""

    def send_raw(self, client: str, data: bytes) -> None:
        """Put bytes on the connection as they are: frames that a library would not make."""

    def close(self, client: str) -> None:
        """Close with code 1000, and wait for the end of the handshake."""

    def drop(self, client: str) -> None:
        """End the TCP connection without a close frame."""

    def receive(self, client: str, count: int) -> list[str | int]:
        """Take what arrived since the last call, once it is certain that this is all.

        That is: the server has handled whatever any client sent, and its messages have
        arrived. Where these are fewer than ``count``, wait for the missing ones for a
        reasonable time. Returns the texts of the messages in order, those of an array one by
        one (see :func:`messages_in`), and behind them the close code if the
        server has closed the connection (1006 when there was no close frame).
        """

    def wait(self, seconds: float) -> None:
        """Let time pass on the server."""


def load_vectors(path: Path | str) -> list[Vector]:
    """Read a file of vectors, or all files of a directory."""
    path = Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    vectors: list[Vector] = []
    for file in files:
        # The standard library's reader keeps integers of any size exact.
        for item in json.loads(file.read_text(encoding="utf-8"))["vectors"]:
            clause = item["clause"]
            clauses = (clause,) if isinstance(clause, str) else tuple(clause)
            vectors.append(Vector(item["name"], item["steps"], clauses))
    return vectors


def messages_in(text: str) -> list[str]:
    """The messages in one WebSocket message: its text, or those of the array that it holds."""
    if not text.startswith("["):
        return [text]
    return [json.dumps(message, ensure_ascii=False) for message in json.loads(text)]


def run_vector(vector: Vector, target: VectorTarget) -> None:
    """Hold a server to a vector. Raises :class:`VectorFailure`, which tells all."""
    names = _Names(target.address)
    present: dict[str, None] = {}
    for number, step in enumerate(vector.steps, 1):
        try:
            complaint = _run_step(step, target, names, present)
        except _Unplayable as error:
            complaint = str(error)
        if complaint:
            shown = json.dumps(step, ensure_ascii=False)
            raise VectorFailure(f"{vector.name!r}, step {number}: {shown}\n{complaint}")
    for client in present:
        complaint = _compare([], target.receive(client, 0), names)
        if complaint:
            raise VectorFailure(f"{vector.name!r}, after the last step, {client!r}:\n{complaint}")


def _run_step(
    step: Mapping[str, Any], target: VectorTarget, names: "_Names", present: dict[str, None]
) -> str:
    """Do one step; return what is wrong with the outcome, or nothing."""
    concerned = step.get("client") or step.get("close") or step.get("drop")
    if concerned and concerned not in present:
        raise _Unplayable(f"{concerned!r} has no connection")
    match step:
        case {"open": str(client), **options}:
            target.open(client)
            present[client] = None
            if options.get("registered"):
                ping, pong = _greeting(client, options.get("level", 1))
                target.send_text(client, json.dumps(ping))
                return _compare([pong], target.receive(client, 1), names)
        case {"close": str(client)}:
            target.close(client)
            del present[client]
        case {"drop": str(client)}:
            target.drop(client)
            del present[client]
        case {"client": str(client), "send": message}:
            target.send_text(client, json.dumps(names.fill(message), ensure_ascii=False))
        case {"client": str(client), "send_text": text}:
            target.send_text(client, names.fill(_spell_out(text)))
        case {"client": str(client), "send_binary": text}:
            target.send_binary(client, names.fill(_spell_out(text)).encode())
        case {"client": str(client), "send_raw": str(digits)}:
            target.send_raw(client, bytes.fromhex(digits))
        case {"client": str(client), "receives": list(expected)}:
            return _compare(expected, target.receive(client, len(expected)), names)
        case {"wait_s": int() | float() as seconds}:
            target.wait(seconds)
        case _:
            raise _Unplayable("there is no such step")
    return ""


def _greeting(client: str, level: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ``ping`` that registers a client, and the ``pong`` that it is answered with."""
    ping: dict[str, Any] = {"action": "ping", "from": client}
    pong: dict[str, Any] = {"action": "pong", "id": client}
    if level > 1:
        limits = Limits()
        ping["proto"] = pong["proto"] = level
        pong["limits"] = {
            "max_message": limits.max_message,
            "heartbeat": limits.heartbeat_interval,
        }
    return ping, pong


def _spell_out(text: str | list[list[Any]]) -> str:
    """A text, or the one that pairs of a piece and how often it comes stand for."""
    return text if isinstance(text, str) else "".join(piece * times for piece, times in text)


def _compare(expected: Sequence[Any], received: Sequence[str | int], names: "_Names") -> str:
    """What is wrong with the messages of one client; nothing if all is well."""
    complaints: list[str] = []
    if len(expected) != len(received):
        complaints.append(f"{len(received)} messages instead of {len(expected)}")
    for number, (wanted, got) in enumerate(zip(expected, received, strict=False)):
        complaint = _compare_message(wanted, got, names)
        if complaint:
            complaints.append(f"[{number}]{complaint}")
    if not complaints:
        return ""
    shown = json.dumps(expected, ensure_ascii=False)
    got_all = "\n            ".join(map(_show, received)) or "nothing"
    known = f"\n  names:    {names.bound}" if names.bound else ""
    wrong = "\n".join(f"  {complaint}" for complaint in complaints)
    return f"{wrong}\n  expected: {shown}\n  received: {got_all}{known}"


def _show(received: str | int) -> str:
    return received if isinstance(received, str) else f"closed with code {received}"


def _compare_message(expected: Any, received: str | int, names: "_Names") -> str:
    if isinstance(received, int):
        code = None if received == 1006 else received
        same = isinstance(expected, dict) and expected.get("$closed", 0) == code
        return "" if same else f": {_show(received)}"
    try:
        message = json.loads(received, parse_constant=_refuse_constant)
    except ValueError as error:
        return f" is not JSON: {error}"
    return _difference(expected, message, names, "", in_order=False)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _difference(expected: Any, actual: Any, names: "_Names", path: str, *, in_order: bool) -> str:
    """Where a JSON value is not what it should be; nothing if it is."""
    if isinstance(expected, dict) and list(expected) == ["$in_order"]:
        return _difference(expected["$in_order"], actual, names, path, in_order=True)
    if isinstance(expected, dict) and isinstance(actual, dict):
        if missing := [key for key in expected if key not in actual]:
            return f"{path}: lacks {missing}"
        if extra := [key for key in actual if key not in expected]:
            return f"{path}: has {extra} besides"
        if in_order and list(expected) != list(actual):
            return f"{path}: keys in the order {list(actual)} instead of {list(expected)}"
        keys: list[Any] = list(expected)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return f"{path}: {len(actual)} elements instead of {len(expected)}"
        keys = list(range(len(expected)))
    elif isinstance(expected, str) and isinstance(actual, str):
        same = names.match(expected, actual)
        return "" if same else f"{path}: {actual!r} instead of {expected!r}"
    else:
        # Numbers are equal by value, however they are written; true is not 1.
        numbers = _is_number(expected) and _is_number(actual)
        same = (numbers or type(expected) is type(actual)) and expected == actual
        return "" if same else f"{path}: {actual!r} instead of {expected!r}"
    for key in keys:
        inner = f"{path}[{key!r}]"
        difference = _difference(expected[key], actual[key], names, inner, in_order=in_order)
        if difference:
            return difference
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class _Names:
    """The placeholders of a vector, and what they have been found to stand for."""

    _PLACEHOLDER = re.compile(r"\$(?:ack\d+|generated|address|n|text)(?![a-z0-9])")

    def __init__(self, address: str) -> None:
        self.bound = {"$address": address}

    def fill(self, value: Any) -> Any:
        """Put in what the placeholders stand for, at any depth of a JSON value."""
        if isinstance(value, str):
            return self._PLACEHOLDER.sub(lambda found: self._known(found.group()), value)
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return value

    def match(self, expected: str, actual: str) -> bool:
        """Compare a string with a text that came, and learn from it what is not yet known."""
        pattern = ""
        position = 0
        unknown: list[str] = []
        for found in self._PLACEHOLDER.finditer(expected):
            name = found.group()
            pattern += re.escape(expected[position : found.start()])
            position = found.end()
            if name == "$n":
                pattern += r"\d+"
            elif name == "$text":
                pattern += ".+"
            elif name in self.bound:
                pattern += re.escape(self.bound[name])
            else:
                pattern += "(.+)"
                unknown.append(name)
        result = re.fullmatch(pattern + re.escape(expected[position:]), actual, re.DOTALL)
        if result is None or not set(self.bound.values()).isdisjoint(result.groups()):
            return False  # ids of different names are different
        self.bound.update(zip(unknown, result.groups(), strict=True))
        return True

    def _known(self, name: str) -> str:
        if name not in self.bound:
            raise _Unplayable(f"{name} is not known yet")
        return self.bound[name]


_VECTORS_SERVER = HubConfig(id="refserver", permissions=replace(OPEN, relay=ALL))


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
        self._clients[client].socket.queue(data, self.clock.now)
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
                relay.socket.send(message, self.clock.now)
            relay.socket.close(1000, "", self.clock.now)
            while relay.transfer():
                pass
        self.hub.relay_finished(request, error, self.clock.now)


class _RawClient:
    """A WebSocket in memory without a client's mind: what is sent and received is JSON text."""

    def __init__(
        self, hub: Hub, host: str, masker: Masker, clock: ManualClock, sizes: Sequence[int]
    ) -> None:
        # It takes whatever comes: judging the server is for others.
        limits = replace(hub.limits, max_message=1 << 30, queue_bytes=1 << 30)
        self.socket = ClientWebSocket(
            host=host,
            target=hub.config.path,
            headers=[],
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
            for text in self.socket.receive_data(piece, now):
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
