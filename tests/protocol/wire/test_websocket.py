"""One WebSocket connection after its handshake: frames, limits, heartbeat, closing."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.handshake import H11Handshake
from wsproto.utilities import generate_accept_token

from kps.protocol.cost import ENTRY
from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.client_handshake import ClientWebSocket
from kps.protocol.wire.frames import Masker
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.outbox import Entry, Kind, Push
from kps.protocol.wire.server_handshake import ServerWebSocket
from kps.protocol.wire.websocket import Closed, ClosedBy, Output, State, WebSocket
from kps.testing.network import split
from tests.protocol.helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    THOROUGH,
    Answer,
    Inbox,
    close_frame,
    frame,
    output,
    upgrade,
)

NOW = 1000.0
LIMITS = ConnectionLimits(max_message=1000)


def feed(end: WebSocket, data: bytes, now: float = NOW) -> list[bytes]:
    """Let an end receive bytes, and read all that they complete, as its owner does."""
    end.feed(data, now)
    messages = taken = end.read(now)
    while taken:
        taken = end.read(now)
        messages = messages + taken
    return messages


def read_once(end: WebSocket, data: bytes) -> list[bytes]:
    """Let an end receive bytes, and read up to the first control."""
    end.feed(data, NOW)
    return end.read(NOW)


def new_server_end(limits: ConnectionLimits = LIMITS) -> ServerWebSocket:
    """The server's end of a connection, before the handshake."""
    return ServerWebSocket(
        limits=limits,
        path="/ws/bus",
        respond=lambda request: HttpResponse.text(404, "not found"),
        peer="",
        now=NOW,
    )


def new_client_end(limits: ConnectionLimits = LIMITS) -> ClientWebSocket:
    """The client's end of a connection, before the handshake."""
    return ClientWebSocket(
        host="localhost",
        target="/ws/bus",
        headers=[],
        key=bytes(16),
        text_frame=Masker(Random(0).randbytes).text_frame,
        limits=limits,
        now=NOW,
    )


def server_end(limits: ConnectionLimits = LIMITS) -> ServerWebSocket:
    """The server's end of a connection that is open."""
    end = new_server_end(limits)
    feed(end, upgrade())
    end.accept()
    assert Answer(end.data_to_send()).status == 101
    return end


def client_end(limits: ConnectionLimits = LIMITS) -> ClientWebSocket:
    """The client's end of a connection that is open."""
    end, server = new_client_end(limits), new_server_end(limits)
    feed(server, end.data_to_send())
    server.accept()
    feed(end, server.data_to_send())
    assert end.state is State.OPEN
    return end


def both_ends(limits: ConnectionLimits = LIMITS) -> list[tuple[WebSocket, bytes | None]]:
    """Each end, with the key that frames to it are masked with."""
    return [(server_end(limits), KEY), (client_end(limits), None)]


def sent_by(end: WebSocket) -> Inbox:
    """Read what an end has queued."""
    inbox = Inbox(
        ConnectionType.SERVER if isinstance(end, ClientWebSocket) else ConnectionType.CLIENT
    )
    while data := end.data_to_send():
        inbox.feed(data)
    return inbox


def entry(end: WebSocket, message: bytes = b"{}", kind: Kind = Kind.FORWARDED) -> Entry:
    """One message as a frame that this end may queue."""
    return Entry(end.outbox.text_frame(message), kind)


@dataclass
class Outcome:
    """What came out of a stream of frames: the same for our code and for wsproto."""

    messages: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    pongs_before: list[int] = field(default_factory=list)
    """For each message, how many of the pongs are queued before it can be answered."""
    closed: tuple[int, str] | None = None


# wsproto judges each byte of a header or of a text, we judge headers and small frames when
# they are all there. These bytes complete whatever a stream has left unfinished. They are no
# text and no frame, so they end the connection in any case.
REST = b"\xff" * 70_000


def by_wsproto(data: bytes, role: ConnectionType) -> Outcome:
    """What wsproto makes of a stream: the authority."""
    outcome = Outcome()
    connection = Connection(role)
    connection.receive_data(data + REST)
    parts: list[bytes] = []
    for event in connection.events():
        if isinstance(event, TextMessage):
            parts.append(event.data.encode())
        elif isinstance(event, BytesMessage):
            parts.append(bytes(event.data))
        elif isinstance(event, Ping):
            outcome.pongs.append(bytes(event.payload))
        elif isinstance(event, Pong):
            pass
        elif isinstance(event, CloseConnection):
            if connection.state is ConnectionState.REMOTE_CLOSING:
                outcome.closed = int(event.code), event.reason or ""
            else:  # the text tells where in a piece of a message the fault was
                outcome.closed = int(event.code), "fault"
            break
        if isinstance(event, Message) and event.message_finished:
            outcome.messages.append(b"".join(parts))
            outcome.pongs_before.append(len(outcome.pongs))
            parts.clear()
    return outcome


def receive(end: WebSocket, piece: bytes, outcome: Outcome) -> None:
    """Let an end receive bytes, and note what comes of them. Nothing but pongs may be queued."""
    end.feed(piece, NOW)
    messages = end.read(NOW)
    while messages:
        outcome.messages += messages
        outcome.pongs_before += [end.outbox.pending_messages] * len(messages)
        messages = end.read(NOW)


