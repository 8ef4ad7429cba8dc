"""What clients ask the server about itself: who may, what it answers, and how much work that is."""

from typing import Any

import pytest

from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.bus.history import History
from kps.protocol.dialect.envelope import write
from kps.protocol.patterns import InGroup, Pattern
from kps.protocol.server import desk
from kps.protocol.server.events import ClientDismissed
from kps.protocol.server.fitting import MOST_BYTES
from kps.protocol.server.insight import CLIENT_SORTS, MOST_LISTED
from kps.protocol.server_limits import ServerLimits
from tests.protocol.helpers import Fields, Peer, Stage
from tests.protocol.server.test_groups_at_the_server import (
    ask,
    check_nothing_left,
    join,
    join_pattern,
    spent,
)
from tests.protocol.server.test_permissions_and_limits import peer2, ping2

EVERYTHING = Permissions.open(disconnect=["**"])
QUESTIONS = ("clients", "topics", "client", "topic", "record", "events", "disconnect")


def question(name: str, about: Any = None, ack_id: str = "q", **fields: Any) -> Fields:
    return {
        "action": "publish_with_ack",
        "topic": f"__kps/{name}",
        "data": about,
        "ack_id": ack_id,
        **fields,
    }


class Court:
    """A server that is asked about itself, by a client of level 2."""

    def __init__(self, **config: Any) -> None:
        config = {"permissions": EVERYTHING, **config}
        self.stage = Stage(is_monitored=True, **config)
        self.asker = self.peer("asker", Identity("", config["permissions"]))

    def peer(self, client_id: str, identity: Identity) -> Peer:
        """A peer of level 2, with an identity where the server asks for tokens."""
        peer = self.stage.peer().upgrade()
        peer.send({**ping2(client_id), "token": "x"})
        if self.stage.hub.config.asks_token:
            peer.identify(identity)
        assert peer.take()[0]["action"] == "pong"
        return peer

    def answer(self, name: str, peer: Peer | None = None, **about: Any) -> Fields:
        """The answer to a question, or the refusal of it."""
        peer = peer or self.asker
        peer.take()
        peer.send(question(name, about))
        self.stage.finish()
        self.stage.advance(0.05)
        (answer,) = [one for one in peer.take() if one.get("ack_id") == "q"]
        return answer

    def ask(self, name: str, **about: Any) -> Fields:
        """What the server tells."""
        outcome = self.outcome(name, **about)
        assert outcome["success"], outcome
        result: Fields = outcome["result"]
        return result

    def outcome(self, name: str, **about: Any) -> Fields:
        answer = self.answer(name, **about)
        assert answer["action"] == "ack_response", answer
        assert list(answer["responses"]) == ["server"]
        outcome: Fields = answer["responses"]["server"]
        return outcome

    def refusal(self, name: str, peer: Peer | None = None, **about: Any) -> tuple[str, str]:
        answer = self.answer(name, peer, **about)
        assert answer["action"] == "error", answer
        return answer["code"], answer["error"]

    def crowd(self, count: int, topic: str = "t{}") -> list[Peer]:
        peers = []
        for number in range(count):
            peer = peer2(self.stage, f"c{number}")
            peer.ask({"action": "subscribe", "topic": topic.format(number)})
            peers.append(peer)
        return peers


def ids(found: Fields) -> list[str]:
    return [one["id"] for one in found["clients"]]


def names(found: Fields) -> list[str]:
    return [one.get("topic") or one["pattern"] for one in found["topics"]]


