"""One HTTP request to the bus, and its answer: one response, or a stream of bytes (spec, 24).

Whatever carries HTTP can carry it, as our connections do (``http_carrier``). The carrier
makes an :class:`Exchange` with the head of the request, and calls ``begin``. The exchange asks for
the body when it wants it, and then gives a response, or begins a stream. It takes part in the bus
as any other client does, by a session, whose transport (``http_transports``) turns what the
session sends into the answer.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from kps.protocol.access import rules
from kps.protocol.access.cross_origin import fields_for, preflight
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.dialect.event_stream import TYPE, Subscribe
from kps.protocol.dialect.http_answers import in_json, refusal, refused
from kps.protocol.dialect.http_calls import CALLS, STREAM
from kps.protocol.dialect.http_fields import check_length, check_type, payload_in, too_large
from kps.protocol.dialect.server import LEVEL_2
from kps.protocol.server.delivery import Delivery
from kps.protocol.server.gate import STOPPING, Gate, Phase, refusal_at_once
from kps.protocol.server.http_transports import CallTransport, StreamTransport
from kps.protocol.server.ports import HttpCarrier
from kps.protocol.server.request_gate import RequestGate
from kps.protocol.server.session import ServerSession
from kps.protocol.server.state import ServerState
from kps.protocol.server.throttle import Throttle
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.http import HttpRequest, HttpResponse, is_value
from kps.protocol.wire.websocket import Closed, ClosedBy

# Units of work (see ``turns``).
_BEGINNING = 50
_PARSED = 64  # bytes of a body that count as one unit

# nginx would else keep the events until it has a buffer full of them.
_UNHELD = (("cache-control", "no-store"), ("x-accel-buffering", "no"))
_HEAD = HttpResponse(200, content_type=TYPE, headers=_UNHELD)

_METHODS = {STREAM: ("GET", "HEAD", "OPTIONS")}
_OF_CALLS = ("POST", "OPTIONS")


def _forget_nothing(exchange: "Exchange") -> None:
    """Forget nothing: the hub knows the exchange as the connection that carries it."""


class Exchange:
    """One request, as a connection of the hub and as a worker that takes turns.

    ``throttle`` is that of the connection, if several requests share one. ``forget`` is called at
    the end: :meth:`Hub.forget` for an exchange that the hub has adopted.
    """

    def __init__(
        self,
        state: ServerState,
        delivery: Delivery,
        number: int,
        request: HttpRequest,
        carrier: HttpCarrier,
        throttle: Throttle | None = None,
        forget: Callable[["Exchange"], object] = _forget_nothing,
    ) -> None:
        self.number = number
        self.used = state.turns.start
        self.waits = False
        self.closed: Closed | None = None
        """How it ended."""
        self.request = request
        self.carrier = carrier
        self._state = state
        self._forget = forget
        self._is_stream = request.path == STREAM and request.method != "HEAD"
        self._parts: list[bytes] = []  # of the body
        self._size = 0
        self._is_given = False  # whether the session has the messages
        self._is_busy = False  # whether a step is under way, behind which an answer comes
        self._response: HttpResponse | None = None
        self._fields = fields_for(state.origins, request)
        self.stream = StreamTransport(state, self) if self._is_stream else None
        """The transport of a stream, if the answer is to be one."""
        self._transport = self.stream or CallTransport(self)
        new_gate = Gate if self._is_stream else RequestGate
        session = ServerSession(state, delivery, number, request.peer, self._transport, new_gate)
        session.answers = not self._is_stream
        session.dialect = LEVEL_2
        self._throttle = throttle or session.throttle
        session.throttle = None  # what the gate is told is no message of the client
        self.session = session

    # -- called by the carrier --------------------------------------------------------------

    def begin(self) -> None:
        """Decide on the request by its head."""
        self._state.turns.left -= _BEGINNING
        self._step(self._begin)

    def receive_body(self, part: bytes) -> None:
        """Take a part of the body."""
        if self._response is not None or self.closed is not None:
            return  # there is an answer already
        self._size += len(part)
        most = self._state.limits.max_message
        if self._size > most:
            self._parts = []
            self.answer(refused(too_large(most)))
        else:
            self._parts.append(part)

    def end_body(self) -> None:
        """Note that the body is complete."""
        if self._response is None and self.closed is None:
            self._guarded(self._give)
            if not self._is_busy:
                self._state.turns.enter(self)

    def lost(self, closed: Closed) -> None:
        """Note that the connection has ended."""
        if self.closed is None:
            self.closed = closed
        self.session.leave(self.closed)
        recall, call = self._state.recall, self._transport.call
        if recall is not None and call is not None:
            recall.over(self.number, self.session.id, call.message_id)
        if not self._is_stream:
            self.session.id = ""  # it was that of one request, and no client's
        self._forget(self)

    # -- called by the hub ------------------------------------------------------------------

    def decide(self, verdict: object, now: float) -> None:
        """Accept or refuse the client, as a hook decided."""
        self._state.now = now
        if self.session.gate.phase is Phase.DECIDING:
            self._step(lambda: self.session.gate.decide(verdict, self.request))

    def judge(self, verdict: object, now: float) -> None:
        """Take a hook's verdict on what the client wants."""
        self._state.now = now
        gate = self.session.gate
        if gate.phase is Phase.DECIDING:
            self._step(lambda: gate.judge_header(verdict, self.request))
        elif gate.holds:
            self.session.run.forget_permissions()
            self._step(lambda: gate.judge(verdict))

    def relay_finished(self, to: str, error: str | None) -> None:
        """Do nothing: no request relays."""

    def shut_down(self, grace: float) -> None:
        """End because the server stops."""
        if self.stream is not None:
            self.stream.close(self.session.dialect.stop_code, "the server is stopping")
        else:
            self.answer(in_json(STOPPING))

    @property
    def dropped(self) -> int:
        """Messages for this client that were dropped."""
        return self.session.transport.dropped

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, or ``None``."""
        if self.closed is not None:
            return None
        throttle, stream = self.session.throttle, self.stream
        due = min(
            (
                one
                for one in (
                    self.session.gate.next_deadline(),
                    throttle.next_deadline() if throttle is not None else None,
                    stream.next_deadline() if stream is not None else None,
                )
                if one is not None
            ),
            default=math.inf,
        )
        return None if due == math.inf else due

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self._state.now = now
        if self.closed is not None:
            return
        throttle = self.session.throttle
        self.session.gate.handle_timeout()
        if throttle is not None:
            throttle.probes(now)
            if throttle.handle_timeout(now):
                self._state.turns.wait(self)
        if self.stream is not None:
            self.stream.handle_timeout(now)

    # -- as a worker ------------------------------------------------------------------------

    @property
    def waiting_bytes(self) -> int:
        """Bytes that are to be handled next."""
        return self.session.inbox.next_bytes or 0

    def work(self) -> bool:
        """Let the session handle its messages while the turn lasts; tell whether some are left."""
        inbox, turns, is_blocked = self.session.inbox, self._state.turns, False

        def handle() -> None:
            nonlocal is_blocked
            while inbox.has_rest and turns.left > 0 and not _is_blocked(self.session):
                inbox.go_on()
            is_blocked = _is_blocked(self.session)
            if self._is_given and not inbox.has_rest and not is_blocked:
                self._transport.handled()

        self._guarded(handle)
        if self.closed is not None:
            return False
        self._state.deadlines.schedule(self)
        return inbox.has_rest and not is_blocked

    # -- called by the transport ------------------------------------------------------------

    def accepted(self) -> None:
        """Go on with a client that the gate has accepted: it registers."""
        wants_id = ""
        try:
            if self.stream is not None:
                self.stream.wanted = Subscribe(self.request)
                wants_id = self.stream.wanted.client_id
            elif self.request.path != STREAM:
                check_length(self.request, self._state.limits.max_message)
                check_type(self.request)
                self._transport.call = CALLS[self.request.path](self.request)
            self.session.gate.ping({"action": "ping", "from": wants_id, "proto": 2})
        except InvalidMessage as error:
            self.answer(refused(error))

    def registered(self) -> None:
        """Go on with a client that has registered: it sends its messages."""
        self.session.throttle = self._throttle
        if self.stream is not None:
            assert self.stream.wanted is not None
            self.session.inbox.put(self.stream.wanted.messages())
            self._is_given = True
        elif self._transport.call is not None:
            self.carrier.read_body(self.receive_body, self.end_body)
        else:
            _check_stream(self.session, Subscribe(self.request), self._state.limits)
            self.answer(_HEAD)

    def answer(self, response: HttpResponse) -> None:
        """Give the answer, unless there is one: once the call that is under way has ended."""
        if self._response is None and self.closed is None:
            self._response = response
            if not self._is_busy:
                self._settle()

    def head(self, client_id: str) -> HttpResponse:
        """Return the head of a stream."""
        fields = self._fields
        if is_value(client_id):
            fields += (("kps-id", client_id),)
            if self._fields:  # else a browser hides the id from the page
                fields += (("access-control-expose-headers", "kps-id"),)
        return _with(_HEAD, fields)

    def end(self, closed: Closed) -> None:
        """End a stream."""
        if self.closed is None:
            self.closed = closed
            self.carrier.end_stream(closed)
            self.lost(closed)

    # -- within -----------------------------------------------------------------------------

    def _begin(self) -> None:
        request = self.request
        methods = _METHODS.get(request.path, _OF_CALLS)
        is_asked = request.method in methods and request.method != "OPTIONS"
        if fault := request.ambiguity:
            self.answer(refusal("bad_request", fault))
        elif is_asked:
            self.session.gate.requested(request)
        elif refused_at_once := refusal_at_once(self._state, request):
            self.answer(in_json(refused_at_once))
        elif request.method == "OPTIONS":
            self.answer(preflight(request, ", ".join(methods)))
        else:
            wrong = refusal("method", f"{request.path} takes {methods[0]}")
            self.answer(_with(wrong, (("allow", ", ".join(methods)),)))

    def _give(self) -> None:
        """Give the message to the session, once it is known that no other node has handled it."""
        body, self._parts = b"".join(self._parts), []
        limits, call, recall = self._state.limits, self._transport.call, self._state.recall
        assert call is not None
        self._state.turns.left -= len(body) // _PARSED
        try:
            payload = payload_in(self.request, body, limits.max_brackets)
            if len(payload) > limits.max_message:
                raise too_large(limits.max_message)
            rules.check_message_id(call.message_id, limits)
        except InvalidMessage as error:
            self.answer(refused(error))
            return
        ready = partial(self._ready, call.message(payload))
        if recall is None or not call.message_id:
            ready(None)
        else:
            session = self.session
            self._state.turns.left -= len(self._state.others)
            recall.ask(self.number, session.id, session.owner, call.message_id, ready)

    def _ready(self, message: bytes, refusal: InvalidMessage | None) -> None:
        """Go on with a message that may be handled, unless the client has gone meanwhile."""

        def go_on() -> None:
            if refusal is not None:
                self.answer(refused(refusal))
            else:
                self._is_given = True
                self.session.inbox.put([message])

        if self._is_busy:
            go_on()
        elif self.closed is None:
            self._step(go_on)

    def _step(self, step: Callable[[], None]) -> None:
        """Take a step of the request, and handle what it has brought."""
        self._guarded(step)
        if self.closed is None:
            self._state.deadlines.schedule(self)
            if self.work():
                self._state.turns.wait(self)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step that may find the answer, which is given behind it."""
        was_busy, self._is_busy = self._is_busy, True
        try:
            step()
        except BaseException:  # a fault, or out of a signal handler
            self.carrier.abort()
            raise
        finally:
            self._is_busy = was_busy
        if not was_busy:
            self._settle()

    def _settle(self) -> None:
        response = self._response
        if response is None or self.closed is not None:
            return
        self.closed = Closed(1006, f"HTTP status {response.status}", ClosedBy.LOCAL)
        self.carrier.respond(_with(response, self._fields))
        self.lost(self.closed)


def _check_stream(session: ServerSession, wanted: Subscribe, limits: ServerLimits) -> None:
    """Refuse a ``HEAD`` of a stream that would be refused; no hook is asked about it."""
    if wanted.client_id:
        rules.check_id(wanted.client_id, session.permissions, limits)
    for one in wanted.wanted:
        rules.check_subscribe(one.scope(), session.permissions, limits)


def _is_blocked(session: ServerSession) -> bool:
    """Tell whether the client is not heard now."""
    is_delayed = session.throttle is not None and session.throttle.resume_at is not None
    return session.gate.holds or session.gate.is_over or is_delayed


def _with(response: HttpResponse, fields: tuple[tuple[str, str], ...]) -> HttpResponse:
    """Return an answer with further header fields."""
    return replace(response, headers=response.headers + fields)
