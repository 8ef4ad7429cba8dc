"""Gives a subscriber the messages of the past that it asked for, before those that are new.

While a topic is replayed to a session, the bus holds new messages of it back for that session:
they are in the log by then, and come in their turn. The session's queue is filled a little at a
time, whenever it has drained, so that no replay overflows it.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from kps.protocol.bus.logs import LARGEST_ENTRY, SPLIT, LogBook, TopicLog
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.dialect.codes import LIMIT_REACHED
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.dialect.level2 import kept_message
from kps.protocol.dialect.places import Places, Position, Standing, Start, without_history
from kps.protocol.dialect.texts import split_joined
from kps.protocol.patterns import Key, Pattern, Scope
from kps.protocol.server.encodings import FrameEncoding

if TYPE_CHECKING:
    from kps.protocol.server.ports import Transport
    from kps.protocol.server.state import ServerState
    from kps.protocol.wire.outbox import Entry

# Bytes that may be pending for a session before more of a replay is queued.
_ROOM = 64 * 1024

MOST_OPEN = 10_000
"""Topics that are replayed to one session at a time."""
MOST_OPEN_IN_ALL = 1_000_000

# Units of work (see ``turns``): of a topic that has something to replay, and of one search for the
# topics of a pattern at most. Characters of a pattern that are matched with a topic, and bytes that
# are replayed, for one unit.
_TOPIC = 2
_MOST_WORK = 100_000
_CHARACTERS = 4
_BYTES = 256

_AROUND = 40  # bytes around a payload of an answer


class Replayed(Subscriber, Protocol):
    """The session of a client, as its replays see it."""

    encoding: FrameEncoding
    state: "ServerState"

    @property
    def transport(self) -> "Transport":
        """What carries its messages."""

    def deliver_past(self, entry: "Entry") -> bool:
        """Take messages of the past; tell whether they had room."""


class Replays:
    """What is to be replayed to one session, by topic."""

    def __init__(self, session: Replayed) -> None:
        self.session = session
        limits = session.state.limits
        self._room = min(_ROOM, limits.queue_bytes // 4)
        self._at_once = max(1, min(LARGEST_ENTRY, limits.queue_messages // 4))
        # For each topic the offset of the next message. It is taken from the front: of a plain
        # ``dict`` that would take longer and longer.
        self._open: OrderedDict[TopicLog, int] = OrderedDict()
        self._expected: dict[Scope, list[str]] = {}  # topics that are held for a confirmation

    @property
    def count(self) -> int:
        """How many topics are being replayed."""
        return len(self._open)

    def begin(self, log: TopicLog, offset: int) -> None:
        """Replay a topic from an offset on, unless there is nothing."""
        if offset <= log.top and log.entries:
            state = self.session.state
            state.bus.hold(self.session, log.topic)
            state.replays += log not in self._open
            self._open[log] = offset
        elif log in self._open:
            self._close(log)  # of an earlier subscription

    def _close(self, log: TopicLog) -> None:
        state = self.session.state
        state.bus.release(self.session, log.topic)
        if self._open.pop(log, None) is not None:
            state.replays -= 1

    def expect(self, key: Scope, topics: Iterable[str]) -> None:
        """Hold new messages of topics until a subscription that asks for the past is confirmed.

        In a cluster that is not at once, and the past comes behind the confirmation.
        """
        session = self.session
        held = [topic for topic in topics if not _has(session, topic, key)]
        for topic in held:
            session.state.bus.hold(session, topic)
        self._expected[key] = held

    def confirmed(self, key: Scope) -> None:
        """Let the topics go of which nothing is to be replayed: nothing has come meanwhile."""
        state = self.session.state
        for topic in self._expected.pop(key, ()):
            log = None if state.logs is None else state.logs.log(topic)
            if log is None or log not in self._open:
                state.bus.release(self.session, topic)

    def next_offset(self, log: TopicLog) -> int:
        """Return the offset of the next message of a topic that the session will get."""
        return self._open.get(log, log.top + 1)

    def go_on(self) -> None:
        """Queue more, as far as there is room. A topic that has caught up becomes live."""
        session = self.session
        turns = session.state.turns
        while self._open and self._has_room():
            log, offset = next(iter(self._open.items()))
            entry = next(log.read(offset, self._at_once), None)
            if entry is None:
                self._go_to_next(log)
                continue
            publication = Publication(log.topic, entry.sender)
            publication.add([entry.text], entry.messages)
            publication.headers = entry.headers
            publication.offset = entry.first
            publication.epoch = "" if log.epoch == log.book.epoch else log.epoch
            turns.left -= 1 + len(entry.text) // _BYTES + log.book.take_work()
            self._open[log] = entry.behind
            if not session.deliver_past(session.encoding.encode_past(publication)):
                return  # the session has ended, or its policy drops messages

    def _go_to_next(self, log: TopicLog) -> None:
        """End the replay of a topic, which becomes live, unless its log was forgotten meanwhile."""
        state = self.session.state
        new = log.book.log(log.topic)
        if log.book.is_current(log) or new is None or not new.entries:
            self._close(log)
            return
        del self._open[log]
        state.replays -= 1
        self.begin(new, new.first)

    def _has_room(self) -> bool:
        transport = self.session.transport
        size, messages = transport.queued_bytes, transport.queued_messages
        return size <= self._room and messages <= self._at_once

    def forget(self) -> None:
        """End the replays of topics that the session is not subscribed to any more.

        With very many of them, and of patterns that may have them, they come to their end.
        """
        topics = self.session.topics
        patterns = [key for key in topics if isinstance(key, Pattern)]
        work = len(self._open) * (1 + len(patterns))
        if work > _MOST_WORK:
            return
        self.session.state.turns.left -= work
        for key in [one for one in self._expected if one not in topics]:
            self.confirmed(key)
        for log in list(self._open):
            topic = log.topic
            if topic not in topics and not any(one.selects(topic) for one in patterns):
                self._close(log)

    def end(self) -> None:
        """End all of them, because the session has ended."""
        self.session.state.turns.left -= len(self._open)
        for key in list(self._expected):
            self.confirmed(key)
        while self._open:
            self._close(next(iter(self._open)))


def stand(book: LogBook, replays: Replays, key: Scope, start: Start | None) -> Standing:
    """Begin the replays that a new subscription asks for; return what its confirmation tells.

    A topic that the session has already, by another subscription, is not replayed again.
    """
    if isinstance(key, str):
        log = book.log(key)
        if log is None:
            return without_history(start)
        if _has(replays.session, key, key):
            return _stand_again(log, replays, start)
        return _stand_in_topic(log, replays, start)
    return _stand_in_pattern(book, replays, key, start)


def _stand_in_topic(log: TopicLog, replays: Replays, start: Start | None) -> Standing:
    before, recovered, lost = log.top, None, None
    if start is not None and isinstance(start.since, Position):
        before, recovered, lost = find(log, start.since)
    elif start is not None and start.last:
        before = log.latest(start.last) - 1
    replays.begin(log, before + 1)
    coming = log.count_from(before + 1)
    return Standing(log.epoch, before, 0, coming, recovered, lost)


def _has(session: Replayed, topic: str, new: Key) -> bool:
    """Tell whether a session has a topic by one of its subscriptions besides the new one."""
    topics = session.topics
    if topic in topics and topic != new:
        return True
    return any(isinstance(key, Pattern) and key != new and key.selects(topic) for key in topics)


def _stand_again(log: TopicLog, replays: Replays, start: Start | None) -> Standing:
    offset = replays.next_offset(log)
    recovered = None
    if start is not None and isinstance(start.since, Position):
        since = start.since
        is_there = since.epoch == log.epoch and since.offset >= offset - 1
        recovered = is_there and log.is_whole(since.offset)
    return Standing(log.epoch, offset - 1, 0, log.count_from(offset), recovered)


def find(log: TopicLog, since: Position) -> tuple[int, bool, int | None]:
    """Return the offset before what is kept behind a place; whether it is all; how many are not."""
    if since.epoch != log.epoch or since.offset > log.top:
        return log.first - 1, False, None
    if log.is_whole(since.offset):
        return since.offset, True, None
    return max(since.offset, log.first - 1), False, log.count_lost(since.offset)


def _stand_in_pattern(
    book: LogBook, replays: Replays, pattern: Pattern, start: Start | None
) -> Standing:
    if start is None:
        return Standing(book.epoch, 0, book.latest)
    since = start.since
    coming, lost = 0, 0
    recovered, is_lost_known = None, True
    if isinstance(since, Places):
        recovered = is_lost_known = book.is_whole(since.epoch, since.mark)
    for log in find_logs(book, replays, pattern):
        if isinstance(since, Places):
            known = since.topics.get(log.topic)
            if known is not None:
                before, is_whole, count = find(log, known)
            else:
                mark = since.mark if since.epoch == book.epoch else 0
                offset, is_whole = log.since_number(mark)
                before, count = offset - 1, None
            if not is_whole:
                recovered = False
                is_lost_known = is_lost_known and count is not None
                lost += count or 0
        else:
            before = log.latest(start.last) - 1 if start.last else log.top
        coming += log.count_from(before + 1)
        replays.begin(log, before + 1)
    told = lost if recovered is False and is_lost_known else None
    return Standing(book.epoch, 0, book.latest, coming, recovered, told)


def find_logs(book: LogBook, replays: Replays, pattern: Pattern) -> list[TopicLog]:
    """Return the logs that a pattern has, and no other subscription of the session.

    Raises :class:`InvalidMessage` if they are too many, or if it would take too long to find them.
    """
    session = replays.session
    likely = book.logs(pattern.head, pattern.tail)
    topics = session.topics
    others = [key for key in topics if isinstance(key, Pattern) and key != pattern]
    each = _TOPIC + (len(pattern.text) + 8 * len(others)) // _CHARACTERS
    if len(likely) * each > _MOST_WORK:
        raise InvalidMessage("the pattern has too many topics with history", LIMIT_REACHED)
    session.state.turns.left -= len(likely) * each + book.take_work()
    found = [
        log
        for log in likely
        if pattern.selects(log.topic)
        and log.topic not in topics
        and not any(other.selects(log.topic) for other in others)
    ]
    room = min(MOST_OPEN - replays.count, MOST_OPEN_IN_ALL - session.state.replays)
    if len(found) > room:
        raise InvalidMessage("the pattern has too many topics with history", LIMIT_REACHED)
    return found


def look_up(
    log: TopicLog, since: Position | None, most: int, most_messages: int, most_bytes: int
) -> tuple[Standing, list[bytes]]:
    """Return messages of a topic, as they are written: those behind a place, or the latest.

    They are the first of up to ``most``: ``most_messages`` of them, which take about ``most_bytes``
    (there is always one if there are any). The confirmation tells in ``coming`` how many are kept
    behind the place.
    """
    before, recovered, lost = log.latest(most) - 1, None, None
    if since is not None:
        before, recovered, lost = find(log, since)
    found: list[bytes] = []
    size = 0
    for entry in log.read(before + 1, min(most, most_messages)):
        log.book.work += entry.messages // SPLIT
        for offset, payload in enumerate(split_joined(entry.text), entry.first):
            size += len(payload) + len(entry.headers) + 4 * len(entry.sender) + _AROUND
            if found and size > most_bytes:
                break
            found.append(kept_message(offset, entry.sender, payload, entry.headers))
        if size > most_bytes:
            break
    return Standing(log.epoch, before, 0, log.count_from(before + 1), recovered, lost), found