class TestWho:
    @pytest.mark.parametrize("name", QUESTIONS)
    def test_nobody_without_permission(self, name: str) -> None:
        court = Court(permissions=Permissions())
        code, text = court.refusal(name, id="a", topic="t")
        assert code == "forbidden"
        assert text.startswith("this client may not")

    @pytest.mark.parametrize("name", QUESTIONS)
    def test_nobody_where_the_server_tells_nothing(self, name: str) -> None:
        stage = Stage(permissions=EVERYTHING)
        peer = peer2(stage, "a")
        (answer,) = peer.ask(question(name, {"id": "a"}))
        assert (answer["code"], answer["error"]) == ("forbidden", desk.NO_ANSWERS)

    @pytest.mark.parametrize("name", ["stats", "client/x", "", "Clients"])
    def test_other_topics_are_no_questions(self, name: str) -> None:
        assert Court().refusal(name) == ("forbidden", "this topic is the server's own")

    def test_they_are_questions_only_with_ack(self) -> None:
        court = Court()
        for message in (
            {"action": "publish", "topic": "__kps/clients", "data": 1},
            {"action": "publish", "topic": "__kps/clients", "data": 1, "receipt": "r"},
        ):
            (answer,) = court.asker.ask(message)
            assert (answer["code"], answer["error"]) == (
                "forbidden",
                "this topic is the server's own",
            )

    def test_to_disconnect_takes_a_permission_of_its_own(self) -> None:
        watcher = Permissions(console=True)
        court = Court(permissions=watcher)
        victim = peer2(court.stage, "victim")
        assert court.refusal("disconnect", id="victim") == (
            "forbidden",
            "this client may not disconnect this id",
        )
        assert victim.closed is None

    def test_anonymous_clients_have_it_only_if_the_program_says_so(self) -> None:
        assert Permissions().disconnect == Permissions.open().disconnect == ()

    def test_the_patterns_of_that_permission_count(self) -> None:
        court = Court(permissions=Permissions(disconnect=["s-*"]))
        one, other = peer2(court.stage, "s-1"), peer2(court.stage, "t-1")
        assert court.refusal("disconnect", id="t-1")[0] == "forbidden"
        assert court.ask("disconnect", id="s-1") == {"id": "s-1"}
        assert (one.closed, other.closed) == ((4003, "disconnected by an operator"), None)

    def test_on_level_1_the_answer_is_only_that_there_is_one(self) -> None:
        stage = Stage(is_monitored=True, permissions=EVERYTHING)
        peer = stage.peer("old")
        (answer,) = peer.ask(question("events"))
        assert answer["action"] == "ack_response"
        assert "server" in str(answer)


