"""What only the asyncio driver has: tasks, cancellation, iterators, callbacks on the loop.

Every test runs on asyncio's own event loop and on uvloop.
"""

import asyncio
import gc
import inspect
import logging
import re
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import Any, cast

import pytest
import uvloop

import kps
from kps.io_asyncio.connection import Connection
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.wire.endpoint import Endpoint
from kps.protocol.wire.websocket import Output
from tests.io.harness import PATIENCE, Cable
from tests.protocol.helpers import close_frame, json_frame, upgrade

QUICK = kps.Backoff(first=0.01, longest=0.05)


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function, run once on each kind of loop."""

    @pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
    def run(loop: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(asyncio.wait_for(test(**fixtures), PATIENCE))

    decorated = wraps(test)(run)
    del decorated.__wrapped__  # pytest looks at the signature of what really runs
    parameters = [
        *inspect.signature(test).parameters.values(),
        inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY),
    ]
    decorated.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return decorated


@asynccontextmanager
async def bus(**options: Any) -> AsyncIterator[tuple[kps.Server, kps.Client, kps.Client]]:
    """A server and two clients of it."""
    async with (
        kps.Server("127.0.0.1:0", id="server", **options) as server,
        kps.Client(server.address, id="alice") as alice,
        kps.Client(server.address, id="bob") as bob,
    ):
        yield server, alice, bob


class Collector:
    """A coroutine callback that keeps what it gets."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    async def __call__(self, message: kps.Message) -> None:
        self.queue.put_nowait(message.data)

    async def get(self) -> Any:
        return await self.queue.get()


# -- callbacks -----------------------------------------------------------------------------


