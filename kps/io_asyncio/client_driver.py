"""The asyncio driver of a client: connects, writes, and closes."""

import asyncio

from kps.io_asyncio.connection import Connection
from kps.io_asyncio.driver import Driver, Face
from kps.io_asyncio.ending import Ending
from kps.io_asyncio.runtime import Runtime
from kps.io_asyncio.workers import quiet
from kps.io_common.client_options import HIGH_WATER, ClientSettings
from kps.io_common.system_errors import describe
from kps.protocol.client.session import ClientSession
from kps.protocol.wire.endpoint import Endpoint

_AT_ONCE = 16  # publications between two turns in which we count them


class ClientDriver(Driver):
    """Runs the session of a client on the event loop."""

    def __init__(self, face: Face, runtime: Runtime, settings: ClientSettings) -> None:
        super().__init__(face, runtime, settings.config.limits)
        self.session = ClientSession(
            settings.config,
            entropy=runtime.entropy,
            chance=runtime.chance,
            now=0.0,  # its time begins with the start
        )
        self._core = self.session
        self._subscriptions = self.session.subscriptions
        self.is_closing = False
        self.wanting_room = 0
        """Number of callers that wait until the queue has drained."""
        self.connections: set[Connection] = set()
        self._settings = settings
        self._connecting: asyncio.Task[None] | None = None
        self._ending = Ending()
        self._dropped_before = 0
        self._at_once = 0
        """Publications that leave at once, until we count again how many a turn has."""
        self._is_counting = False

    def open(self) -> None:
        """Start connecting. Raises :class:`kps.InvalidState` the second time."""
        self.start()
        self.session.on_resume = self.progress
        if self._settings.on_id is not None:
            self.attach(self.session.subscriptions.open_direct(), self._settings.on_id)
        self.step()

    def connect(self) -> None:
        """Open a connection, in answer to ``ConnectNeeded``."""
        self._connecting = quiet(self.runtime.loop.create_task(self._connect()))

    async def close(self, timeout: float | None) -> int:
        """Close the connection behind the queued data, and end callbacks.

        Return the number of messages that could not be written within the timeout. Another call
        can only shorten it.
        """
        if not self.is_closing:
            self.is_closing = True
            self._dropped_before = self.session.dropped
        self.session.close(self.clock(), timeout)
        if self._ending.is_under_way:
            self.progress()
        await self._ending.finish(self._close)
        return self.session.dropped - self._dropped_before

    def hurry(self, timeout: float) -> None:
        """Begin to close the connection, within the timeout, and leave the rest to ``close``."""
        self.session.close(self.clock(), timeout)
        self.progress()

    async def _close(self) -> None:
        limit, waiting = self._limits.close_timeout, self._ending.waiting
        try:
            self.step_now()
            if self._connecting is not None:
                self._connecting.cancel()
                await asyncio.gather(self._connecting, return_exceptions=True)
            self.news.announce()
            await self.news.until(lambda: self.session.ended is not None and not self.connections)
            await self.dispatcher.finish_notices(limit, waiting)
        finally:
            for connection in list(self.connections):  # the loop ends, and has cancelled this
                connection.abort()
            await self.dispatcher.close(limit, waiting)
            self.alarm.stop()

    async def _connect(self) -> None:
        settings = self._settings
        connection = Connection(self.runtime.loop, self, self.clock, self.runtime.stopwatch)
        try:
            self.session.renew_token()
            await self.runtime.connect(
                lambda: connection, settings.address, settings.tls, settings.connect_timeout
            )
        except BaseException as error:  # whatever it is: nobody else would hear of it
            if connection in self.connections:
                connection.drop()  # the loop opened it, and gave up: it may not tell us
            elif not _is_cancelled(error):
                is_late = issubclass(type(error), TimeoutError)
                self._connect_failed("no answer in time" if is_late else describe(error))
            if _is_cancelled(error):
                raise

    def _connect_failed(self, reason: str) -> None:
        self.session.connect_failed(reason, self.clock())
        self.progress()
        self.news.announce()

    def flush_soon(self) -> None:
        if self._at_once:
            self._at_once -= 1
            self.step_now()
        else:
            self._is_counting = True
            self.progress()

    def has_read(self) -> None:
        """Take a step after a read."""
        self.step_now(is_read=True)

    def _earliest(self) -> float:
        return self.session.state.deadlines.earliest

    def _flush(self) -> None:
        if self._is_counting:
            self._is_counting = False
            outgoing = self.session.state.batching
            batch = outgoing.batch if outgoing is not None else None
            # Where a turn has one publication, it need not wait for the end of the turn.
            self._at_once = _AT_ONCE if batch is not None and batch.count == 1 else 0
        for connection in list(self.connections):
            connection.flush()
        if self.wanting_room and self.session.backlog <= HIGH_WATER:
            self.news.announce()

    # -- called by connections ------------------------------------------------------------

    def _attach(self, connection: Connection, peer: str) -> Endpoint:
        try:
            endpoint = self.session.connected(self.clock())
        except BaseException as error:
            self._connect_failed(describe(error))
            raise
        self.connections.add(connection)
        return endpoint

    def _touch(self, connection: Connection) -> None:
        pass  # each step flushes all of them, which are very few

    def _detach(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.news.announce()


def _is_cancelled(error: BaseException) -> bool:
    """Tell whether an exception ends the current task because somebody has cancelled it."""
    if not issubclass(type(error), asyncio.CancelledError):  # a program's may refuse ``isinstance``
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
