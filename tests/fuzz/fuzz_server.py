"""A server: what any clients may do, in any order, and what must hold after each step.

Guests connect, register, send messages and nonsense, read or do not read, leave or vanish; the
server's own program takes part; time passes. After each step the books of the core must be
right (see :mod:`tests.fuzz.invariants`), and whatever goes out must be well-formed. Nobody may
cause much more work than the core charges for it, or much longer answers than questions. When all
have left, nothing may be left of them.

What a connection asks its driver for is done: its transport is closed, and is not read from while
it wants a pause. It must then say when reading may go on.

Some inputs run twice, the second time with the bytes of the clients in other pieces: everyone
must then get the same. There no driver pauses, as what is behind a pause may be read in one piece
with what is before it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from kps.errors import KPSError, Refused
from kps.protocol.access.admission import read_networks
from kps.protocol.access.identity import ALL, Identity, Permissions
from kps.protocol.build import BUILD
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.history import History
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.dialect.requests import NO_DEMANDS, Demands
from kps.protocol.limits import Overflow
from kps.protocol.patterns import InGroup, Key, Pattern
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.events import (
    ConnectRequested,
    RelayRequested,
    SubscriptionRequested,
    TokenPresented,
    Unsubscribed,
    UpgradeRequested,
)
from kps.protocol.server.session import ServerSession
from kps.protocol.server.turns import TURN, Turns
from kps.protocol.server_limits import RatePolicy, ServerLimits
from kps.protocol.wire.http import HttpResponse
from kps.protocol.wire.websocket import Output
from kps.testing.network import split
from tests.fuzz import grammar
from tests.fuzz.choices import Choices, chunk, sparing
from tests.fuzz.fuzz_frames import FIRST, MANY, any_frame, whole_text
from tests.fuzz.invariants import (
    check_hub,
    check_hub_is_empty,
    check_nothing_due,
    check_reading,
    is_told,
)
from tests.fuzz.seeds import Step, vectors
from tests.fuzz.work import Weighed
from tests.protocol.helpers import (
    KEY,
    PONG,
    Answer,
    Fields,
    Peer,
    Stage,
    close_frame,
    dismiss,
    frame,
    json_frame,
    upgrade,
)

WORDS = grammar.WORDS
MOST_STEPS = 100
MOST_GUESTS = 10

LIMITS = (
    ServerLimits(),
    ServerLimits(max_message=700, backlog_bytes=300, max_depth=3, max_batch=2),
    ServerLimits(
        max_topic=100,
        max_id=8,
        max_ack_id=8,
        max_subscriptions=2,
        max_topics=3,
        max_connections=6,
        max_connections_per_address=5,
        max_ids=2,
        max_pending_acks=2,
        max_awaited_acks=4,
        max_groups=2,
        max_concurrency=2,
        max_waiting=2,
        max_attempts=2,
        max_results=100,
        max_headers=100,
        max_message_ids=2,
        message_id_window=0.5,
        message_id_bytes=5000,
        max_info=10,
        max_members=2,
        presence_grace=0.5,
        history_bytes=3000,
        history_topics=2,
        max_positions=2,
    ),
    ServerLimits(message_rate=20, byte_rate=4000),
    ServerLimits(message_rate=20, byte_rate=4000, rate_policy=RatePolicy.ERROR),
    ServerLimits(message_rate=20, byte_rate=4000, rate_policy=RatePolicy.CLOSE),
    ServerLimits(queue_messages=4, queue_bytes=2000),
    ServerLimits(
        queue_messages=4, queue_bytes=2000, overflow=Overflow.DROP_OLDEST, mailbox_messages=2
    ),
    ServerLimits(
        queue_messages=4, queue_bytes=2000, overflow=Overflow.DROP_NEWEST, mailbox_bytes=200
    ),
)
ANYTHING = Permissions(relay=ALL, peer=True, console=True, presence=ALL, disconnect=ALL)
LITTLE = Permissions(
    publish=("r*",), subscribe=("*e*",), direct=("a", "server"), ids=("a", "b", "c"), relay=ALL
)
CONFIGS: tuple[dict[str, Any], ...] = (
    {"permissions": ANYTHING},
    {"permissions": ANYTHING, "is_monitored": True},
    {"permissions": ANYTHING, "asks_upgrade": True},
    {"permissions": ANYTHING, "asks_token": True},
    {"permissions": ANYTHING, "level": 1},
    {"permissions": LITTLE, "is_monitored": True},
    {"permissions": ANYTHING, "proxies": read_networks(["192.0.2.0/24"])},
    {"permissions": ANYTHING, "asks_subscribe": True, "tells_unsubscribe": True},
    {"permissions": ANYTHING, "asks_token": True, "asks_connect": True},
    {"permissions": ANYTHING, "history": (History("r*", size=3, ttl=2.0), History("**", size=5))},
)
IDENTITIES = (
    Identity("alice", ANYTHING),
    Identity("bob", LITTLE, 5.0),
    Identity("", ANYTHING, 0.0),
)
DEMANDS = (
    NO_DEMANDS,
    Demands(retries=2),
    Demands(message_key="k"),
    Demands(("a",), ("g", "h"), "l", 1),
)
SHORT_TURN = 50
"""Units after which most of what comes together has to wait for its turn."""
LONG_ENOUGH = 2000.0
"""Seconds after which nothing is waited for: what was sent too fast takes long to be worked off."""
SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 7.25, 10.0, 26.0, 46.0, 310.0)

MOST_WAITING = 10_000
"""Bytes that the network takes for a server that does not read; not a bound of a single write."""

# What names a request, in the answers to it.
NAMES = frozenset(("request", "topic", "pattern", "group", "to", "ack_id", "receipt", "nonce"))
SENT = {
    **grammar.SENT_BY_SERVER,
    "pong": grammar.SENT_BY_SERVER["pong"] | {"nonce"},
    "error": frozenset(("error", "code", "refused")) | NAMES,
}
ANSWERS = frozenset(SENT) - {
    *("publish", "publish_ack", "direct_message", "ack_update", "ack_response", "ack_status"),
    "presence",
}
"""What a client gets for one message of its own, without anything that others sent."""
LARGEST_ANSWER = 280
"""Bytes of an answer, apart from what it repeats."""
PING = {"ping": grammar.TO_SERVER["ping"]}
NONCES = (b'"n1"', b'"n1"', b'"n2"', b'""', b"null", b"5")


def one_input(data: bytes) -> None:
    """Bytes: the limits, the configuration, the sizes of the pieces, and steps."""
    whole = World(Choices(data), in_pieces=False)
    whole.run()
    if whole.has_twin:
        pieces = World(Choices(data), in_pieces=True)
        pieces.run()
        for one, other in zip(whole.guests, pieces.guests, strict=True):
            one.check_same(other)


Members = dict[str, Any]


class Guest:
    """One connection, and what came over it."""

    def __init__(self, world: "World") -> None:
        self.peer = Peer(world.stage.hub, world.stage.clock)
        self.connection: WebSocketConnection = self.peer.connection
        self.session: ServerSession = self.peer.session
        self.heeds_pauses = not world.has_twin
        self.is_read = True
        """Whether its driver reads."""
        self.rests = False
        """Whether its driver has other things to do."""
        self.waiting: list[bytes] = []
        """What it has written, and has not been read; at its end what says that this is all."""
        self.is_gone = False
        """Whether its transport is."""
        self.reads = True
        self.answers = True
        """Whether it answers pings."""
        self.half_closed = False
        self.was_cut = False
        self.got: list[Fields] = []
        """Every message, those of arrays and batches one by one."""
        self.seen = 0
        """Publications and direct messages among them."""
        self.fed = 0
        """Bytes that the server has read from it."""
        self.replied = 0
        """Bytes of messages that answer its own."""
        self.known_as = ""
        """The id in the last pong."""
        self.observed: dict[str, Members | None] = {}
        """Whom it knows on the topics that it observes; ``None`` for too many."""
        self.pinged = 0
        self.requests: Counter[str] = Counter()
        """How often an ack id may be answered: it was in what this guest sent."""
        self.nonces: Counter[str] = Counter()
        """How often a nonce may come back, likewise."""
        self._clock = world.stage.clock
        self._head = b""

    @property
    def is_open(self) -> bool:
        return self.peer.answer is not None and self.peer.answer.status == 101

    def feed(self, data: bytes, sizes: Sequence[int]) -> None:
        if sum(map(len, self.waiting)) <= MOST_WAITING and END not in self.waiting:
            self.waiting += split(data, sparing(sizes, len(data)))
            self.read_on()

    def end_sending(self) -> None:
        if END not in self.waiting:
            self.waiting.append(END)
            self.read_on()

    def read_on(self) -> None:
        """Let the driver read what waits, until it is to pause."""
        now = self._clock.now
        while self.waiting and self.is_read and not self.is_gone:
            piece = self.waiting.pop(0)
            if piece:
                self.fed += len(piece)
                self.connection.receive_data(piece, now)
            else:
                self.connection.receive_eof(now)
            self.see_to_reading()

    def see_to_reading(self) -> None:
        """Read, or do not, as the connection wants it."""
        connection = self.connection
        if self.heeds_pauses and not self.is_gone:
            pauses = (self.rests or connection.wants_pause) and connection.output is Output.KEEP
            if pauses is self.is_read:
                self.is_read = not pauses
                connection.set_reading(self.is_read, self._clock.now)

    def check_reading(self) -> None:
        """Whether the connection has said that reading may go on, if it may."""
        if self.heeds_pauses and not self.is_gone:
            check_reading(self.connection, is_read=self.is_read)
            assert self.is_read or self.rests or self.connection.wants_pause
            assert not (self.is_read and self.waiting)

    def check_registration(self) -> None:
        """Whether it knows of the id that it has: a ping that is refused changes nothing."""
        if self.connection.closed is None and not self.session._transport.queued_bytes:
            assert self.session.id == self.known_as

    def take(self, limit: int) -> bytes:
        """Read up to so many bytes."""
        data = self.connection.data_to_send(limit)
        self.peer.raw += data
        if not self.is_open:
            self._head += data
            data = self._open()
        self.peer.inbox.feed(data)
        for fields in self.peer.inbox.take():
            self._check(fields)
        return data

    def take_all(self) -> None:
        while self.session._transport.queued_bytes:
            self.take(1 << 20)
        assert self.connection.data_to_send() == b""

    def end(self, now: float) -> None:
        self.is_gone = True
        self.connection.connection_lost(now)

    def check_end(self) -> None:
        """What must hold once it is gone."""
        if self._head and not self.was_cut:
            self.peer.answer = Answer(self._head, "HEAD" if self._is_head() else "GET")
        if self.is_open and self.session.dialect.level == 1:
            assert self.peer.inbox.frames == len(self.got), "an array on level 1"
        closed = self.connection.closed
        assert closed is not None
        assert self.session.delivered <= self.seen + self.connection.dropped, "lost silently"
        asked = 1.1 * self.fed + LARGEST_ANSWER * (1 + self.session.received)
        assert self.replied <= asked, f"{self.replied} bytes of answers to {self.fed}"

    def check_same(self, other: "Guest") -> None:
        """The same as in the other world; who was cut off may have read less there."""
        mine, others = comparable(self.got), comparable(other.got)
        for name in mine.keys() | others.keys():
            got, other_got = mine.get(name, []), others.get(name, [])
            least = min(len(got), len(other_got))
            assert got[:least] == other_got[:least]
            assert self.was_cut or len(got) == len(other_got)
        if not self.was_cut:
            one, two = self.peer.inbox.closed, other.peer.inbox.closed
            assert (one and one[0]) == (two and two[0])
        assert self.session.id == other.session.id
        assert self.session.dialect is other.session.dialect

    def _open(self) -> bytes:
        """Take the answer to the request, if it is all there; return what is behind it."""
        if b"\r\n\r\n" not in self._head or not self._head.startswith(b"HTTP/1.1 101 "):
            return b""
        self.peer.answer = Answer(self._head)
        self._head = b""
        return self.peer.answer.rest

    def _is_head(self) -> bool:
        request = self.connection._socket.request
        return request is not None and request.method == "HEAD"

    def _check(self, fields: Fields) -> None:
        action = fields["action"]
        extra = set(fields) - SENT[action] - {"action"}
        assert not extra, f"{action} with {extra}"
        self._follow(fields)
        if action in ANSWERS:
            fields.pop("presence", None)  # what others have said about themselves
            self.replied += len(orjson.dumps(fields))
        if action == "pong":
            self.known_as = fields["id"]
        if action in ("pong", "presence") and "nonce" in fields:
            assert self.session.dialect.level > 1
            self.nonces[fields["nonce"]] -= 1
            assert self.nonces[fields["nonce"]] >= 0, "a nonce that was not asked for"
        if "headers" in fields:
            assert self.session.dialect.level > 1
            assert fields["headers"]
            assert all(type(text) is str for text in fields["headers"].values())
        if "refused" in fields:
            assert self.session.dialect.level > 1
            assert not NAMES & set(fields), "one refusal of one message and of several"
            assert fields["refused"]
            assert all(named and named.keys() <= NAMES for named in fields["refused"])
        if action == "ack_response":
            self.requests[fields["ack_id"]] -= 1
            assert self.requests[fields["ack_id"]] >= 0, "an answer too many"
        batch = fields.get("batch")
        if action == "publish" and batch is not None:
            assert self.session.dialect.level > 1
            assert len(batch) > 1
            del fields["batch"]
            self.got += [{**fields, "data": data} for data in batch]
            self.seen += len(batch)
        else:
            self.got.append(fields)
            self.seen += action in ("publish", "publish_ack", "direct_message")

    def _follow(self, fields: Fields) -> None:
        """Take what a message tells of the members of a topic (spec, 17.2)."""
        action, topic = fields["action"], fields.get("topic", "")
        told = fields.get("presence") if action == "subscribed" else fields
        if action == "unsubscribed":
            self.observed.pop(topic, None)
        if action not in ("subscribed", "presence") or told is None:
            return
        assert self.session.dialect.level > 1
        assert told["count"] >= 0
        assert not ("members" in told and ("joined" in told or "left" in told))
        listed = read_members(told["members"]) if "members" in told else None
        assert listed is None or len(listed) == told["count"]
        if "nonce" in fields:
            return
        assert told["version"] > 0
        if action == "subscribed" or listed is not None:
            self.observed[topic] = listed
        elif topic in self.observed:
            self.observed[topic] = self._changed(self.observed[topic], told)

    def _changed(self, before: Members | None, told: Fields) -> Members | None:
        came, went = told.get("joined"), told.get("left")
        if came is None and went is None:
            return None
        assert before is not None, "changes of what nobody knows"
        gone = {one["id"] for one in went or ()}
        assert not gone & read_members(came or []).keys()
        members = {name: info for name, info in before.items() if name not in gone}
        members |= read_members(came or [])
        assert len(members) == told["count"]
        return members

    def check_observed(self, world: "World") -> None:
        """Whether it knows of all that there is, once all is told."""
        for topic, roster in world.hub.state.presence._rosters.items():
            if self.session in roster.observers and is_told(roster, self.session):
                expected: Members | None = None
                if not roster.is_long:
                    members = roster.members.items()
                    expected = {n: orjson.loads(one.info or b"null") for n, one in members}
                assert self.observed[topic] == expected


def read_members(entries: list[Fields]) -> Members:
    members = {one["id"]: one.get("info") for one in entries}
    assert len(members) == len(entries), "one of them twice"
    return members


END = b""
"""What says that a guest sends nothing more."""


def comparable(messages: Sequence[Fields]) -> dict[str, list[Fields]]:
    """Without the figures, which count bytes and the like; what comes from each group by itself.

    Publications in a row go to each subscription one after the other. So a member of a group that
    is a subscriber as well may get one before or behind the other.
    """
    by_group: dict[str, list[Fields]] = {}
    for message in messages:
        if not str(message.get("topic", "")).startswith("__kps/"):
            group = f"{message.get('group')} of {message.get('pattern')}"
            by_group.setdefault(group if message["action"] == "publish" else "", []).append(message)
    return by_group


class World:
    """A hub, its guests and its own program, as an input wants them."""

    def __init__(self, choices: Choices, *, in_pieces: bool) -> None:
        self.choices = choices
        profile = choices.byte()
        limits = LIMITS[profile % len(LIMITS)]
        self.has_twin = limits is LIMITS[0] and profile & 0x80 != 0
        self.stage = Stage(limits=limits, **choices.pick(CONFIGS))
        self.hub = self.stage.hub
        # Of compiled code no calls can be counted.
        turns = Weighed if BUILD == "pure" else Turns
        self.hub.state.turns = turns(SHORT_TURN if profile & 0x40 else TURN)
        self.hub.addresses.add("localhost:9313")
        sizes = choices.sizes()
        self.sizes = sizes or [1] if in_pieces else []
        self.guests: list[Guest] = []
        self.mailboxes: list[Mailbox] = []
        self.messages: list[Message] = []
        self.handles: list[AckHandle] = []
        self.relays: list[RelayRequested] = []
        self.upgrades: list[UpgradeRequested] = []
        self.tokens: list[TokenPresented] = []
        self.asked: list[ConnectRequested | SubscriptionRequested] = []
        self.begun = self.ended = 0
        """Subscriptions of guests, and how many the program was told had ended."""
        self.hub.state.bus.on_join.append(self.note_join)
        self._due: dict[int, None] = {}

    @property
    def now(self) -> float:
        return self.stage.clock.now

    def run(self) -> None:
        for client_id, level in (("a", 1), ("b", 2), ("c", 2)):
            self.register(self.connect(), client_id, level)
        for _ in range(MOST_STEPS):
            if not self.choices:
                break
            step = self.choices.pick(STEPS)
            step(self)
            self.settle()
        self.finish()

    def settle(self) -> None:
        """Do what a driver does at the end of its turn, and look whether all is well."""
        is_moving = True
        while is_moving:
            is_moving = False
            for event in self.hub.events():
                if isinstance(event, RelayRequested):
                    self.relays.append(event)
                elif isinstance(event, UpgradeRequested):
                    self.upgrades.append(event)
                elif isinstance(event, TokenPresented):
                    self.tokens.append(event)
                elif isinstance(event, (ConnectRequested, SubscriptionRequested)):
                    self.asked.append(event)
                elif isinstance(event, Unsubscribed):
                    self.ended += 1
            due = dict.fromkeys(self.hub.take_unflushed())
            self._due |= due
            if self.hub.state.turns.are_due:
                is_moving = True
                self.hub.handle_timeout(self.now)
            for guest in self.guests:
                number = guest.connection.number
                if number in self._due and (guest.reads or self.has_twin):
                    is_moving = True
                    del self._due[number]
                    guest.take_all()
                    self.after_writing(guest)
                    guest.see_to_reading()
                elif number in due:
                    guest.see_to_reading()
                if guest.waiting and guest.is_read and not guest.is_gone:
                    is_moving = True
                    guest.read_on()
        for guest in self.guests:
            guest.check_reading()
            guest.check_registration()
            if guest.connection.closed is None and not guest.session._transport.queued_bytes:
                guest.check_observed(self)
            if not guest.is_gone and guest.connection.number not in self._due:
                # Otherwise no driver would look at it.
                assert guest.session._transport.queued_bytes == 0
                assert guest.connection.output is Output.KEEP or guest.half_closed
        here = {guest.connection.number for guest in self.guests if not guest.is_gone}
        assert here == set(self.hub.connections)
        check_hub(self.hub)

    def after_writing(self, guest: Guest) -> None:
        """Do with a transport what is to be done once all is written; answer pings."""
        if guest.is_gone:
            return
        output = guest.connection.output
        if output is Output.HALF_CLOSE:
            guest.half_closed = True
        elif output is not Output.KEEP:
            guest.was_cut = guest.was_cut or output is Output.ABORT
            guest.end(self.now)
        elif guest.answers and guest.peer.inbox.pings > guest.pinged:
            guest.pinged = guest.peer.inbox.pings
            guest.feed(frame(b"", opcode=PONG), ())

    def advance(self, seconds: float) -> None:
        """Let time pass, and a driver act at each deadline on the way."""
        end = self.now + seconds
        while (due := self.hub.next_deadline()) is not None and due <= end:
            self.stage.clock.now = max(self.now, due)
            self.hub.handle_timeout(self.now)
            check_nothing_due(self.hub.state.deadlines.next_deadline(), self.now)
            self.settle()
        self.stage.clock.now = end

    def finish(self) -> None:
        """Everyone leaves: some as time passes, because they are silent, the others at once."""
        if self.choices.flag():
            for guest in self.guests:
                guest.reads, guest.answers, guest.rests = True, False, False
                guest.see_to_reading()
            self.settle()
            self.judge_everyone()
            self.advance(LONG_ENOUGH)
            assert len(self.hub.state.acks) == 0
            assert all(guest.is_gone for guest in self.guests), "a dead peer was not noticed"
        for guest in self.guests:
            if not guest.is_gone:
                guest.was_cut = True
                guest.end(self.now)
                self.settle()
        for mailbox in self.mailboxes:
            self.hub.local.unsubscribe(mailbox)
        for message in self.messages:
            self.hub.local.settle(message, None, self.now)
        self.advance(LONG_ENOUGH)
        check_hub_is_empty(self.hub)
        assert all(handle.finished for handle in self.handles)
        assert self.ended == (self.begun if self.hub.config.tells_unsubscribe else 0)
        for guest in self.guests:
            guest.check_end()
        stats = self.hub.stats
        assert stats.bytes_out == sum(len(guest.peer.raw) for guest in self.guests)
        assert stats.lost <= stats.connections

    def judge_everyone(self) -> None:
        """The hooks answer in the end: while they do not, silence says nothing."""
        while self.tokens or self.upgrades or self.asked:
            for asked in self.asked:
                self.hub.judge(asked.session, None, self.now)
            self.asked.clear()
            for request in self.upgrades:
                self.hub.decide(request.session, True, self.now)
            for presented in self.tokens:
                self.hub.judge(presented.session, None, self.now)
            self.upgrades.clear()
            self.tokens.clear()
            self.settle()

    # -- guests ----------------------------------------------------------------------------

    def connect(self) -> Guest:
        guest = Guest(self)
        self.guests.append(guest)
        return guest

    def register(self, guest: Guest, client_id: str, level: int) -> None:
        """Let a guest in, and register it on a level."""
        guest.feed(upgrade(), self.sizes)
        self.settle()
        for request in self.upgrades:
            if request.session == guest.connection.number:
                self.hub.decide(request.session, True, self.now)
        ping = {"action": "ping", "from": client_id, "proto": level}
        if self.hub.config.asks_token:
            ping["token"] = "secret"
        guest.feed(json_frame(ping), self.sizes)
        self.settle()
        for presented in self.tokens:
            if presented.session == guest.connection.number:
                self.hub.judge(presented.session, IDENTITIES[0], self.now)
        self.settle()
        for asked in self.asked:
            if asked.session == guest.connection.number:
                self.hub.judge(asked.session, True, self.now)
        self.settle()

    def note_join(self, subscriber: Subscriber, key: Key) -> None:
        self.begun += subscriber is not self.hub.local

    def pick(self) -> Guest:
        return self.choices.pick(self.guests)

    def say(self, guest: Guest, text: bytes, times: int = 1) -> None:
        """A text message of a guest, or several that arrive at once."""
        self.note(guest, text, times)
        guest.feed(whole_text(text, KEY) * times, self.sizes)

    def note(self, guest: Guest, text: bytes, times: int) -> None:
        """Note which ack requests there may be in what a guest says."""
        with suppress(orjson.JSONDecodeError):
            loaded = orjson.loads(text)
            for fields in loaded if isinstance(loaded, list) else [loaded]:
                if isinstance(fields, dict):
                    for name, table in (("ack_id", guest.requests), ("nonce", guest.nonces)):
                        if isinstance(fields.get(name), str):
                            table[fields[name]] += times

    def message(self) -> bytes:
        last = f"ack_{self.hub.state.acks._count}".encode()
        return grammar.message(self.choices, grammar.TO_SERVER, last)

    def step_say(self) -> None:
        self.say(self.pick(), self.message())

    def step_say_several(self) -> None:
        guest = self.pick()
        self.say(guest, self.message(), self.choices.pick((2, 3, 10, 200)))

    def step_say_together(self) -> None:
        """Different messages, all of which arrive at once."""
        guest = self.pick()
        data = b""
        for _ in range(2 + self.choices.below(3)):
            message = self.message()
            self.note(guest, message, 1)
            data += whole_text(message, KEY)
        guest.feed(data, self.sizes)

    def step_ping(self) -> None:
        """A ping whose answer is to repeat something."""
        guest = self.pick()
        ping = grammar.message(self.choices, PING, b"")
        self.say(guest, ping[:-1] + b',"nonce":' + self.choices.pick(NONCES) + b"}")

    def step_say_array(self) -> None:
        guest = self.pick()
        count = self.choices.byte()
        messages = [self.message() for _ in range(count % 4)] * (100 if count & 0x80 else 1)
        self.say(guest, b"[" + b",".join(messages) + b"]")

    def step_say_text(self) -> None:
        guest = self.pick()
        self.say(guest, self.choices.chunk())

    def step_send_frame(self) -> None:
        guest = self.pick()
        guest.feed(any_frame(self.choices, KEY), self.sizes)

    def step_send_bytes(self) -> None:
        guest = self.pick()
        guest.feed(self.choices.chunk(), self.sizes)

    def step_close(self) -> None:
        guest = self.pick()
        guest.feed(close_frame(self.choices.pick((1000, 1001, 3000, 1005))), self.sizes)

    def step_end_sending(self) -> None:
        self.pick().end_sending()

    def step_vanish(self) -> None:
        guest = self.pick()
        if not guest.is_gone:
            guest.was_cut = True
            guest.end(self.now)
            self._due.pop(guest.connection.number, None)

    def step_connect(self) -> None:
        if len(self.guests) < MOST_GUESTS:
            guest = self.connect()
            level = self.choices.below(3)
            if level:
                self.register(guest, self.choices.pick(("a", "b", "c", "d", "")), level)
            else:
                guest.feed(upgrade(), self.sizes)

    def step_stop_reading(self) -> None:
        guest = self.pick()
        guest.reads = not guest.reads

    def step_rest(self) -> None:
        """The driver reads from somebody else for now, or does so no longer."""
        guest = self.pick()
        guest.rests = not guest.rests
        guest.see_to_reading()

    def step_stop_answering(self) -> None:
        guest = self.pick()
        guest.answers = not guest.answers

    def step_read_some(self) -> None:
        guest = self.pick()
        limit = 1 + 8 * self.choices.byte()
        if not guest.is_gone and not self.has_twin:
            guest.take(limit)
            if not guest.session._transport.queued_bytes:
                self._due.pop(guest.connection.number, None)
                self.after_writing(guest)
            guest.see_to_reading()

    # -- the server ------------------------------------------------------------------------

    def step_wait(self) -> None:
        self.advance(self.choices.pick(SECONDS))

    def step_judge_upgrade(self) -> None:
        verdict = self.choices.pick((True, False, HttpResponse.text(429, "later"), *IDENTITIES))
        if self.upgrades:
            self.hub.decide(self.upgrades.pop(0).session, verdict, self.now)

    def step_judge_token(self) -> None:
        verdict = self.choices.pick((*IDENTITIES, None, HttpResponse.text(503, "later")))
        if self.tokens:
            self.hub.judge(self.tokens.pop(0).session, verdict, self.now)

    def step_judge(self) -> None:
        verdict = self.choices.pick((True, Refused("no"), HttpResponse.text(500, "later"), None))
        if self.asked:
            self.hub.judge(self.asked.pop(0).session, verdict, self.now)

    def step_finish_relay(self) -> None:
        error = self.choices.pick((None, "connection refused"))
        if self.relays:
            relay = self.relays.pop(0)
            self.hub.relay_finished(relay.session, relay.to, error, self.now)

    def step_shut_down(self) -> None:
        grace = self.choices.pick((0.0, 1.0, 60.0))
        if not self.has_twin:  # in which order the sessions are closed is left open
            self.hub.shutdown(grace, self.now)

    def step_program(self) -> None:
        """Something that the server's own program does."""
        with suppress(KPSError):
            self.choices.pick(PROGRAM)(self)

    def topic(self) -> str:
        return self.choices.pick(("red", "green", "blue", ""))

    def key(self) -> Key:
        groups = (InGroup("red", "g"), InGroup(Pattern("*e*"), "g"))
        keys: tuple[Key, ...] = ("red", "green", Pattern("*e*"), Pattern("**"), "blue", "")
        return self.choices.pick((*keys, *groups))

    def payload(self) -> Any:
        return self.choices.pick((1, "text", None, {"data": 1}, "z" * 3000, {1, 2}))

    def headers(self) -> bytes:
        return self.choices.pick((b"", b"", b'{"a":"b"}', b'{"a":"' + b"h" * 300 + b'"}'))

    def client_id(self) -> str:
        return self.choices.pick(("a", "b", "c", "server", "nobody"))

    def program_subscribes(self) -> None:
        key, concurrency = self.key(), 1
        if isinstance(key, InGroup):
            concurrency = self.choices.pick((1, 3))
        self.mailboxes.append(self.hub.local.subscribe(key, concurrency=concurrency))

    def program_says_something(self) -> None:
        info = self.choices.pick((b'{"x":1}', b"{}", b'{"x":"' + b"i" * 1100 + b'"}'))
        self.hub.state.now = self.now
        self.mailboxes.append(self.hub.local.subscribe(self.topic(), info))

    def program_looks(self) -> None:
        presence = self.hub.local.presence(self.topic())
        assert presence.members is None or len(presence.members) == presence.count
        assert len(self.hub.directory.all(self.now)) == len(self.hub.clients)

    def program_dismisses(self) -> None:
        client_id = self.client_id()
        is_there = client_id in self.hub.clients
        assert dismiss(self.hub, client_id, "enough", self.now) is is_there

    def program_takes_direct(self) -> None:
        self.hub.local.subscriptions.open_direct()

    def program_unsubscribes(self) -> None:
        if self.mailboxes:
            self.hub.state.now = self.now
            self.hub.local.unsubscribe(self.mailboxes.pop(0))

    def program_publishes(self) -> None:
        self.hub.publish(self.topic(), self.payload(), self.now, self.headers())

    def program_writes(self) -> None:
        self.hub.publish_to_id(self.client_id(), self.payload(), self.now, self.headers())

    def program_asks_topic(self) -> None:
        timeout = self.choices.pick((2.0, 0.5, 1e9, 0.0))
        topic, payload, headers = self.topic(), self.payload(), self.headers()
        demands = self.choices.pick(DEMANDS)
        self.handles.append(
            self.hub.publish_with_ack(topic, payload, timeout, self.now, demands, headers)
        )

    def program_asks_id(self) -> None:
        timeout = self.choices.pick((2.0, 0.5, 1e9, -1.0))
        to, payload, headers = self.client_id(), self.payload(), self.headers()
        self.handles.append(
            self.hub.publish_to_id_with_ack(to, payload, timeout, self.now, headers)
        )

    def program_cancels(self) -> None:
        if self.handles:
            handle = self.choices.pick(self.handles)
            self.hub.ack_status(handle)
            self.hub.cancel_ack(handle)

    def program_takes(self) -> None:
        for mailbox in [*self.mailboxes, self.hub.local.subscriptions.open_direct()]:
            self.messages += mailbox.take_all()

    def program_settles(self) -> None:
        error = self.choices.pick((None, "no"))
        result = self.choices.pick((None, [1], "r" * 3000, {1}))
        if self.messages:
            self.hub.local.settle(self.messages.pop(0), error, self.now, result)


