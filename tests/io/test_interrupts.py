"""An exception out of a signal handler, as that of Ctrl-C, at every place of a driver's code.

The client and the server go on: afterwards they publish, or say at once that they cannot.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import kps
import kps.sync
from tests.interrupting import Interruption, at_every_place
from tests.io.harness import PATIENCE, Inbox

# Python reports what comes in within a finalizer, and coroutines that never begin.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]

QUICK = kps.Backoff(first=0.01, longest=0.01)


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a server that nothing interrupts."""
    with kps.sync.Server("127.0.0.1:0") as server:
        yield server.address


# -- on threads ------------------------------------------------------------------------------

THREADS = ("/kps/io_sync/", "/kps/io_common/", "/threading.py")

OF_BOTH: dict[str, Callable[[Any], object]] = {
    "publish": lambda it: it.publish("elsewhere", 1),
    "direct": lambda it: it.publish_to_id("nobody", 1),
    "ack": lambda it: it.publish_with_ack("t", "ack").wait(),
    "subscribe": lambda it: it.subscribe("u", print).unsubscribe(),
    "iterate": lambda it: it.subscribe("v").__exit__(None, None, None),
}


def goes_on(it: Any, got: Inbox) -> None:
    (outcome,) = it.publish_with_ack("t", "after", timeout=PATIENCE).wait().values()
    assert outcome.success, outcome.error
    while got.data() != "after":
        pass
    it.publish("t", "at last")
    assert got.data() == "at last"


@pytest.mark.parametrize("name", [*OF_BOTH, "flush", "receipt"])
def test_a_client_on_threads(name: str, address: str) -> None:
    call = (
        OF_BOTH.get(name)
        or {
            "flush": lambda client: client.flush(),
            "receipt": lambda client: client.publish_with_receipt("elsewhere", 1),
        }[name]
    )
    got = Inbox()
    with kps.sync.Client(address) as client, kps.sync.Client(address) as other:
        other.subscribe("t", got)

        def run(interruption: Interruption) -> None:
            interruption.during(lambda: call(client))
            goes_on(client, got)

        assert at_every_place(run, *THREADS) > 5


@pytest.mark.parametrize("name", OF_BOTH)
def test_a_server_on_threads(name: str) -> None:
    got = Inbox()
    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as other:
        other.subscribe("t", got)

        def run(interruption: Interruption) -> None:
            interruption.during(lambda: OF_BOTH[name](server))
            goes_on(server, got)

        assert at_every_place(run, *THREADS) > 5


def test_the_first_callback_on_threads(address: str) -> None:
    """Its thread starts then. There is one, whatever comes in."""

    def run(interruption: Interruption) -> None:
        got = Inbox()
        with kps.sync.Server("127.0.0.1:0") as server:
            server.subscribe("t", got)
            interruption.during(lambda: server.publish("t", 1))
            server.publish("t", 2)
            while got.data() != 2:
                pass

    assert at_every_place(run, *THREADS) > 10


def test_iterators_that_were_left_on_threads() -> None:
    """Their subscriptions end, and what they took has an outcome, whatever comes in."""
    with kps.sync.Server("127.0.0.1:0") as server:
        driver = server._driver

        def run(interruption: Interruption) -> None:
            held = [server.subscribe("t", timeout=PATIENCE) for _ in range(2)]
            ack = server.publish_with_ack("t", 1, timeout=PATIENCE)
            for messages in held:
                next(messages)
            del messages
            with driver.lock:  # no other thread does it
                held.clear()
                interruption.during(driver.progress)
                driver.progress()
            (outcome,) = ack.wait().values()
            assert outcome.error == "the subscription was left"
            assert server.count_subscribers("t") == (0, 0, 0)

        assert at_every_place(run, "/kps/io_sync/driver.py", "/kps/io_common/events.py") > 5


# -- on an event loop ------------------------------------------------------------------------

ON_LOOP = ("/kps/io_asyncio/", "/kps/io_common/")

Call = Callable[[Any], Awaitable[Any]]


async def ack(it: Any) -> None:
    await (await it.publish_with_ack("t", "ack")).wait()


async def subscribe(it: Any) -> None:
    await (await it.subscribe("u", print)).unsubscribe()


CALLS: dict[str, Call] = {
    "publish": lambda it: it.publish("elsewhere", 1),
    "ack": ack,
    "subscribe": subscribe,
}


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that an exception leaves, and that runs again, as that of a notebook."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def at_every_place_on(loop: asyncio.AbstractEventLoop, call: Call, it: Any, got: Inbox) -> int:
    async def check() -> None:
        while True:  # it may have to connect again
            try:
                await it.publish("t", "after")
                (outcome,) = (await (await it.publish_with_ack("t", "after")).wait()).values()
            except (kps.NotConnected, kps.ConnectionLost, ValueError):
                await asyncio.sleep(0.001)
            else:
                assert outcome.success
                return

    def run(interruption: Interruption) -> None:
        async def work() -> None:
            with suppress(kps.KPSError):  # the connection may have ended
                await call(it)

        task = loop.create_task(work())
        interruption.during(lambda: loop.run_until_complete(task))
        task.cancel()
        loop.call_soon(loop.stop)  # it may be about to stop
        loop.run_forever()
        loop.run_until_complete(asyncio.wait([task], timeout=PATIENCE))
        task.cancelled() or task.exception()
        loop.run_until_complete(asyncio.wait_for(check(), PATIENCE))

    return at_every_place(run, *ON_LOOP)


@pytest.mark.parametrize("name", [*CALLS, "flush"])
def test_a_client_on_a_loop(name: str, address: str, loop: asyncio.AbstractEventLoop) -> None:
    call = CALLS.get(name) or (lambda client: client.flush())
    got = Inbox()
    with kps.sync.Client(address) as other:
        other.subscribe("t", got)
        client = loop.run_until_complete(kps.Client.connect(address, reconnect=QUICK))
        assert at_every_place_on(loop, call, client, got) > 10
        loop.run_until_complete(asyncio.wait_for(client.close(), PATIENCE))


@pytest.mark.parametrize("name", CALLS)
def test_a_server_on_a_loop(name: str, loop: asyncio.AbstractEventLoop) -> None:
    server = kps.Server("127.0.0.1:0")
    loop.run_until_complete(server.start())

    async def handle(message: kps.Message) -> None:
        """Handle nothing."""

    client = loop.run_until_complete(kps.Client.connect(server.address, reconnect=QUICK))

    async def listen() -> None:
        await client.subscribe("t", handle)

    loop.run_until_complete(listen())
    assert at_every_place_on(loop, CALLS[name], server, Inbox()) > 10
    loop.run_until_complete(asyncio.wait_for(client.close(), PATIENCE))
    loop.run_until_complete(asyncio.wait_for(server.stop(0.1), PATIENCE))
