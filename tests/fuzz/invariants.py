"""What must hold of the core at any moment, whatever has happened.

Here, and nowhere else in the harnesses, is known how the core keeps its books.
"""

from collections import Counter
from typing import Any

from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.bus.acks import AckBook
from kps.protocol.bus.groups import Group, Member
from kps.protocol.bus.logs import LogBook
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.message_ids import _cost_of
from kps.protocol.bus.subscriber import Stage, Subscriber
from kps.protocol.bus.tasks import TaskBook, cost_of_task
from kps.protocol.client.asking import Asking
from kps.protocol.client.link import ClientLink
from kps.protocol.client.pending import Barrier, ClientAck
from kps.protocol.client.session import ClientSession
from kps.protocol.client.topic_states import TopicState
from kps.protocol.client.topics import Topics
from kps.protocol.cost import ENTRY, KEPT, MESSAGE
from kps.protocol.dialect.codes import ERRORS
from kps.protocol.patterns import InGroup, Key, Pattern, Scope
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.encodings import FRAMES
from kps.protocol.server.gate import Phase
from kps.protocol.server.hub import Hub
from kps.protocol.server.presence import Roster, _size
from kps.protocol.server.session import ServerSession
from kps.protocol.server_limits import RatePolicy
from kps.protocol.timers import Deadlines, Expiries, Timed
from kps.protocol.wire.outbox import Kind, Outbox
from kps.protocol.wire.reader import FrameReader
from kps.protocol.wire.server_handshake import ServerWebSocket
from kps.protocol.wire.websocket import Output, State, WebSocket


def check_outbox(outbox: Outbox) -> None:
    """What is counted is what waits."""
    entries = [*outbox._settled, *outbox._entries]
    for entry in entries:
        assert entry.size == len(entry.data) + entry.frames * ENTRY
        assert entry.messages >= 0
        assert 0 <= entry.reply_bytes <= entry.size
        assert (entry.reply_bytes > 0) is (entry.kind is Kind.REPLY)
    assert all(entry.kind is not Kind.DROPPABLE for entry in outbox._settled)
    gathered = outbox.gathered
    gathered_size = len(outbox._first) + 1 + len(outbox._others) if gathered else 0
    assert not gathered or outbox.join is not None
    assert 0 <= outbox._gathered_replies <= gathered_size
    assert outbox.pending_bytes == sum(entry.size for entry in entries) + gathered_size
    assert outbox.pending_messages == sum(entry.frames for entry in entries) + gathered
    replies = sum(entry.reply_bytes for entry in entries)
    assert outbox.pending_replies == replies + outbox._gathered_replies
    assert outbox.dropped >= 0


def check_reader(reader: FrameReader, *, has_ended: bool) -> None:
    """What has been read has been told; and what has ended holds on to nothing."""
    assert reader._waiting == [] or reader.has_more
    assert 0 <= reader._position <= len(reader._data)
    assert reader._passing >= 0
    if has_ended:
        assert (reader._data, bytes(reader._fragments)) == (b"", b"")


KNOWS_ITS_END = {State.CLOSING, State.DRAINING, State.CLOSED}


def check_websocket(socket: WebSocket) -> None:
    check_outbox(socket.outbox)
    check_reader(socket.reader, has_ended=socket.state in (State.DRAINING, State.CLOSED))
    assert (socket.closed is not None) is (socket.state in KNOWS_ITS_END)
    if socket._abort:
        assert socket.state in (State.DRAINING, State.CLOSED)
    if socket.state is State.CLOSED:
        assert socket.outbox.pending_bytes == 0


def check_deadlines(deadlines: Deadlines) -> None:
    """Whatever has a deadline is looked at by then."""
    in_heap = set(deadlines._heap)
    for item, entry in deadlines._scheduled.items():
        due = item.next_deadline()
        assert due is None or entry[0] <= due, f"{item!r} comes too late"
        assert entry in in_heap
        assert deadlines._items[entry[1]] is item
    assert len(deadlines._items) == len(deadlines._scheduled), "what was cancelled is kept"


