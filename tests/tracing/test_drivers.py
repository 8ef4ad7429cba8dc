"""Tracing over real sockets, with every pairing of a server and a client."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode

import kps
import kps.sync
from kps.testing import MemoryBus
from tests.io.harness import PATIENCE, AnyDriver, Inbox, eventually
from tests.tracing.spans import Spans, about, by_name, failures, recorded, with_client

Connect = Callable[..., Any]


@pytest.fixture
def server(servers: AnyDriver, spans: Spans) -> Any:
    """A server whose program is traced."""
    return servers.server(id="server", tracing=spans.tracing())


@pytest.fixture
def connect(clients: AnyDriver, server: Any, spans: Spans) -> Connect:
    """Makes traced clients of it: ``connect("alice")``."""

    def make(client_id: str, **options: Any) -> Any:
        return clients.client(server.address, id=client_id, tracing=spans.tracing(), **options)

    return make


def test_one_trace_over_three_hops(connect: Connect, server: Any, spans: Spans) -> None:
    """One of them is a callback in a thread, for which the event loop publishes."""
    a, b, c = (connect(name) for name in "abc")
    last = Inbox()

    def pass_on(message: kps.Message) -> None:
        b.publish("second", 2)

    b.subscribe("first", pass_on)
    server.subscribe("second", Inbox())
    c.subscribe("second", last)
    a.publish("first", 1)
    assert last.data() == 2
    eventually(lambda: len(spans.ended()) == 5, "the end of all spans")
    assert spans.trees(with_client) == [
        (
            "a: send first",
            (
                "b: process first",
                ("b: send second", ("c: process second",), ("server: process second",)),
            ),
        )
    ]


def test_a_request_with_ack_whose_member_fails(connect: Connect, server: Any, spans: Spans) -> None:
    boss, worker = connect("boss"), connect("worker")

    def work(message: kps.Message) -> str:
        if message.attempt < 3:
            raise OSError(f"attempt {message.attempt}")
        return "done"

    worker.subscribe("jobs", work, group="workers")
    outcome = boss.publish_with_ack("jobs", 1, retry=2).wait()["workers of jobs"]
    assert (outcome.result, outcome.attempts) == ("done", 3)
    for sender in (boss, server):
        with pytest.raises(kps.RequestFailed, match="attempt 1"):
            sender.request("jobs", 1)
    assert not server.publish_with_ack("jobs", 1).wait()["workers of jobs"].success
    eventually(lambda: len(spans.ended()) == 10, "the end of all spans")
    assert spans.trees(by_name) == [
        *[("request jobs", ("process jobs",))] * 2,
        ("send jobs", ("process jobs",)),
        ("send jobs", *[("process jobs",)] * 3),
    ]
    sent = {
        (about(one)["messaging.client.id"], one.name): one
        for one in spans.ended()
        if one.name != "process jobs"
    }
    assert sent["boss", "send jobs"].status.status_code is StatusCode.UNSET
    assert failures(sent["boss", "send jobs"]) == [
        ("worker", f"attempt {number}", "workers") for number in (1, 2)
    ]
    assert sent["server", "send jobs"].status.description == (
        "1 of 1 failed, workers of jobs: attempt 1"
    )
    for one in (sent["boss", "request jobs"], sent["server", "request jobs"]):
        assert (one.status.description, about(one)["error.type"]) == ("attempt 1", "RequestFailed")
        assert failures(one) == [("worker", "attempt 1")]
    handled = [one for one in spans.ended() if one.name == "process jobs"]
    assert [recorded(one) for one in handled] == [
        ["attempt 1"], ["attempt 2"], [], *[["attempt 1"]] * 3,
    ]  # fmt: skip


def test_direct_messages(connect: Connect, server: Any, spans: Spans) -> None:
    inbox = Inbox()
    alice, bob = connect("alice"), connect("bob", on_id=inbox)
    server.on_id(inbox)
    for sender in (alice, server):
        for to in ("bob", "server"):
            sender.publish_to_id(to, 1)
            sender.publish_to_id_with_ack(to, 1).wait()
            sender.request_to_id(to, 1)
    bob.flush()
    eventually(lambda: len(spans.ended()) == 24, "the end of all spans")
    assert spans.trees() == [
        *[("request", ("process",))] * 4,
        *[("send", ("process",))] * 8,
    ]


def test_peers_on_level_1(
    clients: AnyDriver, servers: AnyDriver, connect: Connect, spans: Spans
) -> None:
    """Their messages are handled all the same, each in a trace of its own."""
    inbox = Inbox()
    new, old = connect("new"), connect("old", level=1)
    old.subscribe("t", inbox)
    new.subscribe("t", inbox)
    for sender in (new, old):
        sender.publish("t", 1)
        sender.publish_with_ack("t", 1).wait()
        assert sender.request("t", 1) is None
    assert inbox.take(12) == [1] * 12
    eventually(lambda: len(spans.ended()) == 18, "the end of all spans")
    assert sorted(map(len, spans.trees())) == [1] * 12 + [2] * 3
    spans.clear()
    with_old_server = clients.client(servers.server(level=1).address, tracing=spans.tracing())
    with_old_server.subscribe("t", inbox)
    with_old_server.publish("t", 1)
    with_old_server.publish_with_receipt("t", 1)
    with_old_server.publish_with_ack("t", 1).wait()
    assert with_old_server.request("t", 1) is None
    assert inbox.take(4) == [1] * 4
    eventually(lambda: len(spans.ended()) == 8, "the end of all spans")
    assert {one.status.status_code for one in spans.ended()} == {StatusCode.UNSET}


def test_a_server_that_stops_ends_the_spans_of_its_requests(
    servers: AnyDriver, spans: Spans
) -> None:
    server = servers.server(tracing=spans.tracing())
    begun, is_over = Inbox(), threading.Event()

    def hang(message: kps.Message) -> None:
        begun(message)
        is_over.wait(PATIENCE)

    server.subscribe("t", hang)
    server.publish_with_ack("t", 1, timeout=PATIENCE)
    begun.get()
    server.stop(0.1)  # while the callback is at it
    assert spans.one("send t").status.description == "the server has stopped"
    is_over.set()


class TestOnThreads:
    """What the blocking client does otherwise, in memory."""

    def test_one_trace(self, spans: Spans) -> None:
        seen: list[int] = []
        with MemoryBus() as bus:
            a, b = (kps.sync.Client("a:1", id=name, tracing=spans.tracing()) for name in "ab")
            with a, b:

                def first(message: kps.Message) -> None:
                    seen.append(trace.get_current_span().get_span_context().span_id)
                    b.publish("second", 2)

                b.subscribe("first", first, inline=True)
                a.subscribe("second", lambda message: None)
                a.publish("first", 1)
                bus.sync.settle()
        assert spans.trees(with_client) == [
            ("a: send first", ("b: process first", ("b: send second", ("a: process second",))))
        ]
        assert seen == [spans.one("process first").context.span_id]

    def test_a_callback_that_returns_a_coroutine(self, spans: Spans) -> None:
        async def later() -> None:
            """Nothing runs this."""

        with MemoryBus(), kps.sync.Client("a:1", id="me", tracing=spans.tracing()) as client:
            client.subscribe("t", lambda message: later())
            error = client.publish_with_ack("t", 1).wait()["me"].error
        assert spans.one("process t").status.description == error
        assert error == "a callback of kps.sync returned a coroutine, which nothing runs"

    def test_iteration(self, spans: Spans) -> None:
        tracing = spans.tracing()
        with MemoryBus(), kps.sync.Client("a:1", id="me", tracing=tracing) as client:
            messages = client.subscribe("t")
            client.publish("t", 1)
            client.publish("t", 2)
            for message in messages:
                with tracing.process(message, messages):
                    client.publish("u", message.data)
                if message.data == 2:
                    break
        assert spans.trees() == [("send t", ("process t", ("send u",)))] * 2

    def test_exporters_run_without_the_lock(self, spans: Spans) -> None:
        """They may call the client, and wait for another thread that does."""
        told: list[bool] = []
        with MemoryBus(), kps.sync.Client("a:1", id="me", tracing=spans.tracing()) as client:

            class Exporter:
                """Calls the client in another thread, and waits for that."""

                def export(self, ended: object) -> None:
                    thread = threading.Thread(target=client.subscribe("other").unsubscribe)
                    thread.start()
                    thread.join(PATIENCE)
                    told.append(not thread.is_alive())

                def shutdown(self) -> None:
                    """There is nothing to end."""

            exporter: Any = Exporter()
            spans.provider.add_span_processor(SimpleSpanProcessor(exporter))
            client.subscribe("t", lambda message: None)
            client.publish_with_ack("t", 1).wait()
            eventually(lambda: len(spans.ended()) == 2, "the end of the spans")
            eventually(lambda: len(told) == 2, "the exporter")
        assert told == [True] * 2