@on_both_loops
async def test_coroutine_functions_run_on_the_loop_and_plain_ones_in_threads() -> None:
    async with bus() as (_, alice, bob):
        where: asyncio.Queue[tuple[str, threading.Thread]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def on_loop(message: kps.Message) -> None:
            where.put_nowait(("loop", threading.current_thread()))

        def in_thread(message: kps.Message) -> None:
            place = ("thread", threading.current_thread())
            loop.call_soon_threadsafe(where.put_nowait, place)

        await alice.subscribe("t", on_loop)
        await alice.subscribe("t", in_thread)
        await bob.publish("t", 1)
        found = dict([await where.get(), await where.get()])
        assert found["loop"] is threading.current_thread()
        assert found["thread"] is not threading.current_thread()


@on_both_loops
async def test_a_plain_callback_that_blocks_does_not_stop_the_loop() -> None:
    async with bus() as (_, alice, bob):
        release = threading.Event()
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def block(message: kps.Message) -> None:
            loop.call_soon_threadsafe(started.set)
            release.wait(PATIENCE)

        await alice.subscribe("t", block)
        await bob.publish("t", 1)
        await started.wait()
        await alice.flush()  # so heartbeats are answered as well
        release.set()


@on_both_loops
async def test_a_lambda_that_returns_a_coroutine_is_awaited() -> None:
    async with bus() as (_, alice, bob):
        collector = Collector()
        await alice.subscribe("t", lambda message: collector(message))
        await bob.publish("t", 1)
        assert await collector.get() == 1


@on_both_loops
async def test_a_callback_may_await_client_calls_and_acks() -> None:
    async with bus() as (_, alice, bob):
        results = Collector()
        await bob.subscribe("question", results)

        async def ask_on(message: kps.Message) -> None:
            ack = await alice.publish_with_ack("question", message.data)
            responses = await ack.wait()
            assert responses["bob"].success
            await alice.subscribe("more", results)
            await alice.publish("more", "from within")
            await alice.unsubscribe("start")

        await alice.subscribe("start", ask_on)
        ack = await bob.publish_with_ack("start", 1)
        assert (await ack.wait())["alice"].success
        assert [await results.get(), await results.get()] == [1, "from within"]
        assert (await (await bob.publish_with_ack("start", 1)).wait()) == {}


@on_both_loops
async def test_a_callback_may_close_its_client() -> None:
    async with kps.Server("127.0.0.1:0") as server:
        closed = asyncio.Event()
        client = await kps.Client.connect(server.address, on_close=closed.set)

        async def close(message: kps.Message) -> None:
            await client.close()

        await client.subscribe("t", close)
        await client.publish("t", 1)
        await closed.wait()
        await client.close()
        with pytest.raises(kps.ClientClosed):
            await client.publish("t", 1)


@on_both_loops
async def test_messages_of_one_subscription_do_not_overlap() -> None:
    async with bus() as (_, alice, bob):
        seen: list[int] = []
        running = 0
        done = asyncio.Event()

        async def handle(message: kps.Message) -> None:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            running -= 1
            seen.append(message.data)
            if message.data == 199:
                done.set()

        await alice.subscribe("t", handle)
        for number in range(200):
            await bob.publish("t", number)
        await done.wait()
        assert seen == list(range(200))


@on_both_loops
async def test_a_callback_that_is_too_slow_fills_only_its_own_mailbox(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = kps.ClientLimits(mailbox_messages=10, mailbox_patience=0.1)
    async with kps.Server("127.0.0.1:0") as server:
        async with kps.Client(server.address, id="a", limits=limits) as client:
            release, started = asyncio.Event(), asyncio.Event()
            handled: list[int] = []
            other = Collector()

            async def slow(message: kps.Message) -> None:
                started.set()
                await release.wait()
                handled.append(message.data)

            subscription = await client.subscribe("slow", slow)
            await client.subscribe("other", other)
            await client.publish("slow", 0)
            await started.wait()
            for number in range(1, 31):
                await client.publish("slow", number)
            ack = await client.publish_with_ack("slow", 31)
            assert (await ack.wait())["a"].error == "queue full"
            await client.publish("other", "fine")
            assert await other.get() == "fine"
            assert subscription.dropped == 21
            release.set()
            while len(handled) < 11:
                await asyncio.sleep(0)
            ack = await client.publish_with_ack("slow", 32)
            assert (await ack.wait())["a"].success
            assert handled == [*range(11), 32]
            warnings = [r for r in caplog.records if "too slow" in r.message]
            assert len(warnings) == 1  # once for the episode, and not once a message


# -- iterators -----------------------------------------------------------------------------


@on_both_loops
async def test_a_subscription_without_callback_is_an_iterator_that_ends_when_left() -> None:
    async with bus() as (server, alice, bob):

        async def publish_soon() -> None:
            while server.count_subscribers("t")[1] == 0:
                await asyncio.sleep(0)
            for number in range(3):
                await bob.publish("t", number)

        task = asyncio.create_task(publish_soon())
        seen = []
        async for message in alice.subscribe("t"):
            seen.append(message.data)
            if len(seen) == 3:
                break
        await task
        assert seen == [0, 1, 2]
        gc.collect()
        await asyncio.sleep(0)
        await alice.flush()
        assert server.count_subscribers("t") == (0, 0, 0)


@on_both_loops
async def test_cancelling_a_wait_for_the_next_message_loses_none() -> None:
    async with bus() as (_, alice, bob), alice.subscribe("t") as messages:
        seen: list[int] = []
        for number in range(50):
            waiting = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0)
            if number % 2:
                await bob.publish("t", number)
                await bob.flush()
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                seen.append((await waiting).data)
        await bob.publish("t", -1)
        async for message in messages:
            if message.data == -1:
                break
            seen.append(message.data)
        assert seen == list(range(1, 50, 2))


@on_both_loops
async def test_an_iterator_acks_what_was_handled_and_reports_what_failed() -> None:
    async with bus() as (_, alice, bob):
        acks: list[kps.Ack] = []
        with pytest.raises(ValueError, match="bad"):
            async with alice.subscribe("t") as messages:
                for number in range(2):
                    acks.append(await bob.publish_with_ack("t", number))
                async for message in messages:
                    if message.data == 1:
                        raise ValueError("bad")
        first, second = [(await ack.wait())["alice"] for ack in acks]
        assert (first.success, second.success, second.error) == (True, False, "bad")

        async with alice.subscribe("t") as messages:
            ack = await bob.publish_with_ack("t", 2)
            await anext(messages)
        assert (await ack.wait())["alice"].success


@on_both_loops
async def test_a_cancelled_subscribe_leaves_nothing_behind() -> None:
    async with kps.Server("127.0.0.1:0") as server:
        cable = Cable(server.address)
        async with kps.Client(cable.address) as client:
            cable.stalled = True
            for callback in (Collector(), None):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.subscribe("t", callback)._in_force(), 0.05)
                assert client._session.subscriptions.keys == []
                assert client._driver.dispatcher._callbacks == {}
                assert client._driver._arrivals == {}
        cable.close()


