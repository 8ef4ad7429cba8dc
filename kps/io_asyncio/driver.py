"""What the asyncio client and server have in common: one core, one timer, one step a turn.

The core is given bytes and verbs at any time; what follows from them is done once per turn
of the event loop, in :meth:`Driver._step`: events are handled, each connection is written
to once with everything that waits for it, and the timer is set to the core's next deadline.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn

from kps.errors import NotConnected
from kps.io_asyncio.ack import Ack
from kps.io_asyncio.arrival import Arrival
from kps.io_asyncio.dispatch import Dispatcher
from kps.io_asyncio.subscription import Subscription
from kps.io_common.logs import log_overflow
from kps.io_common.settings import Callback
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import AckHandle, Message
from kps.protocol.bus.subscriptions import Subscriptions


class Driver(ABC):
    """Runs one core on the event loop."""

    _limits: Any

    def __init__(self) -> None:
        self._running_loop: asyncio.AbstractEventLoop | None = None
        self._clock: Callable[[], float] = _not_started
        self._dispatcher: Dispatcher
        self._arrivals: dict[Mailbox, Arrival | None] = {}
        self._acks: dict[AckHandle, Ack] = {}
        self._step_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # -- what the core is called for ------------------------------------------------------

    @property
    @abstractmethod
    def _subscriptions(self) -> Subscriptions: ...

    @abstractmethod
    def _next_deadline(self) -> float | None: ...

    @abstractmethod
    def _handle_timeout(self, now: float) -> None: ...

    @abstractmethod
    def _handle_events(self) -> None: ...

    @abstractmethod
    def _flush(self) -> None: ...

    @abstractmethod
    def _open_mailbox(self, topic: str) -> Mailbox: ...

    @abstractmethod
    def _close_mailbox(self, mailbox: Mailbox) -> None: ...

    @abstractmethod
    async def _confirmed(self, mailbox: Mailbox) -> None: ...

    @abstractmethod
    def _settle(self, message: Message, error: str | None, result: Any = None) -> None: ...

    @abstractmethod
    def _end_of_messages(self) -> Exception | None: ...

    @abstractmethod
    async def _ack_status(self, handle: AckHandle) -> dict[str, bool]: ...

    @abstractmethod
    def _cancel_ack(self, handle: AckHandle) -> None: ...

    # -- running --------------------------------------------------------------------------

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._running_loop is None:
            _not_started()
        return self._running_loop

    @property
    def _now(self) -> float:
        return self._clock()

    def _bind(self) -> None:
        """Belong to the running event loop from now on."""
        self._running_loop = asyncio.get_running_loop()
        self._clock = self._running_loop.time
        self._dispatcher = Dispatcher(self._settle, self._limits.mailbox_messages)

    def _progress(self) -> None:
        """The core was given something: see to it in this turn of the loop."""
        if not self._step_is_due:
            self._step_is_due = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._step_is_due = False
        self._handle_events()
        self._deliver()
        self._flush()
        self._set_timer()

    def _deliver(self) -> None:
        subscriptions = self._subscriptions
        if subscriptions.ready:
            ready = subscriptions.take_ready()
            self._dispatcher.wake(ready)
            for mailbox in ready:
                arrival = self._arrivals.get(mailbox)
                if arrival is not None:
                    arrival.announce()
        if subscriptions.overflowed:
            for mailbox in subscriptions.take_overflowed():
                log_overflow(mailbox)

    def _set_timer(self) -> None:
        due = self._next_deadline()
        if self._timer is not None:
            if due is not None and due >= self._timer_at:
                return  # it goes off too early, finds nothing to do and is set anew
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_at = due
            self._timer = self._loop.call_at(due, self._timer_went_off)

    def _timer_went_off(self) -> None:
        self._timer = None
        # The loop may call a little early, within the resolution of its clock.
        self._handle_timeout(max(self._now, self._timer_at))
        self._progress()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- subscriptions and acks -----------------------------------------------------------

    def subscribe(
        self, topic: str, callback: Callback | None = None, timeout: float | None = None
    ) -> Subscription:
        """Subscribe to a topic; ``await`` the result to know that it is in force.

        ``callback`` takes a :class:`kps.Message`. A coroutine function runs on the event
        loop; a plain function runs in a thread, so it may block, and must not touch asyncio
        objects. Messages are handled one after the other, in the order of each publisher; a
        slow callback holds up no other subscription. An exception is logged, reported to a
        publisher that wants an ack, and ends nothing.

        Without a callback the result is an async iterator of messages; with ``timeout`` it
        raises :class:`TimeoutError` when no message comes for that many seconds. Subscribing
        takes effect at once if connected, and otherwise when the connection is there (again).

        Raises :class:`kps.InvalidArgument` for a bad topic, :class:`kps.NotConnected` when
        not started, :class:`kps.ClientClosed` when closed. Awaiting the result raises
        :class:`kps.ServerError` when the server refuses the topic, and so does iterating, also
        when it refuses it after a reconnect.
        """
        mailbox = self._open_mailbox(topic)
        arrival = Arrival() if callback is None else None
        self._arrivals[mailbox] = arrival
        if callback is not None:
            self._dispatcher.attach(mailbox, callback)
        self._progress()
        return Subscription(self, mailbox, arrival, timeout)

    async def unsubscribe(self, topic: str) -> None:
        """End every subscription to a topic."""
        _ = self._loop
        for mailbox in self._subscriptions.mailboxes(topic):
            self._unsubscribe(mailbox)

    def _unsubscribe(self, mailbox: Mailbox) -> None:
        self._close_mailbox(mailbox)
        self._dispatcher.detach(mailbox)
        arrival = self._arrivals.pop(mailbox, None)
        if arrival is not None:
            arrival.announce()
        self._progress()

    def _finish_mailbox(self, mailbox: Mailbox) -> None:
        """Let what a mailbox holds be handled, into which nothing more comes."""
        self._dispatcher.finish_mailbox(mailbox)
        arrival = self._arrivals.pop(mailbox, None)
        if arrival is not None:
            arrival.announce()

    def _attach_direct(self, callback: Callback) -> None:
        """Let a callback handle direct messages."""
        self._dispatcher.attach(self._subscriptions.open_direct(), callback)

    def _ack_for(self, handle: AckHandle) -> Ack:
        ack = Ack(self, handle)
        if not handle.finished:
            self._acks[handle] = ack
        self._progress()
        return ack

    def _ack_changed(self, handle: AckHandle) -> None:
        ack = self._acks.pop(handle, None) if handle.finished else self._acks.get(handle)
        if ack is not None:
            ack._changed()

    def _wake_iterators(self) -> None:
        for arrival in self._arrivals.values():
            if arrival is not None:
                arrival.announce()


def _not_started() -> NoReturn:
    raise NotConnected("not started yet: use 'async with', or the method that starts it")