def check_scheduled(item: Timed, deadlines: Deadlines) -> None:
    """What has a deadline is known to the agenda."""
    assert item.next_deadline() is None or item in deadlines._scheduled, f"{item!r} is forgotten"


def check_expires(item: Timed, expiries: Expiries, deadlines: Deadlines) -> None:
    """What mostly ends before it is due is in a queue, which is known to the agenda in time."""
    when = item.next_deadline()
    for queue in expiries._queues:
        if item in queue.items:
            due = queue.next_deadline()
            assert when is None or (due is not None and due <= when), f"{item!r} comes too late"
            check_scheduled(queue, deadlines)
            return
    check_scheduled(item, deadlines)


def check_nothing_due(when: float | None, now: float) -> None:
    assert when is None or when > now, f"{now - (when or 0)} seconds overdue"


# -- the server ---------------------------------------------------------------------------

# How far a client can have come, by the state of its connection.
PHASES = {
    State.HANDSHAKE: {Phase.CONNECTING},
    State.REQUEST: {Phase.DECIDING, Phase.CONNECTING},  # the latter, as it waits for figures
    State.OPEN: {Phase.ADMITTED, Phase.JUDGING, Phase.REGISTERED, Phase.REJUDGING},
    # Who was turned away at once has had no part in anything to leave.
    State.DRAINING: {Phase.OVER, Phase.CONNECTING},
    State.CLOSING: {Phase.OVER},
    State.CLOSED: {Phase.OVER},
}
TAKES_PART = {Phase.REGISTERED, Phase.REJUDGING}
MUST_REGISTER = {Phase.ADMITTED, Phase.JUDGING}


def check_hub(hub: Hub) -> None:
    """The tables of a hub fit together."""
    state = hub.state
    check_deadlines(state.deadlines)
    connections = [one for one in hub.connections.values() if isinstance(one, WebSocketConnection)]
    for number, connection in hub.connections.items():
        assert connection.number == connection.session.number == number
        assert isinstance(connection, WebSocketConnection)
        check_connection(hub, connection)
    sessions = [connection.session for connection in connections]
    for client_id, client in state.clients.items():
        assert client in sessions
        assert isinstance(client, ServerSession)
        assert client.id == client_id != ""
        assert client.gate.phase in TAKES_PART
    assert state.unflushed.keys() <= hub.connections.keys()
    check_bus(hub, sessions)
    check_presence(hub, sessions)
    check_acks(state.acks)
    check_message_ids(hub)
    if state.logs is not None:
        check_history(state.logs, hub)
    origins = Counter(one._origin for one in connections if one._origin is not None)
    assert state.admission._by_origin == origins
    assert max(origins.values(), default=0) <= hub.limits.max_connections_per_address
    check_owners(hub)
    tally = state.tally
    assert tally.slow + tally.disconnected <= hub.dropped() - hub.local.subscriptions.dropped
    assert sum(tally.refusals.values()) == state.stats.refused
    assert tally.refusals.keys() == set(ERRORS)
    assert sum(one.closed is None for one in connections) <= hub.limits.max_connections
    for connection in connections:
        check_scheduled(connection, state.deadlines)
    for request in state.acks._by_id.values():
        check_expires(request, state.acks._expiries, state.deadlines)
    assert len(state.acks._expiries) == len(state.acks), "what has ended is kept"


def check_connection(hub: Hub, connection: WebSocketConnection) -> None:
    socket, session = connection._socket, connection.session
    check_websocket(socket)
    check_session(hub, session)
    assert session.gate.phase in PHASES[socket.state]
    if socket.state is State.OPEN:
        assert socket.request is None
        assert not isinstance(socket, ServerWebSocket) or socket._opening is None
        assert socket.outbox.join is session.dialect.join
        assert connection.wants_pause or not session.gate.holds
    check_input(connection)


