"""The server's own program as a subscriber: it sees what a client would see, and is counted."""

from dataclasses import dataclass
from typing import Any

import pytest

from kps.errors import InvalidArgument
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.limits import Overflow
from kps.protocol.server_limits import ServerLimits
from tests.protocol.helpers import Peer, Stage, contents

FULL_AT_3 = ServerLimits(mailbox_messages=3)


@dataclass
class Order:
    number: int
    lines: tuple[str, ...]


def level_2(stage: Stage, client_id: str) -> Peer:
    peer = stage.peer().upgrade()
    peer.send({"action": "ping", "from": client_id, "proto": 2})
    peer.take()
    return peer


class TestPayloads:
    """A payload of the server's own program arrives as JSON, whoever gets it."""

    @staticmethod
    def publish(stage: Stage, data: Any) -> Any:
        mailbox = stage.hub.local.subscribe("t")
        stage.hub.publish("t", data, stage.clock.now)
        return mailbox

    @staticmethod
    def ask(stage: Stage, data: Any) -> Any:
        mailbox = stage.hub.local.subscribe("t")
        stage.hub.publish_with_ack("t", data, 5, stage.clock.now)
        return mailbox

    @staticmethod
    def direct(stage: Stage, data: Any) -> Any:
        mailbox = stage.hub.local.subscriptions.open_direct()
        stage.hub.publish_to_id("server", data, stage.clock.now)
        return mailbox

    @staticmethod
    def ask_directly(stage: Stage, data: Any) -> Any:
        mailbox = stage.hub.local.subscriptions.open_direct()
        stage.hub.publish_to_id_with_ack("server", data, 5, stage.clock.now)
        return mailbox

    WAYS = (publish, ask, direct, ask_directly)

    @pytest.mark.parametrize("way", WAYS)
    def test_is_what_json_makes_of_it(self, way: Any) -> None:
        (data,) = contents(way(Stage(), {"order": Order(1, ("a", "b")), "pair": (1, 2)}))
        assert data == {"order": {"number": 1, "lines": ["a", "b"]}, "pair": [1, 2]}

    @pytest.mark.parametrize("way", WAYS)
    def test_later_changes_are_not_seen(self, way: Any) -> None:
        payload = {"list": [1]}
        mailbox: Mailbox = way(Stage(), payload)
        payload["list"].append(2)
        assert contents(mailbox) == [{"list": [1]}]

    @pytest.mark.parametrize("way", WAYS)
    def test_what_is_no_json_is_refused(self, way: Any) -> None:
        with pytest.raises(InvalidArgument):
            way(Stage(), {"a": object()})

    def test_subscriptions_do_not_see_each_others_changes(self) -> None:
        stage = Stage()
        one, two = stage.hub.local.subscribe("t"), stage.hub.local.subscribe("t")
        alice = stage.peer("alice")
        stage.hub.publish("t", [[]], stage.clock.now)
        alice.send({"action": "publish", "topic": "t", "data": [[]]})
        alice.send({"action": "publish_with_ack", "topic": "t", "ack_id": "a", "data": [[]]})
        for message in one.take_all():
            message.data[0].append(1)
        assert contents(two) == [[[]]] * 3

    def test_server_data_is_not_shared(self) -> None:
        stage = Stage()
        stage.hub.addresses.add("here:1")
        topic = stage.hub.local.subscribe("t")
        mailboxes = [stage.hub.local.subscriptions.open_server_data() for _ in range(2)]
        payload = {"data": {"topic": "t", "data": []}, "from": "x---ws://there:1/"}
        stage.peer("relay").send({"action": "server-to-server", "to": "here:1", "data": payload})
        for mailbox in mailboxes:
            (message,) = mailbox.take_all()
            assert message.data == {"topic": "t", "data": []}
            message.data["data"].append(1)
        assert contents(topic) == [[]]

    def test_result_is_what_json_makes_of_it(self) -> None:
        stage = Stage()
        mailbox = stage.hub.local.subscribe("t")
        handle = stage.hub.publish_with_ack("t", 1, 5, stage.clock.now)
        (message,) = mailbox.take_all()
        result = {"pair": (1, 2)}
        stage.hub.local.settle(message, None, stage.clock.now, result)
        result["pair"] = (3, 4)
        assert handle.responses["server"].result == {"pair": [1, 2]}


