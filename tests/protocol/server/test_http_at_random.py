"""Requests over HTTP in any order, with any verdicts of hooks: no fault, and nothing is left."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from kps.errors import Refused
from kps.protocol.access.identity import Identity, NoIdentity, Permissions
from kps.protocol.bus.history import History
from kps.protocol.limits import Overflow
from kps.protocol.server.events import (
    ConnectRequested,
    SessionFailed,
    SubscriptionRequested,
    TokenPresented,
    UpgradeRequested,
)
from kps.protocol.server_limits import RatePolicy, ServerLimits
from kps.protocol.wire.http import HttpResponse
from tests.protocol.helpers import Stage, request
from tests.protocol.server.http_face import HOST, Asker, request_with

LIMITS = st.builds(
    ServerLimits,
    message_rate=st.sampled_from([0.0, 2.0]),
    rate_policy=st.sampled_from(RatePolicy),
    queue_bytes=st.sampled_from([3000, 10**6]),
    overflow=st.sampled_from(Overflow),
    max_connections=st.sampled_from([5, 1000]),
    handshake_timeout=st.just(2.0),
    heartbeat_interval=st.just(2.0),
    heartbeat_timeout=st.just(2.0),
    close_timeout=st.just(1.0),
)
HOOKS = st.sets(st.sampled_from(["asks_upgrade", "asks_token", "asks_connect"]), max_size=2)
TARGETS = st.sampled_from(
    [
        "/publish?topic=t",
        "/publish?topic=h/a&receipt=1",
        "/publish?topic=t&ack=1",
        "/publish?to=eve",
        "/request?topic=t&timeout=1",
        "/request?to=eve",
    ]
)
STREAMS = st.sampled_from(
    ["topic=t", "topic=t&id=eve", "topic=h/a&last=3", "topic=h/a&topic=t", "pattern=**&since=1%40e"]
)
BODIES = st.sampled_from([b"1", b'"' + 1500 * b"y" + b'"', b"x", b""])
HEADERS = st.lists(
    st.sampled_from(
        [
            ("Idempotency-Key", "k"),
            ("Authorization", "Bearer x"),
            ("Expect", "100-continue"),
            ("Origin", "http://localhost:9313"),
            ("Content-Type", "text/plain"),
        ]
    ),
    unique=True,
)
VERDICTS = st.sampled_from(
    [
        True,
        False,
        Identity("ann"),
        Identity("bob", Permissions(publish=["h/**"], subscribe=["h/*"])),
        Identity("eve", lifetime=1.0),
        HttpResponse.text(403, "no"),
        Refused("no"),
        NoIdentity("no"),
    ]
)


class World:
    """A server, and those who have asked it something."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        history = (History("h/**", size=5),)
        hooks = dict.fromkeys(self.draw(HOOKS), True)
        self.stage = Stage(limits=self.draw(LIMITS), history=history, **hooks)
        self.askers: list[tuple[Asker, bytes]] = []
        """With what each of them has still to send."""
        self.questions: list[tuple[Callable[[int, object, float], None], int]] = []

    def ask(self) -> None:
        data = request_with(self.draw(TARGETS), self.draw(BODIES), self.draw(HEADERS))
        self._begin(data, self.draw(st.sampled_from([len(data), len(data) - 1, 40])))

    def listen(self) -> None:
        data = request(f"/sse?{self.draw(STREAMS)}", headers=[HOST, *self.draw(HEADERS)])
        self._begin(data, len(data))

    def _begin(self, data: bytes, size: int) -> None:
        asker = Asker(self.stage.hub, self.stage.clock)
        asker.feed(data[:size])
        self.askers.append((asker, data[size:]))

    def go_on(self) -> None:
        if self.askers:
            asker, rest = self.askers.pop(0)
            asker.read()
            asker.feed(rest)
            self.askers.append((asker, b""))

    def leave(self) -> None:
        if self.askers:
            self._gone(self.askers.pop()[0])

    def _gone(self, asker: Asker) -> None:
        asker.connection.connection_lost(self.stage.clock.now)

    def answer(self) -> None:
        if self.questions:
            tell, session = self.questions.pop(0)
            tell(session, self.draw(VERDICTS), self.stage.clock.now)

    def wait(self) -> None:
        self.stage.advance(self.draw(st.sampled_from([5.0, 1.0, 0.1])))

    def publish(self) -> None:
        self.stage.hub.publish("h/a", "z" * 1000, self.stage.clock.now)

    def note(self) -> None:
        """See what the server asks its program, and that nothing has failed."""
        for event in self.stage.hub.events():
            assert not isinstance(event, SessionFailed), event
            if isinstance(event, UpgradeRequested):
                self.questions.append((self.stage.hub.decide, event.session))
            elif isinstance(event, (ConnectRequested, SubscriptionRequested, TokenPresented)):
                self.questions.append((self.stage.hub.judge, event.session))

    def end(self) -> None:
        stage = self.stage
        stage.hub.shutdown(1.0, stage.clock.now)
        for asker, _ in self.askers:
            asker.read()
            self._gone(asker)
        stage.advance(1000.0)
        stage.finish()


STEPS = (
    World.ask,
    World.listen,
    World.go_on,
    World.leave,
    World.answer,
    World.wait,
    World.publish,
)


@given(st.data())
def test_no_fault_and_nothing_is_left(data: st.DataObject) -> None:
    world = World(data)
    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=10, max_size=60)):
        step(world)
        world.stage.finish()
        world.note()
    world.end()
    world.note()
    hub = world.stage.hub
    assert (hub.connections, hub.clients, len(hub.state.bus)) == ({}, {}, 0)
    assert not list(hub.state.acks.owners())
    assert hub.state.admission._by_origin == {}
