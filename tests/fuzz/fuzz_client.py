"""A client session: what any server may send, while the program does what it likes.

Servers accept, refuse, answer, send nonsense and vanish; the network fails; the program
subscribes, publishes, asks and closes; time passes. After each step the books of the session
must be right, and whatever goes out must be well-formed. In the end nobody may still wait for
anything, and what the program published must have been written, or counted as dropped.

While a link wants a pause, its driver does not read; the session must then say when it may go on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kps.errors import KPSError
from kps.protocol.bus.ack_handle import AckChanged, AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.members import Presence, check_wish
from kps.protocol.bus.message import Message
from kps.protocol.client.events import (
    BarrierPassed,
    ClientEvent,
    Connected,
    ConnectNeeded,
    Disconnected,
    Ended,
    PresenceChanged,
    SubscriptionRefused,
)
from kps.protocol.client.pending import Barrier
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.requests import Demands
from kps.protocol.limits import ClientLimits, Overflow
from kps.protocol.patterns import InGroup, Key, Pattern
from kps.protocol.wire.websocket import Output
from kps.testing.network import split
from tests.fuzz import grammar
from tests.fuzz.choices import Choices, chunk
from tests.fuzz.fuzz_frames import any_frame, whole_text
from tests.fuzz.invariants import check_client, check_nothing_due, check_reading
from tests.fuzz.seeds import server_messages
from tests.fuzz.work import weighed
from tests.protocol.helpers import PONG, Client, FakeServer, Fields, close_frame, frame

WORDS = grammar.WORDS
MOST_STEPS = 100

LIMITS = (
    ClientLimits(),
    ClientLimits(mailbox_messages=40, mailbox_bytes=4000),
    ClientLimits(queue_messages=4, queue_bytes=2000),
    ClientLimits(queue_messages=4, queue_bytes=2000, overflow=Overflow.DROP_OLDEST),
    ClientLimits(
        queue_messages=4,
        queue_bytes=2000,
        overflow=Overflow.DROP_NEWEST,
        mailbox_messages=3,
        mailbox_overflow=Overflow.DROP_OLDEST,
    ),
    ClientLimits(max_message=700, max_head=300, backlog_bytes=300),
)
CONFIGS: tuple[dict[str, Any], ...] = (
    {},
    {"reconnect": Backoff(), "offline_messages": 5},
    {"reconnect": Backoff.every(1.0), "offline_messages": 50, "offline_bytes": 500},
    {"level": 1, "reconnect": Backoff(), "token": "secret"},
    {"reconnect": Backoff(), "token": lambda: "secret"},
    {"level": 1, "reconnect": Backoff(), "offline_messages": 5, "reports_messages": True},
)
SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 26.0, 46.0, 310.0)
MOST_WAITING = 10_000
"""Bytes that the network takes for a client that does not read; not a bound of a single write."""

DEMANDS = (
    Demands(message_key="k", retries=2),
    Demands(groups=("g", "h")),
    Demands(("a",), ("g",), "k", 1),
)
FEATURES = ["patterns", "history", "expect", "presence", "groups", "headers", "message_ids"]
WINDOW = {"window": "w", "seconds": 5, "most": 2, "time": 1000.5}

PUBLISHES = ("publish", "direct_message", "publish_to_server", "server-to-server")

SENT = {**grammar.SENT_BY_CLIENT, "ping": grammar.SENT_BY_CLIENT["ping"] | {"nonce"}}

LAST = b'"$last"'
"""Stands for the name of what was asked last."""
TOPIC = (b'"red"', b'"green"', b'"blue"', b'""')
GROUP = (grammar.ABSENT, b'"g"', b"5")
ANSWERS: dict[str, dict[str, Sequence[bytes]]] = {
    "pong": {"nonce": (LAST, b'"x"', b'""', b"null", b"5", grammar.ABSENT)},
    "ack_status": {"ack_id": (LAST, b'"x"', b"null"), "status": grammar.FIELDS["status"]},
    "published": {
        "receipt": (LAST, b'"x"', b"null", b"5", grammar.ABSENT),
        "delivered": grammar.FIELDS["delivered"],
    },
    "subscribed": {"topic": TOPIC, "presence": grammar.FIELDS["presence"], "group": GROUP},
    "presence": {
        "topic": TOPIC,
        "nonce": (LAST, grammar.ABSENT, b'"x"', b"5"),
        **{
            name: grammar.FIELDS[name] for name in ("count", "version", "members", "joined", "left")
        },
    },
    "unsubscribed": {"topic": TOPIC, "group": GROUP},
    "error": {
        "request": (
            b'"subscribe"',
            b'"unsubscribe"',
            b'"ping"',
            b'"publish"',
            b'"publish_with_ack"',
            grammar.ABSENT,
        ),
        "code": (b'"limit_reached"', b'"rate_limited"', b'"unavailable"', b'"forbidden"'),
        "topic": TOPIC,
        "group": GROUP,
        "nonce": (grammar.ABSENT, LAST, b'"x"', b"5"),
        "receipt": (grammar.ABSENT, LAST, b'"x"', b"5"),
        "ack_id": (grammar.ABSENT, LAST, b'"x"'),
        "refused": (
            grammar.ABSENT,
            b'[{"request":"subscribe","topic":"red"},{"request":"unsubscribe","topic":"red"}]',
            b'[{"request":"subscribe","topic":"red"},{"request":"subscribe","topic":"green"}]',
            b'[{"request":"ping","nonce":"$last"},{"request":"publish","receipt":"$last"},{},5]',
            b'[{"request":"publish_with_ack","ack_id":"$last","topic":"red"}]',
            b"[]",
            b"5",
        ),
    },
}
"""What servers answer, with the names of what it is about."""


def one_input(data: bytes) -> None:
    """Bytes: the limits, the configuration, and steps."""
    Story(Choices(data)).run()


class Server(FakeServer):
    """A server made by hand, with what its link wants noticed as a driver would."""

    def __init__(self, story: "Story") -> None:
        super().__init__(story.client.session, story.client.clock)
        self._story = story
        self.is_gone = False
        self.has_accepted = False
        self.reads = True
        self.answers = True
        self.pinged = 0
        self.is_read = True
        """Whether the client's driver reads."""
        self.rests = False
        """Whether that has other things to do."""
        self.waiting: list[bytes] = []
        """What it has written, and has not been read; at its end what says that this is all."""
        self._head = b""

    def take_some(self, limit: int) -> list[Fields]:
        """Read up to so many bytes; return the messages in them."""
        data = self.link.data_to_send(limit)
        if b"\r\n\r\n" not in self._head:
            self._head += data
            self.request, end, data = self._head.partition(b"\r\n\r\n")
            self.request += end
        if data:
            self.see_to_reading()
        self.inbox.feed(data)
        return self.inbox.take()

    def feed(self, data: bytes, sizes: Sequence[int] = ()) -> None:
        if sum(map(len, self.waiting)) <= MOST_WAITING and END not in self.waiting:
            self.waiting += split(data, sizes)
            self.read_on()

    def end_sending(self) -> None:
        if END not in self.waiting:
            self.waiting.append(END)
            self.read_on()

    def read_on(self) -> None:
        """Let the client's driver read what waits, until it is to pause."""
        now = self._clock.now
        while self.waiting and self.is_read and not self.is_gone:
            piece = self.waiting.pop(0)
            if piece:
                # Any of them may be given back, or end, at once.
                story = self._story
                kept = story.published + len(story.handles) + len(story.barriers)
                with weighed(len(piece), self.link._socket.reader, kept):
                    self.link.receive_data(piece, now)
            else:
                self.link.receive_eof(now)
            self.see_to_reading()

    def see_to_reading(self) -> None:
        """Read, or do not, as the link wants it."""
        link = self.link
        if not self.is_gone:
            pauses = (self.rests or link.wants_pause) and link.output is Output.KEEP
            if pauses is self.is_read:
                self.is_read = not pauses
                link.set_reading(self.is_read, self._clock.now)


