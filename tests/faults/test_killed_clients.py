"""Clients that are killed in the middle of something."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.conftest import Check
from tests.faults.processes import Process, Serve
from tests.faults.victim import PARTS
from tests.io.harness import Inbox, eventually

Connect = Callable[..., Any]
Victims = Callable[[Serve, str, str], Process]

LONG = 300.0
"""Seconds of an ack request: what comes before they are over came for another reason."""


@pytest.fixture
def victim(processes: Callable[..., Process]) -> Victims:
    """Starts a client that waits to be killed."""

    def start(server: Serve, client_id: str, what: str) -> Process:
        return processes("-m", "tests.faults.victim", server.address, what, client_id)

    return start


def test_half_a_message_is_delivered_to_nobody(
    lasting: Callable[..., Serve],
    victim: Victims,
    connect: Connect,
    bystanders: Callable[[str], Check],
) -> None:
    server = lasting()
    check = bystanders(server.address)
    inbox = Inbox()
    connect(server.address, "witness").subscribe("by", inbox)
    process = victim(server, "victim", "messages")
    process.expect("ready")
    server.await_clients(3 + 2 * len(PARTS) + 1)
    check()
    process.kill()
    server.await_clients(3)
    check()
    check()
    # Messages of the bystanders only, which are numbers in order; none of the 15 is missing.
    first = inbox.data()
    assert inbox.take(14) == list(range(first + 1, first + 15))
    assert inbox.is_empty()


def test_who_asked_is_told_at_once_that_a_killed_client_has_gone(
    lasting: Callable[..., Serve],
    victim: Victims,
    connect: Connect,
    bystanders: Callable[[str], Check],
) -> None:
    server = lasting()
    check = bystanders(server.address)
    victims = [victim(server, f"victim-{n}", "ack") for n in range(3)]
    for process in victims:
        process.expect("subscribed")
    connect(server.address, "survivor").subscribe("work", lambda message: "done")
    asker = connect(server.address, "asker")
    ack = asker.publish_with_ack("work", 1, timeout=LONG)
    for process in victims:
        process.expect("ready")
    eventually(lambda: "survivor" in ack.responses, "the survivor's answer")
    assert sorted(ack.status().values()) == [False, False, False, True]

    begun = time.monotonic()
    victims[0].kill()
    eventually(lambda: "victim-0" in ack.responses, "the first outcome")
    print(f"told after {(time.monotonic() - begun) * 1000:.1f} ms")
    assert not ack.is_complete()
    for process in victims[1:]:
        process.kill()
    responses = ack.wait()
    assert responses["survivor"].result == "done"
    for number in range(3):
        response = responses[f"victim-{number}"]
        assert (response.success, response.error) == (False, "disconnected")
    check()
    # What is asked now is asked of nobody but the survivor.
    assert list(asker.publish_with_ack("work", 2, timeout=LONG).wait()) == ["survivor"]


def test_a_killed_client_that_asked_leaves_nothing_behind(
    lasting: Callable[..., Serve], processes: Callable[..., Process], connect: Connect
) -> None:
    server = lasting()
    release, inbox = Inbox(), Inbox()

    def hold(message: Any) -> None:
        inbox(message)
        release.get()

    worker = connect(server.address, "worker")
    worker.subscribe("work", hold)
    program = (
        "import sys, kps.sync\n"
        f"client = kps.sync.Client.connect({server.address!r}, id='asker')\n"
        f"ack = client.publish_with_ack('work', 1, timeout={LONG})\n"
        "print('asked', flush=True)\n"
        "ack.wait()\n"
    )
    asker = processes("-c", program)
    asker.expect("asked")
    assert inbox.data() == 1
    asker.signal(signal.SIGKILL)
    server.await_clients(1)
    release(None)  # the answer that nobody waits for any more
    worker.flush()
    other = connect(server.address, "asker")  # the same id
    release(None)
    ack = other.publish_with_ack("work", 2, timeout=LONG)
    assert ack.wait()["worker"].success
    assert inbox.data() == 2
