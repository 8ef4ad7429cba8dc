"""A program's log handler may fail, or publish: a client and a server go on."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

import kps
import kps.sync
from kps.io_sync.log import log_thread
from tests.io.harness import PATIENCE, AnyDriver, Inbox

KPS = logging.getLogger("kps")
QUICK = kps.Backoff(first=0.01, longest=0.05)


class Handler(logging.Handler):
    """Does something for each line, and counts what that raises."""

    def __init__(self, does: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._does = does
        self.failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._does(record)
        except BaseException:
            self.failed += 1
            raise


@contextmanager
def handling(does: Callable[[logging.LogRecord], object]) -> Iterator[Handler]:
    """The log has only this handler, which gets every line."""
    handler = Handler(does)
    before = KPS.level, KPS.propagate
    KPS.addHandler(handler)
    KPS.setLevel(logging.DEBUG)
    KPS.propagate = False
    try:
        yield handler
    finally:
        log_thread.finish(PATIENCE)
        KPS.removeHandler(handler)
        KPS.setLevel(before[0])
        KPS.propagate = before[1]


@pytest.mark.parametrize(
    "failure",
    [OSError(28, "No space left"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()],
    ids=lambda failure: type(failure).__name__,
)
def test_a_handler_that_fails_costs_lines_only(
    servers: AnyDriver, clients: AnyDriver, failure: BaseException, address: str
) -> None:
    def fail(record: logging.LogRecord) -> None:
        raise failure

    def handle(message: kps.Message) -> None:
        if message.data == "fail":
            raise ValueError("no")
        handled(message)

    handled, connected = Inbox(), Inbox()
    with handling(fail) as handler:
        server = servers.server(address)
        client = clients.client(address, on_connect=connected, reconnect=QUICK)
        connected.get()
        for receiver in (server, client):
            receiver.subscribe("t", handle)
        for data in ("fail", "works"):
            outcomes = client.publish_with_ack("t", data).wait().values()
            assert [outcome.success for outcome in outcomes] == [data == "works"] * 2
        client.publish_to_id("nobody", "an error, which is logged")
        client.flush()
        server.stop()
        again = servers.server(address)
        assert connected.get().again
        client.publish_with_receipt("t", "works")
        assert handled.take(3) == ["works"] * 3
        client.close()
        again.stop()
    assert handler.failed > 5


def test_a_handler_that_publishes_on_threads(address: str) -> None:
    connected = Inbox()
    with kps.sync.Server(address) as first:
        client = kps.sync.Client.connect(address, on_connect=connected, reconnect=QUICK)
        connected.get()
        with handling(lambda record: client.publish("t", record.getMessage())) as handler:
            first.stop()
            with kps.sync.Server(address):
                assert connected.get().again
                client.flush()
                client.close()
    assert handler.failed


def test_a_handler_that_publishes_on_the_event_loop(address: str) -> None:
    async def run() -> None:
        connected: asyncio.Queue[kps.Connected] = asyncio.Queue()
        first = kps.Server(address)
        await first.start()
        client = await kps.Client.connect(address, on_connect=connected.put, reconnect=QUICK)
        await connected.get()

        def publish(record: logging.LogRecord) -> None:
            with suppress(StopIteration):  # it did not have to wait
                client.publish("t", record.getMessage()).send(None)

        with handling(publish) as handler:
            await first.stop()
            async with kps.Server(address):
                assert (await connected.get()).again
                await client.flush()
                await client.close()
        assert handler.failed

    asyncio.run(asyncio.wait_for(run(), PATIENCE))