END = b""
"""What says that a server sends nothing more."""


def check_presence(presence: Presence) -> None:
    """What has changed is so now."""
    there, came = set(presence.members or ()), set(presence.joined)
    assert came | set(presence.updated) <= there
    assert not came & set(presence.updated)
    assert not there & set(presence.left)


class Story:
    """A client session, its servers and its program, as an input wants them."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.client = Client(limits=choices.pick(LIMITS), **choices.pick(CONFIGS))
        self.session = self.client.session
        self.session.on_resume = self.resume
        self.events: list[ClientEvent] = []
        self.servers: list[Server] = []
        self.mailboxes: list[Mailbox] = []
        self.messages: list[Message] = []
        self.handles: list[AckHandle] = []
        self.barriers: list[Barrier] = []
        self.is_wanted = False
        """Whether the session has asked for a connection."""
        self.last = b"x"
        """The name of the latest question of the client's own."""
        self.forgotten: set[Barrier] = set()
        """Those for which nobody waits any longer."""
        self.is_quiet = False
        """Whether the driver looks at its links only if the session says that it may read on."""
        self.may_resume = False
        """Whether the session has said so."""
        self.published = 0
        """Messages that the session accepted, and may drop only if it counts them."""
        self.written = 0
        """Those of them that a server got."""

    @property
    def now(self) -> float:
        return self.client.now

    def run(self) -> None:
        self.settle()
        self.step_connect()
        self.settle()
        for _ in range(MOST_STEPS):
            if not self.choices:
                break
            step = self.choices.pick(STEPS)
            step(self)
            self.settle()
        self.finish()

    def resume(self) -> None:
        """Note that reading may go on."""
        self.may_resume = True

    def settle(self) -> None:
        """Do what a driver does at the end of its turn, and look whether all is well."""
        is_moving = True
        while is_moving or self.may_resume:
            is_moving = False
            if self.may_resume or not self.is_quiet:
                self.may_resume = False
                for server in self.servers:
                    server.see_to_reading()
            for server in self.servers:
                if not server.is_gone and (server.reads or server.link.output is Output.ABORT):
                    self.read(server)
                if server.waiting and server.is_read and not server.is_gone:
                    is_moving = True
                    server.read_on()
            self.take_events()
        self.is_quiet = False
        for server in self.servers:
            self.check_reading(server)
        check_client(self.session, self.now)
        assert self.session.backlog >= 0

    def check_reading(self, server: Server) -> None:
        """Whether the session has said that reading may go on, if it may."""
        if not server.is_gone:
            check_reading(server.link, is_read=server.is_read)
            assert server.is_read or server.rests or server.link.wants_pause
            assert not (server.is_read and server.waiting)

    def take_events(self) -> None:
        for event in self.session.events():
            self.events.append(event)
            if isinstance(event, ConnectNeeded):
                assert not self.is_wanted
                self.is_wanted = True
            elif isinstance(event, PresenceChanged):
                check_presence(event.presence)
        self.session.subscriptions.take_ready()
        self.session.subscriptions.take_overflowed()

    def read(self, server: Server) -> None:
        """Let a server read, and do with its transport what the client wants."""
        while server.link.outgoing.pending_bytes:
            for fields in server.take_some(1 << 20):
                self.check_sent(fields)
        output = server.link.output
        if output in (Output.CLOSE, Output.ABORT):
            self.lose(server)
        elif server.answers and server.inbox.pings > server.pinged and output is Output.KEEP:
            server.pinged = server.inbox.pings
            server.feed(frame(b"", opcode=PONG, key=None))

    def check_sent(self, fields: Fields) -> None:
        action = fields["action"]
        extra = set(fields) - SENT[action] - {"action"}
        assert not extra, f"{action} with {extra}"
        if action in PUBLISHES and "receipt" not in fields:
            batch = fields.get("batch", [None])
            assert len(batch) > 0
            self.written += len(batch)

    def advance(self, seconds: float) -> None:
        """Let time pass, and a driver act at each deadline on the way."""
        session, clock = self.session, self.client.clock
        end = clock.now + seconds
        while (due := session.next_deadline()) is not None and due <= end:
            clock.now = max(clock.now, due)
            session.handle_timeout(clock.now)
            check_nothing_due(session.next_deadline(), clock.now)
            self.settle()
        clock.now = end

    def lose(self, server: Server) -> None:
        server.is_gone = True
        server.hang_up()

    def finish(self) -> None:
        """The program closes, and the connections end: at once, or as time passes."""
        if self.choices.flag():
            for server in self.servers:
                server.reads, server.answers, server.rests = True, False, False
                server.see_to_reading()
            self.settle()
            self.session.close(self.now)
            self.settle()
            self.advance(310.0)
            assert all(server.is_gone for server in self.servers), "a dead peer was not noticed"
        self.session.close(self.now)
        for server in self.servers:
            if not server.is_gone:
                self.lose(server)
        for mailbox in self.mailboxes:
            self.session.unsubscribe(mailbox, self.now)
        for message in self.messages:
            self.session.settle(message, None, self.now)
        self.advance(310.0)
        self.take_events()
        self.client.check_over()
        assert self.session.subscriptions.keys == []
        assert self.session.members._known == {}
        self.check_events()
        assert self.published <= self.written + self.session.dropped, "lost silently"

    def check_events(self) -> None:
        """Each thing that was begun has ended, once, and the program was told."""
        ends = [event for event in self.events if isinstance(event, Ended)]
        assert len(ends) == 1
        after = self.events[self.events.index(ends[0]) :]
        assert not any(isinstance(event, (Connected, Disconnected)) for event in after)
        is_connected = False
        for event in self.events:
            if isinstance(event, (Connected, Disconnected)):
                assert is_connected is isinstance(event, Disconnected)
                is_connected = not is_connected
        changed = {id(event.handle) for event in self.events if isinstance(event, AckChanged)}
        assert all(handle.finished and id(handle) in changed for handle in self.handles)
        passed = [event.barrier for event in self.events if isinstance(event, BarrierPassed)]
        assert len(passed) == len(set(passed))
        assert set(self.barriers) - self.forgotten == set(passed)
        for event in self.events:
            if isinstance(event, SubscriptionRefused):
                assert all(mailbox.is_over for mailbox in event.mailboxes)
        for barrier in self.barriers:
            is_over = barrier.passed or barrier.error is not None
            assert is_over is (barrier not in self.forgotten)
            assert not (barrier.passed and barrier.error is not None)

    # -- the network and the servers -------------------------------------------------------

    def step_connect(self) -> None:
        """If it is wanted, open a transport; and let the client in, or not."""
        way = self.choices.below(4)
        if not self.is_wanted:
            return
        self.is_wanted = False
        self.session.renew_token()
        server = Server(self)
        self.servers.append(server)
        if way == 0:
            self.step_let_in()
            pong = {"action": "pong", "id": "me", "proto": 2, "features": FEATURES}
            server.send(pong | {"message_ids": WINDOW})
        elif way == 1:
            self.step_let_in()
            server.send({"action": "pong", "id": "other"})
        elif way == 2:
            self.step_let_in()

    def step_let_in(self) -> None:
        server = self.servers[-1] if self.servers else None
        if server is not None and not server.has_accepted and not server.is_gone:
            self.read(server)
            if not server.is_gone:
                server.has_accepted = True
                server.feed(server.acceptance())

    def step_refuse(self) -> None:
        status = self.choices.pick((b"503", b"403", b"101", b"999", b"x"))
        server = self.pick()
        if server is not None:
            server.feed(b"HTTP/1.1 " + status + b" no\r\nContent-Length: 0\r\n\r\n")

    def step_fail_to_connect(self) -> None:
        if self.is_wanted:
            self.is_wanted = False
            self.session.connect_failed("connection refused", self.now)

    def pick(self) -> Server | None:
        """One of the servers that are there, the latest first."""
        there = [server for server in reversed(self.servers) if not server.is_gone]
        return there[self.choices.byte() % 16 % len(there)] if there else None

    def feed(self, data: bytes) -> None:
        server = self.pick()
        if server is not None:
            server.feed(data, [64] if self.choices.below(4) == 3 else ())

    def message(self) -> bytes:
        return grammar.message(self.choices, grammar.TO_CLIENT, self.last)

    def step_say(self) -> None:
        self.feed(whole_text(self.message(), None))

    def step_say_several(self) -> None:
        self.feed(whole_text(self.message(), None) * self.choices.pick((2, 3, 10, 200)))

    def step_say_array(self) -> None:
        messages = [self.message() for _ in range(self.choices.below(4))]
        self.feed(whole_text(b"[" + b",".join(messages) + b"]", None))

    def step_answer(self) -> None:
        """An answer that names what it is about: often what was asked last."""
        action = self.choices.pick(list(ANSWERS))
        fields = {name: self.choices.pick(values) for name, values in ANSWERS[action].items()}
        answer = b'{"action":"' + action.encode() + b'"'
        for name, value in fields.items():
            if value:
                answer += b',"' + name.encode() + b'":' + value.replace(b"$last", self.last)
        self.feed(whole_text(answer + b"}", None))

    def step_say_text(self) -> None:
        self.feed(whole_text(self.choices.chunk(), None))

    def step_send_frame(self) -> None:
        self.feed(any_frame(self.choices, None))

    def step_send_bytes(self) -> None:
        self.feed(self.choices.chunk())

    def step_server_closes(self) -> None:
        code = self.choices.pick((1000, 1001, 4001, 1005))
        self.feed(close_frame(code, key=None))

    def step_server_ends_sending(self) -> None:
        server = self.pick()
        if server is not None:
            server.end_sending()

    def step_server_vanishes(self) -> None:
        server = self.pick()
        if server is not None:
            self.lose(server)

    def step_stop_reading(self) -> None:
        server = self.pick()
        if server is not None:
            server.reads = not server.reads

    def step_rest(self) -> None:
        """The client's driver does something else for now, or does so no longer."""
        server = self.pick()
        if server is not None:
            server.rests = not server.rests
            server.see_to_reading()

    def step_stop_answering(self) -> None:
        server = self.pick()
        if server is not None:
            server.answers = not server.answers

    def step_read_some(self) -> None:
        server = self.pick()
        limit = 1 + 8 * self.choices.byte()
        if server is not None:
            for fields in server.take_some(limit):
                self.check_sent(fields)

    def step_wait(self) -> None:
        self.advance(self.choices.pick(SECONDS))

    # -- the program -----------------------------------------------------------------------

    def step_forget(self) -> None:
        """Whoever waited for a barrier has given up; nobody is told of it any more."""
        if self.barriers:
            barrier = self.choices.pick(self.barriers)
            if not barrier.passed and barrier.error is None:
                self.forgotten.add(barrier)
            self.session.asking.forget(barrier)

    def step_program(self) -> None:
        """Something that the program does; what it may not do raises what is documented."""
        with suppress(KPSError):
            self.choices.pick(PROGRAM)(self)

    def topic(self) -> str:
        return self.choices.pick(("red", "green", "blue", ""))

    def key(self) -> Key:
        groups = (InGroup("red", "g"), InGroup(Pattern("*e*"), "g"))
        keys: tuple[Key, ...] = ("red", "green", Pattern("*e*"), Pattern("**"), "blue", "")
        return self.choices.pick((*keys, *groups))

    def payload(self) -> Any:
        return self.choices.pick((1, "text", None, {"data": 1}, "z" * 1500, {1, 2}, "z" * 190))

    def subscribes(self) -> None:
        key, concurrency = self.key(), 1
        if isinstance(key, InGroup):
            concurrency = self.choices.pick((1, 3))
        mailbox = self.session.subscribe(key, self.now, concurrency=concurrency)
        mailbox.waiters = self.choices.below(2)
        self.mailboxes.append(mailbox)

    def observes(self) -> None:
        """Subscribe to a topic, and say something about itself or want to know who is there."""
        topic, info = self.topic(), self.choices.pick(({"x": 1}, None, {}, {"x": 1e400}, 5))
        observer = self.choices.pick((check_presence, None))
        wish = check_wish(topic, info, observer)
        self.mailboxes.append(self.session.subscribe(topic, self.now, wish=wish, observer=observer))

    def asks_who_is_there(self) -> None:
        self.waits_for(self.session.members.ask(self.topic(), self.now))

    def takes_direct(self) -> None:
        self.session.subscriptions.open_direct()

    def unsubscribes(self) -> None:
        if self.mailboxes:
            self.session.unsubscribe(self.mailboxes.pop(0), self.now)

    def publishes(self) -> None:
        self.session.publish(self.topic(), self.payload(), self.now)
        self.published += 1

    def publishes_often(self) -> None:
        topic, payload = self.topic(), self.payload()
        for _ in range(self.choices.pick((3, 10, 100))):
            self.session.publish(topic, payload, self.now)
            self.published += 1

    def writes(self) -> None:
        self.session.publish_to_id(self.choices.pick(("a", "")), self.payload(), self.now)
        self.published += 1

    def sends_with_headers(self) -> None:
        """Publish, write or ask, with headers."""
        way, topic, payload = self.choices.below(5), self.topic(), self.payload()
        headers = self.choices.pick((b'{"a":"b"}', b'{"a":"' + b"h" * 300 + b'"}'))
        session, asking, now = self.session, self.session.asking, self.now
        if way == 0:
            session.sender.publish_with_headers(topic, payload, now, headers)
            self.published += 1
        elif way == 1:
            session.publish_to_id(topic, payload, now, headers)
            self.published += 1
        elif way == 2:
            self.waits_for(asking.publish_with_receipt(topic, payload, now, headers))
        elif way == 3:
            self.note(asking.publish_with_ack(topic, payload, 2.0, now, headers=headers))
        else:
            self.note(asking.publish_to_id_with_ack(topic, payload, 2.0, now, headers))

    def sends_with_ids(self) -> None:
        """Publish with a receipt, or ask, with the id of a message."""
        way, topic, payload = self.choices.below(3), self.topic(), self.payload()
        asking, now = self.session.asking, self.now
        if way == 0:
            self.waits_for(asking.publish_with_receipt(topic, payload, now, message_id="m"))
        elif way == 1:
            self.note(asking.publish_with_ack(topic, payload, 2.0, now, message_id="m"))
        else:
            self.note(asking.publish_to_id_with_ack(topic, payload, 2.0, now, message_id="m"))

    def relays(self) -> None:
        self.session.publish_to_server("localhost:1", self.payload(), True, self.now)
        self.published += 1

    def sends_as_server(self) -> None:
        self.session.send_to_server("localhost:1", "", "origin", self.payload(), self.now)
        self.published += 1

    def publishes_with_receipt(self) -> None:
        self.waits_for(
            self.session.asking.publish_with_receipt(self.topic(), self.payload(), self.now)
        )

    def asks(self) -> None:
        timeout = self.choices.pick((2.0, 0.5, 1e9, 0.0))
        asking = self.session.asking
        self.note(asking.publish_with_ack(self.topic(), self.payload(), timeout, self.now))

    def asks_groups(self) -> None:
        demands = self.choices.pick(DEMANDS)
        asking = self.session.asking
        self.note(asking.publish_with_ack(self.topic(), self.payload(), 2.0, self.now, demands))

    def asks_id(self) -> None:
        timeout = self.choices.pick((2.0, 0.5, 1e9, -1.0))
        client_id = self.choices.pick(("a", ""))
        asking = self.session.asking
        self.note(asking.publish_to_id_with_ack(client_id, self.payload(), timeout, self.now))

    def note(self, handle: AckHandle) -> None:
        self.handles.append(handle)
        self.last = handle.id.encode()

    def looks(self) -> None:
        if self.handles:
            self.session.asking.ask_status(self.choices.pick(self.handles), self.now)

    def cancels(self) -> None:
        if self.handles:
            self.session.asking.cancel_ack(self.choices.pick(self.handles), self.now)

    def sets_barrier(self) -> None:
        self.waits_for(self.session.asking.barrier(self.now))

    def waits_for(self, barrier: Barrier) -> None:
        self.barriers.append(barrier)
        self.last = barrier.name.encode()

    def takes(self) -> None:
        mailboxes = [*self.mailboxes, self.session.subscriptions.open_direct()]
        most = self.choices.pick((1, 5, 1000))
        self.is_quiet = True
        for mailbox in mailboxes:
            taken = mailbox.take_some(most)
            assert all(type(text) is str for one in taken for text in one.headers.values())
            self.messages += taken

    def settles(self) -> None:
        error = self.choices.pick((None, "no", "e" * 1500))
        result = self.choices.pick((None, [1], "r" * 1500, {1}))
        if self.messages:
            self.session.settle(self.messages.pop(0), error, self.now, result)

    def closes(self) -> None:
        self.session.close(self.now)


