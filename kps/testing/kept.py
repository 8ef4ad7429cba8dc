"""What a node of a cluster in memory keeps beyond its end, as a file would."""

from kps.protocol.bus.logs import LogBook, break_behind
from kps.protocol.bus.store import Entry, KeptPast, KeptTopic


class MemoryStore:
    """A store that keeps at once what it is told."""

    def __init__(self) -> None:
        self._epoch = ""
        self._number = 0
        self._topics: dict[str, KeptTopic] = {}
        self._is_closed = True

    def append(self, topic: str, epoch: str, entry: Entry) -> None:
        kept = self._topics.get(topic) or KeptTopic(topic, epoch, 0, ())
        entries = *kept.entries, entry
        self._topics[topic] = kept._replace(epoch=epoch, top=entry.behind - 1, entries=entries)
        self._number = max(self._number, entry.number)

    def trim(self, topic: str, offset: int) -> None:
        kept = self._topics.get(topic)
        if kept is not None:
            gone = [entry.number for entry in kept.entries if entry.behind <= offset]
            entries = kept.entries[len(gone) :]
            forgotten = max([kept.forgotten, *gone])
            self._topics[topic] = kept._replace(entries=entries, forgotten=forgotten)

    def forget(self, topic: str) -> None:
        self._topics.pop(topic, None)

    def place(self, topic: str, epoch: str, top: int, forgotten: int) -> None:
        kept = self._topics.get(topic) or KeptTopic(topic, epoch, top, ())
        self._topics[topic] = kept._replace(epoch=epoch, top=top, forgotten=forgotten)

    def begin(self, epoch: str, number: int) -> None:
        self._epoch, self._number = epoch, max(self._number, number)

    def lose(self, topic: str) -> None:
        """Lose the latest entry of a topic, as if it had not been written yet."""
        kept = self._topics[topic]
        *entries, last = kept.entries
        self._topics[topic] = kept._replace(entries=entries, top=last.first - 1)

    def close(self, book: LogBook) -> None:
        """Note that the server ends in order, and what other ones may go on with."""
        tops = {log.topic: log.top for log in book.logs()}
        assert all(tops[topic] == kept.top for topic, kept in self._topics.items())
        self._topics = {
            topic: kept._replace(is_whole=book.owns(topic)) for topic, kept in self._topics.items()
        }
        self._is_closed = True

    def load(self) -> KeptPast | None:
        """Return what is kept, for the next server."""
        topics = [
            one._replace(is_whole=one.is_whole and self._is_closed) for one in self._topics.values()
        ]
        is_orderly = all(one.is_whole for one in topics) and self._is_closed
        past = KeptPast(self._epoch, self._number, is_orderly, topics)
        self._topics = {one.topic: one for one in topics}
        if not is_orderly:
            self._number = break_behind(self._number)
            self._topics = {one.topic: one._replace(top=break_behind(one.top)) for one in topics}
        self._is_closed = False
        return past if self._epoch else None
