"""Ack requests on the server: who was addressed, who answered, and when a request ends.

Every addressed subscriber ends in exactly one outcome: its own answer, ``disconnected``
or ``timeout`` (spec, section 6).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Protocol

from kps.errors import QueueFull
from kps.protocol import cost
from kps.protocol.bus.slices import Slices
from kps.protocol.bus.topics import Subscriber
from kps.protocol.dialect.outcome import AckResponse, Json
from kps.protocol.server_limits import ServerLimits
from kps.protocol.timers import PAUSE, Deadlines, Expiries


class AckOwner(Protocol):
    """The publisher that asked for acks."""

    def ack_updated(self, request: "AckRequest", response: AckResponse) -> None:
        """Handle the outcome of one subscriber."""

    def ack_finished(self, request: "AckRequest") -> None:
        """Handle the end of a request: the last outcome is known, or its time is over."""


class AckRequest:
    """One message whose subscribers must answer."""

    __slots__ = (
        "_expire",
        "awaited",
        "cost",
        "deadline",
        "id",
        "owner",
        "owner_ack_id",
        "presence",
        "responses",
        "size",
        "tells_timeouts",
        "told",
        "wants_updates",
    )

    def __init__(
        self,
        ack_id: str,
        owner: AckOwner,
        owner_ack_id: str,
        awaited: dict[Subscriber, str],
        tells_timeouts: bool,
        wants_updates: bool,
        deadline: float | None,
        cost: int,
        expire: Callable[["AckRequest", float], None],
    ) -> None:
        self.id = ack_id
        """The server's id of the request, which subscribers put into their answers."""
        self.owner = owner
        self.owner_ack_id = owner_ack_id
        """The publisher's id of the request, by which it asks for the status or cancels."""
        self.awaited = awaited
        """The subscribers that have not answered, with the client ids that were addressed."""
        self.responses: dict[str, AckResponse] = {}
        self.tells_timeouts = tells_timeouts
        """Level 1: whether the final answer lists the clients that did not answer in time."""
        self.wants_updates = wants_updates
        """Level 2: whether the owner is sent each outcome at once."""
        self.cost = cost
        """Bytes that it takes in memory, apart from the results."""
        self.size = 0
        """Bytes that the results and error texts so far take in memory."""
        self.presence = 0
        """The number of the latest change of the topic's members; 0: nobody observes it."""
        self.told = 0
        """Number of outcomes that the owner has been sent."""
        self.deadline = deadline
        """When the request times out; ``None`` once it has timed out or ended."""
        self._expire = expire

    def untold(self) -> list[AckResponse]:
        """Return the outcomes that the owner has not been sent, and count them as sent."""
        untold = list(islice(self.responses.values(), self.told, None))
        self.told = len(self.responses)
        return untold

    def missing(self) -> list[str]:
        """Return the ids of the clients that have not answered."""
        return list(self.awaited.values())

    def status(self) -> dict[str, bool]:
        """Return the addressed client ids, and whether each outcome is known."""
        status = dict.fromkeys(self.responses, True)
        status.update(dict.fromkeys(self.awaited.values(), False))
        return status

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timeout(self, now: float) -> None:
        self.deadline = None
        self._expire(self, now)


class DuplicateAckId(Exception):
    """The publisher already has a pending request of that id."""