def check_input(connection: WebSocketConnection) -> None:
    """What was read waits as bytes, while somebody will go on with it, and for no one who left."""
    intake, inbox = connection._intake, connection.session.inbox
    assert inbox.has_rest is bool(inbox._rest or inbox._frame)
    assert inbox._array is None or inbox._frame
    if connection.session.gate.is_over:
        assert not inbox.has_rest
    if connection._socket.state is State.OPEN and intake.has_input:
        assert intake.waits or intake.is_blocked, "nobody would go on with it"


def check_session(hub: Hub, session: ServerSession) -> None:
    gate, phase = session.gate, session.gate.phase
    assert session.run.gathered is None, "publications wait that nobody will pass on"
    assert gate.holds is (gate._question is not None), "a verdict has something to do"
    assert gate.is_over is (phase is Phase.OVER)
    assert session.encoding is FRAMES[session.dialect]
    assert session.dialect.level in (1, hub.config.level)
    if phase is not Phase.OVER:
        assert bool(session.id) is (phase in TAKES_PART)
        assert (gate.register_by is not None) is (phase in MUST_REGISTER)
    if phase in TAKES_PART:
        assert hub.clients[session.id] is session
        assert gate.identity is not None
    else:
        assert session not in hub.clients.values()
        assert session.topics == {}
    if phase is Phase.ADMITTED and not hub.config.asks_token:
        assert gate.identity is not None
    throttle, limits = session.throttle, hub.limits
    assert (throttle is not None) is bool(limits.message_rate or limits.byte_rate)
    if throttle is not None and throttle.resume_at is not None:
        assert limits.rate_policy is not RatePolicy.CLOSE


def check_bus(hub: Hub, sessions: list[ServerSession]) -> None:
    members: list[Subscriber] = [*sessions, hub.local]
    live = Counter(
        key for member in members for key, stage in member.topics.items() if stage is Stage.LIVE
    )
    bus = hub.state.bus
    scopes = Counter[Scope]()
    for key, count in live.items():
        scopes[key.scope if isinstance(key, InGroup) else key] += count
    assert len(bus) == len(scopes)
    patterns = [key for key in live if isinstance(key, Pattern)]
    for topic in [key for key in live if isinstance(key, str)]:
        assert topic in bus
        having: set[Key] = {topic, *(pattern for pattern in patterns if pattern.selects(topic))}
        subscribers = bus.subscribers(topic)
        assert len(subscribers) == len(set(subscribers))
        assert set(subscribers) == {
            one for one in members if any(one.topics.get(key) is Stage.LIVE for key in having)
        }
    for key in [key for key in live if isinstance(key, InGroup)]:
        group = bus.group(key)
        assert group is not None
        assert set(group.members) == {one for one in members if key in one.topics}
        check_group(group, hub.state.acks.tasks)
    assert {key: count for key, count, _ in bus.subjects(len(bus))} == scopes
    assert bus.subscriptions == live.total()
    assert bus.routes.groups == sum(isinstance(key, InGroup) for key in live)
    assert bus.routes.patterns == sum(isinstance(key, Pattern) for key in scopes)
    assert set(hub.local.topics) == set(hub.local.subscriptions.keys)