Act = Callable[[Story], None]

STEPS: tuple[Act, ...] = (
    *(Story.step_say,) * 6,
    Story.step_say_text,
    Story.step_say_several,
    Story.step_say_array,
    *(Story.step_program,) * 3,
    Story.step_answer,
    Story.step_rest,
    Story.step_forget,
    *(Story.step_wait,) * 2,
    *(Story.step_connect,) * 2,
    Story.step_let_in,
    Story.step_fail_to_connect,
    Story.step_stop_reading,
    Story.step_read_some,
    Story.step_send_frame,
    Story.step_send_bytes,
    Story.step_server_closes,
    Story.step_server_ends_sending,
    Story.step_server_vanishes,
    Story.step_stop_answering,
    Story.step_refuse,
)
PROGRAM: tuple[Act, ...] = (
    Story.subscribes,
    Story.publishes,
    Story.asks,
    Story.takes,
    Story.settles,
    Story.publishes_with_receipt,
    Story.sets_barrier,
    Story.unsubscribes,
    Story.publishes_often,
    Story.writes,
    Story.relays,
    Story.sends_as_server,
    Story.asks_id,
    Story.takes_direct,
    Story.looks,
    Story.cancels,
    Story.closes,
    Story.observes,
    Story.asks_who_is_there,
    Story.sends_with_headers,
    Story.asks_groups,
    Story.sends_with_ids,
)


