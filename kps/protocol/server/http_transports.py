"""What a session sends, as the answer to an HTTP request: one response, or an event stream."""

from typing import Protocol

from kps.protocol.dialect import event_stream
from kps.protocol.dialect.codes import DISMISSED, EXPIRED, ID_TAKEN, RATE_LIMITED
from kps.protocol.dialect.envelope import Fields, load, text
from kps.protocol.dialect.event_stream import Place, Subscribe, Wanted
from kps.protocol.dialect.http_answers import in_json, refusal, refusal_in
from kps.protocol.dialect.http_calls import DONE, Call
from kps.protocol.dialect.server import ServerLevel1
from kps.protocol.server.encodings import FrameEncoding
from kps.protocol.server.ports import HttpCarrier
from kps.protocol.server.session import ServerSession
from kps.protocol.server.state import ServerState
from kps.protocol.server.throttle import TOO_FAST
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.protocol.wire.outbox import Entry, Kind, Outbox, Push, control
from kps.protocol.wire.websocket import Closed, ClosedBy

_PONG = b'{"action":"pong"'

_CODES = {EXPIRED: "unauthorized", DISMISSED: "forbidden", ID_TAKEN: "id_unavailable"}
"""The error codes that say what these close codes do."""


class Asked(Protocol):
    """The exchange, as its transport sees it."""

    session: ServerSession
    request: HttpRequest

    @property
    def carrier(self) -> HttpCarrier:
        """What carries the answer."""

    def accepted(self) -> None:
        """Go on with a client that the gate has accepted."""

    def registered(self) -> None:
        """Go on with a client that has registered."""

    def answer(self, response: HttpResponse) -> None:
        """Give the answer."""

    def head(self, client_id: str) -> HttpResponse:
        """Return the head of a stream."""

    def end(self, closed: Closed) -> None:
        """End a stream."""


def _own(event: bytes) -> Entry:
    """Make an entry of an event of the stream itself, which stays behind those before it."""
    return Entry(event, Kind.FORWARDED, messages=0)


class CallTransport:
    """Carries the one reply to a call."""

    queued_bytes = 0
    queued_messages = 0
    dropped = 0

    def __init__(self, exchange: Asked) -> None:
        self.call: Call | None = None
        """The call, once its parameters are read."""
        self._exchange = exchange

    @property
    def host(self) -> str:
        """The host by which the client reached the server."""
        return self._exchange.request.header("host")

    def send(self, message: bytes, kind: Kind) -> bool:
        """Answer the request with a reply of the session."""
        if message.startswith(_PONG):
            self._exchange.registered()
        elif message.startswith(b'{"action":"error"'):
            self._exchange.answer(refusal_in(load(message)))
        elif self.call is not None and (response := self.call.answer(message)) is not None:
            self._exchange.answer(response)
        return True

    def queue(self, entry: Entry) -> bool:
        """Take no publications: nobody has subscribed."""
        return False

    def queue_whole(self, entry: Entry) -> bool:
        """Take no publications: nobody has subscribed."""
        return False

    def speak(self, dialect: ServerLevel1) -> FrameEncoding:
        """Return an encoding, though nothing is encoded."""
        return self._exchange.session.encoding

    def handled(self) -> None:
        """Note that the session has handled all messages, and has refused none."""
        if self.call is not None and not self.call.has_reply:
            self._exchange.answer(DONE)

    def accept(self) -> None:
        """Accept the client, which then registers."""
        self._exchange.accepted()

    def refuse(self, response: HttpResponse, patience: float | None = None) -> None:
        """Refuse the client before it is accepted."""
        self._exchange.answer(in_json(response))

    def close(self, code: int, reason: str, grace: float | None = None) -> None:
        """Give up: the server could not decide, or the time of the client is over."""
        self._exchange.answer(refusal(_CODES.get(code, "unavailable"), reason))

    def fail(self, code: int, reason: str) -> None:
        """Give up because of the client: it sends too much, or a hook takes too long."""
        is_too_fast = reason == TOO_FAST
        self._exchange.answer(refusal(RATE_LIMITED if is_too_fast else "unavailable", reason))


class StreamOutbox(Outbox):
    """The queue of an event stream, which also tells its reader what was dropped."""

    __slots__ = ("_told", "stream")

    def __init__(self, state: ServerState, stream: "StreamTransport") -> None:
        super().__init__(state.limits, lambda message: message)
        self.stream = stream
        self._told = 0

    def take(self, limit: int) -> bytes:
        data = super().take(limit)
        if not data:
            return data
        self.stream.taken()
        if untold := self.tell_dropped():
            data += event_stream.event("dropped", untold)
        if not self.framed_bytes:
            data += self.stream.place_now()
        return data

    def tell_dropped(self) -> Fields:
        """Return what is to be told of dropped messages, if it was not told before."""
        if self.dropped == self._told:
            return {}
        self._told = self.dropped
        return {"dropped": self.dropped}


