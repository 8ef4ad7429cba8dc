"""What waits for the program's callbacks and iterators, at either end.

The client uses it for everything it subscribes to, the server for subscribers within
its own process: routing by topic, a bounded mailbox for each subscription, and the one
answer that a message with several subscriptions gives.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from kps.errors import KPSError
from kps.protocol.limits import Limits, Overflow
from kps.protocol.messages import Acknowledgement, Message, make_messages

# How full a mailbox is when reading pauses for it, and when that ends. Few messages that wait
# are better than many: whatever is alive costs memory and the garbage collector's time.
_CROWDED = 1 / 32
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

    def __init__(self, topic: str, limits: Limits) -> None:
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


class Subscriptions:
    """All subscriptions of one program, and the answers they owe.

    ``answer`` is called with each :class:`Acknowledgement` that is settled by all
    subscriptions that got its message, ``crowded`` with a mailbox that has
    filled up to a mark, when something has been put into it.
    """

    def __init__(
        self,
        limits: Limits,
        answer: Callable[[Acknowledgement], None],
        crowded: Callable[[Mailbox], None] | None = None,
    ) -> None:
        self._limits = limits
        self._answer = answer
        self._crowded = crowded
        self._by_topic: dict[str, list[Mailbox]] = {}
        self.ready: list[Mailbox] = []
        """The mailboxes that were empty and have got something."""
        self.overflowed: list[Mailbox] = []
        """The mailboxes that began to drop messages."""
        self._direct: Mailbox | None = None
        self._server_data: list[Mailbox] = []

    @property
    def topics(self) -> list[str]:
        return list(self._by_topic)

    def mailboxes(self, topic: str) -> list[Mailbox]:
        """The subscriptions to one topic."""
        return list(self._by_topic.get(topic, ()))

    def count(self, topic: str) -> int:
        return len(self._by_topic.get(topic, ()))

    def add(self, topic: str) -> Mailbox:
        """Make a subscription to a topic."""
        mailbox = Mailbox(topic, self._limits)
        self._by_topic.setdefault(topic, []).append(mailbox)
        return mailbox

    def open_direct(self) -> Mailbox:
        """Make the subscription to direct messages; there is one at most."""
        if self._direct is None:
            self._direct = Mailbox("", self._limits)
        return self._direct

    def open_server_data(self) -> Mailbox:
        """Make a subscription to what other servers send. It lasts."""
        self._server_data.append(Mailbox("", self._limits))
        return self._server_data[-1]

    def remove(self, mailbox: Mailbox) -> bool:
        """End a subscription; tell whether it was the last one of its topic.

        What still waits in it is given up; who wants acks for it is told.
        """
        if mailbox.closed:
            return False
        mailbox.closed = True
        for message in mailbox.take_all():
            self.settle(message, "unsubscribed")
        if mailbox is self._direct:
            self._direct = None
            return False
        if mailbox.error is not None:
            return False  # it is none of its topic's any more
        others = self._by_topic[mailbox.topic]
        others.remove(mailbox)
        if others:
            return False
        del self._by_topic[mailbox.topic]
        return True

    def refuse(self, topic: str, error: KPSError) -> list[Mailbox]:
        """End every subscription to a topic for an error; what waits may still be taken."""
        mailboxes = self._by_topic.pop(topic, [])
        for mailbox in mailboxes:
            mailbox.error = error
        return mailboxes

    def deliver(
        self, topic: str, data: object, sender: str, size: int, ack_id: str, epoch: int
    ) -> bool:
        """Give a message to every subscription of its topic; ``False`` if there is none.

        Each gets a message object of its own; the payload in it is one and the same for all.
        """
        mailboxes = self._by_topic.get(topic)
        if mailboxes is None:
            return False
        acknowledgement = Acknowledgement(ack_id, epoch, len(mailboxes)) if ack_id else None
        for mailbox in mailboxes:
            self._put(mailbox, Message(topic, data, sender, size, acknowledgement))
        return True

    def deliver_all(self, topic: str, payloads: Sequence[object], sender: str, size: int) -> None:
        """Give several messages that want no ack, of ``size`` bytes each, to every subscription."""
        for mailbox in self._by_topic.get(topic, ()):
            messages = make_messages(topic, payloads, sender, size)
            if mailbox.put_all(messages, size):
                if len(mailbox) == len(messages):
                    self.ready.append(mailbox)
                self._after_putting(mailbox)
            else:
                for message in messages:
                    self._put(mailbox, message)

    def deliver_direct(self, data: object, sender: str, size: int, ack_id: str, epoch: int) -> bool:
        """Give a direct message to its callback; ``False`` if there is none."""
        if self._direct is None:
            return False
        acknowledgement = Acknowledgement(ack_id, epoch, 1) if ack_id else None
        self._put(self._direct, Message("", data, sender, size, acknowledgement))
        return True

    def deliver_server_data(self, data: object, sender: str, size: int) -> None:
        """Give a message of another server to all who take them."""
        for mailbox in self._server_data:
            self._put(mailbox, Message("", data, sender, size))

    def settle(self, message: Message, error: str | None, result: Any = None) -> None:
        """Note that one subscription is done with a message, well or with an error.

        ``result`` is what handling it gave, or ``None``.
        """
        acknowledgement = message.acknowledgement
        if acknowledgement is None:
            return
        message.acknowledgement = None  # a second call means nothing
        if error is not None and acknowledgement.error is None:
            acknowledgement.error = error
        if acknowledgement.result is None:
            acknowledgement.result = result
        acknowledgement.remaining -= 1
        if acknowledgement.remaining == 0:
            self._answer(acknowledgement)

    def take_ready(self) -> list[Mailbox]:
        """Take what is in ``ready``."""
        ready, self.ready = self.ready, []
        return ready

    def take_overflowed(self) -> list[Mailbox]:
        """Take what is in ``overflowed``."""
        overflowed, self.overflowed = self.overflowed, []
        return overflowed

    def _put(self, mailbox: Mailbox, message: Message) -> None:
        if not len(mailbox):
            self.ready.append(mailbox)
        dropped = mailbox.put(message)
        if dropped:
            if mailbox.starts_overflowing():
                self.overflowed.append(mailbox)
            for lost in dropped:
                self.settle(lost, "queue full")
        self._after_putting(mailbox)

    def _after_putting(self, mailbox: Mailbox) -> None:
        if self._crowded is not None and mailbox.fills(_CROWDED):
            self._crowded(mailbox)
