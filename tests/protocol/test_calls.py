"""What a program publishes while a call is under way in the same thread, at every place in it.

A signal handler, a finalizer and a log handler run like that.
"""

from collections.abc import Callable
from typing import Any

import pytest

from kps.errors import ClientClosed, InvalidState, NotConnected
from kps.protocol.client.events import ErrorReceived
from tests.interrupting import Interruption
from tests.protocol.helpers import Client, FakeServer, Stage, of_type

NEWER: dict[str, Any] = {"proto": 2, "features": ["headers"]}
HEADERS = b'{"a":"b"}'


def interrupted(at: int, call: Callable[[], object], handler: Callable[[], object]) -> bool:
    """Call ``handler`` once, at the n-th place of a call; tell whether it has so many."""
    interruption = Interruption(at, "/kps/protocol/", handler=handler)
    interruption.during(call)
    return interruption.place != ""


def at_every_place(run: Callable[[int], bool]) -> int:
    """Call ``run`` with 0, 1, … until the call that it interrupts has no such place."""
    place = 0
    while run(place):
        place += 1
    return place


def connected(**pong: Any) -> tuple[Client, FakeServer]:
    client = Client()
    server = client.connect(**pong)
    client.new_events()
    return client, server


class Written:
    """What a client with an interrupted call has written: topic and payload, in order."""

    def __init__(self, client: Client, server: FakeServer) -> None:
        self.client, self.server = client, server

    def take(self) -> list[tuple[str, Any]]:
        found = []
        for fields in self.server.take():
            if fields["action"] == "publish":
                payloads = fields["batch"] if "batch" in fields else [fields["data"]]
                found += [(fields["topic"], payload) for payload in payloads]
        return found


@pytest.mark.pure("nothing comes in between within compiled code")
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("nested", ["a", "b"], ids=["same-topic", "another-topic"])
def test_a_client_loses_repeats_and_reorders_nothing(level: int, nested: str) -> None:
    def run(place: int) -> bool:
        client, server = connected(**(NEWER if level == 2 else {}))
        session, now = client.session, client.clock.now
        headers = HEADERS if level == 2 else b""
        written: list[tuple[str, Any]] = []

        def work() -> None:
            session.publish("a", 1, now)
            session.publish("a", 2, now)
            session.publish("b", 3, now)
            session.publish_to_id("someone", 4, now)
            session.subscribe("c", now)
            session.publish("a", 5, now)
            written.extend(Written(client, server).take())
            session.publish("a", 6, now)
            server.send({"action": "publish", "topic": "c", "data": 1, "from": "x"})
            session.handle_timeout(now)
            session.sender.publish_with_headers("b", 7, now, headers)

        def handler() -> None:
            session.publish(nested, "first", now)
            session.sender.publish_with_headers(nested, "second", now, headers)

        has_come = interrupted(place, work, handler)
        written.extend(Written(client, server).take())
        own = [payload for _, payload in written if isinstance(payload, int)]
        assert own == [1, 2, 3, 5, 6, 7]
        if has_come:
            others = [payload for topic, payload in written if topic == nested]
            assert [payload for payload in others if isinstance(payload, str)] == [
                "first",
                "second",
            ]
            assert session.dropped == 0
        return has_come

    assert at_every_place(run) > 200


@pytest.mark.pure("nothing comes in between within compiled code")
def test_a_server_loses_repeats_and_reorders_nothing() -> None:
    def run(place: int) -> bool:
        stage = Stage()
        hub, now = stage.hub, stage.clock.now
        peers = [stage.peer(name) for name in ("one", "two", "three")]
        for peer in peers:
            peer.ask({"action": "subscribe", "topic": "t"})
        own = hub.local.subscribe("t")
        counts: list[int] = []

        def work() -> None:
            hub.publish("t", 1, now)
            peers[0].send({"action": "publish", "topic": "t", "data": 2, "from": "one"})
            hub.publish("t", 3, now, HEADERS)
            peers[1].read()
            hub.publish("t", 4, now)

        def handler() -> None:
            counts.append(hub.publish("t", "first", now))
            counts.append(hub.publish("t", "second", now, HEADERS))

        has_come = interrupted(place, work, handler)
        for peer in (peers[0], peers[2]):
            got = [
                fields["data"]["data"] for fields in peer.take() if fields["action"] == "publish"
            ]
            check(got, has_come)
        messages = own.take_all()
        check([message.data for message in messages], has_come)
        with_headers = {one.data for one in messages if one.headers}
        assert with_headers == ({3, "second"} if has_come else {3})
        assert counts == ([4, 4] if has_come else [])
        return has_come

    def check(got: list[Any], has_come: bool) -> None:
        assert [data for data in got if isinstance(data, int)] == [1, 2, 3, 4]
        texts = [data for data in got if isinstance(data, str)]
        assert texts == (["first", "second"] if has_come else [])

    assert at_every_place(run) > 100


@pytest.mark.pure("nothing comes in between within compiled code")
@pytest.mark.parametrize("level", [1, 2])
def test_a_client_that_is_closed_from_within_a_call_loses_nothing(level: int) -> None:
    def run(place: int) -> bool:
        client, server = connected(**({"proto": 2} if level == 2 else {}))
        session, now = client.session, client.clock.now
        accepted: list[int] = []

        def work() -> None:
            for number, topic in enumerate("aab"):
                try:
                    session.publish(topic, number, now)
                except ClientClosed:
                    break
                accepted.append(number)

        has_come = interrupted(place, work, lambda: session.close(now))
        assert [payload for _, payload in Written(client, server).take()] == accepted
        assert session.dropped == 0
        assert session.ready is not has_come
        return has_come

    assert at_every_place(run) > 50


