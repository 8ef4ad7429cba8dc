"""The messages of topics with history on a node: of those that it owns, and copies of others."""

from collections.abc import Callable
from typing import Final

from kps.protocol.bus.history import History, LogBook, TopicLog
from kps.protocol.bus.publication import ForwardedPublication
from kps.protocol.bus.store import Entry

_NOBODY: Final = ""


class ClusterLogBook(LogBook):
    """The logs of a node. Each topic has one owner in the cluster, which numbers its messages."""

    epoch_of: Callable[[str], str]
    """Returns the epoch that a topic of which nothing is known will have."""

    @property
    def own_epoch(self) -> str:
        """The epoch of topics that this node will own, and of which nothing is known."""
        return self._latest_epoch

    def has(self, topic: str) -> bool:
        """Tell whether a topic has history."""
        return topic in self._logs or self._new_log(topic) is not None

    def known(self, topic: str) -> TopicLog | None:
        """Return the log of a topic, if there is one."""
        return self._logs.get(topic)

    def _make_log(self, topic: str, rule: History) -> TopicLog:
        log = super()._make_log(topic, rule)
        log.epoch = self.epoch_of(topic)
        return log

    def begin_anew(self, log: TopicLog, epoch: str, top: int) -> None:
        """Forget the messages of a topic, which goes on behind an offset of another epoch."""
        while log.entries:
            log.drop_oldest()
        log.epoch, log.top = epoch, top
        log.forgotten = self.latest
        self.shortened(log)

    def renumber(self, log: TopicLog) -> None:
        """Begin an epoch of this node with the messages that are kept."""
        self._begin_epoch()
        log.epoch, log.top = self._latest_epoch, 0
        entries = list(log.entries)
        log.entries.clear()
        for entry in entries:
            log.entries.append(entry._replace(first=log.top + 1))
            log.top += entry.messages

    def follow(
        self, log: TopicLog, publication: ForwardedPublication, epoch: str, first: int, now: float
    ) -> bool:
        """Keep messages that the owner of their topic has numbered; tell whether any are new.

        Those that are known are removed from the publication.
        """
        if log.epoch != epoch or first > log.top + 1:
            self.begin_anew(log, epoch, first - 1)
        known = log.top + 1 - first
        if known >= publication.count:
            return False
        if known:
            publication.texts = publication.payloads()[known:]
            publication.count -= known
        log.append(publication, now)
        if log.epoch != self.epoch:
            publication.epoch = log.epoch
        if self.size > self._most_bytes:
            self._make_room()
        return True

    def entries_of(self, log: TopicLog) -> list[Entry]:
        """Return all that is kept of a topic."""
        return list(log.read(log.first, log.kept))