Act = Callable[[World], None]

STEPS: tuple[Act, ...] = (
    *(World.step_say,) * 4,
    World.step_say_together,
    World.step_rest,
    World.step_say_text,
    World.step_say_several,
    World.step_say_array,
    World.step_program,
    World.step_ping,
    *(World.step_program,) * 2,
    World.step_wait,
    World.step_connect,
    World.step_stop_reading,
    World.step_read_some,
    World.step_send_frame,
    World.step_send_bytes,
    World.step_close,
    World.step_end_sending,
    World.step_vanish,
    World.step_stop_answering,
    World.step_judge_upgrade,
    World.step_judge_token,
    World.step_finish_relay,
    World.step_shut_down,
    World.step_judge,
)
PROGRAM: tuple[Act, ...] = (
    World.program_subscribes,
    World.program_publishes,
    World.program_asks_topic,
    World.program_takes,
    World.program_settles,
    World.program_unsubscribes,
    World.program_writes,
    World.program_asks_id,
    World.program_takes_direct,
    World.program_cancels,
    World.program_says_something,
    World.program_looks,
    World.program_dismisses,
)


HOOKS: dict[str, Act] = {
    "asks_upgrade": World.step_judge_upgrade,
    "asks_token": World.step_judge_token,
    "asks_connect": World.step_judge,
    "asks_subscribe": World.step_judge,
}


