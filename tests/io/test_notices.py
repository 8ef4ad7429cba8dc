"""What waits for a slow hook is bounded in number and in bytes."""

from kps.io_common.notices import Notices


def hook() -> None: ...


def test_bounded_in_number() -> None:
    notices = Notices(2, 1_000_000)
    for number in range(2):
        assert notices.has_room(1)
        notices.append((hook, (number,)), 1)
    assert not notices.has_room(1)
    assert notices.popleft() == (hook, (0,))
    assert notices.has_room(1)


def test_bounded_in_bytes() -> None:
    notices = Notices(100, 10_000)
    assert notices.has_room(1_000_000), "a single larger one fits"
    notices.append((hook, ()), 9_000)
    assert not notices.has_room(1_000)
    assert notices.has_room(100)
    notices.popleft()
    assert (notices.size, len(notices)) == (0, 0)
    notices.append((hook, ()), 9_000)
    notices.clear()
    assert (notices.size, len(notices)) == (0, 0)
