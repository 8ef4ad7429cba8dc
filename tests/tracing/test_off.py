"""What tracing costs those who have not asked for it, and what happens without its packages."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from math import inf
from types import FrameType
from typing import Any

import pytest
from opentelemetry import trace

import kps
import kps.sync
from kps.io_asyncio.handlers import Inline, OnLoop
from kps.testing import MemoryBus
from tests.tracing.spans import Spans

CLIENTS = pytest.mark.parametrize("kind", [kps.Client, kps.sync.Client])


class Steps:
    """Counts the steps of the interpreter within KPS, in this thread."""

    def __init__(self) -> None:
        self.steps = 0
        self.files: set[str] = set()

    def of(self, call: Callable[[], object]) -> int:
        """How many a call takes."""
        self.steps = 0
        before = sys.gettrace()
        sys.settrace(self._note)
        try:
            call()
        finally:
            sys.settrace(before)
        return self.steps

    def _note(self, frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename.replace("\\", "/")
        if "/kps/" not in file:
            return None
        self.files.add(file)
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.steps += event == "opcode"
        return self._note


def finish(call: Any) -> None:
    """Run a coroutine that waits for nothing to its end."""
    with pytest.raises(StopIteration):
        call.send(None)


async def nothing(message: kps.Message) -> None:
    """A callback."""


class TestNotAskedFor:
    @pytest.mark.skipif(
        sys.version_info >= (3, 12), reason="from 3.12 on, a trace counts other steps each time"
    )
    def test_no_step_more(self, spans: Spans) -> None:
        """Beside a traced client of the same process, another one takes as many as before."""
        steps = Steps()

        async def main() -> tuple[list[int], list[int]]:
            with MemoryBus() as bus:
                client = await kps.Client.connect("a:1", id="me")
                await client.subscribe("t", nothing)
                await client.subscribe("t", lambda message: None, inline=True)

                async def count() -> list[int]:
                    counted = []
                    for _ in range(2):  # at once, and while a step is due
                        counted.append(steps.of(lambda: finish(client.publish("t", 1))))
                    counted.append(
                        steps.of(lambda: finish(client.publish("t", 1, headers={"a": "b"})))
                    )
                    await bus.settle()
                    # What is handed to the callbacks, and their outcomes.
                    on_loop, inline = client._driver.dispatcher._callbacks.values()
                    assert isinstance(on_loop, OnLoop)
                    assert isinstance(inline, Inline)
                    for handler in (on_loop, inline):
                        handler.mailbox.put(kps.Message("t", 1, "me"))
                    counted.append(steps.of(lambda: finish(on_loop._run())))
                    counted.append(steps.of(lambda: inline._run(inf)))
                    return counted

                await count()
                before = await count()
                traced = await kps.Client.connect("a:1", tracing=spans.tracing())
                await traced.subscribe("u", nothing)
                await traced.publish("u", 1)
                await bus.settle()
                after = await count()
                for one in (client, traced):
                    await one.close()
                return before, after

        before, after = asyncio.run(main())
        assert before == after
        assert min(before) > 20
        assert not {file for file in steps.files if "traced" in file or "otel" in file}
        assert "process u" in spans.names()

    @CLIENTS
    def test_a_client_is_what_it_was(self, spans: Spans, kind: type[Any]) -> None:
        plain, traced = kind("a:1"), kind("a:1", tracing=spans.tracing())
        assert type(plain) is kind
        assert not {"publish", "request", "_ack_changed"} & vars(plain).keys()
        assert type(traced) is not kind
        assert isinstance(traced, kind)
        assert type(traced).__qualname__ == kind.__qualname__
        assert traced.publish.__doc__ is None
        assert plain._driver.around is None

    def test_callbacks_are_the_programs_own(self) -> None:
        with MemoryBus(), kps.sync.Client("a:1") as client:
            client.subscribe("t", print)
            (handler,) = client._driver.dispatcher._callbacks.values()
            assert handler.callback is print


class TestSubclasses:
    """A program may have made a class of its own."""

    def test_its_methods_are_called(self, spans: Spans) -> None:
        called: list[str] = []

        class Own(kps.sync.Client):
            __slots__ = ("note",)
            note: str

            def request(self, topic: str, data: Any, *args: Any, **options: Any) -> Any:
                called.append(topic)
                return super().request(topic, data, *args, **options)

        with MemoryBus():
            for _ in range(2):
                with Own("a:1", tracing=spans.tracing()) as client:
                    client.note = "own"
                    client.subscribe("t", lambda message: 5)
                    assert client.request("t", 1) == 5
                    assert (type(client).__name__, client.note) == ("Own", "own")
        assert called == ["t", "t"]
        assert spans.trees() == [("request t", ("process t",))] * 2


def test_options_that_make_no_sense() -> None:
    wrong: list[dict[str, Any]] = [
        {"links": 1}, {"links": "yes"}, {"template": "t"}, {"tracer_provider": 5},
        {"max_headers": -1}, {"max_headers": True}, {"max_headers": "1"},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(kps.InvalidArgument):
            kps.otel.Tracing(**options)


def test_without_an_sdk_a_context_goes_through() -> None:
    """From the publisher's publisher, who has one. KPS itself writes none, and breaks no batch."""
    seen: list[tuple[int, dict[str, str]]] = []
    tracing = kps.otel.Tracing(tracer_provider=trace.NoOpTracerProvider())
    given = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    async def main() -> None:
        with MemoryBus() as bus:
            client = await kps.Client.connect("a:1", tracing=tracing)

            async def pass_on(message: kps.Message) -> None:
                await client.publish("second", message.data)

            await client.subscribe("first", pass_on)
            await client.subscribe(
                "second", lambda message: seen.append((message.data, dict(message.headers)))
            )
            bus.publish("first", 1, headers=given)
            await bus.settle()
            await client.publish("first", 2)
            await (await client.publish_with_ack("first", 3)).wait()
            await bus.settle()
            await client.close()

    asyncio.run(main())
    assert seen == [(1, given), (2, {}), (3, {})]


WITHOUT_IT = """
import sys
sys.modules["opentelemetry"] = None
import kps, kps.sync
assert "kps.otel" not in sys.modules
client = kps.sync.Client("localhost:9313")
try:
    kps.otel.Tracing()
except kps.InvalidState as error:
    print(error)
try:
    kps.sync.Client("localhost:9313", tracing=True)
except kps.InvalidArgument as error:
    print(error)
"""


def test_without_the_package_an_error_says_what_to_install() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", WITHOUT_IT], capture_output=True, text=True, check=True
    )
    assert shown.stdout.splitlines() == [
        "tracing needs OpenTelemetry: pip install opentelemetry-api",
        "tracing is a kps.otel.Tracing, not True",
    ]
