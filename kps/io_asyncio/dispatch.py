"""Runs the program's callbacks.

What runs where, and how, is in ``handlers``. The messages of one subscription are handled one
after the other, in order, and subscriptions do not wait for each other. Hooks and notices have
threads of their own, so that callbacks do not delay them.

A callback runs in the context (``contextvars``) of its ``subscribe``, hooks and notices in that of
the start. Whatever a callback raises is the failure of one message.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Any

from kps.io_asyncio.handlers import (
    AGAIN,
    TURN,
    Handler,
    Host,
    Inline,
    OnLoop,
    Settle,
    is_ending,
)
from kps.io_asyncio.in_threads import InThreads, Returns
from kps.io_asyncio.threads import CallbackThreads
from kps.io_asyncio.workers import ends_task, quiet
from kps.io_common.checks import check_hook
from kps.io_common.hooks import Callback
from kps.io_common.inline import is_async
from kps.io_common.logger import write
from kps.io_common.logs import log_dropped_notice, notice_failed
from kps.io_common.notices import Notices
from kps.protocol.bus.mailbox import Mailbox

_THREADS = 16
_LAST_MESSAGE = 0.1  # seconds for threads to return at the end, so that no call begins after it
_SHORT = 0.001  # seconds of callbacks after which others may follow in the same turn of the loop
_LOOK = 0.05  # seconds between two looks at the tasks for which the end still waits

check_callback = check_hook
"""Refuses what cannot be a callback here; the blocking driver also refuses coroutine functions."""


class Dispatcher:
    """Runs the callbacks of one client or server."""

    is_inline_here = False
    """Whether an inline callback asks for what takes a wait. On the loop it could not wait."""

    def __init__(
        self,
        settle: Settle,
        progress: Callable[[], None],
        max_notices: int,
        max_notice_bytes: int,
        stopwatch: Callable[[], float] = monotonic,
    ) -> None:
        self._host = Host(settle, progress, stopwatch)
        self._loop = self._host.loop
        self._callbacks = self._host.callbacks
        self.due: Mapping[Handler, None] = self._host.due
        """Those for which ``begin`` has something to do."""
        self.returns = Returns(self._loop)
        """Those whose threads have something to tell."""
        self._context = copy_context()
        self._threads = CallbackThreads(_THREADS)
        self._hook_threads = CallbackThreads(_THREADS)
        self._notices = Notices(max_notices, max_notice_bytes)
        self._notifier: asyncio.Task[None] | None = None
        self._is_notifying = False

    @property
    def is_busy_in_threads(self) -> bool:
        """Whether a plain function is under way, or about to be. A test waits for those."""
        return self._threads.is_busy or self._hook_threads.is_busy or len(self.returns.waiting) > 0

    def attach(self, mailbox: Mailbox, callback: Callback, inline: bool = False) -> None:
        """Let a callback handle the messages of a mailbox."""
        host = self._host
        handler: Handler
        if is_async(callback):
            handler = OnLoop(host, mailbox, callback)
        elif inline:
            handler = Inline(host, mailbox, callback)
        else:
            handler = InThreads(host, mailbox, callback, self._threads, self.returns)
        self._callbacks[mailbox] = handler

    def detach(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox. A running callback finishes."""
        self._callbacks.pop(mailbox, None)

    def finish_mailbox(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox that gets no more messages once it is empty."""
        if not mailbox.has_work and mailbox not in self._host.running:
            self.detach(mailbox)

    def wake(self, mailboxes: Iterable[Mailbox]) -> None:
        """Start the callbacks of mailboxes that have messages."""
        host = self._host
        for mailbox in mailboxes:
            handler = self._callbacks.get(mailbox)
            if handler is not None and not (mailbox in host.running or host.is_closed):
                handler.wake()

    def begin(self) -> bool:
        """Let those that are due begin, for one turn; others stay due.

        Tell whether it was short, so that more may follow in this turn of the loop.
        """
        host, due = self._host, self._host.due
        stopwatch = host.stopwatch
        now = stopwatch()
        turn_ends, is_long_from = now + TURN, now + _SHORT
        while due:
            if host.is_closed:
                due.clear()
                break
            handler = next(iter(due))
            try:
                has_more = handler.begin(turn_ends)
            except Exception as error:
                has_more = False
                handler.put_off(error)
            # Nothing is called in between, so that none is forgotten.
            if handler in due:
                del due[handler]
            if has_more:
                due[handler] = None  # behind the others
            now = stopwatch()
            if now > turn_ends:
                break
        return now < is_long_from

    def notify(self, callback: Callable[..., Any] | None, *args: Any, size: int = 0) -> None:
        """Call a callback with a notice, which is not a message; notices keep their order.

        ``size`` is the notice's size in bytes, if it may be large.
        """
        if callback is None or self._host.is_closed:
            return
        if not self._notices.has_room(size):
            log_dropped_notice(callback)
            return
        self._notices.append((callback, args), size)
        self._start_notifier()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task for a hook."""
        return quiet(self._context.run(self._loop.create_task, work))

    async def call(self, hook: Callable[..., Any], *args: Any) -> Any:
        """Call a plain function in a thread, or a coroutine function here; return its result."""
        if is_async(hook):
            return await hook(*args)
        call = partial(copy_context().run, hook, *args)
        result = await self._loop.run_in_executor(self._hook_threads, call)
        return await result if inspect.isawaitable(result) else result

    async def finish_notices(
        self, timeout: float, spared: Collection["asyncio.Task[Any] | None"]
    ) -> None:
        """Wait until all notices have been given, or the timeout is over."""
        notifier = self._notifier
        if notifier is not None and notifier not in spared:
            await end_of([notifier], timeout, spared)

    def abandon(self) -> None:
        """Begin no more callbacks: in a forked child, which has none of the threads."""
        self._host.is_closed = True
        self._notices.clear()

    async def close(self, timeout: float, spared: Collection["asyncio.Task[Any] | None"]) -> None:
        """Begin no more callbacks, and cancel those that run as tasks.

        Wait for them until the timeout, but not for the ``spared`` ones, which wait for this. A
        plain function that runs in a thread goes on.
        """
        self._host.is_closed = True
        host = self._host
        for mailbox in [*self._callbacks, *host.running]:
            mailbox.clear()
        host.due.clear()
        if self._notifier not in spared:
            self._notices.clear()
        calls = [one.returned() for one in host.running.values() if isinstance(one, InThreads)]
        if calls:
            await asyncio.wait(calls, timeout=_LAST_MESSAGE)
        started = [*(handler.task for handler in host.running.values()), self._notifier]
        tasks = [task for task in started if task is not None and task not in spared]
        for task in tasks:
            task.cancel()
        if not await end_of(tasks, timeout, spared):
            text = "a callback goes on, though it was cancelled"
            write(logging.WARNING, "callback_goes_on", text)
        for threads in (self._threads, self._hook_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    # -- notices ----------------------------------------------------------------------------

    def _start_notifier(self) -> None:
        if self._notices and not (self._is_notifying or self._host.is_closed):
            self._is_notifying = True  # first, because an eager task begins at once
            self._notifier = self.start(self._notify_all())
            self._notifier.add_done_callback(self._notified)

    async def _notify_all(self) -> None:
        while self._notices:
            callback, args = self._notices.popleft()
            try:
                await self.call(callback, *args)
            except BaseException as failure:
                if ends_task(failure):
                    raise
                notice_failed(failure, callback)

    def _notified(self, task: "asyncio.Task[None]") -> None:
        self._notifier = None
        self._is_notifying = False
        if task.cancelled() and is_ending(self._loop):
            self._loop.call_later(AGAIN, self._start_notifier)  # if the loop goes on after all
        elif not self._host.is_closed:
            self._start_notifier()


async def end_of(
    tasks: Iterable["asyncio.Task[Any]"],
    timeout: float,
    spared: Collection["asyncio.Task[Any] | None"],
) -> bool:
    """Wait for tasks; return ``False`` when the timeout is over.

    It waits for none of the ``spared``, to which a task may come meanwhile, when it begins to wait
    for the end itself.
    """
    ends = monotonic() + timeout
    while waiting := [task for task in tasks if not task.done() and task not in spared]:
        left = ends - monotonic()
        if left <= 0:
            return False
        await asyncio.wait(waiting, timeout=min(left, _LOOK), return_when=asyncio.FIRST_COMPLETED)
    return True
