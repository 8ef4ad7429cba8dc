"""The figures for operators: each is there, each counts what it says, and none goes back."""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import kps.protocol
from kps.errors import Refused
from kps.protocol.bus.ack_figures import ENDS, OUTCOMES
from kps.protocol.bus.history import History
from kps.protocol.dialect.codes import ERRORS
from kps.protocol.dialect.http_answers import STATUSES
from kps.protocol.limits import Overflow
from kps.protocol.patterns import InGroup
from kps.protocol.server.metrics import COUNTER, HISTOGRAM, METRICS, SUM, Figures, gather
from kps.protocol.server_limits import ServerLimits
from tests.protocol.helpers import Peer, Stage, close_frame, frame, request, upgrade

ROOT = Path(__file__).parents[3]
BY_NAME = {metric.name: metric for metric in METRICS}


def figures(stage: Stage) -> Figures:
    return gather(stage.hub, "memory")


def of(stage: Stage, name: str) -> dict[str, float]:
    """The figures of a metric that are not 0, by the value of its label."""
    found = figures(stage)
    return {key[1]: value for key, value in found.items() if key[0] == name and value}


def one(stage: Stage, name: str) -> float:
    return figures(stage)[name,]


def member(stage: Stage, client_id: str, topic: str = "jobs", **fields: Any) -> Peer:
    peer = level2(stage, client_id)
    peer.ask({"action": "subscribe", "topic": topic, "group": "workers", **fields})
    return peer


def level2(stage: Stage, client_id: str, *topics: str) -> Peer:
    peer = stage.peer().upgrade()
    peer.ask({"action": "ping", "from": client_id, "proto": 2})
    for topic in topics:
        peer.ask({"action": "subscribe", "topic": topic})
    return peer


def asked(ack_id: str = "a", topic: str = "jobs", **fields: Any) -> dict[str, Any]:
    return {"action": "publish_with_ack", "topic": topic, "data": 1, "ack_id": ack_id, **fields}


def task_of(peer: Peer) -> str:
    """The server's id of the latest message that wants an ack."""
    return [str(message["ack_id"]) for message in peer.take() if "ack_id" in message][-1]


def ack(ack_id: str, **fields: Any) -> dict[str, Any]:
    return {"action": "ack", "ack_id": ack_id, "success": True, **fields}


class TestWhatThereIs:
    def test_all_that_is_described_is_there_and_nothing_else(self) -> None:
        found = figures(Stage())
        assert {key[0] for key in found} == set(BY_NAME)
        for name, *labels in found:
            metric = BY_NAME[name]
            assert len(labels) == (1 if metric.kind == HISTOGRAM else len(metric.labels))

    def test_the_same_is_there_whatever_has_happened(self) -> None:
        stage = Stage(history=(History("**"),))
        before = figures(stage).keys()
        peer = level2(stage, "a", "t")
        peer.ask({"action": "what"}, {"action": "publish", "topic": "t", "data": 1})
        peer.feed(close_frame(3210))
        assert figures(stage).keys() == before

    def test_the_figures_of_several_servers_can_be_added_up(self) -> None:
        several = Stage(), Stage()
        for stage in several:
            level2(stage, "a").ask({"action": "publish", "topic": "t", "data": 1})
        total: Counter[Any] = Counter()
        for stage in several:
            total.update(figures(stage))
        assert total["kps_published_messages",] == total["kps_clients",] == 2

    def test_names_say_what_they_are(self) -> None:
        for metric in METRICS:
            assert re.fullmatch(r"kps_[a-z_]*[a-z]", metric.name)
            assert not metric.name.endswith(("_total", "_info", "_count", "_bucket", "_sum"))
            assert metric.help.endswith(".")
        assert len(BY_NAME) == len(METRICS)


