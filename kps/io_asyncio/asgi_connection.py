"""Carries the messages of one client between a server of ASGI and the core."""

import asyncio

from kps.io_asyncio.asgi_carrier import AsgiCarrier
from kps.io_asyncio.asgi_http import fields_of
from kps.io_asyncio.asgi_scope import Receive, ScopedRequest, Send
from kps.io_asyncio.server_driver import ServerDriver
from kps.protocol.server.message_connection import MessageConnection
from kps.protocol.wire.controls import CloseReceived
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.websocket import Output

_AT_ONCE = 64 * 1024
"""Bytes of messages that leave the core's queue at once. All data beyond them stays there, where it
is counted and where the overflow policy acts."""

_NO_CODE = 1005  # of a close frame without a code

_KEEP = Output.KEEP
_ABORT = Output.ABORT


class AsgiConnection(AsgiCarrier):
    """Moves messages, and decides nothing.

    ``run`` reads in the task of the application. One more task writes: it takes messages from the
    core when the server has taken the former ones.
    """

    __slots__ = ("_has_responses", "_has_written", "_reader_waits", "_writer_waits")

    def __init__(
        self, driver: ServerDriver, endpoint: MessageConnection, send: Send, *, has_responses: bool
    ) -> None:
        super().__init__(driver, endpoint, send)
        self._has_responses = has_responses  # whether the server takes answers besides 403
        self._writer_waits: asyncio.Future[None] | None = None  # while there is nothing to write
        self._reader_waits: asyncio.Future[None] | None = None  # while the core wants no messages
        self._has_written = False

    async def run(self, request: ScopedRequest, receive: Receive) -> None:
        """Carry messages until either side ends the connection."""
        driver, endpoint = self._driver, self._endpoint
        self._take_in()
        writer: asyncio.Task[None] | None = None
        try:
            async with self._patience:
                endpoint.begin(request, driver.clock())
                writer = driver.runtime.loop.create_task(self._write())
                writer.add_done_callback(lambda _: self.abort())
                driver.progress()
                await self._read(receive)
        except TimeoutError:
            if not self._patience.expired():
                raise
        finally:
            if writer is not None:
                writer.cancel()
            self._let_go()

    # -- called by the driver ---------------------------------------------------------------

    def flush(self) -> int:
        """Let the writer and the reader go on. Return 0, as nothing is written at once."""
        is_writing = self._writer_waits is None
        if not is_writing:
            _wake(self._writer_waits)
        elif self._endpoint.output is _ABORT and self._has_written:
            self.abort()  # the peer takes nothing
        if self._reader_waits is not None and not self._endpoint.wants_pause:
            _wake(self._reader_waits)
        return 0

    # -- within -----------------------------------------------------------------------------

    async def _read(self, receive: Receive) -> None:
        endpoint, driver = self._endpoint, self._driver
        while True:
            message = await receive()
            match message["type"]:
                case "websocket.receive":
                    text = message.get("text")
                    if text is not None:
                        endpoint.receive_text(text, driver.clock())
                    else:
                        endpoint.receive_bytes(message["bytes"], driver.clock())
                    driver.has_read()
                    if endpoint.wants_pause:
                        await self._pause()
                case "websocket.disconnect":
                    code, reason = message.get("code", _NO_CODE), message.get("reason") or ""
                    if code == _NO_CODE and "reason" not in message:
                        # So uvicorn tells of a dead socket; after a close frame it gives a reason,
                        # if only an empty one.
                        return
                    endpoint.peer_closed(code, reason, driver.clock())
                    return

    async def _pause(self) -> None:
        """Take no messages until the core wants some again."""
        driver, endpoint = self._driver, self._endpoint
        self._reader_waits = driver.runtime.loop.create_future()
        endpoint.set_reading(False, driver.clock())
        driver.progress()
        await self._reader_waits
        self._reader_waits = None
        endpoint.set_reading(True, driver.clock())

    async def _write(self) -> None:
        """Write what the core has until one side closes."""
        endpoint = self._endpoint
        try:
            while not endpoint.is_accepted:
                if endpoint.output is not _KEEP:
                    await self._refuse(endpoint.answer)
                    return
                await self._wait_for_output()
            self._has_written = True
            await self._send({"type": "websocket.accept"})
            while await self._write_some():
                pass
        except asyncio.CancelledError:
            raise
        except Exception:  # each server raises what it likes when the connection is lost
            return

    async def _write_some(self) -> bool:
        """Write what is pending, or wait for something; tell whether to go on."""
        endpoint, is_idle = self._endpoint, True
        for item in endpoint.take(_AT_ONCE):
            is_idle = False
            if isinstance(item, CloseReceived):
                await self._close(item.code, item.reason)
                return False
            await self._send({"type": "websocket.send", "text": item})
        if not is_idle:
            self._driver.progress()  # there is room now, for which others may wait
            if self._reader_waits is not None and not endpoint.wants_pause:
                _wake(self._reader_waits)
        elif endpoint.output is not _KEEP:
            await self._close(1011, "")  # the client may come again
            return False
        else:
            await self._wait_for_output()
        return True

    async def _wait_for_output(self) -> None:
        """Wait until ``flush`` says that the core may have something to write."""
        self._writer_waits = self._driver.runtime.loop.create_future()
        try:
            await self._writer_waits
        finally:
            self._writer_waits = None

    async def _close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _refuse(self, answer: HttpResponse | None) -> None:
        if answer is None or not self._has_responses:
            await self._close(1008, "")  # which is 403 to the client
            return
        start = {
            "type": "websocket.http.response.start",
            "status": answer.status,
            "headers": fields_of(answer),
        }
        await self._send(start)
        await self._send({"type": "websocket.http.response.body", "body": answer.body})


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
