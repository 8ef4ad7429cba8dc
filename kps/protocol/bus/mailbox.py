"""The queue of messages pending for one subscription: bounded, with a named policy."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import length_hint

from kps.errors import KPSError
from kps.protocol.bus.members import PresenceCallback
from kps.protocol.bus.message import Message
from kps.protocol.cost import MESSAGE
from kps.protocol.limits import Overflow, ProgramLimits
from kps.protocol.patterns import Key, scope_of

# High-water and low-water marks, as parts of a mailbox: reading pauses above the first, and
# resumes below the second. They are low, because every pending message costs memory and the
# garbage collector's time.
CROWDED = 1 / 32
_RELIEVED = 1 / 64


class Mailbox:
    """The messages pending for one subscription, in order."""

    __slots__ = (
        "_batch",
        "_handed",
        "_latest",
        "_limits",
        "_messages",
        "_overflowing",
        "closed",
        "dropped",
        "error",
        "key",
        "observer",
        "on_relief",
        "size",
        "taken",
        "topic",
        "unconfirmed",
        "waiters",
        "waits_for",
    )

    def __init__(self, key: Key, limits: ProgramLimits) -> None:
        self.key = key
        """What it is to; empty for direct messages and for messages of other servers."""
        self.topic = str(scope_of(key))
        """The topic or the text of the pattern."""
        self.size = 0
        """Bytes for which the pending messages count: their JSON, and what each takes besides."""
        self.dropped = 0
        """Messages dropped so far because the mailbox was full."""
        self.taken = 0
        """Messages taken so far, by batches too."""
        self.on_relief: Callable[[], None] | None = None
        """Called once, when the mailbox has drained to the low-water mark."""
        self.closed = False
        """Whether the program ended the subscription, and drops the pending messages."""
        self.error: KPSError | None = None
        """Why the subscription ended, if the program did not end it."""
        self.observer: PresenceCallback | None = None
        """What the program wants to be called with the members of the topic, if anything."""
        self.unconfirmed: Sequence[str] = ()
        """The nodes of a cluster that may not know of the subscription."""
        self.waiters = 0
        """Number of callers that wait for the subscription, and will raise ``error``."""
        self.waits_for: Callable[[], int] | None = None
        """While the messages wait for a thread that others use: counts what these finish."""
        self._handed: list[Message] = []  # the messages of the batch
        self._latest: Message | None = None  # the last one before it
        self._batch: Iterator[Message] = iter(())  # a list's, whose length the program sees
        self._messages: deque[Message] = deque()
        self._limits = limits
        self._overflowing = False

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def is_over(self) -> bool:
        """Whether the subscription has ended."""
        return self.closed or self.error is not None

    @property
    def has_work(self) -> bool:
        """Whether there are messages that the program has not begun to handle."""
        return bool(self._messages) or length_hint(self._batch) > 0

    @property
    def unhandled(self) -> int:
        """How many messages the program has not begun to handle."""
        return len(self._messages) + length_hint(self._batch)

    def progress(self) -> tuple[int, int]:
        """Return a value that changes whenever the program goes on to another message.

        While it does not change, the program has finished nothing. A mailbox that waits for a
        thread is not to blame: it goes on as long as those do for which it waits.
        """
        begun = self.taken - length_hint(self._batch)
        return begun, 0 if self.waits_for is None else self.waits_for()

    def batch(self, most: int) -> Iterator[Message]:
        """Return an iterator over the next messages that the program handles, up to ``most``.

        It is the same one until it is exhausted. A program that leaves a batch half handled loses
        nothing.
        """
        if not length_hint(self._batch):
            if self._handed:
                self._latest = self._handed[-1]
            self._handed = self.take_some(most)
            self._batch = iter(self._handed)
        return self._batch

    @property
    def latest(self) -> Message | None:
        """The last message that the program has begun to handle."""
        begun = len(self._handed) - length_hint(self._batch)
        return self._handed[begun - 1] if begun > 0 else self._latest

    def take(self) -> Message | None:
        """Remove and return the oldest message, or ``None``."""
        if not self._messages:
            return None
        message = self._latest = self._messages.popleft()
        self._took(1, message.size + MESSAGE)
        return message

    def take_all(self) -> list[Message]:
        """Remove and return all messages."""
        messages = list(self._messages)
        self._messages.clear()
        self._took(len(messages), self.size)
        return messages

    def take_some(self, most: int) -> list[Message]:
        """Remove and return up to ``most`` messages, the oldest first."""
        if len(self._messages) <= most:
            return self.take_all()
        messages = [self._messages.popleft() for _ in range(most)]
        self._took(most, sum(message.size for message in messages) + most * MESSAGE)
        return messages

    def clear(self) -> None:
        """Drop all messages that the program has not begun to handle, also those of a batch."""
        self._messages.clear()
        self.size = 0
        for _ in self._batch:
            pass

    def put(self, message: Message) -> list[Message]:
        """Add a message; return the ones that had to be dropped."""
        dropped: list[Message] = []
        messages = self._messages
        size = message.size + MESSAGE
        if messages and not self._has_room(size):
            limits = self._limits
            is_too_large = size > limits.mailbox_bytes  # it must not empty the mailbox
            if is_too_large or limits.mailbox_overflow is Overflow.DROP_NEWEST:
                self.dropped += 1
                return [message]
            while messages and not self._has_room(size):
                oldest = messages.popleft()
                self.size -= oldest.size + MESSAGE
                dropped.append(oldest)
            self.dropped += len(dropped)
        messages.append(message)
        self.size += size
        return dropped

    def put_all(self, messages: list[Message], size: int) -> bool:
        """Add messages of ``size`` bytes in all if there is room; tell whether there was."""
        total = size + MESSAGE * len(messages)
        if not self._has_room(total, len(messages)):
            return False
        self._messages.extend(messages)
        self.size += total
        return True

    def fills(self, part: float) -> bool:
        """Tell whether more than ``part`` of the mailbox is full."""
        limits = self._limits
        return (
            len(self._messages) > part * limits.mailbox_messages
            or self.size > part * limits.mailbox_bytes
        )

    def starts_overflowing(self) -> bool:
        """Tell whether a drop is the first one since the last ``take``."""
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