@dataclass
class Script:
    """Steps put down as an input."""

    data: bytes

    def program(self, act: Act, *more: int) -> None:
        self.data += bytes([STEPS.index(Story.step_program), PROGRAM.index(act), *more])

    def step(self, act: Act, *more: int) -> None:
        self.data += bytes([STEPS.index(act), *more])

    def say(self, text: bytes) -> None:
        # A chunk, the server, and whether it comes in pieces.
        self.data += bytes([STEPS.index(Story.step_say_text)]) + chunk(text) + bytes([0, 0])

    def answer(self, action: str, **chosen: bytes) -> None:
        """An answer with certain values of some fields, and the first values of the others."""
        values = ANSWERS[action]
        picked = [values[name].index(chosen[name]) if name in chosen else 0 for name in values]
        self.step(Story.step_answer, list(ANSWERS).index(action), *picked, 0, 0)

    def wait(self, seconds: float) -> None:
        self.step(Story.step_wait, SECONDS.index(seconds))


def seeds() -> Iterator[bytes]:
    """What servers say in the vectors, to a client that has subscribed and asked; and more."""
    for number, messages in enumerate(server_messages()):
        script = Script(bytes([number % len(LIMITS), number % len(CONFIGS), number % 2]))
        script.program(Story.subscribes, 0, 0)
        script.program(Story.asks, 0, 0, 0)
        for message in messages:
            script.say(message)
        yield script.data + bytes([0])
    for write in (refusals, answers_by_name, losses, pauses, crowds, comings_and_goings):
        for level, config in ((2, 0), (2, 1), (1, 0), (1, 3)):
            script = Script(bytes([1, config, 2 - level]))
            write(script)
            yield script.data + bytes([0])


