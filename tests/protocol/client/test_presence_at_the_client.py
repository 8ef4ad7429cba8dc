"""Who is subscribed to a topic, as a client follows it (spec, 17)."""

from typing import Any

import pytest

from kps.errors import ConnectionLost, InvalidArgument, NotConnected, ServerError, Unsupported
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.members import Presence, check_wish
from kps.protocol.client.events import (
    BarrierPassed,
    ConnectNeeded,
    Disconnected,
    Ended,
    ErrorReceived,
    PresenceChanged,
    SubscriptionConfirmed,
    SubscriptionRefused,
)
from kps.protocol.client.pending import PresenceQuestion
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.requests import NO_WISH, PresenceWish
from kps.protocol.patterns import Pattern
from tests.protocol.helpers import Client, FakeServer, Fields, close_frame, of_type

RETRY = Backoff(first=1, factor=2, longest=8, jitter=0)
NEWER = {"proto": 2, "features": ["presence"]}
OLDER = {"proto": 2}
REFUSAL = {"action": "error", "error": "no", "code": "forbidden", "request": "subscribe"}


def callback(presence: Presence) -> None:
    """Only told apart from none."""


def online(**pong: Any) -> tuple[Client, FakeServer]:
    client = Client(reconnect=RETRY)
    server = client.connect(**pong or NEWER)
    client.new_events()
    return client, server


def reconnected(client: Client, server: FakeServer, **pong: Any) -> FakeServer:
    server.hang_up()
    client.advance(RETRY.longest)
    server = client.connect(**pong or NEWER)
    client.new_events()
    return server


def subscribe(
    client: Client, topic: str = "room", *, info: Any = None, observes: bool = False
) -> Mailbox:
    observer = callback if observes else None
    wish = check_wish(topic, info, observer)
    return client.session.subscribe(topic, client.now, wish=wish, observer=observer)


def observing(*members: Fields, **pong: Any) -> tuple[Client, FakeServer, Mailbox]:
    """A client that observes a topic, and knows these members of it."""
    client, server = online(**pong)
    mailbox = subscribe(client, observes=True)
    server.take()
    server.send(confirmation(*members))
    client.new_events()
    return client, server, mailbox


def confirmation(*members: Fields, version: int = 1) -> Fields:
    presence = {"count": len(members), "version": version, "members": list(members)}
    return {"action": "subscribed", "topic": "room", "presence": presence}


def change(count: int, version: int = 2, **fields: Any) -> Fields:
    return {"action": "presence", "topic": "room", "count": count, "version": version, **fields}


def changes(client: Client) -> list[Presence]:
    return [event.presence for event in client.take(PresenceChanged)]


A, B, C = {"id": "a", "info": {"x": 1}}, {"id": "b"}, {"id": "c"}


class TestWishes:
    @pytest.mark.parametrize("info", ["text", 5, ["x"], True, b"{}"])
    def test_an_info_is_a_dictionary(self, info: Any) -> None:
        with pytest.raises(InvalidArgument, match="info is a dictionary"):
            check_wish("room", info, None)

    @pytest.mark.parametrize("info", [{1: 2}, {"x": object()}, {"x": float("nan")}])
    def test_of_json(self, info: Any) -> None:
        with pytest.raises(InvalidArgument):
            check_wish("room", info, None)

    @pytest.mark.parametrize("wish", [({"x": 1}, None), (None, callback), ({}, callback)])
    def test_patterns_have_none(self, wish: tuple[Any, Any]) -> None:
        with pytest.raises(InvalidArgument, match="for a topic, not for a pattern"):
            check_wish(Pattern("r*"), *wish)
        assert check_wish(Pattern("r*"), None, None) == NO_WISH

    def test_what_they_say(self) -> None:
        assert check_wish("room", {"x": 1}, None) == PresenceWish(b'{"x":1}', None)
        assert check_wish("room", {}, callback) == PresenceWish(b"{}", True)
        assert check_wish("room", None, None) is NO_WISH


