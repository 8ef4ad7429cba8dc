"""Admits clients: the upgrade, the token, the id.

Each step may wait for a hook of the program. The client is not heard meanwhile: what it sends
waits until the hook has answered::

    CONNECTING --requested--> DECIDING --accepted--> ADMITTED --registered--> REGISTERED
                                                      |    ^                   |     ^
                                                  asked  judged              asked judged
                                                      v    |                   v     |
                                                     JUDGING                  REJUDGING

Every phase can end in OVER. Without a hook, a client passes through DECIDING at once. The hook
judges a token in the header of the upgrade while DECIDING; a token in the first ping, and the id
that it asks for, while JUDGING; and while REJUDGING a new token or id of a registered client, and a
subscription of it. In a cluster a client is not heard either while we ask where another one is.
"""

from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Protocol

from kps.errors import Refused
from kps.protocol.access import rules
from kps.protocol.access.identity import Identity
from kps.protocol.dialect.codes import EXPIRED
from kps.protocol.dialect.envelope import Fields, InvalidMessage, text
from kps.protocol.dialect.level2 import NAMES_A_REQUEST
from kps.protocol.dialect.outcome import in_words
from kps.protocol.dialect.server import ServerLevel1, agreed
from kps.protocol.limits import shown
from kps.protocol.server.events import (
    ClientRegistered,
    ConnectedClient,
    ConnectRequested,
    HubEvent,
    OriginRefused,
    TokenPresented,
    UpgradeRequested,
)
from kps.protocol.server.ports import Client, Transport
from kps.protocol.server.routes import UNAUTHORIZED
from kps.protocol.server.state import ServerState
from kps.protocol.wire.http import HttpRequest, HttpResponse


class Phase(Enum):
    """The phases of a client's admission."""

    CONNECTING = auto()
    """Its upgrade request is not complete."""
    DECIDING = auto()
    """A hook decides on the upgrade, or judges the token in its header."""
    ADMITTED = auto()
    """It may send messages, and has not registered."""
    JUDGING = auto()
    """A hook judges its token or its id."""
    REGISTERED = auto()
    """It has an id and uses the bus."""
    REJUDGING = auto()
    """It uses the bus, and a hook judges something that it wants."""
    OVER = auto()
    """It has left."""


class Step(Enum):
    """The events that change the phase of a client."""

    REQUESTED = auto()
    ACCEPTED = auto()
    ASKED = auto()
    JUDGED = auto()
    REGISTERED = auto()


TRANSITIONS: dict[Phase, dict[Step, Phase]] = {
    Phase.CONNECTING: {Step.REQUESTED: Phase.DECIDING},
    Phase.DECIDING: {Step.ACCEPTED: Phase.ADMITTED},
    Phase.ADMITTED: {Step.ASKED: Phase.JUDGING, Step.REGISTERED: Phase.REGISTERED},
    Phase.JUDGING: {Step.JUDGED: Phase.ADMITTED},
    Phase.REGISTERED: {Step.ASKED: Phase.REJUDGING},
    Phase.REJUDGING: {Step.JUDGED: Phase.REGISTERED},
    Phase.OVER: {},
}

# Python 3.11 finds a name of a module ten times as fast as an attribute of an enum.
_JUDGING = Phase.JUDGING
_REJUDGING = Phase.REJUDGING
_OVER = Phase.OVER


_Known = tuple[Identity | None, float | None]
"""The identity of a client, and when that expires."""


class Applicant(Client, Protocol):
    """The session of the client, as the gate sees it."""

    number: int
    peer: str
    dialect: ServerLevel1

    def speak(self, dialect: ServerLevel1) -> None:
        """Switch to a dialect."""

    def reply(self, message: bytes) -> bool:
        """Answer the client."""

    def refuse(self, error: InvalidMessage, request: Fields) -> None:
        """Answer the client with an error."""


