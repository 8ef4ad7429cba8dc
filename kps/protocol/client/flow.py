"""Flow control: a client reads no faster than its program handles messages.

Reading pauses while a mailbox is above its high-water mark, until it is below the low one. So TCP
slows the server down, and nothing is dropped here. A mailbox whose program finishes nothing for
``mailbox_patience`` seconds must not block the rest of the client, be it a callback that hangs or
an iterator that nobody reads: reading goes on, and the mailbox's overflow policy acts once it is
full. When the program goes on with it, reading waits for it again.

A callback may wait for an answer of the server, which comes behind the messages that we do not
read. So while answers are due, a mailbox that stands still is not waited for until it is empty.
"""

from collections.abc import Callable
from functools import partial

from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.timers import Deadlines

_LOOK_EVERY = 0.25  # seconds; a quarter of the patience, if that is less
_WHILE_ASKING = 0.5  # seconds without progress after which the program seems to wait for an answer


class _Watch:
    """What the program has done with a crowded mailbox."""

    __slots__ = ("changed_at", "progress", "waits_for_answer")

    def __init__(self, mailbox: Mailbox, now: float) -> None:
        self.progress = mailbox.progress()
        self.changed_at = now
        self.waits_for_answer = False

    def goes_on(self, mailbox: Mailbox, now: float) -> bool:
        """Tell whether the program has finished something since the last look."""
        progress = mailbox.progress()
        if progress == self.progress:
            return False
        self.progress = progress
        self.changed_at = now
        return True


class Flow:
    """Decides whether reading is paused, and for which mailboxes.

    ``patience`` is in seconds. ``now()`` is the time of the session's latest verb; ``asks()`` tells
    whether answers of the server are due; ``resume`` is called when a pause ends.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        patience: float,
        now: Callable[[], float],
        asks: Callable[[], bool],
        resume: Callable[[], None],
    ) -> None:
        self._deadlines = deadlines
        self._patience = patience
        self._look_every = min(_LOOK_EVERY, patience / 4)
        self._now = now
        self._asks = asks
        self._resume = resume
        self._crowded: dict[Mailbox, _Watch] = {}
        self._hung: dict[Mailbox, _Watch] = {}
        self._look_at = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether reading is paused."""
        return bool(self._crowded)

    def crowded(self, mailbox: Mailbox) -> None:
        """Note that a mailbox is above its high-water mark."""
        if mailbox in self._crowded:
            return
        watch = self._hung.get(mailbox)
        if watch is None:
            watch = _Watch(mailbox, self._now())
            mailbox.on_relief = partial(self._relieved, mailbox)
        elif watch.waits_for_answer or not watch.goes_on(mailbox, self._now()):
            return
        else:
            del self._hung[mailbox]
        if not self._crowded:
            self._look_at = self._now() + self._look_every
        self._crowded[mailbox] = watch
        self._deadlines.schedule(self)

    def next_deadline(self) -> float | None:
        return self._look_at if self._crowded else None

    def handle_timeout(self, now: float) -> None:
        """Stop waiting for mailboxes with which their program does not go on."""
        if now < self._look_at:
            return
        self._look_at = now + self._look_every
        asks = self._asks()
        patience = min(_WHILE_ASKING, self._patience) if asks else self._patience
        for mailbox, watch in list(self._crowded.items()):
            if not watch.goes_on(mailbox, now) and now >= watch.changed_at + patience:
                watch.waits_for_answer = asks
                self._hung[mailbox] = self._crowded.pop(mailbox)
        if not self._crowded:
            self._resume()

    def _relieved(self, mailbox: Mailbox) -> None:
        self._hung.pop(mailbox, None)
        if self._crowded.pop(mailbox, None) is not None and not self._crowded:
            self._deadlines.cancel(self)
            self._resume()
