"""The base of the asyncio client and server: one core, one timer, one step per turn.

Connections and methods call the core at any time. :meth:`Driver.step` runs once per turn of
the event loop after such calls: it handles events, writes once to each connection with
pending data, and sets the timer to the core's next deadline.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import Any, Protocol

from kps.errors import InvalidState
from kps.io_asyncio.dispatch import Dispatcher
from kps.io_asyncio.news import News
from kps.io_asyncio.runtime import Runtime, Timer, not_started
from kps.io_asyncio.workers import Worker, current_worker
from kps.io_common.forks import in_child, watch_forks
from kps.io_common.hooks import Callback
from kps.io_common.logs import log_overflow
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.limits import ProgramLimits

_NOBODY = -1
"""The identifier of no thread."""


class Core(Protocol):
    """The session of a client, or the hub of a server, as the timer sees it."""

    def next_deadline(self) -> float | None: ...

    def handle_timeout(self, now: float) -> None: ...


class Face(Protocol):
    """The client or server that a driver runs."""

    @property
    def _subscriptions(self) -> Subscriptions: ...

    def _handle_events(self) -> None:
        """Handle the core's events."""

    def _settle(self, message: Message, error: str | None, result: Any = None) -> None:
        """Give the core the outcome of a message."""

    def _unsubscribe(self, mailbox: Mailbox) -> None:
        """End a subscription."""