class Gate:
    """Admits one client, or refuses it."""

    is_for_one_request = False
    """Whether the client is one for the time of a request, and gets one answer."""

    __slots__ = ("_applicant", "_question", "_state", "_transport", "ends_at", "identity", "phase",
                 "register_by")  # fmt: skip

    def __init__(self, state: ServerState, transport: Transport, applicant: Applicant) -> None:
        self.phase = Phase.CONNECTING
        self.identity: Identity | None = None
        """The client's identity; ``None`` until it is known."""
        self.register_by: float | None = None
        """The time by which the client must have registered."""
        self.ends_at: float | None = None
        """The time at which its identity expires."""
        self._state = state
        self._transport = transport
        self._applicant = applicant
        self._question: Callable[[object], None] | None = None  # what to do with a verdict

    @property
    def is_over(self) -> bool:
        """Whether the client has left."""
        return self.phase is _OVER

    @property
    def holds(self) -> bool:
        """Whether the client is not heard, because a hook judges something that it wants."""
        return self.phase is _JUDGING or self.phase is _REJUDGING

    @property
    def known(self) -> Identity:
        """The identity. A client that registers or is registered always has one."""
        assert self.identity is not None
        return self.identity

    # -- the upgrade ------------------------------------------------------------------------

    def requested(self, request: HttpRequest) -> None:
        """Decide on an upgrade, or ask the program to decide."""
        self._move(Step.REQUESTED)
        if refusal := refusal_at_once(self._state, request):
            self._transport.refuse(refusal)
        elif self._state.config.asks_upgrade:
            self._state.emit(UpgradeRequested(self._applicant.number, request))
        else:
            self.decide(True, request)

    def decide(self, verdict: object, request: HttpRequest) -> None:
        """Accept or refuse an upgrade, as a hook decided."""
        config = self._state.config
        if isinstance(verdict, HttpResponse):
            self._transport.refuse(verdict)
        elif isinstance(verdict, Identity):
            self._become(verdict)
            self._accept()
        elif verdict is not True:
            self._tell("the program refused the upgrade", verdict)
            self._transport.refuse(HttpResponse.text(403, "forbidden"))
        elif config.asks_token and request.token:
            applicant = self._applicant
            self._state.emit(TokenPresented(applicant.number, request.token, applicant.peer))
        else:
            self._accept()

    def judge_header(self, verdict: object, request: HttpRequest) -> None:
        """Take a hook's verdict on the token in the header of an upgrade."""
        if refusal := _refusal_of(verdict, self):
            self._tell(refusal, verdict)
        is_settled = isinstance(verdict, (HttpResponse, Identity))
        self.decide(verdict if is_settled else UNAUTHORIZED, request)

    def _accept(self) -> None:
        state = self._state
        if self.identity is None and not state.config.asks_token:
            self.identity = state.anybody
        self.register_by = state.now + state.limits.register_timeout
        self._move(Step.ACCEPTED)
        self._transport.accept()

    # -- registering ------------------------------------------------------------------------

    def ping(self, fields: Fields) -> None:
        """Register the client, or have its token judged first."""
        if self._state.config.asks_token:
            token = fields.get("token")
            if token is not None and type(token) is not str:
                raise InvalidMessage("field token must be a string")
            if token:
                applicant = self._applicant
                self.hold(partial(self._judge_token, what_matters_in(fields)))
                self._state.emit(TokenPresented(applicant.number, token, applicant.peer))
                return
            if self.identity is None:
                self._turn_away("a token is needed", fields)
                return
        self._register(fields)

    def ask_for(self, event: HubEvent, request: Fields, go_on: Callable[[], None]) -> None:
        """Let the program decide on something that the client wants; go on if it agrees.

        ``go_on`` may refuse the request with :class:`InvalidMessage`, too.
        """

        def judged(verdict: object) -> None:
            try:
                if isinstance(verdict, Refused):
                    raise InvalidMessage(in_words(verdict), "forbidden")
                if verdict is not True:
                    raise InvalidMessage(_UNDECIDED, "unavailable")
                go_on()
            except InvalidMessage as error:
                self._applicant.refuse(error, request)

        self.hold(judged)
        self._state.emit(event)

    def hold(self, judged: Callable[[object], None]) -> None:
        """Hear the client no further until there is a verdict; call ``judged`` with that."""
        self._question = judged
        self._move(Step.ASKED)

    def judge(self, verdict: object) -> None:
        """Take a hook's verdict on what the client wants."""
        question = self._question
        if self.holds and question is not None:
            self._question = None
            self._move(Step.JUDGED)
            question(verdict)

    def _judge_token(self, ping: Fields, verdict: object) -> None:
        refusal = _refusal_of(verdict, self)
        if isinstance(verdict, Identity) and not refusal:
            before = self.identity, self.ends_at
            self._become(verdict)
            self._attempt(partial(self._register, ping, before), ping, before)
        elif isinstance(verdict, HttpResponse) and not self._applicant.id:
            self._tell(refusal)
            self._transport.close(1011, refusal)  # the client may retry after this code
        else:
            self._turn_away(refusal, ping, verdict)

    def _become(self, identity: Identity) -> None:
        self.identity = identity
        lifetime = identity.lifetime
        self.ends_at = None if lifetime is None else self._state.now + lifetime

    def _turn_away(self, reason: str, request: Fields, verdict: object = None) -> None:
        """Refuse a token, and close unless the client is already registered."""
        self._tell(reason, verdict)
        self._applicant.refuse(InvalidMessage(reason, "unauthorized"), request)
        if self.phase is Phase.ADMITTED:
            self._transport.close(1008, reason)

    def _tell(self, reason: str, verdict: object = None) -> None:
        """Tell the driver that a login was refused, perhaps by the verdict of a hook."""
        self._state.refuse_login(self._applicant.peer, reason, verdict)

    def _attempt(self, step: Callable[[], None], ping: Fields, before: _Known) -> None:
        """Take a step of a ping that had to wait. A refused one has no effect (spec, 5.5)."""
        try:
            step()
        except InvalidMessage as error:
            self.identity, self.ends_at = before
            self._applicant.refuse(error, ping)

    def _register(self, fields: Fields, before: _Known | None = None) -> None:
        """Register the client, or let the program decide on the id that it asks for.

        ``before`` is what was known of the client before this ``ping``, if that has changed.
        """
        state, applicant = self._state, self._applicant
        previous, config = applicant.id, state.config
        dialect = applicant.dialect if previous else agreed(fields.get("proto"), config.level)
        nonce = dialect.read_nonce(fields)  # first, so that a refusal changes nothing
        client_id = text(fields, "from")
        if not client_id:
            keeps = previous and dialect.keeps_id_in_ping
            client_id = previous if keeps else state.new_id()
        enter = partial(self._enter, client_id, dialect, nonce)
        if client_id == previous:
            enter()
            return
        known = before or (self.identity, self.ends_at)
        if state.names is not None:
            enter = partial(self._claim, client_id, what_matters_in(fields), enter, known)
        if not config.asks_connect:
            enter()
            return
        _check_id(state, applicant, self.known, client_id)
        client = ConnectedClient(
            client_id,
            self.known.name,
            applicant.peer,
            dialect.level,
            previous,
        )
        self.hold(partial(self._judge_id, what_matters_in(fields), enter, known))
        state.emit(ConnectRequested(applicant.number, client))

    def _claim(
        self, client_id: str, ping: Fields, enter: Callable[[], None], before: _Known
    ) -> None:
        """Claim an id in the cluster; go on once the client has it."""
        state = self._state
        assert state.names is not None
        _check_id(state, self._applicant, self.known, client_id)

        def judged(verdict: object) -> None:
            if verdict is True:
                self._attempt(enter, ping, before)
            else:
                self.identity, self.ends_at = before
                _tell_of_id(state, self._applicant, self.known, client_id, _TAKEN)
                self._applicant.refuse(InvalidMessage(_TAKEN, "id_unavailable"), ping)

        self.hold(judged)
        verdict = state.names.claim(self._applicant.number, client_id, self.known.name)
        if verdict is not None:
            self.judge(verdict)

    def _judge_id(
        self, ping: Fields, enter: Callable[[], None], before: _Known, verdict: object
    ) -> None:
        if verdict is True:
            self._attempt(enter, ping, before)
            return
        self.identity, self.ends_at = before
        is_refused = isinstance(verdict, Refused)
        refusal = in_words(verdict) if isinstance(verdict, Refused) else _UNDECIDED
        self._tell(refusal)
        if is_refused or self.phase is Phase.REGISTERED:
            code = "forbidden" if is_refused else "unavailable"
            self._applicant.refuse(InvalidMessage(refusal, code), ping)
        if self.phase is Phase.ADMITTED:  # the client may retry after 1011
            self._transport.close(1008 if is_refused else 1011, refusal)

    def _enter(self, client_id: str, dialect: ServerLevel1, nonce: str) -> None:
        """Let the client onto the bus under an id, if that is free."""
        state, applicant = self._state, self._applicant
        previous = applicant.id
        if client_id != previous:
            _check_id(state, applicant, self.known, client_id)
            _take_id(state, self.known, client_id)
            if self.phase is _OVER:
                if state.names is not None:
                    state.names.left(client_id)
                return  # closing the former holder of the id made this client's queue overflow
            if previous:
                del state.clients[previous]
                if state.names is not None:
                    state.names.left(previous)
            else:
                applicant.speak(dialect)
                self.register_by = None
                state.stats.connections += 1
            applicant.id = client_id
            state.clients[client_id] = applicant
            if previous:
                state.presence.renamed(applicant, previous)
            self._move(Step.REGISTERED)
            state.emit(ClientRegistered(applicant.number, client_id, previous, applicant.peer))
        limits = state.limits
        applicant.reply(
            dialect.pong(
                client_id,
                limits.max_message,
                limits.heartbeat_interval,
                self._state.message_ids.window,
                nonce,
            )
        )

    # -- the end ----------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due while the connection is open."""
        if self.register_by is None or self.ends_at is None:
            return self.ends_at if self.register_by is None else self.register_by
        return min(self.register_by, self.ends_at)

    def handle_timeout(self) -> None:
        """Close the connection of a client whose time is over."""
        now = self._state.now
        if self.register_by is not None and now >= self.register_by:
            self._transport.fail(1008, "there was no ping in time")
        elif self.ends_at is not None and now >= self.ends_at:
            self._transport.close(EXPIRED, "the time of the token is over")

    def end(self) -> None:
        """Note that the client left."""
        self.phase = _OVER
        self._question = None

    def _move(self, step: Step) -> None:
        """Take a step. A phase ignores a step that it does not list: the end may come first."""
        self.phase = TRANSITIONS[self.phase].get(step, self.phase)