@on_both_loops
async def test_one_of_two_who_wait_for_a_subscription_may_be_cancelled() -> None:
    """The other one has it; there is none when both are cancelled."""
    may_come = asyncio.Event()

    async def on_subscribe(asked: kps.Subscribing) -> None:
        await may_come.wait()

    async with kps.Server("127.0.0.1:0", on_subscribe=on_subscribe) as server:
        async with kps.Client(server.address) as client:
            for count in (2, 1):
                subscription = client.subscribe("t")
                waits = [asyncio.ensure_future(subscription._in_force()) for _ in range(2)]
                await asyncio.sleep(0)
                for wait in waits[:count]:
                    wait.cancel()
                await asyncio.wait(waits[:count])
                assert len(client._session.subscriptions.keys) == 2 - count
            may_come.set()
            await waits[1]
            await server.publish("t", "hello")
            assert (await anext(subscription)).data == "hello"


@on_both_loops
async def test_who_is_cancelled_just_when_another_one_has_the_subscription() -> None:
    async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
        subscription = client.subscribe("t")

        async def first() -> None:
            await subscription
            second.cancel()

        begun = asyncio.ensure_future(first())
        second = asyncio.ensure_future(subscription._in_force())
        await asyncio.wait((begun, second))
        assert second.cancelled()
        await server.publish("t", "hello")
        assert (await anext(subscription)).data == "hello"


@on_both_loops
async def test_workers_that_share_an_iterator_ack_their_own_messages() -> None:
    async with bus() as (_, alice, bob):
        jobs = await alice.subscribe("t")
        release = {number: asyncio.Event() for number in range(3)}
        taken: asyncio.Queue[int] = asyncio.Queue()

        async def work() -> None:
            async for message in jobs:
                taken.put_nowait(message.data)
                await release[message.data].wait()
                if message.data == 1:
                    raise ValueError("bad")

        workers = [asyncio.create_task(work()) for _ in range(2)]
        acks = [await bob.publish_with_ack("t", number, timeout=300.0) for number in range(3)]
        assert [await taken.get(), await taken.get()] == [0, 1]
        await bob.flush()
        assert not acks[0].responses, "the other worker took a message; this one is under way"
        release[1].set()
        await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
        release[0].set()
        assert (await acks[0].wait())["alice"].success
        assert (await acks[1].wait())["alice"].error == "bad"
        assert await taken.get() == 2
        await jobs.unsubscribe()
        await bob.flush()
        assert not acks[2].responses, "ending the subscription does not end the work"
        release[2].set()
        assert (await acks[2].wait())["alice"].success
        await asyncio.gather(*workers, return_exceptions=True)


@on_both_loops
async def test_a_worker_that_ends_answers_for_what_it_took() -> None:
    """At once, though nobody asks for another message."""
    async with bus() as (_, alice, bob):
        jobs, others = await alice.subscribe("t"), await alice.subscribe("u")
        has_both = asyncio.Event()

        async def work(end: str) -> None:
            async with asyncio.TaskGroup() as group:  # in which no worker ends with another one
                await anext(jobs), await anext(others)
                group.create_task(asyncio.sleep(0))
                has_both.set()
            if end == "bad":
                raise ValueError("bad")
            if end == "cancelled":
                await asyncio.Event().wait()

        for end in ("", "bad", "cancelled"):
            worker = asyncio.create_task(work(end))
            acks = [await bob.publish_with_ack(topic, 0, timeout=300.0) for topic in "tu"]
            await bob.flush()
            await has_both.wait()
            has_both.clear()
            if end == "cancelled":
                worker.cancel()
            for ack in acks:
                assert (await ack.wait())["alice"].error == (end or None)
            await asyncio.wait([worker])
        assert not jobs._taken
        assert not jobs._watched