class AckBook:
    """All pending ack requests.

    When very many outcomes become known at one instant, because a subscriber leaves or requests
    time out together, it makes them known in slices. Until its turn comes, a request is pending
    and its status says so.
    """

    def __init__(self, deadlines: Deadlines, limits: ServerLimits) -> None:
        self._expiries = Expiries(deadlines)
        self._limits = limits
        self._awaited = 0  # pending answers of all requests
        self._cost = 0  # bytes that the requests take in memory, apart from the results
        self._results = 0  # bytes that their results take so far
        self._count = 0
        self._by_id: dict[str, AckRequest] = {}
        self._by_owner: dict[AckOwner, dict[str, AckRequest]] = {}
        self._by_subscriber: dict[Subscriber, dict[AckRequest, None]] = {}
        self._slices = Slices(deadlines)

    def __len__(self) -> int:
        return len(self._by_id)

    def open(
        self,
        owner: AckOwner,
        owner_ack_id: str,
        subscribers: Iterable[Subscriber],
        *,
        tells_timeouts: bool,
        deadline: float,
        wants_updates: bool = False,
        absent: Iterable[str] = (),
    ) -> AckRequest:
        """Start a request. If it awaits nobody, call ``close`` then.

        ``absent`` are ids for which ``note_absent`` will be called: they are paid for.
        Raises :class:`DuplicateAckId` and :class:`kps.QueueFull`.
        """
        of_owner = self._by_owner.get(owner)
        if of_owner is None:
            of_owner = {}
        elif owner_ack_id in of_owner:
            raise DuplicateAckId
        limits = self._limits
        if len(of_owner) >= limits.max_pending_acks:
            raise QueueFull("this client has too many ack requests under way")
        # An outcome must always have room, so each is paid for at the beginning.
        size = cost.ACK_REQUEST + cost.of_text(owner_ack_id)
        awaited: dict[Subscriber, str] = {}
        for subscriber in subscribers:
            client_id = awaited[subscriber] = subscriber.id
            size += cost.ADDRESSED + client_id.__sizeof__()  # it has been written before, as UTF-8
        size += sum(cost.ADDRESSED + cost.of_text(client_id) for client_id in absent)
        if self._awaited + len(awaited) > limits.max_awaited_acks:
            raise QueueFull("the server waits for too many answers")
        if self._cost + size > limits.max_ack_bytes:
            raise QueueFull("the ack requests under way take too much memory")
        count = len(awaited)
        request = AckRequest(
            f"ack_{self._count + 1}",
            owner,
            owner_ack_id,
            awaited,
            tells_timeouts,
            wants_updates,
            deadline,
            size,
            self._expired,
        )
        self._count += 1
        self._awaited += count
        self._cost += size
        self._by_id[request.id] = request
        try:
            self._by_owner[owner] = of_owner
            of_owner[owner_ack_id] = request
            for subscriber in request.awaited:
                self._by_subscriber.setdefault(subscriber, {})[request] = None
            self._expiries.schedule(request)
        except BaseException:  # out of a signal handler: nobody would know of the request
            self._forget(request)
            raise
        return request

    def note_absent(self, request: AckRequest, ids: Iterable[str]) -> None:
        """Make known which of the expected receivers are not there."""
        for client_id in ids:
            response = AckResponse(client_id, False, ABSENT, request.id)
            request.responses[client_id] = response
            request.owner.ack_updated(request, response)

    def close(self, request: AckRequest) -> None:
        """Finish a request that addressed nobody, unless it is finished."""
        if request.id in self._by_id:
            self._finish(request)

    def answer(
        self,
        subscriber: Subscriber,
        ack_id: str,
        error: str | None,
        result: Json | None = None,
        size: int = 0,
    ) -> None:
        """Record a subscriber's answer, whose result has ``size`` bytes; error texts count too.

        Ignore it unless the request awaits this subscriber.
        """
        request = self._by_id.get(ack_id)
        if request is not None and subscriber in request.awaited:
            if error or size:
                size = cost.of_answer(error, size)
                limits = self._limits
                if (
                    request.size + size > limits.max_results
                    or self._results + size > limits.max_all_results
                ):
                    error, result, size = NO_ROOM, None, 0
                request.size += size
                self._results += size
            self._record(request, subscriber, error, result)

    def drop_subscriber(self, subscriber: Subscriber) -> None:
        """Record ``disconnected`` for a subscriber that is gone."""
        if subscriber in self._by_subscriber:
            self._slices.begin(partial(self._disconnect, subscriber))
        self._rest_if_idle()

    def drop_owner(self, owner: AckOwner) -> None:
        """End the requests of an owner that is gone, without telling anybody."""
        if owner in self._by_owner:
            self._slices.begin(partial(self._abandon, owner))
        self._rest_if_idle()

    def cancel(self, owner: AckOwner, owner_ack_id: str) -> None:
        """End a pending request without an answer."""
        request = self.find(owner, owner_ack_id)
        if request is not None:
            self._forget(request)

    def owners(self) -> list[AckOwner]:
        """Return the owners of all pending requests."""
        return list(self._by_owner)

    def find(self, owner: AckOwner, owner_ack_id: str) -> AckRequest | None:
        """Return a pending request by the id that its owner gave it."""
        return self._by_owner.get(owner, {}).get(owner_ack_id)

    # -- slices -----------------------------------------------------------------------------

    def _expired(self, request: AckRequest, now: float) -> None:
        self._slices.begin(partial(self._time_out, request), now + PAUSE)

    def _disconnect(self, subscriber: Subscriber) -> Iterator[int]:
        for request in list(self._by_subscriber.get(subscriber, ())):
            if request.id in self._by_id and subscriber in request.awaited:
                self._record(request, subscriber, "disconnected")
                yield 1

    def _abandon(self, owner: AckOwner) -> Iterator[int]:
        for request in list(self._by_owner.get(owner, {}).values()):
            if request.id in self._by_id:
                self._forget(request)
                yield 1 + len(request.awaited)

    def _time_out(self, request: AckRequest) -> Iterator[int]:
        if request.id in self._by_id:
            self._finish(request)
            yield 1 + len(request.awaited)

    def _rest_if_idle(self) -> None:
        if not self._by_id:
            self._expiries.rest()

    # -- within -----------------------------------------------------------------------------

    def _record(
        self,
        request: AckRequest,
        subscriber: Subscriber,
        error: str | None,
        result: Json | None = None,
    ) -> None:
        client_id = request.awaited[subscriber]
        response = AckResponse(client_id, error is None, error, request.id, result)
        of_subscriber = self._by_subscriber.get(subscriber, {})
        # Nothing is called from here on, so no signal handler comes in before all is noted.
        del request.awaited[subscriber]
        self._awaited -= 1
        if request in of_subscriber:
            del of_subscriber[request]
        if not of_subscriber and subscriber in self._by_subscriber:
            del self._by_subscriber[subscriber]
        request.responses[client_id] = response
        request.owner.ack_updated(request, response)
        if not request.awaited:
            self._finish(request)

    def _finish(self, request: AckRequest) -> None:
        self._forget(request)
        request.owner.ack_finished(request)

    def _forget(self, request: AckRequest) -> None:
        # It may be known in a part of these only, after an exception out of a signal handler.
        owner, of_owner = request.owner, self._by_owner.get(request.owner, {})
        for subscriber in request.awaited:
            of_subscriber = self._by_subscriber.get(subscriber, {})
            of_subscriber.pop(request, None)
            if not of_subscriber:
                self._by_subscriber.pop(subscriber, None)
        count = len(request.awaited)
        # Nothing is called from here on, so no signal handler comes in before all is noted.
        if request.owner_ack_id in of_owner:
            del of_owner[request.owner_ack_id]
        if not of_owner and owner in self._by_owner:
            del self._by_owner[owner]
        if request.id in self._by_id:
            del self._by_id[request.id]
            self._awaited -= count
            self._cost -= request.cost
            self._results -= request.size
        request.deadline = None
        self._expiries.cancel(request)


ABSENT = "absent"
"""The error of a receiver that was expected, and is not there."""

NO_ROOM = "no room for the result"
"""The error of an outcome whose result would exceed a limit."""
