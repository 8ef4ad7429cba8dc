"""What the tests of tracing share: spans that are kept in memory, and how they look as a tree."""

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import kps

Shown = tuple[Any, ...]
"""A span as its name, with its client and status if they matter, and its children."""


def by_name(span: ReadableSpan) -> str:
    name: str = span.name
    return name


def with_client(span: ReadableSpan) -> str:
    """The name of a span, and whose it is."""
    return f"{about(span).get('messaging.client.id', '-')}: {span.name}"


class Spans:
    """Makes options for tracing, and keeps the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def tracing(self, **options: Any) -> kps.otel.Tracing:
        return kps.otel.Tracing(tracer_provider=self.provider, **options)

    def ended(self) -> list[ReadableSpan]:
        """Those that have ended, in the order of their beginning."""
        return sorted(self._exporter.get_finished_spans(), key=lambda one: one.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        """The only one of a name."""
        (found,) = [one for one in self.ended() if one.name == name]
        return found

    def names(self) -> list[str]:
        return sorted(one.name for one in self.ended())

    def clear(self) -> None:
        self._exporter.clear()

    def trees(self, show: Callable[[ReadableSpan], str] = by_name) -> list[Shown]:
        """All traces, each as ``(name, child, …)``, sorted."""
        spans = self.ended()
        ids = {id_of(one) for one in spans}
        return sorted(
            _tree(one, spans, show)
            for one in spans
            if one.parent is None or one.parent.span_id not in ids
        )


def _tree(
    span: ReadableSpan, spans: list[ReadableSpan], show: Callable[[ReadableSpan], str]
) -> Shown:
    children = [one for one in spans if one.parent and one.parent.span_id == id_of(span)]
    assert all(one.context.trace_id == span.context.trace_id for one in children)
    return (show(span), *sorted(_tree(one, spans, show) for one in children))


def id_of(span: ReadableSpan) -> int:
    found: int = span.context.span_id
    return found


def about(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span."""
    return dict(span.attributes or {})


def failures(span: ReadableSpan) -> list[tuple[Any, ...]]:
    """Who has failed, and why, as the events of a span tell it; with the group of an attempt."""
    return [
        tuple((event.attributes or {}).values()) for event in span.events if event.name == "failure"
    ]


def recorded(span: ReadableSpan) -> list[Any]:
    """The texts of the exceptions that a span has recorded."""
    return [
        (event.attributes or {})["exception.message"]
        for event in span.events
        if event.name == "exception"
    ]
