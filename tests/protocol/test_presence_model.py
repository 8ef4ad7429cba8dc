"""One client observes a topic, whatever the others do: what it was told leads to what is so."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.members import Presence, check_wish
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.events import PresenceChanged
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.envelope import compose
from kps.protocol.limits import ClientLimits
from kps.protocol.server_limits import ServerLimits
from kps.testing.network import Network
from tests.protocol.helpers import Peer, close_frame, dismiss

GRACE = 2.0
MOST = 5
FOR_EVER = 1e6
ALL_NAMES = "abcdefgh"
NAMES = st.sampled_from(ALL_NAMES)
INFOS = st.sampled_from([None, {}, {"x": 1}, {"x": [2, "é"]}])
MOMENTS = st.sampled_from([0.11, 0.0, 0.03, 1.1, GRACE - 0.1, GRACE + 0.2])
LEVELS = st.sampled_from([2, 2, 2, 1])
WAYS = st.sampled_from(["unsubscribe", "lost", "dismissed", 1000, 1001])

Members = dict[str, Any]


class Person:
    """A peer, and what the story knows of it."""

    def __init__(self, network: Network, name: str, level: int) -> None:
        network.run()  # first: the peer begins a new turn of the server
        self.peer = Peer(network.hub, network.clock).upgrade()
        self.level = level
        self.info: Any = None
        self.is_member = False
        self.tell({"action": "ping", "from": name, "proto": level}, "pong")

    @property
    def is_there(self) -> bool:
        return not self.peer.session.gate.is_over

    def join(self, info: Any) -> None:
        """Subscribe, or say something else."""
        asked = {} if info is None else {"info": info}
        self.tell({"action": "subscribe", "topic": "room", **asked}, "subscribed")
        self.is_member = True
        if self.level == 2 and info is not None:
            self.info = info or None

    def leave(self) -> None:
        self.tell({"action": "unsubscribe", "topic": "room"}, "unsubscribed")
        self.is_member, self.info = False, None

    def tell(self, message: dict[str, Any], expected: str) -> None:
        self.peer.send(message)
        assert expected in [answer["action"] for answer in self.peer.take()]


class Observing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        limits = ServerLimits(
            heartbeat_interval=FOR_EVER,
            presence_grace=GRACE,
            max_members=MOST,
            queue_bytes=40_000,
        )
        self.network = Network(limits=limits)
        self.eye = self.network.client_with(
            ClientConfig(
                id="eye",
                host="memory",
                reconnect=Backoff.every(0.5),
                limits=ClientLimits(heartbeat_interval=FOR_EVER),
            )
        )
        self.people: list[Person] = []
        self.programs: list[Mailbox] = []
        self.info_of_program: Any = None
        self.observing: Mailbox | None = None
        self.seen: Members | None = {}
        self.version = 0
        self._events = 0

    @property
    def now(self) -> float:
        return self.network.clock.now

    def there(self) -> list[Person]:
        self.people = [person for person in self.people if person.is_there]
        return self.people

    def members(self) -> Members:
        """Who is subscribed to the topic, as the story knows it."""
        members = {
            person.peer.session.id: person.info for person in self.there() if person.is_member
        }
        if self.programs:
            members["server"] = self.info_of_program
        if self.eye.session.ready:
            members["eye"] = None
        return members

    # -- the others -----------------------------------------------------------------------------

    @rule(name=NAMES, level=LEVELS, info=INFOS, seconds=MOMENTS)
    def come(self, name: str, level: int, info: Any, seconds: float) -> None:
        """Connect, perhaps again, and subscribe: whoever has the id must go."""
        person = Person(self.network, name, level)
        self.people.append(person)
        person.join(info)
        self.wait(seconds)

    @rule(count=st.integers(1, len(ALL_NAMES)), info=INFOS, seconds=MOMENTS)
    def come_together(self, count: int, info: Any, seconds: float) -> None:
        for name in ALL_NAMES[:count]:
            self.come(name, 2, info, 0.0)
        self.wait(seconds)

    @rule(name=NAMES)
    def connect(self, name: str) -> None:
        """Come, and subscribe to nothing."""
        self.people.append(Person(self.network, name, 2))

    @rule(data=st.data(), info=INFOS, seconds=MOMENTS)
    def join(self, data: st.DataObject, info: Any, seconds: float) -> None:
        """Subscribe, or say something else about oneself."""
        person = self.pick(data)
        if person is not None:
            person.join(info)
            self.wait(seconds)

    @rule(data=st.data(), name=NAMES, seconds=MOMENTS)
    def rename(self, data: st.DataObject, name: str, seconds: float) -> None:
        person = self.pick(data)
        if person is not None:
            person.tell({"action": "ping", "from": name}, "pong")
            self.wait(seconds)

    @rule(data=st.data(), way=WAYS, seconds=MOMENTS)
    def go(self, data: st.DataObject, way: object, seconds: float) -> None:
        person = self.pick(data)
        if person is not None:
            self.end(person, way)
            self.wait(seconds)

    @rule(share=st.integers(1, 3), way=WAYS, seconds=MOMENTS)
    def go_together(self, share: int, way: object, seconds: float) -> None:
        for person in self.there()[::share]:
            self.end(person, way)
        self.wait(seconds)

    @rule(data=st.data(), info=INFOS, seconds=MOMENTS)
    def come_back(self, data: st.DataObject, info: Any, seconds: float) -> None:
        """Lose the connection, and be there again in time, or too late."""
        person = self.pick(data)
        if person is not None:
            name = person.peer.session.id
            self.end(person, "lost")
            self.wait(seconds)
            self.come(name, person.level, info, 0.0)

    def end(self, person: Person, way: object) -> None:
        """Let somebody leave: the topic, or altogether, in one of several ways."""
        match way:
            case "unsubscribe":
                person.leave()
            case "lost":
                person.peer.connection.connection_lost(self.now)
            case "dismissed":
                assert dismiss(self.network.hub, person.peer.session.id, "", self.now)
            case code:
                assert isinstance(code, int)
                person.peer.feed(close_frame(code))

    @rule(info=INFOS)
    def program_joins(self, info: Any) -> None:
        self.network.hub.state.now = self.now
        written = None if info is None else compose(info)
        self.programs.append(self.network.hub.local.subscribe("room", written))
        if info is not None or len(self.programs) == 1:
            self.info_of_program = info or None

    @precondition(lambda self: self.programs)
    @rule()
    def program_leaves(self) -> None:
        self.network.hub.state.now = self.now
        self.network.hub.local.unsubscribe(self.programs.pop())

    def pick(self, data: st.DataObject) -> Person | None:
        people = self.there()
        return data.draw(st.sampled_from(people)) if people else None

    # -- the observer ---------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """It is a member from the beginning, and observes the topic but now and then."""
        self.eye.session.subscribe("room", self.now)
        self.look()

    def look(self) -> None:
        def callback(presence: Presence) -> None:
            raise AssertionError("the driver would call it")

        wish = check_wish("room", None, callback)
        self.observing = self.eye.session.subscribe("room", self.now, wish=wish, observer=callback)
        self.seen, self.version = {}, 0
        self.network.run()

    @rule(seconds=MOMENTS)
    def look_away(self, seconds: float) -> None:
        assert self.observing is not None
        self.eye.session.unsubscribe(self.observing, self.now)
        self.observing = None
        self.come("a", 2, None, seconds)
        self.follow()
        self.look()

    @rule()
    def blink(self) -> None:
        """It loses its connection, and has another one soon."""
        if self.eye.link is not None:
            self.eye.link.cut()
        self.network.run()

    @rule(
        size=st.sampled_from([0, 11_000, 60_000]),
        count=st.integers(1, len(ALL_NAMES)),
        seconds=MOMENTS,
        way=WAYS,
    )
    def read_nothing(self, size: int, count: int, seconds: float, way: object) -> None:
        """Read late what has happened. What else waits for it leaves little room, or none."""
        assert self.eye.link is not None
        self.eye.link.stalled = True
        self.network.hub.publish_to_id("eye", "x" * size, self.now)
        self.come_together(count, None, seconds)
        self.go_together(2, way, seconds)
        self.eye.link.stalled = False
        self.wait(seconds)

    # -- time -----------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        self.network.advance(seconds)

    @rule()
    def rest(self) -> None:
        """After a while all is told."""
        self.wait(GRACE + 3.0)
        self.follow()
        members = self.members()
        bus, local = self.network.hub.state.bus, self.network.hub.local
        assert {one.id for one in bus.own_subscribers("room")} == members.keys()
        for known in self.known(local.presence("room")):
            assert known == (members, len(members))
        assert self.eye.session.is_confirmed("room")
        if self.seen is not None:
            assert self.seen == members
            assert len(members) <= MOST
        else:
            assert len(members) * 2 > MOST

    def known(self, presence: Presence) -> list[tuple[Members, int]]:
        return [] if presence.members is None else [(presence.members, presence.count)]

    @invariant()
    def follow(self) -> None:
        """Each change leads from what was known before to what is known then."""
        for person in self.there():
            person.peer.take()
        self.network.run()
        events = self.eye.events[self._events :]
        self._events += len(events)
        for event in events:
            if isinstance(event, PresenceChanged):
                assert self.observing is not None
                self.check(event.presence)

    def check(self, presence: Presence) -> None:
        assert presence.topic == "room"
        assert presence.version is not None
        assert presence.version >= self.version
        before, now = self.seen, presence.members
        self.seen, self.version = now, presence.version
        if now is None:
            assert (presence.joined, presence.updated, presence.left) == ({}, {}, {})
            return
        assert presence.count == len(now)
        before = before or {}
        both = before.keys() & now.keys()
        assert presence.joined == {name: now[name] for name in now.keys() - before.keys()}
        assert presence.updated == {n: now[n] for n in both if now[n] != before[n]}
        assert presence.left.keys() == before.keys() - now.keys()
        assert set(presence.left.values()) <= {
            "unsubscribed", "closed", "lost", "replaced", "renamed", "unknown",
        }  # fmt: skip

    def teardown(self) -> None:
        self.rest()
        for person in self.there():
            person.peer.connection.connection_lost(self.now)
        while self.programs:
            self.program_leaves()
        self.eye.session.close(self.now)
        self.wait(GRACE + 0.1)
        presence = self.network.hub.state.presence
        assert (presence._rosters, presence._infos) == ({}, {})


TestObserving = Observing.TestCase
TestObserving.settings = settings(stateful_step_count=40)