def refusals(script: Script) -> None:
    """Topics that are refused for now, and for good."""
    for code in (b'"rate_limited"', b'"limit_reached"'):
        for _ in range(2):
            script.program(Story.subscribes, 0, 0)
        script.answer("error", code=code)
        script.wait(0.5)
        script.answer("error", code=code)
        script.wait(1.0)
        script.answer("subscribed")
        script.program(Story.unsubscribes)
        script.program(Story.unsubscribes)
        script.answer("error", request=b'"unsubscribe"', code=b'"unavailable"')
        script.wait(1.0)
        script.answer("unsubscribed")
    for topic in (0, 1):
        script.program(Story.subscribes, topic, 0)
    both = b'[{"request":"subscribe","topic":"red"},{"request":"subscribe","topic":"green"}]'
    script.answer("error", code=b'"rate_limited"', refused=both)
    script.wait(1.0)
    script.answer("error", code=b'"forbidden"', refused=both)


def crowds(script: Script) -> None:
    """Many subscriptions to one topic, and a message for it."""
    for _ in range(25):
        script.program(Story.subscribes, 0, 0)
    script.say(b'{"action":"publish","topic":"red","from":"a","data":1}')


def comings_and_goings(script: Script) -> None:
    """A topic that the program observes, now and then, and over two connections."""
    list_of_two = grammar.FIELDS["presence"][4]
    script.program(Story.observes, 0, 0, 0)
    script.answer("subscribed", presence=list_of_two)
    for name in ("joined", "left", "members"):
        for value in grammar.FIELDS[name]:
            script.answer("presence", nonce=grammar.ABSENT, **{name: value})
    script.program(Story.asks_who_is_there, 0)
    script.answer("presence", members=grammar.FIELDS["members"][2])
    script.program(Story.observes, 0, 0, 1)
    script.answer("error", code=b'"limit_reached"')
    script.step(Story.step_server_vanishes, 0)
    script.wait(2.0)
    script.step(Story.step_connect, 0)
    script.answer("subscribed", presence=grammar.FIELDS["presence"][5])
    script.answer("presence", nonce=grammar.ABSENT, members=grammar.FIELDS["members"][2])
    script.program(Story.unsubscribes)
    script.program(Story.subscribes, 0, 0)
    script.program(Story.unsubscribes)
    script.answer("presence", nonce=grammar.ABSENT)