class TestQuestions:
    @pytest.mark.parametrize("about", [[], "x", 5, True])
    @pytest.mark.parametrize("name", QUESTIONS)
    def test_they_are_objects(self, name: str, about: Any) -> None:
        court = Court()
        (answer,) = court.asker.ask(question(name, about))
        assert answer["code"] == "bad_request"

    @pytest.mark.parametrize(
        ("name", "about"),
        [
            ("clients", {"filter": 5}),
            ("clients", {"filter": "x" * 257}),
            ("clients", {"sort": "name"}),
            ("clients", {"sort": []}),
            ("clients", {"descending": 1}),
            ("clients", {"limit": 0}),
            ("clients", {"limit": 1001}),
            ("clients", {"limit": 1.5}),
            ("clients", {"limit": True}),
            ("topics", {"sort": "id"}),
            ("client", {}),
            ("client", {"id": 5}),
            ("disconnect", {}),
            ("disconnect", {"id": ""}),
            ("disconnect", {"id": "x" * 257}),
            ("client", {"id": "x" * 257}),
            ("disconnect", {"id": "a", "reason": "x" * 257}),
            ("topic", {}),
            ("topic", {"topic": 5}),
            ("topic", {"pattern": "x" * 257}),
            ("events", {"since": 5}),
            ("events", {"since": {"server": 5}}),
            ("events", {"since": {"server": [1]}}),
            ("events", {"since": {"server": [1, "2"]}}),
            ("events", {"since": {str(number): [0, 0] for number in range(1025)}}),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, name: str, about: Fields) -> None:
        assert Court().refusal(name, **about)[0] == "bad_request"

    def test_the_rules_of_all_requests_hold(self) -> None:
        court = Court()
        court.asker.take()
        court.asker.send(question("clients", {}, "1"), question("clients", {}, "1"))
        court.stage.finish()
        court.stage.advance(0.05)
        answers = court.asker.take()
        assert [one.get("code", one["action"]) for one in answers] == [
            "ack_response",
            "ack_response",
        ]  # the first was answered at once, so its id is free
        limited = Court(limits=ServerLimits(max_ack_bytes=1))
        assert limited.refusal("clients")[0] == "limit_reached"

    def test_one_with_a_message_id_is_answered_once(self) -> None:
        court = Court()
        victim = peer2(court.stage, "victim")
        about = question("disconnect", {"id": "victim"}, message_id="m")
        (first,) = court.asker.ask(about)
        victim.connection.connection_lost(court.stage.clock.now)
        again = peer2(court.stage, "victim")
        (second,) = court.asker.ask({**about, "ack_id": "q2"})
        assert first["responses"] == second["responses"]
        assert again.closed is None

    def test_what_is_expected_of_others_has_no_meaning(self) -> None:
        court = Court()
        (answer,) = court.asker.ask(
            question("record", expect=["nobody", {"group": "g"}], key="k", retry=3)
        )
        assert list(answer["responses"]) == ["server"]
        assert "groups" not in answer

    def test_nothing_is_left_of_who_leaves_meanwhile(self) -> None:
        court = Court()
        court.crowd(20)
        for name in QUESTIONS:
            court.asker.send(question(name, {"id": "c1", "topic": "t1"}, name))
        check_nothing_left(court.stage)
        assert court.stage.hub.state.desk._searches == 0  # type: ignore[union-attr]


class TestClients:
    def test_all_that_is_known_of_each(self) -> None:
        court = Court()
        court.stage.clock.now += 2
        found = court.ask("clients")
        assert found == {
            "found": 1,
            "clients": [
                {
                    "id": "asker",
                    "identity": "",
                    "address": "192.0.2.1:40000",
                    "level": 2,
                    "age": 2.0,
                    "topics": 0,
                    "queue_messages": 0,
                    "queue_bytes": 0,
                    "dropped": 0,
                    "received": 2,
                    "delivered": 0,
                }
            ],
        }

    def test_of_a_crowd_the_first_ones_in_the_order_asked_for(self) -> None:
        court = Court()
        court.crowd(250)
        found = court.ask("clients")
        assert (found["found"], len(found["clients"])) == (251, 200)
        assert ids(found)[:4] == ["asker", "c0", "c1", "c2"]
        last = court.ask("clients", descending=True, limit=3)
        assert ids(last) == ["c249", "c248", "c247"]
        assert len(court.ask("clients", limit=1000)["clients"]) == 251

    def test_each_order_can_be_asked_for(self) -> None:
        court = Court()
        old, busy, slow = peer2(court.stage, "old"), peer2(court.stage, "busy"), court.asker
        court.stage.clock.now += 5
        young = peer2(court.stage, "young")
        for topic in "ab":
            old.ask({"action": "subscribe", "topic": topic})
        young.ask({"action": "subscribe", "topic": "a"})
        for _ in range(10):
            busy.ask({"action": "publish", "topic": "a", "data": 1})
        assert slow is court.asker
        for sort, first in {
            "id": "young",
            "age": "asker",
            "topics": "old",
            "queue_messages": "old",
            "queue_bytes": "old",
            "received": "busy",
            "delivered": "old",
        }.items():
            assert ids(court.ask("clients", sort=sort, descending=True, limit=1)) == [first], sort
        for sort in CLIENT_SORTS:
            assert len(ids(court.ask("clients", sort=sort))) == 4

    def test_the_fastest_ones(self) -> None:
        court = Court()
        slow, fast, getter = court.crowd(3, "t")
        court.ask("clients", sort="received_rate", descending=True)
        for peer, count in ((slow, 2), (fast, 6)):
            for _ in range(count):
                peer.ask({"action": "publish", "topic": "t", "data": 1})
                getter.take()
        court.stage.advance(2.0)
        found = court.ask("clients", sort="received_rate", descending=True, limit=2)
        shown = [(one["id"], one["received_rate"]) for one in found["clients"]]
        assert [name for name, _ in shown] == ["c1", "c0"]
        assert shown[0][1] == pytest.approx(3, abs=0.2)
        found = court.ask("clients", sort="delivered_rate", filter="c2")
        assert found["clients"][0]["delivered_rate"] == pytest.approx(4, abs=0.2)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("C1", ["c1", "c10", "c11"]), ("ask", ["asker"]), ("192.0.2.1", 13), ("zzz", [])],
    )
    def test_those_that_fit(self, text: str, expected: Any) -> None:
        court = Court()
        court.crowd(12)
        found = court.ask("clients", filter=text)
        assert found["found"] == len(found["clients"])
        assert expected in (ids(found), found["found"])

    def test_identities_are_told_and_searched(self) -> None:
        court = Court(asks_token=True)
        for name in ("alice", "bob"):
            court.peer(f"id-{name}", Identity(name, EVERYTHING))
        found = court.ask("clients", filter="ALI")
        assert [(one["id"], one["identity"]) for one in found["clients"]] == [("id-alice", "alice")]
        assert ids(court.ask("clients", sort="identity", descending=True, limit=1)) == ["id-bob"]

    def test_one_that_left_meanwhile_is_not_told(self) -> None:
        court = Court()
        peers = court.crowd(1100)
        court.asker.take()
        court.asker.send(question("clients", {"limit": 1000}))
        for peer in peers[:600]:
            peer.connection.connection_lost(court.stage.clock.now)
        court.stage.finish()
        court.stage.advance(0.05)
        (answer,) = court.asker.take()
        told = ids(answer["responses"]["server"]["result"])
        assert not {f"c{number}" for number in range(600)} & set(told)
        assert "c700" in told


