"""Tasks for groups whose members are on several nodes: the home of the group gives them out."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from kps.protocol.bus.ack_request import AckRequest, Task
from kps.protocol.bus.groups import Group, Member
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.bus.tasks import DISCONNECTED, MOST_RETURNS, TaskBook
from kps.protocol.cluster.agreement import Agreement
from kps.protocol.cluster.asker import Asker
from kps.protocol.cluster.carrying import About
from kps.protocol.cluster.frames import Kind, write_key
from kps.protocol.cluster.nodes import Node, Nodes
from kps.protocol.dialect.outcome import NO_MEMBER, as_json, size_of_failure
from kps.protocol.patterns import InGroup


class _Offer(NamedTuple):
    """A task that the home of its group has."""

    task: Task
    home: Node


class ClusterTaskBook(TaskBook):
    """Gives tasks to members, or to the home of their group."""

    def connect(
        self,
        nodes: Nodes,
        agreement: Agreement,
        now: Callable[[], float],
        give_up: Callable[[AckRequest], None],
        taken_back: Callable[[InGroup, Member], None],
    ) -> None:
        """Note what is known only when the other parts have been made.

        ``give_up`` ends a request without an answer; ``taken_back`` is called when a member has a
        task no more.
        """
        self._nodes = nodes
        self._agreement = agreement
        self._now = now
        self._give_up = give_up
        self._taken_back = taken_back
        self._offers: dict[str, _Offer] = {}

    def has_any(self, subscriber: Subscriber) -> bool:
        """Tell whether a member has a task."""
        return subscriber in self._by_subscriber

    def begin(self, request: AckRequest) -> None:
        """Give the tasks of a request to members, or to the homes of their groups."""
        if isinstance(request.owner, Asker):
            self.begun -= len(request.tasks)  # they count at the node of their publisher
        super().begin(request)

    # -- at the home ------------------------------------------------------------------------

    def _hand_out(self, task: Task, group: Group, member: Member) -> None:
        super()._hand_out(task, group, member)
        owner = None if task.request is None else task.request.owner
        if isinstance(owner, Asker) and task.member is member:
            owner.tell(Kind.TOOK, task.member_id, task.attempt, task.failures)

    def _dispatch(self, task: Task, *, is_new: bool = False, is_returned: bool = False) -> None:
        home = self._nodes.home_of_group(task.key)
        if home is None and not self._agreement.is_sure:
            self._agreement.when_sure(partial(self._dispatch_late, task, is_new, is_returned))
            return
        if home is None:
            super()._dispatch(task, is_new=is_new, is_returned=is_returned)
            return
        request = task.request
        assert request is not None
        if isinstance(request.owner, Asker):
            request.owner.tell(Kind.MOVED, task.member_id, task.attempt, task.failures)
            request.owner.node.asking.pop(request.owner.ack_id, None)
            self._give_up(request)
        else:
            self._offer(task, home)

    def _dispatch_late(self, task: Task, is_new: bool, is_returned: bool) -> None:
        if task.request is not None:  # it may have ended meanwhile
            self._dispatch(task, is_new=is_new, is_returned=is_returned)

    def _take_back(self, task: Task) -> None:
        member = task.member
        super()._take_back(task)
        if member is not None:
            self._taken_back(task.key, member)

    def move(self) -> Iterator[int]:
        """Pass on what waits for groups whose home is not here any more."""
        queues = list(self._waiting.items())
        for queue in self._for_members.values():
            queues += [(task.key, queue) for task in islice(queue, 1)]
        for key, queue in queues:
            if self._nodes.home_of_group(key) is not None:
                yield from self._move(queue)
            yield 1

    # -- at the publisher's node ------------------------------------------------------------

    def _offer(self, task: Task, home: Node) -> None:
        request = task.request
        assert request is not None
        self._offers[task.id] = _Offer(task, home)
        seconds = (request.deadline or 0.0) - self._now()
        state = task.message_key, task.retries, task.attempt, task.failures, seconds
        about = About(task.topic, task.sender, 1, task.headers.decode())
        home.send(Kind.OFFER, task.id, write_key(task.key), *state, *about, payload=task.data)

    def took(
        self, task_id: str, member_id: str, attempt: int, failures: Sequence[Sequence[str]]
    ) -> None:
        """Note that a member has a task that its home gave out."""
        offer = self._offers.get(task_id)
        if offer is None or offer.task.request is None:
            return
        task = offer.task
        for name, error in failures[len(task.failures) :]:
            if self._charge(offer.task.request, size_of_failure(name, error)):
                task.failures.append((name, error))
        task.member_id, task.attempt = member_id, attempt

    def moved(self, task_id: str, *state: object) -> None:
        """Offer a task again, whose home has sent it back because the home is another one."""
        self.took(task_id, *state)  # type: ignore[arg-type]
        offer = self._offers.pop(task_id, None)
        if offer is None or offer.task.request is None:
            return
        task = offer.task
        task.returns += 1
        if task.returns > MOST_RETURNS:
            self._end(task, NO_MEMBER)
        else:
            self._dispatch(task)

    def concluded(self, task_id: str, error: str | None, word: str, result: bytes) -> None:
        """Take the outcome of a task from its home."""
        offer = self._offers.pop(task_id, None)
        if offer is not None:
            kept = as_json(result) if result else None
            self._end(offer.task, error, kept, len(result), ends_as=word)

    def _let_go(self, task: Task) -> None:
        offer = self._offers.pop(task.id, None)
        if offer is not None:
            offer.home.send(Kind.END, task.id)
        super()._let_go(task)

    def node_went(self, node: Node) -> None:
        """Offer the tasks of a home that has gone to others. A member may have begun with each."""
        self._slices.begin(partial(self._offer_again, node))

    def _offer_again(self, node: Node) -> Iterator[int]:
        for task_id, offer in list(self._offers.items()):
            if offer.home is node and self._offers.pop(task_id, None) is not None:
                task = offer.task
                task.member_id = task.member_id or node.id
                task.attempt = max(task.attempt, 1)
                self._again(task, DISCONNECTED)
                yield 1
