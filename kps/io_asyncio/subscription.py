"""The results of ``subscribe``."""

from collections.abc import Coroutine, Sequence
from copy import copy
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self

from kps.errors import InvalidState, RequestTimeout
from kps.io_asyncio.driver import Driver
from kps.io_asyncio.handle import Handle
from kps.io_asyncio.locked import locked
from kps.io_asyncio.news import News
from kps.io_asyncio.workers import Worker, current_worker, has_ended, outcome_of, watch
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message, T
from kps.protocol.dialect.outcome import in_words
from kps.protocol.dialect.places import Position
from kps.protocol.patterns import group_of


class SubscriptionOwner(Protocol):
    """The client or server that a subscription belongs to."""

    _driver: Driver

    async def _confirmed(self, mailbox: Mailbox) -> None:
        """Wait until the subscription is live."""

    def _unsubscribe(self, mailbox: Mailbox) -> None:
        """End the subscription."""

    def _settle(self, message: Message[Any], error: str | None, *, more: bool = False) -> None:
        """Give the core the outcome of a message."""

    def _end_of_messages(self) -> Exception | None:
        """Return the exception that iterators raise at the end, or ``None`` before the end."""


class Subscription(Handle, Generic[T]):
    """A subscription to one topic, whose callback gets each message.

    ``subscription.unsubscribe()`` ends it; ``subscription()`` does so from any thread. On asyncio
    ``await subscription`` waits until the server has confirmed it, or raises its refusal. A wait
    that is cancelled ends the subscription, unless somebody else waits as well or has done so.
    """

    def __init__(self, owner: SubscriptionOwner, mailbox: Mailbox) -> None:
        self._owner = owner
        self._driver = owner._driver
        self._mailbox = mailbox
        self._is_held = False  # whether somebody has learnt that it is in force

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.topic!r}>"

    @property
    def topic(self) -> str:
        """The topic, or the text of the pattern."""
        return self._mailbox.topic

    @property
    def group(self) -> str:
        """The name of the group of which it is a member; empty: none."""
        return group_of(self._mailbox.key)

    @property
    def dropped(self) -> int:
        """Messages that were dropped because the program handled them too slowly."""
        return self._mailbox.dropped

    @property
    def position(self) -> Position | None:
        """The place in history of the last message that the program has begun to handle.

        Give it to ``subscribe`` as ``since``, in this program or another one. ``None`` before the
        first message, and for a topic without history.
        """
        message = self._mailbox.latest
        return None if message is None else message.position

    @property
    def unconfirmed(self) -> Sequence[str]:
        """The nodes of a cluster that had not confirmed the subscription when the server did.

        What is published there may not come, until they know of it (spec, 23.2). Empty as a rule.
        """
        return self._mailbox.unconfirmed

    async def unsubscribe(self) -> None:
        """End the subscription. May be called twice, and after the end.

        On asyncio it raises :class:`kps.WrongThread` outside the event loop.
        """
        self._end_now(None)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Without the lock, because the words are those of the program's own exception.
        self._end_now(None if exc is None else in_words(exc))

    if not TYPE_CHECKING:  # without this method a type checker rejects iteration

        def __aiter__(self) -> Self:
            raise InvalidState("this subscription has a callback; iterate over one without")

    @locked
    async def _in_force(self) -> None:
        try:
            await self._owner._confirmed(self._mailbox)
        except GeneratorExit:  # the task is destroyed, and its loop is gone
            raise
        except BaseException:
            is_missed = self._is_held or self._mailbox.waiters
            if not self._mailbox.is_over and not is_missed:
                self._end(None)
            raise
        self._is_held = True

    @locked
    def _end_now(self, error: str | None) -> None:
        if self._driver.may_end:
            self._end(error)

    def _end(self, error: str | None) -> None:
        self._owner._unsubscribe(self._mailbox)


