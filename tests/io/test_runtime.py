"""The seam for tests: a real client in memory, at a time that is set by hand."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

import kps
import kps.sync
from kps.io_asyncio.runtime import Runtime, Timer
from kps.io_common.condition import Condition
from kps.io_sync.runtime import Runtime as ThreadsRuntime
from kps.protocol.dialect.address import Address
from kps.protocol.server.config import HubConfig
from kps.protocol.server.hub import Hub
from kps.testing import ManualClock
from tests.io.harness import PATIENCE

HOUR = 3600.0


class Bus:
    """A hub in memory, at a time of its own."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.hub = Hub(HubConfig(id="server"), new_id=lambda: "new", now=self.clock.now)
        self.is_silent = False

    def answer(self, session: Any, data: bytes) -> bytes:
        """Give a session some bytes; return what it says."""
        session.receive_data(data, self.clock.now)
        self.hub.events()
        return b"" if self.is_silent else bytes(session.data_to_send())


class MemoryTransport:
    """A transport to the hub. What is written is answered in the next turn of the loop."""

    def __init__(self, bus: Bus, protocol: Any) -> None:
        self._bus, self._protocol = bus, protocol
        self._session = bus.hub.connect("memory:0", bus.clock.now)
        self._is_closing = False

    def write(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self._answer, bytes(data))

    def _answer(self, data: bytes) -> None:
        answer = self._bus.answer(self._session, data)
        if answer and not self._is_closing:
            self._protocol.data_received(answer)

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._is_closing

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class ManualTimer:
    """A timer that goes off when the time is set past it."""

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due, self.callback = due, callback
        self.is_over = False

    def cancel(self) -> None:
        self.is_over = True


def test_a_client_on_the_event_loop() -> None:
    bus = Bus()
    timers: list[ManualTimer] = []

    class Memory(Runtime):
        chance = staticmethod(lambda: 0.5)

        def start(self) -> None:
            super().start()
            self.clock = lambda: bus.clock.now

        def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
            timers.append(ManualTimer(when, callback))
            return timers[-1]

        async def connect(
            self,
            protocol: Callable[[], asyncio.Protocol],
            address: Address,
            tls: ssl.SSLContext | None,
            timeout: float,
        ) -> None:
            made = protocol()
            transport: Any = MemoryTransport(bus, made)
            made.connection_made(transport)

    class Client(kps.Client):
        _new_runtime = Memory

    def advance(seconds: float) -> None:
        end = bus.clock.now + seconds
        while due := [timer for timer in timers if not timer.is_over and timer.due <= end]:
            timer = min(due, key=lambda timer: timer.due)
            bus.clock.now = max(bus.clock.now, timer.due)
            timer.is_over = True
            timer.callback()
        bus.clock.now = end

    async def main() -> None:
        async with Client("nowhere:1", id="alice", request_timeout=HOUR) as client:
            messages = await client.subscribe("t", timeout=HOUR)
            await client.publish("t", 1)
            assert (await anext(messages)).data == 1
            bus.is_silent = True
            flushing = asyncio.create_task(client.flush())
            reading = asyncio.create_task(anext(messages))
            await asyncio.sleep(0.01)
            assert not flushing.done()
            advance(HOUR)
            with pytest.raises((kps.RequestTimeout, kps.ConnectionLost)):
                await flushing
            with pytest.raises(kps.RequestTimeout):
                await reading
            bus.is_silent = False

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_client_on_threads() -> None:
    bus = Bus()

    class Memory(ThreadsRuntime):
        def start(self) -> None:
            self.clock = lambda: bus.clock.now

        def wait(self, condition: Condition, timeout: float | None) -> None:
            if threading.current_thread() is threading.main_thread():
                waits.set()
            condition.wait(0.01)  # the time is set by hand: look now and then

        def connect(
            self, address: Address, tls: ssl.SSLContext | None, timeout: float
        ) -> socket.socket:
            near, far = socket.socketpair()
            session = bus.hub.connect("memory:0", bus.clock.now)

            def serve() -> None:
                with far:
                    while data := far.recv(65536):
                        far.sendall(bus.answer(session, data))

            threading.Thread(target=serve, daemon=True).start()
            return near

    class Client(kps.sync.Client):
        _new_runtime = Memory

    waits, lost = threading.Event(), threading.Event()

    def move_on() -> None:
        assert waits.wait(PATIENCE)  # what begins later would wait for longer
        bus.clock.now = ends

    with Client(
        "nowhere:1",
        id="alice",
        request_timeout=HOUR,
        reconnect=False,
        on_disconnect=lambda event: lost.set(),
    ) as client:
        messages = client.subscribe("t", timeout=10.0)
        client.publish("t", 1)
        assert next(messages).data == 1
        ends = bus.clock.now + 11.0
        waits.clear()
        later = threading.Thread(target=move_on)
        later.start()
        with pytest.raises(kps.RequestTimeout):
            next(messages)
        later.join()
        bus.is_silent = True  # so the heartbeat finds that the connection is dead
        while not lost.wait(0.01):
            bus.clock.advance(5.0)
            client._driver.wake()
