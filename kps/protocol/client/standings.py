"""Where the client stands in the topics that have history, so that it can resume (spec, 15.5)."""

from kps.protocol.bus.history import BREAK
from kps.protocol.dialect.places import Places, Position, Standing, Start
from kps.protocol.patterns import Key

# Topics of which the place is known. More are followed, and begin anew after a reconnect.
_MOST = 10_000
# Topics of them that the place of a pattern names, the latest ones.
_MOST_NAMED = 1000


class Standings:
    """The places of one client, by topic, and by pattern."""

    def __init__(self) -> None:
        self._topics: dict[str, Position] = {}
        self._patterns: dict[Key, Standing] = {}
        self._told: set[str] = set()  # topics of which a confirmation has told what is missing

    def begin(self, key: Key, standing: Standing) -> None:
        """Note where a subscription begins."""
        if not standing.epoch:
            self.forget(key)
        elif isinstance(key, str):
            self._note(key, Position(standing.epoch, standing.offset))
        else:
            known = self._patterns.get(key)
            if known is None or known.epoch != standing.epoch:
                self._patterns[key] = standing
            # Else the first mark remains: some of what came after it may not be here yet.
            if standing.recovered is False:
                self._told.update(topic for topic in self._topics if key.selects(topic))

    def forget(self, key: Key) -> None:
        """Note that a subscription has ended, or has no history."""
        if isinstance(key, str):
            self._topics.pop(key, None)
            self._told.discard(key)
        else:
            self._patterns.pop(key, None)
            for topic in [topic for topic in self._topics if key.selects(topic)]:
                del self._topics[topic]
                self._told.discard(topic)

    def start(self, key: Key) -> Start | None:
        """Return what resumes a subscription on a new connection, if anything does."""
        if isinstance(key, str):
            position = self._topics.get(key)
            return None if position is None else Start(position)
        standing = self._patterns.get(key)
        if standing is None:
            return None
        known = [(topic, one) for topic, one in self._topics.items() if key.selects(topic)]
        return Start(Places(standing.epoch, standing.mark, dict(known[-_MOST_NAMED:])))

    def passed(self, topic: str, epoch: str, offset: int, count: int) -> tuple[Position, int, int]:
        """Note messages that have come, the first with an offset.

        Return the place of the first, how many messages before it are missing, and how many of them
        the client has had before.
        """
        known = self._topics.get(topic)
        if not epoch:
            epoch = known.epoch if known is not None else self._usual_epoch(topic)
        missing = repeated = 0
        last = offset + count - 1
        if known is not None and known.epoch == epoch:
            repeated = min(count, max(0, known.offset + 1 - offset))
            last = max(last, known.offset)
            if topic not in self._told and known.offset // BREAK == offset // BREAK:
                missing = max(0, offset - known.offset - 1)
        self._told.discard(topic)
        self._note(topic, Position(epoch, last))
        return Position(epoch, offset), missing, repeated

    def _note(self, topic: str, position: Position) -> None:
        if topic not in self._topics and len(self._topics) >= _MOST:
            del self._topics[next(iter(self._topics))]
        self._topics[topic] = position

    def _usual_epoch(self, topic: str) -> str:
        for key, standing in self._patterns.items():
            if not isinstance(key, str) and key.selects(topic):
                return standing.epoch
        return ""
