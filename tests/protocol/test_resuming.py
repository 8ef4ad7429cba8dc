"""Subscribers with history over broken connections and restarts: all is accounted for."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kps.protocol.bus.history import History
from kps.protocol.bus.logs import break_behind
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.store import Entry, KeptPast, KeptTopic, new_entry
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.events import Lost, Recovered
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.places import Position, Start
from kps.protocol.limits import ClientLimits, Overflow
from kps.protocol.patterns import Key, Pattern
from kps.protocol.server.config import HubConfig
from kps.protocol.server_limits import ServerLimits
from kps.testing.network import MemoryClient, Network
from tests.protocol.helpers import THOROUGH, Stage
from tests.protocol.server.test_permissions_and_limits import peer2

RULES = (History("a/*", size=6), History("b/*", size=50))
TOPICS = ["a/1", "a/2", "b/1"]
KEYS: list[Key] = ["a/1", Pattern("a/*"), Pattern("**"), "b/1"]
QUICK = Backoff(first=0.5, longest=0.5, jitter=0.0)


class Disk:
    """A store whose latest commands may be lost."""

    def __init__(self) -> None:
        self.committed: list[tuple[Any, ...]] = []
        self.pending: list[tuple[Any, ...]] = []

    def append(self, topic: str, epoch: str, entry: Entry) -> None:
        self.pending.append(("append", topic, epoch, entry))

    def trim(self, topic: str, offset: int) -> None:
        self.pending.append(("trim", topic, offset))

    def forget(self, topic: str) -> None:
        self.pending.append(("forget", topic))

    def place(self, topic: str, epoch: str, top: int, forgotten: int) -> None:
        self.pending.append(("place", topic, epoch, top))

    def begin(self, epoch: str, number: int) -> None:
        self.pending.append(("begin", epoch, number))

    def commit(self) -> None:
        self.committed += self.pending
        self.pending.clear()

    def load(self, *, is_orderly: bool) -> KeptPast | None:
        """What a server reads at its start."""
        self.pending.clear()
        epoch = ""
        number = 0
        topics: dict[str, tuple[str, int, list[Entry]]] = {}
        for command in self.committed:
            match command:
                case ("append", topic, its_epoch, entry):
                    entries = topics[topic][2] if topic in topics else []
                    topics[topic] = its_epoch, entry.behind - 1, [*entries, entry]
                    number = max(number, entry.number)
                case ("trim", topic, offset):
                    its_epoch, top, entries = topics[topic]
                    topics[topic] = its_epoch, top, [one for one in entries if one.behind > offset]
                case ("forget", topic):
                    topics.pop(topic, None)
                case ("place", topic, its_epoch, top):
                    entries = topics[topic][2] if topic in topics else []
                    topics[topic] = its_epoch, top, entries
                case ("begin", epoch, first):
                    number = max(number, first)
        if not epoch:
            return None
        if not is_orderly:
            self.committed += [
                ("place", topic, its_epoch, break_behind(top))
                for topic, (its_epoch, top, _) in topics.items()
            ]
        kept = [KeptTopic(topic, *rest) for topic, rest in topics.items()]
        return KeptPast(epoch, number, is_orderly, kept)


class Books:
    """What one subscriber has got, and what it was told."""

    def __init__(self, network: Network, name: str, key: Key, published: dict[str, int]) -> None:
        config = ClientConfig(id=name, host="memory", reconnect=QUICK, limits=ClientLimits())
        self.client: MemoryClient = network.client_with(config)
        self.key = key
        self.mailbox: Mailbox = self.client.session.subscribe(key, network.clock.now)
        self.begun = dict(published)
        self.got: dict[str, list[int]] = {topic: [] for topic in TOPICS}
        self.lost = 0
        self.is_unknown = False
        self.recovered = 0
        self.due: dict[str, list[int]] = {topic: [] for topic in TOPICS}
        """What was published while it was subscribed."""
        self._seen = 0

    @property
    def is_live(self) -> bool:
        session = self.client.session
        return session.ready and session.is_confirmed(self.key)

    def has(self, topic: str) -> bool:
        return topic == self.key or (isinstance(self.key, Pattern) and self.key.selects(topic))

    def collect(self) -> None:
        for message in self.mailbox.take_all():
            assert message.offset is not None
            self.got[message.topic].append(message.data)
        events = self.client.events
        for event in events[self._seen :]:
            if isinstance(event, Lost):
                self.is_unknown |= event.messages is None
                self.lost += event.messages or 0
            elif isinstance(event, Recovered):
                self.recovered += 1
        self._seen = len(events)

    def check(self, published: dict[str, int]) -> None:
        missing = 0
        for topic, top in published.items():
            got = self.got[topic]
            if not self.has(topic):
                assert got == []
                continue
            assert got == sorted(set(got)), "out of order, or twice"
            assert all(self.begun[topic] < number <= top for number in got)
            assert set(self.due[topic]) <= set(got)
            missing += top - self.begun[topic] - len(got)
        if self.is_unknown:
            assert missing >= 0
        else:
            assert missing == self.lost, (self.key, self.got, published, self.lost)


class Resuming(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        config = HubConfig(id="server", history=RULES)
        self.network = Network(config, limits=ServerLimits(heartbeat_interval=1e6))
        self.disk: Disk | None = None
        self.published = dict.fromkeys(TOPICS, 0)
        self.books = [
            Books(self.network, f"s{number}", key, self.published)
            for number, key in enumerate(KEYS)
        ]
        self.network.run()

    @rule()
    def begin_to_store(self) -> None:
        logs = self.network.hub.state.logs
        if self.disk is None and logs is not None and logs.latest == 0:
            self.disk = Disk()
            logs.open(self.disk, None, self.network.clock.now)
            self.disk.commit()

    @rule()
    def commit(self) -> None:
        if self.disk is not None:
            self.disk.commit()

    @rule(topic=st.sampled_from(TOPICS), messages=st.integers(1, 9))
    def publish(self, topic: str, messages: int) -> None:
        for _ in range(messages):
            self.published[topic] += 1
            for books in self.books:
                if books.is_live and books.has(topic):
                    books.due[topic].append(self.published[topic])
            self.network.hub.publish(topic, self.published[topic], self.network.clock.now)
        self.network.run()

    @rule(number=st.integers(0, len(KEYS) - 1))
    def cut(self, number: int) -> None:
        link = self.books[number].client.link
        if link is not None:
            link.cut()
        self.network.run()

    @rule()
    def wait(self) -> None:
        self.network.advance(1.0)

    @rule(is_orderly=st.booleans())
    def restart(self, is_orderly: bool) -> None:
        disk, clock = self.disk, self.network.clock
        if disk is not None and is_orderly:
            disk.commit()
        self.network.restart()
        logs = self.network.hub.state.logs
        assert logs is not None
        if disk is not None:
            logs.open(disk, disk.load(is_orderly=is_orderly), clock.now)
            disk.commit()  # as a server does before it listens

    @invariant()
    def everything_is_accounted_for(self) -> None:
        self.network.run()
        for books in self.books:
            books.collect()
            if books.client.session.ready:
                books.check(self.published)

    def teardown(self) -> None:
        self.network.advance(2.0)
        for books in self.books:
            books.collect()
            assert books.client.session.ready
            books.check(self.published)
            assert books.client.link is not None
            books.client.link.cut()
        self.network.run()
        assert self.network.hub.state.replays == 0
        assert not self.network.hub.state.bus.routes._held


TestResuming = pytest.mark.slow(Resuming.TestCase)
TestResuming.settings = settings(THOROUGH, stateful_step_count=40)


def test_a_client_that_comes_back_gets_what_it_missed() -> None:
    network = Network(HubConfig(id="server", history=RULES))
    books = Books(network, "s", "b/1", dict.fromkeys(TOPICS, 0))
    network.run()
    assert books.client.link is not None
    books.client.link.cut()
    for number in range(1, 11):
        network.hub.publish("b/1", number, network.clock.now)
    network.advance(1.0)
    books.collect()
    assert books.got["b/1"] == list(range(1, 11))
    assert (books.recovered, books.lost) == (1, 0)


@pytest.mark.parametrize("overflow", list(Overflow))
def test_a_replay_does_not_overflow_a_queue(overflow: Overflow) -> None:
    """It waits for the client, and what is published meanwhile comes in its turn."""
    limits = ServerLimits(queue_messages=100, queue_bytes=20_000, overflow=overflow)
    network = Network(HubConfig(id="server", history=(History("**", size=5000),)), limits=limits)
    for number in range(3000):
        network.hub.publish("t", [number, "x" * 50], network.clock.now)
    client = network.client("c")
    session = client.session
    assert client.link is not None
    client.link.capacity = 1000
    mailbox = session.subscribe("t", network.clock.now, Start(last=3000))
    got: list[int] = []
    number = 3000
    for _ in range(300):
        network.run()
        got += [message.data[0] for message in mailbox.take_all()]
        network.hub.publish("t", [number, "x" * 50], network.clock.now)
        number += 1
    network.advance(1.0)
    got += [message.data[0] for message in mailbox.take_all()]
    assert got == list(range(number))
    assert client.session.ended is None
    assert network.hub.dropped() == 0


def test_patterns_that_come_and_go_while_their_past_comes() -> None:
    network = Network(HubConfig(id="server", history=(History("**", size=500),)))
    for number in range(500):
        network.hub.publish("t", ["x" * 1000, number], network.clock.now)
    state = network.hub.state
    client = network.client("c")
    session = client.session
    assert client.link is not None
    client.link.capacity = 100_000
    session.subscribe(Pattern("other*"), network.clock.now)
    for _ in range(3):
        mailbox = session.subscribe(Pattern("*"), network.clock.now, Start(last=500))
        network.run()
        session.unsubscribe(mailbox, network.clock.now)
        network.run()
        assert state.replays <= 1
    mailbox = session.subscribe(Pattern("*"), network.clock.now, Start(last=500))
    network.run()
    assert [message.data[1] for message in mailbox.take_all()] == list(range(500))
    assert (state.replays, state.bus.routes._held) == (0, {})


@pytest.mark.parametrize("start", [None, Start(last=3)])
def test_messages_for_an_earlier_subscription_are_not_for_a_new_one(start: Start | None) -> None:
    network = Network(HubConfig(id="server", history=(History("**", size=500),)))
    client = network.client("c")
    session, clock = client.session, network.clock
    assert client.link is not None
    first = session.subscribe("t", clock.now, Start(last=500))
    network.run()
    client.link.stalled = True
    for number in range(10):
        network.hub.publish("t", number, clock.now)
    session.unsubscribe(first, clock.now)
    second = session.subscribe("t", clock.now, start)
    client.link.stalled = False
    network.run()
    network.hub.publish("t", 10, clock.now)
    network.run()
    expected = [10] if start is None else [7, 8, 9, 10]
    assert [message.data for message in second.take_all()] == expected


def test_no_past_comes_behind_the_end_of_its_subscription() -> None:
    stage = Stage(history=(History("**", size=500),))
    for number in range(300):
        stage.hub.publish("t", ["x" * 1000, number], stage.clock.now)
    peer = peer2(stage, "p")
    requests = (
        {"action": "subscribe", "pattern": "other*"},
        {"action": "subscribe", "topic": "t", "last": 300},
        {"action": "unsubscribe", "topic": "t"},
        {"action": "subscribe", "topic": "t"},
    )
    answers = peer.ask(*requests)
    answers += peer.take()
    end = [answer["action"] for answer in answers].index("unsubscribed")
    assert [answer["action"] for answer in answers[end:]] == ["unsubscribed", "subscribed"]
    assert answers[-1]["coming"] == 0
    stage.hub.publish("t", "new", stage.clock.now)
    assert [message["data"] for message in peer.take()] == ["new"]


def test_a_topic_that_is_there_already_is_recovered_only_if_all_of_it_is() -> None:
    stage = Stage(history=(History("**", size=500),))
    logs, entry = stage.hub.state.logs, new_entry(1, 1, 5, "me", b"1,2,3,4,5", 0.0)
    assert logs is not None
    topic = KeptTopic("t", "epoch", 5, [entry])
    logs.open(Disk(), KeptPast("epoch", 1, False, [topic]), stage.clock.now)
    peer = peer2(stage, "p")
    since = {"epoch": "epoch", "offset": 5}
    (_, answer) = peer.ask(
        {"action": "subscribe", "pattern": "t"},
        {"action": "subscribe", "topic": "t", "since": since},
    )
    assert answer["recovered"] is False


def test_a_subscription_that_ends_while_its_past_comes() -> None:
    network = Network(HubConfig(id="server", history=(History("**", size=5000),)))
    for number in range(2000):
        network.hub.publish("t", [number, "x" * 100], network.clock.now)
    client = network.client("c")
    assert client.link is not None
    client.link.stalled = True
    mailbox = client.session.subscribe("t", network.clock.now, Start(last=2000))
    client.session.unsubscribe(mailbox, network.clock.now)
    client.link.stalled = False
    network.run()
    assert not network.hub.state.bus.routes._held
    assert network.hub.publish("t", 1, network.clock.now) == 0
    other = client.session.subscribe("t", network.clock.now, Start(Position("wrong", 3)))
    network.run()
    assert len(other) == 2001
    assert network.hub.publish("t", 1, network.clock.now) == 1
    client.link.cut()
    network.run()
    assert not network.hub.state.bus.routes._held