def refusal_at_once(state: ServerState, request: HttpRequest) -> HttpResponse | None:
    """Return the refusal of a request that no hook is to see, if it is one."""
    refused = state.tally.refused
    if not state.admits:
        refused["stopping"] += 1
        return STOPPING
    if not state.origins.lets_in(request):
        refused["origin"] += 1
        origin = request.header("origin")
        if state.origins.is_news(origin):
            state.emit(OriginRefused(request.peer, origin))
        return HttpResponse.text(403, "origin not allowed")
    return None


def _refusal_of(verdict: object, gate: Gate) -> str:
    """Return why a verdict refuses the token of a client, or ``""``."""
    if isinstance(verdict, HttpResponse):
        return "the token could not be judged"
    if not isinstance(verdict, Identity):
        return "the token is not valid"
    is_other = gate.identity is not None and verdict.name != gate.identity.name
    if gate.phase is Phase.REGISTERED and is_other:
        return "the token is that of another identity"
    return ""


def _take_id(state: ServerState, identity: Identity, client_id: str) -> None:
    """Take an id for a client, from another connection if that holds it."""
    if state.names is None:
        state.owners.take(client_id, identity.name)
    other = state.clients.get(client_id)
    if other is not None:
        other.replaced()


def _check_id(state: ServerState, applicant: Applicant, identity: Identity, client_id: str) -> None:
    """Refuse an id that a client may not have, or that belongs to another one, and tell of it."""
    try:
        _find_fault(state, identity, client_id)
    except InvalidMessage as error:
        _tell_of_id(state, applicant, identity, client_id, str(error))
        raise


