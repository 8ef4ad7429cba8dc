"""What must hold of the core at any moment, whatever has happened.

Here, and nowhere else in the harnesses, is known how the core keeps its books.
"""

from collections import Counter
from typing import Any

from kps.protocol.bus.acks import AckBook, AckRequest
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.topics import Subscriber
from kps.protocol.client.session import ClientSession
from kps.protocol.server.hub import Hub
from kps.protocol.server.session import ServerSession
from kps.protocol.timers import Deadlines, Timed
from kps.protocol.wire.outbox import Droppable, Frames, Outbox
from kps.protocol.wire.websocket import State, WebSocket


def check_outbox(outbox: Outbox) -> None:
    """What is counted is what waits."""
    frames = list(outbox._all())
    assert outbox.pending_bytes == sum(map(len, frames))
    assert outbox.pending_frames == sum(
        frame.frames if isinstance(frame, Frames) else 1 for frame in frames
    )
    assert outbox.pending_answers == sum(
        len(frame) for frame in frames if not isinstance(frame, Droppable)
    )
    assert outbox.dropped >= 0


def check_websocket(connection: WebSocket) -> None:
    check_outbox(connection.outbox)
    gathered = connection._gathered
    assert connection._gathered_size == sum(len(message) + 1 for message in gathered)
    assert connection.pending_bytes == connection.outbox.pending_bytes + connection._gathered_size
    # A connection that has ended holds on to nothing that came.
    if connection.state in (State.DRAINING, State.CLOSED):
        assert connection.closed is not None
        assert (connection._buffer, bytes(connection._fragments)) == (b"", b"")
    if connection.state is State.CLOSED:
        assert connection.pending_bytes == 0


def check_deadlines(deadlines: Deadlines, now: float) -> None:
    """Nothing is overdue, and whatever has a deadline is looked at by then."""
    in_heap = {(when, item) for when, _, item in deadlines._heap}
    for item, scheduled in deadlines._scheduled.items():
        due = item.next_deadline()
        assert due is None or scheduled <= due, f"{item!r} comes too late"
        assert (scheduled, item) in in_heap


def check_nothing_due(when: float | None, now: float) -> None:
    assert when is None or when > now, f"{now - (when or 0)} seconds overdue"


# -- the server ---------------------------------------------------------------------------


def check_hub(hub: Hub) -> None:
    """The tables of a hub fit together."""
    check_deadlines(hub.state.deadlines, hub.state.now)
    sessions = list(hub.state.connections.values())
    for session in sessions:
        check_server_session(hub, session)
    for client_id, session in hub.clients.items():
        assert session in sessions
        assert session.id == client_id != ""
        assert not session._left
    check_bus(hub)
    check_acks(hub, hub.state.acks)
    origins = Counter(session._origin for session in sessions if session._origin is not None)
    assert hub.state.admission._by_origin == origins
    owned = {one: name for name, ids in hub.state.owners._ids.items() for one in ids}
    assert hub.state.owners._owner == owned
    assert sum(session.closed is None for session in sessions) <= hub.limits.max_connections
    waiting: list[Timed] = [*sessions, *hub.state.acks._by_id.values()]
    for item in waiting:
        assert item.next_deadline() is None or item in hub.state.deadlines._scheduled, item


def check_server_session(hub: Hub, session: ServerSession) -> None:
    connection = session._connection
    check_websocket(connection)
    assert session._run is None, "publications wait that nobody will pass on"
    has_ended = connection.closed is not None
    # Who was turned away at once has had no part in the bus to leave.
    assert session._left is has_ended or (has_ended and not session.id)
    if has_ended:
        assert session.topics == set()
        assert hub.clients.get(session.id) is not session
    else:
        assert session.level in (1, hub.config.level)
        assert session.identity is not None or not session.id
        assert not session.id or hub.clients[session.id] is session


def check_bus(hub: Hub) -> None:
    members: list[Subscriber] = [*hub.state.connections.values(), hub.local]
    subscribed = Counter(topic for member in members for topic in member.topics)
    assert len(hub.state.bus) == len(subscribed)
    for topic, count in subscribed.items():
        subscribers = hub.state.bus.subscribers(topic)
        assert len(subscribers) == count
        assert all(topic in subscriber.topics for subscriber in subscribers)


def check_acks(hub: Hub, acks: AckBook) -> None:
    """Each open request waits for somebody who is there, for somebody who is there."""
    by_owner: dict[Any, dict[str, AckRequest]] = {}
    by_subscriber: dict[Any, set[AckRequest]] = {}
    for ack_id, request in acks._by_id.items():
        assert request.id == ack_id
        assert request.awaited, "a request that waits for nobody"
        assert request.deadline is not None
        assert request.told <= len(request.responses)
        assert not set(request.responses) & set(request.missing())
        by_owner.setdefault(request.owner, {})[request.owner_ack_id] = request
        for subscriber in request.awaited:
            by_subscriber.setdefault(subscriber, set()).add(request)
    assert acks._by_owner == by_owner
    assert acks._awaited == sum(len(request.awaited) for request in acks._by_id.values())
    assert {one: set(requests) for one, requests in acks._by_subscriber.items()} == by_subscriber
    for member in [*by_owner, *by_subscriber]:
        if isinstance(member, ServerSession):
            assert not member._left


def check_hub_is_empty(hub: Hub) -> None:
    """Everyone has left, and nothing is left of them."""
    assert (hub.clients, hub.state.connections, hub.take_unflushed()) == ({}, {}, [])
    assert (len(hub.state.bus), len(hub.state.acks), hub.state.admission._by_origin) == (0, 0, {})
    assert (hub.state.acks._by_owner, hub.state.acks._by_subscriber) == ({}, {})
    mine = [item for item in hub.state.deadlines._scheduled if item is not hub.monitor]
    assert mine == []


# -- the client ---------------------------------------------------------------------------


def check_client(session: ClientSession, now: float) -> None:
    """The tables of a client session fit together."""
    check_deadlines(session.state.deadlines, now)
    link = session.state.link
    if link is not None:
        check_websocket(link._connection)
        assert link.next_deadline() is None or link in session.state.deadlines._scheduled
    for ack_id, handle in session.asking.pending.items():
        assert handle.id == ack_id
        assert not handle.finished
        assert handle in session.state.deadlines._scheduled
    for barrier in [*session._barriers, *session._receipts.values()]:
        assert not barrier.passed
        assert barrier.error is None
    assert session._offline_size == sum(map(len, session._offline))
    assert len(session._offline) <= session.config.offline_messages
    assert session._offline_size <= session.config.offline_bytes
    assert all(count > 0 for count in session._unconfirmed.values())
    if link is None or not link.registered:
        assert not session.asking.pending
        assert not session._barriers
        assert not session._receipts
        assert not session._unconfirmed
    if session.ended is not None:
        assert link is None
        assert not session._offline
        assert session._retry_at is None
    if session.flow.is_paused:
        assert session.flow in session.state.deadlines._scheduled, "reading would never go on"
    subscriptions = session.subscriptions
    for topic in subscriptions.topics:
        assert subscriptions.count(topic) > 0
        for mailbox in subscriptions.mailboxes(topic):
            assert not mailbox.closed
            check_mailbox(mailbox, session)


def check_mailbox(mailbox: Mailbox, session: ClientSession) -> None:
    limits = session.config.limits
    assert mailbox.size == sum(message.size for message in mailbox._messages)
    assert len(mailbox) <= limits.mailbox_messages
    assert mailbox.size <= limits.mailbox_bytes or len(mailbox) == 1
