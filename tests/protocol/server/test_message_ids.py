"""Messages with ids on the wire, as the server remembers them (spec, 21)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import QueueFull
from kps.protocol import cost
from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.bus.history import History
from kps.protocol.bus.message_ids import About, Handled, MessageIds, Owner
from kps.protocol.bus.slices import AT_ONCE
from kps.protocol.limits import Overflow
from kps.protocol.server_limits import RatePolicy, ServerLimits
from kps.protocol.timers import Deadlines
from kps.testing.network import ManualClock
from tests.fuzz.invariants import check_hub, check_hub_is_empty
from tests.interrupting import Interruption, at_every_place
from tests.protocol.helpers import Answer, Fields, Peer, Stage, frame, json_frame, upgrade
from tests.protocol.server.test_groups_at_the_server import ack, join, only, spent, vanish
from tests.protocol.server.test_identity import peer_of
from tests.protocol.server.test_memory import (
    EMOJI,
    MULTIPLE,
    SLACK,
    client,
    drain,
    feed,
    memory_of,
    names,
)
from tests.protocol.server.test_permissions_and_limits import codes, peer2, ping2
from tests.protocol.server.test_templates import Server, without_templates

WINDOW = 120.0
MOMENT = 0.001
QUIET = 1e6
"""Seconds without a heartbeat."""
UNKNOWN, IN_USE, FULL = "outcome_unknown", "message_id_in_use", "limit_reached"

ANYBODY = ("", "192.0.2.1")
"""Whose messages they are, unless it matters."""

ROOM = 256 * 1024
"""Bytes that what is measured may take."""

NewStage = Callable[..., Stage]


def publish(message_id: Any = "m", data: Any = 1, topic: str = "t", **fields: Any) -> Fields:
    ours: Fields = {"action": "publish", "topic": topic, "data": data, "receipt": "r"}
    return {**ours, "message_id": message_id, **fields}


def ask(message_id: Any = "m", ack_id: str = "q", topic: str = "t", **fields: Any) -> Fields:
    ours: Fields = {"action": "publish_with_ack", "topic": topic, "data": 1, "timeout": 5}
    return {**ours, "ack_id": ack_id, "message_id": message_id, **fields}


def ask_id(message_id: Any = "m", ack_id: str = "q", to: str = "b", **fields: Any) -> Fields:
    ours: Fields = {"action": "publish_to_id_with_ack", "to": to, "data": 1, "timeout": 5}
    return {**ours, "ack_id": ack_id, "message_id": message_id, **fields}


def subscriber(stage: Stage, name: str = "b", **fields: Any) -> Peer:
    """A peer that is subscribed, to the topic unless it says otherwise."""
    peer = peer2(stage, name)
    assert codes(peer.ask({"action": "subscribe", **(fields or {"topic": "t"})})) == ["subscribed"]
    return peer


def leave(stage: Stage, peer: Peer) -> None:
    """Lose a connection, with all that follows at once."""
    vanish(stage, peer)
    stage.finish()


def peer_in_turns(stage: Stage, client_id: str) -> Peer:
    """A registered peer, while others wait for their turns; no more turns pass than it needs."""
    peer = Peer(stage.hub, stage.clock)

    def answers(data: bytes) -> bytes:
        peer.feed(data)
        while not (answer := peer.read()):
            stage.hub.take_unflushed()
            stage.hub.handle_timeout(stage.clock.now)
        return answer

    peer.inbox.feed(Answer(answers(upgrade())).rest)
    peer.inbox.feed(answers(json_frame(ping2(client_id))))
    assert codes(peer.take()) == ["pong"]
    return peer


def delivered(answers: list[Fields]) -> int:
    """What the only answer tells: to how many a message went."""
    (answer,) = answers
    assert (answer["action"], answer["topic"]) == ("published", "t")
    assert isinstance(answer["delivered"], int)
    return answer["delivered"]


def payloads(peer: Peer) -> list[Any]:
    """The payloads that a peer has got since, whatever is asked of it."""
    got = [one for one in peer.take() if one["action"] in ("publish", "publish_ack")]
    return [data for one in got for data in one.get("batch", [one.get("data")])]


def responses(peer: Peer, *messages: Fields) -> dict[str, str | None]:
    """The outcomes in the only answer, which is final: the errors by name."""
    (answer,) = peer.ask(*messages)
    assert answer["action"] == "ack_response"
    found = {name: one.get("error") for name, one in answer.get("responses", {}).items()}
    return found | dict.fromkeys(answer.get("missing", ()), "timeout")


def end(stage: Stage) -> None:
    """Let everybody leave, and see that nothing is left of them."""
    stage.finish()
    check_hub(stage.hub)
    for connection in list(stage.hub.connections.values()):
        connection.connection_lost(stage.clock.now)  # type: ignore[attr-defined]
    stage.finish()
    stage.advance(400 + WINDOW)
    check_hub_is_empty(stage.hub)


@pytest.fixture
def new_stage() -> Iterator[NewStage]:
    """Makes stages. After the test the tables of each must fit together, and nothing be left."""
    stages: list[Stage] = []

    def new(*, history: tuple[History, ...] = (), asks_token: bool = False, **more: Any) -> Stage:
        limits = ServerLimits(**{"heartbeat_interval": QUIET, **more})
        stages.append(Stage(limits=limits, history=history, asks_token=asks_token))
        return stages[-1]

    yield new
    for stage in stages:
        end(stage)


class Memory:
    """What remembers messages, alone, and its clock."""

    def __init__(self, **limits: Any) -> None:
        self.clock = ManualClock()
        self.deadlines = Deadlines()
        self.ids = MessageIds(
            self.deadlines, ServerLimits(**limits), "w", now=lambda: self.clock.now
        )

    def begin(self, message_id: str, client_id: str = "c", owner: Owner = ANYBODY) -> Handled:
        return self.ids.begin(client_id, message_id, owner, About("publish_with_ack", "t", 0))

    def handle(
        self, message_id: str, client_id: str = "c", owner: Owner = ANYBODY, ending: bytes = b""
    ) -> Handled:
        handled = self.begin(message_id, client_id, owner)
        self.ids.finish(handled, ending)
        return handled

    def advance(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while (due := self.deadlines.next_deadline()) is not None and due <= end:
            self.clock.now = max(due, self.clock.now)
            self.deadlines.handle_timeout(self.clock.now)
        self.clock.now = end

    def known(self, message_ids: str, client_id: str = "c") -> str:
        """Those of the given ids, of one letter each, that are known."""
        return "".join(one for one in message_ids if self.ids.find(client_id, one) is not None)

    def check_empty(self) -> None:
        self.advance(WINDOW)
        assert (len(self.ids), self.ids.used) == (0, 0)
        assert (self.ids._by_client, self.ids._with_ending, self.ids._used) == ({}, {}, {})
        assert len(self.deadlines) == len(self.ids._expiries) == 0


ONE = cost.HANDLED + sum(map(cost.of_text, "mtc"))
"""Bytes of a message, apart from its answer."""
OWNER = cost.OWNER_OF_HANDLED + sum(map(cost.of_text, ANYBODY))
"""Bytes of whose they are."""
TEXT = b"x" * 3000
ANSWER = cost.KEPT + len(TEXT)
"""Bytes of an answer."""
SHARE = 8
"""The clients of one identity, or address, may have this part of the memory."""


class TestTheMemoryAlone:
    def test_a_message_is_known_from_the_beginning_until_the_window_is_over(self) -> None:
        memory = Memory()
        handled = memory.begin("m")
        assert memory.ids.find("c", "m") is handled
        assert memory.ids.find("d", "m") is None
        memory.advance(1000.0)
        memory.ids.finish(handled, b"x")
        memory.advance(WINDOW - MOMENT)
        assert memory.ids.find("c", "m") is handled
        assert handled.ending == b"x"
        memory.advance(MOMENT)
        assert memory.ids.find("c", "m") is None
        memory.check_empty()

    def test_its_id_is_free_then(self) -> None:
        memory = Memory()
        first = memory.handle("m")
        memory.advance(WINDOW)
        second = memory.handle("m")
        assert second is not first
        memory.advance(WINDOW - MOMENT)
        assert memory.ids.find("c", "m") is second
        memory.check_empty()

    def test_the_window_of_each_is_its_own(self) -> None:
        memory = Memory()
        for message_id in "abc":
            memory.handle(message_id)
            memory.advance(10.0)
        memory.advance(WINDOW - 30.0 - MOMENT)
        assert memory.known("abc") == "abc"
        memory.advance(MOMENT)
        assert memory.known("abc") == "bc"
        memory.advance(10.0)
        assert memory.known("abc") == "c"
        memory.check_empty()

    def test_past_the_number_of_a_client_the_oldest_goes(self) -> None:
        memory = Memory(max_message_ids=2)
        memory.handle("a", "other")
        for message_id in "abcd":
            memory.handle(message_id)
        assert memory.known("abcd") == "cd"
        assert memory.known("a", client_id="other") == "a"
        memory.check_empty()

    def test_those_under_way_stay_until_they_are_done(self) -> None:
        """What counts is the order in which they have come."""
        memory = Memory(max_message_ids=2)
        under_way = [memory.begin(message_id) for message_id in "abc"]
        memory.handle("d")
        assert memory.known("abcd") == "abcd"
        memory.ids.finish(under_way[0], b"x")
        memory.ids.finish(under_way[2], b"x")
        assert memory.known("abcd") == "bcd"
        memory.handle("e")
        assert memory.known("abcde") == "bde"
        memory.advance(WINDOW)
        assert memory.known("abcde") == "b"
        memory.ids.finish(under_way[1], b"x")
        memory.check_empty()

    def test_a_repeat_that_is_handled_now_pushes_nothing_out(self) -> None:
        """Its client has counted it before; what the program sends once more, it counts again."""
        memory = Memory(max_message_ids=2)
        first = memory.handle("a")
        about = About("publish", "t", 0)
        repeats = [memory.ids.begin("c", one, ANYBODY, about, is_repeat=True) for one in "bc"]
        for handled in repeats:
            memory.ids.finish(handled)
        assert memory.known("abc") == "abc"
        memory.handle("d")
        assert memory.known("abcd") == "abcd"
        memory.advance(WINDOW - MOMENT)
        memory.ids.came_again(first)
        assert memory.known("abcd") == "ad"
        memory.advance(MOMENT)
        assert memory.known("abcd") == "a"
        memory.advance(WINDOW - 2 * MOMENT)
        assert memory.known("a") == "a"
        memory.advance(MOMENT)
        memory.check_empty()

    def test_one_that_was_refused_or_that_nobody_got_is_forgotten(self) -> None:
        memory = Memory()
        memory.handle("a")
        used = memory.ids.used
        memory.ids.forget(memory.begin("b"))
        assert memory.known("ab") == "a"
        assert memory.ids.used == used
        memory.check_empty()

    def test_without_room_for_an_owner_the_oldest_of_its_answers_go_first(self) -> None:
        """The messages themselves stay, and so do the answers of others."""
        memory = Memory(message_id_bytes=SHARE * (5 * ONE + 2 * ANSWER))
        other = memory.handle("a", owner=("other", ""), ending=TEXT)
        mine = [memory.handle(message_id, ending=TEXT) for message_id in "bcd"]
        assert [one.ending is not None for one in (other, *mine)] == [True, False, True, True]
        memory.handle("e", "d", ending=TEXT + TEXT)
        assert [one.ending is not None for one in (other, *mine)] == [True] + [False] * 3
        assert memory.known("abcd") == "abcd"
        memory.check_empty()

    def test_without_room_for_all_others_go_too(self) -> None:
        """Together many owners might take more than there is."""
        memory = Memory(message_id_bytes=SHARE * (2 * ONE + ANSWER))
        owners = [(str(number), "") for number in range(2 * SHARE)]
        answered = [memory.handle("a", one[0], one, ending=TEXT) for one in owners]
        kept = [one.ending is not None for one in answered]
        assert not kept[0]
        assert kept[-1]
        assert memory.ids.used <= SHARE * (2 * ONE + ANSWER)
        memory.check_empty()

    def test_then_further_messages_are_refused_until_there_is_room_again(self) -> None:
        short = b"x" * 100
        memory = Memory(message_id_bytes=SHARE * (2 * ONE + OWNER + cost.KEPT + len(short)))
        first = memory.handle("a", ending=short)
        memory.advance(10.0)
        memory.handle("b", "d")
        assert first.ending == short, "there is room for all of this"
        with pytest.raises(QueueFull, match="the server remembers too many messages with ids"):
            memory.begin("c")
        assert memory.known("abc") == "a"
        assert first.ending is None
        assert memory.ids.used == 2 * ONE + OWNER
        memory.handle("c", owner=("other", ""))
        memory.advance(WINDOW - 10.0)
        memory.handle("d")
        assert memory.known("abcd") == "cd"
        memory.check_empty()

    def test_an_answer_without_room_is_not_kept(self) -> None:
        memory = Memory(message_id_bytes=SHARE * (ONE + ANSWER))
        handled = memory.handle("a", ending=TEXT + b"x")
        assert (handled.ending, memory.known("a")) == (None, "a")
        memory.check_empty()

    def test_no_more_of_a_client_may_be_under_way_than_ack_requests(self) -> None:
        memory = Memory(max_pending_acks=2)
        first, second = memory.begin("a"), memory.begin("b")
        with pytest.raises(QueueFull, match="this client has too many ack requests under way"):
            memory.begin("c")
        memory.handle("a", "other")
        memory.ids.finish(first)
        memory.begin("c")
        memory.ids.forget(second)
        memory.ids.finish(memory.begin("b"))
        memory.begin("d")
        memory.ids.finish(memory.ids.begin("c", "e", ANYBODY, About("publish", "t", 0)))
        for handled in map(memory.ids.find, "cc", "cd"):
            assert handled is not None
            memory.ids.finish(handled)
        memory.check_empty()

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["begin", "begin", "finish", "finish", "forget", "wait"]),
                st.sampled_from("cd"),
                st.sampled_from("uvwxyz"),
                st.sampled_from([0, 0, 10, 500]),
                st.sampled_from([0.0, 1.0, 50.0]),
            ),
            max_size=60,
        )
    )
    def test_whatever_happens(self, steps: list[tuple[str, str, str, int, float]]) -> None:
        """The bounds hold, what is remembered is paid for, and times are kept."""
        share = 5 * ONE + 600
        memory = Memory(message_id_bytes=SHARE * share, max_message_ids=3)
        ids, clock = memory.ids, memory.clock
        under_way: dict[tuple[str, str], Handled] = {}
        done_at: dict[tuple[str, str], float] = {}
        begun: dict[str, list[str]] = {"c": [], "d": []}
        for what, client_id, message_id, size, seconds in steps:
            name = client_id, message_id
            if what == "begin" and ids.find(*name) is None:
                try:
                    under_way[name] = memory.begin(message_id, client_id)
                    begun[client_id].append(message_id)
                except QueueFull:
                    assert ids.used + ONE > share
                    assert not ids._with_ending
            elif what in ("finish", "forget") and name in under_way:
                handled = under_way.pop(name)
                if what == "forget":
                    ids.forget(handled)
                    done_at.pop(name, None)
                else:
                    ids.finish(handled, b"x" * size)
                    done_at[name] = clock.now
            elif what == "wait":
                memory.advance(seconds)
            latest = {(who, one) for who, some in begun.items() for one in some[-3:]}
            recent = {one for one, at in done_at.items() if clock.now < at + WINDOW}
            known = {(who, one) for who in "cd" for one in memory.known("uvwxyz", who)}
            assert known == under_way.keys() | (latest & recent)
            used = OWNER if known else 0
            for one in known:
                found = ids.find(*one)
                assert found is not None
                used += found.cost
                used += 0 if found.ending is None else cost.KEPT + len(found.ending)
            assert used == ids.used <= share
        for handled in under_way.values():
            ids.finish(handled, b"x")
        memory.check_empty()


class TestPublications:
    @pytest.mark.parametrize(("seconds", "times"), [(WINDOW - MOMENT, 1), (WINDOW, 2)])
    def test_are_remembered_for_as_long_as_the_window(
        self, new_stage: NewStage, seconds: float, times: int
    ) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        assert delivered(p.ask(publish())) == 1
        stage.advance(seconds)
        assert delivered(p.ask(publish())) == 1
        assert payloads(b) == [1] * times

    @pytest.mark.parametrize(("more", "got"), [({}, [1]), ({"repeat_until": 1e9}, [1, 1])])
    def test_a_repeat_of_the_program_makes_it_longer_and_none_of_its_client(
        self, new_stage: NewStage, more: Fields, got: list[int]
    ) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        for _ in range(3):
            p.ask(publish(**more))
            stage.advance(WINDOW / 2)
        assert payloads(b) == got

    def test_the_receipt_tells_what_the_first_one_did(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        assert delivered(p.ask(publish())) == 1
        c = subscriber(stage, "c")
        assert delivered(p.ask(publish(receipt="s"))) == 1
        assert p.ask(publish(receipt=None)) == []
        leave(stage, b)
        leave(stage, p)
        assert delivered(peer2(stage, "p").ask(publish())) == 1
        assert payloads(c) == []

    def test_what_nobody_has_got_is_not_remembered(self, new_stage: NewStage) -> None:
        stage = new_stage()
        p = peer2(stage, "p")
        assert delivered(p.ask(publish("1"))) == 0
        assert responses(p, ask("2")) == {}
        assert responses(p, ask("3", expect=["x"])) == {"x": "absent"}
        assert responses(p, ask("4", expect=[{"group": "g"}])) == {}
        assert responses(p, ask_id("5")) == {}
        assert len(stage.hub.state.message_ids) == 0
        b = subscriber(stage)
        assert delivered(p.ask(publish("1"))) == 1
        names = [str(number) for number in range(2, 5)]
        assert codes(p.ask(*(ask(name, name) for name in names), ask_id("5", "5"))) == []
        assert payloads(b) == [1] * 5

    def test_come_in_their_place_among_others(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        plain = [{"action": "publish", "topic": "t", "data": number} for number in range(3)]
        p.ask(plain[0], publish("m", "m"), plain[1], publish("m", "m"), publish("n", "n"), plain[2])
        assert payloads(b) == [0, "m", 1, "n", 2]

    def test_in_an_array(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        many = [publish(str(n % 3), n % 3, receipt=str(n)) for n in range(6)]
        got = p.ask([*many, ask("3", data=3), ask("3", "s", data=3), ask("0", "t", data=0)])
        assert [one["receipt"] for one in got[:6]] == [str(number) for number in range(6)]
        assert codes(got[6:]) == [IN_USE, IN_USE]
        assert payloads(b) == [0, 1, 2, 3]

    def test_a_batch_has_one(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        batch = {**publish(), "batch": [1, 2]}
        del batch["data"]
        assert delivered(p.ask(batch)) == delivered(p.ask(batch)) == 1
        assert payloads(b) == [1, 2]
        assert delivered(p.ask({**batch, "batch": [], "message_id": "n"})) == 0
        others = {**batch, "batch": [1]}, {**batch, "batch": [[1, 2]]}, publish(data=[1, 2])
        assert codes(p.ask(*others)) == [IN_USE] * 3
        assert payloads(b) == []

    def test_a_batch_of_which_a_part_was_delivered_is_remembered(self, new_stage: NewStage) -> None:
        """A queue that is too small for all of it takes the first payloads."""
        stage = new_stage(queue_bytes=500, overflow=Overflow.DROP_NEWEST)
        b, p = subscriber(stage), peer2(stage, "p")
        batch = {**publish(), "batch": ["x" * 50 + str(number) for number in range(9)]}
        del batch["data"]
        p.ask(batch)
        got = payloads(b)
        assert 1 <= len(got) < 9
        p.ask(batch)
        assert payloads(b) == []

    def test_go_to_a_group_once(self, new_stage: NewStage) -> None:
        stage = new_stage()
        members = [subscriber(stage, name, topic="t", group="g") for name in ("b", "c")]
        p = peer2(stage, "p")
        for _ in range(3):
            assert delivered(p.ask(publish())) == 1
        assert sorted(map(payloads, members)) == [[], [1]]

    def test_with_history_are_kept_once(self, new_stage: NewStage) -> None:
        stage = new_stage(history=(History("t"),))
        p = peer2(stage, "p")
        batch = {"action": "publish", "topic": "t", "batch": [2, 3], "message_id": "b"}
        requests = publish("m", 1), batch, ask("n", data=4, timeout=0.5)
        p.ask(*requests)
        leave(stage, p)
        p = peer2(stage, "p")
        p.ask(*requests)
        (answer,) = p.ask({"action": "history", "topic": "t", "nonce": "x"})
        assert [(one["offset"], one["data"]) for one in answer["messages"]] == [
            (number, number) for number in range(1, 5)
        ]

    @pytest.mark.parametrize(
        "refused",
        [
            publish(topic="t\n"),
            publish(headers={"a": "x" * 5000}),
            publish(headers=5),
            publish(data=[[[1]]]),
            {"action": "publish", "topic": "t", "batch": [1] * 5, "message_id": "m"},
            ask(ack_id="q" * 2000),
            ask(headers={"a": "x" * 5000}),
            ask(data=[[[1]]]),
            ask(timeout=-1),
            ask(key="k" * 300),
            ask(expect=[1]),
            ask(expect=["x"] * 3),
            ask_id(to="b", ack_id=""),
            ask_id(to="i" * 5, ack_id="q" * 2000),
        ],
    )
    def test_what_is_refused_is_not_remembered(self, new_stage: NewStage, refused: Fields) -> None:
        stage = new_stage(max_depth=2, max_batch=4, max_expected=2)
        b, p = subscriber(stage), peer2(stage, "p")
        (error,) = p.ask(refused)
        assert error["action"] == "error"
        ids = stage.hub.state.message_ids
        assert (len(ids), ids.used) == (0, 0)
        assert delivered(p.ask(publish())) == 1
        assert payloads(b) == [1]

    def test_another_action_target_or_payload_changes_nothing(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(publish("m"), ask("n", "1"), ask_id("o", "2"))
        assert payloads(b) == [1, 1, 1]
        others = [
            *(publish("m", topic="u"), ask("m"), ask_id("m", to="t"), publish("m", 2)),
            *(publish("n"), ask("n", topic="u"), ask_id("n", to="t"), ask("n", data=2)),
            *(publish("o", topic="b"), ask("o", topic="b"), ask_id("o", to="c")),
            *(ask_id("o", data=2), publish("m", "1"), publish("m", None), publish("m", 1.0)),
        ]
        answers = p.ask(*others)
        assert codes(answers) == [IN_USE] * len(others)
        assert {answer["error"] for answer in answers} == {"another message has this message_id"}
        assert b.take() == []
        assert len(stage.hub.state.acks) == 2

    def test_spaces_around_a_payload_do_not_count(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        text = b'{"action":"publish","topic":"t","message_id":"m","receipt":"r","data":%b}'
        for data in (b"[1,2]", b" [1,2]\n", b"[1, 2]"):
            p.feed(frame(text % data))
        assert codes(p.take()) == ["published", "published", IN_USE]
        assert payloads(b) == [[1, 2]]

    def test_a_client_has_a_number_of_them(self, new_stage: NewStage) -> None:
        stage = new_stage(max_message_ids=2)
        b, p, other = subscriber(stage), peer2(stage, "p"), peer2(stage, "o")
        p.ask(ask("first"), *(publish(name, name) for name in "abc"))
        other.ask(*(publish(name, name) for name in "ab"))
        payloads(b)
        assert codes(p.ask(ask("first", "s"))) == [IN_USE]
        p.ask(*(publish(name, name) for name in "cba"))
        assert payloads(b) == ["b", "a"], "the oldest ones are new: what is refused counts too"
        other.ask(*(publish(name, name) for name in "ab"))
        assert payloads(b) == []

    def test_so_it_has_whatever_it_says_that_they_are(self, new_stage: NewStage) -> None:
        """A client that is right may have some more: those that it has sent in another order."""
        stage = new_stage(max_message_ids=2)
        subscriber(stage)
        p = peer2(stage, "p")
        p.ask(*(publish(str(number), repeat_until=1e9) for number in range(50)))
        assert len(stage.hub.state.message_ids) <= 2 * 2

    @pytest.mark.parametrize(
        "way",
        [
            publish,
            ask,
        ],
    )
    def test_one_that_ends_its_publisher_is_remembered(
        self, new_stage: NewStage, way: Callable[..., Fields]
    ) -> None:
        """It has no room in the queue of its publisher, who is subscribed and reads nothing."""
        stage = new_stage(queue_bytes=2000)
        b, p = subscriber(stage), subscriber(stage, "p")
        large = "x" * 1500
        p.send({"action": "publish", "topic": "t", "data": large})
        b.take()
        p.send(way(data=large))
        assert p.session.gate.is_over
        assert payloads(b) == [large]
        stage.finish()
        p = peer2(stage, "p")
        p.ask(way(data=large, repeat_until=1e9))
        assert payloads(b) == []

    def test_without_memory_for_them_they_are_refused(self, new_stage: NewStage) -> None:
        stage = new_stage(message_id_bytes=SHARE * (2 * ONE + OWNER + cost.KEPT + 400))
        b, p = subscriber(stage), peer2(stage, "p")
        assert codes(p.ask(ask("1"))) == []
        (question,) = b.take()
        b.send(ack(question, result="x" * 200))
        (answer,) = p.take()
        (again,) = p.ask(ask("1"))
        assert again == answer, "its answer has room"
        stage.advance(1.0)
        assert codes(p.ask(publish("2"))) == ["published"]
        assert p.ask(ask("1")) == [again]
        refusals = p.ask(publish("3"), ask("4"), ask_id("5"))
        assert codes(refusals) == [FULL] * 3
        assert {one["error"] for one in refusals} == {
            "the server remembers too many messages with ids"
        }
        assert payloads(b) == [1]
        assert codes(p.ask(ask("1"), publish("2"))) == [UNKNOWN, "published"]
        assert payloads(b) == []
        stage.advance(WINDOW)
        assert codes(p.ask(publish("3"))) == ["published"]
        assert payloads(b) == [1]

    def test_as_many_as_may_be_asked_for_at_a_time_are_no_obstacle(
        self, new_stage: NewStage
    ) -> None:
        """A publication is no ack request."""
        stage = new_stage(max_pending_acks=1)
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(ask("1"))
        assert codes(p.ask(publish("2"))) == ["published"]
        assert payloads(b) == [1, 1]


def nobody(stage: Stage) -> None:
    """Nobody is subscribed."""


def one_answers(stage: Stage) -> Callable[[], None]:
    b = subscriber(stage)
    return lambda: b.send(ack(only(b), result={"x": "é"}))


def one_fails(stage: Stage) -> Callable[[], None]:
    b = subscriber(stage)
    return lambda: b.send(ack(only(b), "no"))


def some_answer(stage: Stage) -> Callable[[], None]:
    """One answers, one leaves, one does neither."""
    b, c, _ = (subscriber(stage, name) for name in "bcd")

    def act() -> None:
        b.send(ack(only(b)))
        leave(stage, c)
        stage.advance(5.0)

    return act


def a_group_answers(stage: Stage) -> Callable[[], None]:
    """Its first member vanishes, the second one fails, the third one answers."""
    members = [subscriber(stage, name, topic="t", group="g") for name in "bcd"]

    def asked() -> tuple[Peer, Fields]:
        ((peer, question),) = [(one, found) for one in members for found in one.take()]
        return peer, question

    def act() -> None:
        first, _ = asked()
        leave(stage, first)
        second, question = asked()
        assert question["attempt"] == 2
        second.send(ack(question, "no"))
        last, question = asked()
        last.send(ack(question, result=[1]))

    return act


def a_group_is_silent(stage: Stage) -> Callable[[], None]:
    subscriber(stage, topic="t", group="g")
    subscriber(stage, "c")
    return lambda: stage.advance(5.0)


def a_result_is_too_large(stage: Stage) -> Callable[[], None]:
    b = subscriber(stage)
    return lambda: b.send(ack(only(b), result="x" * 2000))


def somebody_observes(stage: Stage) -> Callable[[], None]:
    """The answer tells the number of the latest change of the members."""
    b = peer2(stage, "b")
    b.ask({"action": "subscribe", "topic": "t", "presence": True})
    stage.advance(1.0)
    b.take()
    return lambda: b.send(ack(only(b)))


STORIES: list[Callable[[Stage], Callable[[], None] | None]] = [
    *(nobody, one_answers, one_fails, some_answer, a_group_answers, a_group_is_silent),
    *(a_result_is_too_large, somebody_observes),
]


class TestAckRequests:
    @pytest.mark.parametrize("story", STORIES)
    @pytest.mark.parametrize("when", ["there", "behind", "away"])
    def test_a_repeat_is_answered_as_the_first_would_be(
        self,
        new_stage: NewStage,
        story: Callable[[Stage], Callable[[], None] | None],
        when: str,
    ) -> None:
        """The publisher is there until the end, comes back in time to be told, or too late."""
        request = ask(retry=1, expect=["x", {"group": "h"}])
        stage = new_stage(max_results=1000)
        act, p = story(stage), peer2(stage, "p")
        answers = p.ask({**request, "message_id": None})
        if act is not None:
            act()
        (expected,) = answers + p.take()
        assert expected["action"] == "ack_response"

        stage = new_stage(max_results=1000)
        act, p = story(stage), peer2(stage, "p")
        answers = p.ask(request)
        if when != "there":
            leave(stage, p)
        if when == "behind":
            p = peer2(stage, "p")
            answers = p.ask(request)
        if act is not None:
            act()
        if when == "away":
            assert len(stage.hub.state.acks) == 0
            p = peer2(stage, "p")
            answers = p.ask(request)
        assert answers + p.take() == [expected]
        for _ in range(2):
            assert p.ask({**request, "ack_id": "s"}) == [{**expected, "ack_id": "s"}]
            stage.advance(WINDOW / 3)

    def test_with_updates_nothing_is_told_twice(self, new_stage: NewStage) -> None:
        stage = new_stage()
        receivers = {name: subscriber(stage, name) for name in "bcde"}
        p = peer2(stage, "p")
        p.ask(ask(updates=True))
        questions = {name: only(peer) for name, peer in receivers.items()}
        told = []

        def answer(name: str) -> None:
            receivers[name].send(ack(questions[name]))
            told.append([(one["action"], one["ack_id"], set(one["responses"])) for one in p.take()])

        answer("b")
        leave(stage, p)
        receivers["c"].send(ack(questions["c"]))
        p = peer2(stage, "p")
        (update,) = p.ask(ask(ack_id="r", updates=True))
        assert (update["action"], update["ack_id"]) == ("ack_update", "r")
        assert set(update["responses"]) == {"b", "c"}
        answer("d")
        answer("e")
        assert told == [
            [("ack_update", "q", {"b"})],
            [("ack_update", "r", {"d"})],
            [("ack_response", "r", {"e"})],
        ]

    def test_the_wish_of_the_repeat_counts(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, c, p = subscriber(stage), subscriber(stage, "c"), peer2(stage, "p")
        p.ask(ask(updates=True))
        leave(stage, p)
        p = peer2(stage, "p")
        assert p.ask(ask()) == []
        b.send(ack(only(b)))
        assert p.take() == []
        leave(stage, p)
        p = peer2(stage, "p")
        assert codes(p.ask(ask(updates=True))) == ["ack_update"]
        leave(stage, p)
        p = peer2(stage, "p")
        assert p.ask(ask()) == []
        c.send(ack(only(c)))
        (answer,) = p.take()
        assert set(answer["responses"]) == {"b", "c"}

    def test_the_time_is_that_of_the_first(self, new_stage: NewStage) -> None:
        stage = new_stage()
        subscriber(stage)
        p = peer2(stage, "p")
        p.ask(ask(timeout=5))
        leave(stage, p)
        stage.advance(4.0)
        p = peer2(stage, "p")
        assert p.ask(ask(timeout=50)) == []
        stage.advance(1.0 - MOMENT)
        assert p.take() == []
        stage.advance(MOMENT)
        assert only(p)["missing"] == ["b"]

    def test_what_else_a_repeat_says_is_ignored(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage, topic="t", group="g"), peer2(stage, "p")
        p.ask(ask())
        leave(stage, p)
        p = peer2(stage, "p")
        other: Fields = {"key": "k", "retry": 3, "expect": ["x", {"group": "y"}]}
        assert p.ask(ask(headers={"a": "b"}, **other)) == []
        question = only(b)
        assert "headers" not in question
        b.send(ack(question, "no"))
        answer = only(p)
        assert "responses" not in answer
        assert [(one["group"], one["error"]) for one in answer["groups"]] == [("g", "no")]

    def test_several_connections_in_a_row(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(ask())
        question = only(b)
        for number in range(5):
            leave(stage, p)
            p = peer2(stage, "p")
            if number % 2:
                assert p.ask(ask(ack_id=f"q{number}", updates=number % 3 == 0)) == []
            check_hub(stage.hub)
        assert p.ask(ask(ack_id="last")) == []
        b.send(ack(question))
        assert only(p)["ack_id"] == "last"
        assert b.take() == []

    @pytest.mark.parametrize("repeats", ["before", "behind"])
    def test_a_connection_that_takes_over_the_id(self, new_stage: NewStage, repeats: str) -> None:
        """The old one may go on to close for a while, and is told nothing more."""
        stage = new_stage()
        b, old = subscriber(stage), peer2(stage, "p")
        old.ask(ask())
        question = only(b)
        new = peer2(stage, "p")
        if repeats == "behind":
            leave(stage, old)
        assert new.ask(ask(ack_id="r")) == []
        if repeats == "before":
            assert old.closed is not None
            assert old.closed[0] == 4001
            leave(stage, old)
        check_hub(stage.hub)
        b.send(ack(question))
        assert only(new)["ack_id"] == "r"
        assert old.take() == []

    def test_old_input_that_waits_does_not_take_it_back(self, new_stage: NewStage) -> None:
        """The new connection takes the id, and so nobody handles what the old one still sent."""
        stage = new_stage()
        b, old = subscriber(stage), peer2(stage, "p")
        stage.finish()
        many = [{"action": "publish", "topic": f"x{number}", "data": 1} for number in range(9000)]
        old.send(*many, ask(), publish("n", 2))
        vanish(stage, old)
        assert old.connection._intake.waits
        new = peer_in_turns(stage, "p")
        assert old.connection._intake.waits
        got = new.ask(ask(ack_id="r"), publish("n", 2))
        stage.finish()
        assert codes(got + new.take()) == ["published"]
        assert payloads(b) == [1, 2]
        (request,) = stage.hub.state.acks._by_id.values()
        assert request.owner is new.session

    def test_while_nobody_has_it_others_know_nothing_of_it(self, new_stage: NewStage) -> None:
        stage = new_stage()
        subscriber(stage)
        p, other = peer2(stage, "p"), peer2(stage, "o")
        p.ask(ask())
        leave(stage, p)
        (request,) = stage.hub.state.acks._by_id.values()
        p = peer2(stage, "p")
        for peer in (p, other):
            for ack_id in ("q", request.id, request.owner_ack_id):
                status = {"action": "get_ack_status", "ack_id": ack_id}
                (answer, _) = peer.ask(status, {"action": "cancel_ack", "ack_id": ack_id})
                assert answer["status"] == {}
        assert list(stage.hub.state.acks._by_id.values()) == [request]

    def test_it_is_that_of_who_repeats_it(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, c, p = subscriber(stage), subscriber(stage, "c"), peer2(stage, "p")
        p.ask(ask())
        b.send(ack(only(b)))
        leave(stage, p)
        p = peer2(stage, "p")
        assert p.ask(ask(ack_id="r")) == []
        status = [{"action": "get_ack_status", "ack_id": ack_id} for ack_id in "qr"]
        assert [one["status"] for one in p.ask(*status)] == [{}, {"b": True, "c": False}]
        assert codes(p.ask({"action": "cancel_ack", "ack_id": "q"})) == ["ack_cancelled"]
        c.send(ack(only(c)))
        assert only(p)["ack_id"] == "r"

    def test_while_a_connection_has_it_no_other_one_gets_it(self, new_stage: NewStage) -> None:
        """The one that has asked is still there, under another id."""
        stage = new_stage()
        b, old = subscriber(stage), peer2(stage, "p")
        old.ask(ask())
        assert codes(old.ask(ping2("other"))) == ["pong"]
        new = peer2(stage, "p")
        (refusal,) = new.ask(ask(ack_id="r"))
        assert refusal["error"] == "a message with this message_id is under way"
        leave(stage, old)
        assert new.ask(ask(ack_id="r")) == []
        b.send(ack(only(b)))
        assert only(new)["ack_id"] == "r"

    @pytest.mark.parametrize("repeats", ["at once", "behind"])
    def test_one_that_is_cancelled_goes_on_alone(self, new_stage: NewStage, repeats: str) -> None:
        """Its publisher hears no more of it, but may repeat it."""
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        cancel = {"action": "cancel_ack", "ack_id": "q"}
        assert codes(p.ask(ask(updates=True), cancel, cancel)) == ["ack_cancelled"] * 2
        (status,) = p.ask({"action": "get_ack_status", "ack_id": "q"})
        assert status["status"] == {}
        if repeats == "at once":
            assert p.ask(ask()) == []
        b.send(ack(only(b), result=7))
        answers = p.take() if repeats == "at once" else p.ask(ask())
        assert [one["responses"] for one in answers] == [{"b": {"success": True, "result": 7}}]
        assert b.take() == []

    def test_one_that_is_cancelled_counts_until_its_time_is_over(self, new_stage: NewStage) -> None:
        stage = new_stage(max_pending_acks=1)
        subscriber(stage)
        p = peer2(stage, "p")
        p.ask(ask("1"), {"action": "cancel_ack", "ack_id": "q"})
        assert codes(p.ask(ask("2"))) == [FULL]
        assert codes(p.ask(ask(None, "q"))) == []
        stage.advance(5.0)
        assert codes(p.take()) == ["ack_response"]
        assert codes(p.ask(ask("2"))) == []

    def test_the_window_begins_with_the_end_of_the_request(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(ask(timeout=300))
        leave(stage, p)
        stage.advance(250.0)
        b.send(ack(only(b)))
        stage.advance(WINDOW - MOMENT)
        p = peer2(stage, "p")
        assert responses(p, ask(repeat_until=1e9)) == {"b": None}
        stage.advance(MOMENT)
        assert p.ask(ask()) == []
        assert payloads(b) == [1]

    def test_the_ack_id_of_a_repeat_may_be_in_use(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(ask("m", "q"))
        leave(stage, p)
        p = peer2(stage, "p")
        assert p.ask(ask("n", "q")) == []
        (refusal,) = p.ask(ask("m", "q"))
        assert (refusal["code"], refusal["error"]) == ("ack_id_in_use", "ack_id is in use")
        check_hub(stage.hub)
        assert p.ask(ask("m", "r")) == []
        for question in b.take():
            b.send(ack(question))
        assert [one["ack_id"] for one in p.take()] == ["r", "q"]
        assert responses(p, ask("m", "q")) == {"b": None}, "it is known all the same"

    def test_on_its_own_connection_it_is_refused_and_goes_on(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(ask())
        refusals = p.ask(ask(ack_id="q"), ask(ack_id="r"))
        assert codes(refusals) == [IN_USE, IN_USE]
        b.send(ack(only(b)))
        assert only(p)["ack_id"] == "q"

    @pytest.mark.parametrize("comes_back", [True, False])
    def test_those_without_a_publisher_count_for_it(
        self, new_stage: NewStage, comes_back: bool
    ) -> None:
        stage = new_stage(max_pending_acks=2)
        b, p = subscriber(stage), peer2(stage, "p")
        assert p.ask(ask("1", "1"), ask("2", "2")) == []
        questions = b.take()
        leave(stage, p)
        p = peer2(stage, "p")
        if comes_back:
            assert p.ask(ask("1", "1"), ask("2", "2")) == []
        (refusal,) = p.ask(ask("3", "3"))
        assert refusal["code"] == FULL
        assert refusal["error"] == "this client has too many ack requests under way"
        b.send(ack(questions[0]))
        assert codes(p.take()) == ["ack_response"] * comes_back
        assert codes(p.ask(ask("3", "3"))) == []
        assert payloads(b) == [1]

    def test_its_publisher_may_be_a_receiver(self, new_stage: NewStage) -> None:
        stage = new_stage()
        p = subscriber(stage, "p")
        (question,) = p.ask(ask())
        leave(stage, p)
        p = subscriber(stage, "p")
        assert responses(p, ask()) == {"p": "disconnected"}
        p.send(ack(question))
        assert p.take() == []

    def test_a_group_goes_on_without_the_publisher(self, new_stage: NewStage) -> None:
        """What waits for members waits on, and who fails is followed by another one."""
        stage = new_stage()
        b = subscriber(stage, topic="t", group="g")
        p = peer2(stage, "p")
        p.ask(*(ask(name, name, data=name, retry=1) for name in "123"))
        leave(stage, p)
        c = peer2(stage, "c")
        (question,) = [one for one in c.ask(join("t")) if "data" in one]
        assert (question["data"], "attempt" in question) == ("2", False)
        leave(stage, b)
        c.send(ack(question))
        (question,) = c.take()
        assert (question["data"], question["attempt"]) == ("1", 2)
        p = peer2(stage, "p")
        again = [ask(name, "again " + name, data=name, updates=True) for name in "123"]
        assert codes(p.ask(*again)) == ["ack_response"]
        c.send(ack(question, "no"))
        (question,) = c.take()
        assert (question["data"], question["attempt"]) == ("1", 3)
        c.send(ack(question))
        (answer,) = p.take()
        assert answer["ack_id"] == "again 1"
        (group,) = answer["groups"]
        assert (group["member"], group["attempts"]) == ("c", 3)
        assert [one["error"] for one in group["failures"]] == ["disconnected", "no"]
        (question,) = c.take()
        assert question["data"] == "3"
        leave(stage, p)
        leave(stage, c)
        p = peer2(stage, "p")
        (answer,) = p.ask(ask("3", data="3"))
        assert [one["error"] for one in answer["groups"]] == ["no member"]

    def test_one_to_the_servers_own_program(self, new_stage: NewStage) -> None:
        stage = new_stage()
        local = stage.hub.local
        mailbox = local.subscriptions.open_direct()
        p = peer2(stage, "p")
        p.ask(ask_id(to="server"))
        leave(stage, p)
        (message,) = mailbox.take_all()
        local.settle(message, None, stage.clock.now, 7)
        p = peer2(stage, "p")
        (answer,) = p.ask(ask_id(to="server"))
        assert answer["responses"] == {"server": {"success": True, "result": 7}}
        assert mailbox.take_all() == []


class TestRepeatUntil:
    """A client says until when the server must know what it sends again (spec, 21.3)."""

    @pytest.mark.parametrize("way", [publish, ask, ask_id])
    def test_past_its_time_what_is_not_known_is_refused(
        self, new_stage: NewStage, way: Callable[..., Fields]
    ) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        now = stage.clock.now
        (refusal,) = p.ask(way(repeat_until=now - MOMENT))
        assert refusal["code"] == UNKNOWN
        assert refusal["error"] == "nobody knows any more if this was handled"
        assert payloads(b) == []
        assert len(stage.hub.state.message_ids) == 0
        p.ask(way(repeat_until=now + MOMENT))
        assert payloads(b) == [1]

    def test_what_is_known_is_answered_all_the_same(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(publish("1"), ask("2"))
        b.send(ack(b.take()[1]))
        assert codes(p.take()) == ["ack_response"]
        old = stage.clock.now - 1000
        requests = publish("1", repeat_until=old), ask("2", repeat_until=old)
        assert codes(p.ask(*requests)) == ["published", "ack_response"]

    @pytest.mark.parametrize(
        "seconds",
        [
            WINDOW - MOMENT,
            WINDOW,
            WINDOW + MOMENT,
        ],
    )
    def test_no_moment_is_between_knowing_and_refusing(
        self, new_stage: NewStage, seconds: float
    ) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        until = stage.clock.now + WINDOW
        p.ask(publish())
        stage.advance(seconds)
        p.ask(publish(repeat_until=until))
        assert payloads(b) == [1]

    @pytest.mark.parametrize("until", ["5", True, [], {}])
    def test_it_is_a_number(self, new_stage: NewStage, until: Any) -> None:
        p = peer2(new_stage(), "p")
        answers = p.ask(*(way(repeat_until=until) for way in (publish, ask, ask_id)))
        assert [one["error"] for one in answers] == ["field repeat_until must be a number"] * 3

    def test_without_an_id_it_says_nothing(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(publish(None, repeat_until=0), ask(None, repeat_until=0))
        assert payloads(b) == [1, 1]

    def test_the_pong_tells_the_time_of_now(self, new_stage: NewStage) -> None:
        stage = new_stage()
        p = peer2(stage, "p")
        first = only_window(p)
        assert (first["seconds"], first["time"]) == (WINDOW, stage.clock.now)
        stage.advance(50.0)
        later = only_window(p)
        assert later == {**first, "time": first["time"] + 50.0}


def only_window(peer: Peer) -> Fields:
    (pong,) = peer.ask({"action": "ping", "from": peer.session.id})
    window = pong["message_ids"]
    assert isinstance(window, dict)
    return window


class TestVeryMany:
    """More than a slice of work."""

    COUNT = 2 * AT_ONCE + AT_ONCE // 2

    def begin(self, stage: Stage, *, updates: bool = False) -> tuple[Peer, list[Fields]]:
        """Ask very often, and leave; return the receiver and its questions."""
        b, p = subscriber(stage), peer2(stage, "p")
        for number in range(self.COUNT):
            p.send(ask(str(number), str(number), data=number, timeout=30, updates=updates))
        stage.finish()
        questions = b.take()
        assert len(questions) == self.COUNT
        p.send(*(ask(message_id=None, ack_id=f"plain {number}") for number in range(AT_ONCE)))
        stage.finish()
        b.take()
        vanish(stage, p)
        return b, questions

    @pytest.mark.parametrize("first", ["return", "outcomes"])
    def test_of_a_publisher_that_comes_back_at_once(self, new_stage: NewStage, first: str) -> None:
        stage = new_stage()
        b, questions = self.begin(stage)
        acks = stage.hub.state.acks
        assert len(acks) > self.COUNT, "some that end with their publisher have not ended yet"
        p = peer2(stage, "p")
        if first == "outcomes":
            b.send(*map(ack, questions[::2]))
        for number in range(0, self.COUNT, 3):
            p.send(ask(str(number), f"again {number}", data=number))
        stage.finish()
        stage.advance(1.0)
        check_hub(stage.hub)
        assert len(acks) == (self.COUNT // (1 if first == "return" else 2))
        b.send(*map(ack, questions))
        stage.finish()
        assert len(acks) == 0
        answers = p.take()
        assert {one["ack_id"] for one in answers} == {
            f"again {number}" for number in range(0, self.COUNT, 3)
        }
        assert [one["responses"] for one in answers] == [{"b": {"success": True}}] * len(answers)
        assert b.take() == []
        for number in range(self.COUNT):
            p.send(ask(str(number), str(number), data=number))
        stage.finish()
        assert codes(p.take()) == ["ack_response"] * self.COUNT
        assert b.take() == []

    def test_that_end_while_the_publisher_is_away(self, new_stage: NewStage) -> None:
        stage = new_stage()
        self.begin(stage)
        stage.advance(31.0)
        check_hub(stage.hub)
        assert len(stage.hub.state.acks) == 0
        p = peer2(stage, "p")
        for number in range(self.COUNT):
            p.send(ask(str(number), str(number), data=number))
        stage.finish()
        assert [one.get("missing") for one in p.take()] == [["b"]] * self.COUNT

    def test_that_are_forgotten_together(self, new_stage: NewStage) -> None:
        stage = new_stage()
        subscriber(stage)
        p = peer2(stage, "p")
        for number in range(self.COUNT):
            p.send(publish(str(number), receipt=None))
        stage.finish()
        stage.advance(WINDOW - MOMENT)
        assert len(stage.hub.state.message_ids) == self.COUNT
        stage.advance(1.0)
        assert len(stage.hub.state.message_ids) == 0


class TestWhoseTheyAre:
    def test_each_client_has_its_own(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p, q = subscriber(stage), peer2(stage, "p"), peer2(stage, "q")
        p.ask(publish("1"), ask("2"))
        q.ask(publish("2", topic="t"), ask("1"))
        assert payloads(b) == [1] * 4

    def test_they_are_those_of_the_id_that_a_client_has(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(publish("1"), ask("2"), ping2("q"), publish("1"), ask("2", "r"))
        assert payloads(b) == [1] * 4
        p.ask(ping2("p"))
        assert codes(p.ask(publish("1"), ask("2", "s"))) == ["published", IN_USE]
        assert payloads(b) == []

    def test_a_client_on_level_1_has_none(self, new_stage: NewStage) -> None:
        """Nor does it get what another connection of its id has asked for."""
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        p.ask(ask("m"))
        question = only(b)
        old = stage.peer("p")
        for _ in range(2):
            old.ask(publish("m"), publish(5), ask("m", "1"), ask_id("m", "2"))
            old.ask(*({"action": "cancel_ack", "ack_id": ack_id} for ack_id in "12"))
        assert payloads(b) == [1] * 8
        assert len(stage.hub.state.message_ids) == 1
        b.send(ack(question))
        assert old.take() == []
        p = peer2(stage, "p")
        assert responses(p, ask("m")) == {"b": None}

    def test_a_repeat_needs_the_permissions_of_now(self, new_stage: NewStage) -> None:
        stage = new_stage(asks_token=True)
        b = peer_of(stage, Identity("bob"), "b", proto=2)
        b.ask({"action": "subscribe", "topic": "t"})
        p = peer_of(stage, Identity("pat"), "p", proto=2)
        requests = publish("1"), ask("2", "2"), ask("3", "3"), ask_id("4", "4"), ask_id("5", "5")
        assert codes(p.ask(*requests)) == ["published"]
        _, *questions = b.take()
        for question in (questions[0], questions[2]):
            b.send(ack(question))
        assert len(p.take()) == 2
        leave(stage, p)
        none = Permissions(publish=[], direct=[])
        p = peer_of(stage, Identity("pat", none), "p", proto=2)
        assert codes(p.ask(*requests)) == ["forbidden"] * 5
        check_hub(stage.hub)
        p.send({**ping2("p"), "token": "better"})
        p.identify(Identity("pat"))
        p.take()
        assert codes(p.ask(*requests)) == ["published", "ack_response", "ack_response"]
        for question in questions:
            b.send(ack(question))
        assert [one["ack_id"] for one in p.take()] == ["3", "5"]
        assert b.take() == []


class TestWork:
    @pytest.mark.parametrize("policy", [RatePolicy.ERROR, RatePolicy.CLOSE])
    def test_what_comes_too_fast_is_not_remembered(
        self, new_stage: NewStage, policy: RatePolicy
    ) -> None:
        stage = new_stage(message_rate=4.0, rate_policy=policy)
        b, p = subscriber(stage), peer2(stage, "p")
        assert codes(p.ask(*(publish(name, name) for name in "abcd"))) == [
            *["published"] * 3,
            *["rate_limited"] * (policy is RatePolicy.ERROR),
        ]
        stage.advance(2.0)
        if p.closed:
            p = peer2(stage, "p")
        assert codes(p.ask(*(publish(name, name) for name in "dc"))) == ["published"] * 2
        assert payloads(b) == ["a", "b", "c", "d"]

    def test_a_repeat_counts_as_any_message(self, new_stage: NewStage) -> None:
        stage = new_stage(message_rate=8.0, rate_policy=RatePolicy.ERROR)
        p = peer2(stage, "p")
        stage.advance(2.0)
        batch: Fields = {"action": "publish", "topic": "t", "batch": [1, 2, 3], "message_id": "m"}
        batch["receipt"] = "r"
        assert codes(p.ask(batch, batch, batch)) == ["published", "published", "rate_limited"]

    def test_one_that_is_delayed_is_handled_once(self, new_stage: NewStage) -> None:
        stage = new_stage(message_rate=2.0, rate_policy=RatePolicy.DELAY)
        b, p = subscriber(stage), peer2(stage, "p")
        p.send(*(publish(name, name) for name in "abcdefgh"))
        stage.advance(1.0)
        leave(stage, p)
        stage.advance(5.0)
        got = payloads(b)
        assert 0 < len(got) < 8
        p = peer2(stage, "p")
        for name in "abcdefgh":
            p.send(publish(name, name))
            stage.advance(5.0)
        assert payloads(b) == list("abcdefgh")[len(got) :]

    def test_a_repeat_is_charged_for_what_it_brings(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        assert spent(stage, p, publish("1")) > spent(stage, p, publish("1")) >= 10
        p.ask(ask("2"))
        (_, question) = b.take()
        b.send(ack(question, result="x" * 500_000))
        stage.finish()
        assert codes(p.take()) == ["ack_response"]
        assert spent(stage, p, ask("2")) > 200

    def test_so_is_one_that_brings_what_is_known_so_far(self, new_stage: NewStage) -> None:
        stage = new_stage()
        b, p = subscriber(stage), peer2(stage, "p")
        subscriber(stage, "c")
        p.ask(ask())
        b.send(ack(only(b), result="x" * 500_000))
        leave(stage, p)
        p = peer2(stage, "p")
        assert spent(stage, p, ask(updates=True)) > 200


class TestTemplates:
    """Messages that are written alike are read by templates; those with ids are not."""

    @pytest.mark.parametrize("level", [1, 2])
    @pytest.mark.parametrize(
        "around",
        [
            b'{"action":"publish","topic":"t","data":DATA}',
            b'{"action":"publish","topic":"t","batch":[DATA]}',
            b'{"action":"publish_with_ack","topic":"t","data":DATA,"ack_id":"NAME"}',
            b'{"action":"publish_to_id_with_ack","to":"two","data":DATA,"ack_id":"NAME"}',
        ],
    )
    def test_nobody_can_tell(self, level: int, around: bytes) -> None:
        one = around.replace(b"DATA", b"1")
        ends = [b',"message_id":"m"}', b',"message_id":null}', b',"message_id":""}', b"}"]
        ends += [b',"message_id":"m","message_id":"n"}', b',"message_id":"m"}', b"}"]
        odd = [one[:-1] + end for end in ends]
        odd += [around.replace(b"DATA", b'1,"message_id":"o"'), one]
        odd += [one.replace(b"NAME", b'NAME","message_id":"p'), one]
        sent = [each.replace(b"NAME", b"%d" % n) for n, each in enumerate([one] * 4 + odd)]
        for data in (list(map(frame, sent)), [b"".join(map(frame, sent))]):
            with without_templates():
                plain = Server(level, ServerLimits())
                expected = [plain.hear(one) for one in data]
            server = Server(level, ServerLimits())
            assert [server.hear(one) for one in data] == expected
            remembered, alike = (each.stage.hub.state.message_ids for each in (server, plain))
            assert (len(remembered), remembered.used) == (len(alike), alike.used)
            assert len(remembered) >= 2 * level


@pytest.mark.pure("nothing comes in between within compiled code")
class TestInterrupted:
    """A signal handler raises while a message with an id is handled. Its connection is lost."""

    @staticmethod
    def handle(request: Fields, interruption: Interruption) -> tuple[Stage, Peer]:
        stage = Stage(limits=ServerLimits(heartbeat_interval=QUIET))
        b, p = subscriber(stage), peer2(stage, "p")
        interruption.during(lambda: p.send(request))
        leave(stage, p)
        return stage, b

    @pytest.mark.parametrize("request_", [publish(), ask()])
    def test_nothing_is_left(self, request_: Fields) -> None:
        def run(interruption: Interruption) -> None:
            stage, _ = self.handle(request_, interruption)
            stage.advance(WINDOW + 5.0)
            ids, acks = stage.hub.state.message_ids, stage.hub.state.acks
            assert (len(ids), ids.used, len(acks), acks._cost) == (0, 0, 0, 0)

        assert at_every_place(run, "/kps/protocol/") > 100

    @pytest.mark.parametrize(
        "request_",
        [
            publish(),
            ask(),
        ],
    )
    def test_a_repeat_is_not_told_what_is_not_so(self, request_: Fields) -> None:
        """What was not delivered is handled now, or its outcome is not known."""

        def run(interruption: Interruption) -> None:
            stage, b = self.handle(request_, interruption)
            before = len(payloads(b))
            p = peer2(stage, "p")
            answers = codes(p.ask(request_))
            got = before + len(payloads(b))
            assert got >= 1 or answers in ([], [UNKNOWN]), answers

        assert at_every_place(run, "/kps/protocol/") > 100


def leave_for_good(stage: Stage, peer: Peer) -> None:
    """Leave, and let the driver take what it is told of that."""
    vanish(stage, peer)
    stage.hub.events()


class TestMemoryTaken:
    """``message_id_bytes`` bounds what is remembered, whatever clients do (see ``test_memory``)."""

    LIMITS = ServerLimits(
        heartbeat_interval=QUIET, message_id_bytes=SHARE * ROOM, max_message_ids=10**6
    )

    @staticmethod
    def publish(message_id: str, topic: str = "t") -> Fields:
        return publish(message_id, topic=topic, receipt=None)

    @pytest.mark.parametrize("kind", ["short", "ASCII", "emoji"])
    def test_by_publications(self, kind: str) -> None:
        stage, ids, topic = Stage(limits=self.LIMITS), names(kind), next(names(kind))
        p, b = client(stage, "p"), client(stage, "b", topic)

        def build() -> None:
            while not drain(p):
                feed(p, [self.publish(next(ids), topic)] * 2)
                drain(b)

        assert 0.3 * ROOM < memory_of(build) <= MULTIPLE * ROOM + SLACK
        assert 0.98 * ROOM < stage.hub.state.message_ids.used <= ROOM

    @pytest.mark.parametrize("kind", ["short", "emoji"])
    @pytest.mark.parametrize("result", [1, "x" * 100, EMOJI * 1000])
    def test_by_answers(self, kind: str, result: Any) -> None:
        stage, ids = Stage(limits=self.LIMITS), names(kind)
        p, b = client(stage, "p"), client(stage, "b", "t")

        def build() -> None:
            number = 0
            while b'"limit_reached"' not in drain(p):
                number += 1
                feed(p, [ask(next(ids))])
                feed(b, [ack({"ack_id": f"ack_{number}"}, result=result)])
                drain(b)

        assert 0.3 * ROOM < memory_of(build) <= MULTIPLE * ROOM + SLACK

    def test_by_requests_that_are_under_way(self) -> None:
        """Those that nobody owns take no more than others."""
        stage = Stage(limits=ServerLimits(max_ack_bytes=ROOM, max_pending_acks=10**6))
        p, b, ids = client(stage, "p"), client(stage, "b", "t"), names("emoji")
        acks, remembered = stage.hub.state.acks, stage.hub.state.message_ids

        def build() -> None:
            nonlocal p
            number = 0
            while b'"limit_reached"' not in drain(p):
                number += 1
                feed(p, [ask(next(ids), str(number), timeout=300)])
                drain(b)
                if number % 50 == 0:
                    leave_for_good(stage, p)
                    p = client(stage, "p")

        assert memory_of(build) <= MULTIPLE * (acks._cost + remembered.used) + SLACK
        assert 0.98 * ROOM < acks._cost <= ROOM

    @pytest.mark.parametrize("messages", [1, 2])
    @pytest.mark.parametrize("kind", ["short", "emoji"])
    def test_by_messages_of_many_clients(self, kind: str, messages: int) -> None:
        """Each has one that is remembered: its latest."""
        limits = ServerLimits(message_id_bytes=SHARE * ROOM, max_message_ids=1)
        stage, clients = Stage(limits=limits), names(kind)
        b = client(stage, "b", "t")

        def build() -> None:
            answer = b""
            while not answer:
                p = client(stage, next(clients))
                feed(p, [self.publish(str(number)) for number in range(messages)])
                answer = drain(p)
                drain(b)
                leave_for_good(stage, p)

        assert 0.3 * ROOM < memory_of(build) <= MULTIPLE * ROOM + SLACK
        assert 0.98 * ROOM < stage.hub.state.message_ids.used <= ROOM

    @pytest.mark.parametrize("kind", ["short", "ASCII", "emoji"])
    def test_by_messages_of_many_connections(self, kind: str) -> None:
        """Each connection of a client has its own text of the id."""
        stage, client_id, ids = Stage(limits=self.LIMITS), next(names(kind)), names("short")
        b = client(stage, "b", "t")

        def build() -> None:
            answer = b""
            while not answer:
                p = client(stage, client_id)
                feed(p, [self.publish(next(ids))])
                answer = drain(p)
                drain(b)
                leave_for_good(stage, p)

        assert 0.3 * ROOM < memory_of(build) <= MULTIPLE * ROOM + SLACK

    @pytest.mark.parametrize("way", ["address", "identity"])
    @pytest.mark.parametrize(
        "messages",
        [
            1,
            2,
        ],
    )
    def test_by_messages_of_many_owners(self, way: str, messages: int) -> None:
        """Each has one that is remembered: its latest, with an answer."""
        is_named, count = way == "identity", 200
        limits = ServerLimits(message_id_bytes=SHARE * ROOM, max_message_ids=1)
        stage = Stage(limits=limits, asks_token=is_named)
        b = peer_of(stage, Identity("b"), "b", proto=2) if is_named else client(stage, "b")
        b.ask({"action": "subscribe", "topic": "t"})
        remembered = stage.hub.state.message_ids

        def build() -> None:
            for number in range(count):
                p = Peer(stage.hub, stage.clock, f"192.0.{number // 200}.{number % 200}:40000")
                p.upgrade()
                p.send({**ping2(f"p{number}"), "token": "token"})
                if is_named:
                    p.identify(Identity(f"{number}".rjust(64, EMOJI)))
                for name in range(messages):
                    feed(p, [ask(str(name))])
                    (question,) = b.take()
                    feed(b, [ack(question, result=1)])
                assert b'"result":1' in drain(p)
                leave_for_good(stage, p)

        taken = memory_of(build)
        assert len(remembered) == len(remembered._used) == count
        assert taken <= MULTIPLE * remembered.used + SLACK

    def test_of_what_is_forgotten_nothing_is_kept(self) -> None:
        stage = Stage(limits=ServerLimits(heartbeat_interval=QUIET))
        p, b = client(stage, "p"), client(stage, "b", "t")

        def build() -> None:
            for number in range(1, 201):
                feed(p, [self.publish(f"p{number}"), ask(f"a{number}")])
                feed(b, [ack({"ack_id": f"ack_{number}"}, result="x" * 1000)])
                drain(p)
                drain(b)
                stage.advance(WINDOW / 20)
            stage.advance(WINDOW)

        assert memory_of(build) <= SLACK
        assert stage.hub.state.message_ids.used == 0
