"""Runs the program's callbacks.

Each client or server has one worker thread: its callbacks never run at the same time, and each
subscription's messages are handled in order. The thread starts with the first callback.

An *inline* callback runs on the thread of the connection that read its message, which saves a
switch of threads; inline callbacks of one client or server never run at the same time either.
What that thread does not manage in a turn, and what no connection brought, because the server's
own program published it, is for the worker thread. While an inline callback runs, the connection
carries nothing. So it must be quick, and must never block: calls that would wait for an answer
raise :class:`kps.InvalidState` there, and an end that it asks for begins after it.

A callback runs in the context (``contextvars``) of its ``subscribe``, a notice in that of the
start. Whatever a callback raises is the failure of one message.
"""

import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from functools import partial
from operator import length_hint
from threading import get_ident
from time import monotonic
from typing import Any, NamedTuple, Protocol

from kps.errors import InvalidArgument
from kps.io_common.checks import check_hook
from kps.io_common.condition import Condition
from kps.io_common.hooks import Callback
from kps.io_common.logs import log_dropped_notice, notice_failed, report_failure
from kps.io_common.notices import Notices
from kps.io_sync.log import write
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import UNSUBSCRIBED, Message
from kps.protocol.limits import shown


class Settle(Protocol):
    """Gives the core the outcome of a message: the error, or the result. Takes the lock."""

    def __call__(
        self, message: Message, error: str | None, result: Any = None, *, more: bool = False
    ) -> None:
        """``more`` tells whether another outcome is to follow at once."""


_BATCH = 64  # messages of one subscription before another one has its turn
_TURN = 0.01  # seconds that a subscription may keep the thread while another one waits, or a socket


class _Handler(NamedTuple):
    """What handles the messages of a mailbox."""

    callback: Callback
    context: Context
    is_inline: bool