class TestTopics:
    def new(self) -> tuple[Court, Peer]:
        court = Court(history=(History("news", size=5),))
        peer = peer2(court.stage, "p")
        peer.ask(
            {"action": "subscribe", "topic": "news", "presence": True},
            {"action": "subscribe", "pattern": "n**"},
            join("jobs"),
            {"action": "subscribe", "topic": "__kps/stats"},
        )
        for number in range(3):
            peer.ask({"action": "publish", "topic": "news", "data": number})
        return court, peer

    def test_all_that_is_known_of_each(self) -> None:
        court, _ = self.new()
        found = court.ask("topics")
        assert found == {
            "found": 3,
            "topics": [
                {"topic": "jobs", "subscribers": 1, "published": 0, "groups": 1},
                {"pattern": "n**", "subscribers": 1, "published": 3},
                {"topic": "news", "subscribers": 1, "published": 3, "kept": 3, "observers": 1},
            ],
        }

    def test_the_figures_tell_the_same(self) -> None:
        court, peer = self.new()
        court.stage.advance(1.1)
        stats = [one for one in peer.take() if one.get("topic") == "__kps/stats"][-1]["data"]
        told = [one for one in stats["topics"] if one.get("topic") != "__kps/stats"]
        assert sorted(told, key=str) == sorted(court.ask("topics")["topics"], key=str)
        assert (stats["groups"], stats["rosters"], stats["history_topics"]) == (1, 1, 1)
        assert stats["history_bytes"] > 0

    def test_orders_and_filters(self) -> None:
        court, peer = self.new()
        court.crowd(250)
        peer2(court.stage, "q").ask({"action": "subscribe", "topic": "jobs"})
        assert names(court.ask("topics", descending=True, limit=2)) == ["t249", "t248"]
        assert names(court.ask("topics", sort="subscribers", descending=True, limit=1)) == ["jobs"]
        assert set(names(court.ask("topics", sort="published", descending=True, limit=2))) == {
            "n**",
            "news",
        }
        found = court.ask("topics", filter="T24")
        assert (found["found"], names(found)[0], names(found)[-1]) == (11, "t24", "t249")
        court.ask("topics", sort="rate")
        court.stage.advance(1.0)
        peer.ask({"action": "publish", "topic": "t7", "data": 1})
        court.stage.advance(1.0)
        (first,) = court.ask("topics", sort="rate", descending=True, limit=1)["topics"]
        assert first["topic"] == "t7"
        assert first["rate"] == pytest.approx(0.5, abs=0.1)


