"""The end of a client or server on threads from within a call: in a signal handler, for instance.

A handler runs between any two steps of its thread. The tests call what a handler would call from
within a step, which is the same.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

import kps.io_sync.client
import kps.io_sync.server
import kps.protocol.server.hub
import kps.sync
from kps.io_sync.ending import Ending
from kps.protocol.client.batch import Batch
from kps.protocol.server.delivery import Delivery
from kps.protocol.server.events import HubEvent
from kps.protocol.server.local import LocalProgram
from tests.io.harness import PATIENCE, eventually
from tests.io.test_misuse import in_thread


def once_within(
    monkeypatch: pytest.MonkeyPatch, where: type, method: str, handler: Callable[[], object]
) -> None:
    """Call ``handler`` once, in the middle of a call: when a method begins."""
    original = getattr(where, method)
    handlers = [handler]

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if handlers:
            handlers.pop()()
        return original(*args, **kwargs)

    monkeypatch.setattr(where, method, interrupted)


@pytest.mark.pure("it replaces a part of the core")
def test_a_client_that_is_closed_from_within_publish_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        got = server.subscribe("t", timeout=PATIENCE)
        client = kps.sync.Client.connect(server.address)
        client.flush()
        told: list[int] = []
        client.publish("t", 0)
        once_within(monkeypatch, Batch, "__init__", lambda: told.append(client.close()))
        client.publish("u", 1)  # a batch of its own
        accepted = [0]
        with suppress(kps.ClientClosed):
            while len(accepted) < 100:
                client.publish("t", len(accepted))
                accepted.append(len(accepted))
        eventually(lambda: client._session.ended is not None)
        with pytest.raises(kps.ClientClosed):
            client.publish("t", 0)
        assert told == [0]
        assert client.close() == 0
        assert client.dropped == 0
        assert [next(got).data for _ in accepted] == accepted


@pytest.mark.pure("it replaces a part of the core")
def test_a_server_that_is_stopped_from_within_publish_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = kps.sync.Server("127.0.0.1:0")
    server.start()
    with kps.sync.Client(server.address, reconnect=False) as client:
        got = client.subscribe("t", timeout=PATIENCE)
        once_within(monkeypatch, Delivery, "publish", server.stop)
        assert server.publish("t", 1) == 1
        assert next(got).data == 1
        assert in_thread(server.serve) is None  # it returns, since the server stops
        with pytest.raises(kps.ServerStopped):
            server.publish("t", 2)
        server.stop()


def test_ends_from_within_locked_code_hold_up_no_callback() -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        client = kps.sync.Client.connect(server.address)
        called = threading.Event()
        client.subscribe("t", lambda message: called.set())
        server.publish("t", 1)
        assert called.wait(PATIENCE)  # now callbacks have a thread, which needs the lock to end
        with client._driver.lock:  # a log handler of the program, or a finalizer
            assert client.close() == 0
            assert client._session.ended is None
        eventually(lambda: client._session.ended is not None)
        with server._driver.lock:
            server.stop()
        assert in_thread(server.serve) is None


@pytest.mark.pure("it replaces a part of the core")
def test_what_a_handler_settles_waits_for_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        kps.sync.Server("127.0.0.1:0") as server,
        kps.sync.Client(server.address) as client,
    ):
        messages = client.subscribe("t", timeout=PATIENCE)
        got = server.subscribe("u", timeout=PATIENCE)
        ack = server.publish_with_ack("t", 1)
        next(messages)
        once_within(monkeypatch, Batch, "__init__", messages)
        client.publish("u", 1)
        assert next(got).data == 1
        assert [response.success for response in ack.wait().values()] == [True]


@pytest.mark.pure("it replaces a part of the core")
def test_a_handler_does_not_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kps.io_sync.publisher, "HIGH_WATER", 0)
    direct: queue.Queue[Any] = queue.Queue()
    with (
        kps.sync.Server("127.0.0.1:0", on_id=lambda message: direct.put(message.data)) as server,
        kps.sync.Client(server.address) as client,
    ):
        with client._driver.lock:  # nothing is written before it waits
            once_within(monkeypatch, Batch, "__init__", lambda: client.publish_to_id(server.id, 1))
            client._session.publish("t", 1, client._driver.clock())
            once_within(monkeypatch, Batch, "__init__", lambda: client.publish_to_id(server.id, 2))
            client.publish("u", 1)
        assert [direct.get(timeout=PATIENCE) for _ in range(2)] == [1, 2]


@pytest.mark.pure("it replaces a part of the core")
def test_what_a_handler_cannot_wait_for_is_refused_before_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusals: list[kps.InvalidState] = []

    def handler() -> None:
        with pytest.raises(kps.InvalidState) as refusal:
            server.publish_to_server("127.0.0.1:1", 1)
        refusals.append(refusal.value)

    with kps.sync.Server("127.0.0.1:0") as server:
        monkeypatch.setattr(server._relays, "send", never)
        once_within(monkeypatch, LocalProgram, "take_own", handler)
        server.subscribe("t", lambda message: None)
        server.publish("t", 1)
    assert refusals


def test_a_subscription_that_is_collected_on_the_clients_own_thread_ends_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    was_woken: list[bool] = []
    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        held = [client.subscribe("t")]
        handle_events = client._handle_events

        def collecting() -> None:
            is_answered = bool(client._session.state.events)
            handle_events()
            if is_answered and threading.current_thread() is client._driver._thread:
                held.clear()
                assert client._driver._connection is not None
                was_woken.append(client._driver._connection._waker.reset())
                client._driver.wake()

        monkeypatch.setattr(client, "_handle_events", collecting)
        client.flush()  # the answer comes on that thread
        assert was_woken[:1] == [True]  # else it would wait for its next deadline
        eventually(lambda: server.count_subscribers("t") == (0, 0, 0))


def test_the_words_of_an_exception_are_asked_for_without_the_lock() -> None:
    was_held: list[bool] = []

    class OwnError(Exception):
        def __str__(self) -> str:
            was_held.append(driver.news.is_locked_here)
            return "own words"

    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        driver = client._driver
        messages = client.subscribe("t", timeout=PATIENCE)
        ack = server.publish_with_ack("t", 1)
        with suppress(OwnError), messages:
            next(messages)
            raise OwnError
        assert [response.error for response in ack.wait().values()] == ["own words"]
        assert was_held == [False]


@pytest.mark.pure("it replaces a part of the core")
def test_events_are_handled_between_calls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    were_within: list[bool] = []

    class Hub(kps.protocol.server.hub.Hub):
        def events(self) -> list[HubEvent]:
            were_within.append(self.calls.is_under_way)
            return super().events()

    monkeypatch.setattr(kps.io_sync.server_driver, "Hub", Hub)
    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        got = client.subscribe("t", timeout=PATIENCE)
        once_within(monkeypatch, Delivery, "publish", lambda: server.publish("t", 2))
        server.publish("t", 1)
        assert [next(got).data for _ in range(2)] == [1, 2]
    assert were_within
    assert not any(were_within)


# -- the end of a server, with several callers -----------------------------------------------------


def never(*args: object, **kwargs: object) -> None:
    raise AssertionError("it must not be called")


def test_an_end_that_its_own_thread_asks_for_again_is_shortened() -> None:
    calls: list[str] = []
    ending = Ending(lambda end: False, lambda: False)

    def end() -> None:
        calls.append("ends")
        ending.finish(never, lambda: calls.append("shorter"))  # a second signal
        calls.append("ended")

    assert in_thread(lambda: ending.finish(end, never)) is None
    ending.finish(never, never)
    assert calls == ["ends", "shorter", "ended"]


def test_a_thread_for_which_the_end_waits_does_not_wait_for_it() -> None:
    shortened: list[bool] = []
    awaited: list[threading.Thread] = []
    ending = Ending(lambda end: False, lambda: threading.current_thread() in awaited)

    def end() -> None:
        callback = threading.Thread(
            target=ending.finish, args=(never, lambda: shortened.append(True))
        )
        awaited.append(callback)
        callback.start()
        callback.join(30)
        assert not callback.is_alive()

    ending.finish(end, never)
    assert shortened == [True]


def test_an_end_that_begins_as_another_caller_looks_is_shortened() -> None:
    ending = Ending(lambda end: False, lambda: False)
    begins, is_shorter = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def end() -> None:
        begins.set()
        in_time.append(is_shorter.wait(PATIENCE))

    other = threading.Thread(target=ending.finish, args=(end, never), daemon=True)

    class Lock:
        """Another caller is faster."""

        def __enter__(self) -> None:
            ending._news.lock = lock
            other.start()
            assert begins.wait(PATIENCE)
            lock.acquire()

        def __exit__(self, *failure: object) -> None:
            lock.release()

    lock, ending._news.lock = ending._news.lock, cast("Any", Lock())
    ending.finish(never, is_shorter.set)
    assert in_time == [True]


def test_a_callback_and_the_program_stop_a_server_at_once() -> None:
    server = kps.sync.Server("127.0.0.1:0")
    server.start()
    begins, goes_on = threading.Event(), threading.Event()

    def callback(message: kps.Message) -> None:
        begins.set()
        goes_on.wait(PATIENCE)
        server.stop(1000.0)

    server.subscribe("t", callback)
    server.publish("t", 1)
    assert begins.wait(PATIENCE)
    stopping = threading.Thread(target=server.stop, args=(1000.0,), daemon=True)
    stopping.start()
    eventually(lambda: server._driver.ending.is_under_way)
    goes_on.set()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
