"""Groups over real sockets: workers that share jobs, and vanish in the middle of one."""

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

import kps
from tests.io.harness import PATIENCE, AnyDriver, Cable, Inbox, eventually

Connect = Callable[..., Any]
NAME = "workers of jobs"
JOBS = 300


class Pool:
    """Workers, and which of them has begun which job at which attempt."""

    def __init__(self) -> None:
        self.begun: dict[int, list[tuple[str, int]]] = defaultdict(list)
        self.at_work: dict[str, int] = defaultdict(int)
        self.most_at_work: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def callback(
        self, name: str, then: Callable[[kps.Message], object] = lambda message: None
    ) -> Callable[[kps.Message], object]:
        def work(message: kps.Message) -> object:
            with self._lock:
                self.begun[message.data].append((name, message.attempt))
                self.at_work[name] += 1
                self.most_at_work[name] = max(self.most_at_work[name], self.at_work[name])
            try:
                return then(message)
            finally:
                with self._lock:
                    self.at_work[name] -= 1

        return work

    def check(self, *, most: int) -> None:
        """Nobody did a job a second time without being told, and nobody had too many."""
        for executions in self.begun.values():
            attempts = [attempt for _, attempt in executions]
            # One that was given to a member that vanished before it began was not executed there.
            assert attempts == sorted(set(attempts))
            assert all(attempt > 1 for attempt in attempts[1:])
        assert max(self.most_at_work.values()) <= most