def answers_by_name(script: Script) -> None:
    """Barriers and receipts, each with its answer or refusal."""
    script.program(Story.sets_barrier)
    script.answer("pong", nonce=b'"x"')
    script.answer("pong")
    script.program(Story.sets_barrier)
    script.answer("ack_status")
    script.program(Story.publishes_with_receipt, 0, 0)
    script.answer("published")
    script.program(Story.sets_barrier)
    script.answer("error", request=b'"ping"', nonce=LAST)
    script.program(Story.publishes_with_receipt, 0, 0)
    script.answer("error", request=b'"publish"')
    script.answer("error", request=b'"publish"', receipt=LAST)
    script.program(Story.sets_barrier)
    script.step(Story.step_forget, 0)
    script.step(Story.step_forget, 4)
    script.answer("pong")
    script.program(Story.asks, 0, 0, 0)
    script.answer("error", request=b'"publish_with_ack"', ack_id=LAST)


def losses(script: Script) -> None:
    """A connection is lost with much that is open; there may be another one."""
    script.program(Story.subscribes, 0, 0)
    script.answer("subscribed")
    script.program(Story.subscribes, 1, 0)
    script.answer("error", topic=b'"green"', code=b'"rate_limited"')
    for act in (Story.sets_barrier, Story.publishes_with_receipt, Story.asks, Story.publishes):
        script.program(act, 0, 0)
    script.step(Story.step_server_vanishes, 0)
    script.program(Story.publishes, 0, 0)
    script.program(Story.unsubscribes)
    script.wait(2.0)
    script.step(Story.step_connect, 0)
    script.answer("subscribed", topic=b'"green"')


def pauses(script: Script) -> None:
    """A program that is behind, and keeps up again; a driver that does something else."""
    script.program(Story.subscribes, 0, 0)
    for _ in range(3):
        for message in (
            *level1.deliveries("red", "a", [b"1"]),
            level2.delivery("red", "a", [b"1,2", b"3"], 3),
        ):
            script.say(message)
    script.program(Story.takes, 0)
    script.program(Story.takes, 2)
    script.step(Story.step_rest, 0)
    script.say(level1.subscribed("red"))
    script.wait(26.0)
    script.wait(26.0)
    script.step(Story.step_rest, 0)
