"""How a blocking client lives on a bus in memory: its runtime, and the bus's end of its socket.

The client has one end of a pair of sockets, which is within this process. One thread, the pump,
serves the other ends, for all clients of a bus. While the test's own thread waits in a call of a
client, or a client closes, the pump also lets time pass, because nobody else may.
"""

import contextlib
import selectors
import socket
import ssl
import threading

from kps.io_common.condition import Condition
from kps.io_sync.client import Client
from kps.io_sync.connection import Ready, Waker, new_selector
from kps.io_sync.runtime import Runtime
from kps.protocol.dialect.address import Address
from kps.protocol.wire.websocket import Output
from kps.testing.world import World

_CHUNK = 256 * 1024

# Seconds of the system's clock between two looks whether all is quiet, and how many of them in a
# row must find it so before time passes by itself.
_LOOK = 0.002
_LOOKS = 10


class ThreadsRuntime(Runtime):
    """The threads of one client, at the time of a bus."""

    def __init__(self, world: World, pump: "Pump", client: Client) -> None:
        super().__init__()
        self.random = world.new_random()
        # Apart, because how often the masks of frames are drawn depends on what comes together.
        self.entropy = world.new_random().randbytes
        self.chance = self.random.random
        self.client = client
        self._world = world
        self._pump = pump
        self._waits: dict[int, tuple[Condition, float | None]] = {}
        """For each thread that waits, what for, and until when."""
        self._selects: dict[int, int] | None = None
        """While the thread of the socket waits for it: descriptors, and for which events."""
        self._port: SocketPort | None = None

    # -- what the client asks for -----------------------------------------------------------

    def start(self) -> None:
        self.clock = lambda: self._world.clock.now
        self._world.enter(self)
        self._pump.start()

    def wait(self, condition: Condition, timeout: float | None) -> None:
        thread = threading.get_ident()
        ends = None if timeout is None else self.clock() + timeout
        self._waits[thread] = condition, ends
        moves_time = thread == self._pump.test_thread or self.client._driver.is_closing
        try:
            if moves_time:
                self._pump.count_waits(1)
            # Those who set the time notify; for the rest, an endless wait may keep signals away.
            condition.wait(0.5)
        finally:
            if moves_time:
                self._pump.count_waits(-1)
            del self._waits[thread]

    def select(self, selector: selectors.BaseSelector, timeout: float) -> Ready:
        self._selects = {key.fd: key.events for key in selector.get_map().values()}
        try:
            return selector.select(timeout)
        finally:
            self._selects = None

    def connect(
        self, address: Address, tls: ssl.SSLContext | None, timeout: float
    ) -> socket.socket:
        port = SocketPort(self._world, self._pump)
        try:
            self._world.connect(self, port)
        except OSError:
            port.far.close()
            port.near.close()
            raise
        self._port = port
        self._pump.add(port)
        return port.near

    # -- what the world asks for ------------------------------------------------------------

    @property
    def id(self) -> str:
        return self.client.id

    @property
    def is_over(self) -> bool:
        session = self.client._session
        return session.ended is not None and not self._waits and not self._works()

    def next_deadline(self) -> float | None:
        with self.client._driver.lock:
            return min(self._deadlines(), default=None)

    def look(self) -> None:
        driver = self.client._driver
        with driver.lock:
            driver.news.announce()
        driver.wake()

    def is_busy(self) -> bool:
        """Whether a thread of the client is not known to wait for something to come.

        How long a thread has done nothing would tell less: the system may give it no time.
        """
        driver = self.client._driver
        if not driver.lock.acquire(blocking=False):
            return True
        try:
            now, port = self.clock(), self._port
            return (
                any(deadline <= now for deadline in self._deadlines())
                or any(not condition.has_waiters for condition, _ in self._waits.values())
                or driver._connect_is_due
                or self._works()
                or self._carries()
                or (port is not None and port.is_ready)
            )
        finally:
            driver.lock.release()

    def _deadlines(self) -> list[float]:
        stops = [self.client._session.next_deadline(), *(ends for _, ends in self._waits.values())]
        return [stop for stop in stops if stop is not None]

    def _works(self) -> bool:
        """Whether the thread of the callbacks does not wait."""
        worker = self.client._driver.dispatcher.working_thread
        return worker is not None and worker not in self._waits

    def _carries(self) -> bool:
        """Whether the thread of the socket does not wait, or what it waits for is there."""
        thread = self.client._driver._thread
        if thread is None or not thread.is_alive() or thread.ident in self._waits:
            return False
        selects = self._selects
        return selects is None or _is_any_ready(selects)


def _is_any_ready(events: dict[int, int]) -> bool:
    """Tell whether any descriptor is ready for the events that are given with it."""
    with new_selector() as selector:
        for descriptor, wanted in events.items():
            selector.register(descriptor, wanted)
        return bool(selector.select(0))


