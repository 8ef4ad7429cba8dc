"""What hostile clients make a server keep, measured, against what SECURITY.md says it takes.

Each test builds a state from the bytes that clients send, as large as a small limit allows, and
compares the memory that Python says it took with the bytes that the limit names.
"""

import gc
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
import pytest

from kps.protocol import cost
from kps.protocol.access.identity import Identity
from kps.protocol.access.ids import IdOwners
from kps.protocol.bus.history import History
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.frames import Masker
from tests.protocol.helpers import Fields, Peer, Stage

LIMIT = 512 * 1024
MULTIPLE = 1.25
"""Memory for each byte that a limit names, at most."""
SLACK = 64 * 1024
"""What a connection or a table may take besides, before it holds anything."""

EMOJI = "\N{GRINNING FACE}"
DEEP = ",".join(["[" * 130 + "]" * 130] * 500)
LONG = "x" * 10_000
_masker = Masker(lambda count: b"\x01" * count)


def memory_of(build: Callable[[], object]) -> int:
    """Return the bytes that a function leaves in memory."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = build()
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        del kept
        return taken
    finally:
        tracemalloc.stop()


def frames(messages: Iterable[Any]) -> Iterator[bytes]:
    for message in messages:
        yield _masker.text_frame(orjson.dumps(message))


def client(stage: Stage, client_id: str, *topics: str, level: int = 2) -> Peer:
    peer = stage.peer().upgrade()
    peer.ask({"action": "ping", "from": client_id, "proto": level})
    for topic in topics:
        peer.ask({"action": "subscribe", "topic": topic})
    return peer


def receive(peer: Peer, data: bytes) -> None:
    """Let the server receive bytes, and go on until nothing is due."""
    peer.feed(data)
    hub = peer._hub
    hub.take_unflushed()
    while hub.state.turns.are_due:
        hub.handle_timeout(peer._clock.now)
        hub.take_unflushed()


def feed(peer: Peer, messages: Iterable[Any]) -> None:
    """Send messages, and let nobody read what comes of them."""
    for data in frames(messages):
        receive(peer, data)


def drain(peer: Peer) -> bytes:
    """Read what waits, and keep nothing of it."""
    return b"".join(iter(peer.connection.data_to_send, b""))


def ask(number: int, **fields: Any) -> Fields:
    return {
        "action": "publish_with_ack",
        "topic": "t",
        "ack_id": str(number),
        "timeout": 60,
        **fields,
    }


def answer(number: int, **fields: Any) -> Fields:
    return {"action": "ack", "ack_id": f"ack_{number}", "success": True, **fields}


def names(kind: str, length: int = 256) -> Iterator[str]:
    """Names that are as large as limits allow, or short."""
    number = 0
    while True:
        number += 1
        text = str(number)
        yield {"short": text, "ASCII": text.rjust(length, "a"), "emoji": text.rjust(length, EMOJI)}[
            kind
        ]


class TestQueues:
    """``queue_bytes`` bounds what waits for a client that does not read."""

    @pytest.mark.parametrize("level", [1, 2])
    def test_tiny_publications(self, level: int) -> None:
        stage = Stage(limits=ServerLimits(queue_bytes=LIMIT, max_batch=10**6))
        publisher = client(stage, "p")
        slow = client(stage, "s", "t", level=level)

        def build() -> None:
            while not slow.session.gate.is_over:
                taken = slow.session.transport.queued_bytes
                if taken > 0.95 * LIMIT:
                    break
                feed(publisher, [{"action": "publish", "topic": "t", "data": 1}] * 50)

        assert memory_of(build) <= MULTIPLE * LIMIT + SLACK

    @pytest.mark.parametrize(
        "request_",
        [
            {"action": "get_ack_status", "ack_id": "1"},
            {"action": "x"},
            {"action": "publish", "topic": "u", "receipt": "1"},
            {"action": "subscribe", "topic": "u"},
            0,
        ],
    )
    def test_answers(self, request_: Any) -> None:
        stage = Stage(limits=ServerLimits(backlog_bytes=LIMIT))
        peer = client(stage, "p")

        def build() -> None:
            while not peer.connection.wants_pause:
                feed(peer, [[request_] * 50])

        assert memory_of(build) <= MULTIPLE * LIMIT + SLACK
        assert peer.session.transport.queued_bytes >= 0.95 * LIMIT

    def test_direct_messages(self) -> None:
        stage = Stage(limits=ServerLimits(queue_bytes=LIMIT))
        publisher, slow = client(stage, "p"), client(stage, "s")

        def build() -> None:
            while slow.session.transport.queued_bytes < 0.95 * LIMIT:
                feed(publisher, [{"action": "direct_message", "to": "s"}] * 50)

        assert memory_of(build) <= MULTIPLE * LIMIT + SLACK

    @pytest.mark.parametrize("size", [300, 3000])
    @pytest.mark.parametrize("level", [1, 2])
    def test_ack_requests_are_in_memory_once(self, level: int, size: int) -> None:
        stage = Stage()
        publisher = client(stage, "p")
        slow = [client(stage, f"s{number}", "t", level=level) for number in range(40)]
        count = LIMIT // size

        def build() -> None:
            feed(publisher, (ask(number, data="x" * size) for number in range(count)))

        taken = memory_of(build)
        queued = sum(peer.session.transport.queued_bytes for peer in slow)
        assert queued > 40 * LIMIT
        for_requests = stage.hub.state.acks._cost
        assert taken - for_requests < 2 * LIMIT  # once, and 8 bytes for each place in a queue


class TestAcks:
    @pytest.mark.parametrize("ack_id", ["short", "emoji"])
    @pytest.mark.parametrize("receivers", [1, 20])
    def test_requests(self, ack_id: str, receivers: int) -> None:
        stage = Stage(limits=ServerLimits(max_ack_bytes=LIMIT, max_pending_acks=10**6))
        publisher = client(stage, "p")
        silent = [client(stage, f"s{number}", "t") for number in range(receivers)]
        numbered = names(ack_id, 1024)

        def build() -> None:
            while not drain(publisher):
                feed(publisher, [ask(0, ack_id=next(numbered))])
                for peer in silent:
                    drain(peer)

        taken = memory_of(build)
        assert 0.4 * LIMIT < taken <= MULTIPLE * LIMIT + SLACK

    @pytest.mark.parametrize("kind", ["short", "ASCII", "emoji"])
    def test_outcomes_without_results(self, kind: str) -> None:
        """One receiver never answers; the others answer and leave, and come under new ids."""
        stage = Stage(limits=ServerLimits(max_ack_bytes=LIMIT // 2, max_pending_acks=10**6))
        publisher, silent = client(stage, "p"), client(stage, "silent", "t")
        ids = names(kind)

        def build() -> None:
            number = 0
            while not drain(publisher):
                number += 1
                receivers = [client(stage, next(ids), "t") for _ in range(5)]
                feed(publisher, [ask(number)])
                drain(silent)
                for receiver in receivers:
                    feed(receiver, [answer(number)])
                    receiver.connection.connection_lost(stage.clock.now)

        room_of_tables = 2 * SLACK  # they grow in steps
        assert 0.3 * LIMIT < memory_of(build) <= MULTIPLE * LIMIT // 2 + room_of_tables

    @pytest.mark.parametrize("result", [{}, [{}] * 100, [[[[[[]]]]]] * 1000, "x", 1.5])
    @pytest.mark.parametrize("limit", ["max_all_results", "max_results"])
    def test_results(self, result: Any, limit: str) -> None:
        limits: Fields = {limit: LIMIT}
        stage = Stage(limits=ServerLimits(max_pending_acks=10**6, **limits))
        publisher = client(stage, "p")
        receivers = [client(stage, f"s{number}", "t") for number in range(20)]
        acks = stage.hub.state.acks

        def build() -> None:
            number = 0
            before = -1
            while before < acks._results < 0.9 * LIMIT:
                number, before = number + 1, acks._results
                feed(publisher, [ask(number)])
                for receiver in receivers[1:]:
                    feed(receiver, [answer(number, result=result)])
                for receiver in receivers:
                    drain(receiver)

        taken = memory_of(build)
        assert taken - acks._cost <= MULTIPLE * LIMIT + SLACK

    def test_of_requests_that_have_ended_nothing_is_kept(self) -> None:
        stage = Stage()
        publisher, receiver = client(stage, "p"), client(stage, "s", "t")

        def build() -> None:
            for number in range(1, 50):
                feed(publisher, [ask(number)])
                feed(receiver, [answer(number, result="x" * 10_000)])
                drain(publisher)
                drain(receiver)

        assert memory_of(build) <= SLACK
        assert stage.hub.state.acks._results == 0

    def test_error_texts(self) -> None:
        stage = Stage(limits=ServerLimits(max_all_results=LIMIT, max_pending_acks=10**6))
        publisher, receiver = client(stage, "p"), client(stage, "s", "t")
        silent = client(stage, "silent", "t")
        acks = stage.hub.state.acks

        def build() -> None:
            number = 0
            while acks._results < 0.9 * LIMIT:
                number += 1
                feed(publisher, [ask(number)])
                feed(receiver, [answer(number, success=False, error=EMOJI * 2000)])
                drain(receiver)
                drain(silent)

        assert memory_of(build) - acks._cost <= MULTIPLE * LIMIT + SLACK


class TestTasks:
    """Messages for groups, whatever has become of them."""

    LIMITS = ServerLimits(
        max_ack_bytes=LIMIT, max_pending_acks=10**6, max_concurrency=10**6, max_waiting=10**6
    )

    def member(self, stage: Stage, *groups: str, client_id: str = "w", **fields: Any) -> Peer:
        peer = client(stage, client_id)
        for group in groups:
            peer.ask({"action": "subscribe", "topic": "t", "group": group, **fields})
        return peer

    def fill(self, publisher: Peer, worker: Peer, **fields: Any) -> None:
        """Ask until there is no more room."""
        number = 0
        while b'"code":"limit_reached"' not in drain(publisher):
            number += 1
            feed(publisher, [ask(number, **fields)])
            drain(worker)

    @pytest.mark.parametrize("groups", [1, 5])
    @pytest.mark.parametrize("data", [1, "x" * 600])
    @pytest.mark.parametrize("kind", ["short", "emoji"])
    @pytest.mark.parametrize("key", [False, True])
    @pytest.mark.parametrize("concurrency", [1, 10**6])
    def test_that_members_have_or_that_wait(
        self, groups: int, data: Any, kind: str, key: bool, concurrency: int
    ) -> None:
        stage = Stage(limits=self.LIMITS)
        publisher, named = client(stage, "p"), names(kind)
        worker = self.member(stage, *[next(named) for _ in range(groups)], concurrency=concurrency)
        fields: Fields = {"key": next(named)} if key else {}
        taken = memory_of(lambda: self.fill(publisher, worker, data=data, **fields))
        assert taken <= MULTIPLE * LIMIT + SLACK
        assert stage.hub.state.acks._cost > 0.9 * LIMIT

    @pytest.mark.parametrize("concurrency", [1, 10**6])
    @pytest.mark.parametrize("kind", ["short", "emoji"])
    def test_on_many_topics_of_a_pattern(self, kind: str, concurrency: int) -> None:
        stage = Stage(limits=self.LIMITS)
        publisher, worker, topics = client(stage, "p"), client(stage, "w"), names(kind)
        group = {"pattern": "*", "group": "g", "concurrency": concurrency}
        worker.ask({"action": "subscribe", **group})

        def build() -> None:
            number = 0
            while b'"code":"limit_reached"' not in drain(publisher):
                number += 1
                feed(publisher, [ask(number, topic=next(topics))])
                drain(worker)

        assert 0.3 * LIMIT < memory_of(build) <= MULTIPLE * LIMIT + SLACK

    @pytest.mark.parametrize("kind", ["short", "ASCII", "emoji"])
    def test_that_have_an_outcome(self, kind: str) -> None:
        """One receiver never answers, so the outcomes are kept. Each is one of another member."""
        stage = Stage(limits=self.LIMITS)
        publisher, silent, ids = client(stage, "p"), client(stage, "silent", "t"), names(kind)
        acks, group = stage.hub.state.acks, next(ids)

        def build() -> None:
            number = 0
            while b'"code":"limit_reached"' not in drain(publisher):
                number += 1
                worker = self.member(stage, group, client_id=next(ids))
                feed(publisher, [ask(number)])
                drain(silent)
                drain(worker)
                feed(worker, [{**answer(number), "ack_id": f"ack_{number}.1"}])
                worker.connection.connection_lost(stage.clock.now)

        taken = memory_of(build)
        assert taken > 0.3 * LIMIT
        assert taken <= MULTIPLE * (LIMIT + acks._results) + SLACK

    @pytest.mark.parametrize("kind", ["short", "emoji"])
    @pytest.mark.parametrize("error", ["", "x", EMOJI * 1000])
    def test_that_have_failed_again_and_again(self, kind: str, error: str) -> None:
        limits = ServerLimits(
            max_all_results=LIMIT, max_pending_acks=10**6, max_attempts=10**6,
            max_concurrency=10**6,
        )  # fmt: skip
        stage = Stage(limits=limits)
        named = names(kind)
        publisher = client(stage, "p")
        worker = self.member(stage, "g", client_id=next(named), concurrency=10**6)
        acks = stage.hub.state.acks
        failed = {"action": "ack", "success": False, "error": error}

        def build() -> None:
            number, before = 0, -1
            while before < acks._results < 0.9 * LIMIT:
                number, before = number + 1, acks._results
                feed(publisher, [ask(number, retry=30)])
                for _ in range(30):
                    drain(worker)
                    feed(worker, [{**failed, "ack_id": f"ack_{number}.1"}])

        assert memory_of(build) - acks._cost <= MULTIPLE * LIMIT + SLACK

    @pytest.mark.parametrize("end", ["timeout", "cancel", "owner"])
    def test_that_members_have_of_requests_that_have_ended(self, end: str) -> None:
        stage = Stage(limits=self.LIMITS)
        publisher = client(stage, "p")
        worker = self.member(stage, "g" * 200, concurrency=10**6)
        acks = stage.hub.state.acks

        def build() -> None:
            nonlocal publisher
            for number in range(1, 300):
                feed(publisher, [ask(number, data="x" * 2000, timeout=0.001)])
                if end == "cancel":
                    feed(publisher, [{"action": "cancel_ack", "ack_id": str(number)}])
                elif end == "timeout":
                    stage.advance(0.002)
                elif number % 20 == 0:
                    publisher.connection.connection_lost(stage.clock.now)
                    publisher = client(stage, "p")
                drain(publisher)
                drain(worker)

        most = LIMIT // 4  # past it the oldest are forgotten
        assert memory_of(build) <= MULTIPLE * most + SLACK
        assert 0.9 * most < acks.tasks.kept <= most

    def test_of_which_nothing_is_kept(self) -> None:
        stage = Stage()
        publisher, worker = client(stage, "p"), self.member(stage, "g", concurrency=1000)

        def build() -> None:
            for number in range(1, 500):
                feed(publisher, [ask(number, key=f"k{number}", data="x" * 1000)])
                drain(worker)
                feed(worker, [{**answer(number), "ack_id": f"ack_{number}.1"}])
                drain(publisher)

        assert memory_of(build) <= SLACK


class TestHistory:
    @pytest.mark.parametrize("payload", [0, "x" * 100, {"a": [1, 2, {}]}, [EMOJI] * 20])
    def test_of_one_topic(self, payload: Any) -> None:
        stage = Stage(
            history=(History("t", size=10_000_000),), limits=ServerLimits(history_bytes=LIMIT)
        )
        logs = stage.hub.state.logs
        assert logs is not None
        peer = client(stage, "p")

        def build() -> None:
            feed(peer, ({"action": "publish", "topic": "t", "data": payload} for _ in range(3000)))

        assert memory_of(build) <= MULTIPLE * LIMIT + SLACK
        assert LIMIT - 10_000 < logs.size <= LIMIT

    def test_of_many_topics(self) -> None:
        stage = Stage(history=(History("**"),), limits=ServerLimits(history_topics=1000))
        peer = client(stage, "p")
        topics = names("ASCII")
        charge = 1000 * (cost.LOG + cost.LOG_ENTRY + cost.of_text(next(topics)) + 10)

        def build() -> None:
            for _ in range(3000):
                feed(peer, [{"action": "publish", "topic": next(topics), "data": 0}])

        assert memory_of(build) <= MULTIPLE * charge + SLACK


class TestSubscriptions:
    @pytest.mark.parametrize("kind", ["short", "ASCII", "emoji"])
    def test_to_topics_of_ones_own(self, kind: str) -> None:
        stage = Stage()
        peer = client(stage, "p")
        topics = names(kind)
        count = 2000
        charge = cost.TOPIC + cost.SUBSCRIPTION + cost.of_text(next(topics))

        def build() -> None:
            for _ in range(count):
                feed(peer, [{"action": "subscribe", "topic": next(topics)}])
                drain(peer)

        assert memory_of(build) <= count * charge + SLACK

    @pytest.mark.parametrize(
        "pattern", ["#*", "*#", "#/*/**/x#", "*#" + "é**" * 60, EMOJI * 80 + "*#"]
    )
    def test_to_patterns(self, pattern: str) -> None:
        stage = Stage()
        peer = client(stage, "p")
        texts = [pattern.replace("#", str(number + 10_000)) for number in range(2000)]
        charge = cost.PATTERN + cost.SUBSCRIPTION + 4 * cost.of_text(texts[0])

        def build() -> None:
            for text in texts:
                feed(peer, [{"action": "subscribe", "pattern": text}])
                drain(peer)

        assert memory_of(build) <= len(texts) * charge + SLACK

    @pytest.mark.parametrize("kind", ["short", "ASCII", "emoji"])
    def test_of_which_routes_are_kept(self, kind: str) -> None:
        stage = Stage()
        peer = client(stage, "p")
        peer.ask({"action": "subscribe", "pattern": "nothing*"})
        topics = names(kind)
        count = 2000
        charge = cost.ROUTE + cost.of_text(next(topics))

        def build() -> None:
            for _ in range(count):
                feed(peer, [{"action": "publish", "topic": next(topics), "data": 0}])

        assert memory_of(build) <= count * charge + SLACK

    @pytest.mark.parametrize("kind", ["ASCII", "emoji"])
    def test_to_the_topics_of_others(self, kind: str) -> None:
        """All subscribers keep one text."""
        stage = Stage()
        count = 2000
        first, second = client(stage, "a"), client(stage, "b")

        def subscribe(peer: Peer) -> None:
            topics = names(kind)
            for _ in range(count):
                feed(peer, [{"action": "subscribe", "topic": next(topics)}])
                drain(peer)

        subscribe(first)
        assert memory_of(lambda: subscribe(second)) <= count * cost.SUBSCRIPTION + SLACK


class TestIds:
    @pytest.mark.parametrize("kind", ["short", "emoji"])
    @pytest.mark.parametrize("each", [1, 100])
    def test_of_identities(self, kind: str, each: int) -> None:
        ids, count = names(kind), 2000
        owners = IdOwners(each, count)

        def build() -> None:
            for number in range(2 * count):
                owners.take(next(ids), f"{EMOJI * 300} {number // each}")

        taken = memory_of(build)
        assert len(owners) == count
        assert taken <= count * cost.RESERVED_ID + SLACK


class TestHeld:
    @pytest.mark.parametrize("is_array", [True, False])
    def test_behind_a_token_that_is_judged(self, is_array: bool) -> None:
        stage = Stage(asks_token=True, limits=ServerLimits(max_brackets=200_000))
        peer = stage.peer().upgrade()
        peer.ask({"action": "ping", "from": "p", "proto": 2, "token": "t"})
        peer.identify(Identity("alice"))
        peer.read()
        ping = {"action": "ping", "from": "p", "token": "t", "junk": [{}] * 1000}
        messages = [ping] + [{"action": "publish", "topic": "t", "data": [{}] * 10}] * 10_000
        data = b"".join(frames([messages] if is_array else messages))
        assert len(data) < 2 * LIMIT

        def build() -> None:
            receive(peer, data)

        taken = memory_of(build)
        assert peer.session.gate.holds
        if is_array:
            assert taken <= MULTIPLE * len(data) + SLACK
        else:
            assert taken <= 10_000 * cost.KEPT + MULTIPLE * len(data) + SLACK

    def test_what_was_held_is_handled_in_order(self) -> None:
        stage = Stage(asks_token=True)
        peer = stage.peer().upgrade()
        peer.ask({"action": "ping", "from": "p", "proto": 2, "token": "t"})
        peer.identify(Identity("alice"))
        peer.ask({"action": "subscribe", "topic": "t"})
        again = {"action": "ping", "from": "p", "token": "t", "nonce": []}
        numbers = [{"action": "publish", "topic": "t", "data": number} for number in range(8)]
        peer.send([numbers[0], again, *numbers[1:3], again, numbers[3]], numbers[4])
        peer.send(*numbers[5:])
        got: list[Any] = []
        for _ in range(2):
            got += peer.take()
            peer.identify(Identity("alice"))
        got += peer.take()
        data = [d for m in got if m["action"] == "publish" for d in m.get("batch", [m.get("data")])]
        assert data == list(range(8))
        assert [m["error"] for m in got if m["action"] == "error"] == [
            "field nonce must be a string"
        ] * 2


class TestAmplification:
    @pytest.mark.parametrize(
        "text",
        [
            f'{{"action":"publish","topic":"{"t" * 200}","batch":[{DEEP}]}}',
            f'{{"action":"publish","topic":"{"t" * 10_000}","batch":[{DEEP}]}}',
            f'{{"action":"{LONG}"}}',
            f'{{"action":"direct_message","to":"{LONG}"}}',
            f'{{"action":"publish","topic":"{LONG}"}}',
            f'{{"action":"subscribe","topic":"{EMOJI * 10_000}"}}',
            f'{{"action":"get_ack_status","ack_id":"{LONG}"}}',
            f'{{"action":"publish_with_ack","topic":"t","ack_id":"{LONG}"}}',
        ],
        ids=range(8),
    )
    def test_an_answer_is_hardly_larger_than_its_request(self, text: str) -> None:
        peer = client(Stage(), "p")
        data = _masker.text_frame(text.encode())
        receive(peer, data)
        answer = drain(peer)
        assert answer
        assert len(answer) < 1.1 * len(data) + 300


class TestObjects:
    @pytest.mark.parametrize(
        "text",
        [
            "[]",
            "{}",
            "0",
            "1e5",
            '""',
            '"ab"',
            '{"a":0}',
            '{"":{"":{"":{}}}}',
            "[" * 127 + "]" * 127,
        ],
    )
    def test_of_a_message_take_at_most_45_times_its_bytes(self, text: str) -> None:
        message = f"[{','.join([text] * (100_000 // len(text)))}]".encode()
        assert memory_of(lambda: orjson.loads(message)) <= 45 * len(message)

    def test_orjson_leaves_room_behind_what_it_writes_and_a_copy_has_none(self) -> None:
        def build() -> list[bytes]:
            return [cost.compact(orjson.dumps(number)) for number in range(1000)]

        assert memory_of(build) <= 1000 * (cost.KEPT + 8)
