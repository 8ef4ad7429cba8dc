"""What happens at the end of clients and servers, on every driver."""

import asyncio
import atexit
import gc
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from queue import Queue
from typing import Any

import pytest

import kps
import kps.sync
from kps.io_sync.acceptor import Acceptor
from kps.protocol.server.connection import WebSocketConnection
from tests.io.harness import PATIENCE, PROGRAM_PATIENCE, AnyDriver, Cable, Inbox, eventually
from tests.io.test_waits import QUICK, in_thread, waits_for_room

# -- callbacks -----------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["client", "server"])
@pytest.mark.parametrize("in_threads", [False, True])
def test_after_the_end_no_callback_begins(ends: str, in_threads: bool) -> None:
    async def main() -> None:
        calls = 0
        enough = threading.Event()

        def count(message: kps.Message | None = None) -> None:
            nonlocal calls
            calls += 1
            if calls >= 20:  # two threads count
                enough.set()
            if in_threads:
                time.sleep(0.001)

        async def handle(message: kps.Message) -> None:
            count()
            await asyncio.sleep(0)

        async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
            receiver = client if ends == "client" else server
            for topic in ("t", "u"):
                await receiver.subscribe(topic, count if in_threads else handle)
            for number in range(1000):
                await server.publish("tu"[number % 2], number)
            assert await asyncio.to_thread(enough.wait, PATIENCE)
            await (client.close() if ends == "client" else server.stop())
            before = calls
            assert before < 2000
            await asyncio.sleep(0.05)
            assert calls == before

    asyncio.run(main())


@pytest.mark.parametrize("ends", ["client", "server"])
def test_after_the_end_no_callback_begins_on_threads(ends: str) -> None:
    calls = 0
    enough = threading.Event()

    def count(message: kps.Message) -> None:
        nonlocal calls
        calls += 1
        if calls == 20:  # many are pending as it ends, however fast this is
            enough.set()
            eventually(has_begun, "the beginning of the end")
        time.sleep(0.001)

    def has_begun() -> bool:
        return client._driver.is_closing if ends == "client" else server._driver.is_ending

    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        receiver = client if ends == "client" else server
        receiver.subscribe("t", count)
        for number in range(1000):
            server.publish("t", number)
        assert enough.wait(PATIENCE)
        client.close() if ends == "client" else server.stop()
        before = calls
        assert before < 1000
        time.sleep(0.05)
        assert calls == before


def test_notices_end_too_though_one_hangs() -> None:
    release, begun = threading.Event(), threading.Event()
    calls = []

    def hang(event: kps.Connected) -> None:
        begun.set()
        release.wait(PATIENCE)

    limits = kps.ClientLimits(close_timeout=0.1)
    with kps.sync.Server("127.0.0.1:0") as server:
        client = kps.sync.Client.connect(
            server.address, limits=limits, on_connect=hang, on_close=lambda: calls.append(1)
        )
        assert begun.wait(PATIENCE)
        client.close()
        release.set()
        thread = client._driver.dispatcher._thread
        assert thread is not None
        thread.join(PATIENCE)
        assert calls == []


@pytest.mark.parametrize("what", ["callback", "notice"])
def test_who_closes_a_client_from_within_it_goes_on(what: str) -> None:
    async def main() -> None:
        went_on, closed = asyncio.Event(), asyncio.Event()

        async def close(*_: Any) -> None:
            await client.close()
            await asyncio.sleep(0)
            went_on.set()

        async def on_close() -> None:
            closed.set()

        async with kps.Server("127.0.0.1:0") as server:
            options: Any = {"on_connect": close} if what == "notice" else {}
            client = kps.Client(server.address, on_close=on_close, **options)
            with suppress(kps.ClientClosed):
                await client.__aenter__()
                if what == "callback":
                    await client.subscribe("t", close)
                    await client.publish("t", 1)
            await asyncio.wait_for(went_on.wait(), PATIENCE)
            await asyncio.wait_for(closed.wait(), PATIENCE)
            await client.close()

    asyncio.run(main())


def test_a_callback_that_ignores_its_cancellation_does_not_hold_up_the_end() -> None:
    async def main() -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def stubborn(message: kps.Message) -> None:
            while not release.is_set():
                begun.set()
                with suppress(asyncio.CancelledError):
                    await release.wait()

        limits = kps.ClientLimits(close_timeout=0.1)
        async with kps.Server("127.0.0.1:0") as server:
            client = await kps.Client.connect(server.address, limits=limits)
            await client.subscribe("t", stubborn)
            await client.publish("t", 1)
            await begun.wait()
            await asyncio.wait_for(client.close(), PATIENCE)
            release.set()

    asyncio.run(main())


# -- an end that is interrupted --------------------------------------------------------------


