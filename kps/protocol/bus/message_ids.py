"""Messages that a client may send again: the server handles each once (spec, section 21).

For a while the server remembers, by client id and message id, what it has handled and what it has
answered.
"""

from collections import OrderedDict
from collections.abc import Callable

from kps.errors import QueueFull
from kps.protocol import cost
from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.dialect.level2 import kept_ending
from kps.protocol.dialect.requests import Outcomes, Window
from kps.protocol.server_limits import ServerLimits
from kps.protocol.timers import Deadlines, Expiries

About = tuple[str, str]
"""What a message is: its action, and its topic or receiver."""


class Handled:
    """A message that the server has handled, and what a repeat of it is answered."""

    __slots__ = ("_book", "about", "client_id", "cost", "deadline", "delivered", "ending",
                 "message_id", "request")  # fmt: skip

    def __init__(
        self, book: "MessageIds", client_id: str, message_id: str, about: About, cost: int
    ) -> None:
        self.client_id = client_id
        self.message_id = message_id
        self.about = about
        self.delivered = 0
        """Number of subscribers that a publication was queued for."""
        self.request: AckRequest | None = None
        """Its ack request, while that is under way."""
        self.ending: bytes | None = None
        """What the final answer to its ack request tells, once that has ended, if it is known."""
        self.cost = cost
        """Bytes that it takes in memory, apart from the final answer."""
        self.deadline: float | None = None
        """When it is forgotten; ``None`` while it is under way."""
        self._book = book

    def begun(self, request: AckRequest) -> None:
        """Note its ack request."""
        self.request = request

    def ended(self, outcomes: Outcomes | None) -> None:
        """Note that its ack request has ended; without outcomes, that it was cancelled."""
        self.request = None
        self._book.finish(self, b"" if outcomes is None else kept_ending(outcomes))

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timeout(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self._book.forget(self)


class _OfClient:
    """The messages of one client id."""

    __slots__ = ("done", "under_way")

    def __init__(self) -> None:
        self.under_way: dict[str, Handled] = {}
        self.done: OrderedDict[str, Handled] = OrderedDict()


class MessageIds:
    """What the server has handled, by client id and message id.

    It remembers a message while its ack request is under way, then for the time of the window; of
    each client the latest ones only. Without room for the final answers it forgets the oldest of
    these, and without room for a message it refuses that.
    """

    def __init__(
        self, deadlines: Deadlines, limits: ServerLimits, name: str, now: Callable[[], float]
    ) -> None:
        self.window = Window(name, limits.message_id_window, limits.max_message_ids)
        self._limits = limits
        self._now = now
        self._expiries = Expiries(deadlines)
        self._by_client: dict[str, _OfClient] = {}
        self._with_ending: OrderedDict[Handled, None] = OrderedDict()
        self.used = 0
        """Bytes that all of it takes in memory."""

    def __len__(self) -> int:
        return sum(len(one.under_way) + len(one.done) for one in self._by_client.values())

    def find(self, client_id: str, message_id: str) -> Handled | None:
        """Return what is known of a message."""
        of_client = self._by_client.get(client_id)
        if of_client is None:
            return None
        return of_client.under_way.get(message_id) or of_client.done.get(message_id)

    def begin(self, client_id: str, message_id: str, about: About) -> Handled:
        """Note a message that is handled now. Raises :class:`kps.QueueFull`."""
        size = cost.HANDLED + cost.of_text(message_id) + cost.of_text(about[1])
        of_client = self._by_client.get(client_id)
        if of_client is None:
            of_client = _OfClient()
            size += cost.of_text(client_id)
        elif len(of_client.under_way) >= self._limits.max_pending_acks:
            raise QueueFull("this client has too many ack requests under way")
        if not self._make_room(size):
            raise QueueFull("the server remembers too many messages with ids")
        handled = Handled(self, client_id, message_id, about, size)
        self._by_client[client_id] = of_client
        of_client.under_way[message_id] = handled
        self.used += size
        return handled

    def finish(self, handled: Handled, ending: bytes = b"") -> None:
        """Note that a message is done, and the final answer to its ack request."""
        of_client = self._by_client[handled.client_id]
        del of_client.under_way[handled.message_id]
        of_client.done[handled.message_id] = handled
        handled.deadline = self._now() + self._limits.message_id_window
        self._expiries.schedule(handled)
        if ending and self._make_room(cost.KEPT + len(ending)):
            handled.ending = cost.compact(ending)
            self._with_ending[handled] = None
            self.used += cost.KEPT + len(ending)
        if len(of_client.done) > self._limits.max_message_ids:
            self.forget(next(iter(of_client.done.values())))

    def forget(self, handled: Handled) -> None:
        """Forget a message, because its time is over or it was refused after all."""
        of_client = self._by_client[handled.client_id]
        of_client.under_way.pop(handled.message_id, None)
        of_client.done.pop(handled.message_id, None)
        if not of_client.under_way and not of_client.done:
            del self._by_client[handled.client_id]
        self._forget_ending(handled)
        self.used -= handled.cost
        handled.deadline = None
        self._expiries.cancel(handled)

    def _make_room(self, size: int) -> bool:
        """Forget the oldest final answers until there is room; tell whether there is."""
        most = self._limits.message_id_bytes
        while self.used + size > most and self._with_ending:
            self._forget_ending(next(iter(self._with_ending)))
        return self.used + size <= most

    def _forget_ending(self, handled: Handled) -> None:
        if handled.ending is not None:
            self.used -= cost.KEPT + len(handled.ending)
            handled.ending = None
            del self._with_ending[handled]
