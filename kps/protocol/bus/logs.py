"""The latest messages of topics, numbered, for subscribers that come late or come back (spec, 15).

A server keeps what its rules say. Each topic with history has a log: its messages, in order, by
offset. The offsets of a topic begin with 1 and have no gaps, and go on when the messages are
forgotten. An epoch says that they do: it is new whenever it is unknown what the offsets before it
stood for.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from kps.protocol import cost
from kps.protocol.bus.history import History
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.store import Entry, KeptPast, KeptTopic, Store
from kps.protocol.patterns import pattern
from kps.protocol.timers import Deadlines

BREAK: Final = 2**32
"""After an end at which messages may have been lost, the offsets of all topics go on behind the
next multiple of this, and so do the numbers of entries (marks). So no offset stands for two
messages, and a gap that is not counted shows."""

LARGEST_ENTRY: Final = 4096
"""Messages of one entry."""

SPLIT: Final = 4
"""Payloads that are split for one unit of work (see ``server.turns``)."""


class TopicLog:
    """The latest messages of one topic."""

    __slots__ = ("_trimmed", "book", "entries", "epoch", "forgotten", "kept", "rule", "top",
                 "topic")  # fmt: skip

    def __init__(self, book: "LogBook", topic: str, rule: History, epoch: str, top: int) -> None:
        self.book = book
        self.topic = topic
        self.rule = rule
        self.epoch = epoch
        self.top = top
        """The offset of the latest message, also if that is forgotten; 0: there was none."""
        self.entries: deque[Entry] = deque()
        self.forgotten = book.latest // BREAK * BREAK
        """The number of the latest entry that was forgotten; while none was, one below all."""
        self.kept = 0
        """Messages in the entries. Some of the oldest entry may be too many."""
        self._trimmed = top + 1  # what the store was told

    @property
    def count(self) -> int:
        """How many messages are kept, without those of the oldest entry that are too many."""
        return min(self.kept, self.rule.size)

    @property
    def first(self) -> int:
        """The offset of the oldest message that is kept, or that of the next one."""
        if not self.entries:
            return self.top + 1
        return self.entries[0].first + max(0, self.kept - self.rule.size)

    def latest(self, count: int) -> int:
        """Return the offset of the first of the latest messages that are kept."""
        first = self.first
        if first // BREAK == self.top // BREAK:
            return max(first, self.top + 1 - count)
        for entry in reversed(self.entries):
            if entry.messages >= count:
                return max(self.first, entry.behind - count)
            count -= entry.messages
        return self.first

    def since_number(self, number: int) -> tuple[int, bool]:
        """Return the offset of the first message that came after an entry of any topic.

        The second value tells whether all such messages are kept.
        """
        entries = self.entries
        place = bisect_right(entries, number, key=_NUMBER)
        first = self.first
        offset = max(first, entries[place].first) if place < len(entries) else self.top + 1
        is_whole = offset > first or self.forgotten <= number
        return offset, is_whole and (offset - 1) // BREAK == self.top // BREAK

    def is_whole(self, offset: int) -> bool:
        """Tell whether every message behind an offset is kept, as far as can be known."""
        return self.first - 1 <= offset <= self.top and offset // BREAK == self.top // BREAK

    def count_lost(self, offset: int) -> int | None:
        """Return how many messages behind an offset are not kept; ``None`` if nobody knows."""
        first = self.first
        if offset > self.top or offset // BREAK != self.top // BREAK:
            return None
        return max(0, first - 1 - offset)

    def count_from(self, offset: int) -> int:
        """Return how many messages are kept from an offset on."""
        first, top = self.first, self.top
        offset = max(offset, first)
        if offset > top or not self.entries:
            return 0
        if offset // BREAK == top // BREAK:
            return top + 1 - offset
        return sum(
            entry.behind - max(offset, entry.first)
            for entry in self.entries
            if entry.behind > offset
        )

    def read(self, offset: int, most: int) -> Iterator[Entry]:
        """Return the kept messages from an offset on, in entries, up to ``most`` messages."""
        offset = max(offset, self.first)
        entries = self.entries
        place = max(0, bisect_right(entries, offset, key=_FIRST) - 1)
        while place < len(entries) and most > 0:
            whole = entries[place]
            entry = whole.part(offset, most)
            if entry is not whole:
                self.book.work += whole.messages // SPLIT
            if entry.messages:
                yield entry
            most -= entry.messages
            place += 1

    def append(self, publication: Publication, now: float) -> None:
        """Number messages, and keep them."""
        sender, texts, count = publication.sender, publication.texts, publication.count
        headers = publication.headers
        publication.offset = self.top + 1
        if count <= LARGEST_ENTRY:
            text = texts[0] if len(texts) == 1 else b",".join(texts)
            self._append(sender, text, count, now, headers)
            return
        # To give a part of an entry, all of it must be split. So none is very large.
        self.book.work += count // SPLIT
        payloads = publication.payloads()
        for begin in range(0, count, LARGEST_ENTRY):
            part = payloads[begin : begin + LARGEST_ENTRY]
            self._append(sender, b",".join(part), len(part), now, headers)

    def _append(self, sender: str, text: bytes, count: int, now: float, headers: bytes) -> None:
        """Keep messages. All of this is written out, because each publication costs it."""
        book, entries, most = self.book, self.entries, self.rule.size
        text = cost.compact(text)
        first, number = self.top + 1, book.latest + 1
        size = cost.LOG_ENTRY + len(text) + len(headers) + cost.of_text(sender)
        entry = _new(Entry, (number, first, count, sender, text, now, size, headers))
        # Nothing but ``append`` is called until the entry is in, so no signal handler comes in
        # between; after that, each round of the loop leaves all of it consistent.
        self.top += count
        book.latest = number
        book.size += size
        self.kept += count
        entries.append(entry)
        while self.kept - entries[0][2] >= most:
            oldest = entries[0]
            del entries[0]
            self.forgotten = oldest[0]
            self.kept -= oldest[2]
            book.size -= oldest[6]
        if self not in book._filled:
            book.has_begun(self)
        if book.store is not None:
            book.store.append(self.topic, self.epoch, entry)

    def add(self, entry: Entry) -> None:
        """Take in messages that were kept before."""
        self.top = entry.behind - 1
        self.kept += entry.messages
        self.book.size += entry.size
        self.entries.append(entry)
        if self not in self.book._filled:
            self.book.has_begun(self)

    def drop_oldest(self) -> None:
        """Forget the oldest entry."""
        book, entry = self.book, self.entries[0]
        count, size = entry.messages, entry.size
        # Nothing is called from here on, so no signal handler comes in before all is noted.
        del self.entries[0]
        self.forgotten = entry[0]
        self.kept -= count
        book.size -= size

    def next_deadline(self) -> float | None:
        ttl = self.rule.ttl
        return self.entries[0].time + ttl if ttl is not None and self.entries else None

    def handle_timeout(self, now: float) -> None:
        """Forget what is too old."""
        ttl = self.rule.ttl
        while ttl is not None and self.entries and self.entries[0].time + ttl <= now:
            self.drop_oldest()
        self.book.shortened(self)

    def untold(self) -> int:
        """Return the offset before which the store is to forget messages, or 0: none new."""
        first = self.first
        if first - self._trimmed < max(64, self.rule.size // 8) and self.entries:
            return 0  # the store keeps a few more
        is_new, self._trimmed = first > self._trimmed, first
        return first if is_new else 0


_new = tuple.__new__  # of a named tuple it takes a third of the time
_FIRST = attrgetter("first")
_NUMBER = attrgetter("number")

_SELECTED = 16  # topics whose ends are compared for one unit of work


class LogBook:
    """The logs of all topics with history.

    ``new_epoch()`` returns a text that nobody has used before.
    """

    def __init__(
        self,
        rules: Sequence[History],
        deadlines: Deadlines,
        new_epoch: Callable[[], str],
        most_bytes: int,
        most_topics: int,
    ) -> None:
        self.epoch = new_epoch()
        """The epoch of every topic, but of those that tell another one."""
        self.size = 0
        """Bytes that all entries take in memory."""
        self.latest = 0
        """The number of the latest entry of all."""
        self.forgotten = 0
        """The number of the latest entry when a topic was last forgotten."""
        self.store: Store | None = None
        self._rules = [(pattern(str(rule.topics)), rule) for rule in rules]
        self._deadlines = deadlines
        self._new_epoch = new_epoch
        self._most_bytes = most_bytes
        self._most_topics = most_topics
        self._latest_epoch = self.epoch  # for topics of which nothing is known
        self.work = 0
        """Units of work that nobody has subtracted from a turn yet."""
        self._logs: dict[str, TopicLog] = {}
        self._without: dict[str, None] = {}  # topics that have no history
        self._filled: dict[TopicLog, None] = {}  # those with entries, by when they began to have
        self._empty: dict[TopicLog, None] = {}  # those without

    def __len__(self) -> int:
        return len(self._logs)

    def count(self) -> int:
        """Count the messages that are kept, of all topics."""
        self.work += len(self._filled) // _SELECTED
        return sum([log.count for log in self._filled])

    def count_of(self, topic: str) -> int:
        """Count the messages that are kept of a topic."""
        log = self._logs.get(topic)
        return 0 if log is None else log.count

    def is_whole(self, epoch: str, mark: int) -> bool:
        """Tell whether nothing is unknown of what has come after a mark."""
        is_known = epoch == self.epoch and self.forgotten <= mark <= self.latest
        return is_known and mark // BREAK == self.latest // BREAK

    @property
    def selected(self) -> list[str]:
        """The patterns of topics that have history."""
        return [str(rule.topics) for _, rule in self._rules]

    def rule_of(self, topic: str) -> History | None:
        """Return the rule for a topic, if it has history."""
        return next((rule for selected, rule in self._rules if selected.selects(topic)), None)

    def log(self, topic: str) -> TopicLog | None:
        """Return the log of a topic; ``None`` if it has no history.

        That of a topic on which nothing was published is not kept, as anybody may ask for any.
        """
        log = self._logs.get(topic)
        if log is None and (rule := self.rule_of(topic)) is not None:
            log = self._make_log(topic, rule)
        return log

    def is_current(self, log: TopicLog) -> bool:
        """Tell whether a log is still that of its topic."""
        return self._logs.get(log.topic) is log

    def logs(self, beginning: str = "", end: str = "") -> list[TopicLog]:
        """Return the logs of all topics, or of those that begin and end with some characters."""
        self.work += 1 + len(self._logs) // _SELECTED
        return [
            log
            for topic, log in self._logs.items()
            if topic.startswith(beginning) and topic.endswith(end)
        ]

    def take_work(self) -> int:
        """Return the units of work since the last call."""
        work, self.work = self.work, 0
        return work

    def keep(self, publication: Publication, now: float) -> None:
        """Number a publication, and keep it if its topic has history."""
        topic = publication.topic
        log = self._logs.get(topic)
        if log is None:
            log = self._new_log(topic)
            if log is None:
                return
        if not publication.count:
            return
        log.append(publication, now)
        if log.epoch != self.epoch:
            publication.epoch = log.epoch
        if self.store is not None:
            self.shortened(log)
        if self.size > self._most_bytes:
            self._make_room()

    def _make_room(self) -> None:
        """Forget the oldest entries of some topics, because all together take too much."""
        while self.size > self._most_bytes and self._filled:
            victim = next(iter(self._filled))
            victim.drop_oldest()
            self.shortened(victim)

    def open(self, store: Store, past: KeptPast | None, now: float) -> None:
        """Go on with what a store has kept, before any message comes; ``None``: it is new."""
        self.store = store
        if past is None:
            store.begin(self.epoch, self.latest)
            return
        self._resume(store, past)
        for one in past.topics:
            rule = self.rule_of(one.topic)
            if rule is None:
                if self._latest_epoch == past.epoch:
                    self._begin_epoch()  # the topic may have a rule again
                store.forget(one.topic)
                continue
            log = self._logs[one.topic] = TopicLog(self, one.topic, rule, one.epoch, 0)
            log.forgotten = max(log.forgotten, one.forgotten)
            self._empty[log] = None
            for entry in one.entries:
                log.add(entry)
            log.top = self._top_of(store, past, one)
            while log.entries and log.kept - log.entries[0].messages >= rule.size:
                log.drop_oldest()
            log.handle_timeout(now)

    def _resume(self, store: Store, past: KeptPast) -> None:
        """Go on with the numbers of entries, and with the epoch of new topics."""
        self.epoch = self._latest_epoch = past.epoch
        self.latest = past.number if past.is_orderly else break_behind(past.number)
        if not past.is_orderly:
            store.begin(self.epoch, self.latest)

    def _top_of(self, store: Store, past: KeptPast, one: KeptTopic) -> int:
        """Return the offset behind which a topic goes on. That is in the file, too."""
        return one.top if past.is_orderly else break_behind(one.top)

    def owns(self, topic: str) -> bool:
        """Tell whether this server has numbered the latest message of a topic, and no other one
        goes on with it."""
        return True

    def has_begun(self, log: TopicLog) -> None:
        """Note that a log has got its first entry."""
        if log.rule.ttl is not None:
            self._deadlines.schedule(log)
        self._filled[log] = None
        self._empty.pop(log, None)

    def shortened(self, log: TopicLog) -> None:
        """Note that a log may have lost entries."""
        if not log.entries and log in self._filled:
            del self._filled[log]
            self._empty[log] = None
        if self.store is not None and (offset := log.untold()):
            self.store.trim(log.topic, offset)

    def _new_log(self, topic: str) -> TopicLog | None:
        if topic in self._without:
            return None
        rule = self.rule_of(topic)
        if rule is None:
            if len(self._without) >= self._most_topics:
                self._without.clear()
            self._without[topic] = None
            return None
        if len(self._logs) >= self._most_topics:
            self._forget(next(iter(self._empty or self._filled)))
        log = self._logs[topic] = self._make_log(topic, rule)
        self._empty[log] = None
        return log

    def _make_log(self, topic: str, rule: History) -> TopicLog:
        return TopicLog(self, topic, rule, self._latest_epoch, self.latest // BREAK * BREAK)

    def _forget(self, log: TopicLog) -> None:
        """Forget a topic. Its offsets will begin anew, in another epoch."""
        self._begin_epoch()  # first, should a signal handler raise
        while log.entries:
            log.drop_oldest()
        self._filled.pop(log, None)
        self._empty.pop(log, None)
        self._deadlines.cancel(log)
        del self._logs[log.topic]
        if self.store is not None:
            self.store.forget(log.topic)

    def _begin_epoch(self) -> None:
        """Begin another epoch, for topics of which nothing is known."""
        self._latest_epoch = self._new_epoch()
        self.forgotten = self.latest
        if self.store is not None:
            self.store.begin(self._latest_epoch, self.latest)


def break_behind(number: int) -> int:
    """Return the next break behind an offset, or behind the number of an entry."""
    return (number // BREAK + 1) * BREAK