class TestTraffic:
    def test_what_is_on_the_bus(self) -> None:
        stage = Stage(version="1.2.3")
        alice, bob = level2(stage, "alice", "a", "b"), level2(stage, "bob", "b")
        bob.ask({"action": "subscribe", "pattern": "c/*"})
        bob.ask({"action": "subscribe", "topic": "b", "group": "g"})
        stage.hub.local.subscribe("own")
        bob.ask({"action": "subscribe", "topic": "a", "presence": True})
        stage.advance(7)
        stage.hub.handle_timeout(stage.clock.now)
        found = figures(stage)
        expected: dict[Any, float] = {
            ("kps_build", "1.2.3", "memory"): 1,
            ("kps_uptime_seconds",): 7,
            ("kps_connections",): 2,
            ("kps_connections_accepted",): 2,
            ("kps_clients",): 2,
            ("kps_clients_registered",): 2,
            ("kps_topics",): 3,
            ("kps_patterns",): 1,
            ("kps_groups",): 1,
            ("kps_subscriptions",): 7,
            ("kps_presence_rosters",): 1,
            ("kps_received_messages",): 8,
        }
        assert {key: found[key] for key in expected} == expected
        bob.ask({"action": "unsubscribe", "topic": "b", "group": "g"})
        bob.connection.connection_lost(stage.clock.now)
        alice.ask({"action": "unsubscribe", "topic": "a"})
        found = figures(stage)
        assert [found[f"kps_{name}",] for name in ("patterns", "groups", "subscriptions")] == [
            0, 0, 2,
        ]  # fmt: skip
        assert (found["kps_clients",], found["kps_clients_lost",]) == (1, 1)
        assert found["kps_received_messages",] == 10  # those of bob are not forgotten

    def test_messages(self) -> None:
        stage = Stage()
        alice = level2(stage, "alice")
        for name in ("bob", "carol"):
            level2(stage, name, "t")
        alice.ask({"action": "publish", "topic": "t", "batch": [1, 2, 3]})
        alice.ask({"action": "publish", "topic": "nobody", "data": 1})
        found = figures(stage)
        assert found["kps_published_messages",] == 4
        assert found["kps_delivered_messages",] == 6
        assert found["kps_received_messages",] == 3 + 2 + 4
        assert found["kps_received_bytes",] == stage.hub.stats.bytes_in > 0
        assert found["kps_sent_bytes",] == stage.hub.stats.bytes_out > 0
        waiting = [one.session.transport.queued_bytes for one in stage.hub.connections.values()]
        assert found["kps_queue_bytes",] == sum(waiting) > 0
        assert found["kps_queue_largest_bytes",] == max(waiting)
        assert found["kps_queue_messages",] == 2  # each a batch

    def test_refusals_by_code(self) -> None:
        stage = Stage()
        peer = level2(stage, "a")
        peer.ask({"action": "what"}, {"action": "subscribe"}, {"action": "subscribe"})
        assert of(stage, "kps_refused_messages") == {"unknown_action": 1, "bad_request": 2}

    def test_who_waits_for_a_turn(self) -> None:
        stage = Stage()
        peer = level2(stage, "a")
        stage.hub.take_unflushed()
        peer.send(*[{"action": "subscribe", "topic": f"t{n}"} for n in range(3000)])
        assert one(stage, "kps_connections_waiting") == 1
        stage.finish()
        assert one(stage, "kps_connections_waiting") == 0

    def test_a_look_at_very_many_connections_is_charged(self) -> None:
        stage = Stage()
        for _ in range(100):
            stage.peer()
        before = stage.hub.state.turns.left
        figures(stage)
        assert stage.hub.state.turns.left == before - 50