@on_both_loops
async def test_a_worker_is_watched_once() -> None:
    async with bus() as (_, alice, bob):
        jobs = await alice.subscribe("t")
        acks = [await bob.publish_with_ack("t", 0, timeout=300.0) for _ in range(20)]
        for _ in acks:
            await anext(jobs)
        assert jobs._watched == {asyncio.current_task()}
        lost = weakref.ref(jobs)
        del jobs
        gc.collect()
        assert lost() is None, "a task that goes on does not keep it"
        for ack in acks[:-1]:
            assert (await ack.wait())["alice"].success
        assert (await acks[-1].wait())["alice"].error == "the subscription was left"


@on_both_loops
async def test_a_task_that_goes_on_keeps_nothing_of_its_iterators() -> None:
    callbacks: list[object] = []

    class Task(asyncio.Task[None]):
        def add_done_callback(self, callback: Any, **context: Any) -> None:
            callbacks.append(callback)
            super().add_done_callback(callback, **context)

    async def work() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            for _ in range(20):
                async with server.subscribe("t", timeout=PATIENCE) as messages:
                    ack = await server.publish_with_ack("t", 1)
                    await anext(messages)
                assert all(outcome.success for outcome in (await ack.wait()).values())

    loop = asyncio.get_running_loop()
    await Task(work(), loop=loop)
    assert len(callbacks) <= 2  # that of the iterators, and that of who awaits the task


@on_both_loops
async def test_a_worker_that_waits_for_two_messages_at_once_acks_both() -> None:
    async with bus() as (_, alice, bob):
        jobs = await alice.subscribe("t")

        async def work() -> None:
            await asyncio.gather(anext(jobs), anext(jobs))

        worker = asyncio.create_task(work())
        await asyncio.sleep(0)
        acks = [await bob.publish_with_ack("t", number, timeout=300.0) for number in range(2)]
        for ack in acks:
            assert all(outcome.success for outcome in (await ack.wait()).values())
        await worker


@on_both_loops
async def test_the_worker_is_who_asks_for_the_message() -> None:
    """``wait_for`` may run the wait in a task of its own."""
    async with bus() as (_, alice, bob):
        jobs = await alice.subscribe("t")

        async def take() -> int:
            return int((await asyncio.wait_for(asyncio.ensure_future(anext(jobs)), 30)).data)

        first = await bob.publish_with_ack("t", 1, timeout=300.0)
        second = await bob.publish_with_ack("t", 2, timeout=300.0)
        assert await take() == 1
        assert await asyncio.create_task(take()) == 2  # which has returned
        assert not first.responses
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(jobs), 0.01)
        for ack in (first, second):
            assert (await ack.wait())["alice"].success


@on_both_loops
async def test_an_iterator_ends_with_its_client() -> None:
    async with kps.Server("127.0.0.1:0") as server:
        client = await kps.Client.connect(server.address)

        async def read() -> list[Any]:
            return [message.data async for message in client.subscribe("t")]

        reader = asyncio.create_task(read())
        while server.count_subscribers("t")[1] == 0:
            await asyncio.sleep(0)
        await client.publish("t", 1)
        await client.flush()
        await client.close()
        assert await reader == [1]


@on_both_loops
async def test_an_iterator_tells_that_the_connection_was_lost_for_good() -> None:
    async with kps.Server("127.0.0.1:0") as server:
        cable = Cable(server.address)
        client = await kps.Client.connect(cable.address, reconnect=False)
        async with client.subscribe("t") as messages:
            await client.publish("t", 1)
            assert (await anext(messages)).data == 1
            cable.cut()
            with pytest.raises(kps.ConnectionLost):
                await anext(messages)
        await client.close()
        cable.close()


@on_both_loops
async def test_a_forgotten_handle_does_not_end_a_subscription_with_a_callback() -> None:
    async with bus() as (_, alice, bob):
        collector = Collector()
        await alice.subscribe("t", collector)  # nothing refers to the result
        gc.collect()
        await bob.publish("t", 1)
        assert await collector.get() == 1


# -- cancellation and leftovers ------------------------------------------------------------


