"""Messages with ids over connections that end at any moment: each is handled once.

One client publishes, with receipts and with acks. Others are subscribed, or members of a group.
Each of their connections may be cut with anything lost in either direction, also unnoticed by the
server, and may lose all from some moment on. The server may lose its memory. Nobody predicts what
becomes of a message: what is noted at the server and at the receivers must fit to what the
publisher is told.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kps.errors import ConnectionLost, RequestTimeout, ServerError
from kps.protocol.bus.ack_handle import AckChanged, AckHandle
from kps.protocol.bus.ack_request import AckOwner, AckRequest, Keeper, Work
from kps.protocol.bus.message import Message
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.events import BarrierPassed
from kps.protocol.client.pending import Barrier, ClientAck
from kps.protocol.client.reconnect import Backoff
from kps.protocol.client.session import ClientSession
from kps.protocol.dialect.envelope import load
from kps.protocol.dialect.outcome import AckResponse, GroupResponse
from kps.protocol.dialect.requests import Ask, Demands
from kps.protocol.limits import ClientLimits
from kps.protocol.patterns import InGroup, Key
from kps.protocol.server.delivery import Delivery
from kps.protocol.server.hub import Hub
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.endpoint import Endpoint
from kps.testing.network import Link, MemoryClient, Network
from tests.fuzz.invariants import check_hub, check_hub_is_empty

pytestmark = pytest.mark.pure("it extends a class of the core")

# Steps last a multiple of half a second, and so does the wait before a reconnect. Timeouts lie
# between, so that no two things happen at the same time and the order is known.
RECONNECT = 1.0
WINDOW = 6.0
MOST = 3
LIMITS = ServerLimits(heartbeat_interval=1e6, message_id_window=WINDOW, max_message_ids=MOST)
CLIENT_LIMITS = ClientLimits(heartbeat_interval=1e6)
NEVER = 1e9

GROUP = InGroup("both", "g")
SUBSCRIBED: dict[str, list[Key]] = {
    "a": ["plain", "both"],
    "b": ["plain"],
    "v": [GROUP],
    "w": [GROUP, InGroup("jobs", "g")],
}
TARGETS = st.sampled_from(["plain", "both", "both", "jobs", "nobody", "to a", "to w"])
TIMEOUTS = st.sampled_from([2.25, 7.25, 7.25, 18.25, 30.25])
ERRORS = st.sampled_from([None, None, "no"])
ANY = st.integers(0, 11)
SOMEBODY = st.sampled_from([0, 0, 0, 1, 2, 3, 4])
"""The publisher is the first."""
PARTS = st.sampled_from([0.0, 0.5, 1.0, 1.0])
WAITS = st.sampled_from([0, 1, 2, 2, 3, 5, 9, 15])


class Fate(NamedTuple):
    """What becomes of a connection."""

    up: float
    """The part of what the client would have sent that arrives before the end."""
    down: float
    """The same of the server."""
    noticed: bool
    """Whether the server notices the end."""
    weak: int | None
    """Pieces that pass over the next connection as they should."""
    late: float
    """Seconds for which those behind them are under way."""


FATES = st.builds(
    Fate,
    PARTS,
    PARTS,
    st.booleans(),
    st.none() | st.integers(1, 9),
    st.sampled_from([NEVER, NEVER, 3.0, WINDOW + 1]),
)


class Handling:
    """That a server has handled a message: when, and what came of it."""

    def __init__(self, era: int, at: float, delivered: int, request: AckRequest | None) -> None:
        self.era = era
        self.at = at
        self.delivered = delivered
        self.request = request
        self.deadline = NEVER if request is None else request.deadline or at
        self.was_late = False
        """Whether it may have been under way for a time."""

    @property
    def has_reached_somebody(self) -> bool:
        """Whether somebody has got it, or may still get it."""
        if self.request is None or self.request.awaited or self.request.tasks:
            return self.request is not None or self.delivered > 0
        outcomes = self.request.responses.values()
        return any(not isinstance(one, GroupResponse) or one.attempts for one in outcomes)

    def outcomes(self) -> dict[str, tuple[Any, ...]]:
        """What came of its ack request, which has ended."""
        assert self.request is not None
        found = {name: written(one) for name, one in self.request.responses.items()}
        return found | dict.fromkeys(self.request.missing(), (False, "timeout", None))


def written(outcome: AckResponse) -> tuple[Any, ...]:
    if isinstance(outcome, GroupResponse):
        about = outcome.client_id, outcome.attempts, outcome.failures
        return outcome.success, outcome.error, outcome.result, *about
    return outcome.success, outcome.error, outcome.result


class Servers(Network):
    """One server after another, and what each has handled."""

    def __init__(self, limits: ServerLimits = LIMITS) -> None:
        self.era = 0
        """Number of the server."""
        self.handled: dict[int, list[Handling]] = defaultdict(list)
        """By the number of a message."""
        self.order: list[int] = []
        """The numbers, in the order in which the messages were handled."""
        self.on_rest: Callable[[], object] = lambda: None
        """Called whenever nothing moves any more, before time passes."""
        self.fates: dict[MemoryClient, Fate] = {}
        """What is to become of the next connections of clients."""
        super().__init__(limits=limits)

    def run(self) -> None:
        super().run()
        self.on_rest()

    def _new_hub(self) -> Hub:
        self.era += 1
        hub = super()._new_hub()
        hub.delivery = NotedDelivery(hub, self)
        return hub

    def note(self, payload: bytes, delivered: int, request: AckRequest | None = None) -> None:
        handling = Handling(self.era, self.clock.now, delivered, request)
        number = load(payload)
        self.handled[number].append(handling)
        link = self.clients[0].link  # the publisher's
        handling.was_late = link is not None and link.delay is not None
        self.order.append(number)

    def connect(self, client: MemoryClient) -> None:
        """Connect a client, perhaps over a bad network."""
        super().connect(client)
        fate = self.fates.pop(client, None)
        if fate is not None and fate.weak is not None and client.link is not None:
            left, late = iter([0.0] * fate.weak), fate.late
            client.link.delay = lambda: next(left, late)


class NotedDelivery(Delivery):
    """Notes what is delivered."""

    def __init__(self, hub: Hub, servers: Servers) -> None:
        super().__init__(hub.state, hub.local)
        self._servers = servers

    def publish(self, publication: Publication) -> int:
        reached = super().publish(publication)
        for payload in publication.payloads():
            self._servers.note(payload, reached)
        return reached

    def open_request(
        self,
        owner: AckOwner,
        ask: Ask,
        receivers: Iterable[Subscriber],
        keeper: Keeper | None,
        absent: Sequence[str] = (),
        work: Work | None = None,
    ) -> AckRequest:
        request = super().open_request(owner, ask, receivers, keeper, absent, work)
        self._servers.note(ask.data, 0, request)
        return request


class Sent:
    """A message with an id, and each call of the program to send it."""

    def __init__(self, number: int, target: str, timeout: float | None, era: int) -> None:
        self.number = number
        self.target = target
        self.timeout = timeout
        """That of an ack request; ``None`` if it is published with a receipt."""
        self.era = era
        """The server to which it was first sent."""
        self.calls: list[Call] = []


class Call:
    """One call: what it waits for, and what it was told in the end."""

    def __init__(
        self, sent: Sent, question: Barrier | AckHandle, at: float, until: float, count: int
    ) -> None:
        self.sent = sent
        self.question = question
        self.at = at
        self.until = until
        """Until when the server must know it, as far as the client knows."""
        self.count = count
        """How many messages with ids had been sent then, this one included."""
        self.is_cancelled = False
        self.told: Any = None
        """What it was told in the end, once it has ended."""

    @property
    def has_ended(self) -> bool:
        question = self.question
        if isinstance(question, Barrier):
            return question.passed or question.error is not None
        return question.finished

    @property
    def deadline(self) -> float:
        """When the time of its ack request is over."""
        question = self.question
        return question.started + question.timeout if isinstance(question, ClientAck) else NEVER

    def look(self) -> tuple[Any, ...]:
        """What it has been told."""
        question = self.question
        if isinstance(question, Barrier):
            return question.error, question.passed, question.receipt
        return question.error, {name: written(one) for name, one in question.outcomes.items()}


def is_silent(link: Link) -> bool:
    """Whether nothing passes over a link at the moment."""
    return link.swallows or link.next_deadline() is not None


class Person:
    """A client, with a connection that may be bad."""

    def __init__(self, network: Servers, name: str) -> None:
        config = ClientConfig(
            id=name, host="memory", reconnect=Backoff.every(RECONNECT), limits=CLIENT_LIMITS
        )
        self.client: MemoryClient = network.client_with(config)
        self.session: ClientSession = self.client.session
        self.ghosts: list[Link] = []
        """Connections whose end the server has not noticed."""
        self._network = network

    @property
    def now(self) -> float:
        return self._network.clock.now

    @property
    def is_heard(self) -> bool:
        """Whether the server hears the client, and the other way round."""
        link = self.client.link
        return self.session.ready and link is not None and not is_silent(link)

    def cut(self, up: float, down: float, *, noticed: bool) -> None:
        """Break the connection. A part of what either end would have sent has arrived."""
        link = self.client.link
        if link is None or not link.alive:
            return
        self._pass(link, up, link.client, link.server)
        self._pass(link, down, link.server, link.client)
        if noticed:
            link.cut()
        else:
            link.alive = False
            link.client.connection_lost(self.now)
            self.ghosts.append(link)

    def write(self) -> None:
        """Let arrive at the server what the client has sent."""
        link = self.client.link
        if link is not None:
            self._pass(link, 1.0, link.client, link.server)

    def _pass(self, link: Link, part: float, source: Endpoint, target: Endpoint) -> None:
        if link.alive and not is_silent(link):
            data = source.data_to_send(1 << 20)
            if passing := data[: int(len(data) * part)]:
                target.receive_data(passing, self.now)

    def forget_ghosts(self) -> None:
        """The server notices what has ended."""
        ghosts, self.ghosts = self.ghosts, []
        for link in ghosts:
            link.server.connection_lost(self.now)


class Receiver(Person):
    """Somebody who is subscribed."""

    def __init__(self, network: Servers, name: str) -> None:
        super().__init__(network, name)
        subscribe = self.session.subscribe
        self.mailboxes = {key: subscribe(key, self.now) for key in SUBSCRIBED[name]}
        self.direct = self.session.subscriptions.open_direct()
        self.got: Counter[tuple[Key, int]] = Counter()
        """How often each message came, but for later attempts of groups."""
        self.asked: list[Message] = []
        """What it has to answer."""

    def collect(self) -> None:
        for key, mailbox in (*self.mailboxes.items(), ("", self.direct)):
            for message in mailbox.take_all():
                self.got[key, message.data] += message.attempt == 1
                if message.wants_ack:
                    self.asked.append(message)

    def answer(self, which: int, error: str | None) -> None:
        message = self.asked.pop(which % len(self.asked))
        self.session.settle(message, error, self.now, None if error else message.data)


class MessageIdsMachine(RuleBasedStateMachine):
    """The rules, and what must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Servers()
        self.publisher = Person(self.network, "publisher")
        self.receivers = [Receiver(self.network, name) for name in SUBSCRIBED]
        self.people: list[Person] = [self.publisher, *self.receivers]
        self.sent: list[Sent] = []
        self.calls: dict[int, Call] = {}
        """By the identity of what they wait for."""
        self.count = 0
        """Messages with ids that were sent, with those that the program has repeated."""
        self.heard_since: float | None = None
        """Since when the server has heard the publisher without a break."""
        self._seen = 0
        self.network.on_rest = self.follow
        self.network.run()

    @property
    def now(self) -> float:
        return self.network.clock.now

    # -- the publisher -----------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        return self.publisher.session.ready

    @precondition(lambda self: self.is_ready)
    @rule(tos=st.lists(TARGETS, min_size=1, max_size=3), timeout=st.none() | TIMEOUTS,
          fate=st.none() | FATES, halves=WAITS)  # fmt: skip
    def send(self, tos: list[str], timeout: float | None, fate: Fate | None, halves: int) -> None:
        for to in tos:
            own = 7.25 if to.startswith("to ") and timeout is None else timeout
            sent = Sent(len(self.sent), to, own, self.network.era)
            self.sent.append(sent)
            self.call(sent)
        self.suffer(self.publisher, fate, halves)

    def suffer(self, who: Person, fate: Fate | None, halves: int) -> None:
        """Lose a connection, perhaps, and let time pass."""
        if fate is not None:
            who.cut(fate.up, fate.down, noticed=fate.noticed)
            self.network.fates[who.client] = fate
        if halves:
            self.network.advance(halves / 2)

    def call(self, sent: Sent) -> None:
        asking, target, number = self.publisher.session.asking, sent.target, sent.number
        name, now = f"m{number}", self.now
        question: Barrier | AckHandle
        if sent.timeout is None:
            question = asking.publish_with_receipt(target, number, now, message_id=name)
        elif target.startswith("to "):
            question = asking.publish_to_id_with_ack(
                target[3:], number, sent.timeout, now, message_id=name
            )
        else:
            question = asking.publish_with_ack(
                target, number, sent.timeout, now, Demands(retries=1), message_id=name
            )
        self.count += 1
        state = self.publisher.session.state
        assert state.window is not None
        until = now + WINDOW - (state.window_at - state.window.time)
        call = Call(sent, question, now, until, self.count)
        sent.calls.append(call)
        self.calls[id(question)] = call

    @precondition(lambda self: self.is_ready and self.sent)
    @rule(which=ANY, fate=st.none() | FATES)
    def repeat(self, which: int, fate: Fate | None) -> None:
        """The program sends a message again, if the server must still know it."""
        if self.repeat_if_known(self.sent[-1 - which % min(len(self.sent), 4)]):
            self.suffer(self.publisher, fate, 0)

    def repeat_if_known(self, sent: Sent) -> bool:
        first = sent.calls[0]
        is_recent = self.now - first.at < WINDOW and self.count + 1 - first.count < MOST
        if sent.era == self.network.era and is_recent:
            self.call(sent)
            return True
        return False

    @rule(which=ANY, again=st.booleans())
    def cancel(self, which: int, again: bool) -> None:
        """The program wants no answer any more; perhaps it changes its mind."""
        calls = [call for call in self.calls.values() if not call.has_ended]
        if calls:
            call = calls[which % len(calls)]
            if isinstance(call.question, AckHandle):
                call.is_cancelled = True
                self.publisher.session.asking.cancel_ack(call.question, self.now)
                if again and self.is_ready:
                    self.repeat_if_known(call.sent)

    # -- the receivers -----------------------------------------------------------------------

    @precondition(lambda self: any(one.asked for one in self.receivers))
    @rule(which=ANY, error=ERRORS, times=st.integers(1, 4), fate=st.none() | FATES)
    def answer(self, which: int, error: str | None, times: int, fate: Fate | None) -> None:
        """Answer, perhaps just before the publisher's connection ends."""
        for number in range(times):
            asked = [one for one in self.receivers if one.asked]
            if asked:
                one = asked[(which + number) % len(asked)]
                one.answer(which, error)
                if fate is not None:
                    one.write()
        self.suffer(self.publisher, fate, 0)

    # -- connections -------------------------------------------------------------------------

    @rule(who=SOMEBODY, fate=FATES, halves=WAITS)
    def cut(self, who: int, fate: Fate, halves: int) -> None:
        self.suffer(self.people[who], fate, halves)

    @rule(who=SOMEBODY)
    def lose_everything(self, who: int) -> None:
        """From now on, until somebody cuts the connection."""
        link = self.people[who].client.link
        if link is not None and link.alive:
            link.swallows = True

    @rule()
    def notice(self) -> None:
        for one in self.people:
            one.forget_ghosts()

    @rule(halves=st.sampled_from([1, 3, 9, 15]))
    def outage(self, halves: int) -> None:
        """Nobody can connect."""
        self.network.reachable = False
        self.network.advance(halves / 2)
        self.network.reachable = True

    @rule(chance=st.integers(0, 3))
    def restart(self, chance: int) -> None:
        if not chance:
            for one in self.people:
                one.ghosts.clear()
            self.network.restart()

    # -- time --------------------------------------------------------------------------------

    @rule(halves=WAITS)
    def wait(self, halves: int) -> None:
        self.network.run()
        self.network.advance(halves / 2)

    # -- what must hold ----------------------------------------------------------------------

    def follow(self) -> None:
        """Read what the publisher was told, at the time when it was told."""
        if not self.publisher.is_heard:
            self.heard_since = None
        elif self.heard_since is None:
            self.heard_since = self.now
        events = self.publisher.client.events
        for event in events[self._seen :]:
            if isinstance(event, (BarrierPassed, AckChanged)):
                question = event.barrier if isinstance(event, BarrierPassed) else event.handle
                assert self.calls[id(question)].told is None, "it has ended before"
        ends = Counter(id(event.barrier) for event in events[self._seen :]
                       if isinstance(event, BarrierPassed))  # fmt: skip
        self._seen = len(events)
        for name, call in self.calls.items():
            if call.told is None and call.has_ended:
                assert ends[name] == isinstance(call.question, Barrier)
                call.told = call.look()
                self.check_end(call)

    def check_end(self, call: Call) -> None:
        sent, error = call.sent, call.question.error
        handled = self.network.handled[sent.number]
        if call.is_cancelled:
            assert error is None
        elif error is None and sent.timeout is None:
            assert call.told[1:] in [(True, one.delivered) for one in handled]
        elif error is None:
            assert call.told[1] in [one.outcomes() for one in handled]
        elif isinstance(error, ServerError):
            if error.code == "message_id_in_use":
                assert self.is_one_of_several(call)
            else:
                assert error.code == "outcome_unknown"
                assert self.now >= call.until
        elif isinstance(error, RequestTimeout):
            assert self.now > call.deadline
            assert (
                self.heard_since is None
                or self.heard_since > call.deadline
                or (handled and handled[0].was_late)
            ), "the server has not answered"
        else:
            assert isinstance(error, ConnectionLost)
            assert self.is_ready, "there was no need to end it before"
            assert (
                sent.era != self.network.era
                or self.now >= call.deadline
                or self.count - call.count >= MOST
                or self.is_one_of_several(call)
            )

    def is_one_of_several(self, call: Call) -> bool:
        """Whether there are other calls for the same acks, of which the server answers one."""
        return call.sent.timeout is not None and len(call.sent.calls) > 1

    @invariant()
    def messages_are_handled_once(self) -> None:
        for one in self.receivers:
            one.collect()
            for (_, number), times in one.got.items():
                assert times <= len(self.network.handled[number])
        for number, handled in self.network.handled.items():
            reached = [one for one in handled if one.has_reached_somebody]
            assert len(reached) <= 1 or self.is_forgotten(self.sent[number], reached)

    def is_forgotten(self, sent: Sent, handled: list[Handling]) -> bool:
        """Whether the program has repeated a message, and the server has forgotten it since.

        The program repeats only what the server must know. But if that call is lost, and sent again
        after another reconnect, its own time may not be over when that of the first call is.
        """
        count = sent.calls[-1].count - sent.calls[0].count
        return len(sent.calls) > 1 and all(
            later.at - earlier.at >= WINDOW or count >= MOST for earlier, later in pairwise(handled)
        )

    @invariant()
    def the_tables_fit_together(self) -> None:
        check_hub(self.network.hub)

    def teardown(self) -> None:
        """In the end each call has ended, and nothing is left."""
        network = self.network
        network.fates.clear()
        for one in self.people:
            one.forget_ghosts()
            one.cut(1.0, 1.0, noticed=True)
        network.advance(40.0)
        assert self.is_ready
        assert all(call.told is not None for call in self.calls.values())
        assert all(call.told == call.look() for call in self.calls.values())
        self.messages_are_handled_once()
        self.check_order()
        for one in self.people:
            one.session.close(self.now)
        network.advance(WINDOW)
        check_hub_is_empty(network.hub)
        assert all(one.session.asking.pending.repeats == 0 for one in self.people)
        super().teardown()

    def check_order(self) -> None:
        """A server handles messages in the order in which they were first sent."""
        by_era: dict[int, list[int]] = defaultdict(list)
        for number in dict.fromkeys(self.network.order):
            if len(self.sent[number].calls) == 1:
                by_era[self.network.handled[number][0].era].append(number)
        for numbers in by_era.values():
            assert numbers == sorted(numbers)


