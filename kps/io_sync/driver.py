"""The base of the blocking client and server: one core, one lock, news.

Threads call the core with the lock held, and never while a socket blocks. After each call
:meth:`Driver.progress`, still under the lock, handles events, and wakes the callbacks and the
connections' threads that have work. All waiters wait for ``news``.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from kps.errors import InvalidState
from kps.io_common.checks import STARTS_ONCE
from kps.io_common.events import EventQueue
from kps.io_common.forks import in_child
from kps.io_common.hooks import Callback
from kps.io_common.logs import log_overflow
from kps.io_sync.dispatch import Dispatcher
from kps.io_sync.log import write
from kps.io_sync.news import News
from kps.io_sync.runtime import Runtime, not_started
from kps.io_sync.workers import current_worker
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.calls import Calls
from kps.protocol.limits import ProgramLimits


class Face(Protocol):
    """The client or server that a driver runs."""

    @property
    def _subscriptions(self) -> Subscriptions: ...

    def _handle_events(self) -> None:
        """Handle the core's events."""

    def _settle(
        self, message: Message[Any], error: str | None, result: Any = None, *, more: bool = False
    ) -> None:
        """Give the core the outcome of a message. Takes the lock."""

    def _settle_in_core(self, message: Message[Any], error: str | None, result: Any) -> None:
        """Give the core the outcome of a message, with the lock held, within ``progress``."""

    def _close_mailbox(self, mailbox: Mailbox) -> None:
        """End a subscription in the core."""