def by_us(end: WebSocket, data: bytes, sizes: list[int]) -> Outcome:
    outcome = Outcome()
    for piece in [*split(data, sizes), REST]:
        receive(end, piece, outcome)
    if end.closed is not None:
        fault = end.closed.by is ClosedBy.FAULT
        outcome.closed = end.closed.code, "fault" if fault else end.closed.reason
    sent = sent_by(end)
    outcome.pongs = sent.pongs
    assert sent.closed == (end.closed and (end.closed.code, end.closed.reason))
    assert end.state is State.DRAINING
    return outcome


TEXTS = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"\xff", b"\xc3", b"\xa9", b"ok\xed\xa0\x80", b"\xf4\x90\x80\x80"]),
    st.integers(100, 300).map(lambda n: b"x" * n),
    st.binary(max_size=20),
)
CLOSE_PAYLOADS = st.one_of(
    st.just(b""),
    st.binary(max_size=3),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason,
        st.sampled_from([0, 999, 1000, 1001, 1004, 1005, 1006, 1015, 2999, 3000, 4999, 5000]),
        st.sampled_from([b"", b"bye", b"\xff", "über".encode()]),
    ),
)


@st.composite
def frames(draw: st.DrawFn, key: bytes | None) -> bytes:
    """A frame for an end that wants frames masked with ``key``: mostly right, some wrong."""
    opcode = draw(st.sampled_from([TEXT] * 4 + [CONTINUATION] * 3 + [BINARY, PING, PONG, CLOSE]))
    payload = draw(CLOSE_PAYLOADS if opcode == CLOSE else TEXTS)
    if opcode in (PING, PONG):
        payload = payload[:125]
    fault = draw(st.integers(0, 24))
    wrong_key = KEY if key is None else None
    return frame(
        payload,
        opcode=draw(st.integers(0, 15)) if fault == 0 else opcode,
        fin=opcode >= CLOSE or draw(st.integers(0, 2)) > 0 if fault != 1 else False,
        reserved=draw(st.integers(1, 7)) if fault == 2 else 0,
        key=wrong_key if fault == 3 else key,
        length_bytes=draw(st.sampled_from([2, 8])) if fault == 4 else None,
        claim=draw(st.integers(0, 300)) if fault == 5 else None,
    )


@st.composite
def streams(draw: st.DrawFn, key: bytes | None) -> bytes:
    """Frames on end. Often the pieces of messages, so that fragments fit together."""
    data = b""
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.booleans()):
            text = draw(st.text(min_size=1, max_size=10)).encode()
            cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
            parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            for i, part in enumerate(parts):
                if draw(st.integers(0, 3)) == 0:
                    data += frame(b"beat", opcode=draw(st.sampled_from([PING, PONG])), key=key)
                first = draw(st.sampled_from([TEXT, TEXT, BINARY]))
                opcode = CONTINUATION if i else first
                data += frame(part, opcode=opcode, fin=i == len(parts) - 1, key=key)
        else:
            data += draw(frames(key))
    return data


SIZES = st.lists(st.integers(1, 40), max_size=6)


class TestAgainstWsproto:
    """The fast lane, and what it leaves to wsproto, together do what wsproto does alone."""

    @THOROUGH
    @given(data=streams(KEY), sizes=SIZES)
    def test_server_end(self, data: bytes, sizes: list[int]) -> None:
        limits = ConnectionLimits(max_message=1 << 64)
        ours = by_us(server_end(limits), data, sizes)
        assert ours == by_wsproto(data, ConnectionType.SERVER)

    @THOROUGH
    @given(data=streams(None), sizes=SIZES)
    def test_client_end(self, data: bytes, sizes: list[int]) -> None:
        limits = ConnectionLimits(max_message=1 << 64)
        ours = by_us(client_end(limits), data, sizes)
        assert ours == by_wsproto(data, ConnectionType.CLIENT)

    @THOROUGH
    @given(data=st.binary(max_size=200), sizes=SIZES)
    @example(data=b"\x81\x80\x00\x00\x00\x00", sizes=[])
    def test_random_bytes(self, data: bytes, sizes: list[int]) -> None:
        limits = ConnectionLimits(max_message=1 << 64)
        assert by_us(server_end(limits), data, sizes) == by_wsproto(data, ConnectionType.SERVER)
        assert by_us(client_end(limits), data, sizes) == by_wsproto(data, ConnectionType.CLIENT)

    @pytest.mark.parametrize("sizes", [[], [1], [1000, 3], [65536], [65535], [70009]])
    @pytest.mark.parametrize("size", [65535, 65536, 70000])
    @pytest.mark.parametrize("bad", [False, True])
    def test_large_frames_in_pieces(self, size: int, sizes: list[int], bad: bool) -> None:
        payload = b"x" * (size - 2) + (b"\xc3\x28" if bad else "é".encode())
        for end, key in both_ends(ConnectionLimits()):
            tail = frame(b"after", key=key)
            data = frame(b"before", key=key) + frame(payload, key=key) + tail
            role = ConnectionType.SERVER if key else ConnectionType.CLIENT
            outcome = by_us(end, data, sizes)
            assert outcome == by_wsproto(data, role)
            assert len(outcome.messages) == (1 if bad else 3)


