"""The blocking client, and what it shares with the others. No event loop is imported here."""

import importlib
from collections.abc import Callable
from typing import Any

PAYLOAD = {"n": 1234567, "text": "x" * 43}
"""What every benchmark publishes: 66 bytes of JSON."""

Receive = Callable[[Any], None]
"""Takes the payload of each message."""


class BlockingKps:
    """``kps.sync.Client``, which has no event loop."""

    def __init__(self, *, inline: bool = False) -> None:
        self._inline = inline

    def connect(self, address: str) -> None:
        self._client = importlib.import_module("kps.sync").Client.connect(address)

    def subscribe(self, topic: str, receive: Receive) -> None:
        self._client.subscribe(topic, lambda message: receive(message.data), inline=self._inline)

    def messages(self, topic: str) -> Any:
        """An iterator of messages in place of a callback."""
        return self._client.subscribe(topic)

    def publisher(self, topic: str) -> Callable[[], None]:
        publish = self._client.publish
        return lambda: publish(topic, PAYLOAD)

    def ask(self, topic: str) -> Any:
        """Publish one message, and return what can be waited for."""
        return self._client.publish_with_ack(topic, PAYLOAD)

    def flush(self) -> None:
        self._client.flush()
