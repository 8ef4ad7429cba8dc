"""The life of a connection: which states there are, and how one leads to the next."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import ConnectionType

from kps.protocol.limits import ConnectionLimits
from kps.protocol.wire.client_handshake import ClientWebSocket
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.outbox import Kind
from kps.protocol.wire.server_handshake import ServerWebSocket
from kps.protocol.wire.websocket import TRANSITIONS, Output, State, Step, WebSocket
from tests.protocol.helpers import (
    KEY,
    PATH,
    PING,
    THOROUGH,
    Answer,
    Inbox,
    close_frame,
    frame,
    output,
    request,
    upgrade,
)
from tests.protocol.wire.test_websocket import (
    NOW,
    client_end,
    entry,
    feed,
    new_client_end,
    new_server_end,
    server_end,
)

ENDS: dict[str, Callable[[], WebSocket]] = {"server": new_server_end, "client": new_client_end}
ENDED = (State.CLOSING, State.DRAINING, State.CLOSED)
"""States in which it is known how the connection ended."""


def reachable(state: State) -> set[State]:
    """The states that can come after one, itself included."""
    found: set[State] = set()
    new = {state}
    while new:
        found |= new
        new = {following for one in new for following in TRANSITIONS[one].values()} - found
    return found


class TestTable:
    def test_every_state_is_in_it(self) -> None:
        assert set(TRANSITIONS) == set(State)

    def test_every_state_is_reached_from_the_beginning(self) -> None:
        assert reachable(State.HANDSHAKE) == set(State)

    def test_every_step_leads_somewhere(self) -> None:
        assert {step for row in TRANSITIONS.values() for step in row} == set(Step)

    def test_a_life_has_an_order(self) -> None:
        order = list(State)
        for state, row in TRANSITIONS.items():
            for step, following in row.items():
                assert order.index(following) > order.index(state), step

    def test_a_transport_can_be_lost_and_a_connection_end_at_any_time(self) -> None:
        for state, row in TRANSITIONS.items():
            if state is not State.CLOSED:
                assert row[Step.GONE] is State.CLOSED
                assert state is State.DRAINING or row[Step.ENDED] is State.DRAINING

    @pytest.mark.parametrize("step", Step)
    @pytest.mark.parametrize("end", ENDS)
    def test_no_step_leaves_the_last_state(self, end: str, step: Step) -> None:
        assert reachable(State.CLOSED) == {State.CLOSED}
        connection = ENDS[end]()
        connection.connection_lost(NOW)
        assert not connection._move(step)
        assert connection.state is State.CLOSED

    @pytest.mark.parametrize("step", Step)
    @pytest.mark.parametrize("state", State)
    def test_a_step_that_a_state_does_not_name_changes_nothing(
        self, state: State, step: Step
    ) -> None:
        connection = new_client_end()
        connection.state = state
        following = TRANSITIONS[state].get(step)
        assert connection._move(step) is (following is not None)
        assert connection.state is (following or state)


class TestEachState:
    """What a connection has to be told to get there."""

    def test_server(self) -> None:
        end = new_server_end()
        assert state_of(end) is State.HANDSHAKE
        feed(end, upgrade())
        assert state_of(end) is State.REQUEST
        end.accept()
        assert state_of(end) is State.OPEN
        end.close(1000, "", NOW)
        assert state_of(end) is State.CLOSING
        feed(end, close_frame(1000))
        assert state_of(end) is State.DRAINING
        end.connection_lost(NOW)
        assert state_of(end) is State.CLOSED

    def test_server_that_reads_a_body(self) -> None:
        end = ServerWebSocket(
            limits=ConnectionLimits(), path=PATH, respond=lambda _: None, peer="", now=NOW
        )
        feed(end, request("/", method="POST", headers=[("Host", "x"), ("Content-Length", "2")]))
        assert state_of(end) is State.REQUEST
        parts: list[bytes] = []
        end.read_body(parts.append, lambda: parts.append(b"end"), NOW)
        assert state_of(end) is State.EXCHANGE
        feed(end, b"12")
        assert parts == [b"12", b"end"]
        end.respond(HttpResponse.text(200, "yes"), NOW)
        assert state_of(end) is State.DRAINING

    def test_client(self) -> None:
        end, server = new_client_end(), new_server_end()
        assert state_of(end) is State.HANDSHAKE
        feed(server, end.data_to_send())
        server.accept()
        feed(end, server.data_to_send())
        assert state_of(end) is State.OPEN
        end.close(1000, "", NOW)
        assert state_of(end) is State.CLOSING
        feed(end, close_frame(1000, key=None))
        assert state_of(end) is State.DRAINING
        end.connection_lost(NOW)
        assert state_of(end) is State.CLOSED

    def test_a_server_that_answers_with_plain_http_has_nothing_more_to_say(self) -> None:
        for data, answers in ((request("/"), False), (upgrade(), True)):
            end = new_server_end()
            feed(end, data)
            if answers:
                end.respond(HttpResponse.text(403, "no"), NOW)
            assert state_of(end) is State.DRAINING
            end.fail(1008, "too late", NOW)
            end.close(1000, "too late", NOW)
            end.accept()
            end.respond(HttpResponse.text(500, "too late"), NOW)
            assert state_of(end) is State.DRAINING
            answer = Answer(end.data_to_send())
            assert answer.status in (403, 404)
            assert answer.rest == b""

    @pytest.mark.parametrize(
        ("end", "data"),
        [
            (new_server_end, b"\x16\x03\x01\r\n\r\n"),
            (new_client_end, b"SSH-2.0-OpenSSH\r\n\r\n"),
            (server_end, frame(opcode=3)),
            (client_end, frame(opcode=3, key=None)),
            (server_end, frame(claim=1 << 40)),
            (server_end, close_frame(1000)),
            (client_end, close_frame(1000, key=None)),
        ],
    )
    def test_what_the_peer_sends_can_end_it(
        self, end: Callable[[], WebSocket], data: bytes
    ) -> None:
        connection = end()
        feed(connection, data)
        assert state_of(connection) is State.DRAINING

    @pytest.mark.parametrize("end", [new_server_end, new_client_end, server_end, client_end])
    def test_our_side_can_end_it_in_many_ways(self, end: Callable[[], WebSocket]) -> None:
        steps: list[Callable[[WebSocket], None]] = [
            lambda connection: connection.fail(1008, "", NOW),
            lambda connection: connection.abort("", NOW),
            lambda connection: connection.receive_eof(NOW),
        ]
        for step in steps:
            connection = end()
            step(connection)
            assert state_of(connection) is State.DRAINING
            connection.connection_lost(NOW)
            assert state_of(connection) is State.CLOSED


def state_of(end: WebSocket) -> State:
    """The state; the type checker takes it for no constant."""
    return end.state


class Life:
    """One end, to which all kinds of things happen."""

    def __init__(self, end: WebSocket) -> None:
        self.end = end
        self.now = NOW
        self.written = b""
        self.seen = {end.state}
        self._key = None if isinstance(end, ClientWebSocket) else KEY

    def do(self, what: str, seconds: float) -> None:
        end = self.end
        before, closed = end.state, end.closed
        self.now += seconds
        self._act(what)
        self.seen.add(end.state)
        assert end.state in reachable(before)
        assert (end.closed is not None) is (end.state in ENDED)
        assert closed is None or end.closed is closed, "how it ended is known from then on"
        if end.state is State.CLOSED:
            assert (end.data_to_send(), end.read(self.now)) == (b"", [])
            assert end.next_deadline() is None
        elif output(end) is not Output.ABORT:
            due = end.next_deadline()
            assert due is not None

    def _act(self, what: str) -> None:
        end, now, key = self.end, self.now, self._key
        match what:
            case "open" if isinstance(end, ServerWebSocket):
                feed(end, upgrade(), now)
            case "open":
                self._answer()
            case "request":
                feed(end, request("/"), now)
            case "accept" if isinstance(end, ServerWebSocket):
                end.accept()
            case "refuse" if isinstance(end, ServerWebSocket):
                end.respond(HttpResponse.text(403, "no"), now)
            case "message":
                feed(end, frame(b"{}", key=key), now)
            case "part":
                feed(end, frame(b"{}", fin=False, key=key)[:-1], now)
            case "ping":
                feed(end, frame(b"?", opcode=PING, key=key), now)
            case "peer closes":
                feed(end, close_frame(1000, "bye", key=key), now)
            case "nonsense":
                feed(end, b"\xff" * 20, now)
            case "close":
                end.close(1001, "going", now)
            case "fail":
                end.fail(1008, "wrong", now)
            case "abort":
                end.abort("enough", now)
            case "end of file":
                end.receive_eof(now)
            case "lost":
                end.connection_lost(now)
            case "send":
                end.send(b"{}", Kind.REPLY, now)
            case "queue":
                end.queue(entry(end), now)
            case "pause":
                end.set_reading(False, now)
            case "resume":
                end.set_reading(True, now)
            case "time":
                due = end.next_deadline()
                self.now = now if due is None else max(now, due)
                end.handle_timeout(self.now)
            case "write":
                self.written += end.data_to_send(limit=100)

    def _answer(self) -> None:
        """Let a client in, if it has asked."""
        self.written += self.end.data_to_send()
        server = new_server_end()
        feed(server, self.written)
        server.accept()
        feed(self.end, server.data_to_send(), self.now)

    def check_written(self) -> None:
        """All that was written is what the peer can read: a head, frames, one close frame."""
        while data := self.end.data_to_send():
            self.written += data
        if isinstance(self.end, ServerWebSocket):
            if not self.written:
                return
            answer = Answer(self.written)
            inbox, rest = Inbox(ConnectionType.CLIENT), answer.rest
            if answer.status != 101:
                assert rest == b""
                return
        else:
            inbox = Inbox(ConnectionType.SERVER)
            _, separator, rest = self.written.partition(b"\r\n\r\n")
            assert separator or not self.written
        inbox.feed(rest)


ACTS = st.one_of(
    st.sampled_from(["open", "accept", "message", "send", "time"]),  # without which little happens
    st.sampled_from(
        ["request", "refuse", "part", "ping", "peer closes", "nonsense", "end of file"]
    ),
    st.sampled_from(["queue", "write", "pause", "resume", "close", "fail", "abort", "lost"]),
)
# The longest is past the interval of heartbeats.
SECONDS = st.sampled_from([0.0, 0.0, 0.0, 1.0, 7.0, 30.0])


@THOROUGH
@pytest.mark.parametrize("end", ENDS)
@given(acts=st.lists(st.tuples(ACTS, SECONDS), max_size=20))
def test_whatever_happens_follows_the_table(end: str, acts: list[tuple[str, float]]) -> None:
    life = Life(ENDS[end]())
    for what, seconds in acts:
        life.do(what, seconds)
    life.check_written()


@pytest.mark.parametrize("ending", ["lost", "abort", "fail", "close"])
@pytest.mark.parametrize("end", ENDS)
def test_every_state_is_passed_in_a_whole_life(end: str, ending: str) -> None:
    life = Life(ENDS[end]())
    for what in ("write", "open", "accept", "message", "close", "peer closes", ending, "lost"):
        life.do(what, 0.0)
    life.check_written()
    assert life.seen == set(State) - {State.EXCHANGE, *([State.REQUEST] if end == "client" else [])}
