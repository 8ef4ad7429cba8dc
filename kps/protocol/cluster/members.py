"""Members of groups on other nodes than the home of their group.

The node of a member tells the home of it, which has a guest in its place. That node passes on to
the member what the home gives the guest, and to the home what the member answers.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from kps.errors import QueueFull
from kps.protocol.bus.ack_figures import NO_ROOM
from kps.protocol.bus.ack_request import Addressee, Work
from kps.protocol.bus.groups import Group, Member
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.cluster.acks import ClusterAckBook
from kps.protocol.cluster.asker import Asker
from kps.protocol.cluster.bus import ClusterBus
from kps.protocol.cluster.carrying import About, payload_of, restored
from kps.protocol.cluster.frames import Kind, read_group, write_key
from kps.protocol.cluster.interest import Interest
from kps.protocol.cluster.nodes import Guest, Node, Nodes, number_of
from kps.protocol.cluster.tasks import ClusterTaskBook
from kps.protocol.dialect.envelope import write
from kps.protocol.dialect.outcome import NO_SUBSCRIBER, Json
from kps.protocol.patterns import InGroup
from kps.protocol.server.local import LocalProgram
from kps.protocol.server.session import ServerSession
from kps.protocol.server.state import ServerState

Receiver = ServerSession | LocalProgram

_PASSED_ON = -1  # in place of a receipt, for messages that go no further
_PROGRAM = 0  # the number of the server's own program


class _Errand(NamedTuple):
    """A task that a member here has from the home of its group."""

    home: Node
    task_id: str
    receiver: Receiver
    member: Member
    key: InGroup


class _Membership(NamedTuple):
    """What a member here belongs to, and which node has a guest for it, or is this one."""

    key: InGroup
    home: str


class Members:
    """The members of groups that are here, and the guests of groups whose home is here."""

    def __init__(
        self,
        state: ServerState,
        local: LocalProgram,
        nodes: Nodes,
        interest: Interest,
        find_session: Callable[[int], ServerSession | None],
    ) -> None:
        assert isinstance(state.bus, ClusterBus)
        assert isinstance(state.acks, ClusterAckBook)
        assert isinstance(state.acks.tasks, ClusterTaskBook)
        self._state = state
        self._bus = state.bus
        self._acks = state.acks
        self._tasks = state.acks.tasks
        self._local = local
        self._nodes = nodes
        self._interest = interest
        self._find_session = find_session
        self._numbers = count(1)
        self._guests: dict[tuple[str, int], Guest] = {}
        self._errands: dict[Addressee, dict[str, _Errand]] = {}  # by who has them
        self._given: Counter[tuple[Member, str]] = Counter()  # errands of a member, by home
        self._memberships: dict[Member, _Membership] = {}
        self._bus.on_member.append(self._joined)
        self._bus.on_member_gone.append(self._left)
        self._acks.members = self

    # -- members that are here --------------------------------------------------------------

    def _joined(self, group: Group, member: Member) -> None:
        if isinstance(member.subscriber, Guest):
            return
        is_new = member not in self._memberships
        self._memberships[member] = _Membership(group.key, self._home_of(group.key))
        self.tell_load(group.key, member)
        if is_new:  # the home knows the member before anybody knows of the group
            self._interest.begin(group.key)

    def _home_of(self, key: InGroup) -> str:
        home = self._nodes.home_of_group(key)
        return self._nodes.me if home is None else home.id

    def tell_load(self, key: InGroup, member: Member) -> None:
        """Tell the home of a group of a member, and how much that has to do for others."""
        membership = self._memberships.get(member)
        home = None if membership is None else self._nodes.others.get(membership.home)
        if home is not None:
            others = member.load - self._given[member, home.id]
            number, name = number_of(member.subscriber), member.name
            home.send(Kind.JOIN, write_key(key), number, name, member.concurrency, others)

    def _left(self, group: Group, member: Member) -> None:
        membership = self._memberships.pop(member, None)
        if membership is None:
            return
        home = self._nodes.others.get(membership.home)
        if home is not None:
            home.send(Kind.LEAVE, write_key(group.key), number_of(member.subscriber))
        self._interest.end(group.key)

    def gone(self, subscriber: Subscriber) -> None:
        """Tell the homes that have given tasks to a client that it is gone."""
        told = set()
        for errand in self._errands.pop(subscriber, {}).values():
            self._given.pop((errand.member, errand.home.id), None)
            told.add(errand.home)
        for home in told:
            home.send(Kind.GONE, number_of(subscriber))

    def take(
        self,
        home: Node,
        payload: bytes,
        number: int,
        key: list[str],
        task_id: str,
        attempt: int,
        *about: Any,
    ) -> None:
        """Give a member messages, or the one of a task, as the home of its group wants."""
        read = read_group(key)
        receiver = self._receiver(number)
        group = self._bus.group(read)
        member = None if group is None or receiver is None else group.members.get(receiver)
        if group is None or receiver is None or member is None:
            if task_id:
                home.send(Kind.ANSWER, number, task_id, NO_SUBSCRIBER, False)
            return
        publication = restored(Publication, About(*about), payload)
        if task_id:
            publication.ack_id = f"errand_{next(self._numbers)}"
            errand = _Errand(home, task_id, receiver, member, group.key)
            self._errands.setdefault(receiver, {})[publication.ack_id] = errand
            self._given[member, home.id] += 1
            group.took(member)
        publication.group, publication.attempt = group.key, attempt
        had_room = receiver.deliver(publication)
        self._state.stats.delivered += had_room * publication.count + publication.partial

    def _receiver(self, number: int) -> Receiver | None:
        return self._local if number == _PROGRAM else self._find_session(number)

    def answer(
        self,
        receiver: Addressee,
        ack_id: str,
        error: str | None,
        result: Json | None,
        has_begun: bool,
    ) -> bool:
        """Tell the home of a group what became of a task; return ``False`` if it is not of one."""
        errands = self._errands.get(receiver, {})
        errand = errands.pop(ack_id, None)
        if errand is None:
            return False
        if not errands:
            del self._errands[receiver]
        home = errand.home
        self._done(errand)
        payload = b"" if result is None else write(result)
        number = number_of(errand.receiver)
        home.send(Kind.ANSWER, number, errand.task_id, error, has_begun, payload=payload)
        return True

    def _done(self, errand: _Errand) -> None:
        """Note that a member has a task no more; tell its home, if another node gave the task."""
        home, member, key = errand.home.id, errand.member, errand.key
        self._given[member, home] -= 1
        if not self._given[member, home]:
            del self._given[member, home]
        group = self._bus.group(key)
        if group is None:
            member.load -= 1
        else:
            group.done(member)
            membership = self._memberships.get(member)
            if membership is not None and membership.home != home:
                self.tell_load(key, member)

    # -- groups whose home is here ----------------------------------------------------------

    def join(
        self, node: Node, key: list[str], number: int, name: str, concurrency: int, others: int
    ) -> None:
        """Take in a member of another node, or note what has changed about one."""
        guest = self._guests.get((node.id, number))
        if guest is None:
            guest = self._guests[node.id, number] = Guest(node, number, name, self._state.stats)
        read = read_group(key)
        before = guest.others.get(read, 0)
        guest.others[read] = others
        self._bus.subscribe(guest, read, 0)
        group = self._bus.group(read)
        assert group is not None
        member = group.members[guest]
        for _ in range(others - before):
            group.took(member)
        for _ in range(before - others):
            group.done(member)
        self._bus.subscribe(guest, read, concurrency)  # which gives it what waits

    def leave(self, node: Node, key: list[str], number: int) -> None:
        """Note that a member of another node has left a group."""
        guest = self._guests.get((node.id, number))
        if guest is not None:
            read = read_group(key)
            guest.others.pop(read, None)
            self._bus.unsubscribe(guest, read)
            self._forget_unless_needed(guest)

    def left_for_good(self, node: Node, number: int) -> None:
        """Note that a client of another node is gone, with the tasks that it has."""
        guest = self._guests.pop((node.id, number), None)
        if guest is not None:
            self._bus.remove(guest)
            self._acks.drop_subscriber(guest)

    def answered(
        self,
        node: Node,
        result: bytes,
        number: int,
        task_id: str,
        error: str | None,
        has_begun: bool,
    ) -> None:
        """Take the answer of a member of another node."""
        guest = self._guests.get((node.id, number))
        if guest is not None:
            kept = Json(result) if result else None
            self._acks.answer(guest, task_id, error, kept, len(result), has_begun=has_begun)
            self._forget_unless_needed(guest)

    def _forget_unless_needed(self, guest: Guest) -> None:
        if not guest.topics and not self._tasks.has_any(guest):
            self._guests.pop((guest.node.id, guest.number), None)

    def share(self, node: Node, payload: bytes, key: list[str], receipt: int, *about: Any) -> None:
        """Share messages of another node's publisher among the members."""
        publication = restored(Publication, About(*about), payload)
        share = partial(self._share, node, read_group(key), publication, receipt)
        self._bus.agreement.when_sure(share)

    def _share(self, node: Node, key: InGroup, publication: Publication, receipt: int) -> None:
        group, reached = self._bus.group(key), 0
        home = self._nodes.home_of_group(key)
        if home is not None and receipt != _PASSED_ON:  # it has become another one meanwhile
            about, payload = About.of(publication), payload_of(publication)
            home.send(Kind.SHARE, write_key(key), _PASSED_ON, *about, payload=payload)
        elif group is not None:
            reached = Group.publish(group, publication)
            self._state.stats.delivered += reached * publication.count + publication.partial
        if receipt > 0:
            node.send(Kind.REACHED, receipt, reached)

    def offered(
        self,
        node: Node,
        payload: bytes,
        task_id: str,
        key: list[str],
        message_key: str,
        retries: int,
        attempt: int,
        failures: list[list[str]],
        seconds: float,
        *values: Any,
    ) -> None:
        """Give a task of another node's publisher to a member."""
        owner, state = Asker(node, task_id, self._acks.of_others), self._state
        about, groups = About(*values), [read_group(key)]
        how = message_key, retries, about.headers.encode()
        work = Work(groups, about.topic, about.sender, payload, *how)
        deadline = state.now + min(seconds, state.limits.max_ack_timeout)
        try:
            request = self._acks.open(
                owner,
                task_id,
                [],
                tells_timeouts=True,
                deadline=deadline,
                work=work,
                figures=owner.figures,
            )
        except QueueFull as error:
            node.send(Kind.CONCLUDED, task_id, str(error), NO_ROOM)
            return
        node.asking[task_id] = owner
        for task in request.tasks:
            task.attempt = attempt
            task.failures = [(name, error) for name, error in failures]
        self._tasks.begin(request)
        self._acks.close(request)

    # -- nodes that come and go -------------------------------------------------------------

    def node_went(self, node: Node) -> None:
        """Let the guests of a node go, and forget what their home had given to members here."""
        for place, guest in list(self._guests.items()):
            if guest.node is node:
                del self._guests[place]
                self._bus.remove(guest)
                self._acks.drop_subscriber(guest)
        for receiver, errands in list(self._errands.items()):
            for errand_id, errand in list(errands.items()):
                if errand.home is node:
                    del errands[errand_id]
                    self._done(errand)
            if not errands:
                del self._errands[receiver]

    def move(self) -> Iterator[int]:
        """Join groups whose home has become another one."""
        for member, membership in list(self._memberships.items()):
            yield 1
            key, before = membership
            now = self._home_of(key)
            if now == before or self._memberships.get(member) is not membership:
                continue
            self._memberships[member] = _Membership(key, now)
            if before in self._nodes.others:
                number = number_of(member.subscriber)
                self._nodes.others[before].send(Kind.LEAVE, write_key(key), number)
            self.tell_load(key, member)