TestMessageIdsModel = MessageIdsMachine.TestCase
TestMessageIdsModel.settings = settings(
    max_examples=2 * settings().max_examples, stateful_step_count=50
)


class Scene:
    """A publisher and a subscriber, for one story."""

    def __init__(self, **limits: Any) -> None:
        self.network = Servers(ServerLimits(heartbeat_interval=1e6, **limits))
        self.publisher = Person(self.network, "publisher")
        self.asking = self.publisher.session.asking
        self.subscriber = Receiver(self.network, "b")
        self.network.run()

    def publish(self, number: int, topic: str = "plain") -> Barrier:
        return self.asking.publish_with_receipt(
            topic, number, self.network.clock.now, message_id=str(number)
        )

    def ask(self, number: int, timeout: float) -> AckHandle:
        return self.asking.publish_with_ack(
            "plain", number, timeout, self.network.clock.now, message_id=str(number)
        )

    def lose_answers(self) -> None:
        """End the connection when the server has got everything, and its answers have not come."""
        self.publisher.cut(1.0, 0.0, noticed=True)

    def got(self, number: int) -> int:
        """How often the subscriber has got a message."""
        self.network.run()
        self.subscriber.collect()
        return self.subscriber.got["plain", number]


def test_requests_that_end_late_push_nothing_out() -> None:
    """What a client has sent since is what it can count."""
    scene = Scene(max_message_ids=2)
    for number in range(2):
        scene.ask(number, 30.0)
    assert scene.got(1) == 1
    receipt = scene.publish(2)
    scene.lose_answers()
    scene.subscriber.answer(0, None)
    scene.subscriber.answer(0, None)
    scene.network.advance(RECONNECT)
    assert (receipt.passed, scene.got(2)) == (True, 1)


