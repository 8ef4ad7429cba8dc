"""The session at a broker, which keeps what is under way over several connections."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.mqtt.core import packets
from kps.mqtt.core.fields import variable
from kps.mqtt.core.intake import Intake
from kps.mqtt.core.packets import V3, V5, Connack, Filter, Publish, Reader
from kps.mqtt.core.reasons import ENDS_CONNECTION
from kps.mqtt.core.sending import Outgoing
from kps.mqtt.core.session import (
    Arrived,
    Broken,
    Opened,
    Refused,
    Session,
    SessionConfig,
    Subscribed,
)


def connack(code: int = 0, present: bool = False, told: bytes = b"\x00") -> bytes:
    return b"\x20" + variable(2 + len(told)) + bytes((present, code)) + told


def opened(session: Session, present: bool = False, told: bytes = b"\x00") -> list[Publish]:
    """Open a connection; return the messages that are then written."""
    session.begin(0.0, V5)
    assert session.take()[0] == 0x10
    assert isinstance(session.receive(connack(0, present, told), 0.0)[0], Opened)
    return written(session)


def written(session: Session) -> list[Publish]:
    """The messages among the bytes to write."""
    return [one for one in Reader(V5, 2**20).feed(session.take()) if isinstance(one, Publish)]


def give(session: Session, payload: bytes, qos: int = 1) -> list[tuple[int, str]]:
    answers: list[tuple[int, str]] = []
    session.publish(Outgoing(Publish("t", payload, qos), lambda *answer: answers.append(answer)))
    return answers


def test_a_message_is_done_when_the_broker_has_acknowledged_it() -> None:
    session = Session(SessionConfig(client_id="me"))
    opened(session)
    answers = give(session, b"1")
    (message,) = written(session)
    assert (message.dup, answers, session.under_way) == (False, [], 1)
    session.receive(packets.puback(V5, message.pid, 0x87), 1.0)
    assert (answers, session.under_way) == ([(0x87, "")], 0)
    session.receive(packets.puback(V5, message.pid, 0), 1.0)  # a second one has no effect
    assert answers == [(0x87, "")]
    assert give(session, b"2", qos=0) == [(0, "")]


@pytest.mark.parametrize("present", [True, False])
def test_what_is_under_way_goes_to_the_next_connection(present: bool) -> None:
    session = Session(SessionConfig(client_id="me"))
    opened(session)
    give(session, b"1")
    give(session, b"2")
    first = written(session)
    session.end()
    give(session, b"3")
    again = opened(session, present)
    assert [one.payload for one in again] == [b"1", b"2", b"3"]
    assert [one.dup for one in again] == [present, present, False]
    assert [one.pid for one in again[:2]] == [one.pid for one in first]


def test_no_more_is_under_way_than_the_broker_takes() -> None:
    session = Session(SessionConfig(client_id="me", window=5))
    assert not opened(session, told=b"\x03\x21\x00\x02")
    for number in range(5):
        assert session.has_room
        give(session, b"%d" % number)
    assert not session.has_room
    first, second = written(session)
    session.receive(packets.puback(V5, first.pid, 0), 0.0)
    (third,) = written(session)
    assert (second.payload, third.payload) == (b"1", b"2")


def test_what_the_next_connection_does_not_take_is_refused() -> None:
    session = Session(SessionConfig(client_id="me"))
    opened(session)
    answers = give(session, b"x" * 200)
    session.end()
    assert opened(session, told=b"\x05\x27\x00\x00\x00\x64") == []
    assert answers == [(0x95, "")]
    assert not session.fits(Publish("t", b"x" * 200, 1))
    assert session.fits(Publish("t", b"x" * 20, 1))
    assert session.fits(Publish("t", b"x" * 90, 1))
    assert not session.fits(Publish("t", b"x" * 20, 1, user=(("name", "x" * 70),)))


def test_pings() -> None:
    session = Session(SessionConfig(client_id="me", keep_alive=10, answer_timeout=3.0))
    session.begin(0.0, V5)
    assert session.deadline == 3.0
    assert session.tick(2.9) == []
    assert isinstance(session.tick(3.0)[0], Broken)
    opened(session)
    session.take()
    assert (session.deadline, session.tick(10.0), session.take()) == (10.0, [], packets.PINGREQ)
    session.receive(b"\xd0\x00", 11.0)
    assert (session.tick(20.0), session.take()) == ([], packets.PINGREQ)
    session.set_reading(False)
    assert session.tick(30.0) == []
    session.set_reading(True)
    assert session.tick(40.0) == []  # what has come meanwhile is still to be read
    assert isinstance(session.tick(50.0)[0], Broken)
    assert session.deadline is None  # nothing more is due on this connection


def test_a_subscription_must_be_answered() -> None:
    session = Session(SessionConfig(client_id="me", answer_timeout=3.0))
    opened(session)
    session.subscribe([Filter("a", 1, 0), Filter("b", 1, 0)], 1.0)
    assert session.deadline == 4.0
    session.set_reading(False)
    assert session.tick(4.0) == []
    session.set_reading(True)
    assert session.tick(7.0) == [Broken("the broker does not answer")]


@pytest.mark.parametrize("answer", [b"\x00\x01\x00\x01", b"\x00\x02\x00\x01\x01"])
def test_an_answer_is_to_a_subscription(answer: bytes) -> None:
    """It has its number, and a code for each filter."""
    session = Session(SessionConfig(client_id="me"))
    opened(session)
    session.subscribe([Filter("a", 1, 0), Filter("b", 1, 0)], 0.0)
    (event,) = session.receive(b"\x90" + bytes((len(answer),)) + answer, 0.0)
    assert event == Broken("an answer is to none of our subscriptions")


def test_a_broker_may_want_other_pings() -> None:
    session = Session(SessionConfig(client_id="me"))
    opened(session, told=b"\x03\x13\x00\x07")
    assert session.deadline == 7.0
    session.end()
    opened(session, told=b"\x03\x13\x00\x00")
    assert session.deadline is None


def test_a_refused_connection() -> None:
    session = Session(SessionConfig(client_id="me"))
    session.begin(0.0, V3)
    assert session.receive(b"\x20\x02\x00\x05", 0.0) == [Refused(5, "not authorized")]
    assert not session.is_open


@pytest.mark.parametrize("early", [b"\xd0\x00", b"\x30\x04\x00\x01a\x00"])
def test_nothing_comes_before_the_answer(early: bytes) -> None:
    session = Session(SessionConfig(client_id="me"))
    session.begin(0.0, V5)
    assert isinstance(session.receive(early, 0.0)[0], Broken)


def test_no_second_answer() -> None:
    session = Session(SessionConfig(client_id="me"))
    opened(session)
    assert isinstance(session.receive(connack(), 0.0)[0], Broken)


def test_what_comes() -> None:
    session = Session(SessionConfig(client_id="me"))
    opened(session)
    session.subscribe([Filter("a", 1, 0)], 0.0)
    session.take()
    message = Publish("a", b"1", 1, pid=4)
    data = packets.publish(V5, message) + b"\x90\x04\x00\x01\x00\x01" + b"\xe0\x01\x8b"
    assert session.receive(data, 0.0) == [
        Arrived(message),
        Subscribed((1,)),
        Broken("it shuts down", 0x8B),
    ]
    session.acknowledge(4, 0x10)
    assert session.take() == b"\x40\x03\x00\x04\x10"


def test_a_connection_of_use() -> None:
    session = Session(SessionConfig(client_id="me"))
    opened(session)
    session.receive(b"\xd0\x00", 0.0)
    assert not session.was_of_use
    session.receive(packets.publish(V5, Publish("a", b"1")), 0.0)
    session.end()
    assert session.was_of_use
    give(session, b"1")
    (message,) = opened(session)
    assert not session.was_of_use
    session.receive(packets.puback(V5, message.pid, 0), 0.0)
    assert session.was_of_use


def test_only_what_was_written_is_acknowledged() -> None:
    session = Session(SessionConfig(client_id="me"))
    opened(session, told=b"\x03\x21\x00\x01")
    give(session, b"1")
    answers = give(session, b"2")  # which has to wait
    session.receive(packets.puback(V5, 2, 0), 0.0)
    assert (answers, session.under_way) == ([], 2)


def cut(session: Session, code: int | None = None) -> None:
    """The broker ends the connection, and may say why."""
    if code is not None:
        session.receive(b"\xe0\x01" + bytes((code,)), 0.0)
    session.end()


class TestAMessageForWhichTheBrokerEndsTheConnection:
    """It must not keep all others from passing."""

    def test_it_is_given_up(self) -> None:
        session = Session(SessionConfig(client_id="me"))
        answers = [give(session, payload) for payload in (b"1", b"bad", b"3", b"4")]
        for _ in range(30):
            if not session.under_way:
                break
            for one in opened(session, True):
                self.handle(session, one)
        assert answers == [[(0, "")], [(ENDS_CONNECTION, "")], [(0, "")], [(0, "")]]

    def handle(self, session: Session, message: Publish) -> None:
        """Be a broker that handles messages in order, and not the bad one."""
        if session.is_open and message.payload == b"bad":
            cut(session)
        elif session.is_open:
            session.receive(packets.puback(V5, message.pid, 0), 0.0)
            for one in written(session):
                self.handle(session, one)

    def test_what_has_an_answer_was_not_the_reason(self) -> None:
        """A broker that tells of nothing before it ends: they go one at a time, after a while."""
        session = Session(SessionConfig(client_id="me"))
        answers = [give(session, payload) for payload in (b"1", b"bad", b"3")]
        for _ in range(30):
            if not session.under_way:
                break
            sent = opened(session, True)
            if b"bad" in [one.payload for one in sent]:
                cut(session)
                continue
            while sent:
                (one,) = sent
                if one.payload == b"bad":
                    break
                session.receive(packets.puback(V5, one.pid, 0), 0.0)
                sent = written(session)
            if session.is_open:
                cut(session)
        assert answers == [[(0, "")], [(ENDS_CONNECTION, "")], [(0, "")]]

    def test_a_broker_that_says_so_is_believed_at_once(self) -> None:
        session = Session(SessionConfig(client_id="me"))
        answers = [give(session, payload) for payload in (b"1", b"2")]
        opened(session)
        cut(session, 0x81)
        assert [one.payload for one in opened(session, True)] == [b"1"]
        cut(session, 0x81)
        assert answers == [[(ENDS_CONNECTION, "")], []]

    @pytest.mark.parametrize("code", [0x8B, 0x8D, 0x97])
    def test_other_ends_are_no_reason(self, code: int) -> None:
        """A broker that shuts down, is full, or was not answered in time."""
        session = Session(SessionConfig(client_id="me"))
        answers = give(session, b"1")
        for _ in range(50):
            opened(session, True)
            cut(session, code)
        for now in range(50):
            opened(session, True)
            session.set_reading(True)
            assert session.tick(30.0) == []
            assert isinstance(session.tick(60.0)[0], Broken), now
            session.end()
        for _ in range(50):
            session.begin(0.0, V5)  # and no connection at all
            session.end()
        assert (answers, session.under_way) == ([], 1)

    def test_answers_in_between_begin_the_count_anew(self) -> None:
        session = Session(SessionConfig(client_id="me"))
        for number in range(20):
            give(session, b"%d" % (2 * number))
            give(session, b"%d" % (2 * number + 1))
            opened(session, True)
            cut(session)
            first, *_ = opened(session, True)
            session.receive(packets.puback(V5, first.pid, 0), 0.0)
            cut(session)
        assert session.under_way == 20


def test_at_the_end_nothing_is_forgotten() -> None:
    session = Session(SessionConfig(client_id="me"))
    opened(session)
    give(session, b"1")
    give(session, b"2")
    session.take()
    assert [one.message.payload for one in session.give_up()] == [b"1", b"2"]
    assert session.under_way == 0
    session.disconnect()
    assert session.take() == packets.DISCONNECT


STEPS = st.lists(st.sampled_from(["give", "ack", "refuse", "cut", "forget", "open"]), max_size=40)


@given(STEPS, st.integers(1, 5), st.integers(1, 5))
def test_each_message_is_answered_once_or_under_way(
    steps: list[str], window: int, maximum: int
) -> None:
    """A broker that is cut off, may forget, comes back, and acknowledges what it has."""
    session = Session(SessionConfig(client_id="me", window=window))
    told = b"\x03\x21" + maximum.to_bytes(2)
    given_, answers, is_kept = 0, 0, True
    has: list[Publish] = []  # what the broker has on this connection and has not acknowledged

    def done(code: int, reason: str) -> None:
        nonlocal answers
        answers += 1

    for step in steps:
        if step == "give" and session.has_room:
            session.publish(Outgoing(Publish("t", b"%d" % given_, 1), done))
            given_ += 1
        elif step in ("ack", "refuse") and has:
            session.receive(packets.puback(V5, has.pop(0).pid, 0x97 * (step == "refuse")), 0.0)
        elif step in ("cut", "forget"):
            session.end()
            has.clear()
            is_kept = is_kept and step == "cut"
        elif step == "open" and not session.is_open:
            has += opened(session, is_kept, told)
            assert is_kept or not any(one.dup for one in has)
            is_kept = True
        if session.is_open:
            has += written(session)
        assert len(has) <= maximum
        assert answers + session.under_way == given_
        numbers = [int(one.payload) for one in has]
        assert numbers == sorted(numbers)


def test_messages_are_acknowledged_in_their_order() -> None:
    intake = Intake()
    first, second = (intake.came(Publish("t", b"%d" % pid, 1, pid=pid)) for pid in (1, 2))
    assert first is not None
    assert second is not None
    intake.settle(second, 0x87)
    assert list(intake.take()) == []
    intake.settle(first, 0)
    assert list(intake.take()) == [(1, 0), (2, 0x87)]
    assert len(intake) == 0


def test_a_message_that_comes_again_is_handled_once() -> None:
    intake = Intake()
    message = Publish("t", b"1", 1, pid=1)
    entry = intake.came(message)
    assert entry is not None
    intake.lost()
    intake.settle(entry, 0)
    assert list(intake.take()) == []  # on no connection
    intake.opened(True)
    again: Any = Publish("t", b"1", 1, dup=True, pid=1)
    assert intake.came(again) is None
    assert list(intake.take()) == [(1, 0)]
    assert intake.came(again) is not None  # it may be another one: the first is acknowledged


def test_another_message_with_the_number_of_one_is_another() -> None:
    intake = Intake()
    intake.came(Publish("t", b"1", 1, pid=1))
    intake.lost()
    intake.opened(True)
    assert intake.came(Publish("t", b"2", 1, dup=True, pid=1)) is not None
    intake.lost()
    intake.opened(False)
    assert len(intake) == 0


def test_a_session_opens_with_what_the_broker_says() -> None:
    session = Session(SessionConfig(client_id="me"))
    session.begin(0.0, V5)
    (event,) = session.receive(connack(0, True, b"\x03\x21\x00\x09"), 0.0)
    assert event == Opened(Connack(0, True, receive_maximum=9))