class TestSubscribing:
    def test_what_is_asked(self) -> None:
        client, server = online()
        subscribe(client, info={"x": [1, None]}, observes=True)
        subscribe(client, "hall", info={})
        subscribe(client, "attic")
        assert server.take() == [
            {"action": "subscribe", "topic": "room", "info": {"x": [1, None]}, "presence": True},
            {"action": "subscribe", "topic": "hall", "info": {}},
            {"action": "subscribe", "topic": "attic"},
        ]

    def test_the_confirmation_tells_who_is_there(self) -> None:
        client, server = online()
        subscribe(client, observes=True)
        server.send(confirmation(A, B))
        assert client.take(PresenceChanged, SubscriptionConfirmed) == [
            PresenceChanged(
                Presence(
                    "room", {"a": {"x": 1}, "b": None}, 2, 1, joined={"a": {"x": 1}, "b": None}
                )
            ),
            SubscriptionConfirmed("room"),
        ]

    def test_a_further_subscription_asks_only_for_what_it_adds(self) -> None:
        client, server, _ = observing(A)
        subscribe(client)
        assert server.take() == []
        subscribe(client, info={"y": 2})
        assert server.take() == [{"action": "subscribe", "topic": "room", "info": {"y": 2}}]
        subscribe(client, observes=True)
        assert server.take() == [{"action": "subscribe", "topic": "room", "presence": True}]
        server.send({"action": "subscribed", "topic": "room"})
        assert not client.session.is_confirmed("room")
        server.send(confirmation(A, B))
        assert client.session.is_confirmed("room")
        assert changes(client) == [
            Presence("room", {"a": {"x": 1}, "b": None}, 2, 1, joined={"b": None})
        ]

    def test_without_a_connection_all_is_asked_at_once(self) -> None:
        client, server = online()
        server.hang_up()
        subscribe(client, info={"x": 1})
        subscribe(client, observes=True)
        subscribe(client, info={"x": 2})
        client.advance(RETRY.longest)
        server = client.connect(**NEWER)
        assert server.take() == [
            {"action": "subscribe", "topic": "room", "info": {"x": 2}, "presence": True}
        ]

    @pytest.mark.parametrize("wish", [{"info": {"x": 1}}, {"info": {}}, {"observes": True}])
    @pytest.mark.parametrize("pong", [OLDER, {"proto": 1}, {**NEWER, "proto": 1}])
    def test_a_server_without_presence_is_not_asked(
        self, wish: dict[str, Any], pong: dict[str, Any]
    ) -> None:
        client, server = online(**pong)
        with pytest.raises(Unsupported) as refusal:
            subscribe(client, **wish)
        assert refusal.value.feature == "presence"
        assert server.take() == []
        assert client.session.subscriptions.keys == []
        subscribe(client)
        assert [message["topic"] for message in server.take()] == ["room"]


