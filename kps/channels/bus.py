"""The connection of a process to the bus: one client, on an event loop in a thread of its own.

So it belongs to no event loop of the program. ``async_to_sync`` makes a new loop for each call, and
tests and threads have their own; all of them share this one connection. A program that forgets to
close it still ends.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from copy import copy
from typing import Any, TypeVar

from kps.errors import ClientClosed, ConnectFailed, KPSError, NotConnected, ServerError
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import run
from kps.io_common.client_options import ClientOptions
from kps.protocol.bus.message import Message
from kps.protocol.client.events import Lost
from kps.protocol.client.reconnect import Backoff

T = TypeVar("T")

# A program's requests wait for the bus, so it looks for it more often than a client does else.
_RECONNECT = Backoff(longest=2.0)

# Seconds for which calls raise why the client has ended, before there may be another one. They keep
# a server that refuses from being asked with each call.
_PAUSE = 2.0


class Bus:
    """The client of a process.

    ``timeout`` is how many seconds a call waits for the connection. ``on_direct`` gets direct
    messages, ``on_lost`` learns which messages of the past are lost, and ``serve`` runs as long as
    the client does; ``on_over`` is told why that has ended.
    They run on the loop of the client, as does what is given to ``run``.
    """

    def __init__(
        self,
        address: str,
        timeout: float,
        on_direct: Callable[[Message[Any]], Awaitable[object]],
        serve: Callable[[], Coroutine[Any, Any, None]],
        on_over: Callable[[KPSError], None],
        on_lost: Callable[[Lost], Awaitable[None]],
        options: ClientOptions,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._on_direct = on_direct
        self._serve = serve
        self._on_over = on_over
        self._on_lost = on_lost
        self._options = options
        self._lock = threading.Lock()
        self._started = threading.Event()
        self._is_closed = False
        self._reason: KPSError | None = None  # why the client has ended, for good
        self._over_since = 0.0
        self._on_end: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._work, name="kps-channels", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._changed: asyncio.Event
        self._opening: asyncio.Task[object]
        self.client: Client

    def start(self, on_end: Callable[[], None]) -> None:
        """Start the thread, which connects, and calls ``on_end`` at its end.

        Does not wait for the connection. Raises :class:`kps.ConnectFailed`.
        """
        self._on_end = on_end
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no more threads
            raise ConnectFailed(f"the channel layer has no thread: {error}") from error
        self._started.wait()
        if self._is_closed:
            raise ConnectFailed("the channel layer's thread has failed")

    @property
    def is_spent(self) -> bool:
        """Whether the client has ended for good, and another one may try again."""
        return self._reason is not None and time.monotonic() - self._over_since >= _PAUSE

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the client's loop, and return its result, from any other loop.

        Cancelling the caller cancels it. Raises :class:`kps.ClientClosed` after ``close``.
        """
        with self._lock:
            if self._is_closed:
                work.close()
                raise ClientClosed("the channel layer was closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and (task is None or not task.cancelling()):
                raise ClientClosed("the channel layer was closed") from None
            raise

    def close(self) -> None:
        """Write what was accepted, close the connection, and wait for the end of the thread."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def leave(self, last: Coroutine[Any, Any, object], then: Callable[[], None]) -> None:
        """End by itself after ``last``, and call ``then``. Any thread may call; none waits."""

        async def go() -> None:
            try:
                await last
            finally:
                self._end.set()
                then()

        if self._is_closed:  # its thread has failed
            last.close()
        else:
            asyncio.run_coroutine_threadsafe(go(), self._loop)

    # -- on the loop of the client --------------------------------------------------------------

    async def opened(self) -> Client:
        """Return the client, once it has been connected; wait as long as that takes.

        Raises why it cannot be: :class:`kps.ConnectFailed`, :class:`kps.ServerError`.
        """
        try:
            await asyncio.shield(self._opening)
        except KPSError as error:
            raise copy(error) from None
        return self.client

    async def connected(self) -> Client:
        """Return the client when it is connected; wait for that for up to ``timeout`` seconds.

        Raises :class:`kps.NotConnected` after that time, which tells why the latest attempt has
        failed; as ``opened``, and why the client has ended.
        """
        client = self.client
        if client.is_connected:
            return client
        try:
            async with asyncio.timeout(self._timeout):
                await self.opened()
                while not client.is_connected and self._reason is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            why = client._session.state.failure
            raise NotConnected(
                f"the bus at {self._address} could not be reached for {self._timeout:g} s"
                + (f": {why}" if why else "")
            ) from None
        if self._reason is not None:
            raise copy(self._reason)  # each caller has its own traceback
        return client

    def _work(self) -> None:
        try:
            run(self._main())
        finally:
            self._is_closed = True
            self._started.set()
            self._on_end()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end, self._changed = asyncio.Event(), asyncio.Event()

        async def on_change(*_: object) -> None:
            self._changed.set()

        async def on_close() -> None:
            if self._is_closed:
                return  # the program has done it
            reason = self.client._end_of_messages()
            if not isinstance(reason, ConnectFailed | ServerError):
                reason = ClientClosed(f"the client has ended: {reason}")
            self._over_since = time.monotonic()
            self._reason = reason
            self._changed.set()
            self._on_over(reason)

        options: ClientOptions = {
            "reconnect": _RECONNECT,
            **self._options,
            "on_id": self._on_direct,
            "on_connect": on_change,
            "on_lost": self._on_lost,
            "on_close": on_close,
        }
        self.client = Client(self._address, **options)
        self._opening = asyncio.ensure_future(self.client.__aenter__())
        serving = asyncio.ensure_future(self._serve())
        self._started.set()
        await self._end.wait()
        tasks = (serving, self._opening)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()
