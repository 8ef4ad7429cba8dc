"""How many messages were in the bytes that a driver took and could not write."""

import pytest

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.outbox import Entry, Kind, Outbox
from kps.protocol.wire.taken import Taken


def outbox() -> Outbox:
    box = Outbox(ConnectionLimits(), bytes)
    box.taken = Taken()
    return box


def in_last(box: Outbox, unwritten: int) -> int:
    assert box.taken is not None
    return box.taken.messages_in(unwritten)


@pytest.mark.parametrize("limit", [100_000, 10_000])  # all at once, or in parts
def test_a_message_is_lost_if_any_part_of_it_is(limit: int) -> None:
    box = outbox()
    for _ in range(100):
        box.push(Entry(bytes(500), Kind.FORWARDED))
    size = 0
    while data := box.take(limit):
        size += len(data)
    assert size == 50_000
    for unwritten, lost in ((0, 0), (1, 1), (500, 1), (501, 2), (49_999, 100), (50_000, 100)):
        assert in_last(box, unwritten) == lost


def test_the_messages_of_a_frame_are_lost_together() -> None:
    box = outbox()
    box.push(Entry(bytes(10_000), Kind.FORWARDED, messages=30))
    box.take(100_000)
    box.push(Entry(bytes(10_000), Kind.FORWARDED, messages=40))
    box.take(100_000)
    assert [in_last(box, size) for size in (0, 1, 10_000, 10_001, 10**9)] == [0, 40, 40, 70, 70]


def test_gathered_messages_and_control_frames() -> None:
    box = outbox()
    box.speak((b"", b"", b""))
    box.send(bytes(50), Kind.FORWARDED)
    box.send(bytes(50), Kind.FORWARDED)
    assert len(box.take(100_000)) == 100
    assert in_last(box, 1) == 2
    box.push_anyway(Entry(bytes(5000), Kind.CONTROL, messages=0))
    box.take(100_000)
    assert [in_last(box, size) for size in (5000, 5001)] == [0, 2]


def test_what_is_remembered_is_bounded_and_is_more_than_a_driver_holds() -> None:
    taken = Taken()
    for _ in range(200_000):
        taken.note(10, 1, 1)
    assert len(taken._takes) <= 512
    assert taken.messages_in(512 * 1024) > 512 * 1024 // 10
    assert taken.messages_in(10**9) < 200_000
