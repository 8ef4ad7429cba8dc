"""Runs the program's callbacks.

Each client or server has one worker thread: its callbacks never run at the same time, and each
subscription's messages are handled in order. The thread starts with the first callback.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from kps.io_common.hooks import Callback
from kps.io_common.logs import logger, report_failure
from kps.io_common.notices import Notices
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message

Settle = Callable[[Message, str | None, Any], None]
"""Gives the core the outcome of a message: the error, or the result. Called without the lock."""

_BATCH = 64  # messages of one subscription before another one has its turn


class Dispatcher:
    """Runs the callbacks of one client or server.

    ``lock`` is the core's. Callers hold it for all methods but ``finish``.
    """

    def __init__(
        self, lock: threading.RLock, settle: Settle, max_notices: int, max_notice_bytes: int
    ) -> None:
        self._news = threading.Condition(lock)
        self._settle = settle
        self._callbacks: dict[Mailbox, Callback] = {}
        self._ready: dict[Mailbox, None] = {}
        self._notices = Notices(max_notices, max_notice_bytes)
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._is_resting = True

    @property
    def working_thread(self) -> int | None:
        """The thread that has something to do, unless it rests. A test waits for it."""
        thread = self._thread
        has_work = bool(self._ready or self._notices) or not self._is_resting
        return thread.ident if thread is not None and thread.is_alive() and has_work else None

    def attach(self, mailbox: Mailbox, callback: Callback) -> None:
        """Let a callback handle the messages of a mailbox."""
        self._callbacks[mailbox] = callback

    def detach(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox. A running callback finishes."""
        self._callbacks.pop(mailbox, None)
        self._ready.pop(mailbox, None)

    def finish_mailbox(self, mailbox: Mailbox) -> None:
        """Stop handling a mailbox that gets no more messages once it is empty."""
        if not len(mailbox):
            self.detach(mailbox)

    def wake(self, mailboxes: Iterable[Mailbox]) -> None:
        """Schedule the callbacks of mailboxes that have messages."""
        for mailbox in mailboxes:
            if mailbox in self._callbacks:
                self._ready[mailbox] = None
        if self._ready:
            self._start()

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
        self._start()

    def close(self) -> None:
        """End the thread after the pending notices. Pending messages are dropped."""
        self._is_closed = True
        self._ready.clear()
        self._news.notify_all()

    def finish(self, timeout: float) -> None:
        """Wait for the thread after ``close``, without the lock; return at once on the thread."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _start(self) -> None:
        if self._thread is None:
            # A daemon, so that a program that forgets to close can still end.
            self._thread = threading.Thread(target=self._run, name="kps-callbacks", daemon=True)
            self._thread.start()
        self._news.notify_all()

    def _run(self) -> None:
        while (work := self._next_work()) is not None:
            work()

    def _next_work(self) -> Callable[[], None] | None:
        with self._news:
            self._is_resting = True
            while not (self._ready or self._notices or self._is_closed):
                self._news.wait()
            if self._is_closed and not self._notices:
                return None
            self._is_resting = False
            if self._notices:
                return partial(_call, *self._notices.popleft())
            return self._next_batch()

    def _next_batch(self) -> Callable[[], None]:
        mailbox = next(iter(self._ready))
        del self._ready[mailbox]
        batch = mailbox.take_some(_BATCH)
        if len(mailbox):
            self._ready[mailbox] = None  # behind the others
        callback = self._callbacks[mailbox]
        if mailbox.error is not None:
            self.finish_mailbox(mailbox)
        return partial(self._handle, mailbox, batch, callback)

    def _handle(self, mailbox: Mailbox, batch: list[Message], callback: Callback) -> None:
        for message in batch:
            error: str | None = None
            result = None
            if mailbox.closed:
                error = "unsubscribed"
            elif self._is_closed:
                error = "closed"
            else:
                try:
                    result = callback(message)
                except Exception as failure:
                    error = report_failure(failure, mailbox.topic)
            if message.wants_ack:
                self._settle(message, error, result)


def _call(callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        callback(*args)
    except Exception:
        logger.exception("a callback failed: %r", callback)
