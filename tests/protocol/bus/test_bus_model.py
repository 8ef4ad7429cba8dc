"""A bus with many clients, held to a model that is too simple to be wrong.

Two kinds of clients take part. Programs are client sessions, and come back when they are
cut off. Guests are peers made by hand, who may do what no client session does: rename
themselves, take the ids of others, answer what they were not asked. After each step
everything moves that can move, and both worlds are compared.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kps.errors import ConnectionLost
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.reconnect import Backoff
from kps.protocol.limits import ClientLimits
from kps.protocol.server_limits import ServerLimits
from kps.testing.network import MemoryClient, Network
from tests.protocol.helpers import THOROUGH, Peer, close_frame

# Steps last a multiple of half a second, and so does the wait before a reconnect. Timeouts
# lie between, so that no two things happen at the same time and the order is known.
RECONNECT = 1.0
DEFAULT_TIMEOUT = 5.25
LIMITS = ServerLimits(ack_timeout=DEFAULT_TIMEOUT, heartbeat_interval=1e6)
CLIENT_LIMITS = ClientLimits(heartbeat_interval=1e6)

TOPIC_NAMES = ["red", "green", "blue"]
TOPICS = st.sampled_from(TOPIC_NAMES)
ANYONE = st.integers(0, 11)
OUTCOMES = st.sampled_from([None, "no"])


class Ask:
    """One ack request, as the model sees it."""

    def __init__(
        self, number: int, owner: "Actor", awaited: dict["Actor", str], timeout: float, tells: bool
    ) -> None:
        self.number = number
        self.owner = owner
        self.awaited = awaited
        self.deadline = timeout
        self.tells_timeouts = tells
        self.outcomes: dict[str, str | None] = {}
        self.is_open = True
        self.is_answered = False
        self.wire_id = ""
        """The server's id, once somebody was asked."""

    def record(self, actor: "Actor", error: str | None) -> None:
        if self.is_open and actor in self.awaited:
            self.outcomes[self.awaited.pop(actor)] = error
            self.finish_if_complete()

    def finish_if_complete(self) -> None:
        if not self.awaited:
            self.is_open, self.is_answered = False, True

    def expire(self) -> None:
        if self.tells_timeouts:
            self.outcomes.update(dict.fromkeys(self.awaited.values(), "timeout"))
        self.is_open, self.is_answered = False, True


class Actor(ABC):
    """A client: what the model expects of it, and what it really got."""

    def __init__(self, client_id: str) -> None:
        self.id = client_id
        self.is_online = True
        self.is_gone = False
        self.topics: dict[str, None] = {}
        self.expected: dict[str, list[tuple[str, int]]] = defaultdict(list)
        """By topic, and under the empty one direct messages: sender and number."""
        self.got: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self.asked: list[tuple[int, Any]] = []
        """Requests that came, with their numbers."""

    @abstractmethod
    def subscribe(self, topic: str) -> None: ...
    @abstractmethod
    def unsubscribe(self, topic: str) -> None: ...
    @abstractmethod
    def publish(self, topic: str, number: int) -> None: ...
    @abstractmethod
    def write_to(self, client_id: str, number: int) -> None: ...
    @abstractmethod
    def ask_topic(self, topic: str, number: int, timeout: float | None) -> None: ...
    @abstractmethod
    def ask_client(self, client_id: str, number: int, timeout: float | None) -> None: ...
    @abstractmethod
    def answer(self, request: Any, error: str | None) -> None: ...
    @abstractmethod
    def cancel(self, number: int) -> None: ...
    @abstractmethod
    def leave(self, politely: bool) -> None: ...
    @abstractmethod
    def collect(self) -> None:
        """Take what has come."""

    @abstractmethod
    def check_ask(self, ask: Ask) -> None:
        """Whether this client knows of its request what the model knows."""