def check_presence(hub: Hub, sessions: list[ServerSession]) -> None:
    """Rosters are of topics that somebody observes, and know who is subscribed to them."""
    state, presence = hub.state, hub.state.presence
    for subscriber, infos in presence._infos.items():
        assert subscriber is hub.local or subscriber in sessions
        assert infos.by_topic
        assert all(subscriber.topics.get(topic) is Stage.LIVE for topic in infos.by_topic)
        assert infos.size == sum(map(len, infos.by_topic.values()))
    for topic, roster in presence._rosters.items():
        assert roster.topic == topic
        assert roster.is_needed
        check_scheduled(roster, state.deadlines)
        assert roster.behind <= set(roster.observers)
        assert all(one.topics.get(topic) is Stage.LIVE for one in roster.observers)
        there = {one.id: one for one in state.bus.own_subscribers(topic)}
        members = roster.members
        assert there == {n: one.subscriber for n, one in members.items() if one.subscriber}
        assert {n for n, one in members.items() if not one.subscriber} == set(roster._absent)
        for client_id, one in there.items():
            assert members[client_id].info == presence.info_of(one, topic)
        assert roster._size == sum(_size(name, one) for name, one in members.items())
    known = set(presence._rosters.values())
    assert {one for one in state.deadlines._scheduled if isinstance(one, Roster)} <= known


def is_told(roster: Roster, observer: Subscriber) -> bool:
    """Whether an observer has been sent all that there is to tell."""
    return roster._due is None and observer not in roster.behind


def check_group(group: Group, tasks: TaskBook) -> None:
    """Each member has its tasks, and nobody is free for one that waits, unless the server stops."""
    loads = Counter(task.member for task in tasks._under_way.values())
    waiting = list(tasks._waiting.get(group.key, ()))
    free: dict[int, set[Member]] = {}
    for subscriber, member in group.members.items():
        assert member.subscriber is subscriber
        assert member.load == loads[member]
        own = list(tasks._for_members.get(member, ()))
        waiting += own
        if member.is_free:
            free.setdefault(member.load, set()).add(member)
            assert not own or tasks.is_stopping, "it could take what waits for it"
    assert {load: set(members) for load, members in group._by_load.items()} == free
    assert set(group._by_key.values()) <= set(group.members.values())
    assert len(waiting) == tasks.waiting_for.get(group.key, 0)
    for task in waiting:
        assert task.key == group.key
        for member in [member for members in free.values() for member in members]:
            is_for_others = task.message_key or (
                task.last is member.subscriber and len(group.members) > 1
            )
            assert is_for_others or tasks.is_stopping, "a member could take it"


def check_tasks(acks: AckBook) -> None:
    """Each task of an open request waits, or one member has it.

    While the server stops, what a member returns, or has when it goes, is given to nobody.
    """
    tasks, under_way = acks.tasks, acks.tasks._under_way
    queues = [*tasks._waiting.values(), *tasks._for_members.values()]
    waiting = {task for queue in queues for task in queue}
    of_requests = {task for request in acks._by_id.values() for task in request.tasks}
    assert waiting <= of_requests, "what has ended waits"
    for task in of_requests:
        assert task.request is not None
        places = (task.id in under_way) + (task in waiting)
        assert places == 1 or (places == 0 and tasks.is_stopping)
    assert sum(tasks.waiting_for.values()) == len(waiting)
    by_subscriber: dict[Any, set[Any]] = {}
    for task_id, task in under_way.items():
        assert task.id == task_id
        assert task.queue is None
        assert 1 <= task.attempt <= acks._limits.max_attempts
        assert task.last is not None
        by_subscriber.setdefault(task.last, set()).add(task)
    assert {one: set(own) for one, own in tasks._by_subscriber.items()} == by_subscriber
    kept = {task for task in under_way.values() if task.request is None}
    assert set(tasks._kept) == kept
    assert tasks.kept == sum(cost_of_task(task.key) for task in kept)
    assert all((task.data, task.topic, task.sender) == (b"", "", "") for task in kept)
    assert not tasks._is_answering
    assert not tasks._answers
    for member in by_subscriber:
        if isinstance(member, ServerSession):
            assert member.gate.phase in TAKES_PART, "somebody who is gone has it"


