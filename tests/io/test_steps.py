"""When the asyncio driver takes a step: at once, or at the end of a turn; never twice."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

import kps
from kps.io_asyncio.driver import Alarm
from kps.io_asyncio.runtime import Runtime
from tests.interrupting import Interruption, at_every_place
from tests.io.test_asyncio import on_both_loops


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[kps.Server, kps.Client]]:
    async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
        await asyncio.sleep(0)
        yield server, client


@on_both_loops
async def test_a_step_that_leaves_work_follows_once_in_each_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair() as (server, _):
        driver, turn, steps = server._driver, 0, []

        def flush() -> None:
            steps.append(turn)
            if turn < 20:
                driver.progress()  # as a server does that has very much to write

        with monkeypatch.context() as patched:
            patched.setattr(driver, "_flush", flush)
            driver.progress()
            for turn in range(25):  # noqa: B007
                await asyncio.sleep(0)
        assert len(steps) == len(set(steps)) >= 20


class Clockwork(Runtime):
    """Keeps the timers that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[float] = []

    def call_at(self, when: float, callback: Callable[[], None]) -> "Clockwork":
        self.timers.append(when)
        return self

    def cancel(self) -> None:
        self.timers.append(-1.0)


def test_steps_do_not_push_back_a_timer_that_is_due() -> None:
    clockwork = Clockwork()
    alarm = Alarm(clockwork, lambda: None)
    alarm.set(5.0, 4.0)
    for now in (5.0, 5.5, 5.9):
        alarm.set(now, now)
        alarm.set(7.0, now)
    assert clockwork.timers == [5.0]
    for now in (6.1, 6.2, 7.0):  # it must be lost, and the new one has its time
        alarm.set(6.1, now)
    assert clockwork.timers == [5.0, -1.0, 6.1]
    alarm.set(6.0, 6.0)
    assert clockwork.timers == [5.0, -1.0, 6.1, -1.0, 6.0]
    alarm.set(None, 6.0)
    assert clockwork.timers[5:] == [-1.0]
    assert alarm.at < 0.0


def test_an_interrupted_timer_is_set_again() -> None:
    def run(interruption: Interruption) -> None:
        clockwork = Clockwork()
        alarm = Alarm(clockwork, lambda: None)
        interruption.during(lambda: alarm.set(60.0, 1.0))
        alarm.set(60.0, 1.1)
        assert 60.0 in clockwork.timers

    assert at_every_place(run, "/driver.py", "/test_steps.py") > 2


@on_both_loops
async def test_a_few_requests_leave_at_once_and_many_together() -> None:
    async with pair() as (_, client):
        waiting = []
        for _ in range(40):
            await client.publish_with_ack("t", "x")
            waiting.append(client._session.backlog > 0)
        assert waiting == [False] * 17 + [True] * 23


@on_both_loops
async def test_publications_leave_at_once_where_a_turn_has_one() -> None:
    async with pair() as (_, client):

        async def turn_of(count: int) -> list[bool]:
            waiting = []
            for _ in range(count):
                await client.publish("t", "x")
                waiting.append(client._session.backlog > 0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return waiting

        assert await turn_of(3) == [True] * 3
        assert await turn_of(1) == [True]  # it was the only one
        for _ in range(16):
            assert await turn_of(1) == [False]
        assert await turn_of(1) == [True]  # to see whether it still is
        assert await turn_of(20) == [False] * 16 + [True] * 4
        assert await turn_of(1) == [True]


@on_both_loops
async def test_answers_to_one_read_leave_at_once_and_to_several_together() -> None:
    async with kps.Server("127.0.0.1:0") as server:
        driver = server._driver
        assert await reads(driver, 3) == [True] * 3
        assert await reads(driver, 1) == [True]  # it is the only one
        assert await reads(driver, 16) == [False] * 16
        assert await reads(driver, 3) == [True] * 3  # to see whether it still is
        assert await reads(driver, 2) == [True] * 2


async def reads(driver: object, count: int) -> list[bool]:
    """Tell the driver of reads in one turn; return whether a step is due after each."""
    await asyncio.sleep(0)
    due = []
    for _ in range(count):
        driver.has_read()  # type: ignore[attr-defined]
        due.append(bool(driver.due_on))  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return due


@on_both_loops
async def test_a_step_at_once_that_fails_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair() as (_, client):
        driver = client._driver

        def broken() -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(driver, "_flush", broken)
        with pytest.raises(KeyboardInterrupt):
            await client.publish_with_ack("t", "x")
        assert client._session.backlog
        await asyncio.sleep(0)
        assert not client._session.backlog


def test_an_interrupted_request_for_a_step_is_kept() -> None:
    async def run(interruption: Interruption) -> None:
        async with pair() as (_, client):
            client._session.publish("t", "x", client._driver.clock())
            interruption.during(client._driver.progress)
            if "after call_soon" in interruption.place:
                for _ in range(3):
                    await asyncio.sleep(0)
                assert not client._session.backlog

    assert at_every_place(lambda it: asyncio.run(run(it)), "/io_asyncio/steps.py") >= 3


@on_both_loops
async def test_nothing_is_written_within_a_call_of_the_core() -> None:
    async with pair() as (_, client):
        driver, calls = client._driver, client._session.calls
        calls.is_under_way = True  # as in a signal handler that interrupts one
        await client.publish("t", "x")
        driver.step_now()
        calls.end()
        calls.is_under_way = False
        assert client._session.backlog
        await asyncio.sleep(0)
        assert not client._session.backlog


@on_both_loops
async def test_a_fault_in_a_step_at_once_ends_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with pair() as (server, client):

        def broken() -> None:
            monkeypatch.undo()
            raise ZeroDivisionError

        monkeypatch.setattr(server._driver, "_flush", broken)
        for _ in range(3):
            await client.publish_with_receipt("t", "x")
        assert client._connects == 1
    assert len(faults) == 1


def test_a_loop_may_move_to_another_thread() -> None:
    loop = asyncio.new_event_loop()

    async def begin() -> tuple[kps.Server, kps.Client]:
        server = kps.Server("127.0.0.1:0")
        await server.start()
        return server, await kps.Client.connect(server.address)

    server, client = loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def there(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    for _ in range(3):
        assert there(client.publish_with_receipt("t", 1)) == 0
        there(client.publish("t", 1))
    for call in (client.publish("t", 1), server.publish("t", 1)):
        with pytest.raises(kps.WrongThread):
            call.send(None)
    there(client.close())
    there(server.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
@pytest.mark.parametrize("ends", ["client", "server"])
def test_an_eager_callback_that_ends_everything_is_the_last_one(ends: str) -> None:
    handled: list[int] = []

    async def main() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        server = kps.Server("127.0.0.1:0")
        await server.start()
        client = await kps.Client.connect(server.address)

        async def callback(message: kps.Message) -> None:
            handled.append(message.data)
            if message.data == 3:
                await (client.close() if ends == "client" else server.stop(grace=1))
                ended.set()

        await (client if ends == "client" else server).subscribe("t", callback)
        other = client if ends == "server" else await kps.Client.connect(server.address)
        for number in range(10):
            await other.publish("t", number)
        await ended.wait()
        await other.close()
        await client.close()
        await server.stop()

    asyncio.run(asyncio.wait_for(main(), 20))
    assert handled == [0, 1, 2, 3]
