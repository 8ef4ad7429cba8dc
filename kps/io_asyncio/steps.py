"""When the driver takes its steps, and when callbacks have their turn on the event loop.

A step follows whatever calls the core: at the end of the turn of the loop, so that what several
calls queue leaves together, or at once after a call that is likely to be the only one.

A callback may call anything. So those that run on the loop without a task of their own begin only
where the loop has called the driver: not within a step, a call of the core, a call of the program,
or another callback. A step for what they have done follows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import get_ident
from typing import Protocol

from kps.io_asyncio.dispatch import Dispatcher
from kps.io_asyncio.runtime import Runtime, not_started
from kps.protocol.calls import Calls

NOBODY = -1
"""The identifier of no thread."""


class Core(Protocol):
    """The session of a client, or the hub of a server, as the driver sees it."""

    calls: Calls

    def next_deadline(self) -> float | None: ...

    def handle_timeout(self, now: float) -> None: ...


class Steps(ABC):
    """Takes steps in time."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.clock: Callable[[], float] = not_started
        self.is_started = False
        self.is_forked = False
        """Whether this process is a fork of the one that called ``start``."""
        self.thread = 0
        """The thread of the loop, once started."""
        self.due_on = 0
        """The thread of the loop if ``step`` is scheduled for this turn, else 0. While it is due,
        a call that compares its own thread, and finds the loop running, needs no other check."""
        self.now = 0.0
        """The time at which a step was last scheduled, or began at once."""
        self.dispatcher: Dispatcher
        self._core: Core
        self._is_behind = False  # whether a step has begun, and not come to its end
        self._count = 0  # steps that were scheduled
        self._done = 0  # the last of them that has begun

    @abstractmethod
    def step(self) -> None:
        """Handle events, deliver messages, write, and set the timer."""

    def step_now(self, is_read: bool = False) -> None:
        """Take a step at once after a call into the core, unless one is due at the end of the turn.

        Waiting for the end of the turn takes longer than the step itself. After a read, for which
        the loop has called, callbacks may begin as well.
        """
        if self.due_on:
            return
        if self._is_behind or self._core.calls.is_under_way:
            self.progress()
            return
        self.now = self.clock()
        try:
            self.step()
        except Exception as error:  # a fault, which must not end the connection that was read
            self.progress()  # which does what was left
            text = "a fault of KPS in a step of its driver"
            self.runtime.loop.call_exception_handler({"message": text, "exception": error})
        except BaseException:  # out of a signal handler
            self.progress()
            raise
        if self.dispatcher.due:
            if is_read:
                self._call_back()
            else:  # the program called, perhaps in a callback
                self.progress()

    def progress(self) -> None:
        """Schedule a step at the end of the turn, for all that is queued until then."""
        if not self.due_on:
            self.now = self.clock()
            # An exception out of a signal handler may come in even before the first line of the
            # step, and end the loop, which may run again later. The second call does what was left.
            self._count += 1
            self.runtime.loop.call_soon(self._step_if_due, self._count)
            self.runtime.loop.call_soon(self._step_if_due, self._count)
            self._note_thread()
            self.due_on = self.thread

    def _step_if_due(self, number: int) -> None:
        if number == self._count != self._done or self._is_behind:
            if self.dispatcher.returns.waiting:  # perhaps a look at them was interrupted
                self.dispatcher.returns.look()
            self.step()
            if self.dispatcher.due:
                self._call_back()

    def _call_back(self) -> None:
        """Let callbacks have their turn, and take a step for what they have done."""
        if self.due_on:
            return  # the step that is due comes back to this
        self.now = self.clock()
        self.due_on = self.thread  # what they queue leaves with the step that follows
        try:
            is_short = self.dispatcher.begin()
        except BaseException:  # out of a signal handler
            self.due_on = 0
            self.progress()
            raise
        self.due_on = 0
        if is_short:
            self.step_now()
        else:
            self.progress()  # the loop may read many times in one turn: callbacks have had theirs

    def _note_thread(self) -> None:
        if self.thread != NOBODY:
            self.thread = self.runtime.thread = get_ident()  # the loop may have moved
