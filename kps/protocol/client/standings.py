"""Where the client stands in the topics that have history, so that it can resume (spec, 15.5)."""

from collections.abc import Callable
from itertools import islice

from kps.protocol.bus.logs import BREAK
from kps.protocol.dialect.places import Places, Position, Standing, Start
from kps.protocol.patterns import Pattern, Scope

# Topics of which the place is known. More are followed, and begin anew after a reconnect.
_MOST = 10_000
# Topics of them that the place of a pattern names, the latest ones, and bytes that they take.
_MOST_NAMED = 1000
_MOST_BYTES = 256 * 1024
_POSITION = 64  # bytes around a topic


class Standings:
    """The places of one client, by topic, and by pattern."""

    def __init__(self) -> None:
        self._topics: dict[str, Position] = {}
        self._patterns: dict[Pattern, Standing] = {}
        self._epochs: dict[str, str] = {}  # of topics, as this connection has confirmed them
        self._told: set[str] = set()  # topics of which a confirmation has told what is missing

    def begin(self, key: Scope, standing: Standing, *, resumes: bool) -> None:
        """Note where a subscription begins, which resumes one or is new."""
        if isinstance(key, str):
            known = self._topics.get(key)
            if not standing.epoch:
                if key not in self._epochs:  # else it is confirmed once more
                    self._topics.pop(key, None)
                return
            self._epochs[key] = standing.epoch
            if resumes or known is None or known.epoch != standing.epoch:
                self._note(key, Position(standing.epoch, standing.offset))
            # Else the topic is known by another subscription, whose place shows what is missing.
        elif not standing.epoch:
            self._patterns.pop(key, None)
        else:
            before = self._patterns.get(key)
            if before is None or before.epoch != standing.epoch:
                self._patterns[key] = standing
            # Else the first mark remains: some of what came after it may not be here yet.
            if standing.recovered is False:
                self._told.update(topic for topic in self._topics if key.selects(topic))

    def disconnected(self) -> None:
        """Note that another connection may tell other epochs."""
        self._epochs.clear()

    def forget(self, key: Scope, is_wanted: Callable[[str], bool]) -> None:
        """Note that a subscription has ended; ``is_wanted`` tells whether another has a topic."""
        if isinstance(key, str):
            ended = [key]
        else:
            self._patterns.pop(key, None)
            ended = [topic for topic in self._topics if key.selects(topic)]
        for topic in ended:
            if not is_wanted(topic):
                self._topics.pop(topic, None)
                self._epochs.pop(topic, None)
                self._told.discard(topic)

    def start(self, key: Scope, largest: int) -> Start | None:
        """Return what resumes a subscription on a new connection, if anything does.

        ``largest`` is how many bytes it may take. What is not named comes once more, and is dropped
        here.
        """
        if isinstance(key, str):
            position = self._topics.get(key)
            return None if position is None else Start(position)
        standing = self._patterns.get(key)
        if standing is None:
            return None
        named: dict[str, Position] = {}
        size = 0
        latest = filter(key.selects, reversed(self._topics))
        for topic in islice(latest, _MOST_NAMED):
            position = self._topics[topic]
            size += 6 * (len(topic) + len(position.epoch)) + _POSITION
            if size > min(largest, _MOST_BYTES):
                break
            named[topic] = position
        return Start(Places(standing.epoch, standing.mark, named))

    def passed(
        self, topic: str, epoch: str, offset: int, count: int
    ) -> tuple[Position, int | None, int]:
        """Note messages that have come, the first with an offset.

        Return the place of the first, how many messages before it are missing (``None``: nobody
        knows, as the epoch is another one), and how many of them the client has had before.
        """
        known = self._topics.get(topic)
        epoch = epoch or self._epochs.get(topic) or self._usual_epoch(topic)
        missing: int | None = 0
        repeated = 0
        last = offset + count - 1
        if known is not None and known.epoch == epoch:
            repeated = min(count, max(0, known.offset + 1 - offset))
            last = max(last, known.offset)
            if topic not in self._told and known.offset // BREAK == offset // BREAK:
                missing = max(0, offset - known.offset - 1)
        elif known is not None and topic not in self._told:
            missing = None
        self._told.discard(topic)
        self._note(topic, Position(epoch, last))
        return Position(epoch, offset), missing, repeated

    def _note(self, topic: str, position: Position) -> None:
        if topic not in self._topics and len(self._topics) >= _MOST:
            del self._topics[next(iter(self._topics))]
        self._topics[topic] = position

    def _usual_epoch(self, topic: str) -> str:
        for key, standing in self._patterns.items():
            if key.selects(topic):
                return standing.epoch
        return ""
