"""Tasks: messages with ack that one member of a group is to handle (spec, 18.3).

A task is with one member at a time. If that member's connection ends before its answer, or it has
not begun, another member gets the task at once. What all members together cannot take waits.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

from kps.protocol import cost
from kps.protocol.bus import ack_figures
from kps.protocol.bus.ack_request import NO_ROOM, AckRequest, Addressee, Queue, Task
from kps.protocol.bus.groups import Group, Member
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.slices import Slices
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.bus.topics import Bus
from kps.protocol.dialect.outcome import NO_MEMBER, GroupResponse, Json, size_of_failure
from kps.protocol.patterns import InGroup
from kps.protocol.server_limits import ServerLimits
from kps.protocol.timers import Deadlines

BUSY = "busy"
"""The error of a group in which too many tasks wait."""
DISCONNECTED = "disconnected"

_MOST_PASSED = 100  # tasks that wait for others than the member that is free
_KEPT = 4  # this part of the memory for ack requests may be taken by tasks that nobody needs
_WEIGHED = 8  # members, of which a key is for one, that count as one step

MOST_RETURNS = 20  # by members that have not begun with a task

_Answer = tuple[Addressee, str, str | None, Json | None, int, bool]

Conclude = Callable[[AckRequest, Task, str, GroupResponse, int], None]
"""Gets the outcome of a task of a request, in a word of ``ack_figures`` and in full, and the bytes
of its result."""


def cost_of_task(key: InGroup) -> int:
    """Return what a task for a group takes in memory, apart from what all of its request share."""
    return cost.TASK + cost.of_text(str(key))


class TaskBook:
    """Gives tasks to the members of groups, and takes their answers.

    ``conclude`` is called with each outcome, ``charge`` with bytes that a request takes besides, to
    tell whether there is room, ``handed_out`` for each member that had room for a task.
    """

    def __init__(
        self,
        bus: Bus,
        deadlines: Deadlines,
        limits: ServerLimits,
        conclude: Conclude,
        charge: Callable[[AckRequest, int], bool],
        handed_out: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._limits = limits
        self._conclude = conclude
        self._charge = charge
        self._handed_out = handed_out
        self._under_way: dict[str, Task] = {}
        self._by_subscriber: dict[Subscriber, dict[Task, None]] = {}
        self._waiting: dict[InGroup, Queue] = {}
        self._for_members: dict[Member, Queue] = {}
        self.waiting_for: dict[InGroup, int] = {}
        """How many tasks wait for a member of each group, of those for which any do."""
        self._answers: deque[_Answer] = deque()
        self._is_answering = False
        self._numbers = count(1)
        self.begun = 0
        """How many tasks there have been."""
        self.attempts = 0
        """How often a member was given a task."""
        self._kept: OrderedDict[Task, None] = OrderedDict()
        self.kept = 0
        """Bytes of tasks that members have, and whose requests have ended."""
        self.is_stopping = False
        """Whether the server ends the connections of members and publishers alike. Then no task is
        given out, and none ends because a member leaves: it ends with its publisher's connection.
        """
        self._slices = Slices(deadlines)
        bus.on_member.append(self._member_joined)
        bus.on_member_gone.append(self._member_left)

    @property
    def under_way(self) -> int:
        """How many tasks members have."""
        return len(self._under_way)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a member that is free."""
        return sum(self.waiting_for.values())

    def begin(self, request: AckRequest) -> None:
        """Give the tasks of a request to members."""
        for task in list(request.tasks):
            if task.request is not None:  # the request may have ended meanwhile
                self.begun += 1
                task.number = next(self._numbers)
                self._dispatch(task, is_new=True)

    def abandon(self, request: AckRequest) -> None:
        """Forget the tasks of a request that has ended. Members that have one are busy with it."""
        for task in request.tasks:
            self._let_go(task)
        request.tasks.clear()

    def time_out(self, task: Task) -> None:
        """End a task whose time is over."""
        self._end(task, "timeout", ends_as=ack_figures.TIMED_OUT)

    def answer(
        self,
        subscriber: Addressee,
        ack_id: str,
        error: str | None,
        result: Json | None,
        size: int,
        has_begun: bool,
    ) -> None:
        """Record a member's answer. Ignore it unless the task is with this subscriber."""
        self._answers.append((subscriber, ack_id, error, result, size, has_begun))
        if self._is_answering:
            return  # the server's own program may answer within the call that gives it a task
        self._is_answering = True
        try:
            while self._answers:
                self._answer(*self._answers.popleft())
        finally:
            self._is_answering = False

    def _answer(
        self,
        subscriber: Addressee,
        ack_id: str,
        error: str | None,
        result: Json | None,
        size: int,
        has_begun: bool,
    ) -> None:
        task = self._under_way.get(ack_id)
        if task is None or task.member is None or task.member.subscriber is not subscriber:
            return
        member = task.member
        self._take_back(task)
        if error is None:
            self._end(task, None, result, size)
        elif not has_begun:
            self._returned(task, error)
        elif task.retries > 0:
            task.retries -= 1
            self._again(task, error)
        else:
            self._end(task, error, None, size)
        self._give_more(task.key, member)

    def drop(self, subscriber: Subscriber) -> None:
        """Give the tasks of a member that is gone to others."""
        if subscriber in self._by_subscriber:
            self._slices.begin(partial(self._drop, subscriber))

    def _drop(self, subscriber: Subscriber) -> Iterator[int]:
        for task in list(self._by_subscriber.get(subscriber, ())):
            if task.id in self._under_way and task.last is subscriber:
                self._take_back(task)
                if not self.is_stopping:
                    self._again(task, DISCONNECTED, ack_figures.DISCONNECTED)
                yield self._work_of(task)

    # -- within -----------------------------------------------------------------------------

    def _dispatch(self, task: Task, *, is_new: bool = False, is_returned: bool = False) -> None:
        """Give a task to a member, or let it wait for one."""
        if self.is_stopping:
            return
        group = self._bus.group(task.key)
        if group is None or next(group.present(), None) is None:
            self._end(task, NO_MEMBER, ends_as=ack_figures.NO_MEMBER)
            return
        # A member that is free has been given all that waits and that it could take.
        if task.message_key:
            member = group.member_for(task.message_key, task.last if is_returned else None)
        else:
            member = group.least_loaded(task.last)
        if member is not None and member.is_free:
            self._hand_out(task, group, member)
        elif member is not None:
            self._wait(task, self._for_members.setdefault(member, Queue()), is_new)
        else:
            self._wait(task, self._waiting.setdefault(task.key, Queue()), is_new)

    def _wait(self, task: Task, queue: Queue, is_new: bool) -> None:
        """Let a task wait. Only a new one may have no room."""
        count = self.waiting_for.get(task.key, 0)
        if is_new and count >= self._limits.max_waiting:
            self._end(task, BUSY, ends_as=ack_figures.BUSY)
            return
        queue.add(task)
        task.queue = queue
        self.waiting_for[task.key] = count + 1

    def _unqueue(self, task: Task) -> None:
        queue, task.queue = task.queue, None
        if queue is None:
            return
        queue.remove(task)
        self.waiting_for[task.key] -= 1
        if not self.waiting_for[task.key]:
            del self.waiting_for[task.key]
            self._waiting.pop(task.key, None)

    def _hand_out(self, task: Task, group: Group, member: Member) -> None:
        subscriber, request = member.subscriber, task.request
        assert request is not None
        if not self._charge(request, subscriber.id.__sizeof__()):
            self._end(task, NO_ROOM, ends_as=ack_figures.NO_ROOM)
            return
        task.attempt += 1
        self.attempts += 1
        task.member, task.member_id = member, subscriber.id
        group.took(member)
        self._under_way[task.id] = task
        self._by_subscriber.setdefault(subscriber, {})[task] = None
        publication = Publication(task.topic, task.sender, task.data, ack_id=task.id)
        publication.group = task.key
        publication.attempt = task.attempt
        publication.headers = task.headers
        if subscriber.deliver(publication):
            self._handed_out()

    def _take_back(self, task: Task) -> None:
        """Note that a member has a task no more."""
        member = task.member
        assert member is not None
        del self._under_way[task.id]
        if task.request is None:
            self.kept -= cost_of_task(task.key)
            self._kept.pop(task, None)
        of_subscriber = self._by_subscriber[member.subscriber]
        del of_subscriber[task]
        if not of_subscriber:
            del self._by_subscriber[member.subscriber]
        group = self._bus.group(task.key)
        if group is not None:
            group.done(member)
        else:
            member.load -= 1

    def _returned(self, task: Task, error: str) -> None:
        """Give a task with which its member has not begun to another one. It is no attempt."""
        task.attempt -= 1
        task.returns += 1
        task.member_id = task.failures[-1][0] if task.failures else ""
        if task.request is None:
            return
        group, member = self._bus.group(task.key), task.member
        is_only = group is not None and member is not None and group.has_only(member)
        if is_only or task.returns > MOST_RETURNS:
            self._end(task, error)
        else:
            self._dispatch(task, is_returned=True)

    def _again(self, task: Task, error: str, ends_as: str = ack_figures.FAILED) -> None:
        """Give a task to another member, unless too many have had it."""
        request = task.request
        if request is None:
            return
        if task.attempt >= self._limits.max_attempts:
            self._end(task, error, ends_as=ends_as)
        elif self._charge(request, size_of_failure("", error)):  # its id has been paid for
            task.failures.append((task.member_id, error))
            self._dispatch(task)
        else:
            self._end(task, NO_ROOM, ends_as=ack_figures.NO_ROOM)

    def _end(
        self,
        task: Task,
        error: str | None,
        result: Json | None = None,
        size: int = 0,
        *,
        ends_as: str = ack_figures.FAILED,
    ) -> None:
        """End a task with an outcome; ``ends_as`` is a word for that, if it is an error."""
        request = task.request
        if request is None:
            return
        response = GroupResponse(
            "" if error == NO_MEMBER else task.member_id,
            error is None,
            error,
            task.id,
            result,
            scope=task.key.scope,
            group=task.key.group,
            attempts=task.attempt,
            failures=tuple(task.failures),
        )
        self._let_go(task)
        outcome = ack_figures.HANDLED if error is None else ends_as
        self._conclude(request, task, outcome, response, size)

    def _let_go(self, task: Task) -> None:
        """Note that no request needs a task any more. It is kept while a member has it."""
        if task.request is not None and task.id in self._under_way:
            self.kept += cost_of_task(task.key)
            self._kept[task] = None
        task.request = None
        task.data = task.headers = b""
        task.topic = task.sender = task.message_key = task.member_id = ""
        task.failures = []
        while self.kept > self._limits.max_ack_bytes // _KEPT:
            # Its member counts as free, so it has more to do than it wants: that is its own fault.
            oldest = next(iter(self._kept))
            member = oldest.member
            assert member is not None
            self._take_back(oldest)
            self._give_more(oldest.key, member)
        self._unqueue(task)

    def _give_more(self, key: InGroup, member: Member) -> None:
        """Give a member what waits, as far as it is free."""
        group = self._bus.group(key)
        while (
            not self.is_stopping
            and group is not None
            and group.members.get(member.subscriber) is member
            and not self._bus.is_leaving(member.subscriber)
            and member.is_free
        ):
            task = self._next_for(group, member)
            if task is None:
                return
            self._unqueue(task)
            self._hand_out(task, group, member)

    def _next_for(self, group: Group, member: Member) -> Task | None:
        """Return the next task for a member, if one waits that it has not failed with just now."""
        own = next(iter(self._for_members.get(member) or ()), None)
        if queue := self._waiting.get(group.key):
            is_only = group.has_only(member)
            for task in queue.first(_MOST_PASSED):
                if task.last is not member.subscriber or is_only:
                    return task if own is None or task.number < own.number else own
        return own

    def _member_joined(self, group: Group, member: Member) -> None:
        self._give_more(group.key, member)

    def _member_left(self, group: Group, member: Member) -> None:
        """Give what waits for a member to others; without any, tell that there is none."""
        queue = self._for_members.pop(member, None)
        if queue:
            self._slices.begin(partial(self._move, queue))
        last = next(group.present(), None)
        if last is None:
            if waiting := self._waiting.get(group.key):
                self._slices.begin(partial(self._move, waiting))
        elif group.has_only(last):
            self._give_more(group.key, last)  # it may have failed with what waits for others

    def _move(self, queue: Queue) -> Iterator[int]:
        """Give to others what waits for a member that has left, or for the last one of a group."""
        for task in list(queue):
            if task.queue is queue:
                self._unqueue(task)
                self._dispatch(task)
                yield self._work_of(task)

    def _work_of(self, task: Task) -> int:
        """Return for how many steps it counts to find a member for a task."""
        group = self._bus.group(task.key)
        return 1 if group is None or not task.message_key else 1 + len(group.members) // _WEIGHED
