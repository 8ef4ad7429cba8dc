"""Flow control: a client reads no faster than its program handles what it reads.

A mailbox that fills up pauses reading, so that TCP slows the server down and nothing is
dropped here. It does so only while its program keeps up in some measure: a callback that hangs,
or an iterator that nobody asks, must not keep everything else from the client.
"""

from collections.abc import Callable
from functools import partial

from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.timers import Deadlines

_LOOK_EVERY = 1.0  # seconds
# What a mailbox must have lost between two looks, of what is in it, for reading to wait for it.
_KEEPS_UP = 1 / 10


class Flow:
    """Whether reading pauses, and for which mailboxes.

    ``now()`` is the time of the session's latest verb; ``resume`` is called when a pause ends.
    """

    def __init__(
        self, deadlines: Deadlines, now: Callable[[], float], resume: Callable[[], None]
    ) -> None:
        self._deadlines = deadlines
        self._now = now
        self._resume = resume
        self._crowded: dict[Mailbox, int] = {}  # with what had been taken at the last look
        self._look_at = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether to read no more for now."""
        return bool(self._crowded)

    def crowded(self, mailbox: Mailbox) -> None:
        """Take note that a mailbox has filled up."""
        if mailbox.on_relief is not None:
            return  # already known, or given up on
        mailbox.on_relief = partial(self._relieved, mailbox)
        if not self._crowded:
            self._look_at = self._now() + _LOOK_EVERY
        self._crowded[mailbox] = mailbox.taken
        self._deadlines.schedule(self)

    def next_deadline(self) -> float | None:
        return self._look_at if self._crowded else None

    def handle_timeout(self, now: float) -> None:
        """Wait no longer for mailboxes that are not emptied."""
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        for mailbox, before in list(self._crowded.items()):
            if mailbox.taken - before < _KEEPS_UP * len(mailbox):
                del self._crowded[mailbox]
            else:
                self._crowded[mailbox] = mailbox.taken
        if not self._crowded:
            self._resume()

    def _relieved(self, mailbox: Mailbox) -> None:
        if self._crowded.pop(mailbox, None) is not None and not self._crowded:
            self._deadlines.cancel(self)
            self._resume()
