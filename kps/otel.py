"""Tracing by OpenTelemetry: spans of what a program sends, and of what its callbacks handle.

::

    client = await kps.Client.connect("localhost:9313", tracing=kps.otel.Tracing())

The context goes with each message in its headers, so publisher and subscriber share one trace.
This needs the extra ``kps[otel]``, which is the API of OpenTelemetry. Without an SDK, which a
program brings and sets up itself, that makes no spans, but it still passes a context on.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from itertools import islice
from types import TracebackType
from typing import Any, Protocol

from kps.errors import InvalidArgument, InvalidState, RequestFailed
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.given import check_headers
from kps.protocol.bus.message import Message
from kps.protocol.dialect.outcome import GroupResponse, in_words
from kps.protocol.limits import check_switch, shown
from kps.version import __version__

try:
    from opentelemetry import context, propagate, trace
except ModuleNotFoundError:
    _is_installed = False  # ``Tracing()`` raises
else:
    _is_installed = True

__all__ = ["Tracing"]

SEND = "send"
"""The operation of a span for what is published or sent, whether acks are wanted or not."""
REQUEST = "request"
"""That of a span for what somebody answers, for whom the caller waits."""

_MOST_EVENTS = 32  # failures that a span tells of one by one
_HEADERS = 4096  # bytes, as many as a server takes by default


class Subscribed(Protocol):
    """What a message was iterated from: :class:`kps.Messages`."""

    @property
    def topic(self) -> str: ...

    @property
    def group(self) -> str: ...


class Tracing:
    """The option ``tracing`` of clients and servers. Several of them may share one.

    What the program sends has a span of the kind ``PRODUCER`` (``send TOPIC``), or ``CLIENT``
    (``request TOPIC``). Its context goes into the message's headers, by the propagator that is
    configured. What a callback handles has one of the kind ``CONSUMER`` (``process TOPIC``), which
    is the current one while the callback runs. For messages that the program iterates over there
    is ``process``.

    Args:
        links: Whether the span of a callback begins a trace of its own, which is linked to that of
            the publisher. By default it is a child of the publisher's span.
        template: Called with a topic, returns what stands for it in the names of spans, or
            ``None`` for nothing. Give one if topics have ids in them, because a trace store wants
            few different names. Without it, that is the topic, and for a subscription to a pattern
            the pattern. It must not raise. Ids of clients are never in names.
        tracer_provider: Where the spans go; by default to the global one.
        max_headers: Bytes of JSON that the headers of a message may have, as the server's
            ``max_headers`` says. Where there is no room for the context, a message goes without.

    Raises :class:`kps.InvalidState` if the API of OpenTelemetry is not installed, and
    :class:`kps.InvalidArgument` for options that make no sense.
    """

    def __init__(
        self,
        *,
        links: bool = False,
        template: Callable[[str], str | None] | None = None,
        tracer_provider: "trace.TracerProvider | None" = None,
        max_headers: int = _HEADERS,
    ) -> None:
        if not _is_installed:
            raise InvalidState("tracing needs OpenTelemetry: pip install opentelemetry-api")
        if template is not None and not callable(template):
            raise InvalidArgument(f"template is a function, not {shown(template)}")
        if tracer_provider is not None and not isinstance(tracer_provider, trace.TracerProvider):
            raise InvalidArgument(f"tracer_provider is a provider, not {shown(tracer_provider)}")
        if type(max_headers) is not int or max_headers < 0:
            raise InvalidArgument(f"max_headers is a number of bytes, not {shown(max_headers)}")
        self._links = check_switch("links", links)
        self._template = template
        self._tracer = trace.get_tracer("kps", __version__, tracer_provider)
        self._max_headers = max_headers

    def process(
        self, message: Message[Any], subscription: Subscribed | None = None
    ) -> "AbstractContextManager[trace.Span]":
        """Return the span of a message that the program has iterated to, for a ``with`` block.

        ::

            async for message in (orders := client.subscribe("orders")):
                with tracing.process(message, orders):
                    ...

        An exception that leaves the block is recorded, and goes on. ``subscription`` tells the
        group and the pattern. If another span is current, this one has a link to that, or with
        ``links`` is a child of it.
        """
        where = message.topic if subscription is None else subscription.topic
        group = "" if subscription is None else subscription.group
        return Spans(self, lambda: "").processing(message, where, group, context.get_current())


class Carried(dict[str, str]):
    """The headers of something that has its span. What is sent with them gets no other one."""


class Spans:
    """Makes the spans of one client, or of the program of one server."""

    __slots__ = ("_client_id", "_common", "_links", "_max_headers", "_template", "_tracer")

    def __init__(
        self, tracing: Tracing, client_id: Callable[[], str], host: str = "", port: int = 0
    ) -> None:
        self._client_id = client_id
        self._tracer = tracing._tracer
        self._template = tracing._template
        self._links = tracing._links
        self._max_headers = tracing._max_headers
        self._common: dict[str, str | int] = {"messaging.system": "kps"}
        if host:
            self._common |= {"server.address": host, "server.port": port}

    def to_topic(
        self,
        operation: str,
        topic: str,
        message_id: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> "Sending":
        """Begin the span of a message to a topic. Raises :class:`kps.InvalidArgument`."""
        known = topic if isinstance(topic, str) else ""  # what is no topic is refused later
        name, about = self._named(operation, known, known)
        return self._sending(operation, name, about, message_id, headers)

    def to_id(
        self,
        operation: str,
        client_id: str,
        message_id: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> "Sending":
        """Begin the span of a direct message. Raises :class:`kps.InvalidArgument`."""
        known = client_id if isinstance(client_id, str) else ""
        about: dict[str, str | int] = {"messaging.destination.name": known}
        return self._sending(operation, operation, about, message_id, headers)

    def processing(
        self,
        message: Message[Any],
        where: str,
        group: str = "",
        ambient: "context.Context | None" = None,
    ) -> "Processing":
        """Begin the span of a message that was received by a subscription to ``where``.

        Callbacks have no ``ambient`` context: what was current when the program subscribed has
        nothing to do with the message.
        """
        about: dict[str, str | int]
        if message.topic:
            name, about = self._named("process", message.topic, where)
        else:
            name, about = "process", {"messaging.destination.name": self._client_id()}
        if group:
            about["messaging.consumer.group.name"] = group
        if message.attempt > 1:
            about["messaging.kps.message.attempt"] = message.attempt
        if message.size:
            about["messaging.message.envelope.size"] = message.size
        around = context.Context() if ambient is None else ambient
        headers = message.headers
        parent = propagate.extract(headers, around) if headers else around
        links = []
        publisher, here = _span_in(parent), _span_in(around)
        if publisher.is_valid and publisher != here:
            other = publisher if self._links else here
            links = [trace.Link(other)] if other.is_valid else []
        span = self._tracer.start_span(
            name,
            around if self._links else parent,
            trace.SpanKind.CONSUMER,
            self._attributes("process", "process", about),
            links,
        )
        return Processing(span, trace.set_span_in_context(span, parent))

    def _sending(
        self,
        operation: str,
        name: str,
        about: dict[str, str | int],
        message_id: str,
        given: Mapping[str, str] | None,
    ) -> "Sending":
        size = len(check_headers(given))
        kind, links = trace.SpanKind.PRODUCER, []
        if given:
            # A program may give a context of its own, for instance that of a message it passes on.
            own = _span_in(propagate.extract(given, context.Context()))
            if own.is_valid:
                kind, links = trace.SpanKind.CLIENT, [trace.Link(own)]
        if message_id and isinstance(message_id, str):
            about["messaging.message.id"] = message_id
        span = self._tracer.start_span(
            name,
            None,
            trace.SpanKind.CLIENT if operation == REQUEST else kind,
            self._attributes(operation, "send", about),
            links,
        )
        carried, ours = Carried(given or ()), Carried()
        propagate.inject(ours, trace.set_span_in_context(span))
        has_room = size + len(check_headers(ours)) <= self._max_headers
        if has_room and ours.keys().isdisjoint(carried):  # parts of two contexts are none
            carried.update(ours)
        return Sending(span, carried)

    def _named(self, operation: str, topic: str, where: str) -> tuple[str, dict[str, str | int]]:
        """Return the name of a span, and what it tells about the topic."""
        about: dict[str, str | int] = {"messaging.destination.name": topic}
        if self._template is not None:
            where = self._template(topic) or ""
        if where != topic and where:
            about["messaging.destination.template"] = where
        return f"{operation} {where}" if where else operation, about

    def _attributes(
        self, name: str, kind: str, about: dict[str, str | int]
    ) -> dict[str, str | int]:
        about["messaging.operation.name"] = name
        about["messaging.operation.type"] = kind
        if client_id := self._client_id():
            about["messaging.client.id"] = client_id
        return about | self._common


class Sending:
    """The span of something that is sent. It ends with the block, or with its ack request."""

    __slots__ = ("_is_kept", "_span", "headers")

    def __init__(self, span: "trace.Span", headers: Carried) -> None:
        self._span = span
        self._is_kept = False
        self.headers = headers
        """The headers of the message: those of the program, and the context."""

    def __enter__(self) -> "Sending":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if failure is not None:
            _fail(self._span, failure)
        if failure is not None or not self._is_kept:
            self._span.end()

    def keep(self) -> None:
        """Let the span go on behind the block, until ``settle``."""
        self._is_kept = True

    def settle(self, handle: AckHandle, at: int | None) -> None:
        """Tell what has become of the ack request, and end.

        ``at`` is when, in nanoseconds since 1970, unless it is now.
        """
        span = self._span
        if span.is_recording():
            responses = handle.responses
            failed = {name: one for name, one in responses.items() if not one.success}
            span.set_attribute("messaging.kps.receivers", len(responses))
            for response in responses.values():
                if isinstance(response, GroupResponse):
                    _tell_failures(span, response.failures, response.group)
            _tell_failures(span, ((name, one.error or "") for name, one in failed.items()))
            if failed:
                name, first = next(iter(failed.items()))
                many = f"{len(failed)} of {len(responses)} failed"
                _set_error(span, "failed", f"{many}, {name}: {first.error}")
            if handle.error is not None:
                _fail(span, handle.error)
        span.end(at)


class Processing:
    """The span of a message that is handled, the current one within the block."""

    __slots__ = ("_context", "_is_kept", "_span", "_token")

    def __init__(self, span: "trace.Span", within: "context.Context") -> None:
        self._span = span
        self._context = within
        self._is_kept = False
        self._token: Any = None

    def __enter__(self) -> "trace.Span":
        self._token = context.attach(self._context)
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if failure is not None:
            _fail(self._span, failure)
        if kind is not GeneratorExit:  # which comes into a task that is destroyed, from anywhere
            context.detach(self._token)
        if failure is not None or not self._is_kept:
            self._span.end()

    def keep(self) -> "Processing":
        """Let the span go on behind the block, in the block of what this returns."""
        self._is_kept = True
        return Processing(self._span, self._context)


def _span_in(within: "context.Context") -> "trace.SpanContext":
    return trace.get_current_span(within).get_span_context()


def _fail(span: "trace.Span", failure: BaseException) -> None:
    """Record an exception as the failure of a span."""
    if not span.is_recording():
        return
    with suppress(Exception):  # its text may raise
        span.record_exception(failure)
    if issubclass(type(failure), RequestFailed):
        _tell_failures(span, failure.errors.items())  # type: ignore[attr-defined]
    _set_error(span, type(failure).__qualname__, in_words(failure))


def _set_error(span: "trace.Span", kind: str, text: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(trace.Status(trace.StatusCode.ERROR, text))


def _tell_failures(
    span: "trace.Span", failures: Iterable[tuple[str, str]], group: str = ""
) -> None:
    """Add an event for each receiver that has failed, up to a number of them."""
    for receiver, error in islice(failures, _MOST_EVENTS):
        about = {"messaging.kps.receiver": receiver, "messaging.kps.error": error}
        if group:
            about["messaging.consumer.group.name"] = group
        span.add_event("failure", about)