class StreamTransport(CallTransport):
    """Carries what a client has subscribed to, as events.

    The stream begins when all subscriptions are confirmed. Until then, and behind that, what comes
    is in the queue. If one is refused, the answer is that.
    """

    def __init__(self, state: ServerState, exchange: Asked) -> None:
        super().__init__(exchange)
        self.wanted: Subscribe | None = None
        """What the client subscribes to, once that is read."""
        self._state = state
        self._outbox = StreamOutbox(state, self)
        self._begun = False
        self._unconfirmed = 0
        self._place = ""  # that the reader knows
        self._has_history: dict[Wanted, None] = {}
        self._beat_at: float | None = None
        self._took_at = 0.0  # when the carrier last took something

    @property
    def queued_bytes(self) -> int:  # type: ignore[override]
        """Bytes that are pending."""
        return self._outbox.pending_bytes

    @property
    def queued_messages(self) -> int:  # type: ignore[override]
        """Messages that are pending."""
        return self._outbox.pending_messages

    @property
    def dropped(self) -> int:  # type: ignore[override]
        """Messages for this client that were dropped."""
        return self._outbox.dropped

    def send(self, message: bytes, kind: Kind) -> bool:
        """Take what the session tells its client."""
        if message.startswith(_PONG):
            assert self.wanted is not None
            self._unconfirmed = len(self.wanted.wanted)
            self._exchange.registered()
            return True
        fields = load(message)
        match fields["action"]:
            case "subscribed":
                self._confirmed(fields)
            case "error" if not self._begun:
                self._exchange.answer(refusal_in(fields))
            case "direct_message":
                return self._push(Entry(event_stream.direct(message), Kind.FORWARDED))
        return True

    def queue(self, entry: Entry) -> bool:
        """Queue publications; tell whether they had room or the policy made room."""
        return self._push(entry)

    def queue_whole(self, entry: Entry) -> bool:
        """Queue an entry if all its events have room, else do nothing; tell which."""
        if self._exchange.session.gate.is_over or not self._outbox.push_whole(entry):
            return False
        self._touch()
        return True

    def speak(self, dialect: ServerLevel1) -> FrameEncoding:
        """Return the encoding of events."""
        assert self.wanted is not None
        encodings, wanted = self._state.event_encodings, self.wanted.wanted
        has_ids = len(wanted) == 1 and wanted[0].kind == "topic"
        return encodings.with_ids if has_ids else encodings.plain

    def close(self, code: int, reason: str, grace: float | None = None) -> None:
        """End the stream, and tell why."""
        self._end(Closed(code, reason, ClosedBy.LOCAL))

    def fail(self, code: int, reason: str) -> None:
        """End the stream because of the client."""
        if self._begun:
            self._end(Closed(code, reason, ClosedBy.FAULT))
        else:
            super().fail(code, reason)

    def taken(self) -> None:
        """Note that the carrier takes something; queue more of the past, if some is to come."""
        self._took_at = self._state.now
        replays = self._exchange.session.replays
        if replays is not None and replays.count:
            replays.go_on()

    def place_now(self) -> bytes:
        """Return what tells the reader where the stream stands, as it has got all of it.

        A stream of one topic tells it with each event.
        """
        session, logs = self._exchange.session, self._state.logs
        is_behind = session.replays is not None and session.replays.count > 0
        if not self._has_history or is_behind or logs is None:
            return b""
        places: dict[Wanted, Place] = {}
        for wanted in self._has_history:
            if wanted.kind == "pattern":
                places[wanted] = (logs.epoch, logs.latest)
            elif (log := logs.log(wanted.name)) is not None:
                places[wanted] = (log.epoch, log.top)
        place = event_stream.id_of(places)
        if place == self._place or len(place) > event_stream.LONGEST_ID:
            return b""
        self._place = place
        return event_stream.only_id(place)

    # -- time -------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due."""
        return self._beat_at

    def handle_timeout(self, now: float) -> None:
        """Write a comment if nothing was written for a while; end if nothing can be."""
        if self._beat_at is None or now < self._beat_at:
            return
        outbox, limits = self._outbox, self._state.limits
        silent_from = self._took_at + limits.heartbeat_interval
        if outbox.pending_bytes:
            self._beat_at = silent_from + limits.heartbeat_timeout
            if now >= self._beat_at:
                self._beat_at = None  # the connection ends later
                self._exchange.carrier.abort()
        elif now < silent_from:
            self._beat_at = silent_from
        else:
            self._beat_at = now + limits.heartbeat_interval
            outbox.push_first(control(event_stream.BEAT))
            self._exchange.carrier.touch()

    # -- within -----------------------------------------------------------------------------

    def _confirmed(self, fields: Fields) -> None:
        """Note that a subscription is live; begin the stream with the last one."""
        kind = "pattern" if "pattern" in fields else "topic"
        assert self.wanted is not None
        if fields.get("epoch"):
            wanted = self.wanted.wanted
            if len(wanted) == 1 and kind == "topic":
                place = event_stream.place_text(fields["epoch"], fields["offset"])
                self._outbox.push_anyway(_own(event_stream.only_id(place)))
            else:
                self._has_history[Wanted(kind, text(fields, kind))] = None
        if fields.get("recovered") is False:
            self._outbox.push_anyway(_own(event_stream.gap(fields)))
        self._unconfirmed -= 1
        if self._unconfirmed == 0:
            self._begun = True
            exchange = self._exchange
            exchange.carrier.stream(exchange.head(exchange.session.id), self._outbox)
            self._outbox.push_first(control(event_stream.BEGIN))
            self._took_at = self._state.now
            self._beat_at = self._state.now + self._state.limits.heartbeat_interval
        self._touch()

    def _push(self, entry: Entry) -> bool:
        if self._exchange.session.gate.is_over:
            return False
        pushed = self._outbox.push(entry)
        if pushed is Push.OVERFLOW:
            before = self._outbox.dropped
            self._outbox.clear()
            self._outbox.dropped += entry.messages
            self._state.tally.overflowed(self._outbox.dropped - before)
            self._end(Closed(1008, "slow consumer", ClosedBy.FAULT))
            return False
        self._touch()
        return pushed is Push.QUEUED

    def _touch(self) -> None:
        if self._begun:
            self._exchange.carrier.touch()

    def _end(self, closed: Closed) -> None:
        if not self._begun:
            super().close(closed.code, closed.reason)
            return
        told = {"code": closed.code, "reason": closed.reason} | self._outbox.tell_dropped()
        self._outbox.push_anyway(_own(event_stream.event("end", told)))
        self._exchange.end(closed)
