"""Flow control: a client reads no faster than its program handles messages.

Reading pauses while a mailbox is above its high-water mark, so that TCP slows the server down
and nothing is dropped here. We wait only for a mailbox that its program drains: a callback that
hangs, or an iterator that nobody reads, must not block the rest of the client.
"""

from collections.abc import Callable
from functools import partial

from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.timers import Deadlines

_LOOK_EVERY = 1.0  # seconds
# Part of a mailbox that its program must drain between two checks for reading to wait for it.
_KEEPS_UP = 1 / 10


class Flow:
    """Decides whether reading is paused, and for which mailboxes.

    ``now()`` is the time of the session's latest verb; ``resume`` is called when a pause ends.
    """

    def __init__(
        self, deadlines: Deadlines, now: Callable[[], float], resume: Callable[[], None]
    ) -> None:
        self._deadlines = deadlines
        self._now = now
        self._resume = resume
        self._crowded: dict[Mailbox, int] = {}  # with ``taken`` at the last check
        self._look_at = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether reading is paused."""
        return bool(self._crowded)

    def crowded(self, mailbox: Mailbox) -> None:
        """Note that a mailbox is above its high-water mark."""
        if mailbox.on_relief is not None:
            return  # already known, or not drained and therefore ignored
        mailbox.on_relief = partial(self._relieved, mailbox)
        if not self._crowded:
            self._look_at = self._now() + _LOOK_EVERY
        self._crowded[mailbox] = mailbox.taken
        self._deadlines.schedule(self)

    def next_deadline(self) -> float | None:
        return self._look_at if self._crowded else None

    def handle_timeout(self, now: float) -> None:
        """Stop waiting for mailboxes that their program does not drain."""
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
