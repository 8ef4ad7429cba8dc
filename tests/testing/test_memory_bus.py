"""A bus in memory under programs that make their own clients, on both drivers."""

import asyncio
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

import kps
import kps.io_asyncio.runtime
import kps.io_sync.runtime
import kps.sync
from kps.io_sync.connection import Connection
from kps.testing import MemoryBus
from kps.testing.on_threads import Pump, SocketPort
from tests.io.harness import eventually

ADDRESS = "localhost:9313"
PATIENCE = 120.0  # some tests do much, and a busy machine is ten times slower


def run(main: Callable[[MemoryBus], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a test on an event loop, with a bus."""

    async def test() -> None:
        with MemoryBus(**options) as bus:
            await asyncio.wait_for(main(bus), PATIENCE)

    asyncio.run(test())


class Chat:
    """A program as others write them: it makes its client somewhere within."""

    def __init__(self, name: str) -> None:
        self.lines: list[str] = []
        self.client = kps.Client(ADDRESS, id=name)

    async def __aenter__(self) -> "Chat":
        await self.client._open()
        await self.client.subscribe("room", self._on_line)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.close()

    async def _on_line(self, message: kps.Message) -> str:
        self.lines.append(f"{message.sender}: {message.data}")
        return "read"

    async def say(self, line: str) -> None:
        await self.client.publish("room", line)

    async def ask(self, question: str) -> dict[str, Any]:
        ack = await self.client.publish_with_ack("questions", question, timeout=5)
        responses = await ack.wait()
        return {name: response.result or response.error for name, response in responses.items()}


class BlockingChat:
    """The same, blocking."""

    def __init__(self, name: str) -> None:
        self.lines: list[str] = []
        self.client = kps.sync.Client(ADDRESS, id=name)

    def __enter__(self) -> "BlockingChat":
        self.client._open()
        self.client.subscribe("room", self._on_line)
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()

    def _on_line(self, message: kps.Message) -> str:
        self.lines.append(f"{message.sender}: {message.data}")
        return "read"

    def say(self, line: str) -> None:
        self.client.publish("room", line)

    def ask(self, question: str) -> dict[str, Any]:
        ack = self.client.publish_with_ack("questions", question, timeout=5)
        responses = ack.wait()
        return {name: response.result or response.error for name, response in responses.items()}


class TestOnTheLoop:
    def test_a_program_is_seen_and_spoken_to(self) -> None:
        async def main(bus: MemoryBus) -> None:
            async with Chat("alice") as alice, Chat("bob") as bob:
                await alice.say("hi")
                await bus.settle()
                bus.publish("room", "welcome")
                await bus.settle()
                assert alice.lines == bob.lines == ["alice: hi", "server: welcome"]
                assert bus.clients == bus.subscribers("room") == ["alice", "bob"]
                assert bus.published("room") == [
                    kps.Message("room", "hi", "alice"),
                    kps.Message("room", "welcome", "server"),
                ]
                assert bus.published("elsewhere") == []
                await alice.client.publish_to_id("bob", "psst")
                ack = await alice.client.publish_to_id_with_ack("nobody", "hello?")
                assert await ack.wait() == {}
                bus.publish_to_id("bob", "from above")
                assert bus.sent_to("bob") == [
                    kps.Message("", "psst", "alice"),
                    kps.Message("", "from above", "server"),
                ]
                assert bus.sent_to("nobody") == [kps.Message("", "hello?", "alice")]
                assert not bus.publish_to_id("nobody", "lost")
            await bus.settle()
            assert bus.clients == []

        run(main)

    def test_headers_are_seen(self) -> None:
        async def main(bus: MemoryBus) -> None:
            async with Chat("alice") as alice:
                got: list[kps.Message] = []
                bus.subscribe("room", got.append)
                for headers in ({"kind": "x"}, None):
                    await alice.client.publish("room", 1, headers=headers)
                    await alice.client.publish_to_id("bob", 1, headers=headers)
                    await alice.client.publish_to_id_with_ack("bob", 1, headers=headers)
                await bus.settle()
                kinds = [{"kind": "x"}, {}]
                assert [message.headers for message in got] == kinds
                assert [message.headers for message in bus.published("room")] == kinds
                direct = [message.headers for message in bus.sent_to("bob")]
                assert direct == [kinds[0], kinds[0], kinds[1], kinds[1]]

        run(main)

    def test_a_group_of_workers(self) -> None:
        async def main(bus: MemoryBus) -> None:
            jobs: list[tuple[str, Any, int]] = []
            stuck = asyncio.Event()

            async def work(name: str, message: kps.Message) -> str:
                jobs.append((name, message.data, message.attempt))
                if (name, message.wants_ack) == ("a", True):
                    await stuck.wait()
                return name

            async with kps.Client(ADDRESS, id="a") as a, kps.Client(ADDRESS, id="b") as b:
                for name, client in (("a", a), ("b", b)):
                    await client.subscribe("jobs", partial(work, name), group="workers")
                assert bus.subscribers("jobs") == ["a", "b"]
                for number in range(4):
                    bus.publish("jobs", number)
                await bus.settle()
                assert sorted(jobs) == [("a", 0, 1), ("a", 2, 1), ("b", 1, 1), ("b", 3, 1)]
                jobs.clear()
                ack = bus.publish_with_ack("jobs", "do it", timeout=60.0)
                await bus.settle()
                assert (jobs, ack.responses) == ([("a", "do it", 1)], {})
                bus.cut("a")
                await bus.settle()
                assert jobs[1:] == [("b", "do it", 2)]
                outcome = ack.responses["workers of jobs"]
                assert isinstance(outcome, kps.GroupResponse)
                assert (outcome.client_id, outcome.result) == ("b", "b")
                assert outcome.failures == (("a", "disconnected"),)
                assert bus.subscribers("jobs") == ["b"]
                await bus.advance(60.0)
                assert bus.subscribers("jobs") == ["a", "b"], "it is back"

        run(main)

    def test_acks_in_both_directions(self) -> None:
        async def main(bus: MemoryBus) -> None:
            async with Chat("alice") as alice:
                assert await alice.ask("who?") == {}
                bus.subscribe("questions", lambda message: f"{message.data}!")
                assert await alice.ask("why") == {"server": "why!"}
                ack = bus.publish_with_ack("room", "all here?")
                await bus.settle()
                assert ack.finished
                assert ack.responses["alice"].result == "read"

        run(main)

    def test_what_the_tests_callback_raises_is_the_failure(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(message: kps.Message) -> None:
            raise ValueError("no idea")

        async def main(bus: MemoryBus) -> None:
            bus.subscribe("questions", fail)
            async with Chat("alice") as alice:
                assert await alice.ask("why") == {"server": "no idea"}

        run(main)

    def test_time_stands_still_until_it_is_moved(self) -> None:
        async def main(bus: MemoryBus) -> None:
            async with Chat("alice") as alice, Chat("bob"):
                await bus.settle()
                bus.stall("bob")
                begun = bus.now
                ack = await alice.client.publish_with_ack("room", "anybody?", timeout=5)
                waiting = asyncio.create_task(ack.wait())
                await bus.advance(4.9)
                assert not waiting.done()
                await bus.advance(0.1)
                assert (await waiting)["bob"].error == "timeout"
                assert (await waiting)["alice"].result == "read"
                assert bus.now == pytest.approx(begun + 5.0)
                bus.resume("bob")

        run(main)

    def test_heartbeats_find_a_dead_connection_and_the_client_comes_back(self) -> None:
        async def main(bus: MemoryBus) -> None:
            async with Chat("alice") as alice:
                bus.stall()
                await bus.settle()
                assert alice.client.is_connected
                await bus.advance(120)
                assert alice.client.is_connected
                bus.publish("room", "still there?")
                await bus.settle()
                assert alice.lines == ["server: still there?"]

        run(main)

    def test_cut_refused_and_back(self) -> None:
        seen: list[Any] = []

        async def main(bus: MemoryBus) -> None:
            async with kps.Client(ADDRESS, id="a", on_disconnect=seen.append) as client:
                bus.reachable = False
                bus.cut("somebody else")
                await bus.settle()
                assert client.is_connected
                bus.cut("a")
                await bus.settle()
                assert not client.is_connected
                assert len(seen) == 1
                with pytest.raises(kps.NotConnected):
                    await client.publish("t", 1)
                await bus.advance(600)
                assert bus.clients == []
                bus.reachable = True
                await bus.advance(30)
                assert bus.clients == ["a"]

        run(main)

    def test_without_reconnecting_a_refusal_is_an_error(self) -> None:
        async def main(bus: MemoryBus) -> None:
            bus.reachable = False
            with pytest.raises(kps.ConnectFailed, match="refused"):
                await kps.Client.connect(ADDRESS, reconnect=False)

        run(main)

    def test_a_restart_forgets_all_but_what_was_published(self) -> None:
        async def main(bus: MemoryBus) -> None:
            bus.subscribe("questions", lambda message: "yes")
            async with Chat("alice") as alice:
                await alice.say("before")
                await bus.settle()
                bus.restart()
                assert bus.clients == []
                assert bus.subscribers("questions") == ["server"]
                await bus.advance(30)
                assert bus.subscribers("room") == ["alice"]
                await alice.say("after")
                assert await alice.ask("again?") == {"server": "yes"}
                assert [m.data for m in bus.published("room")] == ["before", "after"]

        run(main)

    def test_the_test_subscribes_to_a_pattern(self) -> None:
        async def main(bus: MemoryBus) -> None:
            seen: list[str] = []

            def note(message: kps.Message) -> str:
                seen.append(message.topic)
                return "noted"

            bus.subscribe(kps.Pattern("que*"), note)
            async with Chat("alice") as alice:
                assert await alice.ask("why?") == {"server": "noted"}
                await alice.say("this has another topic")
                bus.restart()
                assert bus.subscribers("questions") == ["server"]
                assert bus.subscribers("room") == []
                await bus.advance(30)
                assert await alice.ask("again?") == {"server": "noted"}
            assert seen == ["questions", "questions"]

        run(main)

    def test_a_client_subscribes_to_a_pattern(self) -> None:
        async def main(bus: MemoryBus) -> None:
            async with kps.Client(ADDRESS, id="alice") as client:
                await client.subscribe(kps.Pattern("sensors/**"), lambda message: message.topic)
                assert bus.subscribers("sensors/1/heat") == ["alice"]
                assert bus.subscribers("sensors") == []
                assert bus.publish("sensors/1", 20) == 1
                bus.restart()
                await bus.advance(30)
                ack = bus.publish_with_ack("sensors/2", 21)
                await bus.settle()
                assert ack.responses["alice"].result == "sensors/2"

        run(main)

    def test_a_client_resumes_after_a_cut_and_not_after_a_restart(self) -> None:
        async def main(bus: MemoryBus) -> None:
            told: list[kps.Recovered | kps.Lost] = []
            got: list[Any] = []

            async def tell(event: kps.Recovered | kps.Lost) -> None:
                told.append(event)

            async def take(message: kps.Message) -> None:
                got.append(message.data)

            bus.publish("room", "first")
            async with kps.Client(ADDRESS, on_recovered=tell, on_lost=tell) as client:
                await client.subscribe("room", take, last=5)
                bus.publish("room", "second")
                await bus.settle()
                bus.cut()
                bus.publish("room", "third")
                bus.publish("other", "nobody keeps this")
                await bus.advance(30)
                assert got == ["first", "second", "third"]
                assert told == [kps.Recovered("room", 1)]
                bus.restart()
                bus.publish("room", "fourth")
                await bus.advance(30)
                assert got[3:] == ["fourth"]
                assert told[1:] == [kps.Lost("room", None)]
                past = await client.history("room")
                assert [message.data for message in past.messages] == ["fourth"]

        run(main, history=[kps.History("room", size=10)])

    def test_the_test_has_what_a_server_has(self) -> None:
        """It is a member of groups, asks for receivers, and sends headers."""

        async def main(bus: MemoryBus) -> None:
            jobs: list[tuple[str, Any]] = []

            def work(message: kps.Message) -> str:
                jobs.append((message.headers.get("kind", ""), message.data))
                if message.attempt == 1:
                    raise RuntimeError("not yet")
                return "done"

            bus.subscribe("jobs", work, group="workers", concurrency=2)
            ack = bus.publish_with_ack(
                *("jobs", 1),
                retry=1,
                key="k",
                expect=["alice"],
                expect_groups=["others"],
                headers={"kind": "x"},
            )
            await bus.settle()
            assert jobs == [("x", 1), ("x", 1)]
            told = {name: one.error for name, one in ack.responses.items()}
            assert told == {
                "alice": "absent",
                "others of jobs": "no member",
                "workers of jobs": None,
            }
            bus.publish("jobs", 2, headers={"kind": "y"})
            bus.publish_to_id("alice", 3, headers={"kind": "z"})
            await bus.settle()
            assert jobs[2:] == [("y", 2)]
            assert bus.sent_to("alice")[0].headers == {"kind": "z"}
            bus.restart()
            bus.publish("jobs", 4)
            await bus.settle()
            assert jobs[3:] == [("", 4)], "it is a member on the new server too"

        run(main)

    @pytest.mark.parametrize("concurrency", [0, -1, True, 1.5, "1"])
    def test_how_many_messages_at_a_time_is_a_number_from_one(self, concurrency: Any) -> None:
        with pytest.raises(kps.InvalidArgument, match="concurrency is a number of messages from 1"):
            MemoryBus().subscribe("jobs", print, group="workers", concurrency=concurrency)

    def test_a_request_with_an_id_outlives_its_connection_and_not_the_server(self) -> None:
        async def main(bus: MemoryBus) -> None:
            begun: list[Any] = []
            go_on = asyncio.Event()

            async def work(message: kps.Message) -> str:
                begun.append(message.data)
                await go_on.wait()
                return "done"

            async with kps.Client(ADDRESS, id="bob") as bob, kps.Client(ADDRESS, id="al") as al:
                await bob.subscribe("jobs", work)
                ask = partial(al.request, "jobs", timeout=60.0)
                asked = asyncio.create_task(ask(data=1, message_id="m"))
                await bus.settle()
                bus.cut("al")
                await bus.advance(5)
                go_on.set()
                assert await bus.finish(asked) == "done"
                assert await bus.finish(ask(data=1, message_id="m")) == "done"
                go_on.clear()
                asked = asyncio.create_task(ask(data=2, message_id="n"))
                await bus.settle()
                bus.restart()
                await bus.advance(30)
                with pytest.raises(kps.ConnectionLost):
                    await asked
                go_on.set()
                await bus.settle()
            assert begun == [1, 2]

        run(main)

    def test_latency_takes_time_both_ways(self) -> None:
        async def main(bus: MemoryBus) -> None:
            async with Chat("alice") as alice:
                bus.latency = 0.25
                begun = bus.now
                await bus.finish(alice.client.flush())
                assert bus.now == pytest.approx(begun + 0.5)

        run(main)

    def test_finish_passes_on_what_is_raised(self) -> None:
        async def main(bus: MemoryBus) -> None:
            async with Chat("alice") as alice:
                bus.stall()
                begun = bus.now
                with pytest.raises(kps.RequestTimeout):
                    await bus.finish(alice.client.flush())
                assert bus.now == pytest.approx(begun + 10.0)

        run(main)

    def test_closing_does_not_hang_over_a_network_that_does(self) -> None:
        async def main(bus: MemoryBus) -> None:
            async with Chat("alice"):
                bus.latency = 0.5
            async with kps.Client(ADDRESS, id="bob"):
                bus.stall()

        async def outer(bus: MemoryBus) -> None:
            await bus.finish(main(bus))

        run(outer)

        async def closes(bus: MemoryBus) -> None:
            async with Chat("alice") as alice:
                for _ in range(20):
                    bus.stall()
                    await alice.say("x" * 5000)

        run(closes)

    def test_callbacks_in_threads_are_waited_for(self) -> None:
        got: list[int] = []

        def slow(message: kps.Message) -> None:
            time.sleep(0.02)
            got.append(message.data)

        async def main(bus: MemoryBus) -> None:
            async with kps.Client(ADDRESS) as client:
                await client.subscribe("t", slow)
                for number in range(5):
                    bus.publish("t", number)
                await bus.settle()
                assert got == [0, 1, 2, 3, 4]

        run(main)

    def test_the_seed_decides_what_happens(self) -> None:
        def story(seed: int) -> list[Any]:
            told: list[Any] = []

            async def main(bus: MemoryBus) -> None:
                def tell(what: Any) -> None:
                    told.append((round(bus.now, 6), what))

                async def on_event(event: Any) -> None:
                    tell(type(event).__name__)

                async def on_line(message: kps.Message) -> None:
                    tell((message.sender, message.data))

                bus.latency, bus.lifetime = (0.01, 0.4), (5, 60)
                clients = [
                    kps.Client(ADDRESS, id=name, on_connect=on_event, on_disconnect=on_event)
                    for name in ("a", "b", "c")
                ]
                for client in clients:
                    await bus.finish(client._open())
                    await bus.finish(client.subscribe("room", on_line)._in_force())
                for turn in range(60):
                    client = clients[turn % 3]
                    if client.is_connected:
                        await client.publish("room", turn)
                    await bus.advance(3)
                for client in clients:
                    await bus.finish(client.close())

            run(main, seed=seed)
            return told

        first = story(1)
        assert first == story(1)
        assert first != story(2)
        assert sum(what == "Disconnected" for _, what in first) > 3

    def test_an_echo_worker_is_asked_with_much_at_once(self) -> None:
        question = "x" * 100_000

        async def echo(message: kps.Message) -> Any:
            return message.data

        async def main(bus: MemoryBus) -> None:
            async with kps.Client(ADDRESS, id="worker", on_id=echo):
                async with kps.Client(ADDRESS, id="asks") as client:

                    async def ask() -> bool:
                        ack = await client.publish_to_id_with_ack("worker", question, timeout=60)
                        response = await ack.wait_any()
                        return response is not None and response.result == question

                    answers = await asyncio.gather(*[ask() for _ in range(600)])
                    assert all(answers)

        run(main)


def _breaks(seed: int) -> list[float]:
    """Return when the connections of a client break, one after the other."""
    told: list[float] = []
    with MemoryBus(seed=seed) as bus:
        bus.lifetime, bus.latency = (5, 60), (0.01, 0.1)
        with kps.sync.Client(ADDRESS, id="a", on_disconnect=lambda event: told.append(bus.now)):
            begun = bus.now
            bus.sync.advance(150)
            return [when - begun for when in told]


class TestOnThreads:
    def test_a_program_is_seen_and_spoken_to(self) -> None:
        with MemoryBus() as bus:
            with BlockingChat("alice") as alice, BlockingChat("bob") as bob:
                alice.say("hi")
                bus.sync.settle()
                bus.publish("room", "welcome")
                bus.sync.settle()
                assert alice.lines == bob.lines == ["alice: hi", "server: welcome"]
                assert bus.clients == bus.subscribers("room") == ["alice", "bob"]
                bus.subscribe("questions", lambda message: f"{message.data}!")
                assert alice.ask("why") == {"server": "why!"}
                ack = bus.publish_with_ack("room", "all here?")
                bus.sync.settle()
                assert {r.result for r in ack.responses.values()} == {"read"}
            bus.sync.settle()
            assert bus.clients == []

    def test_time_passes_by_itself_while_the_test_waits_in_a_call(self) -> None:
        with MemoryBus() as bus, BlockingChat("alice") as alice, BlockingChat("bob"):
            bus.stall("bob")
            begun = bus.now
            ack = alice.client.publish_with_ack("room", "anybody?", timeout=5)
            assert ack.wait()["bob"].error == "timeout"
            assert bus.now == pytest.approx(begun + 5.0)
            begun = bus.now
            with pytest.raises(kps.RequestTimeout):
                next(alice.client.subscribe("nothing", timeout=7))
            assert bus.now == pytest.approx(begun + 7.0)
            bus.stall("alice")
            begun = bus.now
            with pytest.raises((kps.RequestTimeout, kps.ConnectionLost)):
                alice.client.flush()
            assert bus.now <= begun + 10.0

    def test_time_stands_still_while_others_wait(self) -> None:
        with MemoryBus() as bus, kps.sync.Client(ADDRESS) as client:
            failures: list[str] = []

            def wait() -> None:
                try:
                    next(client.subscribe("nothing", timeout=7))
                except kps.RequestTimeout as error:
                    failures.append(str(error))

            ends = pytest.approx(bus.now + 7)
            thread = threading.Thread(target=wait)
            thread.start()
            waits: dict[int, Any] = client._driver.runtime._waits  # type: ignore[attr-defined]
            eventually(lambda: any(until == ends for _, until in list(waits.values())), "the wait")
            bus.sync.advance(6.9)
            time.sleep(0.1)
            assert failures == []
            bus.sync.advance(0.2)
            thread.join(PATIENCE)
            assert len(failures) == 1

    def test_cut_refused_and_back(self) -> None:
        seen: list[Any] = []
        with MemoryBus() as bus:
            with kps.sync.Client(ADDRESS, id="a", on_disconnect=seen.append) as client:
                bus.reachable = False
                bus.cut()
                bus.sync.settle()
                assert not client.is_connected
                assert len(seen) == 1
                bus.sync.advance(60)
                assert bus.clients == []
                bus.reachable = True
                bus.sync.advance(30)
                assert bus.clients == ["a"]
                bus.lifetime = 20
                bus.cut()
                bus.sync.advance(10)
                assert client.is_connected
                bus.sync.advance(15)
                assert len(seen) == 3
                bus.restart()
                bus.sync.advance(5)
                assert client.is_connected

    def test_a_client_resumes_after_a_cut(self) -> None:
        told: list[kps.Recovered] = []
        got: list[Any] = []
        with MemoryBus(history=[kps.History("**")]) as bus:
            with kps.sync.Client(ADDRESS, on_recovered=told.append) as client:
                client.subscribe("room", lambda message: got.append(message.data))
                bus.publish("room", "first")
                bus.cut()
                bus.publish("room", "second")
                bus.sync.advance(30)
                assert got == ["first", "second"]
                assert [event.topic for event in told] == ["room"]

    def test_without_reconnecting_a_refusal_is_an_error(self) -> None:
        with MemoryBus() as bus:
            bus.reachable = False
            with pytest.raises(kps.ConnectFailed, match="refused"):
                kps.sync.Client.connect(ADDRESS, reconnect=False)

    def test_a_callback_that_works_is_waited_for(self) -> None:
        def slow(message: kps.Message) -> str:
            time.sleep(0.2)
            return "done"

        with MemoryBus(), kps.sync.Client(ADDRESS, id="worker", on_id=slow):
            with kps.sync.Client(ADDRESS) as client:
                ack = client.publish_to_id_with_ack("worker", 1, timeout=1)
                assert ack.wait()["worker"].result == "done"

    def test_a_callback_may_wait_for_what_takes_time(self) -> None:
        outcome: list[Any] = []
        with MemoryBus() as bus, kps.sync.Client(ADDRESS, id="silent") as silent:
            silent.subscribe("never")

            with kps.sync.Client(ADDRESS, id="asks") as client:
                messages = silent.subscribe("questions")

                def ask(message: kps.Message) -> None:
                    ack = client.publish_with_ack("questions", 1, timeout=5)
                    outcome.append(ack.wait()["silent"].error)

                client.subscribe("go", ask)
                bus.publish("go", 1)
                bus.sync.advance(4)
                assert outcome == []
                bus.sync.advance(2)
                assert outcome == ["timeout"]
                messages.unsubscribe()

    def test_closing_does_not_hang_over_a_network_that_does(self) -> None:
        with MemoryBus() as bus:
            client = kps.sync.Client.connect(ADDRESS)
            bus.stall()
            thread = threading.Thread(target=client.close)
            thread.start()
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def test_a_callback_that_hangs_is_not_waited_for_for_ever(self) -> None:
        goes_on = threading.Event()
        with MemoryBus() as bus, kps.sync.Client(ADDRESS) as client:
            client.subscribe("t", lambda message: goes_on.wait(PATIENCE))
            bus.publish("t", 1)
            bus.sync.advance(1)
            assert bus.clients == [client.id]
            goes_on.set()

    def test_clients_left_open_are_closed_with_the_bus(self) -> None:
        before = set(threading.enumerate())
        with MemoryBus() as bus:
            client = kps.sync.Client.connect(ADDRESS)
            bus.stall()
        with pytest.raises(kps.ClientClosed):
            client.flush()
        eventually(lambda: set(threading.enumerate()) <= before, "the end of its threads")

    def test_the_seed_decides_when_connections_break(self) -> None:
        first = _breaks(seed=1)
        assert len(first) > 3
        assert first == _breaks(seed=1)
        assert first != _breaks(seed=2)

    @pytest.mark.parametrize(
        "place", [(Connection, "_read"), (Connection, "_wait"), (Pump, "_serve")]
    )
    def test_a_thread_that_the_system_lets_wait_is_waited_for(
        self, place: tuple[type, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        undisturbed = _breaks(seed=1)
        owner, name = place
        original, calls = getattr(owner, name), itertools.count()

        def late(self: Any, *args: Any) -> Any:
            if next(calls) % 5 == 0:
                time.sleep(0.03)
            return original(self, *args)

        monkeypatch.setattr(owner, name, late)
        assert _breaks(seed=1) == undisturbed

    def test_a_client_sees_at_once_that_its_connection_is_cut(self) -> None:
        with MemoryBus() as bus:
            port = SocketPort(bus._world, bus._pump)
            with port.near, socket.socket(fileno=os.dup(port.far.fileno())):  # as if polled
                port.close()
                port.near.setblocking(False)
                assert port.near.recv(1) == b""

    def test_an_echo_worker_is_asked_with_much_at_once(self) -> None:
        question = "x" * 100_000
        with MemoryBus(), kps.sync.Client(ADDRESS, id="worker", on_id=lambda m: m.data):
            with kps.sync.Client(ADDRESS, id="asks") as client:
                acks = [
                    client.publish_to_id_with_ack("worker", question, timeout=60)
                    for _ in range(600)
                ]
                for ack in acks:
                    response = ack.wait_any()
                    assert response is not None
                    assert response.result == question

    def test_blocking_time_is_refused_on_a_loop(self) -> None:
        async def main(bus: MemoryBus) -> None:
            with pytest.raises(kps.InvalidState, match="event loop"):
                bus.sync.advance(1)

        run(main)


def test_both_colours_share_one_bus() -> None:
    async def main(bus: MemoryBus) -> None:
        def blocking() -> dict[str, Any]:
            with BlockingChat("bob") as bob:
                bob.say("hi")
                return bob.ask("ready?")

        async with Chat("alice") as alice:
            await alice.client.subscribe("questions", lambda message: "yes")
            assert await asyncio.to_thread(blocking) == {"alice": "yes"}
            await bus.settle()
            assert alice.lines == ["bob: hi"]
            await bus.advance(60)
            assert bus.clients == ["alice"]

    run(main)


class TestHooks:
    def test_tokens_and_permissions(self) -> None:
        def auth(token: str) -> kps.Identity | None:
            if token == "good":
                return kps.Identity("alice", kps.Permissions(publish=["mine/*"]))
            return None

        async def main(bus: MemoryBus) -> None:
            with pytest.raises(kps.ConnectFailed) as failure:
                await kps.Client.connect(ADDRESS, token="bad", reconnect=False)
            assert failure.value.status == 401
            async with kps.Client(ADDRESS, token="good") as client:
                assert await client.publish_with_receipt("mine/1", 1) == 0
                with pytest.raises(kps.ServerError) as refusal:
                    await client.publish_with_receipt("yours", 1)
                assert refusal.value.code == "forbidden"
                assert [m.topic for m in bus.published()] == ["mine/1"]

        run(main, auth=auth)

    def test_upgrades_limits_and_permissions_of_all(self) -> None:
        async def main(bus: MemoryBus) -> None:
            with pytest.raises(kps.ConnectFailed) as failure:
                await kps.Client.connect(f"ws://{ADDRESS}/ws/bus?room=2", reconnect=False)
            assert failure.value.status == 403
            with pytest.raises(kps.ConnectFailed) as failure:
                await kps.Client.connect(ADDRESS, path="/elsewhere", reconnect=False)
            assert failure.value.status == 404
            async with kps.Client(f"ws://{ADDRESS}/ws/bus?room=1") as client:
                with pytest.raises(kps.ServerError):
                    await client.subscribe("secret")
                with pytest.raises(kps.MessageTooLarge):
                    await client.publish("t", "x" * 5000)

        run(
            main,
            on_upgrade=lambda request: "room=1" in request.target,
            limits=kps.ServerLimits(max_message=1000),
            permissions=kps.Permissions(subscribe=["open"]),
        )

    def test_a_hook_that_fails_is_told_as_by_a_server(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(token: str) -> None:
            raise ValueError("broken")

        async def main(bus: MemoryBus) -> None:
            with pytest.raises(kps.ConnectFailed) as failure:
                await kps.Client.connect(ADDRESS, token="x", reconnect=False)
            assert failure.value.status == 500

        with caplog.at_level(logging.ERROR):
            run(main, auth=fail)
        assert "broken" in caplog.text

    def test_who_may_connect(self, caplog: pytest.LogCaptureFixture) -> None:
        asked: list[tuple[str, str]] = []

        def on_connect(client: kps.ConnectedClient) -> bool | None:
            asked.append((client.previous, client.id))
            if client.id == "broken":
                raise ValueError("no idea")
            if client.id == "banned":
                raise kps.Refused("go away")
            return False if client.id == "nobody" else None

        async def main(bus: MemoryBus) -> None:
            for name, kind, text in (
                ("nobody", kps.ServerError, "the server refused this"),
                ("banned", kps.ServerError, "go away"),
                ("broken", kps.ConnectFailed, "could not decide"),
            ):
                with pytest.raises(kind, match=text):
                    await kps.Client.connect(ADDRESS, id=name, reconnect=False)
            async with kps.Client(ADDRESS, id="alice"):
                assert bus.clients == ["alice"]

        with caplog.at_level(logging.ERROR):
            run(main, on_connect=on_connect)
        assert asked == [("", name) for name in ("nobody", "banned", "broken", "alice")]
        assert "no idea" in caplog.text

    def test_who_may_subscribe_to_what(self) -> None:
        asked: list[Any] = []

        def on_subscribe(wanted: kps.Subscribing) -> bool:
            asked.append((wanted.client.id, str(wanted.topic), wanted.info))
            return wanted.topic != "secret"

        async def main(bus: MemoryBus) -> None:
            async with kps.Client(ADDRESS, id="a") as client:
                with pytest.raises(kps.ServerError) as refusal:
                    await client.subscribe("secret")
                assert refusal.value.code == "forbidden"
                await client.subscribe("room", asked.append, info={"x": 1})
                await client.subscribe(kps.Pattern("r*"), asked.append)
                assert bus.subscribers("room") == ["a"]
                assert bus.subscribers("secret") == []

        run(main, on_subscribe=on_subscribe)
        assert asked == [("a", "secret", None), ("a", "room", {"x": 1}), ("a", "r*", None)]

    def test_who_leaves(self, caplog: pytest.LogCaptureFixture) -> None:
        told: list[Any] = []

        def on_disconnect(event: kps.ClientLeft) -> None:
            told.append((event.client.id, str(event.closed.code)))
            raise ValueError("after all")

        def on_unsubscribe(event: kps.Unsubscribed) -> None:
            told.append((event.client.id, str(event.topic), event.reason))

        async def main(bus: MemoryBus) -> None:
            async with kps.Client(ADDRESS, id="a") as a, kps.Client(ADDRESS, id="b") as b:
                for client in (a, b):
                    await client.subscribe("room", told.append)
                await a.subscribe("hall", told.append)
                await a.unsubscribe("hall")
                await bus.settle()
                assert told == [("a", "hall", "unsubscribed")]
                bus.cut("b")
                await bus.settle()
                assert told[1:] == [("b", "room", "lost"), ("b", "1006")]
            await bus.settle()
            assert told[3:] == [("a", "room", "closed"), ("a", "1000")]

        with caplog.at_level(logging.ERROR):
            run(main, on_disconnect=on_disconnect, on_unsubscribe=on_unsubscribe)
        assert "after all" in caplog.text

    def test_hooks_may_use_the_bus(self) -> None:
        async def main(bus: MemoryBus) -> None:
            buses.append(bus)
            async with Chat("alice") as alice, kps.Client(ADDRESS, id="bob"):
                await bus.settle()
            assert alice.lines == ["server: bob is here", "server: bob has left"]

        buses: list[MemoryBus] = []

        def say(text: str) -> None:
            if buses[0].subscribers("room"):
                buses[0].publish("room", text)

        run(
            main,
            on_connect=lambda client: say(f"{client.id} is here"),
            on_disconnect=lambda event: say(f"{event.client.id} has left"),
        )

    def test_a_blocking_client_is_asked_about_too(self) -> None:
        told: list[Any] = []

        def on_subscribe(wanted: kps.Subscribing) -> bool:
            told.append(f"{wanted.client.id} {wanted.topic}")
            return wanted.topic != "secret"

        with (
            MemoryBus(on_subscribe=on_subscribe, on_unsubscribe=lambda e: told.append(e.reason)),
            kps.sync.Client(ADDRESS, id="a") as client,
        ):
            with pytest.raises(kps.ServerError):
                client.subscribe("secret", told.append)
            client.subscribe("room", told.append).unsubscribe()
            client.flush()
        assert told == ["a secret", "a room", "unsubscribed"]

    def test_relaying_has_nowhere_to_go(self) -> None:
        errors: list[kps.ServerError] = []

        async def main(bus: MemoryBus) -> None:
            async with kps.Client(ADDRESS, on_error=errors.append) as client:
                await client.publish_to_server("other:1", {"topic": "t", "data": 1})
                await bus.settle()
                assert len(errors) == 1

        run(main, permissions=kps.Permissions(relay=["**"]))

    def test_coroutine_functions_are_refused(self) -> None:
        async def hook(subject: Any) -> None: ...

        with pytest.raises(kps.InvalidArgument, match="plain function"):
            MemoryBus(auth=hook)
        with pytest.raises(kps.InvalidArgument, match="plain function"):
            MemoryBus(on_connect=hook)
        with pytest.raises(kps.InvalidArgument, match="plain function"):
            MemoryBus(on_unsubscribe=hook)
        nothing: Any = 5
        with pytest.raises(kps.InvalidArgument, match="on_subscribe is a function"):
            MemoryBus(on_subscribe=nothing)
        with pytest.raises(kps.InvalidArgument, match="plain function"):
            MemoryBus().subscribe("t", hook)


class TestPresence:
    def test_a_program_sees_who_comes_and_goes(self) -> None:
        async def main(bus: MemoryBus) -> None:
            seen: list[Any] = []

            async def watch(presence: kps.Presence) -> None:
                seen.append(presence)

            async with kps.Client(ADDRESS, id="w") as watching, kps.Client(ADDRESS, id="a") as a:
                await watching.subscribe("room", seen.append, presence=watch)
                await a.subscribe("room", seen.append, info={"x": 1})
                bus.subscribe("room", lambda message: None)
                await bus.advance(0.2)
                assert seen[-1].members == {"w": None, "a": {"x": 1}, "server": None}
                assert (await a.presence("room")).count == 3
                bus.reachable = False
                bus.cut("a")
                await bus.advance(kps.ServerLimits().presence_grace + 0.2)
                assert seen[-1].left == {"a": "lost"}
                bus.reachable = True
                await bus.advance(60.0)
                assert seen[-1].joined == {"a": {"x": 1}}

        run(main)


class TestInstalling:
    def runtimes(self) -> tuple[Any, Any]:
        return (
            type(kps.Client(ADDRESS)._driver.runtime),
            type(kps.sync.Client(ADDRESS)._driver.runtime),
        )

    def test_nothing_is_left_behind(self) -> None:
        original = kps.io_asyncio.runtime.Runtime, kps.io_sync.runtime.Runtime
        assert self.runtimes() == original
        with pytest.raises(KeyError), MemoryBus():
            assert self.runtimes() != original
            raise KeyError
        assert self.runtimes() == original
        assert "_new_runtime" not in vars(kps.Client)
        assert "_new_runtime" not in vars(kps.sync.Client)

    def test_is_active_once(self) -> None:
        bus = MemoryBus()
        with bus, pytest.raises(kps.InvalidState):
            bus.__enter__()
        with pytest.raises(kps.InvalidState):
            bus.__enter__()

    def test_two_buses_by_address(self) -> None:
        async def main() -> None:
            with MemoryBus("here:1") as here, MemoryBus("there:2", id="other") as there:
                async with kps.Client("here:1", id="a"), kps.Client("ws://there:2", id="b"):
                    assert (here.clients, there.clients) == (["a"], ["b"])
                with pytest.raises(kps.ConnectFailed):
                    await kps.Client.connect("127.0.0.1:1", reconnect=False)

        asyncio.run(main())

    def test_buses_may_end_in_any_order(self) -> None:
        first, second = MemoryBus("a:1"), MemoryBus("b:2")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert "_new_runtime" in vars(kps.Client)
        second.__exit__(None, None, None)
        assert "_new_runtime" not in vars(kps.Client)

    def test_a_client_outlives_the_bus_without_noise(self) -> None:
        async def main() -> None:
            with MemoryBus() as bus:
                client = await kps.Client.connect(ADDRESS)
                await client.subscribe("t", lambda message: None)
                assert bus.clients == [client.id]
            await asyncio.sleep(0.01)
            assert not client.is_connected

        asyncio.run(main())

    def test_a_loop_that_ended_with_open_clients_is_noticed(self) -> None:
        async def leave() -> None:
            await kps.Client.connect(ADDRESS, id="left")

        with MemoryBus() as bus:
            asyncio.run(leave())
            assert bus.clients == ["left"]
            bus.sync.settle()
            assert bus.clients == []

    def test_time_does_not_run_backwards(self) -> None:
        with MemoryBus() as bus, pytest.raises(ValueError, match="backwards"):
            bus.sync.advance(-1)
