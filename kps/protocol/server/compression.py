"""Decides which publications are compressed: those that are long, on topics where it pays."""

from collections import OrderedDict

from kps.protocol.server.turns import Turns
from kps.protocol.wire.frames import deflated_frame, read_header, split_frames
from kps.protocol.wire.outbox import Entry

LARGEST = 256 * 1024
"""Bytes of the largest publication that is compressed, with all its frames. It takes up to two
milliseconds, or ten if it hardly becomes smaller, and nobody else has a turn meanwhile."""

# A message pays if it becomes smaller than this part of its size. Base64 of what is compressed
# already becomes 0.78, and takes five times as long as other JSON.
_PAYS = 0.7
_FIRST = 0.5  # what is expected of a new topic
_NEW = 0.25  # how much the latest message counts
_AGAIN = 64  # messages of a topic where it does not pay, of which one is tried
_MOST_TOPICS = 1024  # of which the ratio is known

# Units of work (see ``turns``): of each message, and bytes before and behind for one.
_EACH = 8
_READ = 512
_WRITTEN = 32


class _Topic:
    """How small the messages of a topic become."""

    __slots__ = ("_passed", "_ratio")

    def __init__(self) -> None:
        self._ratio = _FIRST  # running mean of the new size, as a part of the old one
        self._passed = 0  # messages that were not compressed because it does not pay

    def is_tried(self) -> bool:
        """Tell whether to compress the next message."""
        if self._ratio <= _PAYS:
            return True
        self._passed += 1
        return self._passed % _AGAIN == 0

    def learn(self, ratio: float) -> bool:
        """Note what became of a message; tell whether that pays."""
        self._ratio += _NEW * (ratio - self._ratio)
        return ratio <= _PAYS


class Compressor:
    """Compresses publications of one server, if they are long and it pays.

    ``least`` is the size in bytes from which a message is long.
    """

    def __init__(self, least: int, turns: Turns) -> None:
        from kps.protocol.wire.deflate import deflate  # most servers need no zlib

        self._deflate = deflate
        self._least = least
        self._turns = turns
        self._topics: OrderedDict[str, _Topic] = OrderedDict()

    def compress(self, topic: str, entry: Entry) -> Entry:
        """Return an entry with the messages of another one, or that one if none is compressed."""
        plain = entry.data
        if not entry.frames * self._least <= len(plain) <= LARGEST:
            return entry
        frames = b"".join([self._frame(topic, frame) for frame in split_frames(plain)])
        if len(frames) == len(plain):
            return entry
        return Entry(frames, entry.kind, entry.messages, entry.frames)

    def _frame(self, topic: str, frame: bytes) -> bytes:
        """Return the frame of a text message with that message compressed, if that is to be."""
        header = read_header(frame, 0)
        assert header is not None
        size = header.length
        if size < self._least:
            return frame
        known = self._known(topic)
        if not known.is_tried():
            return frame
        deflated = self._deflate(frame[header.start :])
        self._turns.left -= _EACH + size // _READ + len(deflated) // _WRITTEN
        pays = known.learn(len(deflated) / size)
        return deflated_frame(deflated) if pays else frame

    def _known(self, topic: str) -> _Topic:
        topics = self._topics
        known = topics.get(topic)
        if known is None:
            if len(topics) >= _MOST_TOPICS:
                topics.popitem(last=False)
            known = topics[topic] = _Topic()
        else:
            topics.move_to_end(topic)
        return known
