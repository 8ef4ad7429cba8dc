"""How an asyncio client lives on a bus in memory: its runtime, and its transports."""

import asyncio
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from kps.io_asyncio.client import Client
from kps.io_asyncio.runtime import Runtime, Timer
from kps.protocol.dialect.address import Address
from kps.protocol.wire.websocket import Output
from kps.testing.world import World

# Seconds of the system's clock between two looks at a client that closes, and how many in a row
# must find that nothing happens before time passes by itself.
_LOOK = 0.002
_LOOKS = 10

# Bytes that may wait to be handed to the client before no more are taken for it.
_INBOX = 64 * 1024


class LoopRuntime(Runtime):
    """The running event loop, at the time of a bus."""

    stopwatch = staticmethod(lambda: 0.0)

    def __init__(self, world: World, client: Client) -> None:
        super().__init__()
        self.random = world.new_random()
        # Apart, because how often the masks of frames are drawn depends on what comes together.
        self.entropy = world.new_random().randbytes
        self.chance = self.random.random
        self.world = world
        self._client = client
        self._timers: set[_Timer] = set()
        self._thread = 0
        self._posted = 0
        self._runs_soon = False
        self._watches_closing = False

    # -- what the client asks for -----------------------------------------------------------

    def start(self) -> None:
        super().start()
        self._thread = threading.get_ident()
        self.clock = self._now
        self.world.enter(self)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = _Timer(when, callback, self._timers)
        if when <= self.clock():
            self.post(timer.go_off)
        return timer

    async def connect(
        self,
        protocol: Callable[[], asyncio.Protocol],
        address: Address,
        tls: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        transport = MemoryTransport(self, protocol())
        self.world.connect(self, transport)
        transport.begin()

    # -- what the world asks for ------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._client.id

    @property
    def is_over(self) -> bool:
        has_ended = self._client._session.ended is not None
        return self.loop.is_closed() or (has_ended and not self._timers and not self.is_busy())

    def next_deadline(self) -> float | None:
        return min([timer.when for timer in list(self._timers)], default=None)

    def look(self) -> None:
        now = self.clock()
        due = [timer for timer in list(self._timers) if timer.when <= now and not timer.is_posted]
        for timer in sorted(due, key=lambda timer: timer.when):
            timer.is_posted = True
            self.post(timer.go_off)

    def is_busy(self) -> bool:
        driver = self._client._driver
        return bool(self._posted) or not driver.is_started or driver.dispatcher.is_busy_in_threads

    # -- the loop -----------------------------------------------------------------------------

    def post(self, callback: Callable[[], None]) -> None:
        """Call something on the loop, soon. For any thread."""
        world = self.world
        with world.lock:
            if self.loop.is_closed():
                return
            self._posted += 1
            world.activity += 1

        def call() -> None:
            with world.lock:
                self._posted -= 1
                world.activity += 1
            callback()

        if threading.get_ident() == self._thread:
            self.loop.call_soon(call)
        else:
            self.loop.call_soon_threadsafe(call)

    def run_soon(self) -> None:
        """Have bytes move at the end of this turn of the loop."""
        if not self._runs_soon:
            self._runs_soon = True
            self.post(self._run)

    def _run(self) -> None:
        self._runs_soon = False
        self.world.run()

    # -- closing ------------------------------------------------------------------------------

    def _now(self) -> float:
        if self._client._driver.is_closing and not self._watches_closing:
            self._watches_closing = True
            self.loop.call_later(_LOOK, self._watch_closing, self.world.activity, 0)
        return self.world.clock.now

    def _watch_closing(self, activity: int, looks: int) -> None:
        """Let time pass while the client closes over a slow network: its caller cannot."""
        world, client = self.world, self._client
        if client._session.ended is not None and not client._driver.connections:
            return
        looks = 0 if activity != world.activity or world.is_busy() else looks + 1
        if looks > _LOOKS:
            looks = 0
            stop = world.next_stop()
            if stop is not None:
                world.move_to(stop)
        self.loop.call_later(_LOOK, self._watch_closing, world.activity, looks)


class _Timer:
    """Goes off when the time has been set past it."""

    def __init__(self, when: float, callback: Callable[[], None], timers: "set[_Timer]") -> None:
        self.when = when
        self.is_posted = False
        self._callback = callback
        self._timers = timers
        timers.add(self)

    def cancel(self) -> None:
        self._timers.discard(self)

    def go_off(self) -> None:
        if self in self._timers:
            self._timers.remove(self)
            self._callback()


class MemoryTransport(asyncio.Transport):
    """A transport of asyncio that is also an endpoint of a link.

    The link takes what was written and brings what came; the protocol is called on its loop.
    """

    def __init__(self, runtime: LoopRuntime, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._runtime = runtime
        self._lock = runtime.world.lock
        self._protocol = protocol
        self._unsent = bytearray()
        self._high = _INBOX
        self._is_full = False
        self._inbox: deque[bytes] = deque()
        self._is_reading = True
        self._has_eof = False  # of the other end
        self._is_lost = False
        self._is_posted = False
        self._has_ended = False
        self._output = Output.KEEP

    def begin(self) -> None:
        """Tell the protocol of its transport."""
        self._protocol.connection_made(self)
        self._runtime.run_soon()

    # -- what the protocol calls --------------------------------------------------------------

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        with self._lock:
            if self.is_closing() or self._output is Output.HALF_CLOSE:
                return
            self._unsent += data
            is_full_now = len(self._unsent) > self._high and not self._is_full
            self._is_full = self._is_full or is_full_now
        self._runtime.run_soon()
        if is_full_now:
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def write_eof(self) -> None:
        self._go_to(Output.HALF_CLOSE)

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self._go_to(Output.CLOSE)

    def abort(self) -> None:
        self._go_to(Output.ABORT)

    def is_closing(self) -> bool:
        return self._is_lost or self._output in (Output.CLOSE, Output.ABORT)

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        with self._lock:
            self._is_reading = True
            self._deliver_soon()
        self._runtime.run_soon()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _INBOX if high is None else high

    def _go_to(self, output: Output) -> None:
        with self._lock:
            if not self.is_closing():
                self._output = output
        self._runtime.run_soon()

    # -- what the link calls, with the lock held ------------------------------------------------

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        data = bytes(self._unsent[:limit])
        del self._unsent[:limit]
        if self._is_full and len(self._unsent) <= self._high // 4:
            self._is_full = False
            self._runtime.post(self._resume_writing)
        return data

    @property
    def output(self) -> Output:
        return Output.KEEP if self._unsent and self._output is not Output.ABORT else self._output

    @property
    def wants_pause(self) -> bool:
        return not self._is_reading or sum(map(len, self._inbox)) > _INBOX

    def set_reading(self, is_reading: bool, now: float) -> None: ...

    def receive_data(self, data: bytes, now: float) -> None:
        self._inbox.append(data)
        self._deliver_soon()

    def receive_eof(self, now: float, unwritten: int = 0) -> None:
        self._has_eof = True
        self._deliver_soon()

    def connection_lost(self, now: float, unwritten: int = 0) -> None:
        self._is_lost = True
        self._deliver_soon()

    # -- what is called on the loop -------------------------------------------------------------

    def _deliver_soon(self) -> None:
        if not self._is_posted:
            self._is_posted = True
            self._runtime.post(self._deliver)

    def _deliver(self) -> None:
        """Hand to the protocol what has come, in the order in which it came."""
        self._is_posted = False
        wanted = self._output in (Output.KEEP, Output.HALF_CLOSE)
        while wanted and self._inbox and (self._is_reading or self._is_lost):
            self._protocol.data_received(self._inbox.popleft())
            wanted = self._output in (Output.KEEP, Output.HALF_CLOSE)
        if self._is_lost:
            self._end()
        elif self._has_eof and wanted and not self._inbox:
            self._has_eof = False
            if not self._protocol.eof_received():
                self.close()
        self._runtime.run_soon()

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._protocol.connection_lost(None)

    def _resume_writing(self) -> None:
        if not self.is_closing():
            self._protocol.resume_writing()