class TestCounting:
    """What a full mailbox dropped was not delivered."""

    def test_receipts(self) -> None:
        stage = Stage(limits=FULL_AT_3)
        stage.hub.local.subscribe("t")
        alice = level_2(stage, "alice")
        for number in range(5):
            alice.send({"action": "publish", "topic": "t", "data": 1, "receipt": str(number)})
        assert [one["delivered"] for one in alice.take()] == [1, 1, 1, 0, 0]
        assert (stage.hub.stats.delivered, stage.hub.dropped()) == (3, 2)

    def test_part_of_a_batch(self) -> None:
        stage = Stage(limits=FULL_AT_3)
        stage.hub.local.subscribe("t")
        alice = level_2(stage, "alice")
        alice.send({"action": "publish", "topic": "t", "batch": [1, 2, 3, 4, 5], "receipt": "r"})
        assert [one["delivered"] for one in alice.take()] == [0]
        assert (stage.hub.stats.delivered, stage.hub.dropped()) == (3, 2)

    def test_publishing_returns_how_many_had_room(self) -> None:
        stage = Stage(limits=FULL_AT_3)
        stage.hub.local.subscribe("t")
        now = stage.clock.now
        assert [stage.hub.publish("t", 1, now) for _ in range(5)] == [1, 1, 1, 0, 0]

    @pytest.mark.parametrize("subscriptions", [1, 2])
    @pytest.mark.parametrize("policy", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
    def test_whether_others_subscribe_makes_no_difference(
        self, subscriptions: int, policy: Overflow
    ) -> None:
        """What only this program gets takes a shorter way."""
        seen = []
        for others in (False, True):
            limits = ServerLimits(mailbox_messages=3, mailbox_overflow=policy)
            stage = Stage(limits=limits)
            hub, now = stage.hub, stage.clock.now
            mailboxes = [hub.local.subscribe("t") for _ in range(subscriptions)]
            if others:
                stage.hub.state.bus.subscribe(level_2(stage, "other").session, "t")
            reached = [hub.publish("t", {"é": number}, now) - others for number in range(5)]
            taken = [
                [(one.data, one.topic, one.sender, one.size) for one in mailbox.take_all()]
                for mailbox in mailboxes
            ]
            counted = hub.stats.published, hub.stats.delivered - 5 * others, hub.dropped()
            seen.append((reached, taken, counted, hub.state.bus.subjects(10)[0][2]))
        assert seen[0] == seen[1]

    def test_ack_requests(self) -> None:
        stage = Stage(limits=FULL_AT_3)
        stage.hub.local.subscribe("t")
        handles = [stage.hub.publish_with_ack("t", 1, 5, stage.clock.now) for _ in range(5)]
        assert [handle.finished for handle in handles] == [False, False, False, True, True]
        assert handles[4].responses["server"].error == "queue full"
        assert (stage.hub.stats.delivered, stage.hub.dropped()) == (3, 2)

    def test_direct_messages(self) -> None:
        stage = Stage(limits=FULL_AT_3)
        stage.hub.local.subscriptions.open_direct()
        for _ in range(5):
            stage.peer("alice").send({"action": "direct_message", "to": "server", "data": 1})
        assert stage.hub.dropped() == 2

    def test_one_of_two_subscriptions_is_full(self) -> None:
        stage = Stage(limits=FULL_AT_3)
        stage.hub.local.subscribe("t")
        quick = stage.hub.local.subscribe("t")
        for _ in range(5):
            assert stage.hub.publish("t", 1, stage.clock.now) == 1  # the program got it
            quick.take_all()
        assert (stage.hub.stats.delivered, stage.hub.dropped()) == (5, 2)

    def test_the_oldest_make_room(self) -> None:
        limits = ServerLimits(mailbox_messages=3, mailbox_overflow=Overflow.DROP_OLDEST)
        stage = Stage(limits=limits)
        mailbox = stage.hub.local.subscribe("t")
        for number in range(5):
            assert stage.hub.publish("t", number, stage.clock.now) == 1
        assert contents(mailbox) == [2, 3, 4]
        assert (stage.hub.stats.delivered, stage.hub.dropped()) == (5, 2)

    def test_a_message_larger_than_the_mailbox_does_not_empty_it(self) -> None:
        limits = ServerLimits(mailbox_bytes=200, mailbox_overflow=Overflow.DROP_OLDEST)
        stage = Stage(limits=limits)
        mailbox = stage.hub.local.subscribe("t")
        assert stage.hub.publish("t", "small", stage.clock.now) == 1
        assert stage.hub.publish("t", "x" * 300, stage.clock.now) == 0
        assert contents(mailbox) == ["small"]