@on_both_loops
async def test_cancelling_any_wait_breaks_nothing() -> None:
    async with bus() as (_, alice, bob):
        release = asyncio.Event()
        collector = Collector()

        async def hang(message: kps.Message) -> None:
            await release.wait()

        await bob.subscribe("slow", hang)
        await bob.subscribe("t", collector)
        ack = await alice.publish_with_ack("slow", 1)
        answers = ack.__aiter__()
        waits: list[Callable[[], Any]] = [
            ack.wait,
            ack.wait_any,
            ack.status,
            ack.is_complete,
            lambda: answers.__anext__(),
            alice.flush,
            lambda: alice.publish("t", "x" * 300_000),
            lambda: _await(alice.subscribe("u", hang)),
            lambda: anext(alice.subscribe("v")),
        ]
        for wait in waits:
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        release.set()
        assert (await ack.wait())["bob"].success
        assert (await ack.wait_any()).client_id == "bob"  # type: ignore[union-attr]
        await alice.publish("t", "after")
        while await collector.get() != "after":
            pass
        await alice.flush()


@on_both_loops
async def test_cancelling_the_first_connect_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    task = asyncio.create_task(kps.Client.connect("127.0.0.1:1", reconnect=QUICK))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before


@on_both_loops
async def test_reconnecting_leaves_no_task_thread_or_connection_behind() -> None:
    before, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with kps.Server("127.0.0.1:0") as server:
        cable = Cable(server.address)
        connected: asyncio.Queue[kps.Connected] = asyncio.Queue()

        async def on_connect(event: kps.Connected) -> None:
            connected.put_nowait(event)

        client = kps.Client(cable.address, reconnect=QUICK, on_connect=on_connect)
        async with client:
            await client.subscribe("t", Collector())
            await connected.get()
            counts = []
            for _ in range(5):
                cable.cut()
                await connected.get()
                await client.flush()
                gc.collect()
                # Those that other tests have left may end meanwhile.
                more = set(threading.enumerate()) - threads
                counts.append((len(asyncio.all_tasks()), len(more)))
            assert len(set(counts)) == 1, counts
            while server.count_clients() != 1:
                await asyncio.sleep(0)
        cable.close()
    assert asyncio.all_tasks() == before


@on_both_loops
async def test_a_finished_request_leaves_nothing_behind() -> None:
    async with bus() as (server, alice, bob):
        collector = Collector()
        await bob.subscribe("t", collector)
        for _ in range(20):
            await (await alice.publish_with_ack("t", 1)).wait()
            await (await alice.publish_with_ack("nobody", 1)).wait()
            await (await alice.publish_to_id_with_ack("nobody", 1)).wait()
            await (await alice.publish_with_ack("t", 1)).cancel()
            await (await server.publish_with_ack("t", 1)).wait()
        await alice.flush()
        assert len(server._hub.state.acks) == 0
        assert not server._acks
        assert not alice._acks
        assert len(alice._session.asking.pending) == 0
        assert not alice._questions


# -- the server ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (True, None),
        (False, 403),
        (None, 403),
        (kps.HttpResponse.text(401, "who are you?"), 401),
        (RuntimeError("hook broke"), 500),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
def test_on_upgrade_decides(verdict: Any, status: int | None, is_async: bool) -> None:
    def plain(request: kps.HttpRequest) -> Any:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def coroutine(request: kps.HttpRequest) -> Any:
        return plain(request)

    async def run() -> None:
        hook = coroutine if is_async else plain
        async with kps.Server("127.0.0.1:0", on_upgrade=hook) as server:
            if status is None:
                async with kps.Client(server.address) as client:
                    assert client.is_connected
                return
            with pytest.raises(kps.ConnectFailed) as refusal:
                await kps.Client.connect(server.address, reconnect=False)
            assert refusal.value.status == status

    asyncio.run(run())


@on_both_loops
async def test_a_hook_that_waits_delays_nobody_else() -> None:
    release = asyncio.Event()

    async def hook(request: kps.HttpRequest) -> bool:
        if request.query == "slow":
            await release.wait()
        return True

    async with kps.Server("127.0.0.1:0", on_upgrade=hook) as server:
        slow = asyncio.create_task(kps.Client.connect(f"ws://{server.address}/ws/bus?slow"))
        async with kps.Client(server.address) as client:
            await client.flush()
        assert not slow.done()
        release.set()
        await (await slow).close()


