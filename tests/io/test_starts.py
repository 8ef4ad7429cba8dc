"""A start of a server that something interrupts: nothing listens after it."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

import kps
import kps.io_asyncio.server_driver
import kps.io_sync.server_driver
import kps.sync
from kps.io_common.listening import Listeners, listen
from tests.io.harness import PATIENCE, eventually

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class SlowName:
    """Stands in for ``listen`` while a name server takes its time."""

    def __init__(self) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.sockets: list[socket.socket] = []

    def __call__(self, address: Any, for_operators: Any) -> Listeners:
        self.begun.set()
        assert self.goes_on.wait(PATIENCE)
        listeners = listen(address, for_operators)
        self.sockets = [*listeners.bus, *listeners.operators]
        return listeners

    def is_closed(self) -> bool:
        return bool(self.sockets) and all(sock.fileno() < 0 for sock in self.sockets)


def run(loop: NewLoop, main: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), PATIENCE))


@LOOPS
def test_a_start_that_is_cancelled_leaves_nothing_and_can_be_done_again(loop: NewLoop) -> None:
    async def main() -> None:
        server = kps.Server("127.0.0.1:0")
        for turns in range(6):
            starting = asyncio.create_task(server.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            if not starting.cancel():
                break  # it has already started
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert not server._driver._listeners
        else:
            await server.start()
        async with kps.Client(server.address):
            pass
        await server.stop()

    run(loop, main)


@LOOPS
@pytest.mark.parametrize("ends", ["cancel", "stop"])
def test_a_start_that_ends_while_it_asks_for_a_name(
    monkeypatch: pytest.MonkeyPatch, loop: NewLoop, ends: str
) -> None:
    slow = SlowName()
    monkeypatch.setattr(kps.io_asyncio.server_driver, "listen", slow)

    async def main() -> None:
        server = kps.Server("127.0.0.1:0")
        starting = asyncio.create_task(server.start())
        while not slow.begun.is_set():
            await asyncio.sleep(0.001)
        if ends == "cancel":
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            slow.goes_on.set()
        else:
            await server.stop()
            slow.goes_on.set()
            with pytest.raises(kps.ServerStopped):
                await starting
            with pytest.raises(kps.ServerStopped):
                await server.publish("t", 1)
        while not slow.is_closed():
            await asyncio.sleep(0.001)

    run(loop, main)


def test_a_start_that_is_cancelled_when_it_listens() -> None:
    async def main() -> None:
        server = kps.Server("127.0.0.1:0")
        running = asyncio.get_running_loop()
        create = running.create_server

        async def create_server(*args: Any, **options: Any) -> Any:
            running.call_soon(starting.cancel)
            return await create(*args, **options)

        running.create_server = create_server  # type: ignore[method-assign]
        starting = asyncio.create_task(server.start())
        result = (await asyncio.gather(starting, return_exceptions=True))[0]
        assert isinstance(result, asyncio.CancelledError) != bool(server._driver._listeners)
        await server.stop()

    run(asyncio.new_event_loop, main)


def test_a_stop_on_threads_while_the_server_asks_for_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = SlowName()
    monkeypatch.setattr(kps.io_sync.server_driver, "listen", slow)
    server = kps.sync.Server("127.0.0.1:0")
    raised: list[BaseException] = []

    def start() -> None:
        try:
            server.start()
        except kps.ServerStopped as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    assert slow.begun.wait(PATIENCE)
    server.stop()
    slow.goes_on.set()
    thread.join(PATIENCE)
    assert raised
    eventually(slow.is_closed)
    with pytest.raises(kps.ServerStopped):
        server.publish("t", 1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def nothing_listens_at(address: str) -> None:
    host, _, port = address.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), PATIENCE)


def test_a_start_on_threads_that_is_interrupted_at_its_end(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    server = kps.sync.Server(address)
    with monkeypatch.context() as patch:
        patch.setattr(server._driver, "progress", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            server.start()
    nothing_listens_at(server.address)
    acceptor = server._driver._acceptor
    assert acceptor is not None
    eventually(lambda: not acceptor._thread.is_alive())
    with pytest.raises(kps.InvalidState):
        server.publish("t", 1)
    with server, kps.sync.Client(server.address):
        pass


def test_a_start_on_a_loop_that_is_interrupted_at_its_end(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    server = kps.Server(address)
    loop = asyncio.new_event_loop()

    async def go_on() -> None:
        nothing_listens_at(server.address)
        with pytest.raises(kps.InvalidState):
            await server.publish("t", 1)
        async with server, kps.Client(server.address):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(server._driver, "progress", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(server.start())
    loop.run_until_complete(go_on())
    loop.close()
