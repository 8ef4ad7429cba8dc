"""Answers plain requests that a server of ASGI passes on: pages, figures, health."""

from kps.io_asyncio.asgi_scope import ScopedRequest, Send
from kps.io_asyncio.server_driver import ServerDriver
from kps.protocol.server.message_connection import MessageConnection
from kps.protocol.wire.http import WITHOUT_BODY, HttpResponse
from kps.protocol.wire.websocket import Output

_OVERLOADED = HttpResponse.text(503, "too many connections")


class AsgiExchange:
    """One request and its answer, which may have to be found first."""

    __slots__ = ("__weakref__", "_answered", "_driver", "_endpoint")

    def __init__(self, driver: ServerDriver, endpoint: MessageConnection) -> None:
        self._driver = driver
        self._endpoint = endpoint
        self._answered = driver.runtime.loop.create_future()

    async def run(self, request: ScopedRequest, send: Send) -> None:
        """Answer a request."""
        driver, endpoint = self._driver, self._endpoint
        driver.take_in(self, endpoint)
        try:
            endpoint.begin(request, driver.clock())
            driver.progress()
            await self._answered
            await answer(endpoint.answer or _OVERLOADED, send, is_head=request.method == "HEAD")
        finally:
            endpoint.connection_lost(driver.clock())
            driver._detach(self)
            driver.progress()

    def flush(self) -> int:
        """Note that the answer is there, if it is."""
        if self._endpoint.output is not Output.KEEP:
            self.abort()
        return 0

    def abort(self) -> None:
        """Answer now."""
        if not self._answered.done():
            self._answered.set_result(None)


async def answer(response: HttpResponse, send: Send, *, is_head: bool) -> None:
    """Send an answer."""
    fields = fields_of(response)
    await send({"type": "http.response.start", "status": response.status, "headers": fields})
    await send({"type": "http.response.body", "body": b"" if is_head else response.body})


def fields_of(response: HttpResponse) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer."""
    fields = list(response.headers)
    if response.status not in WITHOUT_BODY:
        fields += [
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
        ]
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]
