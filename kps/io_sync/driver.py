"""What the blocking client and server have in common: one core, one lock, news.

The core is called with the lock held and never while a socket blocks. What follows from a call
(events, callbacks that have work, threads that have something to write) is seen to in
:meth:`Driver.progress`, still under the lock; whoever waits for anything waits for ``news``.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from kps.errors import InvalidState
from kps.io_common.hooks import Callback
from kps.io_common.logs import log_overflow
from kps.io_sync.dispatch import Dispatcher
from kps.io_sync.news import News
from kps.io_sync.runtime import Runtime, not_started
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.limits import ProgramLimits


class Face(Protocol):
    """The client or server that a driver runs."""

    @property
    def _subscriptions(self) -> Subscriptions: ...

    def _handle_events(self) -> None:
        """Handle what happened in the core."""

    def _settle(self, message: Message[Any], error: str | None, result: Any = None) -> None:
        """Tell the core how handling a message went. Takes the lock."""

    def _settle_in_core(self, message: Message[Any], error: str | None, result: Any) -> None:
        """The same with the lock held, as a part of ``progress``."""

    def _close_mailbox(self, mailbox: Mailbox) -> None:
        """End a subscription in the core."""


class Driver(ABC):
    """Runs one core, for any number of threads."""

    def __init__(self, face: Face, runtime: Runtime, limits: ProgramLimits) -> None:
        self.runtime = runtime
        self.lock = self._lock = threading.RLock()
        """Held around every call into the core, and by methods marked ``@locked``."""
        self.news = News(self.lock, runtime)
        """About everything that anybody waits for."""
        self.clock: Callable[[], float] = not_started
        self.is_started = False
        self.is_due = False
        """Whether a connection's thread will call ``progress`` anyway, before it writes."""
        self.dispatcher: Dispatcher
        self._face = face
        self._limits = limits
        self._left: deque[tuple[Mailbox, Message[Any] | None, str]] = deque()

    def start(self) -> None:
        """With the lock held: begin. Raises :class:`kps.InvalidState` the second time."""
        self.check_not_started("a client or server starts once; make a new one")
        self.runtime.start()
        self.clock = self.runtime.clock
        self.dispatcher = Dispatcher(self.lock, self._face._settle, self._limits.mailbox_messages)
        self.is_started = True

    def check_not_started(self, complaint: str) -> None:
        """Raise :class:`kps.InvalidState` after ``start``."""
        if self.is_started:
            raise InvalidState(complaint)

    # -- running -------------------------------------------------------------------------

    def progress(self) -> None:
        """With the lock held: see to what follows from a call into the core."""
        self.is_due = False
        face = self._face
        while self._left:
            mailbox, message, error = self._left.popleft()
            if message is not None:
                face._settle_in_core(message, error, None)
            face._close_mailbox(mailbox)
        face._handle_events()
        subscriptions = face._subscriptions
        self.dispatcher.wake(subscriptions.take_ready())
        for mailbox in subscriptions.take_overflowed():
            log_overflow(mailbox)
        self._wake_connections()
        self.news.announce()

    def _progress(self) -> None:
        """What connections call."""
        self.progress()

    @abstractmethod
    def flush_soon(self) -> None:
        """With the lock held: have a thread write what the core was given, and see to the rest."""

    @abstractmethod
    def _wake_connections(self) -> None:
        """With the lock held: wake the threads that have something to do."""

    @abstractmethod
    def wake(self) -> None:
        """Without the lock: have some thread call ``progress`` soon."""

    # -- mailboxes ------------------------------------------------------------------------

    def new_news(self) -> News:
        """For one matter; here it is the same for all."""
        return self.news

    def attach(self, mailbox: Mailbox, callback: Callback) -> None:
        """Let a callback handle what comes into a mailbox."""
        self.dispatcher.attach(mailbox, callback)

    def iterate(self, mailbox: Mailbox) -> News:
        """Return what announces that an iterator's mailbox has something, or has ended."""
        return self.news

    def detach(self, mailbox: Mailbox) -> None:
        """Forget a mailbox that the program has ended."""
        self.dispatcher.detach(mailbox)

    def finish(self, mailbox: Mailbox) -> None:
        """Let what a mailbox holds be handled, into which nothing more comes."""
        self.dispatcher.finish_mailbox(mailbox)

    def wake_iterators(self) -> None:
        """Have all iterators look whether they are at their end."""
        self.news.announce()

    def leave_later(self, mailbox: Mailbox, message: Message[Any] | None, error: str) -> None:
        """End a subscription that was garbage, soon.

        Without taking the lock: garbage is collected anywhere.
        """
        self._left.append((mailbox, message, error))
        self.wake()