@on_both_loops
async def test_a_client_that_stops_reading_is_closed_and_delays_nobody() -> None:
    limits = kps.ServerLimits(queue_bytes=1_000_000, close_timeout=0.2)
    async with kps.Server("127.0.0.1:0", limits=limits) as server:
        reader, writer = await asyncio.open_connection(*server.address.split(":"))
        await _upgrade(reader, writer)
        for message in ('{"action":"ping","from":"stuck"}', '{"action":"subscribe","topic":"t"}'):
            writer.write(_masked(message))
        async with kps.Client(server.address, id="fast") as fast:
            collector = Collector()
            await fast.subscribe("t", collector)
            while server.count_subscribers("t")[1] != 2:
                await asyncio.sleep(0)
            _stop_reading(writer)
            sent = 0
            while server.count_subscribers("t")[1] == 2:  # until the policy acts
                await server.publish("t", "x" * 100_000)
                await collector.get()
                sent += 1
                assert sent < 1000
            assert server.count_clients() == 1
            await server.publish("t", "on")
            assert await collector.get() == "on"
            assert server._hub.dropped() > 0
        writer.close()


@pytest.mark.parametrize("policy", [kps.Overflow.DROP_OLDEST, kps.Overflow.DROP_NEWEST])
def test_dropping_policies_keep_the_connection_and_count(policy: kps.Overflow) -> None:
    async def run() -> None:
        limits = kps.ServerLimits(queue_bytes=1_000_000, overflow=policy)
        async with kps.Server("127.0.0.1:0", limits=limits) as server:
            reader, writer = await asyncio.open_connection(*server.address.split(":"), limit=2**24)
            await _upgrade(reader, writer)
            writer.write(_masked('{"action":"ping","from":"stuck"}'))
            writer.write(_masked('{"action":"subscribe","topic":"t"}'))
            while server.count_subscribers("t")[1] != 1:
                await asyncio.sleep(0)
            _stop_reading(writer)
            sent = 0
            while server._hub.dropped() < 10:
                await server.publish("t", [sent, "x" * 100_000])
                await asyncio.sleep(0)
                sent += 1
                assert sent < 1000
            assert server.count_clients() == 1
            _read_on(writer)
            writer.write(_masked('{"action":"ping","from":"stuck"}'))
            seen = await _numbers_until_pong(reader)
            assert seen == sorted(seen)
            assert len(seen) == sent - server._hub.dropped()
            newest_is_there = (sent - 1) in seen
            assert newest_is_there is (policy is kps.Overflow.DROP_OLDEST)
            writer.close()

    asyncio.run(run())


@on_both_loops
async def test_a_publisher_that_does_not_read_its_answers_is_slowed_down_not_cut() -> None:
    async with bus(limits=kps.ServerLimits(max_topic=2000)) as (server, alice, _):
        collector = Collector()
        topic = "t" * 2000  # so that the answers are more than the buffers on the way hold
        await alice.subscribe(topic, collector)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            host, port = server.address.split(":")
            await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
            reader, writer = await asyncio.open_connection(sock=sock, limit=2**24)
            await _upgrade(reader, writer)
            writer.write(_masked('{"action":"ping","from":"greedy"}'))
            _stop_reading(writer)
            count = 5000
            message = f'{{"action":"publish","topic":"{topic}","data":1}}'.encode()
            frame = b"\x81\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message

            async def publish() -> None:
                for _ in range(count // 10):
                    writer.write(frame * 10)
                    await writer.drain()

            publishing = asyncio.create_task(publish())
            while "greedy" not in server._hub.clients:
                await asyncio.sleep(0)
            (connection,) = [
                one for one in server._hub.connections.values() if one.session.id == "greedy"
            ]
            assert isinstance(connection, WebSocketConnection)
            while not connection.wants_pause:  # or the time of the test is over
                await asyncio.sleep(0)
            assert connection.session.transport.queued_bytes < 1024 * 1024
            _read_on(writer)
            discarding = asyncio.create_task(_discard(reader))
            await publishing
            for _ in range(count):
                await collector.get()
            discarding.cancel()
            writer.close()


@on_both_loops
async def test_the_log_tells_what_happened(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address, id="alice"):
        pass
    messages = [
        record.message
        for record in caplog.records
        if record.name == "kps" and record.thread == threading.get_ident()
    ]  # threads that an earlier test has left may log as well
    assert re.fullmatch(r"stopped in \d+\.\d s: drained 0 clients, cut off 0", messages.pop())
    assert messages == [
        f"the server of version {kps.__version__}, on asyncio, listens on {server.address}",
        f"connected to ws://{server.address}/ws/bus as alice",
        f"disconnected from ws://{server.address}/ws/bus as alice: closed (code 1000)",
        "clients 0 (1 since the start, 0 of them lost), topics 0, published 0, delivered 0, "
        "dropped 0, refused 0",
    ]


# -- helpers -------------------------------------------------------------------------------


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def _upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"GET /ws/bus HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")


