# Made from kps/io_asyncio/traced.py by tools/unasync.py: edit that one.

"""The verbs of a client or server with spans around them: see :mod:`kps.otel`.

A participant with the option ``tracing`` becomes one of a class made of these and its own. So one
without the option takes no step for them.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from time import time_ns
from types import new_class
from typing import Any, TypeVar

from kps.errors import Unsupported
from kps.io_common.hooks import Callback
from kps.io_sync.ack import Ack
from kps.io_sync.participant import Participant
from kps.io_sync.traced_callback import traced
from kps.otel import REQUEST, SEND, Carried, Sending, Spans
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.dialect.codes import HEADERS
from kps.protocol.patterns import group_of

T = TypeVar("T")
Headers = Mapping[str, str] | None


class Traced(Participant):
    """The verbs that client and server share. Their other options go through as they are.

    What comes next in the order of classes has them all.
    """

    _spans: Spans
    _under_way: dict[AckHandle, Sending]
    """The spans of ack requests that have not ended."""

    @classmethod
    def trace(cls, participant: Participant, spans: Spans) -> None:
        """Put spans around the verbs and callbacks of a participant that has not started."""

        def around(mailbox: Mailbox, callback: Callback) -> Callback:
            where, group = mailbox.topic, group_of(mailbox.key)
            return traced(callback, partial(spans.processing, where=where, group=group))

        participant._driver.around = around
        participant.__class__ = _made_of(cls, type(participant))
        assert isinstance(participant, cls)
        participant._spans = spans
        participant._under_way = {}

    def publish(self, topic: str, data: Any, *, headers: Headers = None) -> Any:
        begin = partial(self._spans.to_topic, SEND, topic, "")
        send = partial(super().publish, topic, data)  # type: ignore[safe-super]
        return self._send(begin, send, headers)

    def publish_to_id(self, client_id: str, data: Any, *, headers: Headers = None) -> Any:
        begin = partial(self._spans.to_id, SEND, client_id, "")
        send = partial(super().publish_to_id, client_id, data)  # type: ignore[safe-super]
        return self._send(begin, send, headers)

    def publish_with_ack(
        self,
        topic: str,
        data: Any,
        timeout: float = 5.0,
        *,
        headers: Headers = None,
        **options: Any,
    ) -> Ack[Any]:
        begin = partial(self._spans.to_topic, SEND, topic, options.get("message_id", ""))
        publish = super().publish_with_ack  # type: ignore[safe-super]
        send = partial(publish, topic, data, timeout, **options)
        return self._send_with_ack(begin, send, headers)

    def publish_to_id_with_ack(
        self,
        client_id: str,
        data: Any,
        timeout: float = 5.0,
        *,
        headers: Headers = None,
        **options: Any,
    ) -> Ack[Any]:
        begin = partial(self._spans.to_id, SEND, client_id, options.get("message_id", ""))
        publish = super().publish_to_id_with_ack  # type: ignore[safe-super]
        send = partial(publish, client_id, data, timeout, **options)
        return self._send_with_ack(begin, send, headers)

    def request(
        self,
        topic: str,
        data: Any,
        timeout: float = 5.0,
        *,
        headers: Headers = None,
        **options: Any,
    ) -> Any:
        begin = partial(self._spans.to_topic, REQUEST, topic, options.get("message_id", ""))
        send = partial(super().request, topic, data, timeout, **options)
        return self._send(begin, send, headers)

    def request_to_id(
        self,
        client_id: str,
        data: Any,
        timeout: float = 5.0,
        *,
        headers: Headers = None,
        **options: Any,
    ) -> Any:
        begin = partial(self._spans.to_id, REQUEST, client_id, options.get("message_id", ""))
        send = partial(super().request_to_id, client_id, data, timeout, **options)
        return self._send(begin, send, headers)

    def _send(
        self,
        begin: Callable[[Headers], Sending],
        send: Callable[..., T],
        headers: Headers,
    ) -> T:
        """Send something within a span, unless it belongs to what has one."""
        if type(headers) is Carried:  # a request publishes with ack
            return send(headers=headers)
        with begin(headers) as sending:
            return _carry(send, headers, sending)

    def _send_with_ack(
        self,
        begin: Callable[[Headers], Sending],
        send: Callable[..., Ack[Any]],
        headers: Headers,
    ) -> Ack[Any]:
        """Do the same, with a span that lasts as long as the ack request."""
        if type(headers) is Carried:
            return send(headers=headers)
        with begin(headers) as sending:
            ack = _carry(send, headers, sending)
            sending.keep()
        if self._has_ended(ack._handle, sending):
            self._end_span(ack._handle)
        return ack

    def _has_ended(self, handle: AckHandle, sending: Sending) -> bool:
        """Keep the span of an ack request; tell whether that has ended already."""
        with self._driver.lock:
            self._under_way[handle] = sending
            return handle.finished

    def _ack_changed(self, handle: AckHandle) -> None:
        if handle.finished and handle in self._under_way:
            # An exporter may do anything, so it is called where hooks are.
            self._driver.dispatcher.notify(self._end_span, handle, time_ns())
        super()._ack_changed(handle)

    def _end_span(self, handle: AckHandle, at: int | None = None) -> None:
        """End the span of an ack request that has ended, unless somebody else does."""
        sending = self._under_way.pop(handle, None)
        if sending is not None:
            sending.settle(handle, at)


@cache
def _made_of(verbs: type[Traced], kind: type[Participant]) -> type[Participant]:
    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
    }
    return new_class(kind.__name__, (verbs, kind), exec_body=lambda body: body.update(names))


def _carry(send: Callable[..., T], given: Headers, sending: Sending) -> T:
    """Send something with the headers of its span, if the server knows headers."""
    try:
        return send(headers=sending.headers)
    except Unsupported as error:
        if given or error.feature != HEADERS:
            raise
    return send(headers=Carried())  # nothing was sent before
