"""Groups on a bus with many clients, held to a model that is too simple to be wrong.

The model does not say which member gets a message. It says what must hold whoever gets it, and
what becomes of a message when its member answers, or its connection ends.

Three kinds of members take part. Programs are client sessions, and come back when they are cut
off. Guests are peers made by hand, who change how much they take. The server's own program is a
member as well. After each step everything moves that can move.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kps.errors import ClientClosed, ConnectionLost
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message import Message
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.reconnect import Backoff
from kps.protocol.dialect.outcome import NO_SUBSCRIBER, GroupResponse
from kps.protocol.dialect.requests import Demands
from kps.protocol.limits import ClientLimits
from kps.protocol.patterns import InGroup, Key, Pattern
from kps.protocol.server_limits import ServerLimits
from kps.testing.network import MemoryClient, Network
from tests.protocol.helpers import THOROUGH, Fields, Peer, close_frame

# Steps last a multiple of half a second, and so does the wait before a reconnect. Timeouts
# lie between, so that no two things happen at the same time and the order is known.
RECONNECT = 1.0
MOST_WAITING = 4
NOT_BEGUN = ("unsubscribed", NO_SUBSCRIBER, "queue full")
"""Errors with which workers here say that they have not begun."""
MOST_ATTEMPTS = 3
MOST_RETURNS = 20
LIMITS = ServerLimits(heartbeat_interval=1e6, max_waiting=MOST_WAITING, max_attempts=MOST_ATTEMPTS)
CLIENT_LIMITS = ClientLimits(heartbeat_interval=1e6)

TOPIC = "jobs"
GROUPS = (InGroup(TOPIC, "a"), InGroup(TOPIC, "b"), InGroup(Pattern("j*"), "a"))
ABSENT = "nobody"
"""The name of a group that never has members."""

ANYONE = st.integers(0, 11)
WHICH = st.integers(0, len(GROUPS) - 1)
ERRORS = st.sampled_from([None, None, "no", "unsubscribed"])


class Membership:
    """A membership at the server, with what has been given to it."""

    def __init__(self, worker: "Worker", concurrency: int) -> None:
        self.worker = worker
        self.concurrency = concurrency
        self.holds: set[Task] = set()

    @property
    def is_free(self) -> bool:
        return len(self.holds) < self.concurrency


class Task:
    """A message for one group."""

    def __init__(self, ask: "Ask", group: InGroup) -> None:
        self.ask = ask
        self.group = group
        self.retries = ask.retries
        self.attempts = 0
        self.holder: Membership | None = None
        self.returns = 0
        self.name = ""
        """That of the member of the last attempt."""
        self.last: tuple[Worker, int] | None = None
        """Who had it last, and on which connection."""
        self.waits_for: Worker | None = None
        """Whose it is by its key, since it has begun to wait."""
        self.failures: list[tuple[str, str]] = []
        self.outcome: tuple[str, str | None] | None = None
        """The member, and the error."""

    @property
    def waits(self) -> bool:
        return self.ask.is_open and self.outcome is None and self.holder is None

    def is_for(self, membership: Membership) -> bool:
        """Whether it was with somebody else last."""
        return self.last != (membership.worker, membership.worker.connection)


class Ask:
    """An ack request."""

    def __init__(
        self, number: int, owner: "Worker", deadline: float, message_key: str, retries: int
    ) -> None:
        self.number = number
        self.owner = owner
        self.deadline = deadline
        self.message_key = message_key
        self.retries = retries
        self.tasks: dict[InGroup, Task] = {}
        self.is_open = True
        self.is_silent = False
        """Whether it has ended without an answer."""

    def end_if_complete(self) -> None:
        if all(task.outcome is not None for task in self.tasks.values()):
            self.is_open = False


class Worker(ABC):
    """Somebody who may be a member: what the model knows of it, and how to make it do things."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_online = True
        self.is_gone = False
        self.connection = 0
        """Number of its connection."""
        self.wanted: dict[InGroup, int] = {}
        """The groups of which it is to be a member, and how much it takes."""
        self.members: dict[InGroup, Membership] = {}
        self.new: list[tuple[InGroup, int, int, Any]] = []
        """What has come since: the group, the number, the attempt, and what is to be answered; -1
        attempts for what wants no ack."""
        self.asked: dict[Task, Any] = {}
        """What it has to answer."""

    @abstractmethod
    def join(self, group: InGroup, concurrency: int) -> None: ...
    @abstractmethod
    def leave(self, group: InGroup) -> None: ...
    @abstractmethod
    def answer(self, question: Any, error: str | None) -> None: ...
    @abstractmethod
    def collect(self) -> None: ...