class SocketPort:
    """The bus's end of a client's socket, as the endpoint of a link.

    What the link calls, it calls with the world's lock held; so does the pump.
    """

    def __init__(self, world: World, pump: "Pump") -> None:
        self.far, self.near = socket.socketpair()
        self.far.setblocking(False)
        self.unsent = bytearray()
        """What the socket has not yet taken for the client."""
        self.is_closed = False
        self._world = world
        self._pump = pump
        self._came = bytearray()
        self._is_at_eof = False
        self._is_broken = False
        self._ends = False

    # -- what the pump calls --------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        """The events of the socket that there is something to do for, if they come."""
        reads = len(self._came) < _CHUNK and not self._is_at_eof
        return (selectors.EVENT_READ if reads else 0) | (
            selectors.EVENT_WRITE if self.unsent else 0
        )

    @property
    def is_ready(self) -> bool:
        """Whether there is something to do now. For any thread."""
        with self._world.lock:
            wanted = 0 if self.is_closed else self.wanted
            return bool(wanted) and _is_any_ready({self.far.fileno(): wanted})

    def read(self) -> None:
        """Take what the client wrote."""
        try:
            data = self.far.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._world.activity += 1
        self._came += data
        self._is_at_eof = not data

    def write(self) -> None:
        """Hand the client what the socket takes."""
        if self._is_broken:
            self.unsent.clear()
        while self.unsent and not self.is_closed:
            try:
                sent = self.far.send(self.unsent)
            except (BlockingIOError, InterruptedError):
                self._pump.wake()
                return
            except OSError:  # the client has closed its end
                self._is_broken = True
                self.unsent.clear()
                return
            self._world.activity += 1
            del self.unsent[:sent]
        if self._ends:
            self._ends = False
            with contextlib.suppress(OSError):
                self.far.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Have no socket any more."""
        if not self.is_closed:
            self.is_closed = True
            self._world.activity += 1
            # While the pump waits for it, a socket that is closed stays open: the client would
            # see the end only when the system gives the pump some time.
            with contextlib.suppress(OSError):
                self.far.shutdown(socket.SHUT_RDWR)
            self.far.close()
            self._pump.wake()

    # -- what the link calls ----------------------------------------------------------------------

    def data_to_send(self, limit: int = _CHUNK) -> bytes:
        data = bytes(self._came[:limit])
        del self._came[:limit]
        if data:
            self._pump.wake()  # there is room for more
        return data

    @property
    def output(self) -> Output:
        if self._came or not self._is_at_eof:
            return Output.KEEP
        return Output.ABORT if self._is_broken else Output.HALF_CLOSE

    @property
    def wants_pause(self) -> bool:
        return bool(self.unsent)

    def set_reading(self, is_reading: bool, now: float) -> None: ...

    def receive_data(self, data: bytes, now: float) -> None:
        self.unsent += data
        self.write()

    def receive_eof(self, now: float, unwritten: int = 0) -> None:
        self._ends = True
        self.write()

    def connection_lost(self, now: float, unwritten: int = 0) -> None:
        self.close()


class Pump:
    """The thread that serves the sockets of a bus.

    While the thread of the test waits, or a client closes, it moves the time to the next deadline
    whenever all has been quiet for a moment.
    """

    def __init__(self, world: World) -> None:
        self.test_thread = 0
        """The thread which made the bus active."""
        self._world = world
        self._ports: list[SocketPort] = []
        self._thread: threading.Thread | None = None
        self._waker: Waker | None = None
        self._waits = 0
        self._ends = False

    def start(self) -> None:
        """Begin, unless it has begun."""
        with self._world.lock:
            if self._thread is None and not self._world.is_closed:
                self._waker = Waker()
                self._thread = threading.Thread(target=self._run, name="kps-bus", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for that."""
        self._ends = True
        if self._thread is not None and self._waker is not None:
            self.wake()
            self._thread.join()
            self._waker.close()

    def add(self, port: SocketPort) -> None:
        """Serve another socket."""
        with self._world.lock:
            self._ports.append(port)
        self.wake()

    def wake(self) -> None:
        """Have the thread look at its sockets. For any thread."""
        if self._waker is not None and threading.current_thread() is not self._thread:
            self._waker.wake()

    def count_waits(self, change: int) -> None:
        """Begin to wait for something that this may let time pass for, or end that."""
        with self._world.lock:
            self._waits += change
        if change > 0:
            self.wake()

    def _run(self) -> None:
        looks = 0
        while not self._ends:
            before = self._world.activity
            self._serve(_LOOK if self._waits else None)
            is_quiet = self._waits > 0 and before == self._world.activity
            looks = looks + 1 if is_quiet and not self._world.is_busy() else 0
            if looks > _LOOKS:
                looks = 0
                self._world.tick()
                stop = self._world.next_stop()
                if stop is not None and self._waits:
                    self._world.move_to(stop)

    def _serve(self, timeout: float | None) -> None:
        """Read and write what the sockets have and take, and have it handled."""
        waker = self._waker
        assert waker is not None
        with contextlib.closing(new_selector()) as selector:
            selector.register(waker, selectors.EVENT_READ)
            waker.reset()
            with self._world.lock:
                self._ports = [port for port in self._ports if not port.is_closed]
                for port in self._ports:
                    if port.wanted:
                        selector.register(port.far, port.wanted, port)
            ready = selector.select(timeout)
            with self._world.lock:
                for key, mask in ready:
                    if key.fileobj is waker:
                        waker.drain()
                    elif not key.data.is_closed:
                        if mask & selectors.EVENT_READ:
                            key.data.read()
                        if mask & selectors.EVENT_WRITE:
                            key.data.write()
                self._world.run()