@dataclass
class Script:
    """Steps put down as an input."""

    data: bytes

    def step(self, act: Act, *more: int, text: bytes | None = None) -> None:
        self.data += bytes([STEPS.index(act), *more])
        self.data += b"" if text is None else chunk(text)


def seeds() -> Iterator[bytes]:
    """The vectors of the specification, whose clients join those that are there; and floods."""
    yield from floods()
    twins = next(profile for profile in range(0x80, 0xC0) if profile % len(LIMITS) == 0)
    for number, steps in enumerate(vectors()):
        config = number % len(CONFIGS)
        script = Script(bytes([twins if number % 2 else 0, config, 0]))
        clients: dict[str, int] = {}
        for step in steps:
            add_step(script, clients, step)
            for name, act in HOOKS.items():
                if name in CONFIGS[config]:
                    script.step(act, 0)
        yield script.data + bytes([0])


def floods() -> Iterator[bytes]:
    """Very many small things at once, of each kind, with a whole turn for them and a short one."""
    odd = [*grammar.TO_SERVER].index("odd")
    short = next(profile for profile in range(0x40, 0x80) if profile % len(LIMITS) == 0)
    for profile in (0, short):
        for first in range(len(FIRST)):
            script = Script(bytes([profile, 0, 0]))
            script.step(World.step_send_frame, 1, first, MANY, 0)
            yield script.data + bytes([0])
        script = Script(bytes([profile, 0, 0]))
        script.step(World.step_say_array, 1, 0x83, *(odd, 0, 0) * 3)
        yield script.data + bytes([0])


def add_step(script: Script, clients: dict[str, int], step: Step) -> None:
    if step.kind == "open":
        clients[step.client] = 3 + len(clients)
        script.step(World.step_connect, 0)
        return
    if step.kind == "wait":
        nearest = min(SECONDS, key=lambda seconds: abs(seconds - step.seconds))
        script.step(World.step_wait, SECONDS.index(nearest))
        return
    who = clients[step.client]
    match step.kind:
        case "text":
            script.step(World.step_say_text, who, text=step.data)
        case "raw":
            script.step(World.step_send_bytes, who, text=step.data)
        case "close":
            script.step(World.step_close, who, 0)
        case "drop":
            script.step(World.step_vanish, who)
