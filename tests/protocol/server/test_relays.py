"""What waits for other servers is bounded, and given back."""

from typing import Any

import pytest

from kps.errors import InvalidArgument, QueueFull
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.server.relays import Link, RelayJob, RelayQueue, RelayQueues
from kps.protocol.server_limits import ServerLimits


class Outcomes(list[str | None]):
    def job(self, data: Any = 1) -> RelayJob:
        return RelayJob.make(RelayTarget.parse("there:1"), "me", data, self.append)


def link(number: int) -> Link:
    return Link(f"there:{number}", "/ws/bus", False, False)


def queues(**limits: int) -> RelayQueues:
    return RelayQueues(ServerLimits(**limits))  # type: ignore[arg-type]


def opened(queues: RelayQueues, number: int, owner: int | None = 1) -> RelayQueue:
    queue = queues.add(link(number), Outcomes().job(), owner)
    assert queue is not None
    return queue


def test_in_order_for_each_link() -> None:
    all_of_them, outcomes = queues(), Outcomes()
    queue = all_of_them.add(link(1), outcomes.job(1), 7)
    assert queue is not None
    assert all_of_them.add(link(1), outcomes.job(2), 8) is None
    assert all_of_them.add(link(2), outcomes.job(3), 8) is not None
    taken = [all_of_them.take(queue) for _ in range(3)]
    assert [job.payload if job else None for job in taken] == [b"1", b"2", None]
    assert all_of_them.add(link(1), outcomes.job(4), 7) is not None, "a new link"
    assert outcomes == []


def test_a_payload_is_kept_as_json() -> None:
    payload = {"list": [1]}
    job = Outcomes().job(payload)
    payload["list"].append(2)
    assert job.payload == b'{"list":[1]}'
    with pytest.raises(InvalidArgument):
        Outcomes().job(object())


@pytest.mark.parametrize(
    ("limits", "number", "reason"),
    [
        ({"relay_messages": 2}, 1, "for that server"),
        ({"relay_bytes": 30_000}, 1, "for that server"),
        ({"relay_all_bytes": 30_000}, 1, "for other servers"),
        ({"relay_all_bytes": 30_000}, 2, "for other servers"),
        ({"relay_links": 1}, 2, "too many servers"),
        ({"relay_links_per_client": 1}, 2, "of this client to too many servers"),
    ],
)
def test_bounds(limits: dict[str, int], number: int, reason: str) -> None:
    full, outcomes, size = queues(**limits), Outcomes(), 10_000
    first = full.add(link(1), outcomes.job("x" * size), 7)
    full.add(link(1), outcomes.job("x" * size), 7)
    before = full.size
    with pytest.raises(QueueFull, match=reason):
        full.add(link(number), outcomes.job("x" * size), 7)
    assert (full.size, len(full)) == (before, 1), "a refusal changes nothing"
    assert first is not None
    full.end(first, "no")
    assert (full.size, len(full), outcomes) == (0, 0, ["no", "no"])
    assert full.add(link(number), outcomes.job("x" * size), 7) is not None


def test_a_client_leaves_links_for_others() -> None:
    shared = queues(relay_links_per_client=2)
    first, _ = opened(shared, 1), opened(shared, 2)
    with pytest.raises(QueueFull):
        opened(shared, 3)
    opened(shared, 3, owner=2)
    opened(shared, 4, owner=None)  # the server's own program
    shared.end(first, "gone")
    shared.end(first, "gone")  # may be called twice
    opened(shared, 5)
    with pytest.raises(QueueFull):
        opened(shared, 6)


def test_a_link_that_is_about_to_close_counts() -> None:
    """Else a server that does not close could be made to hold any number of them."""
    few = queues(relay_links=1)
    queue = opened(few, 1)
    few.take(queue)
    assert few.take(queue) is None  # its connection closes now
    with pytest.raises(QueueFull):
        opened(few, 1)
    few.end(queue, "")
    opened(few, 1)


def test_the_other_servers_text_is_cut_off() -> None:
    many, outcomes = queues(), Outcomes()
    queue = many.add(link(1), outcomes.job(), 1)
    many.add(link(1), outcomes.job(), 1)
    assert queue is not None
    many.end(queue, "x" * 1_000_000)
    assert outcomes == ["x" * 1000] * 2


def test_the_end_of_all() -> None:
    many, outcomes = queues(), Outcomes()
    for number in range(3):
        many.add(link(number), outcomes.job(), 1)
    many.end_all("the server is stopping")
    assert outcomes == ["the server is stopping"] * 3
    assert (many.size, len(many)) == (0, 0)