def check_acks(acks: AckBook) -> None:
    """Each open request waits for somebody who is there, for somebody who is there.

    While the server stops, it waits for its publisher's connection to end.
    """
    is_stopping = acks.tasks.is_stopping
    by_owner: dict[Any, dict[str, AckRequest]] = {}
    by_subscriber: dict[Any, set[AckRequest]] = {}
    for ack_id, request in acks._by_id.items():
        assert request.id == ack_id
        assert request.awaited or request.tasks or is_stopping, "a request that waits for nobody"
        assert request.deadline is not None
        assert request.told <= len(request.responses)
        assert not set(request.responses) & set(request.missing())
        by_owner.setdefault(request.owner, {})[request.owner_ack_id] = request
        for subscriber in request.awaited:
            by_subscriber.setdefault(subscriber, set()).add(request)
    assert acks._by_owner == by_owner
    requests = acks._by_id.values()
    assert acks.awaited == sum(len(one.awaited) + len(one.tasks) for one in requests)
    check_tasks(acks)
    assert acks._results == sum(request.size for request in acks._by_id.values())
    assert acks._cost == sum(request.cost for request in acks._by_id.values())
    assert {one: set(requests) for one, requests in acks._by_subscriber.items()} == by_subscriber
    for member in by_owner if is_stopping else [*by_owner, *by_subscriber]:
        if isinstance(member, ServerSession):
            assert member.gate.phase in TAKES_PART
    assert not acks._leaving
    ends, outcomes = acks.figures.ends(), acks.figures.outcomes()
    assert sum(ends.values()) + acks.figures.pending == acks._count
    assert acks.figures.pending == len(acks)
    assert min(*ends.values(), *outcomes.values()) >= 0


def check_message_ids(hub: Hub) -> None:
    """What is remembered is paid for, and forgotten in time."""
    ids, state = hub.state.message_ids, hub.state
    used: Counter[tuple[str, str]] = Counter()
    with_ending = set()
    for client_id, of_client in ids._by_client.items():
        assert of_client.by_id
        under_way = [one for one in of_client.by_id.values() if not one.is_done]
        assert of_client.under_way == len(under_way)
        in_order = list(of_client.in_order)
        assert len(in_order) <= 2 * hub.limits.max_message_ids
        assert sorted(in_order, key=lambda one: one.number) == in_order
        assert {one for one in of_client.by_id.values() if one.is_done} <= set(in_order)
        for message_id, handled in of_client.by_id.items():
            if handled.owner not in used:
                used[handled.owner] = _cost_of(handled.owner)
            assert (handled.client_id, handled.message_id) == (client_id, message_id)
            used[handled.owner] += handled.cost
            if handled.ending is not None:
                used[handled.owner] += KEPT + len(handled.ending)
                with_ending.add(handled)
            if handled.is_done:
                assert handled.request is None
                assert handled.deadline is not None
                check_expires(handled, ids._expiries, state.deadlines)
        for handled in under_way:
            request = handled.request
            assert request is not None
            assert state.acks._by_id[request.id] is request
            assert request.keeper is handled
    assert ids._used == dict(used)
    assert ids.used == used.total() <= hub.limits.message_id_bytes
    assert {one for some in ids._with_ending.values() for one in some} == with_ending
    assert all(ids._with_ending.values())


def check_history(book: LogBook, hub: Hub) -> None:
    """What is kept has numbers without gaps, and is paid for."""
    logs = list(book._logs.values())
    assert len(logs) <= hub.limits.history_topics
    assert book.size == sum(entry.size for log in logs for entry in log.entries)
    assert book.size <= hub.limits.history_bytes
    assert {log for log in logs if log.entries} == set(book._filled)
    assert {log for log in logs if not log.entries} == set(book._empty)
    for log in logs:
        check_scheduled(log, hub.state.deadlines)
        assert log.kept == sum(entry.messages for entry in log.entries)
        assert log.top + 1 - log.first <= log.rule.size
        ends = [entry.behind for entry in log.entries]
        assert [entry.first for entry in log.entries][1:] == ends[:-1]
        assert not ends or ends[-1] == log.top + 1


