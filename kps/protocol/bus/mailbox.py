"""The messages that wait for one subscription: bounded, with a named policy."""

from collections import deque
from collections.abc import Callable

from kps.errors import KPSError
from kps.protocol.bus.message import Message
from kps.protocol.limits import Overflow, ProgramLimits

# How full a mailbox is when reading pauses for it, and when that ends. Few messages that wait
# are better than many: whatever is alive costs memory and the garbage collector's time.
CROWDED = 1 / 32


_RELIEVED = 1 / 64


class Mailbox:
    """The messages that wait for one subscription, in order."""

    __slots__ = (
        "_limits",
        "_messages",
        "_overflowing",
        "closed",
        "dropped",
        "error",
        "on_relief",
        "size",
        "taken",
        "topic",
        "waiters",
    )

    def __init__(self, topic: str, limits: ProgramLimits) -> None:
        self.topic = topic
        """The topic; empty for direct messages and for what other servers send."""
        self.size = 0
        """Bytes that wait."""
        self.dropped = 0
        """Messages dropped so far because the mailbox was full."""
        self.taken = 0
        """Messages taken so far."""
        self.on_relief: Callable[[], None] | None = None
        """Called once, when little is left in it."""
        self.closed = False
        """Whether the program has ended it, and gives up what waits."""
        self.error: KPSError | None = None
        """Why nothing more comes into it, though the program has not ended it."""
        self.waiters = 0
        """How many callers wait for the server's word on it, and will raise ``error``."""
        self._messages: deque[Message] = deque()
        self._limits = limits
        self._overflowing = False

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes into it."""
        return self.closed or self.error is not None

    def take(self) -> Message | None:
        """Remove and return the oldest message, or ``None``."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._took(1, message.size)
        return message

    def take_all(self) -> list[Message]:
        """Remove and return everything that waits."""
        messages = list(self._messages)
        self._messages.clear()
        self._took(len(messages), self.size)
        return messages

    def take_some(self, most: int) -> list[Message]:
        """Remove and return up to ``most`` messages, the oldest first."""
        if len(self._messages) <= most:
            return self.take_all()
        messages = [self._messages.popleft() for _ in range(most)]
        self._took(most, sum(message.size for message in messages))
        return messages

    def put(self, message: Message) -> list[Message]:
        """Add a message; return the ones that had to be dropped."""
        dropped: list[Message] = []
        messages = self._messages
        if messages and not self._has_room(message.size):
            if self._limits.mailbox_overflow is Overflow.DROP_NEWEST:
                self.dropped += 1
                return [message]
            while messages and not self._has_room(message.size):
                oldest = messages.popleft()
                self.size -= oldest.size
                dropped.append(oldest)
            self.dropped += len(dropped)
        messages.append(message)
        self.size += message.size
        return dropped

    def put_all(self, messages: list[Message], size: int) -> bool:
        """Add messages of ``size`` bytes each, if there is room for all; ``False`` if not."""
        if not self._has_room(size * len(messages), len(messages)):
            return False
        self._messages.extend(messages)
        self.size += size * len(messages)
        return True

    def fills(self, part: float) -> bool:
        """Whether more than such a part of it is full."""
        limits = self._limits
        return (
            len(self._messages) > part * limits.mailbox_messages
            or self.size > part * limits.mailbox_bytes
        )

    def starts_overflowing(self) -> bool:
        """Whether a drop is the first one since the mailbox was last read from."""
        first = not self._overflowing
        self._overflowing = True
        return first

    def _took(self, count: int, size: int) -> None:
        self.taken += count
        self.size -= size
        self._overflowing = False
        if self.on_relief is not None and not self.fills(_RELIEVED):
            on_relief, self.on_relief = self.on_relief, None
            on_relief()

    def _has_room(self, size: int, count: int = 1) -> bool:
        limits = self._limits
        return (
            len(self._messages) + count <= limits.mailbox_messages
            and self.size + size <= limits.mailbox_bytes
        )
