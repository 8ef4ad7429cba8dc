"""Runs the program's callbacks.

A coroutine function runs as a task on the event loop. A plain function may block, so it runs
on a thread of a small pool, and the heartbeat on the loop goes on. Either way the messages of
one subscription are handled one after the other, in order, and subscriptions do not wait for
each other.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from time import monotonic
from typing import Any

from kps.io_asyncio.threads import CallbackThreads
from kps.io_common.hooks import Callback
from kps.io_common.logs import logger, report_failure
from kps.io_common.notices import Notices
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message

Settle = Callable[[Message, str | None, Any], None]
"""Gives the core the outcome of a message: the error, or the result."""

_Runner = Callable[[Mailbox, Any], Coroutine[None, None, None]]

_THREADS = 16
_TURN = 0.01  # seconds that a coroutine callback may run without yielding to the loop
_BATCH = 256  # messages handed to a thread at once: a hand-over costs more than a message
_BATCH_ON_LOOP = 2048  # messages; a callback that never waits takes milliseconds for them


class Dispatcher:
    """Runs the callbacks of one client or server."""

    def __init__(self, settle: Settle, max_notices: int, max_notice_bytes: int) -> None:
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._executor: CallbackThreads | None = None
        self._callbacks: dict[Mailbox, tuple[Callback, _Runner]] = {}
        self._tasks: dict[Mailbox, asyncio.Task[None]] = {}
        self._notices = Notices(max_notices, max_notice_bytes)
        self._notifier: asyncio.Task[None] | None = None

    @property
    def is_busy_in_threads(self) -> bool:
        """Whether a plain function is under way, or about to be. A test waits for those."""
        return self._executor is not None and self._executor.is_busy

    def attach(self, mailbox: Mailbox, callback: Callback) -> None:
        """Let a callback handle the messages of a mailbox."""
        run = self._on_loop if _is_async(callback) else self._in_threads
        self._callbacks[mailbox] = callback, run

    def detach(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox. A running callback finishes."""
        self._callbacks.pop(mailbox, None)

    def finish_mailbox(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox that gets no more messages once it is empty."""
        if not len(mailbox) and mailbox not in self._tasks:
            self.detach(mailbox)

    def wake(self, mailboxes: Iterable[Mailbox]) -> None:
        """Start the callbacks of mailboxes that have messages."""
        for mailbox in mailboxes:
            found = self._callbacks.get(mailbox)
            if found is not None and mailbox not in self._tasks:
                callback, run = found
                task = self._loop.create_task(run(mailbox, callback))
                self._tasks[mailbox] = task
                task.add_done_callback(partial(self._done, mailbox))

    def notify(self, callback: Callable[..., Any] | None, *args: Any, size: int = 0) -> None:
        """Call a callback with a notice, which is not a message; notices keep their order.

        ``size`` is the notice's size in bytes, if it may be large.
        """
        if callback is None:
            return
        if not self._notices.has_room(size):
            logger.warning("dropped a notice for %r: it is too slow", callback)
            return
        self._notices.append((callback, args), size)
        if self._notifier is None:
            self._notifier = self._loop.create_task(self._notify_all())

    async def call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call a plain function in a thread, or a coroutine function here; return its result."""
        if _is_async(callback):
            return await callback(*args)
        result = await self._loop.run_in_executor(self._threads(), callback, *args)
        return await result if inspect.isawaitable(result) else result

    async def close(self) -> None:
        """Cancel all tasks. A plain function that runs in a thread goes on."""
        tasks = [*self._tasks.values(), *([self._notifier] if self._notifier else [])]
        current = asyncio.current_task()
        others = [task for task in tasks if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def finish_notices(self, timeout: float) -> None:
        """Wait until all notices have been given, or the timeout is over."""
        notifier = self._notifier
        if notifier is not None and notifier is not asyncio.current_task():
            await asyncio.wait([notifier], timeout=timeout)

    def _done(self, mailbox: Mailbox, task: asyncio.Task[None]) -> None:
        del self._tasks[mailbox]
        if len(mailbox):  # a message came between the last check and the end of the task
            self.wake([mailbox])
        elif mailbox.error is not None:
            self.detach(mailbox)

    async def _on_loop(
        self, mailbox: Mailbox, callback: Callable[[Message], Awaitable[Any]]
    ) -> None:
        turn_ends = monotonic() + _TURN
        while batch := mailbox.take_some(_BATCH_ON_LOOP):
            messages = iter(batch)
            try:
                for message in messages:
                    error: str | None = "unsubscribed"
                    result = None
                    try:
                        if not mailbox.closed:
                            error = "cancelled"
                            result = await callback(message)
                            error = None
                    except Exception as failure:
                        error = report_failure(failure, mailbox.topic)
                    finally:
                        if message.acknowledgement is not None:
                            self._settle(message, error, result)
            finally:
                for message in messages:  # there are some only if this task is cancelled
                    self._settle(message, "cancelled", None)
            if monotonic() > turn_ends:
                # A callback that never waits must not starve the loop. The loop reads much at
                # a time, so the callback must not yield after each batch either.
                await asyncio.sleep(0)
                turn_ends = monotonic() + _TURN

    async def _in_threads(self, mailbox: Mailbox, callback: Callback) -> None:
        while len(mailbox):
            batch = mailbox.take_some(_BATCH)
            await self._loop.run_in_executor(
                self._threads(), self._run_batch, batch, callback, mailbox
            )

    def _run_batch(self, batch: list[Message], callback: Callback, mailbox: Mailbox) -> None:
        """Handle messages in a thread; let the loop settle those that want an ack."""
        for message in batch:
            error: str | None = "unsubscribed"
            result = None
            if not mailbox.closed:
                error, result = self._run_one(message, callback)
            if message.wants_ack:
                self._from_thread(self._settle, message, error, result)

    def _run_one(self, message: Message, callback: Callback) -> tuple[str | None, Any]:
        try:
            result = callback(message)
            if inspect.isawaitable(result):  # a plain function that returned a coroutine
                result = asyncio.run_coroutine_threadsafe(_await(result), self._loop).result()
        except Exception as failure:
            return report_failure(failure, message.topic), None
        return None, result

    def _from_thread(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            logger.debug("the event loop is closed: the outcome of a callback is lost")

    async def _notify_all(self) -> None:
        try:
            while self._notices:
                callback, args = self._notices.popleft()
                try:
                    await self.call(callback, *args)
                except Exception:
                    logger.exception("a callback failed: %r", callback)
        finally:
            self._notifier = None

    def _threads(self) -> CallbackThreads:
        if self._executor is None:
            self._executor = CallbackThreads(_THREADS)
        return self._executor


def _is_async(callback: Callable[..., Any]) -> bool:
    if inspect.iscoroutinefunction(callback):
        return True
    return inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