class TestReading:
    """Messages come up to the next control, which takes effect when they have been handled."""

    def test_a_pong_comes_behind_the_answers_to_what_was_before_the_ping(self) -> None:
        for end, key in both_ends():
            data = frame(b"1", key=key) + frame(b"2", key=key) + frame(b"x", opcode=PING, key=key)
            assert read_once(end, data + frame(b"3", key=key)) == [b"1", b"2"]
            assert end.outbox.pending_messages == 0
            assert end.reader.has_more
            assert end.read(NOW) == [b"3"]
            assert end.outbox.pending_messages == 1
            assert not end.reader.has_more
            assert end.read(NOW) == []
            assert sent_by(end).pongs == [b"x"]

    def test_an_answer_goes_out_before_the_close_frame_behind_what_it_answers(self) -> None:
        for end, key in both_ends():
            data = frame(b"{}", key=key) + close_frame(1000, "bye", key=key)
            assert read_once(end, data) == [b"{}"]
            assert end.state is State.OPEN
            assert end.send(b'{"a":1}', Kind.REPLY, NOW) is Push.QUEUED
            assert end.read(NOW) == []
            assert end.closed == Closed(1000, "bye", ClosedBy.PEER)
            assert end.send(b'{"a":2}', Kind.REPLY, NOW) is Push.DROPPED
            inbox = sent_by(end)
            assert inbox.take() == [{"a": 1}]
            assert inbox.closed == (1000, "bye")

    def test_controls_before_a_message_take_effect_at_once(self) -> None:
        for end, key in both_ends():
            pings = frame(b"x", opcode=PING, key=key) + frame(b"y", opcode=PING, key=key)
            assert read_once(end, pings + frame(b"{}", key=key)) == [b"{}"]
            assert sent_by(end).pongs == [b"x", b"y"]

    @pytest.mark.parametrize("opcode", [TEXT, CONTINUATION, BINARY])
    def test_what_is_behind_a_violation_is_not_read(self, opcode: int) -> None:
        for end, key in both_ends():
            wrong = frame(b"\xff", key=key) if opcode is TEXT else frame(opcode=3, key=key)
            data = frame(b"1", key=key) + wrong + frame(b"2", opcode=opcode, key=key)
            assert feed(end, data + frame(b"3", key=key)) == [b"1"]
            assert end.closed is not None
            assert end.closed.by is ClosedBy.FAULT

    def test_an_owner_that_closes_while_it_handles_messages_gets_no_more(self) -> None:
        for end, key in both_ends():
            data = frame(b"1", key=key) + frame(b"x", opcode=PING, key=key) + frame(b"2", key=key)
            assert read_once(end, data) == [b"1"]
            end.close(1000, "enough", NOW)
            assert end.read(NOW) == []
            sent = sent_by(end)
            assert (sent.pongs, sent.closed) == ([], (1000, "enough"))

    def test_messages_that_nobody_has_read_when_it_ends_are_forgotten(self) -> None:
        for end, key in both_ends():
            data = frame(b"1", key=key) + frame(b"x", opcode=PING, key=key) + frame(b"2", key=key)
            assert read_once(end, data) == [b"1"]
            end.fail(1008, "enough", NOW)
            assert not end.reader.has_more
            assert end.read(NOW) == []

    def test_what_came_with_the_request_is_read_once_it_is_accepted(self) -> None:
        end = new_server_end()
        assert read_once(end, upgrade() + frame(b"1")) == []
        assert read_once(end, frame(b"2")[:3]) == []
        assert end.read(NOW) == []
        end.accept()
        assert end.reader.has_more
        assert end.read(NOW) == [b"1"]
        assert read_once(end, frame(b"2")[3:]) == [b"2"]

    def test_what_came_with_the_answer_is_read_once_the_owner_knows_that_it_is_open(self) -> None:
        end, server = new_client_end(), new_server_end()
        feed(server, end.data_to_send())
        server.accept()
        end.feed(server.data_to_send() + frame(b"1", key=None), NOW)
        assert end.state is State.OPEN
        assert end.read(NOW) == [b"1"]


