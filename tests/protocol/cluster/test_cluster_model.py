"""Random programs on several nodes with faults, checked against what a cluster promises.

Order, at most once, one outcome for each that was asked, one holder of an id once every split has
healed; and when everybody has left, nothing is kept.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.history import History
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.slices import AT_ONCE
from kps.protocol.client.events import Disconnected, Ended
from kps.protocol.dialect.places import Position, Start
from kps.protocol.dialect.requests import Demands
from kps.protocol.patterns import InGroup, Key, Pattern
from kps.protocol.server.config import HubConfig
from kps.testing.cluster import MemoryCluster
from kps.testing.network import MemoryClient

_ENDS = (Disconnected, Ended)
NODES = ("n1", "n2", "n3")
STORES = NODES[:2]
"""Nodes that go on with what they have kept when they are started again."""
IDS = ("a", "b", "c", "d")
TOPICS = ("t", "u", "kept")
KEYS: tuple[Key, ...] = (
    "t",
    "u",
    "kept",
    Pattern("*"),
    InGroup("t", "g"),
    InGroup(Pattern("**"), "h"),
)

node = st.sampled_from(NODES)
client_id = st.sampled_from(IDS)
key = st.sampled_from(KEYS)
topic = st.sampled_from(TOPICS)

OPERATIONS = st.one_of(
    st.tuples(st.just("connect"), client_id, node),
    st.tuples(st.just("compete"), client_id, st.lists(node, min_size=3, max_size=4), node, node),
    st.tuples(st.just("move"), client_id, node),
    st.tuples(st.just("leave"), client_id),
    st.tuples(st.just("break"), client_id),
    st.tuples(st.just("subscribe"), client_id, key),
    st.tuples(st.just("subscribe"), client_id, key),
    st.tuples(st.just("unsubscribe"), client_id, key),
    st.tuples(st.just("publish"), client_id, topic),
    st.tuples(st.just("publish"), client_id, topic),
    st.tuples(st.just("ask"), client_id, topic, st.sampled_from([0, 2])),
    st.tuples(st.just("ask"), client_id, topic, st.sampled_from([0, 2])),
    st.tuples(st.just("ask_id"), client_id, client_id),
    st.tuples(st.just("receipt"), client_id, topic),
    st.tuples(st.just("handle"), client_id, st.sampled_from([None, None, "failed"])),
    st.tuples(st.just("publish_many"), client_id, st.lists(topic, min_size=2, max_size=4)),
    st.tuples(st.just("slow_down")),
    st.tuples(st.just("slow_down")),
    st.tuples(st.just("deliver"), st.lists(st.tuples(node, node), min_size=1, max_size=6)),
    st.tuples(st.just("deliver"), st.lists(st.tuples(node, node), min_size=1, max_size=6)),
    st.tuples(st.just("speed_up")),
    st.tuples(st.just("cut"), node, node),
    st.tuples(st.just("stall"), node, node),
    st.tuples(st.just("hold_back"), node, node),
    st.tuples(st.just("swallow"), node, node),
    st.tuples(st.just("mend"), node, node),
    st.tuples(st.just("kill"), node),
    st.tuples(st.just("stop"), node),
    st.tuples(st.just("retire"), node),
    st.tuples(st.just("say"), client_id, client_id),
    st.tuples(st.just("say"), client_id, client_id),
    st.tuples(st.just("start"), node),
    st.tuples(st.just("advance"), st.sampled_from([0.2, 1.1, 6.0])),
)


class Model:
    """Clients on a cluster, and what they have published and got."""

    def __init__(self) -> None:
        config = HubConfig(id="n", history=(History("kept", size=1000),))
        self.cluster = MemoryCluster(NODES, config=config, stores=STORES)
        self.sessions: list[MemoryClient] = []
        self.clients: dict[str, MemoryClient] = {}
        self.boxes: dict[tuple[str, Key], Mailbox] = {}
        self.direct: dict[str, Mailbox] = {}
        self.unhandled: dict[str, list[Any]] = defaultdict(list)
        self.handles: list[tuple[AckHandle, MemoryClient]] = []
        self.published = 0
        self.got: dict[tuple[int, Key], list[int]] = defaultdict(list)
        self.seen: dict[int, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.position: dict[str, Position] = {}
        """The place of the latest message with history, by client."""
        self.began: list[int] = []
        self.ended: dict[int, int] = {}
        """With which operation each session has begun, and ended."""
        self.operation = 0
        self.is_slow = False
        """Whether what nodes send to each other waits until ``deliver``."""
        self.latest_direct: dict[tuple[int, str], int] = defaultdict(int)
        self.by_member: dict[tuple[Key, int], int] = defaultdict(int)
        self.plain: set[int] = set()

    # -- operations -------------------------------------------------------------------------

    def connect(self, name: str, at: str) -> None:
        if not self.cluster[at].is_running:
            return
        self.forget(name)
        client = self.cluster[at].client(name)
        self.sessions.append(client)
        self.began.append(self.operation)
        self.clients[name] = client
        self.direct[name] = client.session.subscriptions.open_direct()
        self.run()

    def compete(self, name: str, places: list[str], one: str, other: str) -> None:
        """Take an id over again and again, while what a node sends to another one waits."""
        self.hold_back(one, other)
        for at in places:
            self.connect(name, at)
            self.advance(1.1)
        self.mend(one, other)

    def move(self, name: str, at: str) -> None:
        """Come to a node again, and go on in the history."""
        start = self.position.get(name)
        if self.cluster[at].is_running:
            self.leave(name)
            self.connect(name, at)
            client = self.ready(name)
            if client is not None:
                since = None if start is None else Start(start)
                self.boxes[name, "kept"] = client.session.subscribe("kept", self.now, since)
                self.run()

    def forget(self, name: str) -> None:
        self.clients.pop(name, None)
        self.unhandled.pop(name, None)
        self.direct.pop(name, None)
        for place in [place for place in self.boxes if place[0] == name]:
            del self.boxes[place]

    def leave(self, name: str) -> None:
        client = self.clients.get(name)
        if client is not None:
            client.session.close(self.now)
            self.run()
            self.forget(name)

    def break_(self, name: str) -> None:
        client = self.clients.get(name)
        if client is not None and client.link is not None:
            client.link.cut()
            self.run()
            self.forget(name)

    def subscribe(self, name: str, wanted: Key) -> None:
        client = self.ready(name)
        if client is not None and (name, wanted) not in self.boxes:
            self.boxes[name, wanted] = client.session.subscribe(wanted, self.now)
            self.run()

    def unsubscribe(self, name: str, wanted: Key) -> None:
        box = self.boxes.pop((name, wanted), None)
        if box is not None:
            self.clients[name].session.unsubscribe(box, self.now)
            self.run()

    def publish(self, name: str, on: str) -> None:
        client = self.ready(name)
        if client is not None:
            self.published += 1
            self.plain.add(self.published)
            client.session.publish(on, self.published, self.now)
            self.run()

    def publish_many(self, name: str, topics: list[str]) -> None:
        client = self.ready(name)
        if client is not None:
            for on in topics:
                self.published += 1
                self.plain.add(self.published)
                client.session.publish(on, self.published, self.now)
                self.cluster.run_within()  # or all of them would be one message between nodes
            self.run()

    def slow_down(self) -> None:
        self.is_slow = True

    def speed_up(self) -> None:
        self.is_slow = False
        self.run()

    def deliver(self, ways: list[tuple[str, str]]) -> None:
        """Deliver one chunk after the other that nodes have sent."""
        for one, other in ways:
            if one != other:
                self.cluster.deliver_next(one, other)
                self.run()

    def ask(self, name: str, on: str, retries: int) -> None:
        client = self.ready(name)
        if client is not None:
            self.published += 1
            handle = client.session.asking.publish_with_ack(
                on, self.published, 20.0, self.now, Demands(retries=retries)
            )
            self.handles.append((handle, client))
            self.run()

    def ask_id(self, name: str, to: str) -> None:
        client = self.ready(name)
        if client is not None:
            self.published += 1
            handle = client.session.asking.publish_to_id_with_ack(
                to, self.published, 20.0, self.now
            )
            self.handles.append((handle, client))
            self.run()

    def receipt(self, name: str, on: str) -> None:
        client = self.ready(name)
        if client is not None:
            self.published += 1
            self.plain.add(self.published)
            client.session.asking.publish_with_receipt(on, self.published, self.now)
            self.run()

    def handle(self, name: str, error: str | None) -> None:
        client = self.ready(name)
        if client is not None:
            for message in self.unhandled.pop(name, []):
                client.session.settle(message, error, self.now)
            self.run()

    def cut(self, one: str, other: str) -> None:
        if one != other:
            self.cluster.cut(one, other)
            self.run()

    def stall(self, one: str, other: str) -> None:
        if one != other:
            self.cluster.stall(one, other)

    def hold_back(self, one: str, other: str) -> None:
        """Let what one node sends to another one wait, but not the other way round."""
        if one != other:
            self.cluster.wires[one, other].is_stalled = True

    def swallow(self, one: str, other: str) -> None:
        if one != other:
            self.cluster.swallow(one, other)

    def mend(self, one: str, other: str) -> None:
        if one != other:
            self.cluster.mend(one, other)
            self.run()

    def kill(self, name: str) -> None:
        if self.cluster[name].is_running:
            self.cluster.kill(name)
            self.run()

    def stop(self, name: str) -> None:
        if self.cluster[name].is_running:
            self.cluster.stop(name)
            self.run()

    def retire(self, name: str) -> None:
        if self.cluster[name].is_running:
            self.cluster.leave(name)
            self.take()

    def say(self, name: str, to: str) -> None:
        """Send two direct messages, with nothing in between."""
        client = self.ready(name)
        if client is not None:
            for _ in range(2):
                self.published += 1
                client.session.publish_to_id(to, self.published, self.now)
            self.run()

    def start(self, name: str) -> None:
        if not self.cluster[name].is_running:
            self.cluster.start(name)
            self.run()

    def advance(self, seconds: float) -> None:
        self.cluster.advance(seconds)
        self.take()

    # -- within -----------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.cluster.clock.now

    def ready(self, name: str) -> MemoryClient | None:
        client = self.clients.get(name)
        return client if client is not None and client.session.ready else None

    def run(self) -> None:
        if self.is_slow:
            self.cluster.run_within()
        else:
            self.cluster.run()
        self.take()

    def take(self) -> None:
        self.operation += 1
        for number, session in enumerate(self.sessions):
            if number not in self.ended and any(isinstance(one, _ENDS) for one in session.events):
                self.ended[number] = self.operation
        for (name, wanted), box in self.boxes.items():
            for message in box.take_all():
                self.note(name, wanted, message)
        for name, box in self.direct.items():
            messages = box.take_all()
            self.unhandled[name] += messages
            for message in messages:
                place = self.sessions.index(self.clients[name]), message.sender
                assert message.data > self.latest_direct[place], "direct messages are in order"
                self.latest_direct[place] = message.data

    def note(self, name: str, wanted: Key, message: Any) -> None:
        self.unhandled[name].append(message)
        number = message.data
        if wanted == "kept" and message.position is not None:
            self.position[name] = message.position
        if isinstance(wanted, InGroup):
            if number in self.plain:
                self.by_member[wanted, number] += 1
                assert self.by_member[wanted, number] == 1, "one member has each"
            return
        place = self.sessions.index(self.clients[name]), wanted
        assert not self.got[place] or number not in self.got[place], "nothing comes twice"
        self.got[place].append(number)
        self.seen[place[0]][number].append(message.sender)

    # -- what holds -------------------------------------------------------------------------

    def heal(self) -> None:
        self.speed_up()
        for name in NODES:
            if self.cluster[name].cluster.is_leaving:
                self.kill(name)
            self.start(name)
        for one in NODES:
            for other in NODES:
                self.mend(one, other)
        self.advance(8.0)

    def check(self) -> None:
        self.heal()
        for name in IDS:
            holders = [
                client
                for client in self.sessions
                if client.session.id == name and client.session.ready
            ]
            assert len(holders) <= 1, f"{name} has several holders"
            assert holders or not self.only_took_from_each_other(name)
        for name in list(self.clients):
            self.handle(name, None)
        self.advance(25.0)
        there = [name for name in self.clients if self.ready(name) is not None]
        while any(self.unhandled[name] for name in there):  # what was given to members again
            for name in there:
                self.handle(name, None)
        for handle, client in self.handles:
            assert handle.finished or not client.session.ready, "each request ends"
        for node in self.cluster.nodes.values():
            for guest in node.cluster.members._guests.values():
                assert not any(guest.others.values()), "nobody is busy when all is handled"
        self.check_that_all_hear()
        for client in self.sessions:  # also those that have lost their id, and got it back
            client.session.close(self.now)
        self.advance(30.0)
        for node in self.cluster.nodes.values():
            check_empty(node)

    def only_took_from_each_other(self, name: str) -> bool:
        """Tell whether clients have lost an id to others, and none of these ended otherwise."""
        ended = {
            number: any("took this id" in str(one) for one in session.events)
            for number, session in enumerate(self.sessions)
            if session.session.id == name
        }
        others = [
            self.ended.get(number, self.operation)
            for number, is_taken in ended.items()
            if not is_taken
        ]
        latest = max(others, default=-1)
        return any(is_taken and self.began[number] > latest for number, is_taken in ended.items())

    def check_that_all_hear(self) -> None:
        """After the faults, what is published anywhere reaches everybody."""
        for place in list(self.boxes):
            if self.ready(place[0]) is None:
                del self.boxes[place]
        before = {place: len(self.got[self.place(place)]) for place in self.boxes}
        subscribers = [one for one in self.boxes if not isinstance(one[1], InGroup)]
        for number, name in enumerate(NODES):
            client = self.cluster[name].client(f"publisher-{number}")
            self.run()
            client.session.publish("t", -1 - number, self.now)
            client.session.publish("kept", -11 - number, self.now)
            self.run()
            client.session.close(self.now)
            self.run()
        for place in subscribers:
            name, wanted = place
            new = self.got[self.place(place)][before[place] :]
            expected = {"t": [-1, -2, -3], "u": [], "kept": [-11, -12, -13]}
            if isinstance(wanted, str):
                assert new == expected[wanted], f"{name} has got {new} by {wanted}"
            else:
                assert sorted(new) == sorted(expected["t"] + expected["kept"])
        logs = [node.hub.state.logs for node in self.cluster.nodes.values()]
        found = [log.log("kept") for log in logs if log is not None]
        assert len({(log.epoch, log.top) for log in found if log is not None}) == 1

    def place(self, place: tuple[str, Key]) -> tuple[int, Key]:
        return self.sessions.index(self.clients[place[0]]), place[1]


def check_empty(node: Any) -> None:
    """Nothing is kept when all clients have left."""
    cluster, state = node.cluster, node.hub.state
    assert not state.clients
    assert not len(state.bus), [str(one.key) for one in state.bus.routes]
    assert not len(state.acks)
    assert not cluster.names.registry._entries
    assert not cluster.names.places._asking
    assert not cluster.names.places._by_id
    assert not cluster.agreement._waiting
    assert not cluster.names._held
    assert not cluster.names._claims
    assert not cluster.interest._since
    assert not cluster.interest._waiting
    assert not cluster.members._guests
    assert not cluster.members._errands
    assert not cluster.members._memberships
    assert not cluster.members._given
    assert not cluster._tasks._offers
    assert not cluster._tasks._by_subscriber
    assert not cluster._asks._expected
    assert not cluster._asks._by_owner
    assert not cluster._delivery._counting
    assert not cluster._presence._watchers
    for other in cluster.nodes.others.values():
        assert not other.asking
        assert not other.topics


@example(
    [
        ("stall", "n1", "n2"),
        ("compete", "b", ["n1", "n3", "n2", "n3"], "n3", "n1"),
        ("cut", "n2", "n3"),
    ],
    500,
)
@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATIONS, max_size=40), st.sampled_from([2, AT_ONCE]))
def test_random_programs(operations: list[tuple[Any, ...]], at_once: int) -> None:
    with patch("kps.protocol.bus.slices.AT_ONCE", at_once):
        model = Model()
        for name, at in zip(IDS, (*NODES, "n1"), strict=True):
            model.connect(name, at)
        for operation, *arguments in operations:
            verb: Callable[..., None] = getattr(
                model, {"break": "break_"}.get(operation, operation)
            )
            verb(*arguments)
        model.check()
