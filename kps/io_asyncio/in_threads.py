"""A callback that is a plain function, and may block: it runs on threads.

The loop hands a batch of messages to a thread, and the thread tells the loop when it has outcomes
or has come to the end. Until the loop has looked, it tells nothing more, so a thread that handles
very many messages in a moment makes few calls.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Iterator
from functools import partial
from operator import length_hint
from time import monotonic
from typing import Any

from kps.io_asyncio.handlers import TURN, Handler, Host
from kps.io_asyncio.threads import CallbackThreads
from kps.io_asyncio.workers import ends_task
from kps.io_common.hooks import Callback
from kps.io_common.logger import write
from kps.io_common.logs import report_failure
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import UNSUBSCRIBED, Message

_BATCH = 1024  # messages handed to a thread at once: a hand-over costs as much as many of them

_Ticket = list[Iterator[Message]]
"""Whoever takes the batch out of it may handle it: the thread, or the loop that takes it back."""


class Returns:
    """The handlers whose threads have something to tell the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_looking = False
        self.waiting: deque[InThreads] = deque()

    def tell(self, handler: "InThreads") -> None:
        """In a thread: make the loop look at a handler."""
        self.waiting.append(handler)
        try:
            self._loop.call_soon_threadsafe(self.look)
        except RuntimeError:
            text = "the event loop is closed: the outcome of a callback is lost"
            write(logging.DEBUG, "outcome_lost", text)

    def look(self) -> None:
        """On the loop: look at them. After an exception out of a signal handler, look again."""
        if self._is_looking:
            return  # what is settled takes a step
        self._is_looking = True
        try:
            waiting = self.waiting
            while waiting:
                waiting[0].look()
                del waiting[0]
        finally:
            self._is_looking = False


class InThreads(Handler):
    """A plain function, which runs on a thread of the pool."""

    __slots__ = ("_has_returned", "_has_told", "_outcomes", "_returned", "_returns", "_threads")

    def __init__(
        self,
        host: Host,
        mailbox: Mailbox,
        callback: Callback,
        threads: CallbackThreads,
        returns: Returns,
    ) -> None:
        super().__init__(host, mailbox, callback)
        self._threads = threads
        self._returns = returns
        self._outcomes: deque[tuple[Message, str | None, Any]] = deque()
        self._has_told = False  # whether the loop is about to look
        self._has_returned = False
        self._returned: asyncio.Future[None] | None = None

    def wake(self) -> None:
        host, mailbox, threads = self.host, self.mailbox, self._threads
        ticket = [mailbox.batch(_BATCH)]
        mailbox.waits_for = threads.progress
        host.running[mailbox] = self
        try:
            threads.begin(partial(self.context.copy().run, self._run, ticket))
        except BaseException as error:
            if _take(ticket) is not None:  # no thread has it, or will
                del host.running[mailbox]
            if not issubclass(type(error), RuntimeError):  # out of a signal handler
                raise
            self.put_off(error)

    def look(self) -> None:
        """Settle what the thread has handled, and go on if it has returned."""
        self._has_told = False  # first, so that it tells what comes from here on
        outcomes, settle = self._outcomes, self.host.settle
        has_returned = self._has_returned  # before the outcomes, which are then all
        while outcomes:
            message, error, result = outcomes[0]
            settle(message, error, result, more=len(outcomes) > 1)
            del outcomes[0]
        running, mailbox = self.host.running, self.mailbox
        if has_returned:
            # Nothing is called in between. Whoever looks again sees that it may go on.
            self._has_returned = False
            del running[mailbox]
            if self._returned is not None and not self._returned.done():
                self._returned.set_result(None)
        if mailbox not in running:
            self.go_on()

    def returned(self) -> "asyncio.Future[None]":
        """Return a future for the end of what a thread is handling now."""
        self._returned = self.host.loop.create_future()
        return self._returned

    # -- in a thread ------------------------------------------------------------------------

    def _run(self, ticket: _Ticket) -> None:
        """Handle a batch; the loop settles the messages that want an ack."""
        batch = _take(ticket)
        if batch is None:
            return
        mailbox, outcomes, waiting = self.mailbox, self._outcomes, self._threads.waiting
        mailbox.waits_for = None
        turn_ends = monotonic() + TURN
        for message in batch:
            error: str | None = UNSUBSCRIBED
            result = None
            if not mailbox.closed:
                error, result = self._call(message)
            if message.acknowledgement is not None:
                outcomes.append((message, error, result))
                if not self._has_told and length_hint(batch):  # the next one may take long
                    self._tell()
            if waiting and monotonic() > turn_ends:
                break  # the rest of the batch waits for its next turn
        self._has_returned = True
        if not self._has_told:
            self._tell()

    def _tell(self) -> None:
        self._has_told = True
        self._returns.tell(self)

    def _call(self, message: Message) -> tuple[str | None, Any]:
        try:
            result = self.callback(message)
            if result is not None and inspect.isawaitable(result):
                # a plain function that returned a coroutine
                outcome = _outcome(result, message.topic)
                return asyncio.run_coroutine_threadsafe(outcome, self.host.loop).result()
        except BaseException as failure:
            return report_failure(failure, message.topic), None
        return None, result


def _take(ticket: _Ticket) -> Iterator[Message] | None:
    try:
        return ticket.pop()
    except IndexError:
        return None


async def _outcome(awaitable: Awaitable[Any], topic: str) -> tuple[str | None, Any]:
    """Await what a plain function returned; a task must not end with ``SystemExit``."""
    try:
        return None, await awaitable
    except BaseException as failure:
        if ends_task(failure):
            raise
        return report_failure(failure, topic), None
