"""Compressed publications: who gets them, when they are made, and what inflating may cost."""

import random
import tracemalloc
import zlib
from base64 import b64encode
from typing import Any

import orjson
import pytest

from kps.protocol.bus.history import History
from kps.protocol.server.compression import LARGEST, Compressor
from kps.protocol.server.turns import TURN, Turns
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.deflate import deflate
from kps.protocol.wire.frames import read_header, split_frames, text_frame, text_frames
from kps.protocol.wire.outbox import Entry, Kind
from tests.protocol.helpers import Fields, Peer, Stage, close_frame, frame, upgrade
from tests.protocol.wire.test_deflate import bomb

TEXT_FIN, DEFLATED_FIN = 0x81, 0xC1
WORDS = "some words that come again and again, as they do in most messages; " * 20
HEX = random.Random(1).randbytes(1500).hex()
"""Becomes little more than half as large, which still pays."""


def noise(size: int) -> str:
    """A text that is compressed already: it becomes hardly smaller."""
    return b64encode(random.Random(size).randbytes(size)).decode()[:size]


def payload_of(publication: Fields) -> Any:
    """The payload of a publication on either level."""
    data = publication["data"]
    return data["data"] if isinstance(data, dict) else data


class Client(Peer):
    """A client made by hand, which takes deflated messages, and tells which these are."""

    def open(self, client_id: str, *topics: str, level: int, offer: str) -> "Client":
        self._hub.take_unflushed()
        headers = {"sec-websocket-extensions": offer} if offer else {}
        self.feed(upgrade(changed=headers))
        self.read_upgrade()
        assert self.answer is not None
        assert ("sec-websocket-extensions" in self.answer.headers) is bool(offer)
        self.exchange({"action": "ping", "from": client_id, "proto": level})
        for topic in topics:
            self.exchange({"action": "subscribe", "topic": topic})
        return self

    def exchange(self, *messages: Any) -> list[tuple[int, Any]]:
        """Send messages; return what comes at once, each with the first byte of its frame."""
        self.send(*messages)
        return self.received()

    def received(self) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        for one in split_frames(self.read()):
            header = read_header(one, 0)
            assert header is not None
            payload = one[header.start :]
            if header.first == DEFLATED_FIN:
                payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
            loaded = orjson.loads(payload)
            array = loaded if isinstance(loaded, list) else [loaded]
            found += [(header.first, message) for message in array]
        return found

    def kinds(self) -> list[int]:
        """The first bytes of the frames that came."""
        return [first for first, _ in self.received()]


class Room(Stage):
    """A server that compresses, and its clients."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**{"compresses": True} | config)

    def client(
        self, name: str, *topics: str, level: int = 2, offer: str = "permessage-deflate"
    ) -> Client:
        return Client(self.hub, self.clock).open(name, *topics, level=level, offer=offer)

    def publish(self, topic: str, *payloads: Any) -> None:
        for payload in payloads:
            self.hub.publish(topic, payload, self.clock.now)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each message that is deflated."""
    sizes: list[int] = []

    def counted(message: bytes) -> bytes:
        sizes.append(len(message))
        return deflate(message)

    monkeypatch.setattr("kps.protocol.wire.deflate.deflate", counted)
    return sizes


class TestWhoGetsIt:
    @pytest.mark.pure("it replaces a part of the core")
    @pytest.mark.parametrize("level", [1, 2])
    def test_a_publication_is_deflated_once_for_all(self, level: int, count: list[int]) -> None:
        room = Room()
        clients = [room.client(f"{n}", "t", level=level) for n in range(5)]
        room.publish("t", WORDS)
        queued = {id(one.connection._socket.outbox._entries[0].data) for one in clients}
        assert len(queued) == len(count) == 1
        for one in clients:
            ((first, message),) = one.received()
            assert (first, payload_of(message)) == (DEFLATED_FIN, WORDS)

    @pytest.mark.pure("it replaces a part of the core")
    def test_others_get_it_as_it_is(self, count: list[int]) -> None:
        room = Room()
        one, other = room.client("one", "t"), room.client("other", "t", offer="")
        room.publish("t", WORDS)
        assert one.kinds() == [DEFLATED_FIN]
        ((first, message),) = other.received()
        assert (first, message["data"]) == (TEXT_FIN, WORDS)
        assert len(count) == 1

    def test_nobody_does_by_default(self) -> None:
        room = Stage()
        peer = room.peer()
        peer.feed(upgrade(changed={"sec-websocket-extensions": "permessage-deflate"}))
        peer.read_upgrade()
        assert peer.answer is not None
        assert "sec-websocket-extensions" not in peer.answer.headers

    @pytest.mark.pure("it replaces a part of the core")
    def test_who_takes_a_smaller_window_only_gets_it_as_it_is(self, count: list[int]) -> None:
        room = Room()
        small = room.client("s", "t", offer="permessage-deflate; server_max_window_bits=10")
        room.publish("t", WORDS)
        assert small.kinds() == [TEXT_FIN]
        assert count == []
        small.feed(frame(deflate(b'{"action":"publish","topic":"t","data":1}'), reserved=4))
        assert [message["data"] for _, message in small.received()] == [1]

    def test_what_is_not_compressed_is_in_memory_once(self) -> None:
        room = Room()
        one, other = room.client("one", "t"), room.client("other", "t", offer="")
        room.publish("t", "short")
        entries = [peer.connection._socket.outbox._entries[0] for peer in (one, other)]
        assert entries[0] is entries[1]