def _masked(message: str) -> bytes:
    payload = message.encode()
    assert len(payload) < 126
    return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload  # a mask of zeros


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(2)
    size = head[1]
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    return await reader.readexactly(size)


async def _numbers_until_pong(reader: asyncio.StreamReader) -> list[int]:
    """The numbers in the publications that arrive before the second pong."""
    numbers: list[int] = []
    pongs = 0
    while pongs < 2:
        frame = await _frame(reader)
        pongs += b'"pong"' in frame
        if frame.startswith(b'{"action":"publish"'):
            numbers.append(int(frame.partition(b'{"data":[')[2].partition(b",")[0]))
    return numbers


def _stop_reading(writer: asyncio.StreamWriter) -> None:
    cast("asyncio.Transport", writer.transport).pause_reading()


def _read_on(writer: asyncio.StreamWriter) -> None:
    cast("asyncio.Transport", writer.transport).resume_reading()


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


@on_both_loops
async def test_a_peer_that_does_not_wait_for_the_closing_handshake_harms_nobody() -> None:
    """On asyncio's own loop a socket that its peer has closed already cannot be shut down."""
    async with bus() as (server, alice, _):
        collector = Collector()
        await alice.subscribe("t", collector)
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port))) as hasty:
            hasty.sendall(
                upgrade()
                + json_frame({"action": "ping", "from": "hasty"})  # whose answer is written first
                + json_frame({"action": "publish", "topic": "t", "data": 1})
                + close_frame(1000)
            )
        assert await collector.get() == 1


# -- what a transport could not write ----------------------------------------------------------


class StuckTransport(asyncio.Transport):
    """A transport that is closing, whose peer does not read."""

    def __init__(self, pending: int) -> None:
        super().__init__()
        self.pending = pending

    def is_closing(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.pending

    def abort(self) -> None:
        self.pending = 0


class AbortedEndpoint:
    output = Output.ABORT
    wants_pause = False
    unwritten = 0

    def receive_data(self, data: bytes, now: float) -> None: ...

    def receive_eof(self, now: float, unwritten: int = 0) -> None: ...

    def connection_lost(self, now: float, unwritten: int = 0) -> None:
        self.unwritten = unwritten

    def data_to_send(self, limit: int = 0) -> bytes:
        return b""

    def set_reading(self, is_reading: bool, now: float) -> None: ...


def test_a_connection_tells_what_a_closing_transport_had_not_written() -> None:
    endpoint = AbortedEndpoint()

    class Owner:
        is_forked = False

        def _attach(self, connection: Connection, peer: str) -> Endpoint:
            return endpoint

        def _detach(self, connection: Connection) -> None: ...

        def _touch(self, connection: Connection) -> None: ...

        def has_read(self) -> None: ...

        def progress(self) -> None: ...

    async def main() -> None:
        connection = Connection(asyncio.get_running_loop(), Owner())
        connection.connection_made(StuckTransport(1000))
        connection.flush()
        connection.abort()  # once more
        connection.connection_lost(None)

    asyncio.run(main())
    assert endpoint.unwritten == 1000
