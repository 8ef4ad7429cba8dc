"""The base of the asyncio client and server: one core, one timer, and steps.

Connections and methods call the core at any time. :meth:`Driver.step` follows: it handles events,
writes once to each connection with pending data, and sets the timer to the core's next deadline.
It follows at the end of the turn of the event loop, so that what several calls queue leaves
together, or at once after a call that is likely to be the only one: see ``steps``.
"""

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from math import inf
from threading import get_ident
from typing import Any, Protocol

from kps.errors import InvalidState
from kps.io_asyncio.dispatch import Dispatcher
from kps.io_asyncio.news import News
from kps.io_asyncio.runtime import Runtime, Timer, not_started
from kps.io_asyncio.steps import NOBODY, Steps
from kps.io_asyncio.workers import Worker, current_worker
from kps.io_common.checks import STARTS_ONCE
from kps.io_common.forks import in_child, watch_forks
from kps.io_common.hooks import Callback
from kps.io_common.logs import log_overflow
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.limits import ProgramLimits

_LATE = 1.0
"""Seconds after which a timer that was due must have gone off, and an exception out of a signal
handler came in. Until then a new timer would only push it back."""


class Alarm:
    """One timer, for the next deadline of a core.

    A timer that goes off too early is harmless, and is then set anew.
    """

    __slots__ = ("_ring", "_runtime", "_timer", "at", "late_from")

    def __init__(self, runtime: Runtime, ring: Callable[[], None]) -> None:
        self._runtime = runtime
        self._ring = ring
        self._timer: Timer | None = None
        self.at = -inf
        """The time at which it goes off; ``-inf`` if it does not."""
        self.late_from = -inf
        """The time from which it counts as lost."""

    def set(self, due: float | None, now: float) -> None:
        """Go off at ``due`` or earlier, if it is known."""
        if due is not None and due >= self.at and now < self.late_from:
            return
        self.stop()
        if due is not None:
            self._timer = self._runtime.call_at(due, self._ring)
            # Nothing is called from here on: it is never thought to be set without a timer.
            self.at, self.late_from = due, (due if due > now else now) + _LATE

    def stop(self) -> None:
        """Do not go off."""
        self.at = self.late_from = -inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Face(Protocol):
    """The client or server that a driver runs."""

    def _handle_events(self) -> None:
        """Handle the core's events."""

    def _settle(
        self, message: Message, error: str | None, result: Any = None, *, more: bool = False
    ) -> None:
        """Give the core the outcome of a message; ``more`` tells whether another one follows."""

    def _unsubscribe(self, mailbox: Mailbox) -> None:
        """End a subscription."""


class Driver(Steps):
    """Runs one core on the event loop."""

    def __init__(self, face: Face, runtime: Runtime, limits: ProgramLimits) -> None:
        super().__init__(runtime)
        self.news = News(runtime)
        """Announces changes of connections, requests, room, and the end."""
        self.enter: Callable[[], float] = not_started
        """Begins each call of the program: returns the time, or raises
        :class:`kps.InvalidState` where the program must not call."""
        self.worker: Callable[[], Worker] = current_worker
        """Returns the task that runs on the loop.

        It knows the loop, and so takes a third of the time.
        """
        self.is_running: Callable[[], bool]
        """Whether the loop runs: a step that is due when it ends stays due for ever."""
        self.around: Callable[[Mailbox, Callback], Callback] | None = None
        """Makes what is called in place of a callback for messages."""
        self._face = face
        self._limits = limits
        self._subscriptions: Subscriptions
        self._arrivals: dict[Mailbox, News] = {}
        self.alarm = Alarm(runtime, self._ring)

    def start(self) -> None:
        """Attach to the running event loop. Raises :class:`kps.InvalidState` the second time."""
        self.check_not_started(STARTS_ONCE)
        self.runtime.start()
        self.clock = self.runtime.clock
        limits = self._limits
        self.dispatcher = Dispatcher(
            self._face._settle,
            self.progress,
            limits.mailbox_messages,
            limits.mailbox_bytes,
            self.runtime.stopwatch,
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
        self.thread = NOBODY  # a step that is still to come must not let calls in

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
        if not self.is_started or self.is_forked:
            return False
        if asyncio._get_running_loop() is None and not self.is_running():
            return False  # the loop has ended, and Python destroys the task that calls
        self.runtime.check()
        return True

    def check_not_started(self, complaint: str) -> None:
        """Raise :class:`kps.InvalidState` after ``start``."""
        if self.is_started:
            raise InvalidState(complaint)

    # -- running --------------------------------------------------------------------------

    @abstractmethod
    def flush_soon(self) -> None:
        """Take a step after queueing data, of which more may follow in this turn."""

    def step(self) -> None:
        """Handle events, deliver messages, write, and set the timer."""
        if self.is_forked:
            return
        if self.thread != get_ident():
            self._note_thread()
        self.due_on = 0
        self._done = self._count
        self._is_behind = True
        self._face._handle_events()
        subscriptions = self._subscriptions
        if subscriptions.ready:
            for mailbox in subscriptions.ready if self._arrivals else ():
                if (news := self._arrivals.get(mailbox)) is not None:
                    news.announce()
            subscriptions.wake_ready(self.dispatcher.wake)
        if subscriptions.overflowed:
            for mailbox in subscriptions.take_overflowed():
                log_overflow(mailbox)
        self._flush()
        alarm = self.alarm
        if self._earliest() < alarm.at or self.now >= alarm.late_from:
            alarm.set(self._core.next_deadline(), self.now)
        self._is_behind = False

    def _enter(self) -> float:
        if get_ident() != self.thread or not self.is_running():
            self.runtime.check()
        return self.clock()

    @abstractmethod
    def _flush(self) -> None:
        """Write the data that is pending for connections."""

    @abstractmethod
    def _earliest(self) -> float:
        """Return a time before which nothing is due. It may be earlier than the next deadline."""

    def _ring(self) -> None:
        """Do what is due at the time of the alarm."""
        due = self.alarm.at
        self.alarm.at = self.alarm.late_from = -inf
        self.progress()  # first, as an exception out of a signal handler may follow
        # The loop may call early by up to the resolution of its clock.
        self._core.handle_timeout(max(self.clock(), due))

    # -- mailboxes ------------------------------------------------------------------------

    def new_news(self) -> News:
        """Make news of one subject, so that an announcement wakes only its waiters."""
        return News(self.runtime)

    def attach(self, mailbox: Mailbox, callback: Callback, inline: bool = False) -> None:
        """Let a callback handle the messages of a mailbox; ``inline`` is about plain functions."""
        if self.around is not None:
            callback = self.around(mailbox, callback)
        self.dispatcher.attach(mailbox, callback, inline)

    def iterate(self, mailbox: Mailbox) -> News:
        """Return the news for an iterator: its mailbox has a message, or has ended."""
        news = self._arrivals[mailbox] = self.new_news()
        return news

    def detach(self, mailbox: Mailbox) -> None:
        """Remove a mailbox whose subscription the program has ended."""
        self.dispatcher.detach(mailbox)
        self.finish(mailbox)

    def finish(self, mailbox: Mailbox) -> None:
        """Let the last messages of a mailbox be handled, and then remove it."""
        self.dispatcher.finish_mailbox(mailbox)
        news = self._arrivals.pop(mailbox, None)
        if news is not None:
            news.announce()

    def wake_iterators(self) -> None:
        """Make all iterators check whether they have ended."""
        for news in self._arrivals.values():
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
