"""Messages of a client to itself, over a topic."""

import asyncio
import time
import uuid
from typing import Any

from kps.errors import KPSError, RequestTimeout, ServerError
from kps.io_asyncio.client import Client
from kps.protocol.bus.message import Message


class RoundTrip:
    """Measures how long a message takes to the server and back.

    Without a ``topic`` it has one of its own. Other subscribers of a topic get the messages too,
    which are objects with the members ``kps_rtt``, ``number`` and, if they are long, ``padding``.
    """

    def __init__(self, client: Client, topic: str | None = None, size: int = 0) -> None:
        self._client = client
        self._topic = topic or f"kps-rtt-{uuid.uuid4().hex}"
        self._mark = uuid.uuid4().hex
        self._padding = "x" * size
        self._sent = self._arrived = 0
        self._news = asyncio.Event()

    async def begin(self) -> bool:
        """Subscribe, and send a first message; tell whether its node can reach all others.

        Raises :class:`kps.KPSError` if the client may not do that.
        """
        try:
            await self._client.subscribe(self._topic, self._received)
            receipt = await self._client.publish_with_receipt(self._topic, self._next())
        except ServerError as error:
            hint = "; --topic names another one" if error.code == "forbidden" else ""
            raise KPSError(f"cannot use the topic {self._topic!r}: {error}{hint}") from None
        return receipt is None or not receipt.degraded

    async def measure(self, timeout: float) -> float:
        """Send a message and return the seconds to its arrival.

        Raises :class:`kps.RequestTimeout` if it has not arrived in time.
        """
        began = time.perf_counter()
        await self._client.publish(self._topic, self._next())
        try:
            async with asyncio.timeout(timeout):
                while self._arrived < self._sent:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise RequestTimeout(f"a message has not come back within {timeout:g} s") from None
        return time.perf_counter() - began

    def _next(self) -> dict[str, Any]:
        self._sent += 1
        message = {"kps_rtt": self._mark, "number": self._sent}
        return message | ({"padding": self._padding} if self._padding else {})

    async def _received(self, message: Message) -> None:
        data = message.data
        # Not what another subscriber has made of it.
        if isinstance(data, dict) and data.get("kps_rtt") == self._mark:
            number = data.get("number")
            if isinstance(number, int):
                self._arrived = max(self._arrived, number)
                self._news.set()