@pytest.mark.pure("nothing comes in between within compiled code")
def test_a_client_settles_and_unsubscribes_behind_the_call_that_is_under_way() -> None:
    def run(place: int) -> bool:
        client, server = connected(proto=2)
        session, now = client.session, client.clock.now
        mailbox = session.subscribe("t", now)
        server.take()
        server.send({"action": "publish_ack", "topic": "t", "data": 1, "ack_id": "1"})
        message = mailbox.take()
        assert message is not None

        def work() -> None:
            session.publish("a", 1, now)
            session.publish("a", 2, now)

        def handler() -> None:
            session.settle(message, None, now)
            session.unsubscribe(mailbox, now)

        has_come = interrupted(place, work, handler)
        written = server.take()
        own = [fields for fields in written if fields["action"] == "publish"]
        payloads = [payload for one in own for payload in one.get("batch", [one.get("data")])]
        assert payloads == [1, 2]
        others = [fields["action"] for fields in written if fields["action"] != "publish"]
        assert others == (["ack", "unsubscribe"] if has_come else [])
        return has_come

    assert at_every_place(run) > 20


@pytest.mark.pure("nothing comes in between within compiled code")
def test_a_server_that_is_stopped_from_within_a_call_loses_nothing() -> None:
    def run(place: int) -> bool:
        stage = Stage()
        hub, now = stage.hub, stage.clock.now
        peers = [stage.peer(name) for name in ("one", "two")]
        for peer in peers:
            peer.ask({"action": "subscribe", "topic": "t"})

        counts: list[int] = []
        has_come = interrupted(
            place,
            lambda: counts.append(hub.publish("t", 1, now)),
            lambda: hub.shutdown(1.0, now),
        )
        got = [fields for peer in peers for fields in peer.take() if fields["action"] == "publish"]
        assert [len(got)] == counts
        assert hub.state.stopping is has_come
        assert hub.dropped() == 0
        return has_come

    assert at_every_place(run) > 20


def test_what_waits_for_the_end_of_a_call_is_what_the_program_gave() -> None:
    stage = Stage()
    hub, now = stage.hub, stage.clock.now
    peer = stage.peer("alice")
    peer.ask({"action": "subscribe", "topic": "t"})
    own, own_direct = hub.local.subscribe("t"), hub.local.subscriptions.open_direct()
    payload: dict[str, Any] = {"n": 1}
    hub.calls.is_under_way = True
    hub.publish("t", payload, now)
    hub.publish_to_id("alice", payload, now)
    hub.publish_to_id("server", payload, now)
    payload["n"] = object()
    hub.calls.end()
    assert [fields["data"] for fields in peer.take()] == [
        {"data": {"n": 1}, "from": "server"},
        {"n": 1},
    ]
    assert [message.data for message in own.take_all()] == [{"n": 1}]
    assert [message.data for message in own_direct.take_all()] == [{"n": 1}]


def test_what_the_interrupted_call_subscribes_to_gets_a_payload() -> None:
    stage = Stage()
    hub, now = stage.hub, stage.clock.now
    hub.calls.is_under_way = True
    hub.publish("t", {"n": 1}, now)
    hub.calls.is_under_way = False
    mailbox = hub.local.subscribe("t")  # which ends with what waits
    assert [message.data for message in mailbox.take_all()] == [{"n": 1}]


def test_whatever_else_is_asked_for_from_within_a_call_is_refused() -> None:
    client, _ = connected(proto=2)
    session, now = client.session, client.clock.now
    session.calls.is_under_way = True
    for call in (
        lambda: session.subscribe("t", now),
        lambda: session.asking.publish_with_ack("t", 1, 5.0, now),
        lambda: session.asking.publish_to_id_with_ack("a", 1, 5.0, now),
        lambda: session.asking.publish_with_receipt("t", 1, now),
        lambda: session.asking.barrier(now),
    ):
        with pytest.raises(InvalidState, match="under way"):
            call()
    hub = Stage().hub
    hub.calls.is_under_way = True
    for call in (
        lambda: hub.local.subscribe("t"),
        lambda: hub.publish_with_ack("t", 1, 5.0, now),
        lambda: hub.publish_to_id_with_ack("a", 1, 5.0, now),
    ):
        with pytest.raises(InvalidState, match="under way"):
            call()


def test_what_cannot_be_sent_from_within_a_call_is_refused_or_reported() -> None:
    client = Client()
    client.session.calls.is_under_way = True
    with pytest.raises(NotConnected):
        client.session.publish("t", 1, client.clock.now)
    client, server = connected(proto=2, limits={"max_message": 100})
    session, now = client.session, client.clock.now
    session.calls.is_under_way = True
    assert session.publish("t", "x" * 1000, now) == 0
    session.publish_to_id("someone", 1, now)
    session.calls.end()
    session.calls.is_under_way = False
    assert [fields["action"] for fields in server.take()] == ["direct_message"]
    assert session.dropped == 1
    (error,) = of_type(session.events(), ErrorReceived)
    assert "from within another call" in error.text