def test_a_cancelled_close_goes_on() -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            cable = Cable(server.address)
            client = await kps.Client.connect(cable.address)
            cable.jammed = True
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.close(timeout=PATIENCE), 0.01)
            cable.jammed = False
            await asyncio.wait_for(asyncio.gather(client.close(), client.close()), PATIENCE)
            assert client._session.ended is not None
            assert not client._driver.connections
            cable.close()

    asyncio.run(main())


def test_a_later_close_may_be_shorter(clients: AnyDriver, servers: AnyDriver) -> None:
    cable = Cable(servers.server().address)
    client = clients.client(cable.address)
    cable.stalled = True
    closing, _ = in_thread(lambda: client.close(timeout=10 * PATIENCE))
    eventually(lambda: client._driver.is_closing, "the beginning of the end")
    client.close(timeout=0.1)
    closing.join(PATIENCE)
    assert not closing.is_alive()
    cable.close()


def test_a_cancelled_stop_goes_on_by_itself() -> None:
    async def main() -> None:
        server = kps.Server("127.0.0.1:0")
        await server.start()
        serving = asyncio.create_task(server.serve())
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait_for(serving, PATIENCE)
        await asyncio.wait_for(server.stop(), PATIENCE)

    asyncio.run(main())


@pytest.mark.parametrize("ends", ["client", "server"])
def test_an_end_that_ctrl_c_interrupts_can_be_finished(
    ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = kps.sync.Server("127.0.0.1:0")
    server.start()
    client = kps.sync.Client.connect(server.address)
    target: Any = client if ends == "client" else server
    end = client.close if ends == "client" else server.stop

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(target._driver.news.__class__, "until", interrupt)
        with pytest.raises(KeyboardInterrupt):
            end()
    end()
    client.close()
    server.stop()


def interrupt_the_second(patch: pytest.MonkeyPatch) -> None:
    """Let an exception out of a signal handler come in as the server closes a connection."""
    shut_down, calls = WebSocketConnection.shut_down, count(1)

    def interrupted(self: WebSocketConnection, grace: float) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        shut_down(self, grace)

    patch.setattr(WebSocketConnection, "shut_down", interrupted)


def test_the_stop_after_one_that_was_interrupted_closes_all_properly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: Queue[kps.Disconnected] = Queue()
    server = kps.sync.Server("127.0.0.1:0")
    server.start()
    for _ in range(3):
        kps.sync.Client.connect(server.address, reconnect=False, on_disconnect=ended.put)
    interrupt_the_second(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        server.stop(PATIENCE)
    server.stop(PATIENCE)
    assert [ended.get(timeout=PATIENCE).closed.code for _ in range(3)] == [1001] * 3


def test_the_stop_on_a_loop_after_one_that_was_interrupted_closes_all_properly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: Queue[kps.Disconnected] = Queue()
    loop, server = asyncio.new_event_loop(), kps.Server("127.0.0.1:0")
    loop.run_until_complete(server.start())

    async def connect() -> None:
        for _ in range(3):
            await kps.Client.connect(server.address, reconnect=False, on_disconnect=ended.put)

    loop.run_until_complete(connect())
    interrupt_the_second(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(server._driver.end_connections(PATIENCE))
    loop.run_until_complete(server.stop(PATIENCE))

    async def wait() -> None:
        while ended.qsize() < 3:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(wait(), PATIENCE))
    loop.close()
    assert [ended.get().closed.code for _ in range(3)] == [1001] * 3


def test_after_the_stop_another_server_may_listen_there(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the thread that accepts closes its sockets."""
    stops, waits = threading.Event(), threading.Event()
    join = Acceptor.join

    class Late(selectors.SelectSelector):
        def select(self, timeout: float | None = None) -> Any:
            ready = super().select(timeout)
            if stops.is_set():
                assert waits.wait(PATIENCE)
                time.sleep(0.05)
            return ready

    def join_late(acceptor: Acceptor, timeout: float) -> None:
        waits.set()
        join(acceptor, 0.001)  # as if the time for the thread were over

    monkeypatch.setattr(Acceptor, "join", join_late)
    with monkeypatch.context() as patch:
        patch.setattr("kps.io_sync.acceptor.new_selector", Late)
        server = kps.sync.Server(address)
        server.start()
        eventually(lambda: server._driver._acceptor._waits_until is not None)  # type: ignore[union-attr]
    stops.set()
    server.stop()
    with kps.sync.Server(address):
        pass


# -- waiting at the end ----------------------------------------------------------------------


def test_a_servers_own_ack_ends_with_it(servers: AnyDriver) -> None:
    release, begun = threading.Event(), threading.Event()

    def block(message: kps.Message) -> None:
        begun.set()
        release.wait(PATIENCE)

    server = servers.server()
    server.subscribe("t", block)
    ack = server.publish_with_ack("t", 1, timeout=10 * PATIENCE)
    waits = [in_thread(ack.wait), in_thread(ack.wait_any)]
    assert begun.wait(PATIENCE)
    server.stop(grace=0.1)
    for _, outcome in waits:
        assert isinstance(outcome.get(), kps.ServerStopped)
    with pytest.raises(kps.ServerStopped):
        ack.status()
    assert not ack.is_complete()
    release.set()
    calls: list[Callable[[], Any]] = [
        lambda: server.publish("t", 1),
        lambda: server.publish_to_id("a", 1),
        lambda: server.publish_with_ack("t", 1),
        lambda: server.publish_to_id_with_ack("a", 1),
        lambda: server.publish_to_server("a:1", 1),
        lambda: server.subscribe("t", block),
        lambda: server.subscribe("t"),
    ]
    for call in calls:
        with pytest.raises(kps.ServerStopped):
            call()


def test_a_subscribe_that_waits_ends_with_the_client(
    clients: AnyDriver, servers: AnyDriver
) -> None:
    cable = Cable(servers.server().address)
    limits = kps.ClientLimits(close_timeout=0.2)
    client = clients.client(cable.address, limits=limits)
    cable.stalled = True
    calls: list[Callable[[], Any]] = [
        lambda: client.subscribe("t", Inbox()),
        client.flush,
        lambda: client.publish_with_receipt("t", 1),
        lambda: client.publish_with_ack("t", 1).wait(),
    ]
    waits = [in_thread(call) for call in calls]
    session = client._session
    eventually(
        lambda: len(session.asking.pending) == 3 and session.subscriptions.keys, "the questions"
    )
    client.close()
    for _, outcome in waits:
        assert isinstance(outcome.get(), kps.ClientClosed)
    cable.close()


# -- what was accepted -----------------------------------------------------------------------


def test_close_tells_what_it_could_not_write(clients: AnyDriver, servers: AnyDriver) -> None:
    cable = Cable(servers.server().address)
    client = clients.client(cable.address)
    _, outcome = waits_for_room(client, cable)
    lost = client.close(timeout=0.1)
    assert lost > 0
    assert lost == client.dropped
    assert client.close() == lost
    assert isinstance(outcome.get(), kps.ClientClosed)
    cable.close()


def test_close_writes_what_was_accepted_for_as_long_as_it_may(
    clients: AnyDriver, servers: AnyDriver
) -> None:
    server = servers.server()
    inbox = Inbox()
    server.subscribe("t", inbox)
    cable = Cable(server.address)
    client = clients.client(cable.address, limits=kps.ClientLimits(close_timeout=0.05))
    cable.jammed = True
    for number in range(10):
        client.publish("t", number)
    closing, outcome = in_thread(lambda: client.close(timeout=PATIENCE))
    eventually(lambda: client._driver.is_closing, "the beginning of the end")
    time.sleep(0.1)  # longer than ``close_timeout``
    cable.jammed = False
    assert outcome.get() == 0
    assert inbox.take(10) == list(range(10))
    closing.join(PATIENCE)
    cable.close()


def test_close_without_a_connection_tells_what_the_offline_queue_held(
    clients: AnyDriver, servers: AnyDriver
) -> None:
    cable = Cable(servers.server().address)
    client = clients.client(cable.address, reconnect=QUICK, offline_queue=10)
    cable.refuses = True
    cable.cut()
    eventually(lambda: not client.is_connected, "the end of the connection")
    for number in range(5):
        client.publish("t", number)
    assert client.close() == 5
    with pytest.raises(kps.InvalidArgument):
        client.close(timeout=-1)
    cable.close()


# -- run -------------------------------------------------------------------------------------


def test_run_raises_why_the_client_has_ended(servers: AnyDriver) -> None:
    """``run`` is for the main thread, so these clients have no thread of their own."""
    tokens = iter([kps.Identity("a"), None, kps.Identity("a"), None])
    strict = servers.server(auth=lambda token: next(tokens, None))
    server = servers.server()
    cables = [Cable(strict.address), Cable(strict.address)]

    async def on_the_loop() -> None:
        async with kps.Client(server.address, id="a") as taken, kps.Client(server.address, id="a"):
            with pytest.raises(kps.ConnectionLost) as lost:
                await taken.run()
            assert lost.value.code == 4001
        async with kps.Client(cables[0].address, token="t", reconnect=QUICK) as refused:
            cables[0].cut()
            with pytest.raises(kps.ConnectFailed) as failed:
                await refused.run()
            assert failed.value.status == 401
        async with kps.Client(server.address) as closed:
            running = asyncio.create_task(closed.run())
            await asyncio.sleep(0)
            await closed.close()
            await running

    asyncio.run(on_the_loop())
    with kps.sync.Client(server.address, id="a") as taken, kps.sync.Client(server.address, id="a"):
        with pytest.raises(kps.ConnectionLost) as lost:
            taken.run()
        assert lost.value.code == 4001
    with kps.sync.Client(cables[1].address, token="t", reconnect=QUICK) as refused:
        cables[1].cut()
        with pytest.raises(kps.ConnectFailed) as failed:
            refused.run()
        assert failed.value.status == 401
    with kps.sync.Client(server.address) as closed:
        closing, _ = in_thread(closed.close)
        closed.run()
        closing.join(PATIENCE)
    for cable in cables:
        cable.close()


# -- a program that forgets ------------------------------------------------------------------

FORGETS = {
    "client": """
async def main():
    server = kps.sync.Server("127.0.0.1:0"); server.start()
    client = await kps.Client.connect(server.address)
    await client.subscribe("t", on_loop)
    await client.subscribe("t", in_thread)
    for number in range(1000):
        await client.publish("t", number)
    await client.flush()
""",
    "server": """
async def main():
    server = kps.Server("127.0.0.1:0")
    await server.start()
    for callback in (on_loop, in_thread):
        server.subscribe("t", callback)
    for number in range(1000):
        await server.publish("t", number)
    await server.publish_with_ack("t", 1)
    await asyncio.sleep(0.01)
""",
    "connecting": """
async def main():
    asyncio.create_task(kps.Client.connect("127.0.0.1:1"))
    await asyncio.sleep(0.01)
""",
    "cut off": """
async def main():
    server = kps.sync.Server("127.0.0.1:0"); server.start()
    async with kps.Client(server.address) as client:
        await client.subscribe("t", on_loop)
        await client.publish("t", 1)
        sys.exit(0)
""",
}


@pytest.mark.parametrize("run", ["asyncio.run(main())", "loop.run_until_complete(main())"])
@pytest.mark.parametrize("case", FORGETS)
def test_a_program_that_forgets_to_close_exits_quietly(case: str, run: str) -> None:
    if case == "connecting" and "loop" in run:
        pytest.skip("the task that asyncio complains about is the program's own")
    program = (
        "import asyncio, sys, time, logging, kps, kps.sync\n"
        "logging.getLogger('kps').setLevel(logging.ERROR)\n"
        "async def on_loop(message): await asyncio.sleep(0)\n"
        "def in_thread(message): time.sleep(0.0001)\n"
        f"{FORGETS[case]}\n"
        "loop = asyncio.new_event_loop()\n"
        f"{run}\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], timeout=PROGRAM_PATIENCE, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_client_that_ends_by_itself_leaves_nothing_behind() -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        before = atexit._ncallbacks()
        client = kps.sync.Client.connect(server.address, reconnect=False)
        driver = weakref.ref(client._driver)
    thread = client._driver._thread
    assert thread is not None
    thread.join(PATIENCE)
    del client, thread
    gc.collect()
    assert driver() is None
    assert atexit._ncallbacks() <= before  # those of other tests may go


def test_a_task_that_is_destroyed_with_its_loop_is_quiet() -> None:
    program = (
        "import asyncio, gc, kps, kps.sync\n"
        "async def forget(target):\n"
        "    async with target:\n"
        "        begun.set()\n"
        "        await asyncio.Event().wait()\n"
        "server = kps.sync.Server('127.0.0.1:0'); server.start()\n"
        "for target in (kps.Client(server.address), kps.Server('127.0.0.1:0')):\n"
        "    loop, begun = asyncio.new_event_loop(), asyncio.Event()\n"
        "    task = loop.create_task(forget(target))\n"
        "    task._log_destroy_pending = False  # it is the program's own\n"
        "    loop.run_until_complete(begun.wait())\n"
        "    loop.close()\n"
        "    del task, loop, target\n"
        "    gc.collect()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], timeout=PROGRAM_PATIENCE, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_connection_that_comes_while_the_server_stops_leaves_nothing_behind() -> None:
    program = (
        "import asyncio, socket, kps\n"
        "async def main():\n"
        "    limits = kps.ServerLimits(close_timeout=0.1)\n"
        "    server = kps.Server('127.0.0.1:0', limits=limits)\n"
        "    await server.start()\n"
        "    host, _, port = server.address.rpartition(':')\n"
        "    peers = [socket.create_connection((host, int(port))) for _ in range(3)]\n"
        "    await asyncio.sleep(0)\n"
        "    await server.stop()\n"
        "    for peer in peers:\n"
        "        peer.close()\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(main())\n"
        "loop.close()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", program],
        timeout=PROGRAM_PATIENCE,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