class TestFollowing:
    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            (
                {"joined": [C]},
                {"members": {"a": {"x": 1}, "b": None, "c": None}, "joined": {"c": None}},
            ),
            (
                {"joined": [{"id": "b", "info": {"y": 1}}, A]},
                {"members": {"a": {"x": 1}, "b": {"y": 1}}, "updated": {"b": {"y": 1}}},
            ),
            (
                {"joined": [{"id": "a"}]},
                {"members": {"a": None, "b": None}, "updated": {"a": None}},
            ),
            (
                {"left": [{"id": "b", "reason": "lost"}, {"id": "x", "reason": "closed"}]},
                {"members": {"a": {"x": 1}}, "left": {"b": "lost"}},
            ),
            (
                {"joined": [C], "left": [{"id": "a", "reason": "renamed"}]},
                {
                    "members": {"b": None, "c": None},
                    "joined": {"c": None},
                    "left": {"a": "renamed"},
                },
            ),
            (  # it is back already
                {"joined": [{"id": "a", "info": {"x": 2}}], "left": [{"id": "a"}]},
                {"members": {"a": {"x": 2}, "b": None}, "updated": {"a": {"x": 2}}},
            ),
            (
                {"left": [{"id": "a"}, {"id": "b", "reason": 5}]},
                {"members": {}, "left": {"a": "unknown", "b": "unknown"}},
            ),
            (
                {"members": [{"id": "a", "info": {"x": 2}}, C]},
                {
                    "members": {"a": {"x": 2}, "c": None},
                    "joined": {"c": None},
                    "updated": {"a": {"x": 2}},
                    "left": {"b": "unknown"},
                },
            ),
            ({"joined": []}, {"members": {"a": {"x": 1}, "b": None}}),
            ({}, {"members": None}),
        ],
    )
    def test_what_a_message_changes(self, fields: Fields, told: dict[str, Any]) -> None:
        client, server, _ = observing(A, B)
        server.send(change(7, 9, **fields))
        assert changes(client) == [Presence("room", told.pop("members"), 7, 9, **told)]

    def test_one_after_the_other(self) -> None:
        client, server, _ = observing(A)
        server.send(change(2, 2, joined=[B]), change(1, 3, left=[{"id": "a", "reason": "lost"}]))
        assert [(one.members, one.version) for one in changes(client)] == [
            ({"a": {"x": 1}, "b": None}, 2),
            ({"b": None}, 3),
        ]

    def test_what_the_program_has_got_does_not_change(self) -> None:
        client, server, _ = observing(A)
        server.send(change(2, joined=[B]))
        (before,) = changes(client)
        server.send(change(1, left=[{"id": "b", "reason": "lost"}]))
        changes(client)
        assert before.members == {"a": {"x": 1}, "b": None}
        assert before.joined == {"b": None}

    def test_what_the_program_does_to_it_changes_nothing_else(self) -> None:
        client, server, _ = observing(A)
        server.send(change(2, joined=[B]))
        (mine,) = changes(client)
        assert mine.members is not None
        mine.members.clear()
        server.send(change(3, joined=[C]))
        assert changes(client) == [
            Presence("room", {"a": {"x": 1}, "b": None, "c": None}, 3, 2, joined={"c": None})
        ]

    def test_too_many_and_no_more(self) -> None:
        client, server, _ = observing(A)
        server.send(change(5000), change(4999), change(4998, joined=[B]))
        assert [(one.members, one.count, one.joined) for one in changes(client)] == [
            (None, 5000, {}),
            (None, 4999, {}),
            (None, 4998, {}),
        ]
        server.send(change(1, members=[A]))
        assert changes(client) == [Presence("room", {"a": {"x": 1}}, 1, 2, joined={"a": {"x": 1}})]

    @pytest.mark.parametrize(
        "fields",
        [
            {"members": 5},
            {"members": [5, {"id": 5}, {}, None, []]},
            {"joined": 5, "left": "x"},
            {"joined": [5, {"id": 5}], "left": [5, {"id": ["a"]}, {}]},
            {"joined": None, "left": None, "members": None},
            {"count": "many", "version": "latest"},
            {"count": None, "version": 1.5},
        ],
    )
    def test_what_cannot_be_read_counts_as_missing(self, fields: Fields) -> None:
        client, server, _ = observing(A)
        server.send({**change(3), **fields})
        (told,) = changes(client)
        assert type(told.count) is int
        assert told.version is None or type(told.version) is int
        assert (told.joined, told.updated) == ({}, {})

    @pytest.mark.parametrize(
        "message",
        [
            {"action": "presence"},
            {"action": "presence", "topic": 5, "count": 1},
            {"action": "presence", "topic": "hall", "count": 1, "members": [A]},
            {**change(1, members=[A]), "nonce": "unknown"},
            {"action": "subscribed", "topic": "room", "presence": 5},
            {"action": "subscribed", "pattern": "r*", "presence": {"count": 1, "members": [A]}},
            {"action": "unsubscribed", "topic": "room", "presence": {"count": 1, "members": [A]}},
        ],
    )
    def test_what_is_about_nothing_is_ignored(self, message: Fields) -> None:
        client, server, _ = observing(A)
        server.send(message)
        assert changes(client) == []

    def test_nothing_is_told_to_who_does_not_observe(self) -> None:
        client, server = online()
        subscribe(client, info={"x": 1})
        server.send(confirmation(A), change(2, joined=[B]))
        assert changes(client) == []

    def test_every_subscription_has_its_own_observer(self) -> None:
        client, _, first = observing(A)
        second, third = subscribe(client), subscribe(client, observes=True)
        assert [one.observer for one in (first, second, third)] == [callback, None, callback]