class Guest(Actor):
    """A peer made by hand."""

    def __init__(self, network: Network, client_id: str) -> None:
        super().__init__(client_id)
        self.peer = Peer(network.hub, network.clock).register(client_id)
        self._network = network
        self._responses: dict[str, list[dict[str, str | None]]] = defaultdict(list)
        self.status: dict[str, bool] = {}
        self.errors: list[str] = []

    def send(self, action: str, **fields: Any) -> None:
        self.peer.send({"action": action, **fields})

    def subscribe(self, topic: str) -> None:
        self.send("subscribe", topic=topic)

    def unsubscribe(self, topic: str) -> None:
        self.send("unsubscribe", topic=topic)

    def publish(self, topic: str, number: int) -> None:
        self.send("publish", topic=topic, data=number, **{"from": "forged"})

    def write_to(self, client_id: str, number: int) -> None:
        self.send("direct_message", to=client_id, data=number)

    def ask_topic(self, topic: str, number: int, timeout: float | None) -> None:
        self._ask("publish_with_ack", number, timeout, topic=topic)

    def ask_client(self, client_id: str, number: int, timeout: float | None) -> None:
        self._ask("publish_to_id_with_ack", number, timeout, to=client_id)

    def _ask(self, action: str, number: int, timeout: float | None, **fields: str) -> None:
        more = {} if timeout is None else {"timeout": timeout}
        self.send(action, ack_id=f"a{number}", data=number, **fields, **more)

    def answer(self, request: Any, error: str | None) -> None:
        outcome = {"success": error is None, "error": error or "", "client_id": "forged"}
        self.send("ack", ack_id=request, data=outcome)

    def cancel(self, number: int) -> None:
        self.send("cancel_ack", ack_id=f"a{number}")

    def leave(self, politely: bool) -> None:
        if politely:
            self.peer.feed(close_frame(1000))
        self.peer.connection.connection_lost(self._network.clock.now)

    def collect(self) -> None:
        for message in self.peer.take():
            action = message["action"]
            if action in ("publish", "publish_ack"):
                wrapped = message["data"]
                direct = message["topic"].startswith("__direct_")
                self.got["" if direct else message["topic"]].append(
                    (wrapped["from"], wrapped["data"])
                )
                if action == "publish_ack":
                    self.asked.append((wrapped["data"], message["ack_id"]))
            elif action == "direct_message":
                self.got[""].append((message["from"], message["data"]))
            elif action == "ack_response":
                self._responses[message["ack_id"]].append(
                    {
                        client_id: response.get("error")
                        for client_id, response in message.get("responses", {}).items()
                    }
                )
            elif action == "ack_status":
                self.status = message.get("status", {})
            elif action == "error":
                self.errors.append(message["error"])

    def check_ask(self, ask: Ask) -> None:
        expected = [ask.outcomes] if ask.is_answered else []
        assert self._responses[f"a{ask.number}"] == expected


class Program(Actor):
    """A client session, on one level or the other."""

    def __init__(self, network: Network, client_id: str) -> None:
        super().__init__(client_id)
        self.level = 1 + int(client_id.rpartition("-")[2]) % 2
        self.client: MemoryClient = network.client_with(
            ClientConfig(
                id=client_id,
                host="memory",
                reconnect=Backoff.every(RECONNECT),
                limits=CLIENT_LIMITS,
                level=self.level,
            )
        )
        self.session = self.client.session
        self.retry_at = 0.0
        self._network = network
        self._mailboxes: dict[str, Mailbox] = {}
        self._direct = self.session.subscriptions.open_direct()
        self._handles: dict[int, AckHandle] = {}

    @property
    def _now(self) -> float:
        return self._network.clock.now

    def subscribe(self, topic: str) -> None:
        if topic not in self._mailboxes:
            self._mailboxes[topic] = self.session.subscribe(topic, self._now)

    def unsubscribe(self, topic: str) -> None:
        mailbox = self._mailboxes.pop(topic, None)
        if mailbox is not None:
            self.session.unsubscribe(mailbox, self._now)

    def publish(self, topic: str, number: int) -> None:
        self.session.publish(topic, number, self._now)

    def write_to(self, client_id: str, number: int) -> None:
        self.session.publish_to_id(client_id, number, self._now)

    def ask_topic(self, topic: str, number: int, timeout: float | None) -> None:
        handle = self.session.asking.publish_with_ack(
            topic, number, timeout or DEFAULT_TIMEOUT, self._now
        )
        self._handles[number] = handle

    def ask_client(self, client_id: str, number: int, timeout: float | None) -> None:
        handle = self.session.asking.publish_to_id_with_ack(
            client_id, number, timeout or DEFAULT_TIMEOUT, self._now
        )
        self._handles[number] = handle

    def answer(self, request: Any, error: str | None) -> None:
        assert isinstance(request, Message)
        self.session.settle(request, error, self._now)

    def cancel(self, number: int) -> None:
        self.session.asking.cancel_ack(self._handles[number], self._now)

    def leave(self, politely: bool) -> None:
        if politely:
            self.session.close(self._now)
        else:
            assert self.client.link is not None
            self.client.link.cut()

    def collect(self) -> None:
        for topic, mailbox in [*self._mailboxes.items(), ("", self._direct)]:
            for message in mailbox.take_all():
                self.got[topic].append((message.sender, message.data))
                if message.wants_ack:
                    self.asked.append((message.data, message))

    def check_ask(self, ask: Ask) -> None:
        handle = self._handles[ask.number]
        assert handle.finished is not ask.is_open
        found = {client_id: r.error for client_id, r in handle.responses.items()}
        if ask.is_answered or self.level == 2:  # which tells each outcome at once
            assert found == ask.outcomes
        else:
            assert found == {}
        if not ask.is_answered and not ask.is_open and not self.is_online:
            assert handle.error is None or isinstance(handle.error, ConnectionLost)