class Driver(ABC):
    """Runs one core for any number of threads."""

    def __init__(self, face: Face, runtime: Runtime, limits: ProgramLimits) -> None:
        self.runtime = runtime
        self.lock = self._lock = threading.RLock()
        """Held around every call into the core, and by methods marked ``@locked``."""
        self.news = News(self.lock, runtime)
        """Announces every change, to all waiters."""
        self.calls: Calls
        """Tells whether a call into the core is under way."""
        self.clock: Callable[[], float] = not_started
        self.enter: Callable[[], float] = not_started
        """With the lock held: begins each call of the program. Returns the time, or raises
        :class:`kps.InvalidState` where the program must not call."""
        self.is_started = False
        self.is_forked = False
        """Whether this process is a fork of the one that called ``start``."""
        self.worker = current_worker
        """Returns the thread that calls."""
        self.due_on = 0
        """If a connection's thread will call ``progress`` anyway, before it writes, the thread
        that asked for this, else 0. Until then, that thread need not ask again."""
        self.now = 0.0
        """The time at which it asked."""
        self.dispatcher: Dispatcher
        self.run_inline: Callable[[], None]
        """Without the lock, in a thread that has read: calls inline callbacks."""
        self.around: Callable[[Mailbox, Callback], Callback] | None = None
        """Makes what is called in place of a callback for messages."""
        self._face = face
        self._limits = limits
        self._left = EventQueue()  # subscriptions to end, each with its last message

    def start(self) -> None:
        """With the lock held: start. Raises :class:`kps.InvalidState` the second time."""
        self.check_not_started(STARTS_ONCE)
        self.runtime.start()
        self.clock = self.runtime.clock
        limits = self._limits
        self.dispatcher = Dispatcher(
            self.lock, self._face._settle, limits.mailbox_messages, limits.mailbox_bytes
        )
        self.run_inline = partial(_run_inline, self)
        self.runtime.check = partial(_check_may_wait, self)
        self.is_started = True

    def allow_calls(self) -> None:
        """Let the program call."""
        self.enter = self._enter

    def refuse_calls(self, refuse: Callable[[], float]) -> None:
        """Let ``refuse`` answer every later call of the program, with an exception."""
        self.enter = refuse
        self.due_on = 0

    def forked(self) -> None:
        """In a forked child: refuse all calls. The threads, and who held the lock, are gone."""
        self.is_forked = True
        self.clock = self.runtime.clock = self.runtime.check = in_child
        self.refuse_calls(in_child)
        self.lock = self._lock = threading.RLock()
        self.news.forked(self.lock)
        self.dispatcher.forked(self.lock)
        subscriptions = self._face._subscriptions
        for key in subscriptions.keys:
            for mailbox in subscriptions.mailboxes(key):
                mailbox.clear()  # the parent handles these messages

    def put_off(self, end: Callable[[], object]) -> bool:
        """Let a new thread call ``end``, if this one cannot wait for it; tell whether it does.

        This thread cannot while it holds the lock, and within an inline callback. In the first
        case a signal handler, a finalizer or a log handler has interrupted a call of this thread,
        and ``end`` would have to wait for that call. Python does not exit before the new thread
        has ended. Raises :class:`kps.InvalidState` if the system has no more threads.
        """
        is_inline = self.is_started and self.dispatcher.is_inline_here
        if not (is_inline or self.news.is_locked_here):
            return False
        try:
            threading.Thread(target=end, name="kps-end", daemon=False).start()
        except RuntimeError as error:
            raise InvalidState(f"there is no thread to end it: {error}") from error
        return True

    @property
    def may_end(self) -> bool:
        """Whether there is something to end: it has started, in this process."""
        return self.is_started and not self.is_forked

    def check_not_started(self, complaint: str) -> None:
        """Raise :class:`kps.InvalidState` after ``start``."""
        if self.is_started:
            raise InvalidState(complaint)

    # -- running -------------------------------------------------------------------------

    def progress(self, writes: bool = False, has_read: bool = False) -> None:
        """With the lock held: handle events and wake threads, after a call into the core.

        ``writes`` tells whether this thread writes to connections, or leaves that to theirs;
        ``has_read`` whether it wakes callbacks later. While a call is under way, or after an
        exception out of a signal handler, another thread does all that.
        """
        if self.calls.is_under_way:
            self.wake()
            return
        self.due_on = 0
        face = self._face
        try:
            if self._left.waiting:
                self._left.hand_on(self._leave)
            face._handle_events()
            subscriptions = face._subscriptions
            dispatcher = self.dispatcher
            if subscriptions.ready or dispatcher.ready:
                subscriptions.wake_ready(dispatcher.note if has_read else dispatcher.wake)
            if subscriptions.overflowed:
                for mailbox in subscriptions.take_overflowed():
                    log_overflow(mailbox, write)
            self._tell_connections(writes)
            self.news.announce()
        except BaseException:
            if threading.current_thread() is threading.main_thread():  # out of a signal handler
                self.wake()
                self.news.announce()
            raise

    def step_now(self) -> None:
        """With the lock held: do the same, and write to connections."""
        self.progress(True)

    def has_read(self) -> None:
        """With the lock held, in a thread that has read: do the same, but wake no other thread.

        The thread calls ``run_inline``, and ``about_to_wait``, which wakes them. Before that they
        could not run, because the thread has the interpreter.
        """
        self.news.is_held = True
        try:
            self.progress(True, True)
        finally:
            self.news.is_held = False

    def about_to_wait(self) -> float | None:
        """With the lock held, in a connection's thread: wake others; return its deadline."""
        self.dispatcher.go_on()
        self.news.announce()
        return self.next_deadline()

    @abstractmethod
    def next_deadline(self) -> float | None:
        """With the lock held: return the deadline that a connection's thread must keep, if any."""

    def _enter(self) -> float:
        self.now = now = self.clock()
        return now

    @abstractmethod
    def flush_soon(self) -> None:
        """With the lock held: make a thread write the queued data, and call ``progress``."""

    @abstractmethod
    def _tell_connections(self, writes: bool) -> None:
        """With the lock held: write to the connections that have work, or wake their threads."""

    @abstractmethod
    def wake(self) -> None:
        """Without the lock: make a thread call ``progress`` soon."""

    # -- mailboxes ------------------------------------------------------------------------

    def new_news(self) -> News:
        """Return the news of one subject; on threads all subjects share them."""
        return self.news

    def attach(self, mailbox: Mailbox, callback: Callback, inline: bool = False) -> None:
        """Let a callback handle the messages of a mailbox; see :mod:`kps.io_sync.dispatch`."""
        if self.around is not None:
            callback = self.around(mailbox, callback)
        self.dispatcher.attach(mailbox, callback, inline)

    def iterate(self, mailbox: Mailbox) -> News:
        """Return the news for an iterator: its mailbox has a message, or has ended."""
        return self.news

    def detach(self, mailbox: Mailbox) -> None:
        """Remove a mailbox whose subscription the program has ended."""
        self.dispatcher.detach(mailbox)

    def finish(self, mailbox: Mailbox) -> None:
        """Let the last messages of a mailbox be handled, and then remove it."""
        self.dispatcher.finish_mailbox(mailbox)

    def wake_iterators(self) -> None:
        """Make all iterators check whether they have ended."""
        self.news.announce()

    def leave_later(self, mailbox: Mailbox, message: Message[Any] | None, error: str) -> None:
        """End a garbage-collected subscription soon.

        This must not take the lock, because garbage collection can run in any thread at any time.
        """
        if not self.is_forked:
            self._left.waiting.append((mailbox, message, error))
            self.wake()

    def _leave(self, left: tuple[Mailbox, Message[Any] | None, str]) -> None:
        mailbox, message, error = left
        if message is not None:
            self._face._settle_in_core(message, error, None)
        self._face._close_mailbox(mailbox)


def _run_inline(driver: Driver) -> None:
    """Call the inline callbacks that are due; before, wake those who should not wait for them."""
    if driver.dispatcher.inline:
        with driver.lock:
            driver.about_to_wait()
        driver.dispatcher.run_inline()


def _check_may_wait(driver: Driver) -> None:
    """Raise :class:`kps.InvalidState` where the program must not wait for an answer."""
    driver.calls.check_free()
    if driver.dispatcher.is_inline_here:
        raise InvalidState("an inline callback must not wait: its thread reads the answers")