class TestDetails:
    def test_of_a_client(self) -> None:
        court = Court()
        peer = peer2(court.stage, "p")
        peer.ask(
            {"action": "subscribe", "topic": "news"},
            {"action": "subscribe", "pattern": "n*"},
            join("jobs"),
            join_pattern("j*", "h"),
        )
        told = court.ask("client", id="p")
        assert told["subscriptions"] == [
            {"topic": "news"},
            {"pattern": "n*"},
            {"topic": "jobs", "group": "g"},
            {"pattern": "j*", "group": "h"},
        ]
        assert (told["topics"], told["node"], told["may_disconnect"]) == (4, "server", True)
        assert told["address"] == "192.0.2.1:40000"

    def test_of_one_that_is_not_there(self) -> None:
        assert Court().outcome("client", id="x") == {
            "success": False,
            "error": "no client has the id x",
        }

    def test_whether_it_may_be_disconnected(self) -> None:
        court = Court(permissions=Permissions(console=True, disconnect=["b*"]))
        peer2(court.stage, "bob")
        assert court.ask("client", id="bob")["may_disconnect"] is True
        assert court.ask("client", id="asker")["may_disconnect"] is False

    def test_the_list_of_subscriptions_ends(self) -> None:
        court = Court()
        peer = peer2(court.stage, "p")
        for number in range(600):
            peer.ask({"action": "subscribe", "topic": f"t{number}"})
        told = court.ask("client", id="p")
        assert (told["topics"], len(told["subscriptions"])) == (600, 500)

    def test_of_a_topic(self) -> None:
        court = Court(history=(History("news", size=2, ttl=60.0),))
        for number in range(2):
            peer = peer2(court.stage, f"p{number}")
            peer.ask({"action": "subscribe", "topic": "news", "presence": not number}, join("news"))
        peer2(court.stage, "other").ask({"action": "subscribe", "pattern": "n*"})
        for number in range(3):
            court.asker.ask({"action": "publish", "topic": "news", "data": number})
        court.stage.hub.local.subscribe("news")
        for number in range(2):
            court.asker.ask(ask(str(number), "news"))
        assert court.ask("topic", topic="news") == {
            "topic": "news",
            "subscribers": 5,
            "published": 5,
            "kept": 2,
            "observers": 1,
            "subscriptions": [
                {"id": "p0"},
                {"id": "p1"},
                {"id": "server"},
                {"id": "p1", "group": "g"},
                {"id": "p0", "group": "g"},  # whose turn is later
            ],
            "groups": [{"group": "g", "members": 2, "waiting": 0}],
            "patterns": [{"pattern": "n*", "subscribers": 1}],
            "history": {"kept": 2, "first": 4, "last": 5, "size": 2, "ttl": 60.0},
        }

    def test_of_a_group_that_cannot_keep_up(self) -> None:
        court = Court()
        peer2(court.stage, "worker").ask(join("jobs"))
        court.asker.ask(*(ask(str(number), "jobs") for number in range(4)))
        (group,) = court.ask("topic", topic="jobs")["groups"]
        assert group == {"group": "g", "members": 1, "waiting": 3}

    def test_of_a_pattern(self) -> None:
        court = Court()
        peer = peer2(court.stage, "p")
        peer.ask({"action": "subscribe", "pattern": "n*"}, {"action": "subscribe", "topic": "n*"})
        assert court.ask("topic", pattern="n*") == {
            "pattern": "n*",
            "subscribers": 1,
            "published": 0,
            "subscriptions": [{"id": "p"}],
            "groups": [],
        }

    def test_of_a_topic_that_nobody_subscribes_to(self) -> None:
        assert Court().ask("topic", topic="x") == {
            "topic": "x",
            "subscribers": 0,
            "published": 0,
            "subscriptions": [],
            "groups": [],
            "patterns": [],
        }

    def test_of_a_crowded_topic(self) -> None:
        court = Court()
        court.crowd(600, "t")
        told = court.ask("topic", topic="t")
        assert (told["subscribers"], len(told["subscriptions"])) == (600, 500)


