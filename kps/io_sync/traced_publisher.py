# Made from kps/io_asyncio/traced_publisher.py by tools/unasync.py: edit that one.

"""What only a client has of the verbs with spans."""

from functools import partial
from typing import Any

from kps.io_sync.publisher import Publisher
from kps.io_sync.traced import Headers, Traced
from kps.otel import SEND
from kps.protocol.dialect.outcome import Receipt


class TracedPublisher(Traced, Publisher):
    """The verbs of a client with spans around them."""

    def publish_with_receipt(
        self, topic: str, data: Any, *, headers: Headers = None, message_id: str = ""
    ) -> Receipt | None:
        begin = partial(self._spans.to_topic, SEND, topic, message_id)
        send = partial(super().publish_with_receipt, topic, data, message_id=message_id)
        return self._send(begin, send, headers)
