"""Messages that a client may send again: the server handles each once (spec, section 21).

For a while the server remembers, by client id and message id, what it has handled and what it has
answered.
"""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from kps.errors import QueueFull
from kps.protocol import cost
from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.dialect.level2 import kept_ending
from kps.protocol.dialect.outcome import ABSENT, GroupResponse
from kps.protocol.dialect.requests import Outcomes, Window
from kps.protocol.server_limits import ServerLimits
from kps.protocol.timers import Deadlines, Expiries

_DIGEST = 8  # bytes
_SHARE = 8  # this part of the memory may be taken by the clients of one identity or address

Owner = tuple[str, str]
"""Whose client it is: the name of its identity, or the address of an anonymous one."""


class About(NamedTuple):
    """What a message is. A repeat is the same."""

    action: str
    target: str
    """The topic, or the id of the receiver."""
    digest: int
    """That of its payload, for which any node gets the same."""


def digest(*texts: bytes) -> int:
    """Return the digest of payloads, as they are written."""
    return int.from_bytes(blake2b(b",".join(texts), digest_size=_DIGEST).digest())


class Handled:
    """A message that the server has handled, and what a repeat of it is answered."""

    __slots__ = ("_book", "about", "client_id", "cost", "deadline", "delivered", "ending",
                 "is_delivered_now", "is_done", "is_kept", "message_id", "number", "owner",
                 "request")  # fmt: skip

    def __init__(
        self,
        book: "MessageIds",
        client_id: str,
        message_id: str,
        owner: Owner,
        about: About,
        cost: int,
    ) -> None:
        self.client_id = client_id
        self.message_id = message_id
        self.owner = owner
        """Whose message it is."""
        self.about = about
        self.number = 0
        """Its place among the messages of its client."""
        self.is_delivered_now = False
        """Whether it is a publication on its way to its subscribers."""
        self.is_done = False
        """Whether it is under way no more."""
        self.is_kept = False
        """Whether it is in the history of its topic."""
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

    def ended(self, outcomes: Outcomes) -> None:
        """Note that its ack request has ended."""
        self.request = None
        if self.is_kept or _has_reached_somebody(outcomes):
            self._book.finish(self, kept_ending(outcomes))
        else:
            self._book.forget(self)

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timeout(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self._book.forget(self)


class _OfClient:
    """The messages of one client id."""

    __slots__ = ("by_id", "count", "in_order", "under_way")

    def __init__(self) -> None:
        self.by_id: dict[str, Handled] = {}
        self.in_order: OrderedDict[Handled, None] = OrderedDict()
        """The latest ones, as they have come."""
        self.count = 0
        self.under_way = 0


class MessageIds:
    """What the server has handled, by client id and message id.

    It remembers a message while its ack request is under way, then for the time of the window; but
    it forgets one when its client has sent ``most`` others since. Without room for the final
    answers it forgets the oldest of these, and without room for a message it refuses that.
    """

    def __init__(
        self, deadlines: Deadlines, limits: ServerLimits, name: str, now: Callable[[], float]
    ) -> None:
        self.name = name
        """Names what is remembered: another server has another one."""
        self._limits = limits
        self._now = now
        self._expiries = Expiries(deadlines)
        self._by_client: dict[str, _OfClient] = {}
        self._with_ending: dict[Owner, OrderedDict[Handled, None]] = {}
        self._used: dict[Owner, int] = {}
        self.used = 0
        """Bytes that all of it takes in memory."""

    def __len__(self) -> int:
        return sum(len(one.by_id) for one in self._by_client.values())

    @property
    def window(self) -> Window:
        """For how long it remembers a message that comes now."""
        limits = self._limits
        return Window(self.name, limits.message_id_window, limits.max_message_ids, self._now())

    def find(self, client_id: str, message_id: str) -> Handled | None:
        """Return what is known of a message."""
        of_client = self._by_client.get(client_id)
        return None if of_client is None else of_client.by_id.get(message_id)

    def begin(
        self,
        client_id: str,
        message_id: str,
        owner: Owner,
        about: About,
        *,
        is_repeat: bool = False,
    ) -> Handled:
        """Note a message that is handled now, even if it is a repeat, which its client counts once.

        Raises :class:`kps.QueueFull`.
        """
        size = cost.HANDLED + sum(map(cost.of_text, (message_id, about.target, client_id)))
        of_client = self._by_client.get(client_id)
        if of_client is None:
            of_client = _OfClient()
        elif about.action != "publish" and of_client.under_way >= self._limits.max_pending_acks:
            raise QueueFull("this client has too many ack requests under way")
        more = 0 if owner in self._used else _cost_of(owner)
        if not self._make_room(owner, size + more):
            raise QueueFull("the server remembers too many messages with ids")
        handled = Handled(self, client_id, message_id, owner, about, size)
        used = self._used.get(owner, more) + size
        # Nothing is called until all is noted, so no signal handler comes in between.
        self._by_client[client_id] = of_client
        of_client.count += not is_repeat
        handled.number = of_client.count
        of_client.under_way += 1
        of_client.by_id[message_id] = handled
        of_client.in_order[handled] = None
        self._used[owner] = used
        self.used += size + more
        self._forget_old(of_client)
        return handled

    def came_again(self, handled: Handled) -> None:
        """Note that the program has sent a message once more: it counts as one that came now."""
        of_client = self._by_client[handled.client_id]
        of_client.count += 1
        handled.number = of_client.count
        of_client.in_order[handled] = None
        of_client.in_order.move_to_end(handled)
        if handled.is_done:
            self._expiries.cancel(handled)
            handled.deadline = self._now() + self._limits.message_id_window
            self._expiries.schedule(handled)
        self._forget_old(of_client)

    def tidy(self, client_id: str, is_under_way: Callable[[AckRequest], bool]) -> None:
        """Forget what a signal handler has kept from being handled, as its client leaves."""
        of_client = self._by_client.get(client_id)
        if of_client is None or not of_client.under_way:
            return
        for handled in list(of_client.by_id.values()):
            request = handled.request
            if handled.is_done or handled.is_delivered_now:
                continue
            if request is None or not is_under_way(request):
                self.forget(handled)

    def finish(self, handled: Handled, ending: bytes = b"") -> None:
        """Note that a message is done, and the final answer to its ack request."""
        of_client = self._by_client[handled.client_id]
        of_client.under_way -= 1
        handled.is_done = True
        handled.deadline = self._now() + self._limits.message_id_window
        if handled not in of_client.in_order:  # the client will not repeat it any more
            self.forget(handled)
            return
        self._expiries.schedule(handled)
        size = cost.KEPT + len(ending)
        if ending and self._make_room(handled.owner, size):
            handled.ending = cost.compact(ending)
            self._with_ending.setdefault(handled.owner, OrderedDict())[handled] = None
            self._charge(handled.owner, size)

    def forget(self, handled: Handled) -> None:
        """Forget a message: its time is over, or nobody got it. May be called twice."""
        of_client = self._by_client.get(handled.client_id)
        if of_client is None or of_client.by_id.pop(handled.message_id, None) is None:
            return
        of_client.in_order.pop(handled, None)
        if not handled.is_done:
            of_client.under_way -= 1
        if not of_client.by_id:
            del self._by_client[handled.client_id]
        self._forget_ending(handled)
        self._charge(handled.owner, -handled.cost)
        handled.deadline = None
        self._expiries.cancel(handled)

    def _forget_old(self, of_client: _OfClient) -> None:
        """Forget what came before the latest ones, apart from what is under way."""
        in_order, old = of_client.in_order, of_client.count - self._limits.max_message_ids
        # What was handled for a repeat does not count; there is never more of it than of others.
        most = 2 * self._limits.max_message_ids
        while (oldest := next(iter(in_order))).number <= old or len(in_order) > most:
            del in_order[oldest]
            if oldest.is_done:
                self.forget(oldest)

    def _make_room(self, owner: Owner, size: int) -> bool:
        """Forget final answers, the owner's own ones first; tell whether there is room."""
        most = self._limits.message_id_bytes
        while self._used.get(owner, 0) + size > most // _SHARE:
            if not (own := self._with_ending.get(owner)):
                return False
            self._forget_ending(next(iter(own)))
        while self.used + size > most and self._with_ending:
            self._forget_ending(next(iter(next(iter(self._with_ending.values())))))
        return self.used + size <= most

    def _forget_ending(self, handled: Handled) -> None:
        if handled.ending is not None:
            size, handled.ending = cost.KEPT + len(handled.ending), None
            of_owner = self._with_ending[handled.owner]
            del of_owner[handled]
            if not of_owner:
                del self._with_ending[handled.owner]
            self._charge(handled.owner, -size)

    def _charge(self, owner: Owner, size: int) -> None:
        least = _cost_of(owner)
        used = self._used[owner] + size
        self.used += size
        if used > least:
            self._used[owner] = used
        else:  # nothing is left
            del self._used[owner]
            self.used -= least


def _cost_of(owner: Owner) -> int:
    return cost.OWNER_OF_HANDLED + sum(map(cost.of_text, owner))


def _has_reached_somebody(outcomes: Outcomes) -> bool:
    """Tell whether any receiver was given the message of an ack request."""
    return bool(outcomes.missing()) or any(
        one.attempts > 0 if isinstance(one, GroupResponse) else one.error != ABSENT
        for one in outcomes.responses.values()
    )
