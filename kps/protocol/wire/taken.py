"""What a driver took last: it may turn out that it could not write all of it."""

from collections.abc import Collection
from typing import Protocol

# Smaller takes in a row are remembered as one, up to this size, once there are more than so many.
# So the takes that are remembered have hundreds of KiB in all: more than a driver holds at a time.
_SMALL = 4 * 1024
_MOST = 256


class Frames(Protocol):
    """Whole frames that were queued as one."""

    messages: int
    frames: int


class Taken:
    """Remembers how many messages each of the latest takes had."""

    __slots__ = ("_takes",)

    def __init__(self) -> None:
        self._takes: list[tuple[int, int, int]] = []

    def note(self, size: int, messages: int, frames: int) -> None:
        """Note a take of ``size`` bytes, not 0: that many messages, in that many frames."""
        takes = self._takes
        takes.append((size, messages, frames))
        if len(takes) > 2 * _MOST:
            self._takes = _joined(takes)[-_MOST:]

    def note_all(self, size: int, entries: Collection[Frames]) -> None:
        """Note a take of ``size`` bytes, which consisted of ``entries``."""
        messages = sum([entry.messages for entry in entries])
        self.note(size, messages, sum([entry.frames for entry in entries]))

    def messages_in(self, unwritten: int) -> int:
        """Count the messages in the last bytes, as far as they are remembered.

        A message is lost if any part of its frame is. If a take was written in part, its frames
        count as equally long.
        """
        lost = 0
        for size, messages, frames in reversed(self._takes):
            if unwritten <= 0:
                break
            cut = min(frames, -(-frames * unwritten // size))
            lost += -(-messages * cut // frames)
            unwritten -= size
        return lost


def _joined(takes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join small takes in a row."""
    joined = takes[:1]
    for size, messages, frames in takes[1:]:
        before, others, more = joined[-1]
        if before + size <= _SMALL:
            joined[-1] = (before + size, others + messages, more + frames)
        else:
            joined.append((size, messages, frames))
    return joined
