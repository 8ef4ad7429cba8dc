"""Ack requests whose receivers are on several nodes."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Protocol

from kps.protocol import cost
from kps.protocol.bus import ack_figures
from kps.protocol.bus.ack_request import NO_ROOM, AckRequest, Addressee, RemoteClient
from kps.protocol.bus.acks import AckBook
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.cluster.asker import FiguresOfOthers
from kps.protocol.cluster.tasks import ClusterTaskBook
from kps.protocol.dialect.outcome import Json


class Passes(Protocol):
    """Passes answers of members on to the homes of their groups."""

    def answer(
        self,
        receiver: Addressee,
        ack_id: str,
        error: str | None,
        result: Json | None,
        has_begun: bool,
    ) -> bool:
        """Pass on what became of a task; return ``False`` if it is not of a home elsewhere."""

    def gone(self, subscriber: Subscriber) -> None:
        """Tell those homes that a subscriber is gone."""


class ClusterAckBook(AckBook):
    """Pending ack requests.

    A request that goes to another node awaits that node, until the node tells whom it has asked.
    Then the request awaits those.
    """

    _new_task_book = ClusterTaskBook
    members: Passes
    ended: Callable[[AckRequest], object]
    """Told of each request that has ended."""

    @cached_property
    def of_others(self) -> FiguresOfOthers:
        """The figures of requests whose publishers are on other nodes."""
        return FiguresOfOthers()

    @property
    def awaited(self) -> int:
        """Answers that are pending, of all requests together."""
        return self.figures.awaited + self.of_others.awaited

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
        """Record an answer, or pass it on to the home of the group that has given out the task."""
        if not self.members.answer(subscriber, ack_id, error, result, has_begun):
            super().answer(
                subscriber, ack_id, error, result, size, has_begun=has_begun, ends_as=ends_as
            )

    def drop_subscriber(self, subscriber: Subscriber) -> None:
        """Record ``disconnected`` for a subscriber that is gone."""
        super().drop_subscriber(subscriber)
        self.members.gone(subscriber)

    def pending(self, ack_id: str) -> AckRequest | None:
        """Return a pending request by this server's id of it."""
        return self._by_id.get(ack_id)

    def replace(self, request: AckRequest, node: Addressee, clients: Iterable[Addressee]) -> None:
        """Await others in place of a node, or of a client that has moved."""
        if node not in request.awaited:
            return
        others = [
            one
            for one in dict.fromkeys(clients)
            if one not in request.awaited and one.id not in request.responses
        ]
        limits = self._limits
        size = sum(cost.ADDRESSED + cost.of_text(one.id) for one in others)
        has_room = self.awaited + len(others) <= limits.max_awaited_acks
        if not has_room or self._cost + size > limits.max_ack_bytes:
            request.figures.note(ack_figures.NO_ROOM)
            self._record(request, node, NO_ROOM)
            return
        request.cost += size
        self._cost += size
        request.figures.awaited += len(others)
        request.figures.asked += len(others) - 1
        for one in others:
            request.awaited[one] = one.id
            self._by_subscriber.setdefault(one, {})[request] = None
        self._await_no_more(request, node)
        self.close(request)

    def drop_node(self, node: Subscriber) -> None:
        """Record ``disconnected`` for a node that is gone, and for its clients."""
        self.drop_subscriber(node)
        self._slices.begin(partial(self._disconnect_clients, node))

    def _disconnect_clients(self, node: Subscriber) -> Iterator[int]:
        for addressee in list(self._by_subscriber):
            if isinstance(addressee, RemoteClient) and addressee.node is node:
                yield from self._disconnect(addressee)
            yield 1

    def _forget(self, request: AckRequest) -> None:
        super()._forget(request)
        self.ended(request)

    def _await_no_more(self, request: AckRequest, addressee: Addressee) -> None:
        del request.awaited[addressee]
        request.figures.awaited -= 1
        of_addressee = self._by_subscriber[addressee]
        del of_addressee[request]
        if not of_addressee:
            del self._by_subscriber[addressee]