class TestDrops:
    def test_by_the_policy(self) -> None:
        stage = Stage(limits=ServerLimits(overflow=Overflow.DROP_OLDEST, queue_messages=4))
        level2(stage, "slow", "t")
        alice = level2(stage, "alice")
        for number in range(10):
            alice.ask({"action": "publish", "topic": "t", "data": number})
        drops = of(stage, "kps_dropped_messages")
        assert drops == {"policy": stage.hub.dropped()}
        assert drops["policy"] > 0

    def test_of_a_slow_consumer(self) -> None:
        stage = Stage(limits=ServerLimits(queue_messages=4))
        level2(stage, "slow", "t")
        alice = level2(stage, "alice")
        for number in range(10):
            alice.ask({"action": "publish", "topic": "t", "data": number})
        drops = of(stage, "kps_dropped_messages")
        assert drops == {"slow": stage.hub.dropped()}
        assert drops["slow"] > 4

    def test_with_a_connection(self) -> None:
        stage = Stage()
        bob, alice = level2(stage, "bob", "t"), level2(stage, "alice")
        alice.ask({"action": "publish", "topic": "t", "batch": [1, 2]})
        bob.connection.connection_lost(stage.clock.now)
        assert of(stage, "kps_dropped_messages") == {"disconnected": 2}
        bob.connection.connection_lost(stage.clock.now)  # drivers may say so twice
        assert of(stage, "kps_dropped_messages") == {"disconnected": 2}

    def test_by_the_program(self) -> None:
        stage = Stage(limits=ServerLimits(mailbox_messages=2))
        stage.hub.local.subscribe("t")
        alice = level2(stage, "alice")
        for number in range(5):
            alice.ask({"action": "publish", "topic": "t", "data": number})
        assert of(stage, "kps_dropped_messages") == {"program": 3}

    @pytest.mark.parametrize("overflow", list(Overflow))
    def test_counters_never_go_back(self, overflow: Overflow) -> None:
        stage = Stage(limits=ServerLimits(overflow=overflow, queue_messages=4))
        alice = level2(stage, "alice")
        peers = [level2(stage, f"c{number}", "t") for number in range(3)]
        before = figures(stage)

        def check() -> None:
            nonlocal before
            now = figures(stage)
            for key, value in before.items():
                if BY_NAME[key[0]].kind in (COUNTER, HISTOGRAM):
                    assert now[key] >= value, key
            before = now

        for number in range(12):
            alice.ask({"action": "publish", "topic": "t", "data": number})
            alice.ask(asked(f"a{number}", "t", timeout=1))
            check()
            if number % 4 == 3:
                peers[number // 4].connection.connection_lost(stage.clock.now)
                check()
                stage.advance(2)
                check()
        assert sum(of(stage, "kps_dropped_messages").values()) == stage.hub.dropped() > 0


class TestConnections:
    def test_too_many(self) -> None:
        stage = Stage(limits=ServerLimits(max_connections=3, max_connections_per_address=2))
        for address in ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1", "192.0.2.3:1"):
            Peer(stage.hub, stage.clock, address).feed(upgrade())
        assert of(stage, "kps_connections_refused") == {"address": 1, "full": 1}
        assert of(stage, "kps_http_responses") == {"101": 3, "503": 2}

    def test_a_foreign_origin(self) -> None:
        stage = Stage()
        for _ in range(2):  # the log tells the first one only
            stage.peer().feed(upgrade(changed={"origin": "https://evil.example"}))
        assert of(stage, "kps_connections_refused") == {"origin": 2}

    def test_logins(self) -> None:
        stage = Stage(asks_token=True)
        stage.peer().feed(upgrade(changed={"authorization": "Bearer no"}))
        number = next(iter(stage.hub.connections))
        stage.hub.judge(number, None, stage.clock.now)
        level2(stage, "a")  # without a token
        assert of(stage, "kps_connections_refused") == {"login": 2}
        assert of(stage, "kps_http_responses") == {"401": 1, "101": 1}

    def test_what_a_hook_refuses(self) -> None:
        stage = Stage(asks_connect=True)
        peer = stage.peer().upgrade()
        peer.send({"action": "ping", "from": "a"})
        peer.identify(Refused("no"))
        assert of(stage, "kps_connections_refused") == {"login": 1}

    def test_while_the_server_stops(self) -> None:
        stage = Stage()
        peer = stage.peer()
        stage.hub.state.stopping = True
        peer.feed(upgrade())
        assert of(stage, "kps_connections_refused") == {"stopping": 1}

    def test_how_they_end(self) -> None:
        stage = Stage()
        for code in (1000, 4000, 4999, 1011):
            peer = stage.peer("a")
            peer.feed(close_frame(code))
            peer.connection.connection_lost(stage.clock.now)
        stage.peer("lost").connection.connection_lost(stage.clock.now)
        for nobody in (stage.peer(), stage.peer()):
            nobody.connection.connection_lost(stage.clock.now)
        broken = stage.peer("broken")
        broken.feed(frame(b"\xff"))
        broken.connection.connection_lost(stage.clock.now)
        closed = {"1000": 1, "1011": 1, "other": 2, "1006": 1, "1007": 1}
        assert of(stage, "kps_connections_closed") == closed
        assert one(stage, "kps_connections_accepted") == 8
        assert one(stage, "kps_connections") == 0

    def test_http(self) -> None:
        stage = Stage()
        for target in ("/healthz", "/no", "//", "/healthz"):
            stage.peer().feed(request(target))
        stage.peer().feed(upgrade("/no"))
        stage.peer().feed(b"nonsense\r\n\r\n")
        assert of(stage, "kps_http_responses") == {"200": 2, "404": 3, "400": 1}


class TestAcks:
    def test_handled_and_failed(self) -> None:
        stage = Stage()
        bob, carol = level2(stage, "bob", "t"), level2(stage, "carol", "t")
        alice = level2(stage, "alice")
        alice.ask(asked(topic="t"))
        assert one(stage, "kps_acks_pending") == 1
        assert one(stage, "kps_acks_awaited") == 2
        stage.advance(0.03)
        bob.ask(ack(task_of(bob)))
        stage.advance(0.3)
        carol.ask(ack(task_of(carol), success=False, error="timeout"))  # its own word
        assert of(stage, "kps_ack_outcomes") == {"handled": 1, "failed": 1}
        assert of(stage, "kps_ack_requests") == {"complete": 1}
        found = figures(stage)
        assert found["kps_ack_duration_seconds", "0.25"] == 0
        assert found["kps_ack_duration_seconds", "0.5"] == 1
        assert found["kps_ack_duration_seconds", "inf"] == 1
        assert found["kps_ack_duration_seconds", SUM] == pytest.approx(0.33)
        assert (found["kps_acks_pending",], found["kps_acks_awaited",]) == (0, 0)

    def test_disconnected_and_late(self) -> None:
        stage = Stage()
        bob, _ = level2(stage, "bob", "t"), level2(stage, "carol", "t")
        alice = level2(stage, "alice")
        alice.ask(asked(topic="t", timeout=1))
        bob.connection.connection_lost(stage.clock.now)
        stage.advance(2)
        assert of(stage, "kps_ack_outcomes") == {"disconnected": 1, "timeout": 1}
        assert of(stage, "kps_ack_requests") == {"timeout": 1}
        assert figures(stage)["kps_ack_duration_seconds", "1.0"] == 1

    def test_absent(self) -> None:
        stage = Stage()
        level2(stage, "alice").ask(asked(topic="t", expect=["bob", "carol"]))
        assert of(stage, "kps_ack_outcomes") == {"absent": 2}
        assert of(stage, "kps_ack_requests") == {"complete": 1}

    def test_nobody_waits(self) -> None:
        stage = Stage()
        level2(stage, "bob", "t")
        member(stage, "worker", "t")
        alice, other = level2(stage, "alice"), level2(stage, "other")
        alice.ask(asked(topic="t"), {"action": "cancel_ack", "ack_id": "a"})
        other.ask(asked(topic="t"))
        other.connection.connection_lost(stage.clock.now)
        assert of(stage, "kps_ack_outcomes") == {"unknown": 4}
        assert of(stage, "kps_ack_requests") == {"cancelled": 1, "publisher_left": 1}
        assert figures(stage)["kps_ack_duration_seconds", "inf"] == 0

    def test_no_room(self) -> None:
        stage = Stage(limits=ServerLimits(max_results=2000))
        bob, alice = level2(stage, "bob", "t"), level2(stage, "alice")
        alice.ask(asked(topic="t"))
        bob.ask(ack(task_of(bob), result="x" * 3000))
        assert of(stage, "kps_ack_outcomes") == {"no_room": 1}

    def test_groups(self) -> None:
        stage = Stage(limits=ServerLimits(max_waiting=1))
        first, alice = member(stage, "first"), level2(stage, "alice")
        for ack_id in "abc":
            alice.ask(asked(ack_id))
        assert of(stage, "kps_ack_outcomes") == {"busy": 1}
        names = "tasks", "attempts", "tasks_active", "tasks_waiting"
        assert [one(stage, f"kps_group_{name}") for name in names] == [3, 1, 1, 1]
        first.ask(ack(task_of(first)))
        first.connection.connection_lost(stage.clock.now)
        assert of(stage, "kps_ack_outcomes") == {"busy": 1, "handled": 1, "no_member": 1}
        assert [one(stage, f"kps_group_{name}") for name in names] == [3, 2, 0, 0]

    def test_a_task_that_ends_its_members(self) -> None:
        stage = Stage(limits=ServerLimits(max_attempts=2))
        workers = [member(stage, name) for name in "abc"]
        level2(stage, "alice").ask(asked())
        for worker in workers[:2]:
            worker.connection.connection_lost(stage.clock.now)
        assert of(stage, "kps_ack_outcomes") == {"disconnected": 1}
        assert one(stage, "kps_group_attempts") == 2

    def test_a_group_that_is_late_or_fails(self) -> None:
        stage = Stage()
        worker, alice = member(stage, "w", concurrency=2), level2(stage, "alice")
        alice.ask(asked("a", timeout=1), asked("b", timeout=1))
        late, failed = [message["ack_id"] for message in worker.take()]
        assert late != failed
        worker.ask(ack(failed, success=False, error="busy"))  # its own word
        stage.advance(2)
        assert of(stage, "kps_ack_outcomes") == {"timeout": 1, "failed": 1}
        assert of(stage, "kps_ack_requests") == {"timeout": 1, "complete": 1}

    def test_those_of_the_program_count_as_well(self) -> None:
        stage = Stage()
        bob = level2(stage, "bob", "t")
        stage.hub.publish_with_ack("t", 1, 5.0, stage.clock.now)
        bob.ask(ack(task_of(bob)))
        assert of(stage, "kps_ack_outcomes") == {"handled": 1}

    def test_all_words_are_known(self) -> None:
        stage = Stage()
        found = figures(stage)
        for name, words in (("kps_ack_outcomes", OUTCOMES), ("kps_ack_requests", ENDS)):
            assert {key[1] for key in found if key[0] == name} == set(words)


class TestHistory:
    def test_what_is_kept(self) -> None:
        stage = Stage(history=(History("kept/*", size=3),))
        alice = level2(stage, "alice")
        for number in range(5):
            alice.ask({"action": "publish", "topic": "kept/a", "data": number})
        alice.ask({"action": "publish", "topic": "kept/b", "batch": [1, 2]})
        found = figures(stage)
        assert found["kps_history_topics",] == 2
        assert found["kps_history_messages",] == 5
        assert stage.hub.state.logs is not None
        assert found["kps_history_bytes",] == stage.hub.state.logs.size > 0

    def test_recoveries(self) -> None:
        stage = Stage(history=(History("kept/*", size=3),))
        alice, bob = level2(stage, "alice"), level2(stage, "bob")
        for number in range(10):
            alice.ask({"action": "publish", "topic": "kept/a", "data": number})
        epoch = stage.hub.state.logs.epoch if stage.hub.state.logs else ""

        def subscribe(offset: int, epoch: str = epoch) -> None:
            since = {"epoch": epoch, "offset": offset}
            bob.ask({"action": "subscribe", "topic": "kept/a", "since": since})
            bob.ask({"action": "unsubscribe", "topic": "kept/a"})

        bob.ask({"action": "subscribe", "topic": "kept/a"})  # asks for nothing
        bob.ask({"action": "unsubscribe", "topic": "kept/a"})
        subscribe(8)
        subscribe(2)  # of 3 to 10 the server has 8, 9 and 10
        subscribe(2, "another")
        assert of(stage, "kps_history_recoveries") == {"complete": 1, "loss": 2}
        assert one(stage, "kps_history_lost_messages") == 5
        since = {"epoch": epoch, "offset": 1}
        bob.ask({"action": "history", "topic": "kept/a", "since": since, "nonce": "n"})
        assert of(stage, "kps_history_recoveries") == {"complete": 1, "loss": 3}
        assert one(stage, "kps_history_lost_messages") == 11

    def test_a_server_that_keeps_nothing(self) -> None:
        stage = Stage()
        since = {"epoch": "x", "offset": 1}
        level2(stage, "a").ask({"action": "subscribe", "topic": "t", "since": since})
        assert of(stage, "kps_history_recoveries") == {"loss": 1}

    def test_replays(self) -> None:
        stage = Stage(history=(History("**", size=100),), limits=ServerLimits(queue_messages=8))
        alice, bob = level2(stage, "alice"), level2(stage, "bob")
        for number in range(50):
            alice.ask({"action": "publish", "topic": "t", "data": number})
        bob.send({"action": "subscribe", "topic": "t", "last": 50})
        assert one(stage, "kps_history_replays") == 1
        while bob.read():
            pass
        assert one(stage, "kps_history_replays") == 0


def test_message_ids() -> None:
    stage = Stage()
    level2(stage, "bob", "t")
    alice = level2(stage, "alice")
    message = {"action": "publish", "topic": "t", "data": 1, "message_id": "m", "receipt": "r"}
    alice.ask(message)
    alice.ask(message)
    assert one(stage, "kps_message_ids_remembered") == 1
    assert one(stage, "kps_message_ids_repeats") == 1
    assert one(stage, "kps_message_ids_bytes") == stage.hub.state.message_ids.used > 0


def test_a_member_that_only_asked_is_no_subscription() -> None:
    stage = Stage(asks_subscribe=True)
    peer = level2(stage, "a")
    peer.send({"action": "subscribe", "topic": "t", "group": "g"})
    assert one(stage, "kps_subscriptions") == 0
    peer.identify(True)
    assert one(stage, "kps_subscriptions") == 1
    assert stage.hub.state.bus.group(InGroup("t", "g")) is not None


class TestErrorCodes:
    def test_they_are_those_of_the_specification(self) -> None:
        text = (ROOT / "spec" / "PROTOCOL.md").read_text(encoding="utf-8")
        section = text.partition("### 12.6 error")[2].partition("### 12.7")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.M) == list(ERRORS)

    def test_every_refusal_has_one_of_them(self) -> None:
        used = set()
        for path in Path(kps.protocol.__path__[0]).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InvalidMessage":
                    used |= {arg.value for arg in node.args[1:] if isinstance(arg, ast.Constant)}
        assert used <= {*ERRORS, *STATUSES}  # of answers over HTTP
        assert len(used) > 5
