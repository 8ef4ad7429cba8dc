"""What waits for the program's callbacks and iterators, and the answers it owes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import KPSError
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.cost import MESSAGE
from kps.protocol.limits import Overflow, ProgramLimits

EACH = 10 + MESSAGE
"""Bytes for which a message of 10 bytes counts."""


class Program:
    """Subscriptions, and the answers that went out: ``(ack id, epoch, error)``."""

    def __init__(self, **limits: int | Overflow) -> None:
        self.answers: list[tuple[str, int, str | None]] = []
        self.subscriptions = Subscriptions(
            ProgramLimits(**limits),  # type: ignore[arg-type]
            lambda a: self.answers.append((a.ack_id, a.epoch, a.error)),
        )

    def deliver(
        self, data: object, *, ack: str = "", size: int = 10, topic: str = "t"
    ) -> bool | None:
        return self.subscriptions.deliver(topic, data, "alice", size, ack, 7)


def contents(mailbox: Mailbox) -> list[object]:
    return [message.data for message in mailbox.take_all()]


class TestRouting:
    def test_each_subscription_of_a_topic_gets_it(self) -> None:
        program = Program()
        one, two = program.subscriptions.add("t"), program.subscriptions.add("t")
        other = program.subscriptions.add("u")
        assert program.deliver("hello")
        assert [len(one), len(two), len(other)] == [1, 1, 0]
        first, second = one.take(), two.take()
        assert first == second == Message("t", "hello", "alice")
        assert first is not second
        assert one.take() is None

    def test_nobody_subscribed(self) -> None:
        program = Program()
        assert not program.deliver("hello", ack="1")
        assert not program.subscriptions.deliver_direct("hello", "alice", 1, "1", 7)
        assert program.answers == []

    def test_topics_and_counts(self) -> None:
        subscriptions = Program().subscriptions
        one, two = subscriptions.add("t"), subscriptions.add("t")
        subscriptions.add("u")
        assert subscriptions.keys == ["t", "u"]
        assert subscriptions.mailboxes("t") == [one, two]
        assert [subscriptions.count(topic) for topic in "tuv"] == [2, 1, 0]

    def test_only_the_last_one_ends_the_topic(self) -> None:
        program = Program()
        one, two = program.subscriptions.add("t"), program.subscriptions.add("t")
        assert not program.subscriptions.remove(one)
        program.deliver("for two")
        assert (contents(one), contents(two)) == ([], ["for two"])
        assert program.subscriptions.remove(two)
        assert not program.subscriptions.remove(two)
        assert not program.deliver("for nobody")
        assert program.subscriptions.keys == []

    def test_a_refused_topic_is_over_and_keeps_what_waits(self) -> None:
        program = Program()
        one, two = program.subscriptions.add("t"), program.subscriptions.add("t")
        program.deliver("kept", ack="1")
        error = KPSError("no")
        assert program.subscriptions.refuse("t", error) == [one, two]
        assert program.subscriptions.refuse("t", error) == []
        assert not program.deliver("for nobody")
        assert (one.error, one.is_over, two.closed) == (error, True, False)
        later = program.subscriptions.add("t")
        assert contents(one) == ["kept"]
        for mailbox in (one, two):
            assert not program.subscriptions.remove(mailbox)
        assert two.take() is None
        assert program.subscriptions.mailboxes("t") == [later]

    def test_direct_messages(self) -> None:
        program = Program()
        direct = program.subscriptions.open_direct()
        assert program.subscriptions.open_direct() is direct
        assert program.subscriptions.deliver_direct("hi", "alice", 1, "", 7)
        assert direct.take() == Message("", "hi", "alice")
        assert not program.subscriptions.remove(direct)
        assert not program.subscriptions.deliver_direct("hi", "alice", 1, "", 7)
        assert program.subscriptions.open_direct() is not direct


class TestTaking:
    def test_a_batch_that_is_left_goes_on(self) -> None:
        program = Program()
        mailbox = program.subscriptions.add("t")
        for number in range(5):
            program.deliver(number)
        assert next(mailbox.batch(3)).data == 0
        assert [message.data for message in mailbox.batch(3)] == [1, 2]
        assert mailbox.has_work
        assert [message.data for message in mailbox.batch(3)] == [3, 4]
        assert not mailbox.has_work
        assert list(mailbox.batch(3)) == []

    def test_progress_is_what_the_program_goes_on_to(self) -> None:
        program = Program()
        mailbox = program.subscriptions.add("t")
        for number in range(3):
            program.deliver(number)
        seen = [mailbox.progress()]
        batch = mailbox.batch(3)
        assert mailbox.progress() == seen[0]
        for _ in batch:
            seen.append(mailbox.progress())
        assert len(set(seen)) == 4

    def test_what_is_cleared_is_never_handled(self) -> None:
        program = Program()
        mailbox = program.subscriptions.add("t")
        for number in range(5):
            program.deliver(number)
        batch = mailbox.batch(3)
        next(batch)
        mailbox.clear()
        assert list(batch) == []
        assert (mailbox.has_work, len(mailbox), mailbox.size) == (False, 0, 0)

    def test_in_order_and_in_parts(self) -> None:
        program = Program()
        mailbox = program.subscriptions.add("t")
        for number in range(6):
            program.deliver(number)
        assert mailbox.size == 6 * EACH
        first = mailbox.take()
        assert first is not None
        assert first.data == 0
        assert [message.data for message in mailbox.take_some(2)] == [1, 2]
        assert (len(mailbox), mailbox.size) == (3, 3 * EACH)
        assert [message.data for message in mailbox.take_some(5)] == [3, 4, 5]
        assert (len(mailbox), mailbox.size) == (0, 0)
        assert mailbox.take_some(5) == mailbox.take_all() == []

    def test_ready_when_the_first_message_comes(self) -> None:
        program = Program()
        one, two = program.subscriptions.add("t"), program.subscriptions.add("u")
        assert program.subscriptions.take_ready() == []
        program.deliver(1)
        program.deliver(2)
        assert program.subscriptions.take_ready() == [one]
        program.deliver(3)
        assert program.subscriptions.take_ready() == []  # known to have something
        one.take_all()
        program.deliver(4)
        program.deliver(5, topic="u")
        assert program.subscriptions.take_ready() == [one, two]


class TestFull:
    @pytest.mark.parametrize("limits", [{"mailbox_messages": 2}, {"mailbox_bytes": 2 * EACH + 5}])
    def test_drop_newest(self, limits: dict[str, int]) -> None:
        program = Program(mailbox_overflow=Overflow.DROP_NEWEST, **limits)
        mailbox = program.subscriptions.add("t")
        for number in range(4):
            program.deliver(number, ack=f"ack {number}")
        assert mailbox.dropped == 2
        assert program.answers == [("ack 2", 7, "queue full"), ("ack 3", 7, "queue full")]
        assert contents(mailbox) == [0, 1]

    @pytest.mark.parametrize("limits", [{"mailbox_messages": 3}, {"mailbox_bytes": 3 * EACH + 5}])
    def test_drop_oldest(self, limits: dict[str, int]) -> None:
        program = Program(mailbox_overflow=Overflow.DROP_OLDEST, **limits)
        mailbox = program.subscriptions.add("t")
        for number in range(5):
            program.deliver(number, ack=f"ack {number}")
        assert mailbox.dropped == 2
        assert program.answers == [("ack 0", 7, "queue full"), ("ack 1", 7, "queue full")]
        assert contents(mailbox) == [2, 3, 4]

    @pytest.mark.parametrize("policy", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
    def test_large_message_fits_into_an_empty_mailbox(self, policy: Overflow) -> None:
        program = Program(mailbox_bytes=2 * EACH + 5, mailbox_overflow=policy)
        mailbox = program.subscriptions.add("t")
        program.deliver("large", size=1000)
        assert (mailbox.size, mailbox.dropped) == (1000 + MESSAGE, 0)
        program.deliver("small")
        kept = "large" if policy is Overflow.DROP_NEWEST else "small"
        assert contents(mailbox) == [kept]

    def test_a_full_mailbox_does_not_cost_the_others_their_messages(self) -> None:
        program = Program(mailbox_messages=2)
        slow, fast = program.subscriptions.add("t"), program.subscriptions.add("t")
        for number in range(5):
            program.deliver(number)
            assert fast.take() == Message("t", number, "alice")
        assert contents(slow) == [0, 1]

    def test_overflow_is_reported_once_an_episode(self) -> None:
        program = Program(mailbox_messages=1)
        mailbox = program.subscriptions.add("t")
        for _ in range(4):
            program.deliver("x")
        assert program.subscriptions.take_overflowed() == [mailbox]
        program.deliver("x")
        assert program.subscriptions.take_overflowed() == []
        episodes: list[Callable[[], object]] = [
            mailbox.take, mailbox.take_all, lambda: mailbox.take_some(1),
        ]  # fmt: skip
        for read in episodes:
            read()
            for _ in range(3):
                program.deliver("x")
            assert program.subscriptions.take_overflowed() == [mailbox]
        assert mailbox.dropped == 4 + 3 * 2

    def test_reading_a_part_ends_the_episode_too(self) -> None:
        program = Program(mailbox_messages=3)
        mailbox = program.subscriptions.add("t")
        for _ in range(2):
            for _ in range(5):
                program.deliver("x")
            assert program.subscriptions.take_overflowed() == [mailbox]
            assert len(mailbox.take_some(2)) == 2


class TestSeveral:
    """Messages that came together, and are given to each subscription at once."""

    def test_each_subscription_gets_all_of_them(self) -> None:
        program = Program()
        one, two = program.subscriptions.add("t"), program.subscriptions.add("t")
        program.subscriptions.deliver_all("t", [1, 2, 3], "alice", 10)
        program.subscriptions.deliver_all("u", [4], "alice", 10)
        assert (len(one), one.size) == (len(two), two.size) == (3, 3 * EACH)
        assert program.subscriptions.take_ready() == [one, two]
        program.subscriptions.deliver_all("t", [4], "alice", 10)
        assert program.subscriptions.take_ready() == []
        first = one.take_all()
        assert first == [Message("t", number, "alice") for number in (1, 2, 3, 4)]
        assert contents(two) == [1, 2, 3, 4]
        assert not any(message.wants_ack for message in first)

    @given(
        policy=st.sampled_from([Overflow.DROP_NEWEST, Overflow.DROP_OLDEST]),
        limits=st.sampled_from([{"mailbox_messages": 4}, {"mailbox_bytes": 4 * EACH + 5}]),
        counts=st.lists(st.integers(1, 6), max_size=4),
    )
    def test_it_is_as_if_they_came_one_by_one(
        self, policy: Overflow, limits: dict[str, int], counts: list[int]
    ) -> None:
        found = []
        for together in (True, False):
            program = Program(mailbox_overflow=policy, **limits)
            mailbox = program.subscriptions.add("t")
            for count in counts:
                payloads = list(range(count))
                if together:
                    program.subscriptions.deliver_all("t", payloads, "alice", 10)
                else:
                    for payload in payloads:
                        program.deliver(payload)
            subscriptions = program.subscriptions
            news = len(subscriptions.take_ready()), len(subscriptions.take_overflowed())
            found.append((mailbox.dropped, mailbox.size, contents(mailbox), news))
        assert found[0] == found[1]


class TestCrowded:
    def test_a_mailbox_that_fills_up_is_named_until_it_is_emptied(self) -> None:
        crowded: list[Mailbox] = []
        limits = ProgramLimits(mailbox_messages=64)
        subscriptions = Subscriptions(limits, lambda answer: None, crowded.append)
        mailbox = subscriptions.add("t")
        subscriptions.deliver_all("t", [1, 2], "alice", 10)  # a 32nd, and not more
        assert crowded == []
        subscriptions.deliver("t", 3, "alice", 10, "", 0)
        subscriptions.deliver_all("t", [4], "alice", 10)
        assert crowded == [mailbox, mailbox]
        mailbox.take_some(2)
        subscriptions.deliver("t", 5, "alice", 10, "", 0)
        assert crowded == [mailbox] * 3
        mailbox.take_all()
        subscriptions.deliver("t", 6, "alice", 10, "", 0)
        assert crowded == [mailbox] * 3

    def test_relief_is_told_once_when_little_is_left(self) -> None:
        program = Program(mailbox_messages=64)
        mailbox = program.subscriptions.add("t")
        relieved: list[int] = []
        for number in range(4):
            program.deliver(number)
        mailbox.on_relief = lambda: relieved.append(len(mailbox))
        assert mailbox.take_some(2)
        assert relieved == []
        assert mailbox.take()
        assert mailbox.take()
        assert relieved == [1]
        assert mailbox.taken == 4


class TestAnswers:
    def taken(self, mailbox: Mailbox) -> Message:
        message = mailbox.take()
        assert message is not None
        return message

    def test_none_is_owed_for_a_plain_message(self) -> None:
        program = Program()
        mailbox = program.subscriptions.add("t")
        program.deliver("x")
        message = self.taken(mailbox)
        assert not message.wants_ack
        program.subscriptions.settle(message, None)
        assert program.answers == []

    @pytest.mark.parametrize("error", [None, "went wrong"])
    def test_once_settled(self, error: str | None) -> None:
        program = Program()
        mailbox = program.subscriptions.add("t")
        program.deliver("x", ack="1")
        message = self.taken(mailbox)
        assert message.wants_ack
        program.subscriptions.settle(message, error)
        program.subscriptions.settle(message, "second word")
        assert program.answers == [("1", 7, error)]

    @pytest.mark.parametrize(
        ("errors", "expected"),
        [
            ((None, None), None),
            (("first", None), "first"),
            ((None, "second"), "second"),
            (("first", "second"), "first"),
            (("", None), ""),
        ],
    )
    def test_once_all_subscriptions_have_settled(
        self, errors: tuple[str | None, ...], expected: str | None
    ) -> None:
        program = Program()
        mailboxes = [program.subscriptions.add("t") for _ in range(2)]
        program.deliver("x", ack="1")
        messages = [self.taken(mailbox) for mailbox in mailboxes]
        program.subscriptions.settle(messages[0], errors[0])
        program.subscriptions.settle(messages[0], errors[0])  # twice by one is not both
        assert program.answers == []
        program.subscriptions.settle(messages[1], errors[1])
        assert program.answers == [("1", 7, expected)]

    def test_unsubscribing_answers_what_waits(self) -> None:
        program = Program()
        one, two = program.subscriptions.add("t"), program.subscriptions.add("t")
        program.deliver("x", ack="1")
        program.deliver("y", ack="2")
        program.subscriptions.remove(one)
        assert program.answers == []
        for _ in range(2):
            program.subscriptions.settle(self.taken(two), None)
        assert program.answers == [("1", 7, "unsubscribed"), ("2", 7, "unsubscribed")]

    def test_message_being_handled_while_unsubscribing_is_answered_by_its_handler(self) -> None:
        program = Program()
        mailbox = program.subscriptions.add("t")
        program.deliver("x", ack="1")
        message = self.taken(mailbox)
        program.subscriptions.remove(mailbox)
        assert program.answers == []
        program.subscriptions.settle(message, None)
        assert program.answers == [("1", 7, None)]

    def test_direct_message_is_answered(self) -> None:
        program = Program()
        direct = program.subscriptions.open_direct()
        program.subscriptions.deliver_direct("hi", "alice", 1, "1", 7)
        program.subscriptions.settle(self.taken(direct), None)
        program.subscriptions.deliver_direct("hi", "alice", 1, "2", 7)
        program.subscriptions.remove(direct)
        assert program.answers == [("1", 7, None), ("2", 7, "unsubscribed")]


@given(
    policy=st.sampled_from([Overflow.DROP_NEWEST, Overflow.DROP_OLDEST]),
    steps=st.lists(st.sampled_from(["deliver", "deliver", "settle 0", "settle 1", "remove 0"])),
)
def test_every_message_is_answered_exactly_once(policy: Overflow, steps: list[str]) -> None:
    program = Program(mailbox_messages=2, mailbox_overflow=policy)
    mailboxes = [program.subscriptions.add("t") for _ in range(2)]
    delivered = 0
    for step in [*steps, "remove 0", "remove 1"]:
        verb, _, which = step.partition(" ")
        if verb == "deliver":
            program.deliver(delivered, ack=str(delivered))
            delivered += 1
        elif verb == "settle":
            message = mailboxes[int(which)].take()
            if message is not None:
                program.subscriptions.settle(message, None)
        else:
            program.subscriptions.remove(mailboxes[int(which)])
    assert sorted(int(ack_id) for ack_id, _, _ in program.answers) == list(range(delivered))
