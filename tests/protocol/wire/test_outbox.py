"""The outgoing queue of a connection: its limits, and what they do.

All numbers are bytes of data: an entry takes nothing besides, except in ``test_outbox_cost.py``.
"""

from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.limits import ConnectionLimits, Overflow
from kps.protocol.wire import outbox as outbox_module
from kps.protocol.wire.frames import text_frame
from kps.protocol.wire.outbox import Entry, Kind, Outbox, Push, control
from tests.protocol.helpers import THOROUGH

pytestmark = pytest.mark.pure("its entries take nothing besides their data")


@pytest.fixture(autouse=True, scope="module")
def weightless() -> Iterator[None]:
    """Let entries take nothing besides their data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox_module, "ENTRY", 0)
        patch.setattr(outbox_module, "_AROUND_ARRAY", HEADER_AND_BRACKETS)
        for entry in (A, B, C, D, ANSWER, OTHERS, PING):
            entry.__init__(entry.data, entry.kind, entry.messages)  # type: ignore[misc]
        yield


A, B, C, D = (Entry(letter * 10, Kind.DROPPABLE) for letter in (b"A", b"B", b"C", b"D"))
ANSWER = Entry(b"answer....", Kind.REPLY)
OTHERS = Entry(b"others....", Kind.FORWARDED)
PING = control(b"ping")
EVERY_POLICY = list(Overflow)
LASTING = [kind for kind in Kind if kind is not Kind.DROPPABLE]
HEADER_AND_BRACKETS = 14 + 2
"""Bytes that an array may have beside its messages and a comma for each, at most."""


ARRAY = (b"[", b",", b"]")


def join(messages: Sequence[bytes]) -> bytes:
    """Make one message of several, as the second level of the protocol does."""
    return b"[" + b",".join(messages) + b"]"


def outbox(policy: Overflow = Overflow.CLOSE, *, messages: int = 3, size: int = 1000) -> Outbox:
    limits = ConnectionLimits(queue_messages=messages, queue_bytes=size, overflow=policy)
    return Outbox(limits, text_frame)


def gathering(policy: Overflow = Overflow.CLOSE, *, messages: int = 3, size: int = 1000) -> Outbox:
    """An outbox that makes one message of those that wait together."""
    box = outbox(policy, messages=messages, size=size)
    box.speak(ARRAY)
    return box


def fill(box: Outbox, *entries: Entry) -> Outbox:
    for entry in entries:
        assert box.push(entry) is Push.QUEUED
    return box


def several(entries: Sequence[Entry], kind: Kind = Kind.DROPPABLE) -> Entry:
    """Frames of one message each, as one entry."""
    count = len(entries)
    return Entry(data(*entries), kind, messages=count, frames=count)


def data(*entries: Entry) -> bytes:
    """What these entries are on the wire."""
    return b"".join(entry.data for entry in entries)


def pending(box: Outbox) -> tuple[int, int, int]:
    """Frames, bytes, and bytes of replies that wait."""
    return box.pending_messages, box.pending_bytes, box.pending_replies


class TestEntry:
    @pytest.mark.parametrize("kind", Kind)
    def test_only_a_reply_has_reply_bytes(self, kind: Kind) -> None:
        entry = Entry(b"x" * 7, kind)
        assert (entry.data, entry.kind, entry.size) == (b"x" * 7, kind, 7)
        assert (entry.messages, entry.frames) == (1, 1)
        assert entry.reply_bytes == (7 if kind is Kind.REPLY else 0)

    def test_an_array_says_how_many_of_its_bytes_are_replies(self) -> None:
        box = gathering()
        for message, kind in ((b"12", Kind.REPLY), (b"3456", Kind.FORWARDED), (b"7", Kind.REPLY)):
            box.send(message, kind)
        box.seal()
        (entry,) = box._entries
        assert (entry.data, entry.kind) == (text_frame(b"[12,3456,7]"), Kind.REPLY)
        assert (entry.size, entry.messages, entry.frames, entry.reply_bytes) == (13, 3, 1, 5)

    def test_one_of_the_connection_itself_holds_no_message(self) -> None:
        assert (PING.kind, PING.messages, PING.frames, PING.reply_bytes) == (Kind.CONTROL, 0, 1, 0)


class TestOrder:
    @pytest.mark.parametrize("policy", EVERY_POLICY)
    def test_first_in_first_out(self, policy: Overflow) -> None:
        box = fill(outbox(policy), A, ANSWER, B)
        assert box.pending_messages == 3
        assert box.take(1000) == data(A, ANSWER, B)
        assert box.take(1000) == b""
        assert pending(box) == (0, 0, 0)

    def test_takes_whole_frames_up_to_the_limit(self) -> None:
        box = fill(outbox(), A, ANSWER, B)
        assert box.take(29) == data(A, ANSWER)
        assert (box.pending_bytes, box.pending_replies) == (10, 0)
        assert box.take(5) == B.data  # at least one, or nothing would ever move

    def test_counts_what_waits(self) -> None:
        box = fill(outbox(), A, ANSWER)
        assert (box.pending_bytes, box.pending_replies) == (20, 10)


class TestFull:
    @pytest.mark.parametrize("limits", [{"messages": 3}, {"messages": 100, "size": 35}])
    def test_close(self, limits: dict[str, int]) -> None:
        box = fill(outbox(Overflow.CLOSE, **limits), A, B, ANSWER)
        assert box.push(C) is Push.OVERFLOW
        assert box.push(ANSWER) is Push.OVERFLOW
        assert box.take(1000) == data(A, B, ANSWER)
        assert box.dropped == 0

    @pytest.mark.parametrize("limits", [{"messages": 3}, {"messages": 100, "size": 35}])
    def test_drop_newest(self, limits: dict[str, int]) -> None:
        box = fill(outbox(Overflow.DROP_NEWEST, **limits), A, ANSWER, B)
        assert box.push(C) is Push.DROPPED
        assert box.dropped == 1
        assert box.take(1000) == data(A, ANSWER, B)

    @pytest.mark.parametrize("limits", [{"messages": 3}, {"messages": 100, "size": 35}])
    def test_drop_oldest(self, limits: dict[str, int]) -> None:
        box = fill(outbox(Overflow.DROP_OLDEST, **limits), ANSWER, A, B)
        assert box.push(C) is Push.QUEUED
        assert box.dropped == 1
        assert box.push(D) is Push.QUEUED
        assert box.dropped == 2
        assert box.take(1000) == data(ANSWER, C, D)

    @pytest.mark.parametrize("policy", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
    def test_answer_takes_the_place_of_publications(self, policy: Overflow) -> None:
        box = fill(outbox(policy), A, B, C)
        assert box.push(ANSWER) is Push.QUEUED
        assert box.dropped == 1
        assert box.take(1000) == data(B, C, ANSWER)

    @pytest.mark.parametrize("policy", EVERY_POLICY)
    @pytest.mark.parametrize("kind", LASTING)
    def test_only_publications_are_dropped(self, policy: Overflow, kind: Kind) -> None:
        lasting = Entry(b"lasting...", kind)
        box = fill(outbox(policy), lasting, lasting, lasting)
        assert box.push(lasting) is Push.OVERFLOW
        assert box.push(A) is (Push.OVERFLOW if policy is Overflow.CLOSE else Push.DROPPED)
        assert box.take(1000) == data(lasting, lasting, lasting)

    @pytest.mark.parametrize("policy", EVERY_POLICY)
    def test_large_frame_passes_through_an_empty_queue(self, policy: Overflow) -> None:
        large = Entry(b"x" * 5000, Kind.DROPPABLE)
        box = fill(outbox(policy), large)
        assert not box.has_room(1)
        assert box.take(10) == large.data
        assert box.has_room(1)

    def test_a_publication_larger_than_the_queue_does_not_empty_it(self) -> None:
        box = fill(outbox(Overflow.DROP_OLDEST), A, B)
        large = Entry(b"x" * 5000, Kind.DROPPABLE, messages=3)
        assert box.push(large) is Push.DROPPED
        assert box.dropped == 3
        assert box.take(1000) == data(A, B)

    def test_counts_what_has_left(self) -> None:
        box = fill(outbox(Overflow.DROP_OLDEST, messages=3), A, B, ANSWER)
        box.take(10)
        assert box.gone == 10
        fill(box, C, D)
        assert (box.gone, box.dropped) == (20, 1)
        box.take(1000)
        assert box.gone == 50
        box.send(b"x" * 20, Kind.FORWARDED)
        end = box.gone + box.pending_bytes
        box.take(1000)
        assert box.gone >= end

    def test_has_room(self) -> None:
        box = fill(outbox(messages=2, size=30), A)
        assert box.has_room(20)
        assert not box.has_room(21)
        assert not fill(box, B).has_room(0)

    def test_has_room_for_several(self) -> None:
        box = fill(outbox(messages=3, size=30), A)
        assert box.has_room(20, 2)
        assert not box.has_room(20, 3)

    def test_empty_queue_has_room_for_anything(self) -> None:
        assert outbox(size=30).has_room(31)

    @pytest.mark.parametrize("gathered", [0, 1, 2, 5])
    @pytest.mark.parametrize("queued", [0, 1])
    def test_a_frame_of_the_room_that_there_is_fits(self, gathered: int, queued: int) -> None:
        def filled() -> Outbox:
            box = gathering(messages=20, size=500)
            fill(box, *[A] * queued)
            for _ in range(gathered):
                box.send(b"x" * 9, Kind.FORWARDED)
            return box

        room = filled().room
        assert filled().has_room(room)
        assert filled().push(Entry(b"y" * room, Kind.DROPPABLE)) is Push.QUEUED
        if gathered or queued:
            assert not filled().has_room(room + 1)

    @pytest.mark.parametrize("policy", EVERY_POLICY)
    def test_push_anyway(self, policy: Overflow) -> None:
        box = fill(outbox(policy), A, B, C)
        box.push_anyway(ANSWER)
        box.push_anyway(D)
        assert (box.pending_bytes, box.pending_replies, box.dropped) == (50, 10, 0)
        assert box.take(1000) == data(A, B, C, ANSWER, D)
        assert (box.pending_bytes, box.pending_replies) == (0, 0)


class TestSeveralAtOnce:
    def test_fit_or_do_not(self) -> None:
        box = fill(outbox(messages=4, size=1000), A)
        assert box.push_whole(several([B, C, D]))
        assert pending(box) == (4, 40, 0)
        assert not box.push_whole(several([A]))
        assert box.push(A) is Push.OVERFLOW
        assert box.take(1000) == data(A, B, C, D)
        assert box.pending_messages == 0
        assert not box.push_whole(several([A] * 5))
        assert not outbox(size=25).push_whole(several([A, B, C]))

    def test_count_as_so_many_when_they_are_dropped(self) -> None:
        box = fill(outbox(Overflow.DROP_OLDEST, messages=4), ANSWER)
        assert box.push_whole(several([A, B]))
        assert box.push_whole(several([C]))
        assert box.push(D) is Push.QUEUED
        assert (box.dropped, box.pending_messages) == (2, 3)
        assert box.take(1000) == data(ANSWER, C, D)
        assert box.push_whole(several([A, B]))
        box.clear()
        assert box.dropped == 4

    def test_answers_stay_answers(self) -> None:
        box = outbox(Overflow.DROP_OLDEST)
        assert box.push_whole(several([ANSWER] * 3, Kind.REPLY))
        assert box.pending_replies == 30
        assert box.push(A) is Push.DROPPED
        assert box.take_droppable() == []
        assert (box.pending_messages, box.pending_replies) == (3, 30)
        assert box.take(5) == data(ANSWER, ANSWER, ANSWER)  # they are one piece now


class TestKinds:
    def test_only_replies_count_as_replies(self) -> None:
        box = outbox(messages=10)
        for entry, replies in ((A, 0), (OTHERS, 0), (PING, 0), (ANSWER, 10), (ANSWER, 20)):
            assert box.push(entry) is Push.QUEUED
            assert box.pending_replies == replies
        assert box.push_whole(several([ANSWER] * 2, Kind.REPLY))
        assert box.push_whole(several([OTHERS] * 2, Kind.FORWARDED))
        box.push_anyway(ANSWER)
        assert box.pending_replies == 50

    def test_replies_that_leave_count_no_longer(self) -> None:
        box = fill(outbox(messages=10), ANSWER, OTHERS, ANSWER, A)
        assert box.take(10) == ANSWER.data
        assert box.pending_replies == 10
        assert box.take(20) == data(OTHERS, ANSWER)
        assert box.pending_replies == 0

    def test_what_others_caused_is_not_taken_back_as_publications(self) -> None:
        box = fill(outbox(messages=10), PING, A, OTHERS, ANSWER, B)
        assert box.take_droppable() == [A, B]
        assert pending(box) == (3, 24, 10)
        assert box.take(1000) == data(PING, OTHERS, ANSWER)

    def test_one_of_the_connection_itself_is_not_counted_when_it_is_dropped(self) -> None:
        box = fill(outbox(messages=10), PING, A, PING)
        box.clear()
        assert box.dropped == 1


class TestFirst:
    """A heartbeat, which overtakes what waits."""

    @pytest.mark.parametrize("policy", EVERY_POLICY)
    def test_overtakes_what_waits_and_always_has_room(self, policy: Overflow) -> None:
        box = fill(outbox(policy), A, ANSWER, OTHERS)
        box.push_first(PING)
        assert (*pending(box), box.dropped) == (4, 34, 10, 0)
        assert box.take(4) == PING.data
        assert pending(box) == (3, 30, 10)
        assert box.take(1000) == data(A, ANSWER, OTHERS)

    def test_overtakes_what_is_gathered(self) -> None:
        box = gathering()
        assert box.send(b"1", Kind.REPLY) is Push.QUEUED
        box.push_first(PING)
        assert box.send(b"2", Kind.REPLY) is Push.QUEUED
        assert box.take(1000) == PING.data + text_frame(b"[1,2]")

    def test_overtakes_what_no_policy_can_drop(self) -> None:
        box = fill(outbox(Overflow.DROP_OLDEST), ANSWER, OTHERS, A)
        assert box.push(B) is Push.QUEUED
        box.push_first(PING)
        assert box.take(1000) == data(PING, ANSWER, OTHERS, B)

    @pytest.mark.parametrize("settles", [False, True])
    def test_stays_behind_the_end_of_the_opening_handshake(self, settles: bool) -> None:
        handshake = control(b"HTTP/1.1 101")
        box = fill(outbox(Overflow.DROP_OLDEST), handshake, A, B)
        if settles:  # as what no policy can drop
            assert box.push(C) is Push.QUEUED
        box.push_first(PING)
        box.push_first(PING)
        assert box.pending_messages == 5
        rest = data(B, C) if settles else data(A, B)
        assert box.take(1000) == data(handshake, PING, PING) + rest
        assert pending(box) == (0, 0, 0)

    def test_is_never_dropped(self) -> None:
        box = fill(outbox(Overflow.DROP_OLDEST), A, B, C)
        box.push_first(PING)
        assert box.push(D) is Push.QUEUED
        assert box.dropped == 2
        assert box.take(1000) == data(PING, C, D)


class TestGathering:
    """Messages that wait together leave together."""

    def test_each_message_is_a_frame_unless_the_dialect_joins_them(self) -> None:
        box = outbox()
        for message in (b"1", b"2"):
            assert box.send(message, Kind.FORWARDED) is Push.QUEUED
        assert box.take(1000) == text_frame(b"1") + text_frame(b"2")

    def test_those_that_wait_together_are_one_array(self) -> None:
        box = gathering()
        for message in (b"1", b"2", b"3"):
            assert box.send(message, Kind.FORWARDED) is Push.QUEUED
        assert box.pending_messages == 3
        assert box.take(1000) == text_frame(b"[1,2,3]")
        assert pending(box) == (0, 0, 0)

    def test_one_alone_is_no_array(self) -> None:
        box = gathering()
        for kind in (Kind.FORWARDED, Kind.REPLY):
            assert box.send(b"1", kind) is Push.QUEUED
            assert box.take(1000) == text_frame(b"1")

    @pytest.mark.parametrize(
        "push", [Outbox.push, Outbox.push_anyway, Outbox.push_whole], ids=lambda push: push.__name__
    )
    def test_nothing_is_overtaken(self, push: Callable[[Outbox, Entry], object]) -> None:
        box = gathering(messages=10)
        for message in (b"1", b"2"):
            box.send(message, Kind.REPLY)
        push(box, A)
        for message in (b"3", b"4"):
            box.send(message, Kind.REPLY)
        assert box.take(1000) == text_frame(b"[1,2]") + A.data + text_frame(b"[3,4]")

    def test_nothing_joins_what_is_sealed(self) -> None:
        box = gathering()
        box.seal()
        assert box.send(b"1", Kind.FORWARDED) is Push.QUEUED
        box.seal()
        assert box.send(b"2", Kind.FORWARDED) is Push.QUEUED
        assert box.take(1000) == text_frame(b"1") + text_frame(b"2")

    def test_an_array_does_not_grow_past_its_largest_size(self) -> None:
        box = gathering(messages=100)
        box.speak(ARRAY, 10)
        for message in (b"11", b"222", b"33", b"4444444444", b"5"):
            assert box.send(message, Kind.FORWARDED) is Push.QUEUED
        arrays = [text_frame(each) for each in (b"[11,222]", b"33", b"4444444444", b"5")]
        assert box.take(1000) == b"".join(arrays)

    def test_reply_bytes_in_an_array_are_counted_exactly(self) -> None:
        """A comma belongs to each message: while it is gathered, and in the array."""
        box = gathering(messages=100)
        box.send(b"x" * 10, Kind.REPLY)
        assert box.pending_replies == 11
        box.send(b"y" * 100, Kind.FORWARDED)
        assert box.pending_replies == 11
        box.send(b"z" * 20, Kind.REPLY)
        assert box.pending_replies == 32
        box.seal()
        assert box.pending_replies == 32
        box.send(b"x", Kind.REPLY)
        box.send(b"y", Kind.REPLY)
        assert box.pending_replies == 36
        assert box.take(1).startswith(b"\x81")
        assert box.pending_replies == 4
        box.take(1000)
        assert pending(box) == (0, 0, 0)

    def test_an_array_of_what_others_caused_holds_no_replies(self) -> None:
        box = gathering()
        for message in (b"1", b"2"):
            box.send(message, Kind.FORWARDED)
        box.seal()
        assert pending(box) == (1, 2 + 5, 0)
        assert box.take_droppable() == []

    def test_a_reply_alone_counts_with_its_header(self) -> None:
        box = gathering()
        box.send(b"x" * 10, Kind.REPLY)
        box.seal()
        assert pending(box) == (1, 12, 12)

    def test_messages_of_an_array_are_counted_when_they_are_dropped(self) -> None:
        box = gathering()
        for message in (b"1", b"2"):
            box.send(message, Kind.REPLY)
        box.seal()
        for message in (b"3", b"4", b"5"):
            box.send(message, Kind.REPLY)
        box.clear()
        assert (*pending(box), box.dropped) == (0, 0, 0, 5)
        assert box.take(1000) == b""

    def test_publications_can_be_taken_from_beside_what_is_gathered(self) -> None:
        box = fill(gathering(), A)
        for message in (b"1", b"2"):
            box.send(message, Kind.REPLY)
        assert box.take_droppable() == [A]
        assert pending(box) == (1, 7, 4)
        assert box.take(1000) == text_frame(b"[1,2]")

    def test_room_is_needed_for_the_array_and_what_comes_behind_it(self) -> None:
        box = gathering(messages=2, size=100)
        assert box.has_room(1000)
        box.send(b"x" * 10, Kind.FORWARDED)
        room = 100 - 11 - HEADER_AND_BRACKETS
        assert box.has_room(room)
        assert not box.has_room(room + 1)
        assert box.has_room(room, 1)
        assert not box.has_room(room, 2)
        assert box.push(Entry(b"x" * room, Kind.FORWARDED)) is Push.QUEUED

    @pytest.mark.parametrize("policy", EVERY_POLICY)
    def test_a_message_that_has_no_room_is_judged_by_the_policy(self, policy: Overflow) -> None:
        box = fill(gathering(policy, size=100), Entry(b"x" * 50, Kind.DROPPABLE))
        for _ in range(2):
            assert box.send(b"y" * 10, Kind.FORWARDED) is Push.QUEUED
        pushed = box.send(b"y" * 30, Kind.FORWARDED)
        array = text_frame(join([b"y" * 10] * 2))
        if policy is Overflow.CLOSE:
            assert pushed is Push.OVERFLOW
            assert box.take(1000) == b"x" * 50 + array
        else:
            assert (pushed, box.dropped) == (Push.QUEUED, 1)
            assert box.take(1000) == array + text_frame(b"y" * 30)

    def test_a_large_message_passes_through_an_empty_queue(self) -> None:
        box = gathering(size=100)
        assert box.send(b"x" * 1000, Kind.FORWARDED) is Push.QUEUED
        assert box.send(b"y", Kind.FORWARDED) is Push.OVERFLOW
        assert box.take(1000) == text_frame(b"x" * 1000)


class TestEnd:
    def test_clear_counts_what_it_drops(self) -> None:
        box = fill(outbox(), A, ANSWER)
        box.clear()
        assert (*pending(box), box.dropped) == (0, 0, 0, 2)
        assert box.take(1000) == b""

    def test_publications_can_be_taken_back(self) -> None:
        box = fill(outbox(), A, ANSWER, B)
        assert box.take_droppable() == [A, B]
        assert (box.pending_messages, box.pending_bytes, box.dropped) == (1, 10, 0)
        assert box.take(1000) == ANSWER.data


class Model:
    """The same queue in the plainest way: lists that are counted anew each time."""

    def __init__(self, limits: ConnectionLimits, *, joins: bool, largest_array: int) -> None:
        self.limits = limits
        self.joins = joins
        self.largest_array = largest_array
        self.entries: list[Entry] = []
        self.gathered: list[tuple[bytes, Kind]] = []
        self.dropped = 0

    @property
    def gathered_size(self) -> int:
        return sum(len(message) + 1 for message, _ in self.gathered)

    def pending(self) -> tuple[int, int, int]:
        replies = sum(len(message) + 1 for message, kind in self.gathered if kind is Kind.REPLY)
        return (
            sum(entry.frames for entry in self.entries) + len(self.gathered),
            sum(entry.size for entry in self.entries) + self.gathered_size,
            sum(entry.reply_bytes for entry in self.entries) + replies,
        )

    def fits(self, size: int, frames: int = 1) -> bool:
        return (
            sum(entry.frames for entry in self.entries) + frames <= self.limits.queue_messages
            and sum(entry.size for entry in self.entries) + size <= self.limits.queue_bytes
        )

    def has_room(self, size: int) -> bool:
        if self.gathered:
            return self.fits(self.gathered_size + HEADER_AND_BRACKETS + size, 2)
        return not self.entries or self.fits(size)

    def send(self, message: bytes, kind: Kind) -> Push:
        frame = Entry(text_frame(message), kind)
        if not self.joins:
            return self.push(frame)
        if self.gathered_size + len(message) + 1 > self.largest_array:
            self.seal()
        if not self.fits(self.gathered_size + len(message) + 1 + HEADER_AND_BRACKETS):
            return self.push(frame)
        self.gathered.append((message, kind))
        return Push.QUEUED

    def seal(self) -> None:
        if self.gathered:
            messages = [message for message, _ in self.gathered]
            replies = [len(message) + 1 for message, kind in self.gathered if kind is Kind.REPLY]
            kind = Kind.REPLY if replies else Kind.FORWARDED
            if len(messages) == 1:
                self.entries.append(Entry(text_frame(messages[0]), kind))
            else:
                frame = text_frame(join(messages))
                count = len(messages)
                entry = Entry(frame, kind, messages=count)
                entry.reply_bytes = sum(replies)
                self.entries.append(entry)
            self.gathered = []

    def push_whole(self, entry: Entry) -> bool:
        self.seal()
        fits = self.fits(entry.size, entry.frames)
        if fits:
            self.entries.append(entry)
        return fits

    def push_anyway(self, entry: Entry) -> None:
        self.seal()
        self.entries.append(entry)

    def push_first(self, entry: Entry) -> None:
        has_control = bool(self.entries) and self.entries[0].kind is Kind.CONTROL
        self.entries.insert(1 if has_control else 0, entry)

    def push(self, entry: Entry) -> Push:
        self.seal()
        policy, droppable = self.limits.overflow, entry.kind is Kind.DROPPABLE

        def fits() -> bool:
            return not self.entries or self.fits(entry.size)

        if not fits() and policy is not Overflow.CLOSE:
            if not droppable or policy is Overflow.DROP_OLDEST:
                for old in [old for old in self.entries if old.kind is Kind.DROPPABLE]:
                    if not self.fits(entry.size):
                        self.entries.remove(old)
                        self.dropped += old.messages
            if droppable and not fits():
                self.dropped += entry.messages
                return Push.DROPPED
        if not fits():
            return Push.OVERFLOW
        self.entries.append(entry)
        return Push.QUEUED

    def take(self, limit: int) -> bytes:
        self.seal()
        taken = self.entries[:1]
        while len(taken) < len(self.entries):
            following = self.entries[len(taken)]
            if sum(entry.size for entry in taken) + following.size > limit:
                break
            taken.append(following)
        del self.entries[: len(taken)]
        return data(*taken)

    def take_droppable(self) -> list[Entry]:
        self.seal()
        taken = [entry for entry in self.entries if entry.kind is Kind.DROPPABLE]
        self.entries = [entry for entry in self.entries if entry not in taken]
        return taken

    def clear(self) -> None:
        self.seal()
        self.dropped += sum(entry.messages for entry in self.entries)
        self.entries = []


KINDS = st.sampled_from(Kind)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["push", "several", "anyway"]), KINDS, st.integers(1, 40)),
        st.tuples(
            st.just("send"), st.sampled_from([Kind.REPLY, Kind.FORWARDED]), st.integers(1, 40)
        ),
        st.tuples(st.sampled_from(["first", "seal"]), st.just(Kind.CONTROL), st.integers(1, 5)),
        st.tuples(st.just("take"), st.just(Kind.CONTROL), st.integers(1, 100)),
        st.tuples(st.sampled_from(["take droppable", "clear"]), st.just(Kind.CONTROL), st.just(0)),
    ),
    max_size=40,
)


@THOROUGH
@given(
    policy=st.sampled_from(EVERY_POLICY),
    messages=st.integers(1, 6),
    size=st.integers(1, 200),
    largest_array=st.integers(1, 100),
    joins=st.booleans(),
    steps=STEPS,
)
def test_is_what_the_plain_model_says(
    policy: Overflow,
    messages: int,
    size: int,
    largest_array: int,
    joins: bool,
    steps: list[tuple[str, Kind, int]],
) -> None:
    limits = ConnectionLimits(queue_messages=messages, queue_bytes=size, overflow=policy)
    box, model = Outbox(limits, text_frame), Model(limits, joins=joins, largest_array=largest_array)
    box.speak(ARRAY if joins else None, largest_array + 2)
    for number, (step, kind, amount) in enumerate(steps):
        # Each differs from all others, so that order shows.
        content = number.to_bytes(2, "big") * amount
        entry = Entry(content, kind, messages=0 if kind is Kind.CONTROL else 1)
        match step:
            case "push":
                assert box.push(entry) is model.push(entry)
            case "send":
                assert box.send(content, kind) is model.send(content, kind)
            case "several":
                count = 1 + amount % 3
                entry = Entry(content * count, kind, messages=count, frames=count)
                assert box.push_whole(entry) is model.push_whole(entry)
            case "anyway":
                box.push_anyway(entry)
                model.push_anyway(entry)
            case "first":
                box.push_first(entry)
                model.push_first(entry)
            case "seal":
                box.seal()
                model.seal()
            case "take":
                assert box.take(amount) == model.take(amount)
            case "take droppable":
                assert box.take_droppable() == model.take_droppable()
            case "clear":
                box.clear()
                model.clear()
        assert pending(box) == model.pending()
        assert box.dropped == model.dropped
        for room in (0, 1, amount, size, size + 1):
            assert box.has_room(room) is model.has_room(room)
    assert box.take(1 << 20) == model.take(1 << 20)
    assert pending(box) == (0, 0, 0)


def test_what_cannot_be_dropped_is_looked_at_once() -> None:
    """However many answers wait, a publication for which there is no room costs the same."""
    box = outbox(Overflow.DROP_OLDEST, messages=1000, size=1 << 20)
    for _ in range(999):
        box.push(Entry(b"answer", Kind.REPLY))
    box.push(Entry(b"first", Kind.DROPPABLE))
    assert box.push(Entry(b"second", Kind.DROPPABLE)) is Push.QUEUED
    assert (len(box._settled), len(box._entries)) == (999, 1)
    assert (box.pending_messages, box.dropped) == (1000, 1)
    assert box.take(6 * 999) == b"answer" * 999
    assert box.take(100) == b"second"
    assert pending(box) == (0, 0, 0)
