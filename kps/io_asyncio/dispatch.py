"""Runs the program's callbacks.

A coroutine function runs as a task on the event loop. A plain function may block, so it runs
on a thread of a small pool, and the heartbeat on the loop goes on. Either way the messages of
one subscription are handled one after the other, in order, and subscriptions do not wait for
each other. Hooks and notices have threads of their own, so that callbacks do not delay them.

A callback runs in the context (``contextvars``) of its ``subscribe``, hooks and notices in that of
the start. Whatever a callback raises is the failure of one message.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from contextvars import Context, copy_context
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, Protocol

from kps.io_asyncio.threads import CallbackThreads
from kps.io_asyncio.workers import ends_task, quiet
from kps.io_common.checks import check_hook
from kps.io_common.hooks import Callback
from kps.io_common.logger import write
from kps.io_common.logs import log_dropped_notice, notice_failed, report_failure
from kps.io_common.notices import Notices
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message


class Settle(Protocol):
    """Gives the core the outcome of a message: the error, or the result."""

    def __call__(
        self, message: Message, error: str | None, result: Any = None, *, more: bool = False
    ) -> None: ...


_THREADS = 16
_TURN = 0.01  # seconds that a callback may keep the loop, or a thread for which others wait
_BATCH = 256  # messages handed to a thread at once: a hand-over costs more than a message
_BATCH_ON_LOOP = 2048  # messages; a callback that never waits takes milliseconds for them
_LAST_MESSAGE = 0.1  # seconds for threads to return at the end, so that no call begins after it
_LOOK = 0.05  # seconds between two looks at the tasks for which the end still waits
_AGAIN = 0.2  # seconds after which callbacks go on when all tasks of a loop were cancelled
_RETRY = 1.0  # seconds after which a subscription asks again for a thread that the system denied

check_callback = check_hook
"""Refuses what cannot be a callback here; the blocking driver also refuses coroutine functions."""


class _Handler(NamedTuple):
    """What handles the messages of a mailbox."""

    callback: Callback
    is_async: bool
    context: Context


class Dispatcher:
    """Runs the callbacks of one client or server."""

    def __init__(self, settle: Settle, max_notices: int, max_notice_bytes: int) -> None:
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._threads = CallbackThreads(_THREADS)
        self._hook_threads = CallbackThreads(_THREADS)
        self._callbacks: dict[Mailbox, _Handler] = {}
        self._tasks: dict[Mailbox, asyncio.Task[None]] = {}
        self._running: dict[Mailbox, asyncio.Future[None]] = {}  # calls in threads
        self._notices = Notices(max_notices, max_notice_bytes)
        self._notifier: asyncio.Task[None] | None = None
        self._is_notifying = False
        self._is_closed = False

    @property
    def is_busy_in_threads(self) -> bool:
        """Whether a plain function is under way, or about to be. A test waits for those."""
        return self._threads.is_busy or self._hook_threads.is_busy

    def attach(self, mailbox: Mailbox, callback: Callback) -> None:
        """Let a callback handle the messages of a mailbox."""
        self._callbacks[mailbox] = _Handler(callback, _is_async(callback), copy_context())

    def detach(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox. A running callback finishes."""
        self._callbacks.pop(mailbox, None)

    def finish_mailbox(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox that gets no more messages once it is empty."""
        if not mailbox.has_work and mailbox not in self._tasks:
            self.detach(mailbox)

    def wake(self, mailboxes: Iterable[Mailbox]) -> None:
        """Start the callbacks of mailboxes that have messages."""
        for mailbox in mailboxes:
            handler = self._callbacks.get(mailbox)
            if handler is not None and mailbox not in self._tasks and not self._is_closed:
                run = self._on_loop if handler.is_async else self._in_threads
                task = handler.context.run(self._loop.create_task, run(mailbox, handler))
                quiet(task)
                self._tasks[mailbox] = task
                done = partial(self._done, mailbox)
                task.add_done_callback(done)
                task.add_done_callback(done)  # a signal handler may raise out of the first call

    def notify(self, callback: Callable[..., Any] | None, *args: Any, size: int = 0) -> None:
        """Call a callback with a notice, which is not a message; notices keep their order.

        ``size`` is the notice's size in bytes, if it may be large.
        """
        if callback is None or self._is_closed:
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
        if _is_async(hook):
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
        self._is_closed = True
        self._notices.clear()

    async def close(self, timeout: float, spared: Collection["asyncio.Task[Any] | None"]) -> None:
        """Begin no more callbacks, and cancel those that run as tasks.

        Wait for them until the timeout, but not for the ``spared`` ones, which wait for this. A
        plain function that runs in a thread goes on.
        """
        self._is_closed = True
        for mailbox in [*self._callbacks, *self._tasks]:
            mailbox.clear()
        if self._notifier not in spared:
            self._notices.clear()
        tasks = [*self._tasks.values(), *([self._notifier] if self._notifier else [])]
        tasks = [task for task in tasks if task not in spared]
        if tasks and self._threads.is_busy:
            await asyncio.wait(tasks, timeout=_LAST_MESSAGE)
        for task in tasks:
            task.cancel()
        if not await end_of(tasks, timeout, spared):
            write(logging.WARNING, "a callback goes on, though it was cancelled")
        for threads in (self._threads, self._hook_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    # -- messages ---------------------------------------------------------------------------

    def _done(self, mailbox: Mailbox, task: "asyncio.Task[None]") -> None:
        if self._tasks.get(mailbox) is not task:
            return  # the second call
        del self._tasks[mailbox]
        if not mailbox.has_work:
            if mailbox.error is not None:
                self.detach(mailbox)
        elif task.cancelled() and _is_ending(self._loop):
            self._loop.call_later(_AGAIN, self.wake, [mailbox])  # if the loop goes on after all
        elif task.cancelled():  # by its own callback
            self.wake([mailbox])
        elif task.exception() is not None:
            write(logging.ERROR, "the callbacks of %r wait: %s", mailbox.topic, task.exception())
            self._loop.call_later(_RETRY, self.wake, [mailbox])
        else:  # a message came between the last check and the end of the task
            self.wake([mailbox])

    async def _on_loop(self, mailbox: Mailbox, handler: _Handler) -> None:
        callback: Callable[[Message], Awaitable[Any]] = handler.callback  # type: ignore[assignment]
        turn_ends = monotonic() + _TURN
        while mailbox.has_work:
            for message in mailbox.batch(_BATCH_ON_LOOP):
                error: str | None = "unsubscribed"
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
                        self._settle(message, error, result, more=mailbox.has_work)
            if monotonic() > turn_ends:
                # A callback that never waits must not starve the loop. The loop reads much at
                # a time, so the callback must not yield after each batch either.
                await asyncio.sleep(0)
                turn_ends = monotonic() + _TURN

    async def _in_threads(self, mailbox: Mailbox, handler: _Handler) -> None:
        threads = self._threads
        previous = self._running.get(mailbox)
        if previous is not None:  # its task was cancelled, but a thread cannot be
            await asyncio.wait([previous])
        while mailbox.has_work:
            batch = mailbox.batch(_BATCH)
            run = partial(self._run_batch, mailbox, batch, handler.callback)
            mailbox.waits_for = threads.progress
            running = self._loop.run_in_executor(threads, handler.context.copy().run, run)
            self._running[mailbox] = running
            running.add_done_callback(lambda _: self._running.pop(mailbox, None))
            await asyncio.shield(running)

    def _run_batch(self, mailbox: Mailbox, batch: Iterator[Message], callback: Callback) -> None:
        """In a thread: handle messages; the loop settles those that want an ack."""
        mailbox.waits_for = None
        waiting = self._threads.waiting
        turn_ends = monotonic() + _TURN
        for message in batch:
            error: str | None = "unsubscribed"
            result = None
            if not mailbox.closed:
                error, result = self._run_one(message, callback)
            if message.acknowledgement is not None:
                self._from_thread(partial(self._settle, message, error, result, more=True))
            if waiting and monotonic() > turn_ends:
                return  # the rest of the batch waits for its next turn

    def _run_one(self, message: Message, callback: Callback) -> tuple[str | None, Any]:
        try:
            result = callback(message)
            if result is not None and inspect.isawaitable(
                result
            ):  # a plain function that returned a coroutine
                outcome = _outcome(result, message.topic)
                return asyncio.run_coroutine_threadsafe(outcome, self._loop).result()
        except BaseException as failure:
            return report_failure(failure, message.topic), None
        return None, result

    def _from_thread(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            write(logging.DEBUG, "the event loop is closed: the outcome of a callback is lost")

    # -- notices ----------------------------------------------------------------------------

    def _start_notifier(self) -> None:
        if self._notices and not (self._is_notifying or self._is_closed):
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
        if task.cancelled() and _is_ending(self._loop):
            self._loop.call_later(_AGAIN, self._start_notifier)  # if the loop goes on after all
        elif not self._is_closed:
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


def _is_ending(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether all tasks have been cancelled, as ``asyncio.run`` does at its end."""
    return all(task.cancelling() for task in asyncio.all_tasks(loop))


def _is_async(callback: Callable[..., Any]) -> bool:
    if inspect.iscoroutinefunction(callback):
        return True
    return inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004


async def _outcome(awaitable: Awaitable[Any], topic: str) -> tuple[str | None, Any]:
    """Await what a plain function returned; a task must not end with ``SystemExit``."""
    try:
        return None, await awaitable
    except BaseException as failure:
        if ends_task(failure):
            raise
        return report_failure(failure, topic), None
