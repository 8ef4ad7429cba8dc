"""A signal handler raises within a call, as that of Ctrl-C does: the next call works."""

from typing import Any

import pytest

from kps.protocol.timers import Deadlines, Expiries
from tests.interrupting import Interruption, at_every_place
from tests.protocol.helpers import Client, FakeServer, Stage

CORE = "/kps/protocol/"


def nothing() -> None:
    """Wait for the end of a call, as what another handler has published."""


def connected(level: int) -> tuple[Client, FakeServer]:
    client = Client()
    server = client.connect(proto=level) if level > 1 else client.connect()
    client.new_events()
    return client, server


@pytest.mark.pure("nothing comes in between within compiled code")
@pytest.mark.parametrize("level", [1, 2])
def test_the_next_calls_of_a_client_work(level: int) -> None:
    def run(interruption: Interruption) -> None:
        client, server = connected(level)
        session, now = client.session, client.clock.now

        def work() -> None:
            waiting = session.calls.waiting
            waiting.append(nothing)
            session.publish("a", 1, now)
            waiting.append(nothing)
            session.publish_to_id("someone", 2, now)
            waiting.append(nothing)
            session.subscribe("c", now)
            waiting.append(nothing)
            session.asking.publish_with_ack("a", 3, 5.0, now)
            session.asking.barrier(now)
            waiting.append(nothing)
            session.handle_timeout(now)

        interruption.during(work)
        session.publish("z", "after", now)
        session.subscribe("d", now)
        asked = session.asking.barrier(now)
        sent = server.take()
        published = [fields for fields in sent if fields["action"] == "publish"]
        assert published[-1]["topic"] == "z"
        assert {"action": "subscribe", "topic": "d"}.items() <= sent[-2].items()
        client.clock.advance(1000)
        session.handle_timeout(client.clock.now)
        session.close(client.clock.now)
        assert asked.error is not None

    assert at_every_place(run, CORE) > 200


@pytest.mark.pure("nothing comes in between within compiled code")
@pytest.mark.parametrize("level", [1, 2])
def test_what_interrupts_reading_and_writing_ends_no_call_for_good(level: int) -> None:
    def run(interruption: Interruption) -> None:
        client, server = connected(level)
        session = client.session
        client.session.subscribe("c", client.clock.now)

        def work() -> None:
            server.take()
            session.calls.waiting.append(nothing)
            server.send({"action": "publish", "topic": "c", "data": 1, "from": "x"})
            session.calls.waiting.append(nothing)
            server.take()

        interruption.during(work)
        session.publish("z", "after", client.clock.now)
        session.subscribe("d", client.clock.now)
        assert not session.calls.is_under_way

    assert at_every_place(run, CORE) > 50


@pytest.mark.pure("nothing comes in between within compiled code")
def test_the_next_calls_of_a_server_work() -> None:
    def run(interruption: Interruption) -> None:
        stage = Stage()
        hub, now = stage.hub, stage.clock.now
        peers = [stage.peer(name) for name in ("one", "two", "three")]
        for peer in peers:
            peer.ask({"action": "subscribe", "topic": "t"})
        own = hub.local.subscribe("t")

        def work() -> None:
            waiting = hub.calls.waiting
            waiting.append(nothing)
            hub.publish("t", 1, now)
            waiting.append(nothing)
            hub.publish_to_id("one", 2, now)
            waiting.append(nothing)
            hub.publish_with_ack("t", 3, 5.0, now)
            waiting.append(nothing)
            hub.local.subscribe("u")
            waiting.append(nothing)
            hub.cancel_ack(hub.publish_with_ack("t", 4, 5.0, now))
            hub.publish_with_ack("nobody", 5, 5.0, now)
            hub.take_unflushed()

        interruption.during(work)
        assert hub.publish("t", "after", now) == 4
        for peer in peers:
            got: list[Any] = [
                fields["data"]["data"] for fields in peer.take() if fields["action"] == "publish"
            ]
            assert got[-1] == "after"
        assert own in hub.local.subscriptions.ready
        assert [message.data for message in own.take_all()][-1] == "after"
        hub.local.subscribe("v")
        stage.clock.advance(1000)
        hub.handle_timeout(stage.clock.now)  # all requests time out
        asked = hub.publish_with_ack("nobody", 6, 5.0, stage.clock.now)
        assert asked.finished
        hub.end(stage.clock.now)

    assert at_every_place(run, CORE) > 200