class TestDisconnecting:
    def test_the_client_hears_why_and_the_log_by_whom(self) -> None:
        court = Court()
        victim = peer2(court.stage, "victim")
        assert court.ask("disconnect", id="victim", reason="too loud") == {"id": "victim"}
        assert victim.closed == (4003, "too loud")
        address = "192.0.2.1:40000"
        assert ClientDismissed("victim", "asker", "", address) in court.stage.hub.events()
        events = court.ask("events")["events"]
        dismissed = next(one for one in events if one["event"] == "dismissed")
        assert (dismissed["client"], dismissed["by"]) == ("victim", "asker")
        assert dismissed["by_address"] == address

    def test_one_that_is_not_there(self) -> None:
        assert Court().outcome("disconnect", id="x")["error"] == "no client has the id x"

    def test_the_server_is_no_client(self) -> None:
        assert Court().outcome("disconnect", id="server")["success"] is False

    def test_who_asks_may_mean_itself(self) -> None:
        court = Court()
        court.asker.send(question("disconnect", {"id": "asker"}))
        assert court.asker.closed == (4003, "disconnected by an operator")


class TestWhatHappens:
    def test_the_record(self) -> None:
        court = Court()
        for _ in range(3):
            court.asker.ask({"action": "publish", "topic": "t", "data": 1})
        court.stage.advance(2.5)
        told = court.ask("record")
        assert told["published"] == [3, 0]
        assert told["age"] == pytest.approx(0.5)

    def test_events_since_those_that_were_seen(self) -> None:
        court = Court()
        first = court.ask("events")
        assert [(one["event"], one["client"]) for one in first["events"]] == [
            ("connected", "asker")
        ]
        assert first["events"][0]["node"] == "server"
        assert court.ask("events", since=first["seen"])["events"] == []
        peer2(court.stage, "next")
        second = court.ask("events", since=first["seen"])
        assert [one["client"] for one in second["events"]] == ["next"]
        assert court.ask("events", since={"other": [0, 5]})["events"] != []

    def test_another_run_begins_anew(self) -> None:
        court = Court()
        started, number = court.ask("events")["seen"]["server"]
        assert court.ask("events", since={"server": [started, number]})["events"] == []
        assert len(court.ask("events", since={"server": [started - 1, number]})["events"]) == 1

    def test_the_figures_tell_how_many_there_were(self) -> None:
        court = Court()
        court.asker.ask({"action": "subscribe", "topic": "__kps/stats"})
        court.stage.advance(0.0)
        (figures,) = [one for one in court.asker.take() if one["action"] == "publish"]
        assert figures["data"]["events"] == court.ask("events")["seen"]["server"][1]


