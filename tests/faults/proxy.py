"""A TCP proxy that does to bytes what networks do to them."""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from tests.io.harness import PATIENCE, LoopThread

_CHUNK = 64 * 1024
_RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER of 0 s: closing sends a reset


class Way(StrEnum):
    """A direction."""

    UP = "up"
    """From clients to the server."""
    DOWN = "down"


BOTH = (Way.UP, Way.DOWN)


class _Pipe:
    """One connection through the proxy."""

    def __init__(self, ends: dict[Way, asyncio.StreamWriter]) -> None:
        self.swallows: set[Way] = set()
        self.stalled: set[Way] = set()
        self.goes_on = asyncio.Event()
        self.cut_after: dict[Way, int] = {}
        self._ends = ends  # what is written to in each direction

    def abort(self, *, reset: bool) -> None:
        """Break it, at both ends."""
        for writer in self._ends.values():
            if reset:
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):  # closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self.stalled.clear()
        self.goes_on.set()


class Proxy:
    """Clients connect to ``address``, and reach the server at ``target`` (``host:port``).

    All its methods may be called from any thread, and have taken effect when they return.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self.connections = 0
        """Connections that reached the server so far."""
        self.bytes = dict.fromkeys(BOTH, 0)
        """Bytes that came so far, for each direction, whatever became of them."""
        self.refuses = False
        """Whether new connections are dropped at once."""
        self._pieces = dict.fromkeys(BOTH, 0)
        self._delays = dict.fromkeys(BOTH, 0.0)
        self._cuts: dict[Way, deque[int]] = {way: deque() for way in BOTH}
        self._cuts_with_reset = True
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = LoopThread()
        self._server = self._thread.call(asyncio.start_server, self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    # -- faults of connections to come --------------------------------------------------

    def cut_after(self, way: Way, *counts: int, reset: bool = True) -> None:
        """Break the next connections, one for each count, after so many bytes of that way.

        With a reset, or else in the orderly way of a program that ends.
        """

        def do() -> None:
            self._cuts[way].extend(counts)
            self._cuts_with_reset = reset

        self._thread.call(do)

    def split(self, size: int, *ways: Way) -> None:
        """Pass on no more than so many bytes at once."""
        for way in ways or BOTH:
            self._pieces[way] = size

    def delay(self, seconds: float, *ways: Way) -> None:
        """Pass everything on later."""
        for way in ways or BOTH:
            self._delays[way] = seconds

    # -- faults of the connections that there are -----------------------------------------

    def cut(self, *, reset: bool = True) -> None:
        """Break every connection."""
        self._for_each(lambda pipe: pipe.abort(reset=reset))

    def stall(self, *ways: Way) -> None:
        """Take nothing more from either end, as a network that is full."""
        self._for_each(lambda pipe: pipe.stalled.update(ways or BOTH))

    def go_on(self) -> None:
        """End ``stall``."""

        def end(pipe: _Pipe) -> None:
            pipe.stalled.clear()
            pipe.goes_on.set()
            pipe.goes_on = asyncio.Event()

        self._for_each(end)

    def swallow(self, *ways: Way) -> None:
        """Take everything and pass on nothing, not even that an end has closed."""
        self._for_each(lambda pipe: pipe.swallows.update(ways or BOTH))

    # -- the rest ---------------------------------------------------------------------------

    def close(self) -> None:
        """Break what there is, and listen no more."""

        async def end() -> None:
            self._server.close()
            for pipe in list(self._pipes):
                pipe.abort(reset=True)
            for task in self._tasks:
                task.cancel()
            await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=True), PATIENCE)

        self._thread.call(end)
        self._thread.close()

    def _for_each(self, do: Callable[[_Pipe], None]) -> None:
        def run() -> None:
            for pipe in list(self._pipes):
                do(pipe)

        self._thread.call(run)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own, because those of asyncio's make end with noise when cancelled.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # However it ends, also before its first step: a transport that stays open complains later,
        # in another test.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.refuses:
                raise ConnectionRefusedError
            from_server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            return
        pipe = _Pipe({Way.UP: to_server, Way.DOWN: writer})
        for way, cuts in self._cuts.items():
            if cuts:
                pipe.cut_after[way] = cuts.popleft()
        self.connections += 1
        self._pipes.add(pipe)
        try:
            await asyncio.gather(
                self._pump(pipe, Way.UP, reader, to_server),
                self._pump(pipe, Way.DOWN, from_server, writer),
            )
        finally:
            self._pipes.discard(pipe)
            pipe.abort(reset=False)

    async def _pump(
        self, pipe: _Pipe, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        passed = 0
        try:
            while True:
                data = await reader.read(_CHUNK)
                self.bytes[way] += len(data)
                while way in pipe.stalled:
                    await pipe.goes_on.wait()
                if way in pipe.swallows:
                    if not data:
                        await asyncio.Event().wait()  # nobody is told
                    continue
                if not data:
                    writer.write_eof()
                    return
                await asyncio.sleep(self._delays[way])
                cut = pipe.cut_after.get(way)
                if cut is not None:
                    data = data[: cut - passed]
                await self._pass_on(data, self._pieces[way], writer)
                passed += len(data)
                if passed == cut:
                    pipe.abort(reset=self._cuts_with_reset)
                    return
        except OSError:  # one end has broken it
            if way in pipe.swallows:
                await asyncio.Event().wait()
            pipe.abort(reset=True)

    async def _pass_on(self, data: bytes, size: int, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), size or len(data)):
            writer.write(data[start : start + (size or len(data))])
            await writer.drain()
            if size:
                await asyncio.sleep(0)  # so that pieces are less likely to be joined again
