"""Tasks of callbacks that somebody cancels: their subscriptions go on, one message at a time."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

import kps
import kps.sync
from tests.io.harness import PATIENCE

pytestmark = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


def test_a_function_in_a_thread_is_waited_for_though_its_task_was_cancelled(loop: NewLoop) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    handled: list[Any] = []

    def callback(message: kps.Message) -> None:
        begun.set()
        assert goes_on.wait(PATIENCE)
        handled.append(message.data)

    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            server.subscribe("t", callback)
            await server.publish("t", 0)
            while not begun.is_set():
                await asyncio.sleep(0.001)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if "_in_threads" in repr(task):
                    task.cancel()
            begun.clear()
            await server.publish("t", 1)
            await asyncio.sleep(0.05)
            assert not begun.is_set(), "another thread has the next message already"
            goes_on.set()
            while len(handled) < 2:
                await asyncio.sleep(0.001)
        assert handled == [0, 1]

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), PATIENCE))


def test_a_callback_that_cancels_itself_goes_on_though_no_other_task_exists(loop: NewLoop) -> None:
    handled: list[Any] = []

    async def callback(message: kps.Message) -> None:
        handled.append(message.data)
        if message.data == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        if message.data == 9:
            running.stop()

    async def begin() -> kps.Server:
        server = kps.Server("127.0.0.1:0")
        await server.start()
        server.subscribe("t", callback)
        for number in range(10):
            await server.publish("t", number)
        return server

    running = loop()
    begun = running.create_task(begin())
    running.call_later(PATIENCE, running.stop)
    running.run_forever()
    running.run_until_complete(begun.result().stop())
    running.close()
    assert handled == list(range(10))


def test_a_callback_that_closes_its_client_at_its_end_does_not_hold_up_the_close(
    loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def callback(message: kps.Message) -> None:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                await client.close()

        async with kps.Server("127.0.0.1:0") as server:
            limits = kps.ClientLimits(close_timeout=10 * PATIENCE)
            client = await kps.Client.connect(server.address, limits=limits)
            await client.subscribe("t", callback)
            await client.publish("t", 1)
            await begun.wait()
            await client.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), PATIENCE))
    assert "goes on" not in caplog.text


def test_a_stop_does_not_wait_for_a_silent_server_longer_than_its_grace(loop: NewLoop) -> None:

    async def main(address: str) -> None:
        server = kps.Server("127.0.0.1:0", relay_timeout=10 * PATIENCE)
        await server.start()
        sending = asyncio.create_task(server.publish_to_server(address, {"topic": "t", "data": 1}))
        while not server._relays._clients:
            await asyncio.sleep(0)
        other._driver.lock.acquire()  # from here on the other server is silent
        try:
            second = asyncio.create_task(
                server.publish_to_server(address, {"topic": "t", "data": 2})
            )
            await asyncio.sleep(0)
            await server.stop(grace=0.01)
        finally:
            other._driver.lock.release()
        await asyncio.gather(sending, second, return_exceptions=True)

    with kps.sync.Server("127.0.0.1:0") as other:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(asyncio.wait_for(main(other.address), PATIENCE))
