"""A server that is killed under its clients, and comes back."""

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import kps
from kps.io_common.client_options import HIGH_WATER
from kps.protocol.wire.websocket import ClosedBy
from tests.faults.processes import Serve
from tests.faults.proxy import Proxy, Way
from tests.io.harness import PATIENCE, Inbox, eventually

Connect = Callable[..., Any]
Start = Callable[..., Serve]


def in_thread(function: Callable[[], Any]) -> Inbox:
    """Run a function in a thread; what it returns, or raises, comes into the inbox."""
    outcome = Inbox()

    def run() -> None:
        try:
            outcome(function())
        except Exception as error:
            outcome(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def test_clients_come_back_and_subscribe_again(serve: Start, connect: Connect) -> None:
    server = serve()
    inboxes = [Inbox() for _ in range(5)]
    ups, downs = Inbox(), Inbox()
    subscribers = [
        connect(server.address, f"s{number}", on_connect=ups, on_disconnect=downs)
        for number in range(5)
    ]
    for subscriber, inbox in zip(subscribers, inboxes, strict=True):
        subscriber.subscribe("news", inbox)
    publisher = connect(server.address, "publisher")
    publisher.publish("news", "before")
    assert [inbox.data() for inbox in inboxes] == ["before"] * 5
    assert [ups.get().again for _ in subscribers] == [False] * 5

    server.kill()
    for _ in subscribers:
        event = downs.get()
        assert (event.closed.code, event.closed.by) == (1006, ClosedBy.LOST)
        assert event.retry_in is not None
        assert event.dropped == 0
    eventually(lambda: not publisher.is_connected, "the publisher's noticing")
    with pytest.raises(kps.NotConnected):
        publisher.publish("news", "nobody is there")

    server.again()
    assert [ups.get().again for _ in subscribers] == [True] * 5
    eventually(lambda: bool(publisher.is_connected), "the publisher's return")
    for subscriber in subscribers:
        subscriber.flush()  # its subscription is in force
    for number in range(10):
        publisher.publish("news", number)
    for inbox in inboxes:
        assert inbox.take(10) == list(range(10))
        assert inbox.is_empty()


def test_what_is_pending_ends_at_once(
    serve: Start, connect: Connect, proxy_to: Callable[[str], Proxy]
) -> None:
    server = serve()
    proxy = proxy_to(server.address)
    asked, release = threading.Event(), threading.Event()

    def hold(message: kps.Message) -> None:
        asked.set()
        release.wait(PATIENCE)

    connect(server.address, "slow").subscribe("work", hold)
    publisher = connect(proxy.address, "publisher")
    acks = [publisher.publish_with_ack("work", number, timeout=300) for number in range(3)]
    acks.append(publisher.publish_to_id_with_ack("slow", 1, timeout=300))
    assert asked.wait(PATIENCE)
    # Stopped, it takes what is sent and answers nothing more.
    server.signal(signal.SIGSTOP)
    waits = [in_thread(ack.wait) for ack in acks[:3]]

    def ask(question: Callable[[], Any]) -> None:
        before = proxy.bytes[Way.UP]
        waits.append(in_thread(question))
        eventually(lambda: proxy.bytes[Way.UP] > before, "the question")

    ask(acks[0].status)
    ask(publisher.flush)
    ask(lambda: publisher.publish_with_receipt("work", 4))
    server.kill()
    for wait in waits:
        error = wait.get()  # long before the five minutes are over
        assert isinstance(error, kps.ConnectionLost), repr(error)
        assert error.code == 1006
    # Also for who asks only now; but what had come before is not taken back.
    with pytest.raises(kps.ConnectionLost):
        acks[0].wait()
    answers = acks[3].responses
    assert all(not response.success for response in answers.values())
    release.set()


def test_an_answer_to_the_former_server_is_not_given_to_the_next(
    serve: Start, connect: Connect
) -> None:
    server = serve()
    asked, release = Inbox(), threading.Event()

    def answer(message: kps.Message) -> str:
        asked(message.data)
        if message.data == "first":
            release.wait(PATIENCE)
        return f"to {message.data}"

    worker = connect(server.address, "worker")
    worker.subscribe("work", answer)
    asker = connect(server.address, "asker")
    asker.publish_with_ack("work", "first", timeout=300)
    assert asked.get() == "first"
    server.kill()
    eventually(lambda: not worker.is_connected and not asker.is_connected, "their noticing")
    server.again()
    eventually(lambda: worker.is_connected and asker.is_connected, "their return")
    worker.flush()
    ack = asker.publish_with_ack("work", "second", timeout=300)
    release.set()  # now the first one is answered, under an id that may be in use again
    assert ack.wait()["worker"].result == "to second"


class Pouring:
    """Publishes numbers until that is refused or they are enough, and counts the accepted."""

    def __init__(self, client: Any, topic: str) -> None:
        self.accepted = 0
        self.enough = 1_000_000
        self._client = client
        self._topic = topic
        self.outcome = in_thread(self._pour)

    def _pour(self) -> None:
        while self.accepted < self.enough:
            self._client.publish(self._topic, [self.accepted, "x" * 1000])
            self.accepted += 1

    def wait_until_it_waits(self) -> None:
        """Until the network takes nothing more."""
        # Turns and not seconds: a machine that stands still makes one turn longer, and after it
        # the other thread has as many turns as ever.
        before, idle = self.accepted, 0
        while idle < 50:
            time.sleep(0.01)
            idle = idle + 1 if self.accepted == before else 0
            before = self.accepted


def test_what_was_lost_can_be_known(
    serve: Start, connect: Connect, proxy_to: Callable[[str], Proxy]
) -> None:
    server = serve()
    downs, inbox = Inbox(), Inbox()
    connect(server.address, "subscriber").subscribe("numbers", inbox)
    proxy = proxy_to(server.address)
    publisher = connect(proxy.address, "publisher", on_disconnect=downs)
    proxy.stall()
    pouring = Pouring(publisher, "numbers")
    pouring.wait_until_it_waits()
    server.kill()
    proxy.cut()
    assert isinstance(pouring.outcome.get(), (kps.ConnectionLost, kps.NotConnected))
    dropped = downs.get().dropped
    assert dropped == publisher.dropped
    # What waited in the client, which is little more than ``publish`` lets wait.
    assert HIGH_WATER // 1100 < dropped < 2 * HIGH_WATER // 1000
    assert dropped < pouring.accepted
    assert inbox.is_empty()


def test_what_was_not_written_is_kept_if_so_wished(
    serve: Start, connect: Connect, proxy_to: Callable[[str], Proxy]
) -> None:
    server = serve()
    downs, ups, inbox = Inbox(), Inbox(), Inbox()
    subscriber = connect(server.address, "subscriber", on_connect=ups)
    subscriber.subscribe("numbers", inbox)
    proxy = proxy_to(server.address)
    publisher = connect(
        proxy.address, "publisher", on_disconnect=downs, offline_queue=2000, on_connect=ups
    )
    assert [ups.get().again, ups.get().again] == [False, False]
    publisher.publish("numbers", ["first"])
    assert inbox.data() == ["first"]
    proxy.stall()
    pouring = Pouring(publisher, "numbers")
    pouring.wait_until_it_waits()
    server.kill()
    server = server.again()
    assert ups.get().client_id == "subscriber"
    subscriber.flush()
    proxy.refuses = True
    pouring.enough = pouring.accepted + 1000
    proxy.cut()
    assert pouring.outcome.get() is None
    down = downs.get().dropped
    proxy.refuses = False
    assert ups.get().client_id == "publisher"
    publisher.flush()
    publisher.publish("numbers", ["last", ""])
    received = []
    while (data := inbox.data())[0] != "last":
        received.append(data[0])
    # The beginning is in a server that is no more, or was with the driver (``dropped`` counts it);
    # what was kept has no gap and no double.
    assert received
    assert received == list(range(received[0], pouring.accepted))
    assert down == publisher.dropped <= received[0]
