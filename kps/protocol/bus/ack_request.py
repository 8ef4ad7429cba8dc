"""One ack request on the server: who was asked, and who has answered."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple, Protocol

from kps.protocol.bus.ack_figures import AckFigures
from kps.protocol.bus.groups import Member
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.dialect.requests import Outcomes
from kps.protocol.patterns import InGroup


class AckOwner(Protocol):
    """The publisher that asked for acks."""

    def ack_updated(self, request: "AckRequest", response: AckResponse) -> None:
        """Handle the outcome of one subscriber."""

    def ack_finished(self, request: "AckRequest") -> None:
        """Handle the end of a request: the last outcome is known, or its time is over."""


class Keeper(Protocol):
    """Keeps the outcomes of a request, which then goes on without its owner."""

    def begun(self, request: "AckRequest") -> None:
        """Note the request."""

    def ended(self, outcomes: Outcomes) -> None:
        """Take the outcomes at the end."""


class RemoteClient(NamedTuple):
    """A client of another node of the cluster."""

    node: Subscriber
    """The node as it is while its link is up; once that has fallen and risen, it is another one."""
    id: str


Addressee = Subscriber | RemoteClient
"""Who was asked: a client, the server's program, or, in a cluster, another node, which asks its own
clients, and then these."""

_NO_TASKS: "dict[Task, None]" = {}  # nothing is ever added to it


class AckRequest:
    """One message whose subscribers must answer."""

    __slots__ = (
        "_expire",
        "awaited",
        "begun",
        "cost",
        "deadline",
        "figures",
        "id",
        "is_degraded",
        "is_late",
        "keeper",
        "owner",
        "owner_ack_id",
        "presence",
        "responses",
        "size",
        "tasks",
        "tells_timeouts",
        "told",
        "wants_updates",
    )

    def __init__(
        self,
        ack_id: str,
        owner: AckOwner,
        owner_ack_id: str,
        awaited: dict[Addressee, str],
        tells_timeouts: bool,
        wants_updates: bool,
        deadline: float | None,
        cost: int,
        expire: Callable[["AckRequest", float], None],
        keeper: Keeper | None,
        begun: float,
        figures: AckFigures,
    ) -> None:
        self.id = ack_id
        """The server's id of the request, which subscribers put into their answers."""
        self.owner = owner
        self.owner_ack_id = owner_ack_id
        """The publisher's id of the request, by which it asks for the status or cancels."""
        self.awaited = awaited
        """The subscribers that have not answered, with the client ids that were addressed."""
        self.tasks = _NO_TASKS
        """Those of groups without an outcome."""
        self.responses: dict[str, AckResponse] = {}
        """The outcomes, by their keys."""
        self.tells_timeouts = tells_timeouts
        """Level 1: whether the final answer lists the clients that did not answer in time."""
        self.wants_updates = wants_updates
        """Level 2: whether the owner is sent each outcome at once."""
        self.cost = cost
        """Bytes that it takes in memory, apart from the results."""
        self.size = 0
        """Bytes that the results and error texts so far take in memory."""
        self.is_late = False
        """Whether the time of a group was over."""
        self.is_degraded = False
        """Whether only this node's clients were asked, because the others could not be reached."""
        self.presence = 0
        """The number of the latest change of the topic's members; 0: nobody observes it."""
        self.keeper = keeper
        """Who keeps the outcomes, if somebody does."""
        self.told = 0
        """Number of outcomes that the owner has been sent."""
        self.begun = begun
        """When the request began."""
        self.deadline = deadline
        """When the request times out; ``None`` once it has timed out or ended."""
        self.figures = figures
        """Which count it."""
        self._expire = expire

    def untold(self) -> list[AckResponse]:
        """Return the outcomes that the owner has not been sent, and count them as sent."""
        untold = list(islice(self.responses.values(), self.told, None))
        self.told = len(self.responses)
        return untold

    def missing(self) -> list[str]:
        """Return the ids of the clients that have not answered."""
        return list(self.awaited.values())

    @property
    def is_over(self) -> bool:
        """Whether all outcomes are known."""
        return not self.awaited and not self.tasks

    def status(self) -> dict[str, bool]:
        """Return the addressed client ids, and whether each outcome is known."""
        status = {response.name: True for response in self.responses.values()}
        status.update(dict.fromkeys(self.awaited.values(), False))
        status.update((str(task.key), False) for task in self.tasks)
        return status

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timeout(self, now: float) -> None:
        self.deadline = None
        self._expire(self, now)


NO_ROOM = "no room for the result"
"""The error of an outcome whose result would exceed a limit."""


class Work(NamedTuple):
    """A message for groups."""

    groups: Sequence[InGroup]
    topic: str
    sender: str
    data: bytes
    """The payload, as JSON."""
    message_key: str = ""
    """Messages with the same text go to the same member of a group; empty: to any."""
    retries: int = 0
    """How often it may fail without an end."""
    headers: bytes = b""
    """As JSON; empty for none."""


class Queue:
    """Tasks that wait, in order, those first that have been with a member."""

    __slots__ = ("_again", "_new")

    def __init__(self) -> None:
        self._again: OrderedDict[Task, None] = OrderedDict()
        self._new: OrderedDict[Task, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._again or self._new)

    def __iter__(self) -> "Iterator[Task]":
        return chain(self._again, self._new)

    def first(self, most: int) -> "Iterator[Task]":
        """Yield the first tasks of either kind, up to ``most`` of each."""
        return chain(islice(self._again, most), islice(self._new, most))

    def add(self, task: "Task") -> None:
        """Add a task."""
        (self._new if task.member is None else self._again)[task] = None

    def remove(self, task: "Task") -> None:
        """Remove a task."""
        for tasks in (self._again, self._new):
            tasks.pop(task, None)


class Task:
    """A message that one member of a group is to handle."""

    __slots__ = ("attempt", "data", "failures", "headers", "id", "key", "member", "member_id",
                 "message_key", "number", "queue", "request", "retries", "returns", "sender",
                 "topic")  # fmt: skip

    def __init__(self, request: AckRequest, key: InGroup, work: Work) -> None:
        self.id = f"{request.id}.{len(request.tasks) + 1}"
        """The server's id of it, which the member puts into its answer."""
        self.request: AckRequest | None = request
        """``None`` once the request has ended, and a member still has it."""
        self.key = key
        """The group."""
        self.topic = work.topic
        self.sender = work.sender
        self.data = work.data
        """The payload, as JSON."""
        self.headers = work.headers
        self.message_key = work.message_key
        """Tasks with the same text go to the same member; empty: to any."""
        self.retries = work.retries
        """How often it may still fail without an end."""
        self.number = 0
        """Its place among all tasks, in the order of their requests."""
        self.attempt = 0
        """How many members may have begun with it, counting each time."""
        self.returns = 0
        """How many have returned it without having begun."""
        self.member: Member | None = None
        """Who has been asked last."""
        self.member_id = ""
        """The id that it had then."""
        self.queue: Queue | None = None
        """Where it waits, if it does."""
        self.failures: list[tuple[str, str]] = []
        """The ids of the members of earlier attempts, and why those failed."""

    @property
    def last(self) -> Subscriber | None:
        """The subscriber that was asked last."""
        return None if self.member is None else self.member.subscriber
