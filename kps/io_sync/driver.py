"""What the blocking client and server have in common: one core, one lock, news.

The core is called with the lock held and never while a socket blocks. What follows from a call
(events, callbacks that have work, threads that have something to write) is seen to in
:meth:`Driver._progress`, still under the lock; whoever waits for anything waits on ``_news``.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from kps.errors import NotConnected
from kps.io_common.logs import log_overflow
from kps.io_common.settings import Callback
from kps.io_sync.ack import Ack
from kps.io_sync.connection import clock
from kps.io_sync.dispatch import Dispatcher
from kps.io_sync.subscription import Subscription
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import AckHandle, Message
from kps.protocol.bus.subscriptions import Subscriptions


class Driver(ABC):
    """Runs one core, for any number of threads."""

    _limits: Any

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._is_started = False
        self._dispatcher: Dispatcher
        self._left: deque[tuple[Mailbox, Message | None, str]] = deque()

    # -- what the core is called for ----------------------------------------------------

    @property
    @abstractmethod
    def _subscriptions(self) -> Subscriptions: ...

    @abstractmethod
    def _deadline(self) -> float | None: ...

    @abstractmethod
    def _handle_timeout(self, now: float) -> None: ...

    @abstractmethod
    def _handle_events(self) -> None: ...

    @abstractmethod
    def _wake_connections(self) -> None: ...

    @abstractmethod
    def _wake_idle(self) -> None:
        """Without the lock: have some thread call ``_progress`` soon."""

    @abstractmethod
    def _open_mailbox(self, topic: str) -> Mailbox: ...

    @abstractmethod
    def _close_mailbox(self, mailbox: Mailbox) -> None: ...

    @abstractmethod
    def _confirm(self, mailbox: Mailbox) -> None: ...

    @abstractmethod
    def _settle_in_core(self, message: Message, error: str | None, result: Any) -> None: ...

    @abstractmethod
    def _end_of_messages(self) -> Exception | None: ...

    @abstractmethod
    def _ack_status(self, handle: AckHandle) -> dict[str, bool]: ...

    @abstractmethod
    def _cancel_ack(self, handle: AckHandle) -> None: ...

    # -- running -------------------------------------------------------------------------

    def _start_dispatcher(self) -> None:
        self._dispatcher = Dispatcher(self._lock, self._settle, self._limits.mailbox_messages)
        self._is_started = True

    def _require_started(self) -> None:
        if not self._is_started:
            raise NotConnected("not started yet: use 'with', or the method that starts it")

    def _progress(self) -> None:
        """With the lock held: see to what follows from a call into the core."""
        while self._left:
            mailbox, message, error = self._left.popleft()
            if message is not None:
                self._settle_in_core(message, error, None)
            self._close_mailbox(mailbox)
        self._handle_events()
        subscriptions = self._subscriptions
        self._dispatcher.wake(subscriptions.take_ready())
        for mailbox in subscriptions.take_overflowed():
            log_overflow(mailbox)
        self._wake_connections()
        self._news.notify_all()

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """With the lock held: wait for news that make a condition true."""
        deadline = None if timeout is None else clock() + timeout
        while not condition():
            left = None if deadline is None else deadline - clock()
            if left is not None and left <= 0:
                return False
            self._news.wait(left)
        return True

    # -- subscriptions and acks ------------------------------------------------------------

    def subscribe(
        self, topic: str, callback: Callback | None = None, timeout: float | None = None
    ) -> Subscription:
        """Subscribe to a topic, and wait until the server has confirmed it.

        ``callback`` takes a :class:`kps.Message`, and runs on the one thread for callbacks:
        messages are handled one after the other, in the order of each publisher. An exception
        is logged, reported to a publisher that wants an ack, and ends nothing.

        Without a callback the result is an iterator of messages; with ``timeout`` it raises
        :class:`TimeoutError` when no message comes for that many seconds. Without a
        connection the subscription is made when there is one (again).

        Raises :class:`kps.InvalidArgument` for a bad topic, :class:`kps.NotConnected` when
        not started, :class:`kps.ClientClosed` when closed, :class:`kps.ServerError` when the
        server refuses the topic, :class:`kps.RequestTimeout` when it does not answer. Iterating
        raises :class:`kps.ServerError` when it refuses the topic after a reconnect.
        """
        with self._lock:
            self._require_started()
            mailbox = self._open_mailbox(topic)
            if callback is not None:
                self._dispatcher.attach(mailbox, callback)
            self._progress()
            self._confirm(mailbox)
            return Subscription(self, mailbox, callback is None, timeout)

    def unsubscribe(self, topic: str) -> None:
        """End every subscription to a topic."""
        with self._lock:
            self._require_started()
            for mailbox in self._subscriptions.mailboxes(topic):
                self._unsubscribe(mailbox)

    def _unsubscribe(self, mailbox: Mailbox) -> None:
        with self._lock:
            self._close_mailbox(mailbox)
            self._dispatcher.detach(mailbox)
            self._progress()

    def _leave_later(self, mailbox: Mailbox, message: Message | None, error: str) -> None:
        self._left.append((mailbox, message, error))
        self._wake_idle()

    def _settle(self, message: Message, error: str | None, result: Any = None) -> None:
        with self._lock:
            self._settle_in_core(message, error, result)
            self._progress()

    def _next_message(self, mailbox: Mailbox, timeout: float | None) -> Message:
        """Wait for a message; raises what ends the iteration."""
        with self._lock:
            arrived = self._wait_for(
                lambda: (
                    bool(len(mailbox)) or mailbox.is_over or self._end_of_messages() is not None
                ),
                timeout,
            )
            message = mailbox.take()
            if message is not None:
                return message
            if not arrived:
                raise TimeoutError(f"no message on {mailbox.topic!r} for {timeout} s")
            if mailbox.error is not None:
                raise mailbox.error
            raise StopIteration() if mailbox.closed else self._end_of_messages() or StopIteration()

    def _attach_direct(self, callback: Callback) -> None:
        """Let a callback handle direct messages."""
        self._dispatcher.attach(self._subscriptions.open_direct(), callback)

    def _ack_for(self, handle: AckHandle) -> Ack:
        self._progress()
        return Ack(self, handle)