def say_if_not_begun(message: Message, error: str | None) -> None:
    """Note what the subscriptions of a program do when it has not begun with a message."""
    if message.acknowledgement is not None and error in NOT_BEGUN:
        message.acknowledgement.has_begun = False


class Program(Worker):
    """A client session, which also publishes and asks."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(name)
        config = ClientConfig(
            id=name, host="memory", reconnect=Backoff.every(RECONNECT), limits=CLIENT_LIMITS
        )
        self.client: MemoryClient = network.client_with(config)
        self.session = self.client.session
        self.retry_at = 0.0
        self.handles: dict[Ask, AckHandle] = {}
        self.plain: list[int] = []
        """What came to its plain subscription, if it has one."""
        self._network = network
        self._mailboxes: dict[Key, Mailbox] = {}

    @property
    def _now(self) -> float:
        return self._network.clock.now

    def subscribe(self) -> None:
        self._mailboxes[TOPIC] = self.session.subscribe(TOPIC, self._now)

    def join(self, group: InGroup, concurrency: int) -> None:
        self._mailboxes[group] = self.session.subscribe(group, self._now, concurrency=concurrency)

    def leave(self, group: InGroup) -> None:
        self.session.unsubscribe(self._mailboxes.pop(group), self._now)

    def answer(self, question: Any, error: str | None) -> None:
        say_if_not_begun(question, error)
        assert isinstance(question, Message)
        self.session.settle(question, error, self._now)

    def collect(self) -> None:
        for key, mailbox in self._mailboxes.items():
            for message in mailbox.take_all():
                if not isinstance(key, InGroup):
                    self.plain.append(message.data)
                    if message.wants_ack:
                        self.session.settle(message, None, self._now)
                elif message.wants_ack:
                    self.new.append((key, message.data, message.attempt, message))
                else:
                    self.new.append((key, message.data, -1, None))

    def ask(self, ask: Ask, timeout: float, demands: Demands) -> None:
        asking = self.session.asking
        self.handles[ask] = asking.publish_with_ack(TOPIC, ask.number, timeout, self._now, demands)


class Guest(Worker):
    """A peer made by hand."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(name)
        self._network = network
        self.peer = Peer(network.hub, network.clock).upgrade()
        self.peer.ask({"action": "ping", "from": name, "proto": 2})

    def _send(self, action: str, group: InGroup, **fields: Any) -> None:
        scope = group.scope
        named: Fields = {"topic": scope} if isinstance(scope, str) else {"pattern": scope.text}
        self.peer.send({"action": action, **named, "group": group.group, **fields})

    def join(self, group: InGroup, concurrency: int) -> None:
        self._send("subscribe", group, concurrency=concurrency)

    def leave(self, group: InGroup) -> None:
        self._send("unsubscribe", group)

    def answer(self, question: Any, error: str | None) -> None:
        answer = {"action": "ack", "ack_id": question, "success": error is None}
        if error in NOT_BEGUN:
            answer["begun"] = False
        self.peer.send(answer if error is None else {**answer, "error": error})

    def collect(self) -> None:
        for message in self.peer.take():
            assert message["action"] != "error", message
            if message["action"] not in ("publish", "publish_ack"):
                continue
            pattern = message.get("pattern")
            assert message["topic"] == TOPIC
            group = InGroup(Pattern(pattern) if pattern else TOPIC, message["group"])
            if message["action"] == "publish_ack":
                attempt, ack_id = message.get("attempt", 1), message["ack_id"]
                assert message.get("attempt") != 1
                self.new.append((group, message["data"], attempt, ack_id))
            else:
                for data in message.get("batch", [message.get("data")]):
                    self.new.append((group, data, -1, None))