class TestLeaving:
    def test_the_last_observer_goes_and_the_subscription_stays(self) -> None:
        client, server, first = observing(A)
        second = subscribe(client, observes=True)
        subscribe(client)
        server.send(confirmation(A))
        client.new_events()
        server.take()
        client.session.unsubscribe(first, client.now)
        assert server.take() == []
        client.session.unsubscribe(second, client.now)
        assert server.take() == [{"action": "subscribe", "topic": "room", "presence": False}]
        server.send(change(2, joined=[B]), {"action": "subscribed", "topic": "room"})
        assert changes(client) == []
        assert client.session.is_confirmed("room")
        server = reconnected(client, server)
        assert server.take() == [{"action": "subscribe", "topic": "room"}]

    def test_it_comes_again(self) -> None:
        client, server, first = observing(A)
        subscribe(client)
        client.session.unsubscribe(first, client.now)
        subscribe(client, observes=True)
        assert [message["presence"] for message in server.take()] == [False, True]
        server.send(change(2, joined=[B]), {"action": "subscribed", "topic": "room"})
        assert changes(client) == [], "that is of the time before"
        server.send(confirmation(B, C))
        assert changes(client) == [
            Presence("room", {"b": None, "c": None}, 2, 1, joined={"b": None, "c": None})
        ]

    def test_the_last_subscription_goes(self) -> None:
        client, server, mailbox = observing(A)
        client.session.unsubscribe(mailbox, client.now)
        assert server.take() == [{"action": "unsubscribe", "topic": "room"}]
        server.send(change(2, joined=[B]), {"action": "unsubscribed", "topic": "room"})
        assert changes(client) == []
        members = client.session.members
        assert members._known == {}

    def test_while_there_is_no_connection(self) -> None:
        client, server, mailbox = observing(A)
        subscribe(client)
        server.hang_up()
        client.session.unsubscribe(mailbox, client.now)
        client.advance(RETRY.longest)
        server = client.connect(**NEWER)
        assert server.take() == [{"action": "subscribe", "topic": "room"}]

    def test_its_info_ends_with_the_subscription(self) -> None:
        client, server = online()
        mailbox = subscribe(client, info={"x": 1})
        client.session.unsubscribe(mailbox, client.now)
        subscribe(client)
        assert "info" not in server.take()[-1]