def _tell_of_id(
    state: ServerState, applicant: Applicant, identity: Identity, client_id: str, reason: str
) -> None:
    """Tell the driver that a client may not have an id."""
    whose = f", for {shown(identity.name)}" if identity.name else ""
    state.refuse_login(applicant.peer, reason, why=f"the id {shown(client_id)}{whose}")


def _find_fault(state: ServerState, identity: Identity, client_id: str) -> None:
    names = state.names
    if client_id == state.config.id or (names is not None and names.is_node(client_id)):
        raise InvalidMessage("this id is the server's own", "id_unavailable")
    rules.check_id(client_id, identity.permissions, state.limits)
    if state.names is not None:
        return  # the home of the id knows whose it is
    other = state.clients.get(client_id)
    is_taken = other is not None and other.owner_name != identity.name
    if is_taken or not state.owners.may_use(client_id, identity.name):
        raise InvalidMessage(_TAKEN, "id_unavailable")


def what_matters_in(request: Fields) -> Fields:
    """Return the fields of a request that have a meaning while it waits for a verdict.

    Of arrays and objects it has only their type.
    """
    return {
        name: type(value)() if type(value) in (list, dict) else value
        for name, value in request.items()
        if name in _MATTERS
    }


_MATTERS = ("action", "from", "proto", *NAMES_A_REQUEST)
_UNDECIDED = "the server could not decide on this"
_TAKEN = "this id belongs to another client"

STOPPING = HttpResponse.text(503, "the server is stopping")
