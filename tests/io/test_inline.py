"""Plain callbacks that are called on the event loop: in order, between steps, for short turns."""

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

import kps
from kps.io_asyncio.runtime import Runtime
from tests.interrupting import Interruption, at_every_place
from tests.io.harness import PATIENCE
from tests.io.test_asyncio import on_both_loops

KINDS = ["coroutine", "threads", "inline"]


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[kps.Server, kps.Client]]:
    async with asyncio.timeout(PATIENCE), kps.Server("127.0.0.1:0") as server:
        async with kps.Client(server.address, id="client") as client:
            yield server, client


def of_kind(kind: str, function: Any) -> tuple[Any, dict[str, Any]]:
    """Return a callback of a kind, and what else ``subscribe`` needs for it."""
    if kind == "coroutine":

        async def callback(message: kps.Message) -> Any:
            return function(message)

        return callback, {}
    return function, {"inline": True} if kind == "inline" else {}


@on_both_loops
async def test_it_runs_on_the_loop_in_order_and_its_result_goes_with_the_ack() -> None:
    handled: list[Any] = []

    def double(message: kps.Message) -> Any:
        assert threading.current_thread() is threading.main_thread()
        assert asyncio.get_running_loop() is loop
        handled.append(message.data)
        return message.data * 2

    loop = asyncio.get_running_loop()
    async with pair() as (server, client):
        await client.subscribe("t", double, inline=True)
        acks = [await server.publish_with_ack("t", number) for number in range(100)]
        for number, ack in enumerate(acks):
            (outcome,) = (await ack.wait()).values()
            assert (outcome.success, outcome.result) == (True, number * 2)
        await client.publish("t", "own")
        await client.flush()
        while handled[-1] != "own":
            await asyncio.sleep(0)
    assert handled == [*range(100), "own"]


@on_both_loops
async def test_what_it_raises_is_the_failure_of_one_message() -> None:
    def fail(message: kps.Message) -> None:
        if message.data:
            raise KeyboardInterrupt("no")

    async with pair() as (server, client):
        await client.subscribe("t", fail, inline=True)
        for data, error in ((0, None), (1, "no"), (0, None)):
            (outcome,) = (await (await server.publish_with_ack("t", data)).wait()).values()
            assert outcome.error == error


@on_both_loops
async def test_it_runs_in_the_context_of_its_subscribe() -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")
    seen: list[str] = []

    def look(message: kps.Message) -> None:
        seen.append(name.get())
        name.set("changed")

    async with pair() as (server, client):
        name.set("alice")
        await client.subscribe("t", look, inline=True)
        name.set("bob")
        for _ in range(2):
            await (await server.publish_with_ack("t", 1)).wait()
        assert name.get() == "bob"
    assert seen == ["alice", "alice"]


@on_both_loops
async def test_what_cannot_be_inline_is_refused() -> None:
    async def coroutine_function(message: kps.Message) -> None:
        """Handle nothing."""

    class Callable:
        async def __call__(self, message: kps.Message) -> None:
            """Handle nothing."""

    async with pair() as (server, client):
        for it in (server, client):
            for callback in (coroutine_function, Callable()):
                with pytest.raises(kps.InvalidArgument, match="leave inline out"):
                    it.subscribe("t", callback, inline=True)
            with pytest.raises(kps.InvalidArgument, match="True or False"):
                it.subscribe("t", print, inline="yes")  # type: ignore[call-overload]
            with pytest.raises(kps.InvalidArgument, match="there is none"):
                it.subscribe("t", inline=True)  # type: ignore[call-overload]
        assert server.count_subscribers("t") == (0, 0, 0)


@on_both_loops
async def test_messages_behind_an_awaitable_that_it_returned_wait_for_it() -> None:
    handled: list[Any] = []
    goes_on = asyncio.Event()

    async def later(message: kps.Message) -> Any:
        await goes_on.wait()
        handled.append(("later", message.data))
        if message.data == 3:
            raise ValueError("three")
        return "awaited"

    def callback(message: kps.Message) -> Any:
        handled.append(message.data)
        return later(message) if message.data % 2 else "at once"

    async with pair() as (server, client):
        await client.subscribe("t", callback, inline=True)
        acks = [await server.publish_with_ack("t", number) for number in range(5)]
        await acks[0].wait()
        await server.publish("elsewhere", 1)
        await client.flush()
        assert handled == [0, 1]
        goes_on.set()
        outcomes = [next(iter((await ack.wait()).values())) for ack in acks]
        assert handled == [0, 1, ("later", 1), 2, 3, ("later", 3), 4]
        assert [one.result for one in outcomes] == [
            "at once",
            "awaited",
            "at once",
            None,
            "at once",
        ]
        assert outcomes[3].error == "three"


