"""Keeps messages that the program publishes offline for the next connection."""

from collections import deque

from kps.protocol.client.config import ClientConfig
from kps.protocol.cost import KEPT, compact


class OfflineQueue:
    """A queue of messages, bounded in number and bytes.

    It holds messages rather than frames, because the next server may accept only smaller ones.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._most = config.offline_messages
        self._most_bytes = config.offline_bytes
        self._messages: deque[bytes] = deque()
        self.size = 0
        """Bytes for which the queue counts: its messages, and what each takes besides."""

    def __len__(self) -> int:
        return len(self._messages)

    def keep(self, message: bytes) -> bool:
        """Keep a message if there is room; tell whether there was."""
        size = len(message) + KEPT
        if len(self._messages) >= self._most or self.size + size > self._most_bytes:
            return False
        self._messages.append(compact(message))
        self.size += size
        return True

    def take_all(self) -> list[bytes]:
        """Remove and return all messages, the oldest first."""
        messages = list(self._messages)
        self._messages.clear()
        self.size = 0
        return messages