class TestWork:
    def test_a_search_is_charged_for_what_it_looks_at(self) -> None:
        court = Court()
        little = spent(court.stage, court.asker, question("clients"))
        court.crowd(400)
        much = spent(court.stage, court.asker, question("clients", ack_id="2"))
        assert much - little >= 400

    def test_a_search_is_charged_for_what_it_tells(self) -> None:
        court = Court()
        court.crowd(400)
        little = spent(court.stage, court.asker, question("clients", {"limit": 1}))
        much = spent(court.stage, court.asker, question("clients", {"limit": 400}, "2"))
        assert much - little >= 400

    def test_the_record_is_charged_for_its_seconds(self) -> None:
        court = Court()
        bare = spent(court.stage, court.asker, question("client", {"id": "nobody"}))
        assert spent(court.stage, court.asker, question("record", ack_id="2")) >= bare + 200

    def test_an_answer_is_charged_for_its_length(self) -> None:
        def cost(length: int) -> int:
            court = Court()
            for number in range(100):
                peer2(court.stage, f"c{number}").ask({"action": "x", "topic": "t" * length})
            return spent(court.stage, court.asker, question("events"))

        assert cost(1 + 250) - cost(1) >= 100 * 250 // desk._WRITTEN

    def test_a_topic_is_charged_for_the_members_of_its_groups(self) -> None:
        court = Court()
        for number in range(200):
            peer2(court.stage, f"c{number}").ask(join("t", "g"))
        bare = spent(court.stage, court.asker, question("topic", {"topic": "other"}))
        assert spent(court.stage, court.asker, question("topic", {"topic": "t"}, "2")) >= bare + 25

    def test_it_is_done_in_slices(self) -> None:
        court = Court()
        court.crowd(1500)
        court.asker.take()
        court.asker.send(question("clients"))
        assert court.asker.take() == [], "others have their turn first"
        court.stage.finish()
        court.stage.advance(0.05)
        assert court.asker.take()[0]["action"] == "ack_response"

    def test_there_are_not_endlessly_many_at_once(self) -> None:
        court = Court()
        court.crowd(1500)
        court.asker.take()
        for number in range(desk._SEARCHES + 2):
            court.asker.send(question("clients", {}, str(number)))
        court.stage.finish()
        refused = [one for one in court.asker.take() if one["action"] == "error"]
        assert {one["code"] for one in refused} == {"limit_reached"}
        assert len(refused) >= 1
        court.stage.advance(0.5)
        assert len(court.asker.take()) == desk._SEARCHES
        assert ids(court.ask("clients", limit=1)) == ["asker"]

    def test_a_route_that_is_asked_for_is_charged(self) -> None:
        court = Court()
        for number in range(50):
            peer2(court.stage, f"p{number}").ask(
                {"action": "subscribe", "pattern": f"a*{number}*"},
                {"action": "subscribe", "pattern": f"*{number}*b"},
            )
        bare = spent(court.stage, court.asker, question("topic", {"pattern": "a1b"}))
        cost = spent(court.stage, court.asker, question("topic", {"topic": "a1b"}, "2"))
        assert cost >= bare + 20
        assert court.stage.hub.state.bus.routes.searched == 0


def test_keys_are_kept_as_they_are() -> None:
    """A topic and a pattern of one name are two."""
    court = Court()
    peer = peer2(court.stage, "p")
    peer.ask({"action": "subscribe", "topic": "n*"}, {"action": "subscribe", "pattern": "n*"})
    peer.ask(join("n*"))
    assert Pattern("n*") in peer.session.topics
    assert InGroup("n*", "g") in peer.session.topics
    told = court.ask("topics")["topics"]
    assert sorted(told, key=str) == [
        {"pattern": "n*", "subscribers": 1, "published": 0},
        {"topic": "n*", "subscribers": 2, "published": 0, "groups": 1},
    ]


class TestLength:
    """An answer fits into one message of a client, which takes 1 MiB by default."""

    def test_groups_without_end(self) -> None:
        court = Court()
        for number in range(12):
            peer = peer2(court.stage, f"c{number}")
            peer.ask(
                *[join("t", f"{number:02}-{group:02}" + "\u4e00" * 240) for group in range(50)]
            )
        told = court.ask("topic", topic="t")
        assert (len(told["groups"]), told["group_count"]) == (MOST_LISTED, 600)
        assert told["groups"][-1]["group"].startswith("09-49")
        assert len(told["subscriptions"]) == MOST_LISTED

    def test_long_names_of_very_many(self) -> None:
        court = Court(limits=ServerLimits(max_id=1000, max_topic=1000))
        for number in range(400):
            name = "\U0001f600" * 990 + f"{number:03}"
            peer2(court.stage, name).ask({"action": "subscribe", "topic": name})
        for name in ("clients", "topics"):
            told = court.ask(name, limit=1000)
            assert 200 < len(told[name]) < told["found"]
            assert len(write(told)) <= MOST_BYTES

    def test_refusals_of_what_somebody_has_chosen_push_no_other_event_out(self) -> None:
        court = Court()
        peer = peer2(court.stage, "\U0001f600" * 256)
        long = "\x01" * 300
        for number in range(200):
            court.stage.finish()
            request = dict.fromkeys(("action", "topic", "pattern", "group"), f"{number}{long}")
            assert peer.ask(request)[0]["action"] == "error"
        told = court.ask("events")
        assert len(write(told)) <= MOST_BYTES
        kinds = [one["event"] for one in told["events"]]
        assert kinds[:2] == ["connected", "connected"]
        assert kinds.count("refused") > 100