class Driver(ABC):
    """Runs one core on the event loop."""

    def __init__(self, face: Face, runtime: Runtime, limits: ProgramLimits) -> None:
        self.runtime = runtime
        self.news = News(runtime)
        """Announces changes of connections, requests, room, and the end."""
        self.clock: Callable[[], float] = not_started
        self.enter: Callable[[], float] = not_started
        """Begins each call of the program: returns the time, or raises
        :class:`kps.InvalidState` where the program must not call."""
        self.is_started = False
        self.is_forked = False
        """Whether this process is a fork of the one that called ``start``."""
        self.thread = 0
        """The thread of the loop, once started."""
        self.worker: Callable[[], Worker] = current_worker
        """Returns the task that runs on the loop.

        It knows the loop, and so takes a third of the time.
        """
        self.due_on = 0
        """The thread of the loop if ``step`` is scheduled for this turn, else 0. While it is due,
        a call that compares its own thread, and finds the loop running, needs no other check."""
        self.is_running: Callable[[], bool]
        """Whether the loop runs: a step that is due when it ends stays due for ever."""
        self.now = 0.0
        """The time at which ``step`` was scheduled."""
        self.dispatcher: Dispatcher
        self._face = face
        self._limits = limits
        self._core: Core
        self._is_behind = False
        self._arrivals: dict[Mailbox, News] = {}
        self._timer: Timer | None = None
        self._timer_at = 0.0

    def start(self) -> None:
        """Attach to the running event loop. Raises :class:`kps.InvalidState` the second time."""
        self.check_not_started("a client or server starts once; make a new one")
        self.runtime.start()
        self.clock = self.runtime.clock
        limits = self._limits
        self.dispatcher = Dispatcher(
            self._face._settle, limits.mailbox_messages, limits.mailbox_bytes
        )
        self.is_started = True
        self.thread = get_ident()
        self.is_running = self.runtime.loop.is_running
        self.worker = partial(asyncio.current_task, self.runtime.loop)
        watch_forks(self)

    def allow_calls(self) -> None:
        """Let the program call."""
        self.enter = self._enter

    def refuse_calls(self, refuse: Callable[[], float]) -> None:
        """Let ``refuse`` answer every later call of the program, with an exception."""
        self.enter = refuse
        self.due_on = 0
        self.thread = _NOBODY  # a step that is still to come must not let calls in

    def forked(self) -> None:
        """In a forked child: refuse all calls, and begin nothing more.

        Tasks of the parent may run on here when the child calls ``sys.exit``, to their end. They
        call the copy of the core, which harms nobody.
        """
        self.is_forked = True
        self.runtime.check = in_child
        self.refuse_calls(in_child)
        if self.is_started:
            self.dispatcher.abandon()

    @property
    def may_end(self) -> bool:
        """Whether there is something to end: it has started, in this process.

        Nothing is left to end when a task is destroyed together with its loop. Raises
        :class:`kps.InvalidState` elsewhere outside the event loop.
        """
        if not self.is_started or self.is_forked or self._is_forgotten():
            return False
        self.runtime.check()
        return True

    def _is_forgotten(self) -> bool:
        """Tell whether the loop has ended, and Python destroys the task that calls."""
        return asyncio._get_running_loop() is None and not self.is_running()

    def check_not_started(self, complaint: str) -> None:
        """Raise :class:`kps.InvalidState` after ``start``."""
        if self.is_started:
            raise InvalidState(complaint)

    # -- running --------------------------------------------------------------------------

    def progress(self) -> None:
        """Schedule ``step`` after a call into the core."""
        if not self.due_on:
            self.now = self.clock()
            self.runtime.loop.call_soon(self.step)
            self.runtime.loop.call_soon(self.step, True)
            self.due_on = self.thread

    flush_soon = progress
    """Schedule a write after queueing data. On threads this differs from ``progress``."""

    _progress = progress
    """The name by which connections call it."""

    def step(self, again: bool = False) -> None:
        """Handle events, deliver messages, write, and set the timer.

        An exception out of a signal handler may come in, even before the first line of this, and
        end the loop, which may run again later. So it is called ``again``, and then does what was
        left.
        """
        if self.is_forked or (again and not (self.due_on or self._is_behind)):
            return
        self.due_on = 0
        self._is_behind = True
        self._face._handle_events()
        self._deliver()
        self._flush()
        self._set_timer()
        self._is_behind = False

    def _enter(self) -> float:
        self.runtime.check()
        return self.clock()

    @abstractmethod
    def _flush(self) -> None:
        """Write the data that is pending for connections."""

    def _deliver(self) -> None:
        subscriptions = self._face._subscriptions
        if subscriptions.ready:
            for mailbox in subscriptions.ready:
                if (news := self._arrivals.get(mailbox)) is not None:
                    news.announce()
            subscriptions.wake_ready(self.dispatcher.wake)
        if subscriptions.overflowed:
            for mailbox in subscriptions.take_overflowed():
                log_overflow(mailbox)

    def _set_timer(self) -> None:
        due = self._core.next_deadline()
        if self._timer is not None:
            # A timer that fires too early is harmless, and is then set anew. One whose time has
            # come may have fired, and an exception out of a signal handler came in.
            if due is not None and due >= self._timer_at > self.now:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_at = due
            self._timer = self.runtime.call_at(due, self._timer_went_off)

    def _timer_went_off(self) -> None:
        self.progress()  # first, as an exception out of a signal handler may follow
        self._timer = None
        # The loop may call early by up to the resolution of its clock.
        self._core.handle_timeout(max(self.clock(), self._timer_at))

    def stop_timer(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- mailboxes ------------------------------------------------------------------------

    def new_news(self) -> News:
        """Make news of one subject, so that an announcement wakes only its waiters."""
        return News(self.runtime)

    def attach(self, mailbox: Mailbox, callback: Callback) -> None:
        """Let a callback handle the messages of a mailbox."""
        self.dispatcher.attach(mailbox, callback)

    def iterate(self, mailbox: Mailbox) -> News:
        """Return the news for an iterator: its mailbox has a message, or has ended."""
        news = self._arrivals[mailbox] = self.new_news()
        return news

    def detach(self, mailbox: Mailbox) -> None:
        """Remove a mailbox whose subscription the program has ended."""
        self.dispatcher.detach(mailbox)
        self._tell_iterator(mailbox)

    def finish(self, mailbox: Mailbox) -> None:
        """Let the last messages of a mailbox be handled, and then remove it."""
        self.dispatcher.finish_mailbox(mailbox)
        self._tell_iterator(mailbox)

    def wake_iterators(self) -> None:
        """Make all iterators check whether they have ended."""
        for news in self._arrivals.values():
            news.announce()

    def _tell_iterator(self, mailbox: Mailbox) -> None:
        news = self._arrivals.pop(mailbox, None)
        if news is not None:
            news.announce()

    # -- calls from elsewhere -------------------------------------------------------------

    def call_from_any_thread(self, function: Callable[[], None]) -> None:
        """Call a function on the loop: at once if the caller is on it, else soon.

        Do nothing if the loop has ended, or in a forked child.
        """
        if self.is_forked:
            return
        if asyncio._get_running_loop() is self.runtime.loop:
            function()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and everything with it
                self.runtime.loop.call_soon_threadsafe(function)

    def leave_later(self, mailbox: Mailbox, message: Message | None, error: str) -> None:
        """End a garbage-collected subscription soon, so that it interrupts nothing."""
        face = self._face

        def leave() -> None:
            if message is not None:
                face._settle(message, error)
            face._unsubscribe(mailbox)

        if not self.is_forked:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.runtime.loop.call_soon_threadsafe(leave)
