"""Ack requests on the server: who was addressed, who answered, and when a request ends.

Every addressed subscriber ends in exactly one outcome: its own answer, ``disconnected``
or ``timeout`` (spec, section 6). So does every group, of which one member is asked at a time.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from kps.errors import QueueFull
from kps.protocol import cost
from kps.protocol.bus import ack_figures
from kps.protocol.bus.ack_request import (
    NO_ROOM,
    AckOwner,
    AckRequest,
    Addressee,
    Keeper,
    Task,
    Work,
)
from kps.protocol.bus.slices import Slices
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.bus.tasks import TaskBook, cost_of_task
from kps.protocol.bus.topics import Bus
from kps.protocol.dialect.outcome import ABSENT, AckResponse, GroupResponse, Json
from kps.protocol.server_limits import ServerLimits
from kps.protocol.timers import PAUSE, Deadlines, Expiries


class Time:
    """Who knows the time."""

    now: float = 0.0


class DuplicateAckId(Exception):
    """The publisher already has a pending request of that id."""


class AckBook:
    """All pending ack requests.

    When very many outcomes become known at one instant, because a subscriber leaves or requests
    time out together, it makes them known in slices. Until its turn comes, a request is pending
    and its status says so. ``time`` has the time, by which it measures how long requests take.
    """

    _new_task_book: type[TaskBook] = TaskBook

    def __init__(
        self,
        bus: Bus,
        deadlines: Deadlines,
        limits: ServerLimits,
        handed_out: Callable[[], None] = lambda: None,
        time: Time | None = None,
    ) -> None:
        self.figures = ack_figures.AckFigures()
        self._time = time or Time()
        self._expiries = Expiries(deadlines)
        self._limits = limits
        self._cost = 0  # bytes that the requests take in memory, apart from the results
        self._results = 0  # bytes that their results take so far
        self._count = 0
        self._by_id: dict[str, AckRequest] = {}
        self._by_owner: dict[AckOwner, dict[str, AckRequest]] = {}
        self._by_subscriber: dict[Addressee, dict[AckRequest, None]] = {}
        self._slices = Slices(deadlines)
        self._leaving: dict[AckOwner, None] = {}
        self.tasks = self._new_task_book(
            bus,
            deadlines,
            limits,
            self._conclude,
            charge=self._charge,
            handed_out=handed_out,
        )

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def awaited(self) -> int:
        """Answers that are pending, of all requests together."""
        return self.figures.awaited

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
        work: Work | None = None,
        keeper: Keeper | None = None,
        figures: ack_figures.AckFigures | None = None,
    ) -> AckRequest:
        """Start a request. If it awaits nobody, call ``close`` then.

        ``absent`` are ids for which ``note_absent`` will be called: they are paid for. ``work`` is
        for groups, which get it with ``tasks.begin``. With a ``keeper`` the request goes on when
        its owner is gone. It is counted in ``figures``, by default those of this book.
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
        awaited: dict[Addressee, str] = {}
        for subscriber in subscribers:
            if not subscriber.answers:
                continue
            client_id = awaited[subscriber] = subscriber.id
            size += cost.ADDRESSED + client_id.__sizeof__()  # it has been written before, as UTF-8
        size += sum(cost.ADDRESSED + cost.of_text(client_id) for client_id in absent)
        groups = () if work is None else work.groups
        if work is not None:
            size += sum(map(cost.of_text, (work.topic, work.sender, work.message_key)))
            size += len(work.data) + len(work.headers) + sum(map(cost_of_task, groups))
        if self.awaited + len(awaited) + len(groups) > limits.max_awaited_acks:
            raise QueueFull("the server waits for too many answers")
        if self._cost + size > limits.max_ack_bytes:
            raise QueueFull("the ack requests under way take too much memory")
        count = len(awaited) + len(groups)
        figures = figures or self.figures
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
            keeper,
            self._time.now,
            figures,
        )
        if work is not None:
            data, headers = cost.compact(work.data), cost.compact(work.headers)
            work = work._replace(data=data, headers=headers)
            request.tasks = {}
            for key in groups:
                request.tasks[Task(request, key, work)] = None
        self._count += 1
        figures.awaited += count
        figures.pending += 1
        self._cost += size
        self._by_id[request.id] = request
        try:
            self._by_owner[owner] = of_owner
            of_owner[owner_ack_id] = request
            for addressee in request.awaited:
                self._by_subscriber.setdefault(addressee, {})[request] = None
            self._expiries.schedule(request)
            if keeper is not None:
                keeper.begun(request)
        except BaseException:  # out of a signal handler: nobody would know of the request
            self._forget(request)
            raise
        figures.asked += count
        return request

    def note_absent(self, request: AckRequest, ids: Iterable[str]) -> None:
        """Make known which of the expected receivers are not there."""
        for client_id in ids:
            response = AckResponse(client_id, False, ABSENT, request.id)
            request.responses[client_id] = response
            request.figures.note(ack_figures.ABSENT)
            request.owner.ack_updated(request, response)

    def close(self, request: AckRequest) -> None:
        """Finish a request that awaits nobody, unless it is finished.

        While the server stops, it ends with its publisher's connection: who was there is gone.
        """
        if request.id in self._by_id and request.is_over and not self.tasks.is_stopping:
            self._finish(request)

    def answer(
        self,
        subscriber: Addressee,
        ack_id: str,
        error: str | None,
        result: Json | None = None,
        size: int = 0,
        *,
        has_begun: bool = True,
        ends_as: str = ack_figures.FAILED,
    ) -> None:
        """Record a subscriber's answer, whose result has ``size`` bytes; error texts count too.

        ``has_begun`` tells whether it may have begun to handle the message, and ``ends_as`` is a
        word for an error. The answer is ignored unless the request awaits this subscriber.
        """
        request = self._by_id.get(ack_id)
        if request is None:
            self.tasks.answer(subscriber, ack_id, error, result, size, has_begun)
        elif subscriber in request.awaited:
            if (error or size) and not self._charge(request, cost.of_answer(error, size)):
                error, result = NO_ROOM, None
                request.figures.note(ack_figures.NO_ROOM)
            elif error is not None:
                request.figures.note(ends_as)
            self._record(request, subscriber, error, result)

    def drop_subscriber(self, subscriber: Subscriber) -> None:
        """Record ``disconnected`` for a subscriber that is gone, unless the server stops."""
        if subscriber in self._by_subscriber and not self.tasks.is_stopping:
            self._slices.begin(partial(self._disconnect, subscriber))
        self.tasks.drop(subscriber)
        self._rest_if_idle()

    def drop_owner(self, owner: AckOwner) -> None:
        """End the requests of an owner that is gone, unless somebody keeps the outcomes."""
        if owner in self._by_owner:
            self._leaving[owner] = None
            self._slices.begin(partial(self._abandon, owner))
        self._rest_if_idle()

    def hand_over(
        self, request: AckRequest, owner: AckOwner, owner_ack_id: str, *, wants_updates: bool
    ) -> None:
        """Make a pending request that of another owner, who has been told nothing.

        Raises :class:`DuplicateAckId`.
        """
        if self.find(owner, owner_ack_id) is not None:
            raise DuplicateAckId
        self._leave_owner(request)
        size = cost.of_text(owner_ack_id) - cost.of_text(request.owner_ack_id)
        request.owner, request.owner_ack_id = owner, owner_ack_id
        request.wants_updates, request.told = wants_updates, 0
        self._by_owner.setdefault(owner, {})[owner_ack_id] = request
        request.cost += size
        self._cost += size

    def cancel(self, owner: AckOwner, owner_ack_id: str) -> None:
        """End a pending request without an answer; one with a keeper goes on without its owner."""
        request = self.find(owner, owner_ack_id)
        if request is None:
            return
        if request.keeper is not None:
            self.hand_over(request, NOBODY, request.id, wants_updates=False)
        else:
            receivers = len(request.awaited) + len(request.tasks)
            request.figures.given_up(receivers, ack_figures.CANCELLED)
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

    def _disconnect(self, subscriber: Addressee) -> Iterator[int]:
        for request in list(self._by_subscriber.get(subscriber, ())):
            if request.id in self._by_id and subscriber in request.awaited:
                request.figures.note(ack_figures.DISCONNECTED)
                self._record(request, subscriber, "disconnected")
                yield 1

    def is_leaving(self, owner: AckOwner) -> bool:
        """Tell whether an owner is gone, whose requests have not all ended yet."""
        return owner in self._leaving

    def _abandon(self, owner: AckOwner) -> Iterator[int]:
        for request in list(self._by_owner.get(owner, {}).values()):
            if request.id not in self._by_id or request.owner is not owner:
                continue
            if request.keeper is not None:
                self.hand_over(request, NOBODY, request.id, wants_updates=False)
                yield 1
            else:
                awaited = len(request.awaited) + len(request.tasks)
                request.figures.given_up(awaited, ack_figures.OWNER_LEFT)
                self._forget(request)
                yield 1 + awaited
        self._leaving.pop(owner, None)

    def _time_out(self, request: AckRequest) -> Iterator[int]:
        if request.id in self._by_id:
            awaited = len(request.awaited) + len(request.tasks)
            self._finish(request)
            yield 1 + awaited

    def _rest_if_idle(self) -> None:
        if not self._by_id:
            self._expiries.rest()

    # -- within -----------------------------------------------------------------------------

    def _record(
        self,
        request: AckRequest,
        subscriber: Addressee,
        error: str | None,
        result: Json | None = None,
    ) -> None:
        client_id = request.awaited[subscriber]
        response = AckResponse(client_id, error is None, error, request.id, result)
        of_subscriber = self._by_subscriber.get(subscriber, {})
        # Nothing is called from here on, so no signal handler comes in before all is noted.
        del request.awaited[subscriber]
        request.figures.awaited -= 1
        if request in of_subscriber:
            del of_subscriber[request]
        if not of_subscriber and subscriber in self._by_subscriber:
            del self._by_subscriber[subscriber]
        request.responses[client_id] = response
        request.owner.ack_updated(request, response)
        if not request.awaited and not request.tasks:
            self._finish(request)

    def _conclude(
        self, request: AckRequest, task: Task, outcome: str, response: GroupResponse, size: int
    ) -> None:
        """Record the outcome of a group."""
        error = response.error
        if (error or size) and not self._charge(request, cost.of_answer(error, size)):
            response, outcome = response.without_result(NO_ROOM), ack_figures.NO_ROOM
        del request.tasks[task]
        request.figures.awaited -= 1
        request.responses[response.key] = response
        if outcome != ack_figures.HANDLED:
            request.figures.note(outcome)
        request.owner.ack_updated(request, response)
        if request.is_over:
            self._finish(request)

    def _charge(self, request: AckRequest, size: int) -> bool:
        """Charge a request for a result or an error text, if there is room for it."""
        limits = self._limits
        if request.size + size > limits.max_results:
            return False
        if self._results + size > limits.max_all_results:
            return False
        request.size += size
        self._results += size
        return True

    def _finish(self, request: AckRequest) -> None:
        if request.tasks:
            request.is_late = True
            for task in list(request.tasks):
                self.tasks.time_out(task)
            if request.id not in self._by_id:
                return  # the last task has ended it
        self._forget(request)
        if request.awaited or request.is_late:
            request.figures.late(len(request.awaited))
        request.figures.duration.note(self._time.now - request.begun)
        if request.keeper is not None:
            request.keeper.ended(request)
        request.owner.ack_finished(request)

    def _leave_owner(self, request: AckRequest) -> None:
        owner, of_owner = request.owner, self._by_owner.get(request.owner, {})
        if request.owner_ack_id in of_owner:
            del of_owner[request.owner_ack_id]
        if not of_owner and owner in self._by_owner:
            del self._by_owner[owner]

    def _forget(self, request: AckRequest) -> None:
        # It may be known in a part of these only, after an exception out of a signal handler.
        for subscriber in request.awaited:
            of_subscriber = self._by_subscriber.get(subscriber, {})
            of_subscriber.pop(request, None)
            if not of_subscriber:
                self._by_subscriber.pop(subscriber, None)
        count = len(request.awaited) + len(request.tasks)
        if request.tasks:
            self.tasks.abandon(request)
        self._leave_owner(request)
        # Nothing is called from here on, so no signal handler comes in before all is noted.
        if request.id in self._by_id:
            del self._by_id[request.id]
            request.figures.awaited -= count
            request.figures.pending -= 1
            self._cost -= request.cost
            self._results -= request.size
        request.deadline = None
        self._expiries.cancel(request)


class _Nobody:
    """The owner of requests whose owner is gone, and of which somebody keeps the outcomes."""

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        """Tell nobody."""

    def ack_finished(self, request: AckRequest) -> None:
        """Tell nobody."""


NOBODY = _Nobody()
