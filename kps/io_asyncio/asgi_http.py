"""Answers plain requests that a server of ASGI passes on: pages, figures, and what uses the bus."""

import asyncio

from kps.io_asyncio.asgi_carrier import AsgiCarrier
from kps.io_asyncio.asgi_scope import Receive, ScopedRequest, Send
from kps.io_asyncio.asgi_streams import OpenStreams
from kps.io_asyncio.server_driver import ServerDriver
from kps.protocol.server.message_connection import MessageConnection
from kps.protocol.wire.http import WITHOUT_BODY, HttpResponse
from kps.protocol.wire.websocket import Output

_AT_ONCE = 64 * 1024  # bytes of a stream that leave the core's queue at once
_OVERLOADED = HttpResponse.text(503, "too many connections")


class AsgiExchange(AsgiCarrier):
    """One request and its answer: a response, which may have to be found, or a stream of bytes.

    ``run`` writes in the task of the application. One more task reads the body, and notices that
    the client has gone.
    """

    __slots__ = ("_for_reader", "_for_writer", "_streams")

    def __init__(
        self, driver: ServerDriver, endpoint: MessageConnection, send: Send, streams: OpenStreams
    ) -> None:
        super().__init__(driver, endpoint, send)
        self._streams = streams
        self._for_reader, self._for_writer = asyncio.Event(), asyncio.Event()
        """There is something new."""

    async def run(self, request: ScopedRequest, receive: Receive) -> None:
        """Answer a request."""
        driver, endpoint = self._driver, self._endpoint
        self._take_in()
        reader = driver.runtime.loop.create_task(self._read(receive))
        reader.add_done_callback(self._has_read)
        try:
            async with self._patience:
                endpoint.begin(request, driver.clock())
                driver.progress()
                await self._write(is_head=request.method == "HEAD")
        except OSError:  # the client has gone: also a TimeoutError, that of ``abort``
            if reader.done():
                reader.result()  # raises what went wrong there, if that is why
        finally:
            reader.cancel()
            self._let_go()

    # -- called by the driver ---------------------------------------------------------------

    def flush(self) -> int:
        """Let reader and writer go on. Return 0, as nothing is written at once."""
        self._wake()
        if self._endpoint.output is Output.ABORT:
            self.abort()  # the client takes nothing
        return 0

    # -- within -----------------------------------------------------------------------------

    def _wake(self) -> None:
        self._for_reader.set()
        self._for_writer.set()

    async def _read(self, receive: Receive) -> None:
        endpoint, driver = self._endpoint, self._driver
        while not (endpoint.wants_body or endpoint.head is not None):
            if endpoint.output is not Output.KEEP:
                return
            await _next(self._for_reader)
        while (message := await receive())["type"] == "http.request":
            part, is_last = message.get("body", b""), not message.get("more_body", False)
            endpoint.receive_body(part, driver.clock(), is_last=is_last)
            driver.progress()
        self.abort()  # the client has gone

    def _has_read(self, reader: asyncio.Task[None]) -> None:
        """End if reading has failed: nothing would tell that the client has gone."""
        if not reader.cancelled() and reader.exception() is not None:
            self.abort()

    async def _write(self, *, is_head: bool) -> None:
        endpoint, send = self._endpoint, self._send
        while endpoint.output is Output.KEEP and endpoint.head is None:
            await _next(self._for_writer)
        if endpoint.head is None:
            await answer(endpoint.answer or _OVERLOADED, send, is_head=is_head)
            return
        with self._streams.has(endpoint.number):
            await self._stream(endpoint.head)

    async def _stream(self, head: HttpResponse) -> None:
        endpoint, send = self._endpoint, self._send
        fields = fields_of(head, has_length=False)
        await send({"type": "http.response.start", "status": head.status, "headers": fields})
        while True:
            if data := endpoint.data_to_send(_AT_ONCE):
                await send({"type": "http.response.body", "body": data, "more_body": True})
                self._driver.progress()  # there is room now, for which others may wait
            elif endpoint.output is not Output.KEEP:
                break
            else:
                await _next(self._for_writer)
        await send({"type": "http.response.body", "body": b""})


async def _next(news: asyncio.Event) -> None:
    """Wait for something new."""
    news.clear()
    await news.wait()


async def answer(response: HttpResponse, send: Send, *, is_head: bool) -> None:
    """Send an answer."""
    # The length of an answer without its body is that of the body, if there would be one.
    fields = fields_of(response, has_length=bool(response.body) or not is_head)
    await send({"type": "http.response.start", "status": response.status, "headers": fields})
    await send({"type": "http.response.body", "body": b"" if is_head else response.body})


def fields_of(response: HttpResponse, *, has_length: bool = True) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer."""
    fields = list(response.headers)
    if response.status not in WITHOUT_BODY:
        fields.append(("content-type", response.content_type))
        if has_length:
            fields.append(("content-length", str(len(response.body))))
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]
