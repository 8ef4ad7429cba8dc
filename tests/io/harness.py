"""What the socket tests share: drivers behind one blocking face, and a cable to cut.

The scenarios are written once, in blocking style. A driver that is asynchronous runs on a
loop in a thread of its own, and :class:`Blocking` lets its methods be called from outside.
"""

import asyncio
import contextlib
import inspect
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Self

import kps
import kps.sync

PATIENCE = 20.0
"""Seconds after which something that should have happened counts as never happening."""
PROGRAM_PATIENCE = 300.0
"""The same for a program that is run: a busy machine may need many to start Python alone."""


class Clock:
    """The system's clock, which a test may put forward: no deadline need be short, or be met."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def skip(self, seconds: float) -> None:
        self._ahead += seconds


class LoopThread:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._clock = Clock()
        self.loop.time = self._clock  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function on the loop, wait for its result, and await that if it can be."""

        async def run() -> Any:
            result = function(*args, **options)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE)

    def skip(self, seconds: float) -> None:
        """Let the loop believe that time has passed."""
        self._clock.skip(seconds)
        self.loop.call_soon_threadsafe(lambda: None)  # so that it looks at the clock

    def close(self) -> None:
        """End the tasks that a test has left, for instance within an iterator, and the loop."""

        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(PATIENCE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


class OneTask:
    """Calls functions on a loop, one after the other, in one task."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._calls: asyncio.Queue[tuple[Callable[..., Any], Future[Any]] | None] = asyncio.Queue()
        self._task = asyncio.run_coroutine_threadsafe(self._run(), thread.loop)

    def call(self, function: Callable[..., Any]) -> Any:
        future: Future[Any] = Future()
        self._put((function, future))
        return future.result(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._task.done():  # else the loop has ended before the iterator
            self._put(None)
            self._task.result(PATIENCE)

    def _put(self, call: tuple[Callable[..., Any], Future[Any]] | None) -> None:
        self._thread.loop.call_soon_threadsafe(self._calls.put_nowait, call)

    async def _run(self) -> None:
        while (call := await self._calls.get()) is not None:
            function, future = call
            try:
                future.set_result(await function())
            except BaseException as failure:
                future.set_exception(failure)


class Blocking:
    """An object of the asyncio API whose methods block."""

    def __init__(self, target: Any, thread: LoopThread) -> None:
        self._target = target
        self._thread = thread

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **options: Any) -> Any:
            return self._wrap(self._thread.call(attribute, *args, **options))

        return call

    def __iter__(self) -> Iterator[Any]:
        iterator = self._thread.call(self._target.__aiter__)
        with OneTask(self._thread) as task:  # as it is for a loop
            while True:
                try:
                    yield task.call(iterator.__anext__)
                except StopAsyncIteration:
                    return

    def _wrap(self, result: Any) -> Any:
        if isinstance(result, (kps.Ack, kps.Subscription, kps.Client, kps.Server)):
            return Blocking(result, self._thread)
        return result


class AsyncioDriver:
    """Makes clients and servers of the asyncio driver."""

    def __init__(self) -> None:
        self._thread = LoopThread()
        self._open: list[Any] = []

    def server(self, address: str = "127.0.0.1:0", **options: Any) -> Any:
        server = self._thread.call(lambda: kps.Server(address, **options))
        self._thread.call(server.start)
        self._open.append(server.stop)
        return Blocking(server, self._thread)

    def client(self, address: str, **options: Any) -> Any:
        client = self._thread.call(kps.Client.connect, address, **options)
        self._open.append(client.close)
        return Blocking(client, self._thread)

    def skip(self, seconds: float) -> None:
        """Let time pass for its servers: what is due by then happens now."""
        self._thread.skip(seconds)

    def close(self) -> None:
        for close in reversed(self._open):
            self._thread.call(close)
        self._thread.close()


class ThreadsDriver:
    """Makes clients and servers of the blocking driver."""

    def __init__(self) -> None:
        self._open: list[Any] = []
        self._servers: list[kps.sync.Server] = []
        self._clock = Clock()

    def server(self, address: str = "127.0.0.1:0", **options: Any) -> Any:
        server = kps.sync.Server(address, **options)
        runtime = server._driver.runtime
        runtime.start = lambda: setattr(runtime, "clock", self._clock)  # type: ignore[method-assign]
        server.start()
        self._servers.append(server)
        self._open.append(server.stop)
        return server

    def client(self, address: str, **options: Any) -> Any:
        client = kps.sync.Client.connect(address, **options)
        self._open.append(client.close)
        return client

    def skip(self, seconds: float) -> None:
        """Let time pass for its servers: what is due by then happens now."""
        self._clock.skip(seconds)
        for server in self._servers:
            server._driver.wake()  # so that it looks at the clock

    def close(self) -> None:
        for close in reversed(self._open):
            close()


AnyDriver = AsyncioDriver | ThreadsDriver

DRIVERS: dict[str, type[AnyDriver]] = {"asyncio": AsyncioDriver, "threads": ThreadsDriver}


class Inbox:
    """A callback that keeps what it gets, for a test to look at."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()

    def __call__(self, item: Any = None) -> None:
        self._queue.put(item)

    def get(self) -> Any:
        """The next item; fails the test when none comes."""
        try:
            return self._queue.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError("nothing arrived") from None

    def data(self) -> Any:
        """The payload of the next message."""
        return self.get().data

    def take(self, count: int) -> list[Any]:
        """The payloads of the next messages."""
        return [self.data() for _ in range(count)]

    def is_empty(self) -> bool:
        return self._queue.empty()


def eventually(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait for something that no event announces."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} never came true")
        time.sleep(0.002)


class Cable:
    """A TCP connection to a server that can be cut, stalled, or refused.

    Clients connect to ``address`` and reach the server at ``target``.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.stalled = False
        """Whether everything is swallowed."""
        self.jammed = False
        """Whether nothing is read from either end."""
        self.refuses = False
        """Whether new connections are dropped at once."""
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Break every connection, as a crash does: with a reset."""
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    end.close()
            self._pairs.clear()

    def close(self) -> None:
        self._closed = True
        self._thread.join(PATIENCE)
        self.cut()
        self._listener.close()

    def _run(self) -> None:
        while not self._closed:
            with self._lock:
                pairs = [] if self.jammed else self._pairs
                ends = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
                try:
                    readable, _, _ = select.select([self._listener, *ends], [], [], 0.01)
                except (OSError, ValueError):
                    continue
                for end in readable:
                    if end is self._listener:
                        self._accept()
                    elif end in ends:
                        self._forward(end, ends)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self.refuses:
            client.close()
            return
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        self.connections += 1
        self._pairs.append((client, server))

    def _forward(self, end: socket.socket, ends: dict[socket.socket, socket.socket]) -> None:
        other = ends[end]
        try:
            data = end.recv(65536)
            if data and not self.stalled:
                other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for pair in list(self._pairs):
                if end in pair:
                    self._pairs.remove(pair)
                    for side in pair:
                        side.close()
                        ends.pop(side, None)
