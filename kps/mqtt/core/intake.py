"""Messages with QoS 1 that the broker has sent, from their arrival to our acknowledgement.

MQTT wants acknowledgements in the order of arrival. A broker sends again what we have not
acknowledged when the connection is lost; what is still under way then is not handled twice.
"""

from collections import deque
from collections.abc import Iterator

from kps.mqtt.core.packets import Publish


class Entry:
    """A message that waits for its acknowledgement."""

    __slots__ = ("code", "message")

    def __init__(self, message: Publish) -> None:
        self.message = message
        self.code: int | None = None
        """What to answer, once that is known."""


class Intake:
    """All of them, over several connections."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._order: deque[Entry] = deque()  # as they came on this connection

    def __len__(self) -> int:
        return len(self._entries)

    def came(self, message: Publish) -> Entry | None:
        """Take a message. ``None``: it is one that came before, and is under way or settled.

        Nothing has told the broker of that one yet, so it cannot be another message.
        """
        entry = self._entries.get(message.pid)
        if entry is not None and message.dup and _same(entry.message, message):
            self._order.append(entry)
            return None
        entry = self._entries[message.pid] = Entry(message)
        self._order.append(entry)
        return entry

    def settle(self, entry: Entry, code: int) -> None:
        """Note how a message is to be answered."""
        entry.code = code

    def take(self) -> Iterator[tuple[int, int]]:
        """Yield the packets that can be acknowledged now, in order: number and code."""
        while self._order and self._order[0].code is not None:
            entry = self._order.popleft()
            pid = entry.message.pid
            if self._entries.get(pid) is entry:
                del self._entries[pid]
            yield pid, entry.code or 0

    def lost(self) -> None:
        """The connection is gone: nothing can be acknowledged before it comes again."""
        self._order.clear()

    def opened(self, session_present: bool) -> None:
        """A connection has begun. Without its session the broker sends nothing again."""
        if not session_present:
            self._entries.clear()


def _same(one: Publish, other: Publish) -> bool:
    return one.topic == other.topic and one.payload == other.payload