class TestRefused:
    def test_the_first_question(self) -> None:
        client, server = online()
        mailbox = subscribe(client, observes=True)
        server.send({**REFUSAL, "topic": "room"})
        assert client.take(SubscriptionRefused, ErrorReceived) == [
            SubscriptionRefused([mailbox]),
            ErrorReceived("no", "forbidden", "subscribe", "room"),
        ]
        assert isinstance(mailbox.error, ServerError)
        assert client.session.subscriptions.keys == []
        assert len(client.session.topics) == 0

    def test_what_another_one_adds(self) -> None:
        """The subscription goes on; who wants to observe gets the error."""
        client, server = online()
        plain = subscribe(client)
        server.send({"action": "subscribed", "topic": "room"})
        mailbox = subscribe(client, observes=True)
        server.take()
        client.new_events()
        server.send({**REFUSAL, "topic": "room"})
        assert client.take(SubscriptionRefused, ErrorReceived, SubscriptionConfirmed) == [
            SubscriptionConfirmed("room"),
            SubscriptionRefused([mailbox]),
            ErrorReceived("no", "forbidden", "subscribe", "room"),
        ]
        assert isinstance(mailbox.error, ServerError)
        assert plain.error is None
        assert client.session.is_confirmed("room")
        server = reconnected(client, server)
        assert server.take() == [{"action": "subscribe", "topic": "room"}]

    def test_when_the_plain_subscription_has_gone_meanwhile(self) -> None:
        client, server = online()
        plain = subscribe(client)
        server.send({"action": "subscribed", "topic": "room"})
        mailbox = subscribe(client, observes=True)
        client.session.unsubscribe(plain, client.now)
        server.take()
        server.send({**REFUSAL, "topic": "room"})
        assert mailbox.error is not None
        assert server.take() == [{"action": "unsubscribe", "topic": "room"}]
        server.send({"action": "unsubscribed", "topic": "room"})
        assert len(client.session.topics) == 0

    def test_what_was_said_before_it_and_behind_it_remains(self) -> None:
        client, server = online()
        subscribe(client, info={"x": 1})
        server.send({"action": "subscribed", "topic": "room"})
        subscribe(client, observes=True)
        subscribe(client, info={"x": 2})
        refused = subscribe(client, info={"x": 3})
        confirmed = {"action": "subscribed", "topic": "room"}
        server.send({**REFUSAL, "topic": "room"}, confirmed, {**REFUSAL, "topic": "room"})
        assert refused.error is not None
        server = reconnected(client, server)
        assert server.take() == [{"action": "subscribe", "topic": "room", "info": {"x": 2}}]

    def test_when_what_it_repeats_has_ended_meanwhile(self) -> None:
        """Nobody observes any more, and the server is told."""
        client, server, first = observing(A)
        subscribe(client)
        second = subscribe(client, observes=True)
        client.session.unsubscribe(first, client.now)
        server.take()
        server.send({**REFUSAL, "topic": "room"})
        assert second.error is not None
        assert server.take() == [{"action": "subscribe", "topic": "room", "presence": False}]
        assert client.session.members._known == {}
        server = reconnected(client, server)
        assert server.take() == [{"action": "subscribe", "topic": "room"}]

    def test_what_wants_less(self) -> None:
        client, server, observer = observing(A)
        subscribe(client, info={"x": 1})
        server.send({"action": "subscribed", "topic": "room"})
        client.session.unsubscribe(observer, client.now)
        server.send({**REFUSAL, "topic": "room"})
        server = reconnected(client, server)
        assert server.take() == [{"action": "subscribe", "topic": "room", "info": {"x": 1}}]

    def test_after_a_reconnect(self) -> None:
        client, server, mailbox = observing(A)
        server = reconnected(client, server)
        server.send({**REFUSAL, "topic": "room"})
        assert isinstance(mailbox.error, ServerError)
        members = client.session.members
        assert members._known == {}


class TestReconnecting:
    def test_it_subscribes_again_and_tells_what_has_changed(self) -> None:
        client, server, _ = observing(A, B)
        subscribe(client, info={"me": 1})
        server = reconnected(client, server)
        assert server.take() == [
            {"action": "subscribe", "topic": "room", "info": {"me": 1}, "presence": True}
        ]
        assert len(of_type(client.events, PresenceChanged, ErrorReceived)) == 1, "the first one"
        server.send(confirmation({"id": "a", "info": {"x": 2}}, C, version=9))
        assert changes(client) == [
            Presence(
                "room",
                {"a": {"x": 2}, "c": None},
                2,
                9,
                joined={"c": None},
                updated={"a": {"x": 2}},
                left={"b": "unknown"},
            )
        ]

    def test_too_many_members_then(self) -> None:
        client, server, _ = observing(A)
        server = reconnected(client, server)
        told = {"count": 5000, "version": 3}
        server.send({"action": "subscribed", "topic": "room", "presence": told})
        assert changes(client) == [Presence("room", None, 5000, 3)]

    def test_a_server_without_presence(self) -> None:
        client, server, mailbox = observing(A)
        other = subscribe(client, "hall", info={"x": 1})
        server.hang_up()
        client.advance(RETRY.longest)
        server = client.connect(**OLDER)
        assert server.take() == [
            {"action": "subscribe", "topic": "room"},
            {"action": "subscribe", "topic": "hall"},
        ]
        reason = "the server does not have presence"
        assert client.take(ErrorReceived) == [
            ErrorReceived(reason, "unsupported", "subscribe", "room")
        ]
        assert (mailbox.error, other.error) == (None, None)
        client.session.unsubscribe(mailbox, client.now)
        assert server.take() == [{"action": "unsubscribe", "topic": "room"}]

    def test_and_then_one_with_it(self) -> None:
        client, server, _ = observing(A)
        server = reconnected(client, reconnected(client, server, **OLDER))
        assert server.take() == [{"action": "subscribe", "topic": "room", "presence": True}]
        server.send(confirmation(B))
        (told,) = changes(client)
        assert (told.joined, told.left) == ({"b": None}, {"a": "unknown"})

    def test_a_client_that_was_sent_away_for_good_does_not_come_back(self) -> None:
        client, server, _ = observing(A)
        server.feed(close_frame(4003, "enough", key=None))
        server.hang_up()
        lost, ended = client.take(Disconnected, Ended)
        assert (lost.closed.code, lost.closed.reason, lost.retry_in) == (4003, "enough", None)
        assert isinstance(ended.error, ConnectionLost)
        assert "enough" in str(ended.error)
        client.advance(1000.0)
        assert client.take(ConnectNeeded) == []