@pytest.mark.pure("nothing comes in between within compiled code")
def test_nothing_is_left_of_a_client_whose_end_was_interrupted() -> None:
    def run(interruption: Interruption) -> None:
        stage = Stage()
        hub, state = stage.hub, stage.hub.state
        leaver, other = stage.peer("leaver"), stage.peer("other")
        for number in range(3):
            leaver.ask({"action": "subscribe", "topic": f"t{number}"})
        other.ask({"action": "subscribe", "topic": "t2"})
        leaver.ask(
            {"action": "publish_with_ack", "topic": "t2", "data": 1, "ack_id": "x", "timeout": 5}
        )
        hub.publish_with_ack("t1", 2, 5.0, stage.clock.now)
        lose = leaver.connection.connection_lost
        interruption.during(lambda: lose(stage.clock.now))
        lose(stage.clock.now)
        stage.advance(10.0)  # an outcome that was not told ends with its request
        assert list(hub.connections) == [other.connection.number]
        assert list(hub.clients) == ["other"]
        assert state.bus.subjects(10) == [("t2", 1, 1)]
        assert not state.bus._leaving
        assert (len(state.acks), state.acks.awaited) == (0, 0)
        assert state.admission._admitted == 1
        assert list(state.admission._by_origin.values()) == [1]
        other.connection.connection_lost(stage.clock.now)
        assert hub.next_deadline() is None

    assert at_every_place(run, CORE) > 30


class Item:
    """Has a deadline, once."""

    def __init__(self, deadline: float) -> None:
        self.deadline: float | None = deadline

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timeout(self, now: float) -> None:
        assert self.deadline is not None
        if now >= self.deadline:
            self.deadline = None


@pytest.mark.pure("nothing comes in between within compiled code")
def test_what_has_a_deadline_is_called_all_the_same() -> None:
    def run(interruption: Interruption) -> None:
        deadlines = Deadlines()
        late, early, gone = Item(3.0), Item(2.0), Item(2.5)

        def work() -> None:
            for item in (late, early, gone):
                deadlines.schedule(item)
            gone.deadline = None
            deadlines.cancel(gone)
            late.deadline = 1.0
            deadlines.schedule(late)
            deadlines.handle_timeout(1.5)
            late.deadline = 4.0
            deadlines.schedule(late)
            deadlines.handle_timeout(2.2)

        interruption.during(work)
        for item in (late, early):
            if not item.deadline:
                item.deadline = 5.0
            deadlines.schedule(item)
        for now in (2.2, 3.0, 4.0, 5.0):
            deadlines.handle_timeout(now)
        assert (late.deadline, early.deadline) == (None, None)
        assert deadlines.next_deadline() is None

    assert at_every_place(run, "/kps/protocol/timers.py") > 40


@pytest.mark.pure("nothing comes in between within compiled code")
def test_what_expires_is_called_all_the_same() -> None:
    def run(interruption: Interruption) -> None:
        deadlines = Deadlines()
        expiries = Expiries(deadlines)
        entered: list[Item] = []

        def enter(deadline: float) -> Item:
            item = Item(deadline)
            expiries.schedule(item)
            entered.append(item)  # whoever could not enter it knows that
            return item

        def work() -> None:
            enter(1.0)
            enter(3.0)
            enter(2.0)
            gone = enter(3.0)
            gone.deadline = None
            expiries.cancel(gone)
            deadlines.handle_timeout(1.5)
            expiries.rest()
            deadlines.handle_timeout(2.5)
            enter(4.0)

        interruption.during(work)
        enter(5.0)
        enter(4.5)
        for now in (3.0, 4.0, 5.0, 6.0):
            deadlines.handle_timeout(now)
        assert [item.deadline for item in entered] == [None] * len(entered)
        assert len(expiries) == 0
        assert deadlines.next_deadline() is None

    assert at_every_place(run, "/kps/protocol/timers.py") > 40
