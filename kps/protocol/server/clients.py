"""The clients of a server, as its program and its figures show them."""

from collections.abc import Callable
from typing import Any, cast

from kps.errors import InvalidArgument
from kps.protocol.bus.subscriber import AWAY, CLOSED, LOST, Departure, Subscriber
from kps.protocol.calls import verb
from kps.protocol.dialect.codes import DISMISSED
from kps.protocol.limits import shown
from kps.protocol.patterns import Key, group_of, scope_of
from kps.protocol.server.events import ConnectedClient, Unsubscribed
from kps.protocol.server.ports import Client
from kps.protocol.server.state import ServerState
from kps.protocol.wire.websocket import Closed, ClosedBy

# Close codes by which a client says that it leaves: a page that is only loaded again says 1001.
_GOODBYES = (1000, 1005)


def departure(closed: Closed | None) -> Departure:
    """Return why the subscriptions of a client end whose connection has ended."""
    if closed is None or closed.by is ClosedBy.LOST or closed.by is ClosedBy.FAULT:
        return LOST
    is_goodbye = closed.by is ClosedBy.PEER and closed.code in _GOODBYES
    return CLOSED if is_goodbye or closed.code == DISMISSED else AWAY


def describe(client: Client, now: float) -> ConnectedClient:
    """Describe a client to the program of the server."""
    return ConnectedClient(
        client.id,
        client.owner_name,
        client.peer,
        client.dialect.level,
        age=round(now - client.since, 3),
        topics=len(client.topics),
    )


def figures(client: Client, now: float) -> dict[str, Any]:
    """Return the entry of a client in the server's figures (spec, 12.8)."""
    transport = client.transport
    return {
        "id": client.id,
        "identity": client.owner_name,
        "address": client.peer,
        "level": client.dialect.level,
        "age": round(now - client.since, 3),
        "topics": len(client.topics),
        "queue_messages": transport.queued_messages,
        "queue_bytes": transport.queued_bytes,
        "dropped": transport.dropped,
        "received": client.received,
        "delivered": client.delivered,
    }


class Clients:
    """The registered clients, for the program of the server."""

    def __init__(self, state: ServerState) -> None:
        self.calls = state.calls
        self._state = state
        if state.config.tells_unsubscribe:
            state.bus.on_leave.append(self._left)

    def all(self, now: float) -> list[ConnectedClient]:
        """Describe all of them."""
        return [describe(client, now) for client in self._state.clients.values()]

    @verb
    def dismiss(
        self, client_id: object, reason: str, now: float, done: Callable[[bool], object]
    ) -> None:
        """End the connection of a client for good, in a cluster on any node.

        Call ``done``, at once or later, with whether somebody had the id. Raises
        :class:`kps.InvalidArgument` for what is no id.
        """
        if not isinstance(client_id, str):
            raise InvalidArgument(f"an id is a text, not {shown(client_id)}")
        state = self._state
        state.now = now
        if self.dismiss_here(client_id, reason):
            done(True)
        elif state.dismissal is None:
            done(False)
        else:
            state.dismissal.ask(client_id, reason, done)

    def dismiss_here(self, client_id: str, reason: str) -> bool:
        """Do so on this node only; return ``False`` if nobody has the id here."""
        client = self._state.clients.get(client_id)
        if client is None:
            return False
        client.transport.close(DISMISSED, reason)
        return True

    def _left(self, subscriber: Subscriber, key: Key) -> None:
        """Tell the program that a subscription has ended, unless it is its own."""
        state = self._state
        if subscriber.id != state.config.id:
            client = describe(cast("Client", subscriber), state.now)
            reason = subscriber.departure.reason
            state.emit(Unsubscribed(client, scope_of(key), reason, group_of(key)))
