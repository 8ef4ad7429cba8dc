"""What ``subscribe`` returns."""

import asyncio
from collections.abc import Generator
from types import TracebackType
from typing import Protocol, Self

from kps.io_asyncio.arrival import Arrival
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message


class SubscriptionOwner(Protocol):
    """The client or server that a subscription belongs to."""

    async def _confirmed(self, mailbox: Mailbox) -> None:
        """Wait until the subscription is in force."""

    def _unsubscribe(self, mailbox: Mailbox) -> None:
        """End the subscription."""

    def _settle(self, message: Message, error: str | None) -> None:
        """Tell how handling a message went."""

    def _end_of_messages(self) -> Exception | None:
        """``None`` while messages may come; else what the iterators raise at the end."""

    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...


class Subscription:
    """A subscription to one topic.

    * ``await subscription`` waits until the server has confirmed it, or raises its refusal.
    * With a callback, the callback gets each message until ``unsubscribe``.
    * Without one, it is an async iterator of :class:`Message`, and it ends by itself when
      nothing refers to it any more (so when an ``async for`` over it is left)::

          async for message in client.subscribe("news"):
              print(message.data)

      A message that wants an ack counts as handled when the next one is asked for or the
      subscription ends in an orderly way. ``async with`` makes the end exact: leaving it by
      an exception reports that exception to the publisher.

    Cancelling a wait for the next message loses none.
    """

    def __init__(
        self,
        owner: SubscriptionOwner,
        mailbox: Mailbox,
        arrival: Arrival | None,
        timeout: float | None,
    ) -> None:
        self._owner = owner
        self._mailbox = mailbox
        self._arrival = arrival  # announces messages to an iterator; with a callback: None
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

    async def unsubscribe(self) -> None:
        """End the subscription. May be called twice."""
        self._end(None)

    def __call__(self) -> "Unsubscribed":
        """End the subscription, from any thread; awaiting the result is allowed, not needed."""
        loop = self._owner._loop
        if _runs_here(loop):
            self._end(None)
        else:
            loop.call_soon_threadsafe(self._end, None)
        return Unsubscribed()

    def __await__(self) -> Generator[None, None, Self]:
        yield from self._owner._confirmed(self._mailbox).__await__()
        return self

    def __aiter__(self) -> Self:
        self._require_arrival()
        return self

    async def __anext__(self) -> Message:
        arrival = self._require_arrival()
        self._settle_current(None)
        message = self._mailbox.take()
        if message is None:
            async with asyncio.timeout(self._timeout):
                message = await self._wait_for_message(arrival)
        self._current = message if message.wants_ack else None
        return message

    async def _wait_for_message(self, arrival: Arrival) -> Message:
        while (message := self._mailbox.take()) is None:
            ended = self._mailbox.error or self._owner._end_of_messages()
            if self._mailbox.closed or ended is not None:
                raise ended or StopAsyncIteration()
            await arrival.wait()
        return message

    async def __aenter__(self) -> Self:
        await self
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(None if exc is None else str(exc) or type(exc).__name__)

    def __del__(self) -> None:
        if (
            self._arrival is not None
            and not self._mailbox.closed
            and not self._owner._loop.is_closed()
        ):
            # Whether the last message was handled is not known: leaving a loop by an
            # exception looks the same as leaving it by a break.
            owner, mailbox, current = self._owner, self._mailbox, self._current

            def end() -> None:
                if current is not None:
                    owner._settle(current, "the subscription was left")
                owner._unsubscribe(mailbox)

            owner._loop.call_soon_threadsafe(end)  # never in the middle of something else

    def _settle_current(self, error: str | None) -> None:
        message, self._current = self._current, None
        if message is not None:
            self._owner._settle(message, error)

    def _end(self, error: str | None) -> None:
        self._settle_current(error)
        self._owner._unsubscribe(self._mailbox)
        if self._arrival is not None:
            self._arrival.announce()

    def _require_arrival(self) -> Arrival:
        if self._arrival is None:
            raise TypeError("this subscription has a callback; iterate over one without")
        return self._arrival


class Unsubscribed:
    """The answer to ``subscription()``: it is done, and may be awaited all the same."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