@on_both_loops
async def test_an_awaitable_whose_task_is_cancelled_is_one_failure() -> None:
    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with pair() as (server, client):
        await client.subscribe("t", lambda m: cancelled() if m.data else "well", inline=True)
        acks = [await server.publish_with_ack("t", number) for number in (1, 0)]
        outcomes = [next(iter((await ack.wait()).values())) for ack in acks]
        assert [(one.error, one.result) for one in outcomes] == [
            ("cancelled", None),
            (None, "well"),
        ]


@on_both_loops
async def test_it_is_called_within_no_call_of_the_program() -> None:
    """It runs from the loop, and neither in the middle of a coroutine nor of another callback."""
    calls: list[str] = []
    inside = False

    def callback(message: kps.Message) -> str:
        nonlocal inside
        assert not inside
        inside = True
        more = server.subscribe("u", callback, inline=True)
        if message.data < 3:
            tasks.append(asyncio.ensure_future(server.publish_with_ack("t", message.data + 1)))
        more()
        calls.append(message.topic)
        inside = False
        return "done"

    async def asks(message: kps.Message) -> None:
        nonlocal inside
        assert not inside
        inside = True
        ack = await server.publish_with_ack("t", 9)
        inside = False
        await ack.wait()

    tasks: list[Any] = []
    async with pair() as (server, _):
        server.subscribe("t", callback, inline=True)
        server.subscribe("ask", asks)
        inside = True
        ack = await server.publish_with_ack("t", 0)  # takes a step at once
        inside = False
        (outcome,) = (await ack.wait()).values()
        assert outcome.result == "done"
        while len(tasks) < 3:
            await asyncio.sleep(0)
        for task in tasks:
            (outcome,) = (await (await task).wait()).values()
            assert outcome.result == "done"
        (outcome,) = (await (await server.publish_with_ack("ask", 0)).wait()).values()
        assert outcome.success, outcome.error
    assert calls == ["t"] * 5


@pytest.mark.parametrize("kind", KINDS)
@on_both_loops
async def test_a_callback_that_ends_its_subscription_gets_no_more(kind: str) -> None:
    handled: list[Any] = []

    def callback(message: kps.Message) -> None:
        handled.append(message.data)
        if message.data == 1:
            subscription()

    callback_of_kind, options = of_kind(kind, callback)
    async with pair() as (server, client):
        subscription = await client.subscribe("t", callback_of_kind, **options)
        acks = [await server.publish_with_ack("t", number) for number in range(4)]
        errors = [next(iter((await ack.wait()).values())).error for ack in acks]
    if kind != "threads":  # whose end takes effect on the loop, a moment later
        assert handled == [0, 1]
        assert errors[2:] == ["unsubscribed"] * 2
    assert errors[:2] == [None, None]


@pytest.mark.parametrize("kind", KINDS)
@on_both_loops
async def test_a_callback_may_close_its_client(kind: str) -> None:
    handled: list[Any] = []
    loop = asyncio.get_running_loop()

    def callback(message: kps.Message) -> None:
        handled.append(message.data)
        if message.data == 1:
            loop.call_soon_threadsafe(lambda: closing.append(asyncio.ensure_future(client.close())))

    callback_of_kind, options = of_kind(kind, callback)
    closing: list[Any] = []
    async with pair() as (server, client):
        await client.subscribe("t", callback_of_kind, **options)
        for number in range(3):
            await server.publish("t", number)
        while not closing:
            await asyncio.sleep(0.001)
        await closing[0]
        await server.publish("t", 3)
    assert handled[:2] == [0, 1]
    assert 3 not in handled