class Messages(Subscription[T]):
    """A subscription to one topic without a callback: an iterator of its messages.

    It ends by itself when nothing refers to it any more, for instance after a loop over it::

        async for message in client.subscribe("news"):
            print(message.data)

    Several workers (on asyncio tasks, on threads threads) may share an iterator: each message goes
    to one of them. A message that wants an ack counts as handled when the worker that took it
    asks for the next one, or ends the subscription. With ``async with`` the end is exact: an
    exception that leaves the block is reported to the publisher. If the worker itself ends first,
    a task that returned has handled its message, and one that raised has failed, at once; of a
    thread that is unknown, so it counts as failed when another one asks. Cancelling a wait for the
    next message loses none.

    ``Messages[Order]`` declares the type of the payloads; plain ``Messages`` means any.
    """

    def __init__(
        self, owner: SubscriptionOwner, mailbox: Mailbox, news: News, timeout: float | None
    ) -> None:
        # Those that want an ack, by the worker that took them.
        self._taken: dict[Worker, Message[T]] = {}
        self._news = news
        self._timeout = timeout
        self._watched: set[Worker] = set()  # workers whose end we are told of
        super().__init__(owner, mailbox)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Message[T]]:
        """Return the next message. Raises :class:`kps.RequestTimeout` if none comes in time."""
        # The caller of this is the worker; ``wait_for`` may run the result in another task.
        return self._next(self._driver.worker())

    @locked
    async def _next(self, worker: Worker) -> Message[T]:
        driver = self._driver  # asyncio
        if get_ident() != driver.thread or not driver.is_running():  # asyncio
            driver.runtime.check()  # asyncio
        if self._taken:
            self._driver.runtime.check()  # asyncio
            self._settle_taken(worker, None)
        message = self._mailbox.take()
        if message is None:
            is_in_time = await self._news.until(self._has_something, self._timeout)
            message = self._mailbox.take()
            if message is None:
                raise self._end_of_iteration() if is_in_time else self._timed_out()
        if message.wants_ack:
            if worker in self._taken:  # it waits for two at once
                self._settle_taken(worker, None)
            self._taken[worker] = message
            if worker not in self._watched and watch(worker, self):
                self._watched.add(worker)
        return message

    def __del__(self) -> None:
        mailbox = getattr(self, "_mailbox", None)  # none if an exception came in as it was made
        if mailbox is not None and (self._taken or not mailbox.closed):
            # It is unknown whether the last message was handled: an exception in a loop looks
            # the same as a ``break``.
            for message in self._taken.values() or (None,):
                self._driver.leave_later(mailbox, message, "the subscription was left")

    def _has_something(self) -> bool:
        mailbox = self._mailbox
        return len(mailbox) > 0 or mailbox.is_over or self._owner._end_of_messages() is not None

    def _end_of_iteration(self) -> Exception:
        if self._mailbox.error is not None:
            return copy(self._mailbox.error)
        ended = None if self._mailbox.closed else self._owner._end_of_messages()
        return ended or StopAsyncIteration()

    def _timed_out(self) -> RequestTimeout:
        return RequestTimeout(f"no message on {self.topic!r} for {self._timeout} s")

    @locked
    def _worker_ended(self, worker: Worker) -> None:
        """Settle the message of a worker that has ended, at once: nobody may ask for another."""
        self._watched.discard(worker)
        if worker in self._taken and self._driver.may_end:
            self._owner._settle(self._taken.pop(worker), outcome_of(worker, self.topic))

    def _settle_taken(self, worker: Worker, error: str | None) -> None:
        """Settle the message that a worker took, and those of workers that have ended."""
        for other, message in list(self._taken.items()):
            if other is worker or has_ended(other):
                del self._taken[other]
                outcome = error if other is worker else outcome_of(other, self.topic)
                self._owner._settle(message, outcome, more=len(self._mailbox) > 0)

    def _end(self, error: str | None) -> None:
        self._settle_taken(current_worker(), error)
        super()._end(error)