class Dispatcher:
    """Runs the callbacks of one client or server.

    ``lock`` is the core's. Callers hold it for all methods but ``run_inline`` and ``finish``.
    """

    def __init__(
        self, lock: threading.RLock, settle: Settle, max_notices: int, max_notice_bytes: int
    ) -> None:
        self._news = Condition(lock)
        self._settle = settle
        self._context = copy_context()
        self._callbacks: dict[Mailbox, _Handler] = {}
        self.ready: dict[Mailbox, None] = {}
        """Mailboxes whose callbacks are to be called."""
        self.inline: dict[Mailbox, None] = {}
        """The same, where the callback is inline."""
        self._inline_thread: int | None = None  # who calls inline callbacks just now
        self._notices = Notices(max_notices, max_notice_bytes)
        self._thread: threading.Thread | None = None
        self._turns = 0
        self._is_closed = False
        self._is_resting = True

    @property
    def working_thread(self) -> int | None:
        """The thread that has something to do, unless it rests. A test waits for it."""
        if self._inline_thread is not None:
            return self._inline_thread
        thread = self._thread
        has_work = bool(self.ready or self._notices or self._has_inline) or not self._is_resting
        return thread.ident if thread is not None and thread.is_alive() and has_work else None

    @property
    def is_this_thread(self) -> bool:
        """Whether a callback is what asks."""
        return self._thread is threading.current_thread()

    @property
    def is_inline_here(self) -> bool:
        """Whether an inline callback is what asks."""
        return self._inline_thread == get_ident()

    def new_context(self) -> Context:
        """Return the context for a hook."""
        return self._context.copy()

    def attach(self, mailbox: Mailbox, callback: Callback, inline: bool = False) -> None:
        """Let a callback handle the messages of a mailbox."""
        self._callbacks[mailbox] = _Handler(callback, copy_context(), inline)
        mailbox.waits_for = self._count_turns

    def detach(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox. A running callback finishes."""
        self._callbacks.pop(mailbox, None)
        self.ready.pop(mailbox, None)
        self.inline.pop(mailbox, None)

    def finish_mailbox(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox that gets no more messages once it is empty."""
        if not mailbox.has_work:
            self.detach(mailbox)

    def wake(self, mailboxes: Iterable[Mailbox]) -> None:
        """Schedule the callbacks of mailboxes that have messages."""
        self.note(mailboxes)
        if self.ready or self.inline:
            self._start()

    def note(self, mailboxes: Iterable[Mailbox]) -> None:
        """Note such mailboxes, in a thread that will call ``run_inline`` and ``go_on``."""
        if self._is_closed:
            return
        for mailbox in mailboxes:
            handler = self._callbacks.get(mailbox)
            if handler is not None:
                self._ready_for(handler)[mailbox] = None

    def go_on(self) -> None:
        """Wake the thread if there is something to do for it."""
        if self.ready:
            self._start()

    def run_inline(self) -> None:
        """Without the lock: call the inline callbacks that are due, and leave the rest of them."""
        if not self.inline:
            return
        turn_ends = monotonic() + _TURN
        while (work := self._next_inline(turn_ends)) is not None:
            try:
                work()
            finally:
                self._inline_thread = None

    def notify(self, callback: Callable[..., Any] | None, *args: Any, size: int = 0) -> None:
        """Call a callback with a notice, which is not a message; notices keep their order.

        ``size`` is the notice's size in bytes, if it may be large.
        """
        if callback is None or self._is_closed:
            return
        if not self._notices.has_room(size):
            log_dropped_notice(callback, write)
            return
        self._notices.append((callback, args), size)
        self._start()

    def close(self) -> None:
        """Begin no more callbacks. The thread ends after the pending notices."""
        self._is_closed = True
        for mailbox in self._callbacks:
            mailbox.clear()
        self.ready.clear()
        self.inline.clear()
        self._news.notify_all()

    def finish(self, timeout: float) -> None:
        """Wait for the thread after ``close``, without the lock; return at once on the thread.

        Drop the notices that are still pending then.
        """
        thread = self._thread
        if thread is not None and not self.is_this_thread:
            thread.join(timeout)
            with self._news.lock:
                self._notices.clear()

    def forked(self, lock: threading.RLock) -> None:
        """In a forked child: use a new lock, and begin no more callbacks.

        If a callback has forked, the child runs on in its thread.
        """
        self._news = Condition(lock)
        self._notices.clear()
        with self._news.lock:
            self.close()

    def _start(self) -> None:
        if self._thread is None:
            # A daemon, so that a program that forgets to close can still end.
            self._thread = threading.Thread(target=self._run, name="kps-callbacks", daemon=True)
            try:
                self._thread.start()
            except BaseException as error:  # the next message or notice tries again
                self._thread = None
                if not isinstance(error, RuntimeError):
                    raise
                text = "callbacks have no thread: %(reason)s"
                write(logging.ERROR, "callbacks_wait", text, reason=error)
                return
        self._news.notify_all()

    def _run(self) -> None:
        with self._news.lock:
            if self._thread is not threading.current_thread():
                return  # an exception out of a signal handler came in as it started
        while (work := self._next_work()) is not None:
            try:
                work()
            finally:
                if self.is_inline_here:
                    self._inline_thread = None

    def _next_work(self) -> Callable[[], None] | None:
        with self._news.lock:
            self._is_resting = True
            while not (self.ready or self._notices or self._is_closed or self._has_inline):
                self._news.wait()
            if self._is_closed and not self._notices:
                return None
            self._is_resting = False
            self._turns += 1
            if self._notices:
                return partial(self._context.run, _call, *self._notices.popleft())
            if self.ready:
                return self._next_batch(self.ready)
            return self._next_batch(self.inline)

    @property
    def _has_inline(self) -> bool:
        """Whether there are inline callbacks to be called, and nobody does."""
        return bool(self.inline) and self._inline_thread is None

    def _next_inline(self, turn_ends: float) -> Callable[[], None] | None:
        with self._news.lock:
            if not self._has_inline or self._is_closed:
                return None
            if monotonic() > turn_ends:
                self._start()
                return None
            self._turns += 1
            return self._next_batch(self.inline)

    def _next_batch(self, ready: dict[Mailbox, None]) -> Callable[[], None]:
        mailbox = next(iter(ready))
        del ready[mailbox]
        handler = self._callbacks[mailbox]
        mailbox.waits_for = None  # it has its turn
        if handler.is_inline:
            self._inline_thread = get_ident()
        return partial(handler.context.run, self._handle, mailbox, mailbox.batch(_BATCH), handler)

    def _ready_for(self, handler: _Handler) -> dict[Mailbox, None]:
        return self.inline if handler.is_inline else self.ready

    def _handle(self, mailbox: Mailbox, batch: Iterator[Message], handler: _Handler) -> None:
        turn_ends = monotonic() + _TURN
        callback, is_inline = handler.callback, handler.is_inline
        ready, notices = self.ready, self._notices
        for message in batch:
            error: str | None = None
            result = None
            if mailbox.closed:
                error = UNSUBSCRIBED
            else:
                try:
                    result = callback(message)
                    if result is not None and inspect.iscoroutine(result):
                        refuse_coroutine(result)
                except BaseException as failure:
                    error, result = report_failure(failure, mailbox.topic), None
            if message.acknowledgement is not None:
                self._settle(message, error, result, more=length_hint(batch) > 0)
            if (is_inline or ready or notices) and monotonic() > turn_ends:
                break  # the rest of the batch waits for its next turn
        with self._news.lock:
            mailbox.waits_for = self._count_turns
            if mailbox in self._callbacks:
                if mailbox.has_work and not self._is_closed:
                    self._ready_for(handler)[mailbox] = None  # behind the others
                elif mailbox.error is not None:
                    self.finish_mailbox(mailbox)

    def _count_turns(self) -> int:
        return self._turns


def check_callback(name: str, value: object) -> None:
    """Refuse what cannot be a callback: a coroutine function would never run.

    Raises :class:`kps.InvalidArgument`.
    """
    check_hook(name, value)
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(
        getattr(value, "__call__", None)  # noqa: B004
    ):
        text = f"{name} is a coroutine function, which kps.sync never runs: {shown(value)}"
        raise InvalidArgument(text)


def refuse_coroutine(result: Any) -> None:
    """Fail for a coroutine that a plain function returned, since nothing runs it here."""
    result.close()
    raise InvalidArgument("a callback of kps.sync returned a coroutine, which nothing runs")


def _call(callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = callback(*args)
        if inspect.iscoroutine(result):
            refuse_coroutine(result)
    except BaseException as failure:
        notice_failed(failure, callback)
