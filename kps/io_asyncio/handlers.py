"""What handles the messages of one subscription: a callback, where it runs.

* A coroutine function runs as a task on the event loop.
* A plain function may block, so it runs on a thread of a small pool: see ``in_threads``.
* A plain function that never blocks may run inline: the driver calls it on the event loop, between
  two steps. That takes neither a task nor a thread.

Whichever it is, the messages of one subscription are handled one after the other, in order.
"""

import asyncio
import inspect
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Protocol

from kps.io_asyncio.workers import ends_task, quiet
from kps.io_common.hooks import Callback
from kps.io_common.logger import write
from kps.io_common.logs import report_failure
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import UNSUBSCRIBED, Message

TURN = 0.01
"""Seconds that callbacks may keep the loop, or a thread for which others wait."""

AGAIN = 0.2
"""Seconds after which callbacks go on when all tasks of a loop were cancelled."""

_RETRY = 1.0  # seconds

_BATCH = 2048  # messages; a callback that never waits takes milliseconds for them
_SLOW = 0.1  # seconds of one inline call that a program should know of


class Settle(Protocol):
    """Gives the core the outcome of a message: the error, or the result."""

    def __call__(
        self, message: Message, error: str | None, result: Any = None, *, more: bool = False
    ) -> None: ...


class Host:
    """What the handlers of one client or server share."""

    def __init__(
        self, settle: Settle, progress: Callable[[], None], stopwatch: Callable[[], float]
    ) -> None:
        self.settle = settle
        self.stopwatch = stopwatch
        self.progress = progress
        """Asks for a step, and for a turn of those that are ``due`` behind it."""
        self.loop = asyncio.get_running_loop()
        self.callbacks: dict[Mailbox, Handler] = {}
        self.due: dict[Handler, None] = {}
        """Those that begin at once when the driver lets them: outside of its steps, of calls of
        the program, and of other callbacks."""
        self.running: dict[Mailbox, Handler] = {}
        """Those with a task or a thread under way. Nothing else may handle their messages."""
        self.is_closed = False


class Handler(ABC):
    """Handles the messages of one mailbox with a callback.

    The callback runs in the context of ``subscribe``, where the handler is made.
    """

    __slots__ = ("callback", "context", "host", "mailbox", "task")

    def __init__(self, host: Host, mailbox: Mailbox, callback: Callback) -> None:
        self.host = host
        self.mailbox = mailbox
        self.callback = callback
        self.context = copy_context()
        self.task: asyncio.Task[None] | None = None
        """The task under way, unless this is its eager first step."""

    @abstractmethod
    def wake(self) -> None:
        """Handle the messages that have come. Not called while others are being handled."""

    def begin(self, turn_ends: float) -> bool:
        """Handle messages here and now; tell whether there are more when the turn ends.

        The driver calls this for those that have put themselves among those that are ``due``.
        """
        raise NotImplementedError

    def put_off(self, error: BaseException) -> None:
        """Go on later, after a failure of the system."""
        text, topic = "the callbacks of %(topic)r wait: %(reason)s", self.mailbox.topic
        write(logging.ERROR, "callbacks_wait", text, topic=topic, reason=error)
        self.host.loop.call_later(_RETRY, self.go_on)

    def go_on(self) -> None:
        """Handle what has come meanwhile."""
        host, mailbox = self.host, self.mailbox
        if mailbox.has_work:
            if not (mailbox in host.running or host.is_closed):
                host.callbacks.get(mailbox, self).wake()  # there may be a new one
                if host.due:
                    host.progress()
        elif mailbox.error is not None:
            host.callbacks.pop(mailbox, None)