def check_owners(hub: Hub) -> None:
    owners = hub.state.owners
    by_name = {  # digests of 16 bytes
        name: [ids[start : start + 16] for start in range(0, len(ids), 16)]
        for name, ids in owners._ids.items()
    }
    assert owners._owner == {one: name for name, ids in by_name.items() for one in ids}
    assert len(owners) == sum(map(len, by_name.values())) <= hub.limits.max_all_ids
    assert all(0 < len(ids) <= hub.limits.max_ids for ids in by_name.values())


def check_hub_is_empty(hub: Hub) -> None:
    """Everyone has left, and nothing is left of them."""
    state = hub.state
    assert (hub.clients, hub.connections, state.unflushed) == ({}, {}, {})
    assert (len(state.bus), len(state.acks), state.admission._by_origin) == (0, 0, {})
    assert (state.acks._by_owner, state.acks._by_subscriber) == ({}, {})
    assert (state.acks.awaited, state.acks._results, state.acks._cost) == (0, 0, 0)
    tasks = state.acks.tasks
    assert (tasks._under_way, tasks._by_subscriber, tasks.kept) == ({}, {}, 0)
    assert (tasks._waiting, tasks._for_members, tasks.waiting_for) == ({}, {}, {})
    assert (state.presence._rosters, state.presence._infos) == ({}, {})
    assert (len(state.message_ids), state.message_ids.used) == (0, 0)
    assert state.deadlines._scheduled == {}
    assert len(state.deadlines._heap) <= 64, "what was cancelled stays"
    assert (state.admission._admitted, state.admission._turned_away) == (0, 0)
    assert not state.turns.are_due


# -- the client ---------------------------------------------------------------------------


def check_client(session: ClientSession, now: float) -> None:
    """The tables of a client session fit together."""
    state, link = session.state, session.state.link
    assert state.now <= now
    check_deadlines(state.deadlines)
    if link is not None:
        check_link(link, state.deadlines)
    is_registered = link is not None and link.registered
    assert session.ready is (is_registered and not state.is_closing)
    check_pending(session.asking, state.deadlines)
    if not session.ready:
        waits_for_a_connection = not state.is_over
        for question in session.asking.pending.questions():
            assert waits_for_a_connection
            assert question.repeat is not None, "it is never answered"
    check_offline_queue(session)
    check_topics(session)
    connecting = session._connecting
    check_scheduled(connecting, state.deadlines)
    if connecting._retry_at is not None:
        assert link is None
        assert not state.is_over
    if session.ended is not None:
        assert link is None
        assert connecting not in state.deadlines._scheduled
        assert session.topics not in state.deadlines._scheduled
    check_scheduled(session.flow, state.deadlines)
    if session.flow.is_paused:
        assert session.flow in state.deadlines._scheduled, "reading would never go on"
    assert not session.flow._crowded.keys() & session.flow._hung.keys()
    for mailbox in session.flow._crowded.keys() | session.flow._hung.keys():
        assert mailbox.on_relief is not None, "it is empty, and still waited for"
    check_subscriptions(session)
    check_members(session)


def check_link(link: ClientLink, deadlines: Deadlines) -> None:
    socket, outgoing = link._socket, link.outgoing
    check_websocket(socket)
    check_scheduled(link, deadlines)
    assert socket.outbox.join is outgoing.dialect.join
    assert link.registered or outgoing.dialect.level == 1, "a level that nobody agreed on"
    batch = outgoing.batch
    if batch is not None:
        assert batch.count >= 1
        assert batch.ahead == socket.outbox.pending_bytes, "something overtook what waits"
        assert batch.count == 1 or batch.size <= batch.limit
    assert outgoing.pending_bytes >= socket.outbox.pending_bytes


