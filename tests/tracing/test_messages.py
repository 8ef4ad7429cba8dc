"""Which spans there are, of what kinds, and what they tell: in memory, on the event loop."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import SpanKind, StatusCode

import kps
from kps.testing import MemoryBus
from tests.tracing.spans import Spans, about, failures, id_of, recorded, with_client

PATIENCE = 30.0
ADDRESS = "localhost:9313"

OWN = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
"""A context that the program has from somewhere else."""


def run(main: Callable[[MemoryBus], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a test on an event loop, with a bus in memory."""

    async def test() -> None:
        with MemoryBus(**options) as bus:
            await asyncio.wait_for(main(bus), PATIENCE)

    asyncio.run(test())


async def nothing(message: kps.Message) -> None:
    """A callback."""


def keeping(seen: list[Any]) -> Callable[[kps.Message], None]:
    """A callback that keeps the headers of messages."""
    return lambda message: seen.append(dict(message.headers))


class TestOneTrace:
    def test_over_three_hops(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            tracing = spans.tracing()
            a, b, c = [
                await kps.Client.connect(ADDRESS, id=name, tracing=tracing) for name in "abc"
            ]

            async def pass_on(message: kps.Message) -> None:
                await b.publish("second", message.data + 1)

            await b.subscribe("first", pass_on)
            await c.subscribe("second", nothing)
            await a.publish("first", 1)
            await bus.settle()
            for client in (a, b, c):
                await client.close()

        run(main)
        assert spans.trees(with_client) == [
            ("a: send first", ("b: process first", ("b: send second", ("c: process second",))))
        ]

    def test_attributes(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, id="me", tracing=spans.tracing())
            await client.subscribe("t", nothing)
            await client.publish("t", "hello")
            await bus.settle()
            await client.close()

        run(main)
        common = {
            "messaging.system": "kps",
            "messaging.client.id": "me",
            "messaging.destination.name": "t",
            "server.address": "localhost",
            "server.port": 9313,
        }
        sent, handled = spans.one("send t"), spans.one("process t")
        assert (sent.kind, handled.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
        assert about(sent) == common | {
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
        }
        size = about(handled).pop("messaging.message.envelope.size")
        assert size > len('{"action":"publish","topic":"t"}')
        assert about(handled) == common | {
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.message.envelope.size": size,
        }
        for span in (sent, handled):
            assert (span.status.status_code, span.events, span.links) == (StatusCode.UNSET, (), ())
            assert span.instrumentation_scope is not None
            assert span.instrumentation_scope.version == kps.__version__

    def test_every_verb(self, spans: Spans) -> None:
        """Each has one span, whichever other verbs it consists of."""

        async def main(bus: MemoryBus) -> None:
            options: dict[str, Any] = {"tracing": spans.tracing()}
            a = await kps.Client.connect(ADDRESS, id="a", **options)
            b = await kps.Client.connect(ADDRESS, id="b", on_id=nothing, **options)
            await b.subscribe("t", nothing)
            await a.publish("t", 1)
            assert await a.publish_with_receipt("t", 1, message_id="m1") == 1
            await (await a.publish_with_ack("t", 1, message_id="m2")).wait()
            await a.request("t", 1, message_id="m3")
            await a.publish_to_id("b", 1)
            await (await a.publish_to_id_with_ack("b", 1, message_id="m4")).wait()
            await a.request_to_id("b", 1, message_id="m5")
            await a.Publish("t", 1)
            await bus.settle()
            for client in (a, b):
                await client.close()

        run(main)
        assert spans.trees() == [
            ("request", ("process",)),
            ("request t", ("process t",)),
            *[("send", ("process",))] * 2,
            *[("send t", ("process t",))] * 4,
        ]
        kinds = {
            "request": SpanKind.CLIENT,
            "send": SpanKind.PRODUCER,
            "process": SpanKind.CONSUMER,
        }
        for span in spans.ended():
            assert span.kind is kinds[span.name.removesuffix(" t")]
            has_topic = span.name.endswith(" t")
            assert about(span)["messaging.destination.name"] == ("t" if has_topic else "b")
        ids = [about(one).get("messaging.message.id") for one in spans.ended()]
        assert [one for one in ids if one] == ["m1", "m2", "m3", "m4", "m5"]

    def test_what_was_current_before_is_the_parent(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            with spans.provider.get_tracer("test").start_as_current_span("program"):
                await client.subscribe("t", nothing)
                await client.publish("t", 1)
            await client.publish("t", 2)
            await bus.settle()
            await client.close()

        run(main)
        assert spans.trees() == [
            ("program", ("send t", ("process t",))),
            ("send t", ("process t",)),
        ]

    def test_a_message_without_context_begins_a_trace(self, spans: Spans) -> None:
        """Not one within the span that was current as the program subscribed."""

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            with spans.provider.get_tracer("test").start_as_current_span("program"):
                await client.subscribe("t", nothing)
            bus.publish("t", 1)
            bus.publish("t", 1, headers={"traceparent": "nonsense", "other": "é"})
            await bus.settle()
            await client.close()

        run(main)
        assert spans.trees() == [("process t",), ("process t",), ("program",)]

    def test_baggage_goes_along(self, spans: Spans) -> None:
        seen: list[object] = []

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            await client.subscribe("t", lambda message: seen.append(baggage.get_baggage("user")))
            token = context.attach(baggage.set_baggage("user", "ann"))
            await client.publish("t", 1)
            context.detach(token)
            await client.publish("t", 2)
            await bus.settle()
            await client.close()

        run(main)
        assert seen == ["ann", None]

    def test_not_sampled(self, spans: Spans) -> None:
        """The decision goes along, so no span is made anywhere."""
        seen: list[Any] = []

        async def main(bus: MemoryBus) -> None:
            spans.provider.sampler = sampling.ParentBased(sampling.ALWAYS_OFF)
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            spans.provider.sampler = sampling.DEFAULT_ON
            other = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            await other.subscribe("t", keeping(seen))
            await client.publish("t", 1)
            await (await client.publish_with_ack("t", 1)).wait()
            await bus.settle()
            for one in (client, other):
                await one.close()

        run(main)
        assert [int(one["traceparent"][-2:], 16) & 1 for one in seen] == [0, 0]
        assert spans.ended() == []


class TestHeaders:
    def test_those_of_the_program_are_kept(self, spans: Spans) -> None:
        seen: list[Any] = []
        given: Mapping[str, str] = {"kind": "é"}

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            await client.subscribe("t", keeping(seen))
            await client.publish("t", 1, headers=given)
            await client.request("t", 1, headers=given)
            await bus.settle()
            await client.close()

        run(main)
        assert [list(one) for one in seen] == [["kind", "traceparent"]] * 2
        assert given == {"kind": "é"}

    def test_a_context_of_the_program_wins(self, spans: Spans) -> None:
        """The span has a link to it, and what is handled is its child."""
        seen: list[Any] = []

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            await client.subscribe("t", keeping(seen))
            await client.publish("t", 1, headers=OWN)
            await bus.settle()
            await client.close()

        run(main)
        assert seen == [OWN]
        sent, handled = spans.one("send t"), spans.one("process t")
        own = trace.get_current_span(propagate.extract(OWN)).get_span_context()
        assert sent.kind is SpanKind.CLIENT  # as the conventions say
        assert [link.context.span_id for link in sent.links] == [own.span_id]
        assert handled.parent is not None
        assert (handled.parent.trace_id, handled.parent.span_id) == (own.trace_id, own.span_id)

    @pytest.mark.parametrize(("more", "is_there"), [(0, True), (1, False)])
    def test_a_message_goes_without_context_where_that_has_no_room(
        self, spans: Spans, more: int, is_there: bool
    ) -> None:
        seen: list[Any] = []
        size = len('{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}')
        own = {"a": "x" * (200 - size - len('{"a":""}') + more)}

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing(max_headers=200))
            await client.subscribe("t", keeping(seen))
            await client.publish("t", 1, headers=own)
            await bus.settle()
            await client.close()

        run(main)
        assert ["traceparent" in one for one in seen] == [is_there]

    def test_large_baggage_does_not_make_the_server_refuse_a_message(self, spans: Spans) -> None:
        seen: list[Any] = []
        errors: list[object] = []

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(
                ADDRESS, tracing=spans.tracing(), on_error=errors.append
            )
            await client.subscribe("t", keeping(seen))
            token = context.attach(baggage.set_baggage("note", "x" * 4050))
            await client.publish("t", 1)
            context.detach(token)
            await bus.settle()
            await client.close()

        run(main)
        assert (seen, errors) == ([{}], [])

    @pytest.mark.parametrize("headers", ["", "a", 0, [], {"a": 1}])
    def test_what_is_no_headers_is_refused_as_ever(self, spans: Spans, headers: Any) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            for send in (client.publish, client.publish_with_ack, client.request):
                with pytest.raises(kps.InvalidArgument, match="headers is a dictionary of texts"):
                    await send("t", 1, headers=headers)
            await client.close()

        run(main)
        assert spans.ended() == []

    def test_a_server_on_level_1_gets_none(self, spans: Spans) -> None:
        seen: list[Any] = []

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(
                ADDRESS, id="me", on_id=nothing, tracing=spans.tracing()
            )
            await client.subscribe("t", keeping(seen))
            await client.publish("t", 1)
            await client.publish_with_receipt("t", 1)
            await (await client.publish_with_ack("t", 1)).wait()
            await client.request("t", 1)
            await client.publish_to_id("me", 1)
            await (await client.publish_to_id_with_ack("me", 1)).wait()
            await client.request_to_id("me", 1)
            await bus.settle()
            for send in (client.publish, client.publish_with_ack, client.request):
                with pytest.raises(kps.Unsupported, match="headers"):
                    await send("t", 1, headers=OWN)
            with pytest.raises(kps.Unsupported, match="message_ids"):
                await client.publish_with_receipt("t", 1, message_id="a")
            await client.close()

        run(main, level=1)
        assert seen == [{}] * 4
        assert len(spans.trees()) == len(spans.ended())  # each begins a trace
        failed = [one for one in spans.ended() if one.status.status_code is StatusCode.ERROR]
        assert [about(one)["error.type"] for one in failed] == ["Unsupported"] * 4
        assert spans.names() == sorted(
            ["process"] * 3 + ["process t"] * 4 + ["request"] + ["request t"] * 2
            + ["send"] * 2 + ["send t"] * 6
        )  # fmt: skip

    def test_a_subscriber_on_level_1_begins_a_trace(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            new, old = [
                await kps.Client.connect(ADDRESS, level=level, tracing=spans.tracing())
                for level in (2, 1)
            ]
            await old.subscribe("t", nothing)
            assert await new.request("t", 1) is None
            await old.publish("t", 1)
            await bus.settle()
            for client in (new, old):
                await client.close()

        run(main)
        assert spans.trees() == [("process t",), ("process t",), ("request t",), ("send t",)]

    def test_the_offline_queue_keeps_them(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, offline_queue=10, tracing=spans.tracing())
            await client.subscribe("t", nothing)
            bus.cut()
            await client.publish("t", 1)
            await bus.advance(60)
            await client.close()

        run(main)
        assert spans.trees() == [("send t", ("process t",))]

    def test_many_at_once_have_a_span_each(self, spans: Spans) -> None:
        """They come as they were published, though none shares a batch with another one."""
        seen: list[int] = []

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            await client.subscribe("t", lambda message: seen.append(message.data))
            for number in range(100):
                await client.publish("t", number)
            await bus.settle()
            await client.close()

        run(main)
        assert seen == list(range(100))
        assert spans.trees() == [("send t", ("process t",))] * 100


class TestOutcomes:
    def test_who_has_failed_and_why(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            boss, good, bad, slow = [
                await kps.Client.connect(ADDRESS, id=name, tracing=spans.tracing())
                for name in ("boss", "good", "bad", "slow")
            ]

            async def fail(message: kps.Message) -> None:
                raise OSError("no space left")

            await good.subscribe("t", nothing)
            await bad.subscribe("t", fail)
            await slow.subscribe("t", lambda message: asyncio.sleep(60))
            ack = await boss.publish_with_ack("t", 1, timeout=5, expect=["missing"])
            await bus.finish(ack.wait())
            await bus.settle()
            for client in (boss, good, bad, slow):
                await client.close()

        run(main)
        sent = spans.one("send t")
        assert sent.status.status_code is StatusCode.ERROR
        assert str(sent.status.description).startswith("3 of 4 failed, ")
        assert about(sent)["error.type"] == "failed"
        assert about(sent)["messaging.kps.receivers"] == 4
        assert sorted(failures(sent)) == [
            ("bad", "no space left"),
            ("missing", "absent"),
            ("slow", "timeout"),
        ]
        handled = [one for one in spans.ended() if one.name == "process t"]
        assert {id_of(sent)} == {one.parent and one.parent.span_id for one in handled}
        by_client = {about(one)["messaging.client.id"]: one for one in handled}
        assert by_client["good"].status.status_code is StatusCode.UNSET
        assert by_client["bad"].status.description == "no space left"
        assert recorded(by_client["bad"]) == ["no space left"]
        # It ends when the request does, and not when somebody looks.
        assert sent.end_time is not None
        assert sent.end_time > (by_client["bad"].end_time or 0)

    def test_nobody_is_no_failure(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            assert await (await client.publish_with_ack("t", 1)).wait() == {}
            await bus.settle()
            await client.close()

        run(main)
        sent = spans.one("send t")
        assert (sent.status.status_code, about(sent)["messaging.kps.receivers"]) == (
            StatusCode.UNSET,
            0,
        )

    def test_a_group_with_retries(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            tracing = spans.tracing()
            boss, member = [
                await kps.Client.connect(ADDRESS, id=name, tracing=tracing)
                for name in ("boss", "member")
            ]

            async def work(message: kps.Message) -> int:
                if message.attempt < 3:
                    raise OSError(f"attempt {message.attempt}")
                return message.attempt

            await member.subscribe("jobs", work, group="workers")
            ack = await boss.publish_with_ack("jobs", 1, retry=2)
            assert (await ack.wait())["workers of jobs"].result == 3
            ack = await boss.publish_with_ack("jobs", 2, expect_groups=["nobody"])
            await ack.wait()
            await bus.settle()
            for client in (boss, member):
                await client.close()

        run(main)
        first, second = [one for one in spans.ended() if one.name == "send jobs"]
        assert spans.trees() == [
            ("send jobs", ("process jobs",)),
            ("send jobs", *[("process jobs",)] * 3),
        ]
        assert first.status.status_code is StatusCode.UNSET
        assert failures(first) == [("member", f"attempt {number}", "workers") for number in (1, 2)]
        attempts = [one for one in spans.ended() if one.name == "process jobs"]
        assert {about(one)["messaging.consumer.group.name"] for one in attempts} == {"workers"}
        assert [about(one).get("messaging.kps.message.attempt") for one in attempts] == [
            None, 2, 3, None,
        ]  # fmt: skip
        assert [one.status.description for one in attempts] == [
            "attempt 1", "attempt 2", None, "attempt 1",
        ]  # fmt: skip
        assert sorted(failures(second)) == [
            ("nobody of jobs", "no member"),
            ("workers of jobs", "attempt 1"),
        ]

    def test_requests(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            tracing = spans.tracing()
            boss, good, bad = [
                await kps.Client.connect(ADDRESS, id=name, tracing=tracing)
                for name in ("boss", "good", "bad")
            ]

            def fail(message: kps.Message) -> None:
                raise OSError("no space left")

            await good.subscribe("both", lambda message: "done")
            await bad.subscribe("both", fail)
            await bad.subscribe("one", fail)
            assert await boss.request("both", 1) == "done"
            with pytest.raises(kps.RequestFailed):
                await boss.request("one", 1)
            with pytest.raises(kps.NobodyThere):
                await boss.request("none", 1)
            await bus.settle()
            for client in (boss, good, bad):
                await client.close()

        run(main)
        assert spans.one("request both").status.status_code is StatusCode.UNSET
        failed, alone = spans.one("request one"), spans.one("request none")
        assert failures(failed) == [("bad", "no space left")]
        for one, kind in ((failed, "RequestFailed"), (alone, "NobodyThere")):
            assert one.status.status_code is StatusCode.ERROR
            assert about(one)["error.type"] == kind
            assert recorded(one) == [one.status.description]

    def test_the_end_of_a_client_ends_the_spans_of_its_requests(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, reconnect=False, tracing=spans.tracing())
            other = await kps.Client.connect(ADDRESS)
            await other.subscribe("t", lambda message: asyncio.sleep(60))
            cancelled = await client.publish_with_ack("t", 1)
            await cancelled.cancel()
            await client.publish_with_ack("t", 2)
            await client.close()
            await other.close()

        run(main)
        first, second = spans.ended()
        assert first.status.status_code is StatusCode.UNSET
        assert (second.status.description, about(second)["error.type"]) == (
            "the client was closed",
            "ClientClosed",
        )

    def test_what_is_not_sent(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            for topic, data in (("t", object()), ("", 1), (5, 1)):
                with pytest.raises(kps.InvalidArgument):
                    await client.publish(topic, data)  # type: ignore[arg-type]
            await client.close()
            with pytest.raises(kps.ClientClosed):
                await client.publish_with_ack("t", 1)

        run(main)
        assert [one.name for one in spans.ended()] == ["send t", "send", "send", "send t"]
        for span in spans.ended():
            assert span.status.status_code is StatusCode.ERROR
            assert len(recorded(span)) == 1

    def test_very_many_failures(self, spans: Spans) -> None:
        """They are counted, and some are told one by one."""

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            ack = await client.publish_with_ack("t", 1, expect=[f"id {n}" for n in range(200)])
            await ack.wait()
            await bus.settle()
            await client.close()

        run(main)
        sent = spans.one("send t")
        assert str(sent.status.description).startswith("200 of 200 failed")
        assert len(failures(sent)) == 32


class TestCallbacks:
    @pytest.mark.parametrize("kind", ["coroutine", "thread", "inline", "awaitable", "awaited"])
    def test_their_span_is_current(self, spans: Spans, kind: str) -> None:
        """However they run, and also while the loop waits for what they have returned."""
        seen: list[trace.SpanContext] = []

        async def later(message: kps.Message) -> None:
            await asyncio.sleep(0)
            seen.append(trace.get_current_span().get_span_context())

        def now(message: kps.Message) -> None:
            seen.append(trace.get_current_span().get_span_context())

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            if kind == "coroutine":
                await client.subscribe("t", later)
            elif kind == "thread":
                await client.subscribe("t", now)
            elif kind == "inline":
                await client.subscribe("t", now, inline=True)
            else:
                await client.subscribe("t", lambda m: later(m), inline=kind == "awaited")
            for _ in range(2):
                await client.request("t", 1)
            assert not trace.get_current_span().get_span_context().is_valid
            await client.close()

        run(main)
        handled = [one for one in spans.ended() if one.name == "process t"]
        assert [one.span_id for one in seen] == [id_of(one) for one in handled]
        assert len(seen) == 2

    @pytest.mark.parametrize("kind", ["coroutine", "thread", "inline", "awaitable", "awaited"])
    def test_their_exceptions_are_recorded(self, spans: Spans, kind: str) -> None:
        async def later(message: kps.Message) -> None:
            await asyncio.sleep(0)
            raise OSError("no space left")

        def now(message: kps.Message) -> None:
            raise OSError("no space left")

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            if kind == "coroutine":
                await client.subscribe("t", later)
            elif kind == "thread":
                await client.subscribe("t", now)
            elif kind == "inline":
                await client.subscribe("t", now, inline=True)
            else:
                await client.subscribe("t", lambda m: later(m), inline=kind == "awaited")
            with pytest.raises(kps.RequestFailed, match="no space left"):
                await client.request("t", 1)
            await client.close()

        run(main)
        handled = spans.one("process t")
        assert handled.status.status_code is StatusCode.ERROR
        assert (recorded(handled), about(handled)["error.type"]) == (["no space left"], "OSError")

    def test_an_exception_without_a_text(self, spans: Spans) -> None:
        """Whatever it does, the publisher is told the same as without tracing."""

        class Bad(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        async def fail(message: kps.Message) -> None:
            raise Bad

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            await client.subscribe("t", fail)
            with pytest.raises(kps.RequestFailed, match=r"^Bad$"):
                await client.request("t", 1)
            await client.close()

        run(main)
        handled = spans.one("process t")
        assert (handled.status.description, recorded(handled)) == ("Bad", [])

    def test_one_that_is_cancelled(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            await client.subscribe("t", lambda message: asyncio.sleep(60), inline=True)
            await client.publish("t", 1)
            await bus.settle()
            await client.close()

        run(main)
        assert about(spans.one("process t"))["error.type"] == "CancelledError"

    def test_links_in_place_of_parents(self, spans: Spans) -> None:
        seen: list[object] = []

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing(links=True))
            await client.subscribe("t", lambda message: seen.append(baggage.get_baggage("user")))
            token = context.attach(baggage.set_baggage("user", "ann"))
            await client.publish("t", 1)
            context.detach(token)
            await bus.settle()
            bus.publish("t", 2)
            await bus.settle()
            await client.close()

        run(main)
        assert spans.trees() == [("process t",), ("process t",), ("send t",)]
        sent, linked, alone = spans.ended()
        assert [link.context.span_id for link in linked.links] == [id_of(sent)]
        assert alone.links == ()
        assert seen == ["ann", None]

    def test_the_callbacks_of_direct_messages(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(
                ADDRESS, id="me", on_id=nothing, tracing=spans.tracing()
            )
            bus.publish_to_id("me", 1)
            await bus.settle()
            await client.close()

        run(main)
        assert about(spans.one("process"))["messaging.destination.name"] == "me"


class TestNames:
    def test_a_pattern_stands_for_its_topics(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing())
            await client.subscribe(kps.Pattern("rooms/*"), nothing)
            await client.subscribe(kps.Pattern("rooms/*"), nothing, group="g")
            await client.publish("rooms/7", 1)
            await bus.settle()
            await client.close()

        run(main)
        assert spans.trees() == [("send rooms/7", *[("process rooms/*",)] * 2)]
        for span in spans.ended():
            assert about(span)["messaging.destination.name"] == "rooms/7"
            template = None if span.name == "send rooms/7" else "rooms/*"
            assert about(span).get("messaging.destination.template") == template

    def test_templates(self, spans: Spans) -> None:
        def template(topic: str) -> str | None:
            return {"rooms/7": "rooms/{id}", "plain": "plain"}.get(topic)

        async def main(bus: MemoryBus) -> None:
            client = await kps.Client.connect(ADDRESS, tracing=spans.tracing(template=template))
            await client.subscribe(kps.Pattern("**"), nothing)
            for topic in ("rooms/7", "plain", "other"):
                await client.publish(topic, 1)
            await bus.settle()
            await client.close()

        run(main)
        assert spans.names() == [
            "process", "process plain", "process rooms/{id}",
            "send", "send plain", "send rooms/{id}",
        ]  # fmt: skip
        for span in spans.ended():
            named = about(span).get("messaging.destination.template")
            assert named == ("rooms/{id}" if "rooms" in span.name else None)


class TestIteration:
    def test_a_program_says_what_the_work_for_a_message_is(self, spans: Spans) -> None:
        async def main(bus: MemoryBus) -> None:
            tracing = spans.tracing()
            a, b = [await kps.Client.connect(ADDRESS, id=name, tracing=tracing) for name in "ab"]
            jobs = await b.subscribe("jobs", group="workers")
            await a.publish("jobs", 1)
            await a.publish("jobs", 2)
            with tracing.process(await anext(jobs), jobs) as span:
                await b.publish("done", 1)
                assert trace.get_current_span() is span
            with pytest.raises(OSError, match="no space left"), tracing.process(await anext(jobs)):
                raise OSError("no space left")
            await bus.settle()
            for client in (a, b):
                await client.close()

        run(main)
        assert spans.trees(with_client) == [
            ("a: send jobs", ("-: process jobs",)),
            ("a: send jobs", ("-: process jobs", ("b: send done",))),
        ]
        first, second = [one for one in spans.ended() if one.name == "process jobs"]
        assert about(first)["messaging.consumer.group.name"] == "workers"
        assert "messaging.consumer.group.name" not in about(second)
        assert (recorded(first), recorded(second)) == ([], ["no space left"])

    @pytest.mark.parametrize("links", [False, True])
    def test_within_another_span(self, spans: Spans, links: bool) -> None:
        """One of the two is the parent, and there is a link to the other one."""

        async def main(bus: MemoryBus) -> None:
            tracing = spans.tracing(links=links)
            client = await kps.Client.connect(ADDRESS, tracing=tracing)
            messages = await client.subscribe(kps.Pattern("rooms/*"))
            await client.publish("rooms/7", 1)
            await bus.settle()
            bus.publish("rooms/8", 2)
            with spans.provider.get_tracer("test").start_as_current_span("worker"):
                for _ in range(2):
                    with tracing.process(await anext(messages), messages):
                        pass
            await client.close()

        run(main)
        sent, worker = spans.one("send rooms/7"), spans.one("worker")
        first, second = [one for one in spans.ended() if one.name == "process rooms/*"]
        parent, other = (worker, sent) if links else (sent, worker)
        assert first.parent is not None
        assert first.parent.span_id == id_of(parent)
        assert [link.context.span_id for link in first.links] == [id_of(other)]
        assert second.parent is not None
        assert (second.parent.span_id, second.links) == (id_of(worker), ())