class Clock:
    """The time of turns, which callbacks let pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(Runtime, "stopwatch", staticmethod(lambda: self.now))


@on_both_loops
async def test_it_leaves_turns_of_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    order: list[str] = []

    def slow(message: kps.Message) -> None:
        clock.now += 0.006
        order.append(message.topic)
        asyncio.get_running_loop().call_soon(order.append, "other")

    async with pair() as (server, _):
        for topic in ("a", "b"):
            server.subscribe(topic, slow, inline=True)
        for _ in range(4):
            for topic in ("a", "b"):
                await server.publish(topic, 1)
        while len(order) < 16:
            await asyncio.sleep(0)
    turns = "".join(order).replace("other", ".").replace("..", ".")
    assert turns == "aa.bb.aa.bb."


@pytest.mark.parametrize("seconds", [0.0, 0.002])
@on_both_loops
async def test_many_reads_of_one_turn_have_one_long_turn_of_callbacks(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    clock = Clock(monkeypatch)
    handled: list[Any] = []

    def callback(message: kps.Message) -> None:
        clock.now += seconds
        handled.append(message.data)

    async with pair() as (server, _):
        server.subscribe("t", callback, inline=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        driver = server._driver
        for number in range(3):  # as reads do
            server._hub.local.subscriptions.deliver("t", number, "anyone", 1, "", 0)
            driver.step_now(is_read=True)
        assert handled == ([0, 1, 2] if not seconds else [0])
        while len(handled) < 3:
            await asyncio.sleep(0)


@on_both_loops
async def test_one_that_keeps_the_loop_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(monkeypatch)

    def slow(message: kps.Message) -> None:
        clock.now += message.data

    async with pair() as (server, client):
        await client.subscribe("heavy", slow, inline=True)
        for seconds in (0.05, 0.5, 0.5):
            await (await server.publish_with_ack("heavy", seconds)).wait()
    (line,) = [record.getMessage() for record in caplog.records if "inline" in record.msg]
    assert line.startswith("inline callbacks kept the event loop for 0.5 s longer than they may")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_out_of_a_signal_handler_loses_no_message(kind: str) -> None:
    """They are handled in order, and each ack has an outcome, wherever it comes in."""

    async def run(interruption: Interruption) -> None:
        handled: list[Any] = []
        callback, options = of_kind(kind, lambda message: handled.append(message.data))
        async with asyncio.timeout(PATIENCE), kps.Server("127.0.0.1:0") as server:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: None)
            driver = server._driver
            server.subscribe("t", callback, **options)
            await asyncio.sleep(0)
            for number in range(3):
                await server.publish("t", number)
            interruption.during(lambda: driver._step_if_due(driver._count))
            acks = [await server.publish_with_ack("t", number) for number in (3, 4)]
            for ack in acks:
                (outcome,) = (await ack.wait()).values()
                assert outcome.error is None or interruption.place
            while 4 not in handled:
                await asyncio.sleep(0.001)
            assert handled == sorted(set(handled))
            assert handled[-2:] == [3, 4]

    places = at_every_place(
        lambda it: asyncio.run(run(it)), "/io_asyncio/", "/bus/mailbox.py", "/bus/subscriptions.py"
    )
    assert places > 10


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin at the next turn")
@on_both_loops
async def test_the_first_step_of_a_coroutine_function_follows_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Clock(monkeypatch)  # it stands still: on a busy machine a turn may be over after one callback
    turns = 0
    seen: list[Any] = []

    def count() -> None:
        nonlocal turns
        turns += 1
        if turns < 10:
            loop.call_soon(count)

    async def quick(message: kps.Message) -> None:
        seen.append((turns, asyncio.current_task() is not None))

    async def waits(message: kps.Message) -> str:
        seen.append(turns)
        await asyncio.sleep(0)
        seen.append(turns)
        return "waited"

    loop = asyncio.get_running_loop()
    async with pair() as (server, _):
        server.subscribe("quick", quick)
        server.subscribe("waits", waits)
        for topic in ("quick", "waits"):
            await server.publish(topic, 1)
        count()  # behind the step that is due
        await (await server.publish_with_ack("waits", 1)).wait()
        assert seen[:3] == [(1, True), 1, 2]
        for factory in (asyncio.Task, vars(asyncio)["eager_task_factory"]):  # the program's own
            made: list[Any] = []
            loop.set_task_factory(counting(factory, made))
            try:
                for topic in ("waits", "quick"):
                    (outcome,) = (await (await server.publish_with_ack(topic, 1)).wait()).values()
                    assert outcome.result == ("waited" if topic == "waits" else None)
            finally:
                loop.set_task_factory(None)
            assert len(made) == 2


def counting(factory: Any, made: list[Any]) -> Any:
    """Return a task factory that notes what it makes."""

    def make(loop: Any, coro: Any, **options: Any) -> Any:
        made.append(coro)
        options.pop("eager_start", None)  # uvloop gives it to factories that do not know it
        return factory(coro=coro, loop=loop, **options)

    return make
