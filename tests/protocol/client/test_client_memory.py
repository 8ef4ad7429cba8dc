"""What a server, and the publishers behind it, make a client keep, against its limits."""

from typing import Any

import orjson
import pytest

from kps.errors import QueueFull
from kps.protocol.bus.ack_handle import AckChanged, AckHandle
from kps.protocol.client.events import ErrorReceived
from kps.protocol.client.reconnect import Backoff
from kps.protocol.cost import KEPT, MESSAGE
from kps.protocol.limits import ClientLimits
from tests.protocol.helpers import Client, FakeServer, Fields
from tests.protocol.server.test_memory import LIMIT, MULTIPLE, SLACK, memory_of


def update(handle: AckHandle, **responses: Fields) -> Fields:
    return {"action": "ack_update", "ack_id": handle.id, "responses": responses}


def online2(**config: Any) -> tuple[Client, FakeServer]:
    """A client on level 2."""
    client = Client(**config)
    server = client.connect(proto=2)
    client.new_events()
    return client, server


class TestOutcomes:
    @pytest.mark.parametrize("result", [{}, [{}] * 200, [[[]]] * 500, "x" * 500])
    def test_results_are_kept_as_json(self, result: Any) -> None:
        client, server = online2(limits=ClientLimits(max_all_results=LIMIT))
        handles = [client.ask() for _ in range(10)]

        def build() -> None:
            number = 0
            while client.session.asking.pending.size < 0.9 * LIMIT:
                number += 1
                for handle in handles:
                    server.send(
                        update(handle, **{f"s{number}": {"success": True, "result": result}})
                    )
                client.new_events()
                client.events.clear()

        assert memory_of(build) <= MULTIPLE * LIMIT + SLACK
        assert handles[0].responses["s1"].result == result
        assert not handles[0].finished

    def test_past_the_limit_a_request_ends_with_an_error_and_keeps_what_it_has(self) -> None:
        client, server = online2(limits=ClientLimits(max_all_results=2000))
        small, greedy = client.ask(), client.ask()
        server.send(update(small, bob={"success": True, "result": 1}))
        for number in range(10):
            server.send(update(greedy, **{f"s{number}": {"success": True, "result": "x" * 300}}))
        assert isinstance(greedy.error, QueueFull)
        assert greedy.finished
        assert [r.result for r in greedy.responses.values()] == ["x" * 300] * 2
        assert {"action": "cancel_ack", "ack_id": greedy.id} in [
            {name: m.get(name) for name in ("action", "ack_id")} for m in server.take()
        ]
        assert [event.handle for event in client.take(AckChanged)][-1] in (small, greedy)
        server.send(update(small, carol={"success": True, "result": "y" * 300}))
        assert sorted(small.responses) == ["bob", "carol"]
        server.send({"action": "ack_response", "ack_id": small.id, "complete": True})
        assert small.finished
        assert small.error is None
        assert client.session.asking.pending.size == 0

    def test_the_end_of_a_connection_gives_all_back(self) -> None:
        client, server = online2()
        handle = client.ask()
        server.send(update(handle, bob={"success": True, "result": 1}))
        assert client.session.asking.pending.size > 0
        server.hang_up()
        assert client.session.asking.pending.size == 0


class TestMailbox:
    def test_tiny_messages_count_with_what_they_take(self) -> None:
        client, server = online2(limits=ClientLimits(mailbox_bytes=LIMIT))
        mailbox = client.subscribe("t")
        batch = {"action": "publish", "topic": "t", "from": "a", "batch": [0] * 100}

        def build() -> None:
            while not mailbox.dropped:
                server.send(batch)

        assert memory_of(build) <= MULTIPLE * LIMIT + SLACK
        assert mailbox.size <= LIMIT
        assert len(mailbox) >= LIMIT // (MESSAGE + 10) - 100


class TestOffline:
    def test_kept_messages_count_with_what_they_take(self) -> None:
        client = Client(offline_messages=10**6, offline_bytes=LIMIT)

        def build() -> None:
            with pytest.raises(QueueFull):
                while True:
                    client.publish("t", 1)

        assert memory_of(build) <= MULTIPLE * LIMIT + SLACK
        assert client.session.backlog > LIMIT - 200 - KEPT


class TestErrors:
    def test_the_program_gets_no_endless_text(self) -> None:
        client, server = online2()
        server.send({"action": "error", "error": "x" * 100_000, "code": "c"})
        (event,) = client.take(ErrorReceived)
        assert len(event.text) == 1000

    def test_a_barrier_does_not_keep_all_errors(self) -> None:
        client, server = online2()
        barrier = client.session.asking.barrier(client.now)
        for number in range(500):
            server.send({"action": "error", "error": str(number), "code": "c"})
        assert barrier.refusals == [str(number) for number in range(10)]


def test_publications_that_are_not_written_are_in_memory_once() -> None:
    client, _ = online2(limits=ClientLimits(queue_bytes=LIMIT))

    def build() -> None:
        with pytest.raises(QueueFull):
            while True:
                client.publish("t", "x" * 50)

    assert memory_of(build) <= MULTIPLE * LIMIT + 2 * SLACK  # and the batch that is being formed


def test_unwritten_batches_are_kept_for_the_next_connection() -> None:
    client, server = online2(offline_messages=100, reconnect=Backoff())
    for number in range(3):
        client.publish("t", number)
    client.publish("u", "alone")
    server.hang_up()
    assert client.session.dropped == 0
    kept = [orjson.loads(message) for message in client.session.sender._offline.take_all()]
    assert [(m["topic"], m["data"], m["from"]) for m in kept] == [
        ("t", 0, "me"), ("t", 1, "me"), ("t", 2, "me"), ("u", "alone", "me"),
    ]  # fmt: skip