def check_pending(asking: Asking, deadlines: Deadlines) -> None:
    """Every question is open, and no two have a name in common."""
    pending = asking.pending
    numbers = []
    for name, question in pending._by_name.items():
        if isinstance(question, Barrier):
            assert question.name == name
            assert not question.passed
            assert question.error is None
        else:
            assert isinstance(question, ClientAck)
            assert question.id == name
            assert not question.finished
            check_expires(question, asking._expiries, deadlines)
        numbers.append(int(name.rpartition("_")[2]))
    # Each name was given out once: the numbers in them rise in the order of the questions.
    assert numbers == sorted(set(numbers))
    assert not numbers or numbers[-1] <= pending._count
    questions = pending._by_name
    repeats = [one.repeat.size for one in questions.values() if one.repeat is not None]
    assert pending.repeats == sum(repeats)
    assert len(set(map(id, questions.values()))) == len(pending)
    barriers = {name: one for name, one in questions.items() if isinstance(one, Barrier)}
    assert list(pending._barriers.items()) == list(barriers.items())


def check_offline_queue(session: ClientSession) -> None:
    offline, config = session.sender._offline, session.config
    assert offline.size == sum(len(message) + KEPT for message in offline._messages)
    assert len(offline) <= config.offline_messages
    assert offline.size <= config.offline_bytes
    if session.ready or session.ended is not None:
        assert len(offline) == 0


def check_topics(session: ClientSession) -> None:
    topics = session.topics
    wanted = {name for name, one in topics._topics.items() if one.state is not TopicState.LEAVING}
    assert wanted == set(session.subscriptions.keys)
    retries = False
    for name, one in topics._topics.items():
        assert one.open_questions >= 0
        if not session.ready:
            assert one.state is TopicState.WAITING
        match one.state:
            case TopicState.WAITING:
                assert not session.ready
                assert one.open_questions == 0
                assert not one.is_reported
            case TopicState.ASKED:
                assert not one.is_decided
            case TopicState.LIVE:
                assert one.is_decided
                assert one.has_been_live
            case TopicState.REFUSED:
                assert one.is_decided
                retries = True
            case TopicState.LEAVING:
                retries = retries or not one.open_questions
        is_settled = one.state is TopicState.LIVE and not one.open_questions
        assert topics.is_settled(name) is (is_settled and session.ready)
    check_retries(topics, session.state.deadlines, retries=retries)


def check_retries(topics: Topics, deadlines: Deadlines, *, retries: bool) -> None:
    """What was refused for now is asked for again, and so is what gets no answer."""
    assert topics._retry_at is not None or not retries, "nobody would ask again"
    waiting = [one.answer_by for one in topics._topics.values() if one.open_questions]
    if waiting:
        assert topics._look_at is not None, "nobody would give up waiting"
        assert topics._look_at <= min(waiting)
    check_scheduled(topics, deadlines)


def check_subscriptions(session: ClientSession) -> None:
    subscriptions = session.subscriptions
    for key in subscriptions.keys:
        assert subscriptions.mailboxes(key)
        for mailbox in subscriptions.mailboxes(key):
            assert mailbox.key == key
            assert not mailbox.is_over
            check_mailbox(mailbox, session)
    if subscriptions._direct is not None:
        check_mailbox(subscriptions._direct, session)


def check_members(session: ClientSession) -> None:
    """What is known of others is of topics that the program observes."""
    members = session.members
    for topic in members._known:
        assert any(mailbox.observer for mailbox in session.subscriptions.mailboxes(topic))


def check_mailbox(mailbox: Mailbox, session: ClientSession) -> None:
    limits = session.config.limits
    assert mailbox.size == sum(message.size + MESSAGE for message in mailbox._messages)
    assert len(mailbox) <= limits.mailbox_messages
    assert mailbox.size <= limits.mailbox_bytes or len(mailbox) == 1


# -- either end ---------------------------------------------------------------------------


def check_reading(end: WebSocketConnection | ClientLink, *, is_read: bool) -> None:
    """The core knows whether its driver reads, which decides what silence means."""
    assert end._socket._keepalive._paused is not is_read
    assert is_read or end.output is Output.KEEP, "the peer's end of file is wanted"
