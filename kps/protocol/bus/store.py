"""What is kept of the messages of topics, and the port of what keeps it beyond the server's end."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from kps.protocol import cost
from kps.protocol.dialect.texts import split_joined


class Entry(NamedTuple):
    """Messages of one sender that came together, as they are kept."""

    number: int
    """Its number among all entries of the server, which grows."""
    first: int
    """The offset of the first message."""
    messages: int
    """How many they are."""
    sender: str
    text: bytes
    """Their payloads, with commas in between."""
    time: float
    """When they came, by the server's clock."""
    size: int
    """Bytes that it takes in memory."""
    headers: bytes
    """Those of all its messages, as JSON; empty for none."""

    @property
    def behind(self) -> int:
        """The offset behind the last one."""
        return self.first + self.messages

    def part(self, offset: int, most: int) -> "Entry":
        """Return the messages from an offset on, up to ``most`` of them; maybe none."""
        skipped = max(0, offset - self.first)
        if not skipped and self.messages <= most:
            return self
        texts = split_joined(self.text)[skipped : skipped + most]
        text = b",".join(texts)
        first = self.first + skipped
        return new_entry(self.number, first, len(texts), self.sender, text, self.time, self.headers)


def new_entry(
    number: int,
    first: int,
    messages: int,
    sender: str,
    text: bytes,
    time: float,
    headers: bytes = b"",
) -> Entry:
    """Make an entry of messages whose payloads are JSON, with commas in between."""
    size = cost.LOG_ENTRY + len(text) + len(headers) + cost.of_text(sender)
    return Entry(number, first, messages, sender, text, time, size, headers)


class Store(Protocol):
    """What keeps logs beyond the server's end. It only notes what it is told, and does it later."""

    def append(self, topic: str, epoch: str, entry: Entry) -> None:
        """Keep messages."""

    def trim(self, topic: str, offset: int) -> None:
        """Forget the messages of a topic before an offset."""

    def forget(self, topic: str) -> None:
        """Forget a topic."""

    def place(self, topic: str, epoch: str, top: int, forgotten: int) -> None:
        """Note the epoch of a topic, the offset of its latest message, and the number of its latest
        entry that is forgotten, whatever was known of it. Its entries stay."""

    def begin(self, epoch: str, number: int) -> None:
        """Note the epoch of topics of which nothing is known, and a number below all new ones."""


class KeptTopic(NamedTuple):
    """What a store has kept of a topic."""

    topic: str
    epoch: str
    top: int
    """The offset of the latest message."""
    entries: Sequence[Entry]
    forgotten: int = 0
    """The number of the latest entry that is forgotten, or a larger one; 0: none is."""
    is_whole: bool = True
    """Whether these are all that there was: the server ended in order, and owned the topic then."""


class KeptPast(NamedTuple):
    """What a store has kept."""

    epoch: str
    number: int
    """The number of the latest entry, or that with which the epoch began if it is larger."""
    is_orderly: bool
    """Whether it has kept all that there was, of each topic. If not, a number and the tops that it
    returns the next time are behind the breaks (``logs.BREAK``), whatever it is told until then:
    the server uses such offsets before anything is kept."""
    topics: Iterable[KeptTopic]