class Local(Worker):
    """The server's own program."""

    def __init__(self, network: Network) -> None:
        super().__init__("server")
        self._local = network.hub.local
        self._network = network
        self._mailboxes: dict[InGroup, Mailbox] = {}

    def join(self, group: InGroup, concurrency: int) -> None:
        self._mailboxes[group] = self._local.subscribe(group, concurrency=concurrency)

    def leave(self, group: InGroup) -> None:
        self._local.unsubscribe(self._mailboxes.pop(group))

    def answer(self, question: Any, error: str | None) -> None:
        say_if_not_begun(question, error)
        self._local.settle(question, error, self._network.clock.now)

    def collect(self) -> None:
        for group, mailbox in self._mailboxes.items():
            for message in mailbox.take_all():
                attempt = message.attempt if message.wants_ack else -1
                self.new.append((group, message.data, attempt, message))


class GroupsMachine(RuleBasedStateMachine):
    """The rules, each with what the model makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(limits=LIMITS)
        self.workers: list[Worker] = [Local(self.network)]
        self.asks: dict[int, Ask] = {}
        self.got: dict[int, list[InGroup]] = defaultdict(list)
        """By the number of a publication without ack, which groups have had it."""
        self.number = 0
        self.names = 0

    # -- the model ---------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.network.clock.now

    def online(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.is_online]

    def programs(self) -> list[Program]:
        return [one for one in self.online() if isinstance(one, Program)]

    def pick(self, which: int) -> Worker:
        choice = self.online()
        return choice[which % len(choice)]

    def members(self, group: InGroup) -> list[Membership]:
        return [one.members[group] for one in self.online() if group in one.members]

    def tasks(self) -> list[Task]:
        return [task for ask in self.asks.values() for task in ask.tasks.values()]

    def waiting(self, group: InGroup) -> list[Task]:
        return [task for task in self.tasks() if task.group == group and task.waits]

    def end(self, task: Task, error: str | None) -> None:
        task.outcome = (task.name if error != "no member" else "", error)
        task.ask.end_if_complete()

    def again(self, task: Task, error: str) -> None:
        """An attempt has failed, and another one may follow."""
        assert task.last is not None
        if task.attempts >= MOST_ATTEMPTS:
            self.end(task, error)
            return
        task.failures.append((task.last[0].name, error))
        if not self.members(task.group):
            self.end(task, "no member")
        elif task.ask.message_key:
            task.waits_for = self.owner(task)

    def answered(self, task: Task, error: str | None) -> None:
        holder, task.holder = task.holder, None
        assert holder is not None
        holder.holds.remove(task)
        if task.outcome is not None or not task.ask.is_open:
            return
        if error is None:
            self.end(task, None)
        elif error in NOT_BEGUN:
            task.attempts -= 1
            task.returns += 1
            task.name = task.failures[-1][0] if task.failures else ""
            members = self.members(task.group)
            assert task.last is not None
            if not members:
                self.end(task, "no member")
            elif members == [holder] or task.returns > MOST_RETURNS:
                self.end(task, error)
            elif task.ask.message_key:
                task.waits_for = self.owner(task, task.last[0])
        elif task.retries:
            task.retries -= 1
            self.again(task, error)
        else:
            self.end(task, error)

    def left(self, worker: Worker, group: InGroup) -> None:
        """A membership has ended."""
        del worker.members[group]
        for task in self.waiting(group):
            if not self.members(group):
                self.end(task, "no member")
            elif task.waits_for is worker:
                task.waits_for = self.owner(task)

    def cut(self, worker: Worker, *, for_good: bool) -> None:
        """A connection has ended."""
        worker.is_online = False
        for ask in self.asks.values():
            if ask.owner is worker and ask.is_open:
                ask.is_open, ask.is_silent = False, True
        for group in list(worker.members):
            self.left(worker, group)
        for task in self.tasks():
            if task.holder is not None and task.holder.worker is worker:
                task.holder.holds.remove(task)
                task.holder = None
                if task.outcome is None and task.ask.is_open:
                    self.again(task, "disconnected")
        worker.connection += 1
        worker.asked.clear()
        worker.is_gone = for_good
        if isinstance(worker, Program) and not for_good:
            worker.retry_at = self.now + RECONNECT

    def given(self, worker: Worker, group: InGroup, number: int, attempt: int, what: Any) -> None:
        """A member has got a message that wants an ack."""
        task = self.asks[number].tasks[group]
        assert task.holder is None, "somebody else has it"
        assert task.outcome is None
        assert task.ask.is_open
        assert attempt == task.attempts + 1 <= MOST_ATTEMPTS
        membership = worker.members[group]
        assert membership.is_free, "it has more than it takes"
        is_only = len(self.members(group)) == 1
        assert task.is_for(membership) or is_only or task.ask.message_key, (
            "it has just failed with it"
        )
        assert worker is task.waits_for or not task.ask.message_key
        task.attempts, task.holder = attempt, membership
        task.last = worker, worker.connection
        task.name = worker.name
        membership.holds.add(task)
        worker.asked[task] = what

    def owner(self, task: Task, avoided: Worker | None = None) -> Worker:
        """Whose key it is."""
        group = self.network.hub.state.bus.group(task.group)
        assert group is not None
        named = [one for one in group.members if avoided is not None and one.id == avoided.name]
        member = group.member_for(task.ask.message_key, named[0] if named else None)
        assert member is not None
        (found,) = [one for one in self.online() if one.name == member.subscriber.id]
        return found

    def settle(self) -> None:
        """Let everything move that can, and let everyone read."""
        self.network.run()
        for worker in self.online():
            worker.collect()
        for worker in self.online():
            news, worker.new = worker.new, []
            for group, number, attempt, what in news:
                if attempt < 0:
                    self.got[number].append(group)
                else:
                    self.given(worker, group, number, attempt, what)
        self.network.run()

    # -- who is there --------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        for kind in (Program, Program, Guest):
            self.come(kind)
        first = self.programs()[0]
        first.subscribe()
        self.settle()
        for which in range(3):
            self.join_group(self.workers[which], GROUPS[0], 1)

    def come(self, kind: type[Program] | type[Guest]) -> None:
        self.workers.append(kind(self.network, f"{kind.__name__.lower()}-{self.names}"))
        self.names += 1
        self.settle()

    @precondition(lambda self: len(self.online()) < 5)
    @rule(program=st.booleans())
    def connect(self, program: bool) -> None:
        self.come(Program if program else Guest)

    @rule(who=ANYONE, politely=st.booleans())
    def vanish(self, who: int, politely: bool) -> None:
        worker = self.pick(who)
        if isinstance(worker, Guest):
            if politely:
                worker.peer.feed(close_frame(1000))
            worker.peer.connection.connection_lost(self.now)
            self.cut(worker, for_good=True)
        elif isinstance(worker, Program) and worker is not self.workers[1]:
            if politely:
                worker.session.close(self.now)
            else:
                assert worker.client.link is not None
                worker.client.link.cut()
            self.network.run()
            self.cut(worker, for_good=politely)
        self.settle()

    @rule(who=ANYONE, which=WHICH, concurrency=st.integers(1, 3))
    def join(self, who: int, which: int, concurrency: int) -> None:
        self.join_group(self.pick(who), GROUPS[which], concurrency)

    def join_group(self, worker: Worker, group: InGroup, concurrency: int) -> None:
        if group not in worker.members:
            worker.members[group] = Membership(worker, concurrency)
        elif isinstance(worker, Guest):  # the others cannot change it
            worker.members[group].concurrency = concurrency
        else:
            return
        worker.wanted[group] = concurrency
        worker.join(group, concurrency)
        self.settle()

    @rule(who=ANYONE, which=WHICH)
    def leave(self, who: int, which: int) -> None:
        worker, group = self.pick(who), GROUPS[which]
        if group in worker.members:
            del worker.wanted[group]
            worker.leave(group)
            self.network.run()
            self.left(worker, group)
            self.settle()

    # -- messages --------------------------------------------------------------------------

    @precondition(lambda self: self.programs())
    @rule(who=ANYONE, count=st.integers(1, 5))
    def publish(self, who: int, count: int) -> None:
        """Each member gets its share, each group each message once, each subscriber all."""
        programs = self.programs()
        numbers = range(self.number + 1, self.number + count + 1)
        self.number += count
        for number in numbers:
            programs[who % len(programs)].session.publish(TOPIC, number, self.now)
        self.settle()
        groups = [group for group in GROUPS if self.members(group)]
        for number in numbers:
            assert sorted(self.got[number], key=str) == sorted(groups, key=str)
        (plain,) = [one.plain for one in self.workers if isinstance(one, Program) and one.plain]
        assert plain[-count:] == list(numbers)

    TIMEOUTS = st.sampled_from([2.25, 7.25])

    @precondition(lambda self: self.programs())
    @rule(
        who=ANYONE,
        timeout=TIMEOUTS,
        message_key=st.sampled_from(["", "", "x", "y"]),
        retries=st.integers(0, 3),
        times=st.integers(1, 3),
        expects=st.booleans(),
    )
    def ask(
        self, who: int, timeout: float, message_key: str, retries: int, times: int, expects: bool
    ) -> None:
        programs = self.programs()
        owner = programs[who % len(programs)]
        for _ in range(times):
            self.number += 1
            ask = Ask(self.number, owner, self.now + timeout, message_key, retries)
            self.asks[ask.number] = ask
            busy = []
            for group in GROUPS:
                if not self.members(group):
                    continue
                waits, task = len(self.waiting(group)), Task(ask, group)
                members = self.members(group)
                if message_key:
                    task.waits_for = self.owner(task)
                    members = [task.waits_for.members[group]]
                if waits >= MOST_WAITING and not any(one.is_free for one in members):
                    busy.append(task)
                ask.tasks[group] = task
            expected: tuple[str, ...] = ()
            if expects:
                absent = InGroup(TOPIC, ABSENT)
                expected, ask.tasks[absent] = (ABSENT, "a", ABSENT), Task(ask, absent)
                if all(group.group != "a" for group in ask.tasks):
                    ask.tasks[GROUPS[0]] = Task(ask, GROUPS[0])
            for group, task in ask.tasks.items():
                if task in busy:
                    self.end(task, "busy")
                elif not self.members(group):
                    self.end(task, "no member")
            ask.end_if_complete()
            owner.ask(ask, timeout, Demands((), expected, message_key, retries))
            self.settle()

    @rule(which=ANYONE, error=ERRORS)
    def answer(self, which: int, error: str | None) -> None:
        asked = [(worker, task) for worker in self.online() for task in worker.asked]
        if asked:
            worker, task = asked[which % len(asked)]
            what = worker.asked.pop(task)
            self.answered(task, error)
            worker.answer(what, error)
            self.settle()

    @rule(error=ERRORS)
    def answer_all(self, error: str | None) -> None:
        for worker in self.online():
            for task, what in list(worker.asked.items()):
                del worker.asked[task]
                self.answered(task, error)
                worker.answer(what, error)
                self.settle()

    @precondition(lambda self: any(ask.is_open for ask in self.asks.values()))
    @rule(which=ANYONE)
    def answer_what_others_were_asked(self, which: int) -> None:
        for worker in self.online():
            others = [task for one in self.online() if one is not worker for task in one.asked]
            if isinstance(worker, Guest) and others:
                task = others[which % len(others)]
                under_way = self.network.hub.state.acks.tasks._under_way
                ids = [ack_id for ack_id, one in under_way.items() if one.key == task.group
                       and one.last is not worker.peer.session]  # fmt: skip
                for ack_id in ids:
                    worker.answer(ack_id, "forged")
        self.settle()

    @rule(which=ANYONE)
    def cancel(self, which: int) -> None:
        asks = [ask for ask in self.asks.values() if ask.is_open]
        if asks:
            ask = asks[which % len(asks)]
            assert isinstance(ask.owner, Program)
            ask.owner.session.asking.cancel_ack(ask.owner.handles[ask], self.now)
            ask.is_open, ask.is_silent = False, True
            self.settle()

    # -- time ------------------------------------------------------------------------------

    @rule(halves=st.integers(1, 12))
    def wait(self, halves: int) -> None:
        end = self.now + halves / 2
        while True:
            due: list[tuple[float, Ask | Program]] = [
                (ask.deadline, ask) for ask in self.asks.values() if ask.is_open
            ]
            due += [
                (one.retry_at, one)
                for one in self.workers
                if isinstance(one, Program) and not one.is_online and not one.is_gone
            ]
            due = [(when, what) for when, what in due if when <= end]
            if not due:
                break
            when = min(when for when, _ in due)
            self.network.advance(when - self.now)
            for at, what in due:
                if at == when and isinstance(what, Ask):
                    for task in what.tasks.values():
                        if task.outcome is None:
                            self.end(task, "timeout")
                elif at == when and isinstance(what, Program):
                    what.is_online = True
                    for group, concurrency in what.wanted.items():
                        what.members[group] = Membership(what, concurrency)
            self.settle()
        self.network.advance(end - self.now)
        self.settle()

    # -- comparing ---------------------------------------------------------------------------

    @invariant()
    def nobody_is_free_for_what_waits(self) -> None:
        for group in GROUPS:
            members, waiting = self.members(group), self.waiting(group)
            assert members or not waiting
            for task in waiting:
                if task.waits_for is not None:
                    assert not task.waits_for.members[group].is_free
                    continue
                for membership in members:
                    mine = not task.is_for(membership) and len(members) > 1
                    assert not membership.is_free or mine

    @invariant()
    def outcomes_are_as_they_should_be(self) -> None:
        for ask in self.asks.values():
            assert isinstance(ask.owner, Program)
            handle = ask.owner.handles[ask]
            assert handle.finished is not ask.is_open
            if ask.is_silent:
                assert handle.error is None or isinstance(
                    handle.error, (ConnectionLost, ClientClosed)
                )
                continue
            outcomes = handle.responses.values()
            found = {one.name: one for one in outcomes if isinstance(one, GroupResponse)}
            known = {str(group): task for group, task in ask.tasks.items() if task.outcome}
            assert found.keys() == known.keys()
            for name, response in found.items():
                task = known[name]
                assert isinstance(response, GroupResponse)
                assert (response.client_id, response.error) == task.outcome
                assert response.success is (response.error is None)
                assert response.attempts == task.attempts
                assert list(response.failures) == task.failures

    @invariant()
    def the_books_are_right(self) -> None:
        acks = self.network.hub.state.acks
        assert len(acks) == sum(ask.is_open for ask in self.asks.values())
        assert acks.awaited == sum(len(one.awaited) + len(one.tasks) for one in
                                    acks._by_id.values())  # fmt: skip
        held = [task for task in self.tasks() if task.holder is not None]
        assert len(acks.tasks._under_way) == len(held)
        waiting = {group: len(self.waiting(group)) for group in GROUPS}
        assert acks.tasks.waiting_for == {group: count for group, count in waiting.items() if count}
        bus = self.network.hub.state.bus
        for key in GROUPS:
            group, members = bus.group(key), self.members(key)
            assert (group is None) is (not members)
            if group is not None:
                loads = {one.subscriber.id: (one.load, one.concurrency) for one in group.present()}
                assert loads == {
                    one.worker.name: (len(one.holds), one.concurrency) for one in members
                }

    def teardown(self) -> None:
        """When everyone has left, nothing is left of them."""
        self.wait(20)
        self.outcomes_are_as_they_should_be()
        assert all(
            task.outcome for ask in self.asks.values() if not ask.is_silent
            for task in ask.tasks.values()
        )  # fmt: skip
        for worker in self.online():
            if isinstance(worker, Guest):
                worker.peer.connection.connection_lost(self.now)
            elif isinstance(worker, Program):
                worker.session.close(self.now)
            else:
                for group in list(worker.members):
                    worker.leave(group)
                for what in worker.asked.values():
                    worker.answer(what, None)
            self.network.run()
        for one in self.workers:
            if isinstance(one, Program):
                one.session.close(self.now)
                assert len(one.session.asking.pending) == 0
        state = self.network.hub.state
        acks, tasks = state.acks, state.acks.tasks
        assert (len(state.bus), len(acks), len(state.deadlines)) == (0, 0, 0)
        assert (acks.awaited, acks._cost, acks._results, tasks.kept) == (0, 0, 0, 0)
        assert (tasks._under_way, tasks._by_subscriber, tasks.waiting_for) == ({}, {}, {})
        assert (tasks._waiting, tasks._for_members) == ({}, {})
        super().teardown()


TestGroupsModel = pytest.mark.slow(GroupsMachine.TestCase)
TestGroupsModel.settings = settings(THOROUGH, stateful_step_count=60)
