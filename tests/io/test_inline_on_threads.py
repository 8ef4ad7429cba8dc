"""Inline callbacks on threads: the thread that reads a message calls them."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kps
import kps.io_sync.dispatch
import kps.sync
from tests.io.harness import PATIENCE, Inbox, eventually


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0", id="server") as server:
        yield server


@pytest.fixture
def client(server: kps.sync.Server) -> Iterator[kps.sync.Client]:
    with kps.sync.Client(server.address, id="client") as client:
        yield client


@pytest.fixture
def long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of inline callbacks lasts for as long as they like, however slow the machine is."""
    monkeypatch.setattr(kps.io_sync.dispatch, "_TURN", 1000.0)


def subscribe(it: Any, topic: str, callback: Callable[[kps.Message], Any]) -> Any:
    """Subscribe with an inline callback."""
    return it.subscribe(topic, callback, inline=True)


class Threads:
    """A callback that notes on which threads it runs, and finds out whether it does on two."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.data: list[Any] = []
        self._is_running = threading.Lock()

    def __call__(self, message: kps.Message) -> int:
        assert self._is_running.acquire(blocking=False)
        self.names.append(threading.current_thread().name)
        self.data.append(message.data)
        self._is_running.release()
        return len(self.data)


@pytest.mark.usefixtures("long_turns")
def test_a_client_calls_it_on_the_thread_of_its_socket(
    server: kps.sync.Server, client: kps.sync.Client
) -> None:
    got = Threads()
    subscribe(client, "t", got)
    for number in range(500):
        server.publish("t", number)
    (response,) = server.publish_with_ack("t", 500).wait().values()
    assert (response.success, response.result) == (True, 501)
    assert got.data == list(range(501))
    assert set(got.names) == {"kps-client"}
    assert client._driver.dispatcher._thread is None


@pytest.mark.usefixtures("long_turns")
def test_a_server_calls_it_on_the_thread_of_the_publisher(
    server: kps.sync.Server, client: kps.sync.Client
) -> None:
    got = Threads()
    subscribe(server, "t", got)
    for number in range(5):
        assert client.publish_with_ack("t", number).wait()["server"].result == number + 1
    assert set(got.names) == {"kps-connection"}
    assert server.publish_with_ack("t", 5).wait()["server"].result == 6
    assert got.names[5:] == ["kps-callbacks"]  # no connection brought it
    assert got.data == list(range(6))


def test_many_publishers_of_one_inline_subscription(server: kps.sync.Server) -> None:
    """It runs on one thread at a time, and gets all, in the order of each publisher."""
    got, other = Threads(), Inbox()
    subscribe(server, "t", got)
    server.subscribe("t", other)
    clients = [kps.sync.Client.connect(server.address) for _ in range(6)]

    def publish(number: int) -> None:
        for count in range(300):
            clients[number].publish("t", [number, count])
            if count % 50 == 0:
                server.publish("t", ["server", number, count])
        clients[number].flush()

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    eventually(lambda: len(got.data) == 6 * 306)
    for number in range(6):
        assert [count for *who, count in got.data if who == [number]] == list(range(300))
    assert len(other.take(6 * 306)) == 6 * 306
    for client in clients:
        client.close()


def test_what_takes_longer_than_a_turn_is_for_the_thread_of_callbacks(
    server: kps.sync.Server, client: kps.sync.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kps.io_sync.dispatch, "_TURN", -1.0)
    got = Threads()
    subscribe(client, "t", got)
    for number in range(200):
        server.publish("t", number)
    assert server.publish_with_ack("t", 200).wait()["client"].result == 201
    assert got.data == list(range(201))
    assert set(got.names) == {"kps-callbacks"}


def test_a_failure_is_reported(server: kps.sync.Server, client: kps.sync.Client) -> None:
    def fail(message: kps.Message) -> None:
        raise ValueError(message.data)

    subscribe(client, "t", fail)
    for _ in range(2):
        assert server.publish_with_ack("t", "odd").wait()["client"].error == "odd"


@pytest.mark.parametrize(
    "wait",
    [
        lambda client: client.flush(),
        lambda client: client.publish_with_ack("nobody", 1).wait(),
        lambda client: client.subscribe("u", print),
        lambda client: next(client.subscribe("u")),
    ],
)
def test_it_must_not_wait(
    server: kps.sync.Server, client: kps.sync.Client, wait: Callable[[kps.sync.Client], Any]
) -> None:
    """For an answer that its own thread would have to read."""
    subscribe(client, "t", lambda message: wait(client))
    response = server.publish_with_ack("t", 1).wait()["client"]
    assert "must not wait" in str(response.error)
    assert client._driver.session.subscriptions.keys == ["t"]
    client.flush()


def test_it_may_publish_and_end_its_subscription(
    server: kps.sync.Server, client: kps.sync.Client
) -> None:
    got = server.subscribe("echo", timeout=PATIENCE)

    def once(message: kps.Message) -> None:
        client.publish("echo", message.data)
        subscription.unsubscribe()

    subscription = subscribe(client, "t", once)
    for number in range(3):
        server.publish("t", number)
    assert next(got).data == 0
    eventually(lambda: server.count_subscribers("t") == (0, 0, 0))
    client.publish("echo", "last")
    assert next(got).data == "last"


def test_closing_a_client_from_within(server: kps.sync.Server) -> None:
    closed = Inbox()
    client = kps.sync.Client.connect(server.address, id="client", on_close=lambda: closed(True))
    subscribe(client, "t", lambda message: client.close())
    server.publish("t", 1)
    assert closed.get()
    eventually(lambda: client._driver._connection is None)
    with pytest.raises(kps.ClientClosed):
        client.publish("t", 1)


def test_stopping_a_server_from_within() -> None:
    server = kps.sync.Server("127.0.0.1:0", id="server")
    server.start()
    with kps.sync.Client(server.address, reconnect=False) as client:
        subscribe(server, "t", lambda message: server.stop())
        client.publish("t", 1)
        server.serve()  # until it has stopped
        with pytest.raises(kps.ServerStopped):
            server.publish("t", 1)


def test_the_end_of_the_connection_that_brings_it(server: kps.sync.Server) -> None:
    """Its messages are handled all the same."""
    got = Threads()
    subscribe(server, "t", got)
    for number in range(20):
        with kps.sync.Client(server.address) as client:
            client.publish("t", number)
    eventually(lambda: len(got.data) == 20)
    assert sorted(got.data) == list(range(20))