class TestAsking:
    def ask(self, client: Client, topic: str = "room") -> PresenceQuestion:
        return client.session.members.ask(topic, client.now)

    def test_asked_and_answered(self) -> None:
        client, server = online()
        question = self.ask(client)
        (message,) = server.take()
        assert message.keys() == {"action", "topic", "nonce"}
        assert (message["action"], message["topic"]) == ("presence", "room")
        server.send({**message, "count": 2, "members": [A, B]})
        assert client.take(BarrierPassed, PresenceChanged) == [BarrierPassed(question)]
        assert question.passed
        assert question.presence == Presence("room", {"a": {"x": 1}, "b": None}, 2, None)

    def test_several_at_once(self) -> None:
        client, server = online()
        questions = [self.ask(client, topic) for topic in ("a", "b")]
        first, second = server.take()
        server.send({**second, "count": 2}, {**first, "count": 1, "version": 5})
        assert [q.presence and (q.presence.topic, q.presence.count) for q in questions] == [
            ("a", 1),
            ("b", 2),
        ]
        assert [q.presence and q.presence.version for q in questions] == [5, None]

    def test_the_answer_is_no_change(self) -> None:
        """The observers of the topic follow what they are told."""
        client, server, _ = observing(A)
        question = self.ask(client)
        (message,) = server.take()
        server.send({**message, "count": 2, "members": [A, B], "version": 7})
        assert question.passed
        assert changes(client) == []
        server.send(change(2, 7, joined=[B]))
        assert len(changes(client)) == 1

    def test_an_answer_to_something_else(self) -> None:
        client, server = online()
        question = self.ask(client)
        barrier = client.session.asking.barrier(client.now)
        message, ping = server.take()
        server.send({**message, "nonce": ping["nonce"], "count": 1})
        assert not question.passed
        assert not barrier.passed
        server.send({**message, "count": 1})
        server.send({**message, "count": 2})
        assert question.presence is not None
        assert question.presence.count == 1

    def test_refused(self) -> None:
        client, server = online()
        question = self.ask(client)
        (message,) = server.take()
        server.send(
            {
                "action": "error",
                "error": "no",
                "code": "forbidden",
                "request": "presence",
                "topic": "room",
                "nonce": message["nonce"],
            }
        )
        assert client.take(BarrierPassed, ErrorReceived) == [BarrierPassed(question)]
        assert isinstance(question.error, ServerError)
        assert (question.error.code, question.error.topic) == ("forbidden", "room")
        client.check_nothing_pending()

    def test_the_connection_ends(self) -> None:
        client, server = online()
        question = self.ask(client)
        server.hang_up()
        assert isinstance(question.error, ConnectionLost)
        client.check_nothing_pending()

    def test_what_is_refused_here(self) -> None:
        client, server = online()
        with pytest.raises(InvalidArgument):
            self.ask(client, "")
        server.hang_up()
        with pytest.raises(NotConnected):
            self.ask(client)
        client.advance(RETRY.longest)
        server = client.connect(**OLDER)
        with pytest.raises(Unsupported, match="does not have presence"):
            self.ask(client)
        assert server.take() == []
        client.check_nothing_pending()


@pytest.mark.parametrize(("told", "known"), [(7, 7), (None, None), ("7", None), (True, None)])
def test_an_ack_knows_the_version_of_its_message(told: Any, known: int | None) -> None:
    client, server = online()
    handle = client.ask()
    (message,) = server.take()
    fields = {} if told is None else {"presence": told}
    server.send({"action": "ack_response", "ack_id": message["ack_id"], "complete": True, **fields})
    assert handle.finished
    assert handle.presence == known