@pytest.mark.parametrize("concurrency", [1, 5])
def test_a_pool_loses_a_worker_in_the_middle_of_a_job(
    connect: Connect, clients: AnyDriver, cable: Cable, concurrency: int
) -> None:
    pool, started, release = Pool(), threading.Event(), threading.Event()

    def hang(message: kps.Message) -> None:
        started.set()
        release.wait(PATIENCE)

    victim = clients.client(cable.address, id="victim", reconnect=False)
    options = {"group": "workers", "concurrency": concurrency}
    victim.subscribe("jobs", pool.callback("victim", hang), **options)
    for number in range(3):
        name = f"worker-{number}"
        worker = connect(name)
        worker.subscribe("jobs", pool.callback(name, lambda message: message.data * 2), **options)
        worker.flush()  # it is subscribed
    victim.flush()
    publisher = connect("publisher")
    acks = [publisher.publish_with_ack("jobs", n, timeout=60.0) for n in range(JOBS // 2)]
    assert started.wait(PATIENCE)
    cable.cut()
    acks += [publisher.publish_with_ack("jobs", n, timeout=60.0) for n in range(JOBS // 2, JOBS)]
    taken_over = 0
    for number, ack in enumerate(acks):
        outcome = ack.wait()[NAME]
        assert isinstance(outcome, kps.GroupResponse)
        assert (outcome.success, outcome.result) == (True, 2 * number)
        assert outcome.client_id != "victim"
        executions = pool.begun[number]
        assert executions[-1] == (outcome.client_id, outcome.attempts)
        assert outcome.failures == (("victim", "disconnected"),) * (outcome.attempts - 1)
        taken_over += outcome.attempts - 1
    assert 1 <= taken_over <= concurrency
    (repeated,) = [executions for executions in pool.begun.values() if len(executions) > 1]
    assert [attempt for _, attempt in repeated] == [1, 2]
    pool.check(most=1)  # a callback handles one after the other
    release.set()


def test_unsubscribed_in_the_middle_of_a_job(connect: Connect, server: Any) -> None:
    pool, started, release = Pool(), threading.Event(), threading.Event()

    def hang(message: kps.Message) -> str:
        started.set()
        release.wait(PATIENCE)
        return "done all the same"

    first, second, publisher = connect("first"), connect("second"), connect("publisher")
    subscription = first.subscribe("jobs", pool.callback("first", hang), group="workers")
    first.flush()
    acks = [publisher.publish_with_ack("jobs", 0, timeout=60.0)]
    assert started.wait(PATIENCE)
    second.subscribe("jobs", pool.callback("second"), group="workers")
    second.flush()
    subscription.unsubscribe()
    first.flush()
    acks += [publisher.publish_with_ack("jobs", n, timeout=60.0) for n in range(1, 4)]
    for ack in acks[1:]:
        outcome = ack.wait()[NAME]
        assert (outcome.client_id, outcome.success) == ("second", True)
    assert not acks[0].is_complete()
    release.set()
    outcome = acks[0].wait()[NAME]
    assert (outcome.client_id, outcome.attempts, outcome.result) == (
        "first", 1, "done all the same",
    )  # fmt: skip
    pool.check(most=1)


def test_what_waits_at_a_worker_that_unsubscribes_goes_to_another(connect: Connect) -> None:
    pool, started, release = Pool(), threading.Event(), threading.Event()

    def hang(message: kps.Message) -> None:
        started.set()
        release.wait(PATIENCE)

    first, second, publisher = connect("first"), connect("second"), connect("publisher")
    options = {"group": "workers", "concurrency": 4}
    subscription = first.subscribe("jobs", pool.callback("first", hang), **options)
    first.flush()
    acks = [publisher.publish_with_ack("jobs", n, timeout=60.0) for n in range(4)]
    publisher.flush()
    assert started.wait(PATIENCE)
    second.subscribe("jobs", pool.callback("second"), **options)
    second.flush()
    subscription.unsubscribe()
    release.set()
    outcomes = [ack.wait()[NAME] for ack in acks]
    assert [one.success for one in outcomes] == [True] * 4
    assert outcomes[0].client_id == "first"
    assert {one.client_id for one in outcomes[1:]} <= {"first", "second"}
    pool.check(most=1)


def test_an_iterator_shared_by_workers(connect: Connect) -> None:
    """Each takes the next job, so three are under way at a time."""
    client, publisher = connect("client"), connect("publisher")
    messages = client.subscribe("jobs", group="workers", concurrency=3)
    client.flush()
    together, pool = threading.Barrier(3), Pool()

    def hand_in_hand(message: kps.Message) -> None:
        together.wait(PATIENCE)

    work = pool.callback("client", hand_in_hand)

    def run() -> None:
        for message in messages:
            message.reply(message.data + 1)
            work(message)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    acks = [publisher.publish_with_ack("jobs", number, timeout=60.0) for number in range(12)]
    for number, ack in enumerate(acks[:9]):
        assert ack.wait()[NAME].result == number + 1
    # A job counts as handled when its worker asks for the next one, or the subscription ends.
    eventually(lambda: len(pool.begun) == 12 and pool.at_work["client"] == 0, "the last jobs")
    messages.unsubscribe()
    assert [ack.wait()[NAME].result for ack in acks[9:]] == [10, 11, 12]
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    pool.check(most=3)


def test_requests_to_a_group(connect: Connect) -> None:
    client, publisher = connect("client"), connect("publisher")
    with pytest.raises(kps.NobodyThere):
        publisher.request("jobs", 1)
    flaky = Inbox()

    def fail_once(message: kps.Message) -> int:
        flaky(message)
        if message.attempt == 1:
            raise ValueError("not now")
        assert isinstance(message.data, int)
        return message.data + message.attempt

    client.subscribe("jobs", fail_once, group="workers")
    client.flush()
    assert publisher.request("jobs", 1, retry=1, key="k") == 3
    with pytest.raises(kps.RequestFailed, match="not now"):
        publisher.request("jobs", 1)
    assert [message.attempt for message in (flaky.get(), flaky.get(), flaky.get())] == [1, 2, 1]
    client.unsubscribe("jobs")
    client.flush()
    with pytest.raises(kps.NobodyThere):
        publisher.request("jobs", 1)


def test_the_servers_program_and_clients_are_one_group(connect: Connect, server: Any) -> None:
    at_server, at_client = Inbox(), Inbox()
    server.subscribe("jobs", at_server, group="workers")
    client, publisher = connect("client"), connect("publisher")
    client.subscribe("jobs", at_client, group="workers")
    client.flush()
    for number in range(4):
        publisher.publish("jobs", number)
    publisher.flush()
    assert sorted(at_server.take(2) + at_client.take(2)) == [0, 1, 2, 3]
    names = {publisher.publish_with_ack("jobs", n).wait()[NAME].client_id for n in range(2)}
    assert names == {"server", "client"}
    response = server.publish_with_ack("jobs", 1, expect_groups=["workers", "none"]).wait()
    assert response[NAME].success
    assert response["none of jobs"].error == "no member"


def test_a_worker_that_comes_back_is_a_member_again(
    connect: Connect, clients: AnyDriver, cable: Cable
) -> None:
    got = Inbox()
    backoff = kps.Backoff(first=0.01, longest=0.05)
    worker = clients.client(cable.address, id="worker", reconnect=backoff)
    worker.subscribe("jobs", got, group="workers")
    worker.flush()
    publisher = connect("publisher")
    for number in range(3):
        cable.cut()

        def is_back(number: int = number) -> bool:
            response = publisher.publish_with_ack("jobs", number).wait()
            return NAME in response and bool(response[NAME].success)

        eventually(is_back, "a worker that is back")
    assert got.data() == 0


def test_a_server_that_stops_fails_no_job(connect: Connect, server: Any) -> None:
    """The members are closed first, and that is no outcome of what they are at."""
    pool, started, release = Pool(), threading.Event(), threading.Event()

    def hang(message: kps.Message) -> None:
        started.set()
        release.wait(PATIENCE)

    workers = [connect(f"worker-{number}", reconnect=False) for number in range(2)]
    for worker in workers:
        worker.subscribe("jobs", pool.callback(worker.id, hang), group="workers")
        worker.flush()
    publisher = connect("publisher", reconnect=False)
    acks = [
        publisher.publish_with_ack("jobs", n, timeout=60.0, expect_groups=["workers"])
        for n in range(4)
    ]
    assert started.wait(PATIENCE)
    server.stop()
    for ack in acks:
        with pytest.raises(kps.ConnectionLost):
            ack.wait()
    release.set()
    assert all(attempt == 1 for begun in pool.begun.values() for _, attempt in begun)