class TestWhatIsCompressed:
    def test_from_a_size_on(self) -> None:
        room = Room()
        reader = room.client("r", "t")
        around = len(room_for("t", ""))
        room.publish("t", "x" * (1023 - around), "x" * (1024 - around))
        assert reader.kinds() == [TEXT_FIN, DEFLATED_FIN]

    def test_the_size_is_a_limit(self) -> None:
        room = Room(limits=ServerLimits(compress_from=100))
        reader = room.client("r", "t")
        room.publish("t", "x" * 30, "x" * 100)
        assert reader.kinds() == [TEXT_FIN, DEFLATED_FIN]

    def test_very_large_ones_are_not(self) -> None:
        room = Room()
        reader = room.client("r", "t")
        around = len(room_for("t", "")) + 10  # with the header of the frame
        room.publish("t", "x" * (LARGEST - around), "x" * (LARGEST - around + 1))
        assert reader.kinds() == [DEFLATED_FIN, TEXT_FIN]

    @pytest.mark.pure("it replaces a part of the core")
    def test_nor_are_very_large_batches_on_level_1(self, count: list[int]) -> None:
        room = Room()
        writer, reader = room.client("w"), room.client("r", "t", level=1)
        batch = ["x" * 3000] * (LARGEST // 3000 + 1)
        writer.exchange({"action": "publish", "topic": "t", "batch": batch})
        assert reader.kinds() == [TEXT_FIN] * len(batch)
        assert count == []

    def test_a_batch_is_one_message(self) -> None:
        room = Room()
        writer, old, new = room.client("w"), room.client("o", "t", level=1), room.client("n", "t")
        batch = [{"n": n, "text": "the same"} for n in range(50)]
        writer.send({"action": "publish", "topic": "t", "batch": batch})
        ((first, message),) = new.received()
        assert (first, message["batch"]) == (DEFLATED_FIN, batch)
        assert old.kinds() == [TEXT_FIN] * 50, "each is short"

    def test_on_level_1_each_for_itself(self) -> None:
        room = Room()
        writer, reader = room.client("w"), room.client("r", "t", level=1)
        payloads = [WORDS * 2, "short", WORDS * 2 + "!"]
        writer.send(*[{"action": "publish", "topic": "t", "data": one} for one in payloads])
        received = reader.received()
        assert [first for first, _ in received] == [DEFLATED_FIN, TEXT_FIN, DEFLATED_FIN]
        assert [payload_of(message) for _, message in received] == payloads

    def test_parts_of_it_when_the_queue_is_nearly_full(self) -> None:
        limits = ServerLimits(queue_bytes=1500, overflow="drop_newest")  # type: ignore[arg-type]
        room = Room(limits=limits)
        writer, reader = room.client("w"), room.client("r", "t", level=1)
        messages = [{"action": "publish", "topic": "t", "data": WORDS + str(n)} for n in range(60)]
        writer.send(*messages)
        received = reader.received()
        assert 0 < len(received) < 60
        assert {first for first, _ in received} == {DEFLATED_FIN}
        assert [payload_of(message) for _, message in received] == [
            WORDS + str(n) for n in range(len(received))
        ]

    def test_requests_with_ack_are_too(self) -> None:
        room = Room()
        asker, worker = room.client("a"), room.client("w", "jobs")
        ask = {"action": "publish_with_ack", "ack_id": "1", "topic": "jobs", "data": WORDS}
        asker.exchange(ask)
        ((first, message),) = worker.received()
        assert (first, message["data"]) == (DEFLATED_FIN, WORDS)
        worker.exchange(
            {"action": "ack", "ack_id": message["ack_id"], "success": True, "result": WORDS}
        )
        ((first, message),) = asker.received()
        assert (first, message["responses"]["w"]["result"]) == (TEXT_FIN, WORDS)

    def test_answers_and_direct_messages_are_not(self) -> None:
        room = Room()
        one, other = room.client("one"), room.client("other")
        assert one.exchange({"action": WORDS})[0][0] == TEXT_FIN
        one.exchange({"action": "direct_message", "to": "other", "data": WORDS})
        one.exchange(
            {"action": "publish_to_id_with_ack", "ack_id": "1", "to": "other", "data": WORDS}
        )
        received = other.received()
        assert [first for first, _ in received] == [TEXT_FIN, TEXT_FIN]
        assert all(message["data"] == WORDS for _, message in received)

    def test_nor_are_messages_of_the_past(self) -> None:
        room = Room(history=(History("t", size=10),))
        room.publish("t", WORDS, WORDS)
        reader = room.client("r")
        received = reader.exchange({"action": "subscribe", "topic": "t", "last": 2})
        received += reader.received()
        assert [first for first, _ in received] == [TEXT_FIN] * len(received)
        assert [message["data"] for _, message in received if "data" in message] == [WORDS] * 2
        room.publish("t", WORDS)
        assert reader.kinds() == [DEFLATED_FIN]

    def test_each_member_of_a_group_gets_its_own(self) -> None:
        room = Room()
        members = [room.client(f"{n}") for n in range(2)]
        for member in members:
            member.exchange({"action": "subscribe", "topic": "t", "group": "g"})
        room.publish("t", WORDS, WORDS)
        assert [member.kinds() for member in members] == [[DEFLATED_FIN], [DEFLATED_FIN]]


def room_for(topic: str, payload: str) -> bytes:
    """A publication of the server, as a client gets it."""
    fields = {"action": "publish", "topic": topic, "data": payload, "from": "server"}
    return orjson.dumps(fields)


class Topic:
    """What a compressor makes of messages on one topic."""

    def __init__(self, compressor: Compressor, name: str = "t") -> None:
        self._compressor = compressor
        self._name = name

    def deflates(self, text: str) -> bool:
        """Tell whether a message is compressed."""
        message = text.encode()
        plain = Entry(text_frame(message), Kind.DROPPABLE)
        entry = self._compressor.compress(self._name, plain)
        assert (entry.data[0] == DEFLATED_FIN) is (entry is not plain)
        assert (entry.kind, entry.messages, entry.frames) == (Kind.DROPPABLE, 1, 1)
        return entry is not plain


class TestWhereItPays:
    @pytest.mark.pure("it replaces a part of the core")
    def test_where_it_does_not_few_are_tried(self, count: list[int]) -> None:
        topic = Topic(Compressor(1024, Turns()))
        text = noise(3000)
        assert not any(topic.deflates(text) for _ in range(64 * 20))
        assert len(count) < 10 + 20

    @pytest.mark.pure("it replaces a part of the core")
    def test_it_tries_again(self, count: list[int]) -> None:
        topic = Topic(Compressor(1024, Turns()))
        for _ in range(1000):
            topic.deflates(noise(3000))
        found = [topic.deflates(WORDS) for _ in range(200)]
        assert found.count(True) >= 200 - 64
        assert all(found[64:])

    def test_a_message_that_does_not_become_smaller_changes_little(self) -> None:
        topic = Topic(Compressor(1024, Turns()))
        assert topic.deflates(WORDS)
        assert not topic.deflates(noise(3000))
        assert topic.deflates(WORDS)

    def test_topics_do_not_disturb_each_other(self) -> None:
        compressor = Compressor(1024, Turns())
        one, other = Topic(compressor, "one"), Topic(compressor, "other")
        for _ in range(100):
            assert not one.deflates(noise(3000))
            assert other.deflates(WORDS)

    @pytest.mark.pure("it replaces a part of the core")
    def test_topics_beyond_a_number_are_forgotten(self, count: list[int]) -> None:
        compressor = Compressor(1024, Turns())
        first = Topic(compressor, "first")
        for _ in range(20):
            first.deflates(noise(3000))
        for n in range(5000):
            Topic(compressor, f"{n}").deflates(WORDS)
            assert len(compressor._topics) <= 1024
        count.clear()
        first.deflates(noise(3000))
        assert len(count) == 1, "it begins anew"

    def test_half_of_the_size_pays(self) -> None:
        topic = Topic(Compressor(1024, Turns()))
        assert all(topic.deflates(HEX) for _ in range(100))

    @pytest.mark.pure("it replaces a part of the core")
    def test_long_rows_of_short_frames_are_not_looked_at(self, count: list[int]) -> None:
        compressor = Compressor(1024, Turns())
        row = Entry(text_frames([b"x" * 100] * 500), Kind.DROPPABLE, 500, 500)
        assert compressor.compress("t", row) is row
        assert count == []


class TestWork:
    """Units of work are about microseconds."""

    @pytest.mark.parametrize(("text", "least"), [(WORDS * 100, 300), (noise(100_000), 2500)])
    def test_deflating_is_charged_once(self, text: str, least: int) -> None:
        room, others = Room(), 50
        for n in range(others):
            room.client(f"{n}", "t")
        turns = room.hub.state.turns
        before = turns.left
        room.publish("t", text)
        assert least <= before - turns.left <= 4 * least

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_inflating_is_charged(self, size: int) -> None:
        text = orjson.dumps({"action": "publish", "topic": "t", "data": "x" * size})
        charged = []
        for data in (frame(text), frame(deflate(text), reserved=4)):
            room = Room()
            writer = room.client("w")
            room.hub.take_unflushed()
            turns = room.hub.state.turns
            writer.feed(frame(b"{}"))
            before = turns.left
            writer.feed(data)
            charged.append(before - turns.left)
        plain, inflated = charged
        least = size // 256 - size // 1024  # fewer bytes are read
        assert 20 + least <= inflated - plain <= 30 + least

    def test_who_lets_the_server_inflate_much_waits(self) -> None:
        room = Room()
        writer = room.client("w")
        text = orjson.dumps({"action": "publish", "topic": "t", "data": "x" * 900_000})
        assert len(deflate(text)) < 5000
        writer.feed(frame(deflate(text), reserved=4) * 20)
        turns = room.hub.state.turns
        assert turns.are_due
        rounds = 0
        while turns.are_due:
            room.hub.take_unflushed()
            room.hub.handle_timeout(room.clock.now)
            rounds += 1
        assert rounds >= 20 * 900_000 // 256 // (2 * TURN)
        assert room.hub.state.stats.published == 20

    def test_the_rate_counts_what_comes_out(self) -> None:
        room = Room(limits=ServerLimits(byte_rate=10_000))
        writer = room.client("w")
        text = orjson.dumps({"action": "publish", "topic": "t", "data": "x" * 9000})
        writer.feed(frame(deflate(text), reserved=4) * 3)
        assert room.hub.state.stats.published == 1
        assert writer.connection.wants_pause
        room.advance(2.0)
        assert room.hub.state.stats.published == 3


class TestInflating:
    def test_a_browser_deflates_everything(self) -> None:
        room = Room()
        peer = Client(room.hub, room.clock)
        offer = "permessage-deflate; client_max_window_bits"
        peer.feed(upgrade(changed={"sec-websocket-extensions": offer}))
        peer.read_upgrade()
        messages: list[Fields] = [
            {"action": "ping", "from": "browser", "proto": 2},
            {"action": "subscribe", "topic": "t"},
            {"action": "publish", "topic": "t", "data": WORDS},
        ]
        peer.feed(b"".join(frame(deflate(orjson.dumps(one)), reserved=4) for one in messages))
        received = peer.received()
        assert [message["action"] for _, message in received] == ["pong", "subscribed", "publish"]
        peer.feed(close_frame(1000))
        assert room.hub.clients == {}

    @pytest.mark.parametrize("is_registered", [False, True])
    def test_a_bomb(self, is_registered: bool) -> None:
        """Nobody needs a long message to register, so a smaller limit holds before."""
        room = Room()
        peer = Client(room.hub, room.clock)
        if is_registered:
            peer.open("x", level=2, offer="permessage-deflate")
        else:
            peer.feed(upgrade(changed={"sec-websocket-extensions": "permessage-deflate"}))
            peer.read_upgrade()
        data = frame(bomb(1024 if is_registered else 16), reserved=4)[: 1 << 20]
        limit = (1 << 20) if is_registered else 64 * 1024
        tracemalloc.start()
        try:
            peer.feed(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peer.closed == (1009, "message too big")
        assert peak < 10 * limit

    def test_an_idle_connection_takes_hardly_more(self) -> None:
        def memory(*, compresses: bool) -> float:
            room = Room(compresses=compresses)
            room.client("warm", "t", offer="permessage-deflate" if compresses else "")
            tracemalloc.start()
            try:
                clients = []
                for n in range(50):
                    room.hub.take_unflushed()
                    connection = room.hub.connect("192.0.2.1:1", room.clock.now)
                    headers = {"sec-websocket-extensions": "permessage-deflate"}
                    connection.receive_data(upgrade(changed=headers), room.clock.now)
                    connection.data_to_send()
                    text = f'{{"action":"ping","from":"{n}","proto":2}}'.encode()
                    data = frame(deflate(text), reserved=4) if compresses else frame(text)
                    connection.receive_data(data, room.clock.now)
                    connection.data_to_send()
                    clients.append(connection)
                taken, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert len(room.hub.clients) == 51
            return taken / len(clients)

        assert memory(compresses=True) - memory(compresses=False) < 200
