"""Several subscriptions to one topic, each with something that it wants of presence.

Whatever the server refuses, and whoever ends meanwhile: in the end it does what those want that
are left (spec, 17.6).
"""

import json
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.members import Presence, check_wish
from kps.protocol.client.reconnect import Backoff
from kps.protocol.client.topic_states import TopicState
from tests.protocol.helpers import Client, Fields

RETRY = Backoff(first=1, factor=2, longest=8, jitter=0)
PONG = {"proto": 2, "features": ["presence"]}
CONFIRMED = {"action": "subscribed", "topic": "room"}
REFUSED = {"action": "error", "error": "no", "request": "subscribe", "topic": "room"}
MEMBERS = {"count": 1, "version": 1, "members": [{"id": "a"}]}


def callback(presence: Presence) -> None:
    """Hear of changes, which the tests do not read."""


class World:
    """A client, and a server that answers in order, when it is let."""

    def __init__(self, verdicts: Iterator[str]) -> None:
        self.client = Client(reconnect=RETRY)
        self.verdicts = verdicts
        self.living: list[Mailbox] = []
        self.number = 0
        self.connect()

    def connect(self) -> None:
        self.server = self.client.connect(**PONG)
        self.questions: list[Fields] = []
        self.is_subscribed = self.observes = False
        self.info: object = None

    def subscribe(self, *, says: bool, observes: bool) -> None:
        self.number += 1
        observer = callback if observes else None
        wish = check_wish("room", {"n": self.number} if says else None, observer)
        subscribe, now = self.client.session.subscribe, self.client.now
        self.living.append(subscribe("room", now, wish=wish, observer=observer))

    def unsubscribe(self, which: int) -> None:
        self.living = [one for one in self.living if one.error is None]
        if self.living:
            mailbox = self.living.pop(which % len(self.living))
            self.client.session.unsubscribe(mailbox, self.client.now)

    def reconnect(self) -> None:
        self.server.hang_up()
        self.client.advance(RETRY.longest)
        self.connect()

    def answer(self, count: int) -> None:
        for _ in range(count):
            self.questions += self.server.take()
            if self.questions:
                self.handle(self.questions.pop(0))

    def handle(self, question: Fields) -> None:
        if question["action"] == "unsubscribe":
            self.is_subscribed = self.observes = False
            self.info = None
            self.server.send({"action": "unsubscribed", "topic": "room"})
            return
        observes = question.get("presence")
        wants_more = observes or "info" in question or not self.is_subscribed
        code = next(self.verdicts) if wants_more else ""
        if code:
            self.server.send({**REFUSED, "code": code})
            return
        self.is_subscribed = True
        self.info = question.get("info", self.info)
        self.observes = self.observes if observes is None else observes
        self.server.send({**CONFIRMED, "presence": MEMBERS} if observes else CONFIRMED)

    def settle(self) -> None:
        """Let the server answer, and the client ask again, until there is nothing left to say."""
        session = self.client.session
        for _ in range(300):
            self.answer(50)
            if session.is_confirmed("room"):  # or there is nothing to confirm
                return
            self.client.advance(1.0)

    def check(self) -> None:
        session = self.client.session
        found = session.topics._topics.get("room")
        assert self.is_subscribed is bool(session.subscriptions.keys) is (found is not None)
        assert self.observes is session.subscriptions.is_observed("room")
        assert self.observes is ("room" in session.members._known)
        known = None if found is None or found.info is None else json.loads(found.info)
        assert self.info == known
        assert session.topics._open == 0
        if found is not None:
            assert found.state is TopicState.LIVE


SOME = st.sampled_from(["", "", "", "forbidden", "unavailable", "limit_reached"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("subscribe"), st.integers(0, 3)),
        st.tuples(st.just("unsubscribe"), st.integers(0, 8)),
        st.tuples(st.just("answer"), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.just(1)),
        st.tuples(st.just("reconnect"), st.just(1)),
    ),
    max_size=14,
)


@settings(max_examples=400)
@given(steps=STEPS, verdicts=st.lists(SOME, max_size=12))
def test_the_server_does_what_those_want_that_are_left(
    steps: list[tuple[str, int]], verdicts: list[str]
) -> None:
    def in_turn() -> Iterator[str]:
        yield from verdicts
        while True:
            yield ""

    world = World(in_turn())
    for step, number in steps:
        match step:
            case "subscribe":
                world.subscribe(says=number % 2 == 1, observes=number > 1)
            case "unsubscribe":
                world.unsubscribe(number)
            case "answer":
                world.answer(number)
            case "wait":
                world.client.advance(1.0)
            case "reconnect":
                world.reconnect()
    world.settle()
    world.check()


def test_an_observer_that_is_refused_before_the_answer_to_another_one_that_has_ended() -> None:
    world = World(iter(["", "forbidden", ""]))
    world.subscribe(says=False, observes=False)
    world.answer(1)
    world.subscribe(says=True, observes=True)
    world.subscribe(says=False, observes=True)
    world.unsubscribe(2)
    world.settle()
    world.check()
    assert not world.observes


def test_a_first_question_that_is_refused_while_others_are_open() -> None:
    """The server agrees to what the second one says, and would have the subscription."""
    world = World(iter(["forbidden", ""]))
    world.subscribe(says=False, observes=True)
    world.subscribe(says=True, observes=False)
    world.settle()
    world.check()
    assert not world.is_subscribed
    assert all(mailbox.error is not None for mailbox in world.living)


def test_it_is_asked_again_once_what_was_asked_besides_has_its_answer() -> None:
    world = World(iter(["unavailable", "forbidden", ""]))
    world.subscribe(says=False, observes=False)
    world.subscribe(says=True, observes=False)
    world.answer(1)
    world.client.advance(5.0)
    world.settle()
    world.check()
    plain, other = world.living
    assert plain.error is None
    assert other.error is not None
