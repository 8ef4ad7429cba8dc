"""What waits for the program's callbacks and iterators, at either end.

The client uses it for everything it subscribes to, the server for subscribers within
its own process: routing by topic, a bounded mailbox for each subscription, and the one
answer that a message with several subscriptions gives.
"""

from collections.abc import Callable, Sequence
from typing import Any

from kps.errors import KPSError
from kps.protocol.bus.mailbox import CROWDED, Mailbox
from kps.protocol.bus.message import Acknowledgement, Message, make_messages
from kps.protocol.limits import ProgramLimits


class Subscriptions:
    """All subscriptions of one program, and the answers they owe.

    ``answer`` is called with each :class:`Acknowledgement` that is settled by all
    subscriptions that got its message, ``crowded`` with a mailbox that has
    filled up to a mark, when something has been put into it.
    """

    def __init__(
        self,
        limits: ProgramLimits,
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
        if self._crowded is not None and mailbox.fills(CROWDED):
            self._crowded(mailbox)