class _Tasks(Handler):
    """A handler that runs tasks, one at a time."""

    __slots__ = ()

    def _watch(self, task: asyncio.Task[None]) -> None:
        quiet(task)
        task.add_done_callback(self._ended)
        task.add_done_callback(self._ended)  # a signal handler may raise out of the first call
        # Nothing is called from here on.
        self.task = task
        self.host.running[self.mailbox] = self

    def _stop(self) -> None:
        """At the end of a task: nothing is under way, and another one may begin."""
        task, running, mailbox = self.task, self.host.running, self.mailbox
        # Nothing is called in between: if this is not done, the task's callbacks do it.
        self.task = None
        if mailbox in running:
            del running[mailbox]
        if task is not None:
            task.remove_done_callback(self._ended)  # each takes a part of the next turn

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Go on after a task that did not come to its own end."""
        if self.task is not task:
            return  # the second call
        self._stop()
        host, has_work = self.host, self.mailbox.has_work
        if has_work and task.cancelled() and is_ending(host.loop):
            host.loop.call_later(AGAIN, self.go_on)  # if the loop goes on after all
        elif not task.cancelled() and (error := task.exception()) is not None and has_work:
            self.put_off(error)
        else:  # it was cancelled by its own callback, for instance
            self.go_on()


class OnLoop(_Tasks):
    """A coroutine function, which runs as a task."""

    __slots__ = ()

    if sys.version_info >= (3, 12):

        def wake(self) -> None:
            self.host.due[self] = None

        def begin(self, turn_ends: float) -> bool:
            """Take the task's first step at once: mostly it is the only one."""
            running, mailbox, loop = self.host.running, self.mailbox, self.host.loop
            if mailbox in running:
                return False
            running[mailbox] = self
            try:
                task = (
                    asyncio.Task(
                        self._run(), loop=loop, eager_start=True, context=self.context.copy()
                    )
                    if loop.get_task_factory() is None
                    else self.context.run(loop.create_task, self._run())
                )
            except BaseException:  # out of a signal handler, for instance
                running.pop(mailbox, None)
                raise
            if not task.done():
                self._watch(task)
            elif mailbox in running:  # it did not come to its own end
                self.task = task
                self._ended(task)
            return False
    else:

        def wake(self) -> None:
            self._watch(self.context.run(self.host.loop.create_task, self._run()))

    async def _run(self) -> None:
        mailbox, settle = self.mailbox, self.host.settle
        callback: Callable[[Message], Awaitable[Any]] = self.callback  # type: ignore[assignment]
        stopwatch = self.host.stopwatch
        turn_ends = stopwatch() + TURN
        while mailbox.has_work:
            for message in mailbox.batch(_BATCH):
                error: str | None = UNSUBSCRIBED
                result = None
                try:
                    if not mailbox.closed:
                        error = "cancelled"
                        result = await callback(message)
                        error = None
                except BaseException as failure:
                    if ends_task(failure):
                        raise
                    error = report_failure(failure, mailbox.topic)
                finally:
                    if message.acknowledgement is not None:
                        settle(message, error, result, more=mailbox.has_work)
            if stopwatch() > turn_ends:
                # A callback that never waits must not starve the loop. The loop reads much at
                # a time, so the callback must not yield after each batch either.
                await asyncio.sleep(0)
                turn_ends = stopwatch() + TURN
        self._stop()
        if mailbox.error is not None:
            self.go_on()


class Inline(_Tasks):
    """A plain function that never blocks, which the driver calls on the loop."""

    __slots__ = ("_awaited", "_has_warned")

    def __init__(self, host: Host, mailbox: Mailbox, callback: Callback) -> None:
        super().__init__(host, mailbox, callback)
        self._awaited: Message | None = None  # whose callback returned something to wait for
        self._has_warned = False

    def wake(self) -> None:
        self.host.due[self] = None

    def begin(self, turn_ends: float) -> bool:
        if self.mailbox in self.host.running:
            return False
        return self.context.copy().run(self._run, turn_ends)

    def _run(self, turn_ends: float) -> bool:
        mailbox, callback, settle = self.mailbox, self.callback, self.host.settle
        while mailbox.has_work:
            for message in mailbox.batch(_BATCH):
                error: str | None = UNSUBSCRIBED
                result: Any = None
                try:
                    if not mailbox.closed:
                        error = "cancelled"
                        result = callback(message)
                        error = None
                        if result is not None and inspect.isawaitable(result):
                            self._awaited = message
                            self._watch(self.host.loop.create_task(self._finish(message, result)))
                            return False
                except BaseException as failure:
                    self._awaited = None
                    error = report_failure(failure, mailbox.topic)
                finally:
                    if message.acknowledgement is not None and self._awaited is not message:
                        settle(message, error, result, more=True)
                now = self.host.stopwatch()
                if now > turn_ends:
                    if now > turn_ends + _SLOW:
                        self._warn(now - turn_ends)
                    if mailbox.has_work:
                        return True
        if mailbox.error is not None:
            self.go_on()
        return False

    async def _finish(self, message: Message, outcome: Awaitable[Any]) -> None:
        """Wait for what a plain function returned; those behind it wait, too."""
        error: str | None = "cancelled"
        result = None
        try:
            result = await outcome
            error = None
        except BaseException as failure:
            if ends_task(failure):
                raise
            error = report_failure(failure, message.topic)
        finally:
            if message.acknowledgement is not None:
                self.host.settle(message, error, result)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.task is task:
            message = self._awaited
            if message is not None and message.acknowledgement is not None:
                self.host.settle(message, "cancelled")  # the task never began
            self._awaited = None
            super()._ended(task)

    def _warn(self, seconds: float) -> None:
        if not self._has_warned:
            self._has_warned = True
            write(
                logging.WARNING,
                "inline_slow",
                "inline callbacks kept the event loop for %(seconds).1f s longer than they may, "
                "that of %(topic)r at last; without inline=True it would run in a thread",
                seconds=seconds,
                topic=self.mailbox.topic,
            )


def is_ending(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether all tasks have been cancelled, as ``asyncio.run`` does at its end."""
    return all(task.cancelling() for task in asyncio.all_tasks(loop))