def test_what_is_not_remembered_pushes_nothing_out() -> None:
    scene = Scene(max_message_ids=2)
    scene.publish(0, "nobody")
    handle = scene.ask(1, 30.0)
    scene.lose_answers()
    scene.network.advance(RECONNECT)
    scene.publish(2)
    assert scene.got(1) == 1
    scene.subscriber.answer(0, None)
    scene.subscriber.write()
    scene.lose_answers()
    scene.network.advance(RECONNECT)
    assert scene.got(1) == 1
    assert handle.finished


def test_what_the_program_has_repeated_is_not_sent_again_too_late() -> None:
    scene = Scene()
    window = scene.network.limits.message_id_window
    scene.publish(0)
    assert scene.got(0) == 1
    scene.network.advance(window - 1.0)
    scene.publish(0)
    scene.lose_answers()
    scene.network.reachable = False
    scene.network.advance(2.0)
    scene.network.reachable = True
    scene.network.advance(2.0)
    assert scene.got(0) == 1


@pytest.mark.xfail(strict=True, reason="its time is that of the call, not of the message")
def test_nor_is_it_if_the_server_has_not_got_that_call() -> None:
    scene = Scene()
    window = scene.network.limits.message_id_window
    scene.publish(0)
    assert scene.got(0) == 1
    scene.network.advance(window - 1.0)
    scene.publish(0)
    scene.publisher.cut(0.0, 0.0, noticed=True)
    scene.network.reachable = False
    scene.network.advance(2.0)
    scene.network.reachable = True
    scene.network.advance(2.0)
    assert scene.got(0) == 1


@pytest.mark.parametrize("late", [0.0, 1.5])
def test_a_repeat_that_is_under_way_for_long_is_refused(late: float) -> None:
    scene = Scene()
    network, window = scene.network, scene.network.limits.message_id_window
    receipt = scene.publish(0)
    scene.lose_answers()
    network.reachable = False
    network.advance(window - 1.25)
    network.reachable = True
    network.fates[scene.publisher.client] = Fate(0.0, 0.0, True, 4, late)
    network.advance(3.0 + 2 * late)
    assert scene.got(0) == 1
    assert receipt.passed is not isinstance(receipt.error, ServerError)
    assert receipt.passed is (late == 0.0)


def test_a_server_that_has_forgotten_all_is_asked_nothing_again() -> None:
    scene = Scene()
    questions = scene.publish(0), scene.ask(1, 30.0)
    scene.network.restart()
    scene.network.advance(RECONNECT)
    assert [type(one.error) for one in questions] == [ConnectionLost] * 2
    assert scene.network.order == []
