"""What the entries of an outgoing queue take in memory besides their data."""

from kps.protocol.cost import ENTRY
from kps.protocol.wire.outbox import Entry, Kind, Push
from tests.protocol.wire.test_outbox import gathering, outbox, pending


def test_an_entry_counts_with_what_it_takes_besides_its_data() -> None:
    box = outbox(messages=1000, size=10 * ENTRY)
    pushed = [box.push(Entry(b"x", Kind.DROPPABLE)) for _ in range(10)]
    assert pushed == [Push.QUEUED] * 9 + [Push.OVERFLOW]
    assert pending(box) == (9, 9 * (1 + ENTRY), 0)
    assert box.take(1 << 20) == b"x" * 9
    assert pending(box) == (0, 0, 0)


def test_frames_count_the_same_whether_or_not_they_came_together() -> None:
    together = Entry(b"abc", Kind.DROPPABLE, messages=3, frames=3)
    alone = [Entry(letter, Kind.DROPPABLE) for letter in (b"a", b"b", b"c")]
    assert together.size == sum(entry.size for entry in alone)


def test_gathered_messages_count_as_the_entry_that_they_become() -> None:
    box = gathering(messages=1000, size=3 * ENTRY + 100)
    box.push(Entry(b"x", Kind.DROPPABLE))
    assert box.send(b"y", Kind.FORWARDED) is Push.QUEUED
    assert box.has_room(80)
    assert not box.has_room(100)


def test_many_tiny_answers_pause_reading() -> None:
    assert Entry(b"", Kind.REPLY).reply_bytes == ENTRY