class BusMachine(RuleBasedStateMachine):
    """The rules, each with what the model makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(limits=LIMITS)
        self.actors: list[Actor] = []
        self.topics: dict[str, dict[Actor, None]] = defaultdict(dict)
        self.asks: list[Ask] = []
        self.number = 0
        self.names = 0

    # -- the model ---------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.network.clock.now

    def online(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.is_online]

    def pick(self, which: int, kind: type[Actor] = Actor) -> Actor | None:
        choice = [actor for actor in self.online() if isinstance(actor, kind)]
        return choice[which % len(choice)] if choice else None

    def holder(self, client_id: str) -> Actor | None:
        return next((actor for actor in self.online() if actor.id == client_id), None)

    def expect(self, actor: Actor, topic: str, sender: Actor) -> None:
        actor.expected[topic].append((sender.id, self.number))

    def left(self, actor: Actor, *, for_good: bool) -> None:
        """A connection is gone."""
        actor.is_online = False
        for subscribers in self.topics.values():
            subscribers.pop(actor, None)
        for ask in self.asks:
            if ask.owner is actor:
                ask.is_open = False
            ask.record(actor, "disconnected")
        if for_good:
            actor.is_gone = True
        elif isinstance(actor, Program):
            actor.retry_at = self.now + RECONNECT

    def took(self, client_id: str, by: Actor) -> None:
        """An id moves to a connection; who had it is out."""
        victim = self.holder(client_id)
        if victim is not None and victim is not by:
            self.left(victim, for_good=True)
            if isinstance(victim, Guest):
                assert victim.peer.closed == (4001, "another connection took this id")
                victim.leave(politely=False)

    def ask(self, owner: Actor, addressed: list[Actor], timeout: float | None) -> None:
        tells = timeout is not None or isinstance(owner, Program)
        deadline = self.now + (timeout or DEFAULT_TIMEOUT)
        awaited = {actor: actor.id for actor in addressed}
        ask = Ask(self.number, owner, awaited, deadline, tells)
        ask.finish_if_complete()
        self.asks.append(ask)

    def open_asks(self) -> list[Ask]:
        return [ask for ask in self.asks if ask.is_open]

    def settle(self) -> None:
        """Let everything move that can, and let everyone read."""
        self.network.run()
        for actor in self.actors:
            if actor.is_online:
                actor.collect()
        self.network.run()
        numbers = {ask.number: ask for ask in self.asks}
        for actor in self.actors:
            for number, request in actor.asked:
                if isinstance(request, str):
                    numbers[number].wire_id = request

    # -- who is there --------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        for kind in (Program, Program, Guest, Guest):
            self.join(kind)
        for who in range(3):
            self.subscribe_actor(self.actors[who], "red")

    def join(self, kind: type[Program] | type[Guest]) -> None:
        self.actors.append(kind(self.network, f"{kind.__name__.lower()}-{self.names}"))
        self.names += 1
        self.settle()

    @precondition(lambda self: len(self.online()) < 4)
    @rule(program=st.booleans())
    def connect(self, program: bool) -> None:
        self.join(Program if program else Guest)

    @rule(who=ANYONE, whom=ANYONE, fresh=st.booleans())
    def rename(self, who: int, whom: int, fresh: bool) -> None:
        guest = self.pick(who, Guest)
        if not isinstance(guest, Guest):
            return
        other = self.pick(whom)
        client_id = f"renamed-{whom}" if fresh or other is None else other.id
        guest.send("ping", **{"from": client_id})
        self.took(client_id, guest)
        guest.id = client_id
        self.settle()

    @precondition(lambda self: len(self.online()) > 2)
    @rule(who=ANYONE, politely=st.booleans())
    def leave(self, who: int, politely: bool) -> None:
        actor = self.pick(who)
        if actor is not None:
            actor.leave(politely)
            self.left(actor, for_good=politely or isinstance(actor, Guest))
            self.settle()

    @precondition(lambda self: self.number % 10 == 9)
    @rule()
    def restart(self) -> None:
        self.number += 1
        for ask in self.asks:
            ask.is_open = False
        for actor in self.online():
            self.left(actor, for_good=isinstance(actor, Guest))
        self.network.restart()
        self.settle()

    # -- topics and direct messages --------------------------------------------------------

    @rule(who=ANYONE, topic=TOPICS)
    def subscribe(self, who: int, topic: str) -> None:
        actor = self.pick(who)
        if actor is not None:
            self.subscribe_actor(actor, topic)

    def subscribe_actor(self, actor: Actor, topic: str) -> None:
        actor.subscribe(topic)
        actor.topics[topic] = None
        self.topics[topic].setdefault(actor)
        self.settle()

    @rule(who=ANYONE, topic=TOPICS)
    def unsubscribe(self, who: int, topic: str) -> None:
        actor = self.pick(who)
        if actor is not None:
            actor.unsubscribe(topic)
            actor.topics.pop(topic, None)
            self.topics[topic].pop(actor, None)
            self.settle()

    @rule(who=ANYONE, topic=TOPICS, count=st.integers(1, 3))
    def publish(self, who: int, topic: str, count: int) -> None:
        actor = self.pick(who)
        if actor is not None:
            for _ in range(count):
                self.number += 1
                actor.publish(topic, self.number)
                for subscriber in self.topics[topic]:
                    self.expect(subscriber, topic, actor)
            self.settle()

    @rule(who=ANYONE, whom=ANYONE)
    def write(self, who: int, whom: int) -> None:
        actor, other = self.pick(who), self.pick(whom)
        if actor is not None and other is not None:
            self.number += 1
            actor.write_to(other.id, self.number)
            self.expect(other, "", actor)
            self.settle()

    @rule(who=ANYONE)
    def write_to_nobody(self, who: int) -> None:
        guest = self.pick(who, Guest)
        if isinstance(guest, Guest):
            guest.write_to("nobody", 0)
            self.settle()
            assert guest.errors.pop() == "no client has the id nobody"

    # -- acks ------------------------------------------------------------------------------

    TIMEOUTS = st.sampled_from([None, 2.25, 7.25])

    @rule(who=ANYONE, topic=TOPICS, timeout=TIMEOUTS)
    def ask_topic(self, who: int, topic: str, timeout: float | None) -> None:
        actor = self.pick(who)
        if actor is not None:
            self.number += 1
            actor.ask_topic(topic, self.number, timeout)
            self.ask(actor, list(self.topics[topic]), timeout)
            for subscriber in self.topics[topic]:
                self.expect(subscriber, topic, actor)
            self.settle()

    @rule(who=ANYONE, whom=ANYONE, timeout=TIMEOUTS)
    def ask_client(self, who: int, whom: int, timeout: float | None) -> None:
        actor, other = self.pick(who), self.pick(whom)
        if actor is not None and other is not None:
            self.number += 1
            actor.ask_client(other.id, self.number, timeout)
            self.ask(actor, [other], timeout)
            self.expect(other, "", actor)
            self.settle()

    @rule(who=ANYONE, timeout=TIMEOUTS)
    def ask_nobody(self, who: int, timeout: float | None) -> None:
        actor = self.pick(who)
        if actor is not None:
            self.number += 1
            actor.ask_client("nobody", self.number, timeout)
            self.ask(actor, [], timeout)
            self.settle()

    @rule(which=ANYONE, error=OUTCOMES, times=st.integers(1, 2))
    def answer(self, which: int, error: str | None, times: int) -> None:
        """One of the latest requests, which may be answered already, or over."""
        asked = [
            (number, actor, request) for actor in self.online() for number, request in actor.asked
        ]
        asked.sort(key=lambda item: -item[0])
        if not asked:
            return
        number, actor, request = asked[which % min(len(asked), 6)]
        for _ in range(times):
            actor.answer(request, error)
        for ask in self.asks:
            if ask.number == number:
                ask.record(actor, error)
        self.settle()

    @rule(who=ANYONE, which=ANYONE)
    def answer_what_was_not_asked(self, who: int, which: int) -> None:
        guest = self.pick(who, Guest)
        asks = [ask for ask in self.open_asks() if guest not in ask.awaited]
        if isinstance(guest, Guest):
            guest.answer(asks[which % len(asks)].wire_id if asks else "ack_0", "forged")
            guest.answer("ack_999999", "forged")
            self.settle()
            guest.errors.clear()

    @rule(which=ANYONE)
    def cancel(self, which: int) -> None:
        asks = self.open_asks()
        if asks:
            ask = asks[which % len(asks)]
            ask.owner.cancel(ask.number)
            ask.is_open = False
            self.settle()

    @rule(which=ANYONE)
    def look(self, which: int) -> None:
        asks = [ask for ask in self.open_asks() if isinstance(ask.owner, Guest)]
        if asks:
            ask = asks[which % len(asks)]
            assert isinstance(ask.owner, Guest)
            ask.owner.send("get_ack_status", ack_id=f"a{ask.number}")
            self.settle()
            expected = dict.fromkeys(ask.outcomes, True)
            assert ask.owner.status == expected | dict.fromkeys(ask.awaited.values(), False)

    # -- time ------------------------------------------------------------------------------

    @rule(halves=st.integers(1, 12))
    def wait(self, halves: int) -> None:
        end = self.now + halves / 2
        while True:
            due: list[tuple[float, Ask | Program]] = [(a.deadline, a) for a in self.open_asks()]
            due += [
                (actor.retry_at, actor)
                for actor in self.actors
                if isinstance(actor, Program) and not actor.is_online and not actor.is_gone
            ]
            due = [(when, what) for when, what in due if when <= end]
            if not due:
                break
            when = min(when for when, _ in due)
            self.network.advance(when - self.now)
            for at, what in due:
                if at == when and isinstance(what, Ask):
                    what.expire()
                elif at == when and isinstance(what, Program):
                    self.took(what.id, what)
                    what.is_online = True
                    for topic in what.topics:
                        self.topics[topic].setdefault(what)
            self.settle()
        self.network.advance(end - self.now)
        self.settle()

    # -- comparing ---------------------------------------------------------------------------

    @invariant()
    def everybody_got_what_is_theirs(self) -> None:
        for actor in self.actors:
            for topic in {*actor.expected, *actor.got}:
                assert actor.got[topic] == actor.expected[topic], (actor.id, topic)

    @invariant()
    def nobody_was_refused(self) -> None:
        assert [
            actor.errors for actor in self.actors if isinstance(actor, Guest) and actor.errors
        ] == []

    @invariant()
    def the_hub_knows_who_is_there(self) -> None:
        hub = self.network.hub
        assert set(hub.clients) == {actor.id for actor in self.online()}
        assert len(hub.connections) == len(self.online())
        for topic in TOPIC_NAMES:
            expected = [actor.id for actor in self.topics[topic]]
            assert [subscriber.id for subscriber in hub.state.bus.subscribers(topic)] == expected
        assert len(hub.state.bus) == sum(bool(subscribers) for subscribers in self.topics.values())

    @invariant()
    def every_request_has_the_outcomes_that_it_should(self) -> None:
        hub = self.network.hub
        for ask in self.asks:
            if not ask.owner.is_gone:
                ask.owner.check_ask(ask)
        assert len(hub.state.acks) == len(self.open_asks())
        expiries = hub.state.acks._expiries
        assert len(expiries) == len(hub.state.acks)
        expiries.rest()
        queues = [queue for queue in expiries._queues if queue.items]
        assert len(hub.state.deadlines) == len(hub.connections) + len(queues)

    def teardown(self) -> None:
        """When everyone has left, nothing is left of them."""
        for actor in self.online():
            actor.leave(politely=True)
            self.left(actor, for_good=True)
        self.settle()
        hub = self.network.hub
        assert (hub.clients, hub.connections) == ({}, {})
        assert (len(hub.state.bus), len(hub.state.acks), len(hub.state.deadlines)) == (0, 0, 0)
        assert (hub.state.acks._by_owner, hub.state.acks._by_subscriber) == ({}, {})
        for actor in self.actors:
            if isinstance(actor, Program):
                actor.session.close(self.now)
                assert actor.session.ended is not None
                assert len(actor.session.asking.pending) == 0
                assert not any(one.open_questions for one in actor.session.topics._topics.values())
                assert len(actor.session.state.deadlines) == 0
        super().teardown()


TestBusModel = pytest.mark.slow(BusMachine.TestCase)
TestBusModel.settings = settings(THOROUGH, stateful_step_count=60)
