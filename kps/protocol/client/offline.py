"""Messages that the program publishes while there is no connection, kept for the next one."""

from collections import deque

from kps.protocol.client.config import ClientConfig


class OfflineQueue:
    """Keeps messages, bounded in number and bytes.

    They are kept as messages, not as frames: the next server may take less, and is told so.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._most = config.offline_messages
        self._most_bytes = config.offline_bytes
        self._messages: deque[bytes] = deque()
        self.size = 0
        """Bytes that wait."""

    def __len__(self) -> int:
        return len(self._messages)

    def keep(self, message: bytes) -> bool:
        """Keep a message if there is room; tell whether there was."""
        if len(self._messages) >= self._most or self.size + len(message) > self._most_bytes:
            return False
        self._messages.append(message)
        self.size += len(message)
        return True

    def take_all(self) -> list[bytes]:
        """Remove and return what was kept, the oldest first."""
        messages = list(self._messages)
        self._messages.clear()
        self.size = 0
        return messages
