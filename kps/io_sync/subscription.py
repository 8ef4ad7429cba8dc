"""What ``subscribe`` returns."""

from types import TracebackType
from typing import Protocol, Self

from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message


class SubscriptionOwner(Protocol):
    """The client or server that a subscription belongs to."""

    def _next_message(self, mailbox: Mailbox, timeout: float | None) -> Message:
        """Wait for a message; raises what ends the iteration."""

    def _unsubscribe(self, mailbox: Mailbox) -> None:
        """End the subscription."""

    def _leave_later(self, mailbox: Mailbox, message: Message | None, error: str) -> None:
        """End the subscription soon. Without taking the lock: garbage is collected anywhere."""

    def _settle(self, message: Message, error: str | None) -> None:
        """Tell how handling a message went."""


class Subscription:
    """A subscription to one topic.

    With a callback, the callback gets each message until ``unsubscribe``. Without one, it is
    an iterator of :class:`Message`, and it ends by itself when nothing refers to it any more
    (so when a ``for`` over it is left)::

        for message in client.subscribe("news"):
            print(message.data)

    A message that wants an ack counts as handled when the next one is asked for or the
    subscription ends in an orderly way. ``with`` makes the end exact: leaving it by an
    exception reports that exception to the publisher.
    """

    def __init__(
        self, owner: SubscriptionOwner, mailbox: Mailbox, iterates: bool, timeout: float | None
    ) -> None:
        self._owner = owner
        self._mailbox = mailbox
        self._iterates = iterates
        self._timeout = timeout
        self._current: Message | None = None

    def __repr__(self) -> str:
        return f"<Subscription to {self.topic!r}>"

    @property
    def topic(self) -> str:
        return self._mailbox.topic

    @property
    def dropped(self) -> int:
        """Messages that were dropped because they were handled too slowly."""
        return self._mailbox.dropped

    def unsubscribe(self) -> None:
        """End the subscription. May be called twice."""
        self._end(None)

    def __call__(self) -> None:
        """End the subscription."""
        self._end(None)

    def __iter__(self) -> Self:
        if not self._iterates:
            raise TypeError("this subscription has a callback; iterate over one without")
        return self

    def __next__(self) -> Message:
        self._settle_current(None)
        message = self._owner._next_message(self._mailbox, self._timeout)
        self._current = message if message.wants_ack else None
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(None if exc is None else str(exc) or type(exc).__name__)

    def __del__(self) -> None:
        if self._iterates and not self._mailbox.closed:
            # Whether the last message was handled is not known: leaving a loop by an
            # exception looks the same as leaving it by a break.
            self._owner._leave_later(self._mailbox, self._current, "the subscription was left")

    def _settle_current(self, error: str | None) -> None:
        message, self._current = self._current, None
        if message is not None:
            self._owner._settle(message, error)

    def _end(self, error: str | None) -> None:
        self._settle_current(error)
        self._owner._unsubscribe(self._mailbox)
