"""Traces from publisher to subscriber: an order, and what three other programs do for it.

    pip install '/path/to/the/checkout[otel]' opentelemetry-sdk
    kps serve
    python examples/tracing.py

Argument: optionally the server's address. It prints the spans. With the package
opentelemetry-exporter-otlp-proto-http, and OTEL_EXPORTER_OTLP_ENDPOINT in the environment, it sends
them there (to Jaeger for instance: http://localhost:4318).
"""

import asyncio
import os
import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

import kps


def exporter() -> SpanExporter:
    """Where the spans go."""
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        collector: SpanExporter = OTLPSpanExporter()
        return collector
    return ConsoleSpanExporter(formatter=line)


def line(span: ReadableSpan) -> str:
    """A span in a line, which begins with the ends of two ids: its parent's, and its own."""
    own = f"{span.context.span_id:016x}"[-4:]
    parent = "----" if span.parent is None else f"{span.parent.span_id:016x}"[-4:]
    client = str((span.attributes or {})["messaging.client.id"])
    failure = f": {span.status.description}" if span.status.description else ""
    return f"{parent} > {own} {span.kind.name} {client}: {span.name}{failure}\n"


async def main(address: str = "localhost:9313") -> None:
    provider = TracerProvider(resource=Resource({"service.name": "orders"}))
    provider.add_span_processor(BatchSpanProcessor(exporter()))
    trace.set_tracer_provider(provider)
    tracing = kps.otel.Tracing()
    async with (
        kps.Client(address, id="shop", tracing=tracing) as shop,
        kps.Client(address, id="stock", tracing=tracing) as stock,
        kps.Client(address, id="bills", tracing=tracing) as bills,
        kps.Client(address, id="mail", tracing=tracing) as mail,
    ):
        is_written = asyncio.Event()

        async def pack(message: kps.Message) -> None:
            await stock.publish("packed", message.data)

        async def charge(message: kps.Message) -> None:
            raise ValueError("an order without an address")

        async def write(message: kps.Message) -> None:
            is_written.set()

        await stock.subscribe("orders", pack, group="packers")
        await bills.subscribe("orders", charge)
        await mail.subscribe("packed", write)

        ack = await shop.publish_with_ack("orders", {"id": 7})
        for name, response in sorted((await ack.wait()).items()):
            print(f"{name}: {response.error or 'done'}")
        await is_written.wait()
    provider.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