class TestSizes:
    @pytest.mark.parametrize("sizes", [[], [1], [7]])
    def test_message_at_the_limit_passes(self, sizes: list[int]) -> None:
        for end, key in both_ends():
            data = frame(b"x" * 1000, key=key)
            assert [m for piece in split(data, sizes) for m in feed(end, piece)] == [b"x" * 1000]

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("sizes", [[], [1], [7]])
    def test_message_past_the_limit_is_1009(self, opcode: int, sizes: list[int]) -> None:
        for end, key in both_ends():
            data = frame(b"fine", key=key) + frame(b"x" * 1001, opcode=opcode, key=key)
            messages = [m for piece in split(data, sizes) for m in feed(end, piece)]
            assert messages == [b"fine"]
            assert end.closed == Closed(1009, "message too big", ClosedBy.FAULT)
            assert sent_by(end).closed == (1009, "message too big")
            assert output(end) is Output.HALF_CLOSE

    @pytest.mark.parametrize("claim", [1001, 65536, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_claim_past_the_limit_is_refused_with_the_header(self, claim: int, opcode: int) -> None:
        for end, key in both_ends():
            header = frame(opcode=opcode, claim=claim, key=key)
            feed(end, header[:-1])
            assert end.state is State.OPEN
            feed(end, header[-1:])
            assert sent_by(end).closed == (1009, "message too big")

    @pytest.mark.parametrize("claim", [501, 1 << 40])
    def test_fragments_count_together(self, claim: int) -> None:
        for end, key in both_ends():
            feed(end, frame(b"x" * 500, fin=False, key=key))
            feed(end, frame(opcode=CONTINUATION, claim=claim, key=key))
            assert sent_by(end).closed == (1009, "message too big")

    def test_half_a_character_counts_in_fragments(self) -> None:
        for end, key in both_ends():
            feed(end, frame(b"x" * 997 + b"\xf0\x9f\x98", fin=False, key=key))
            feed(end, frame(b"\x80x", opcode=CONTINUATION, key=key))
            assert sent_by(end).closed == (1009, "message too big")

    def test_size_of_one_message_does_not_count_for_the_next(self) -> None:
        for end, key in both_ends():
            first = frame(b"x" * 600, fin=False, key=key)
            second = frame(b"y" * 400, opcode=CONTINUATION, key=key)
            for _ in range(3):
                assert feed(end, first) == []
                assert feed(end, frame(b"now", opcode=PING, key=key)) == []
                assert feed(end, second) == [b"x" * 600 + b"y" * 400]
                assert feed(end, frame(b"z" * 1000, key=key)) == [b"z" * 1000]

    def test_binary_messages_are_taken_like_text(self) -> None:
        for end, key in both_ends():
            assert feed(end, frame(b'{"a":1}', opcode=BINARY, key=key)) == [b'{"a":1}']


class TestPing:
    @pytest.mark.parametrize("payload", [b"", b"x", b"\x00\xff" * 62])
    def test_is_answered_with_its_payload(self, payload: bytes) -> None:
        for end, key in both_ends():
            assert feed(end, frame(payload, opcode=PING, key=key)) == []
            assert sent_by(end).pongs == [payload]

    def test_pong_that_nobody_asked_for_is_ignored(self) -> None:
        for end, key in both_ends():
            feed(end, frame(b"?", opcode=PONG, key=key) * 1000)
            assert end.state is State.OPEN
            assert end.data_to_send() == b""

    def test_flood_pauses_reading_until_the_pongs_are_written(self) -> None:
        for end, key in both_ends(ConnectionLimits(backlog_bytes=1000 + 5 * ENTRY)):
            feed(end, frame(b"x" * 100, opcode=PING, key=key) * 5)
            assert not end.wants_pause
            feed(end, frame(b"x" * 100, opcode=PING, key=key) * 5)
            assert end.wants_pause
            end.data_to_send(limit=5 * (ENTRY + 110))
            assert not end.wants_pause

    def test_only_replies_pause_reading(self) -> None:
        """Two ends that both publish fast would else wait for each other."""
        for end, _ in both_ends(ConnectionLimits(backlog_bytes=1000 + ENTRY)):
            for kind in (Kind.FORWARDED, Kind.DROPPABLE, Kind.CONTROL):
                assert end.queue(entry(end, b"x" * 2000, kind), NOW) is Push.QUEUED
                assert not end.wants_pause
            end.send(b"x" * 2000, Kind.FORWARDED, NOW)
            assert not end.wants_pause
            end.send(b"x" * 900, Kind.REPLY, NOW)
            assert not end.wants_pause
            end.send(b"x" * 200, Kind.REPLY, NOW)
            assert end.wants_pause
            end.data_to_send()
            assert not end.wants_pause

    def test_flood_past_the_queue_closes(self) -> None:
        for end, key in both_ends(ConnectionLimits(queue_messages=50)):
            feed(end, frame(b"x", opcode=PING, key=key) * 51)
            assert end.closed == Closed(1008, "slow consumer", ClosedBy.FAULT)
            assert sent_by(end).closed == (1008, "slow consumer")


class TestHeartbeat:
    LIMITS = ConnectionLimits(heartbeat_interval=25, heartbeat_timeout=20)

    def test_ping_after_silence_and_drop_without_an_answer(self) -> None:
        for end, _ in both_ends(self.LIMITS):
            assert end.next_deadline() == NOW + 25
            end.handle_timeout(NOW + 24.9)
            assert end.data_to_send() == b""
            end.handle_timeout(NOW + 25)
            assert sent_by(end).pings == 1
            assert end.next_deadline() == NOW + 45
            end.handle_timeout(NOW + 44.9)
            assert end.state is State.OPEN
            end.handle_timeout(NOW + 45)
            assert end.closed == Closed(1006, "no answer to the heartbeat", ClosedBy.LOST)
            assert output(end) is Output.ABORT
            assert end.next_deadline() is None

    @pytest.mark.parametrize(
        ("payload", "opcode"), [(b"", PONG), (b"other", PONG), (b"", PING), (b"{}", TEXT)]
    )
    def test_any_data_is_a_sign_of_life(self, payload: bytes, opcode: int) -> None:
        for end, key in both_ends(self.LIMITS):
            end.handle_timeout(NOW + 25)
            end.data_to_send()
            feed(end, frame(payload, opcode=opcode, key=key), NOW + 44)
            end.handle_timeout(NOW + 45)
            assert end.state is State.OPEN
            due = end.next_deadline()
            assert due is not None
            assert NOW + 44 + 25 <= due < NOW + 44 + 25 * 33 / 32
            end.handle_timeout(due)
            assert sent_by(end).pings == 1

    def test_half_a_frame_is_a_sign_of_life_too(self) -> None:
        for end, key in both_ends(self.LIMITS):
            feed(end, frame(b"{}", key=key)[:3], NOW + 24)
            end.handle_timeout(NOW + 25)
            assert end.data_to_send() == b""

    def test_ping_overtakes_what_waits(self) -> None:
        """The peer may be busy with that for longer than it has to answer."""
        for end, _ in both_ends(self.LIMITS):
            for _ in range(3):
                end.queue(entry(end, b"x" * 1000), NOW)
            end.handle_timeout(NOW + 25)
            inbox = Inbox(
                ConnectionType.SERVER if isinstance(end, ClientWebSocket) else ConnectionType.CLIENT
            )
            inbox.feed(end.data_to_send(limit=10))
            assert (inbox.pings, inbox.frames) == (1, 0)

    def test_ping_has_room_in_a_full_queue(self) -> None:
        limits = ConnectionLimits(heartbeat_interval=25, queue_messages=1)
        for end, _ in both_ends(limits):
            end.queue(entry(end), NOW)
            end.handle_timeout(NOW + 25)
            inbox = sent_by(end)
            assert (inbox.pings, inbox.take(), end.state) == (1, [{}], State.OPEN)

    def test_ping_does_not_overtake_the_answer_to_the_handshake(self) -> None:
        """A hook may take longer to decide than the interval is."""
        end = new_server_end(ConnectionLimits(heartbeat_interval=1))
        feed(end, upgrade())
        end.accept()
        end.queue(entry(end), NOW)
        end.handle_timeout(NOW + 9)
        answer = Answer(end.data_to_send())
        assert answer.status == 101
        inbox = Inbox(ConnectionType.CLIENT)
        inbox.feed(answer.rest)
        assert (inbox.pings, inbox.take()) == (1, [{}])

    def test_nobody_is_gone_while_the_driver_does_not_read(self) -> None:
        for end, _ in both_ends(self.LIMITS):
            end.handle_timeout(NOW + 25)
            end.data_to_send()
            end.set_reading(False, NOW + 40)
            for turn in range(1, 10):
                due = end.next_deadline()
                assert due == NOW + 40 + 25 * turn
                end.handle_timeout(due)
                assert sent_by(end).pings == 1
            end.set_reading(True, NOW + 280)
            assert end.next_deadline() == NOW + 290
            end.handle_timeout(NOW + 290)
            assert sent_by(end).pings == 1
            due = end.next_deadline()
            assert due is not None
            assert NOW + 280 + 25 <= due < NOW + 280 + 25 * 33 / 32
            end.handle_timeout(due)
            assert end.state is State.OPEN
            assert end.next_deadline() == due + 20
            end.handle_timeout(due + 20)
            assert end.closed == Closed(1006, "no answer to the heartbeat", ClosedBy.LOST)

    def test_who_takes_nothing_while_the_driver_does_not_read_is_gone(self) -> None:
        for end, _ in both_ends(self.LIMITS):
            end.send(b"{}", Kind.REPLY, NOW)
            end.set_reading(False, NOW)
            end.handle_timeout(NOW + 25)
            assert end.next_deadline() == NOW + 45
            end.handle_timeout(NOW + 45)
            assert end.closed == Closed(1006, "no answer to the heartbeat", ClosedBy.LOST)
            assert output(end) is Output.ABORT

    def test_who_takes_something_while_the_driver_does_not_read_lives(self) -> None:
        for end, _ in both_ends(self.LIMITS):
            end.set_reading(False, NOW)
            for _ in range(20):
                end.send(b"x" * 1000, Kind.REPLY, NOW)
                due = end.next_deadline()
                assert due is not None
                assert end.data_to_send(limit=10)
                end.handle_timeout(due)
                assert end.outbox.pending_bytes
                assert end.state is State.OPEN

    def test_a_deadline_that_comes_late_is_forgiven_once(self) -> None:
        for end, key in both_ends(self.LIMITS):
            end.handle_timeout(NOW + 25)
            end.handle_timeout(NOW + 1000)
            assert sent_by(end).pings == 2
            feed(end, frame(opcode=PONG, key=key), NOW + 1000)
            end.handle_timeout(NOW + 2000)
            end.handle_timeout(NOW + 3000)
            assert sent_by(end).pings == 2
            end.handle_timeout(NOW + 4000)
            assert end.closed == Closed(1006, "no answer to the heartbeat", ClosedBy.LOST)

    def test_no_ping_while_the_peer_talks(self) -> None:
        for end, key in both_ends(self.LIMITS):
            for i in range(1, 20):
                feed(end, frame(b"{}", key=key), NOW + 20 * i)
                end.handle_timeout(NOW + 20 * i)
            assert end.data_to_send() == b""


class TestClosing:
    def test_peer_closes(self) -> None:
        for end, key in both_ends():
            data = frame(b"last", key=key) + close_frame(1000, "bye", key=key)
            assert feed(end, data + frame(b"late", key=key)) == [b"last"]
            assert end.closed == Closed(1000, "bye", ClosedBy.PEER)
            assert sent_by(end).closed == (1000, "bye")
            assert output(end) is Output.HALF_CLOSE
            end.receive_eof(NOW)
            assert output(end) is Output.CLOSE

    def test_peer_closes_without_a_code(self) -> None:
        for end, key in both_ends():
            feed(end, frame(opcode=CLOSE, key=key))
            assert end.closed == Closed(1005, "", ClosedBy.PEER)
            assert sent_by(end).closed == (1005, "")

    def test_we_close_behind_what_is_queued(self) -> None:
        for end, key in both_ends():
            end.queue(entry(end, b'{"a":1}'), NOW)
            end.close(1001, "going", NOW)
            assert end.state is State.CLOSING
            assert end.queue(entry(end), NOW) is Push.DROPPED
            inbox = sent_by(end)
            assert inbox.take() == [{"a": 1}]
            assert inbox.closed == (1001, "going")
            assert output(end) is Output.KEEP
            feed(end, close_frame(1001, "going", key=key))
            assert end.closed == Closed(1001, "going", ClosedBy.LOCAL)
            assert output(end) is Output.HALF_CLOSE

    def test_both_close_at_once(self) -> None:
        for end, key in both_ends():
            end.close(1001, "going", NOW)
            assert sent_by(end).closed == (1001, "going")
            feed(end, close_frame(1000, "bye", key=key))
            assert end.closed == Closed(1001, "going", ClosedBy.LOCAL)
            assert end.data_to_send() == b""
            assert output(end) is Output.HALF_CLOSE

    def test_what_comes_while_we_close_is_passed_over(self) -> None:
        for end, key in both_ends():
            feed(end, frame(b"half", fin=False, key=key))
            end.close(1000, "", NOW)
            end.data_to_send()
            late = frame(b"more", opcode=CONTINUATION, key=key) + frame(b"{}", key=key)
            assert feed(end, late + frame(opcode=PING, key=key)) == []
            assert end.data_to_send() == b""
            feed(end, close_frame(1000, key=key))
            assert end.state is State.DRAINING

    @pytest.mark.parametrize("nonsense", [b"\xff" * 20, frame(claim=1 << 40), bytes(20)])
    def test_nonsense_while_we_close_ends_it(self, nonsense: bytes) -> None:
        for end, _ in both_ends():
            end.close(1000, "enough", NOW)
            assert sent_by(end).closed == (1000, "enough")
            feed(end, nonsense)
            assert end.closed == Closed(1000, "enough", ClosedBy.LOCAL)
            assert end.data_to_send() == b""

    def test_close_twice_sends_one_frame(self) -> None:
        for end, _ in both_ends():
            end.close(1000, "first", NOW)
            end.close(1001, "second", NOW)
            assert sent_by(end).closed == (1000, "first")

    def test_close_without_an_answer_is_given_up(self) -> None:
        for end, _ in both_ends(ConnectionLimits(close_timeout=5)):
            end.close(1000, "", NOW)
            end.data_to_send()
            assert end.next_deadline() == NOW + 5
            end.handle_timeout(NOW + 4.9)
            assert output(end) is Output.KEEP
            end.handle_timeout(NOW + 5)
            assert output(end) is Output.ABORT
            assert end.closed == Closed(1000, "", ClosedBy.LOCAL)

    def test_grace_gives_more_time(self) -> None:
        for end, _ in both_ends(ConnectionLimits(close_timeout=5)):
            end.close(1001, "", NOW, grace=60)
            assert end.next_deadline() == NOW + 60

    def test_another_close_can_only_shorten_it(self) -> None:
        for end, _ in both_ends(ConnectionLimits(close_timeout=5)):
            end.close(1001, "", NOW, grace=60)
            end.close(1001, "", NOW + 1, grace=90)
            assert end.next_deadline() == NOW + 60
            end.close(1001, "", NOW + 2, grace=0.5)
            assert end.next_deadline() == NOW + 2.5

    @pytest.mark.parametrize("is_nonsense", [False, True])
    def test_what_the_peer_sends_while_we_close_does_not_prolong_it(
        self, is_nonsense: bool
    ) -> None:
        for end, key in both_ends(ConnectionLimits(close_timeout=5)):
            end.close(1000, "", NOW, grace=1)
            feed(end, b"\xff" * 20 if is_nonsense else close_frame(1000, key=key), NOW + 0.5)
            assert end.state is State.DRAINING
            assert end.next_deadline() == NOW + 1

    def test_peer_that_does_not_hang_up_is_given_up(self) -> None:
        for end, key in both_ends(ConnectionLimits(close_timeout=5)):
            feed(end, close_frame(1000, key=key), NOW + 1)
            assert end.next_deadline() == NOW + 6
            end.handle_timeout(NOW + 6)
            assert output(end) is Output.ABORT

    def test_close_frame_has_room_in_a_full_queue(self) -> None:
        for end, _ in both_ends(ConnectionLimits(queue_messages=2)):
            for _ in range(2):
                assert end.queue(entry(end), NOW) is Push.QUEUED
            end.close(1001, "going", NOW)
            inbox = sent_by(end)
            assert len(inbox.take()) == 2
            assert inbox.closed == (1001, "going")

    def test_answer_to_a_close_frame_has_room_in_a_full_queue(self) -> None:
        for end, key in both_ends(ConnectionLimits(queue_messages=1)):
            end.queue(entry(end), NOW)
            feed(end, close_frame(1000, key=key))
            assert sent_by(end).closed == (1000, "")

    def test_reason_is_cut_to_what_a_close_frame_holds(self) -> None:
        for end, _ in both_ends():
            end.close(1008, "é" * 100, NOW)
            assert sent_by(end).closed == (1008, "é" * 61)


class TestEndOfFile:
    def test_when_open(self) -> None:
        for end, _ in both_ends(ConnectionLimits(close_timeout=5)):
            end.queue(entry(end), NOW)
            end.receive_eof(NOW)
            assert end.closed == Closed(1006, "connection lost", ClosedBy.LOST)
            assert sent_by(end).take() == [{}]  # the peer may still read
            assert output(end) is Output.CLOSE
            assert end.next_deadline() == NOW + 5

    def test_within_a_message(self) -> None:
        for end, key in both_ends():
            assert feed(end, frame(b"x" * 10, key=key)[:-1]) == []
            end.receive_eof(NOW)
            assert end.closed == Closed(1006, "connection lost", ClosedBy.LOST)

    def test_when_closing(self) -> None:
        for end, _ in both_ends():
            end.close(1000, "", NOW)
            end.receive_eof(NOW)
            assert end.closed == Closed(1000, "", ClosedBy.LOCAL)
            assert output(end) is Output.CLOSE

    def test_twice_and_after_the_end(self) -> None:
        for end, key in both_ends():
            feed(end, close_frame(1000, key=key))
            for _ in range(2):
                end.receive_eof(NOW)
            for _ in range(2):
                end.connection_lost(NOW)
            end.receive_eof(NOW)
            assert end.closed == Closed(1000, "", ClosedBy.PEER)
            assert end.state is State.CLOSED
            assert end.next_deadline() is None

    def test_transport_lost_without_a_word(self) -> None:
        for end, _ in both_ends():
            end.queue(entry(end, kind=Kind.DROPPABLE), NOW)
            for _ in range(2):
                end.connection_lost(NOW)
            assert end.closed == Closed(1006, "connection lost", ClosedBy.LOST)
            assert end.data_to_send() == b""
            assert end.outbox.dropped == 1

    def test_what_carries_no_message_is_not_counted_as_one(self) -> None:
        """Handshakes, pings, pongs and close frames that could not be written."""
        for new in (new_server_end(), new_client_end()):
            if isinstance(new, ServerWebSocket):
                feed(new, upgrade())
                new.accept()
            new.connection_lost(NOW)
            assert new.outbox.dropped == 0
        for end, key in both_ends():
            end.handle_timeout(NOW + 1000)
            feed(end, frame(b"", opcode=PING, key=key))
            end.close(1000, "", NOW)
            assert end.outbox.pending_messages == 3
            end.connection_lost(NOW)
            assert end.outbox.dropped == 0

    def test_nothing_happens_after_the_end(self) -> None:
        for end, key in both_ends():
            end.connection_lost(NOW)
            assert feed(end, frame(b"{}", key=key)) == []
            assert end.queue(entry(end), NOW) is Push.DROPPED
            assert end.send(b"{}", Kind.REPLY, NOW) is Push.DROPPED
            end.close(1000, "", NOW)
            end.fail(1008, "", NOW)
            end.set_reading(False, NOW)
            end.handle_timeout(NOW + 1000)
            assert end.outbox.pending_bytes == 0
            assert end.data_to_send() == b""
            assert end.closed == Closed(1006, "connection lost", ClosedBy.LOST)
            assert end.state is State.CLOSED


class TestClientHandshake:
    def start(self, limits: ConnectionLimits = LIMITS) -> ClientWebSocket:
        return ClientWebSocket(
            host="localhost:9313",
            target="/ws/bus?x=1",
            headers=[("authorization", "Bearer secret")],
            key=b"the sample nonce",
            text_frame=Masker(Random(0).randbytes).text_frame,
            limits=limits,
            now=NOW,
        )

    def test_request(self) -> None:
        lines = self.start().data_to_send().decode().split("\r\n")
        assert lines[0] == "GET /ws/bus?x=1 HTTP/1.1"
        assert "Host: localhost:9313" in lines
        assert "authorization: Bearer secret" in lines
        assert lines[-2:] == ["", ""]

    @pytest.mark.parametrize("status", [200, 301, 401, 403, 404, 426, 431, 500, 503])
    @pytest.mark.parametrize("sizes", [[], [1]])
    def test_refusal_tells_the_status(self, status: int, sizes: list[int]) -> None:
        end = self.start()
        answer = f"HTTP/1.1 {status} Some Reason\r\nContent-Length: 3\r\n\r\nno\n".encode()
        for piece in split(answer, sizes):
            feed(end, piece)
        assert end.refused == status
        assert end.closed is not None
        assert str(status) in end.closed.reason
        assert output(end) is Output.ABORT

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
            b"HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: \xff\r\n\r\n",
            b"HTTP/1.1 1011 x\r\n\r\n",
            b"HTTP/1.1 099 x\r\n\r\n",
            b" HTTP/1.1 200 OK\r\n\r\n",
        ],
    )
    def test_what_is_no_answer_ends_the_attempt(self, answer: bytes) -> None:
        end = self.start()
        feed(end, answer)
        assert end.refused is None
        assert end.closed is not None
        assert end.closed.by is ClosedBy.FAULT
        assert output(end) is Output.ABORT

    def accept(self, *more: bytes, instead_of: bytes = b"") -> ClientWebSocket:
        """A client that got the right answer, but with other lines in it."""
        end = self.start()
        key = end.data_to_send().partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        token = generate_accept_token(key)
        lines = [
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + token,
        ]
        kept = [line for line in lines if not instead_of or not line.startswith(instead_of)]
        feed(end, b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *kept, *more, b"", b""]))
        return end

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            (b"Upgrade", b"uPGRADE:WebSocket \t"),
            (b"Connection", b"connection: keep-alive, upgrade"),
            (b"", b"Server: any\xff; thing: here"),
            (b"", b"X-Empty:"),
        ],
    )
    def test_an_answer_may_be_written_in_many_ways(self, name: bytes, line: bytes) -> None:
        assert self.accept(line, instead_of=name).state is State.OPEN

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            (b"Upgrade", b""),
            (b"Upgrade", b"Upgrade: h2c"),
            (b"", b"Upgrade: h2c"),
            (b"Connection", b"Connection: upgrades"),
            (b"Sec", b"Sec-WebSocket-Accept: "),
            (b"", b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            (b"", b"Sec-WebSocket-Protocol: chat"),
            (b"", b"Sec-WebSocket-Extensions: permessage-deflate"),
            (b"", b"no field"),
            (b"", b"Name : value"),
            (b"", b" folded: line"),
            (b"", b"X: a\nSet-Cookie: b"),
            (b"", b"X: a\0b"),
        ],
    )
    def test_an_answer_that_is_not_quite_right(self, name: bytes, line: bytes) -> None:
        end = self.accept(*([line] if line else []), instead_of=name)
        assert end.refused is None
        assert end.closed is not None
        assert end.closed.reason.startswith("not a WebSocket server: ")
        assert output(end) is Output.ABORT

    def test_the_request_is_one_that_wsproto_accepts(self) -> None:
        server = H11Handshake(ConnectionType.SERVER)
        server.receive_data(self.start().data_to_send())
        (request,) = server.events()
        assert isinstance(request, Request)
        assert (request.host, request.target) == ("localhost:9313", "/ws/bus?x=1")
        assert (b"authorization", b"Bearer secret") in request.extra_headers
        end = self.start()
        feed(end, server.send(AcceptConnection()))
        assert end.state is State.OPEN

    @pytest.mark.parametrize("end_of_head", [b"", b"\r\n\r\n"])
    @pytest.mark.parametrize("sizes", [[], [1], [100]])
    def test_head_that_is_too_large(self, end_of_head: bytes, sizes: list[int]) -> None:
        end = self.start(ConnectionLimits(max_head=1000))
        answer = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000 + end_of_head
        for piece in split(answer, sizes):
            feed(end, piece)
        assert end.closed == Closed(1006, "the head of the answer is too large", ClosedBy.FAULT)

    def test_no_answer_in_time(self) -> None:
        end = self.start(ConnectionLimits(handshake_timeout=10))
        feed(end, b"HTTP/1.1 ", NOW + 9)
        assert end.next_deadline() == NOW + 10
        end.handle_timeout(NOW + 10)
        assert output(end) is Output.ABORT

    def test_end_of_file_before_an_answer(self) -> None:
        end = self.start()
        end.receive_eof(NOW)
        assert end.closed == Closed(1006, "connection lost", ClosedBy.LOST)

    def test_closed_before_an_answer(self) -> None:
        end = self.start()
        end.close(1000, "not wanted", NOW)
        assert end.closed == Closed(1006, "not wanted", ClosedBy.LOCAL)
        assert feed(end, b"HTTP/1.1 101 x\r\n\r\n") == []
