"""The messages of topics with history on a node: of those that it owns, and copies of others."""

from collections.abc import Callable, Iterable, Sequence

from kps.protocol.bus.history import History
from kps.protocol.bus.logs import BREAK, LogBook, TopicLog, break_behind
from kps.protocol.bus.publication import ForwardedPublication
from kps.protocol.bus.store import Entry, KeptPast, KeptTopic, Store
from kps.protocol.timers import Deadlines


class ClusterLogBook(LogBook):
    """The logs of a node. Each topic has one owner in the cluster, which numbers its messages."""

    epoch_of: Callable[[str], str]
    """Returns the epoch that a topic of which nothing is known will have."""
    is_owned: Callable[[str], bool]
    """Tells whether this node owns a topic."""
    forgot: Callable[[str], None]
    """Is called when a topic is forgotten."""

    def __init__(
        self,
        rules: Sequence[History],
        deadlines: Deadlines,
        new_epoch: Callable[[], str],
        most_bytes: int,
        most_topics: int,
    ) -> None:
        super().__init__(rules, deadlines, new_epoch, most_bytes, most_topics)
        self.waiting: dict[str, bool] = {}
        """Topics of the store that nobody owns yet, and whether the store has all of each."""

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

    def of(self, topic: str) -> TopicLog | None:
        """Return the log of a topic, which is made if the topic has history."""
        return self.known(topic) if self.has(topic) else None

    def owns(self, topic: str) -> bool:
        return self.waiting.get(topic, False) or self.is_owned(topic)

    # Copies have the offsets of their owners, which know nothing of the breaks of this node. So
    # offsets begin with 1, and an epoch goes on only if nothing of it can be missing.

    def _make_log(self, topic: str, rule: History) -> TopicLog:
        return TopicLog(self, topic, rule, self.epoch_of(topic), 0)

    def _resume(self, store: Store, past: KeptPast) -> None:
        if past.is_orderly and past.number < BREAK:
            super()._resume(store, past)
        else:
            self.latest = past.number if past.is_orderly else break_behind(past.number)
            store.begin(self.epoch, self.latest)

    def _top_of(self, store: Store, past: KeptPast, one: KeptTopic) -> int:
        self.waiting[one.topic] = one.is_whole
        if not past.is_orderly:  # then the store has another one
            store.place(one.topic, one.epoch, one.top, one.forgotten)
        return one.top

    def _place(self, log: TopicLog) -> None:
        if self.store is not None:
            self.store.place(log.topic, log.epoch, log.top, log.forgotten)

    def _forget(self, log: TopicLog) -> None:
        super()._forget(log)
        self.waiting.pop(log.topic, None)
        self.forgot(log.topic)

    def begin_anew(self, log: TopicLog, epoch: str, top: int) -> None:
        """Forget the messages of a topic, which goes on behind an offset of another epoch."""
        while log.entries:
            log.drop_oldest()
        log.epoch, log.top = epoch, top
        log.forgotten = self.latest
        if self.store is not None:
            self.store.forget(log.topic)
            self._place(log)
        self.shortened(log)

    def renew(self, logs: Iterable[TopicLog]) -> None:
        """Begin an epoch of this node with what is kept of topics. Their offsets go on."""
        self._begin_epoch()
        for log in logs:
            log.epoch = self._latest_epoch
            self._place(log)

    def follow(
        self, log: TopicLog, publication: ForwardedPublication, epoch: str, first: int, now: float
    ) -> bool:
        """Keep messages that the owner of their topic has numbered; tell whether any are new.

        Those that are known are removed from the publication.
        """
        if log.epoch == epoch and first % BREAK == 1 and first > log.top:
            log.top = first - 1  # nobody knows how many are missing, and this gap shows
        elif log.epoch != epoch or first > log.top + 1:
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
        if self.store is not None:
            self.shortened(log)
        if self.size > self._most_bytes:
            self._make_room()
        return True

    def entries_of(self, log: TopicLog) -> list[Entry]:
        """Return all that is kept of a topic."""
        return list(log.read(log.first, log.kept))
