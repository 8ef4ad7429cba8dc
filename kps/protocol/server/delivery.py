"""Delivers messages to their receivers, from a client, this server's program or another server."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from kps.protocol.bus.ack_request import AckOwner, AckRequest, Keeper, Work
from kps.protocol.bus.groups import Group
from kps.protocol.bus.logs import LogBook
from kps.protocol.bus.publication import CountedPublication, Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.dialect.envelope import Fields, write
from kps.protocol.dialect.requests import Ask, Demands
from kps.protocol.patterns import InGroup, Key
from kps.protocol.server.events import DirectMessageIgnored
from kps.protocol.server.local import LocalProgram
from kps.protocol.server.state import ServerState

# Units of work (see ``turns``): for each subscriber of which an ack is asked.
_ASKED = 5
_TASK = 20
_WEIGHED = 8  # members of groups, of which a key is for one, for one unit


Ready = Callable[[Sequence[str]], object]
"""Is called when a subscription is live, with the nodes of a cluster that may not know of it."""


class Direct(NamedTuple):
    """A direct message that wants no ack."""

    sender: str
    data: bytes
    """The payload, as JSON."""
    headers: bytes = b""
    """Texts beside the payload, as the JSON of an object; empty for none."""


class Refusal(NamedTuple):
    """To whom a direct message is refused if nobody has the id."""

    number: int
    """The number of the session."""
    request: Fields
    """The request, as far as a refusal names it."""


IGNORED = Refusal(0, {})
"""To nobody."""


def direct_publication(request: AckRequest, sender: str, ask: Ask) -> Publication:
    """Return the direct message of an ack request."""
    number = request.id.rpartition("_")[2]
    topic = f"__direct_{ask.target}_{number}"
    publication = Publication(topic, sender, ask.data, ack_id=request.id, is_direct=True)
    publication.headers = ask.headers
    return publication


class Delivery:
    """Delivers messages to clients and to the server's own program."""

    def __init__(self, state: ServerState, local: LocalProgram) -> None:
        self._state = state
        self._local = local

    def subscribe(
        self,
        subscriber: Subscriber,
        key: Key,
        ready: Ready,
        concurrency: int = 1,
    ) -> None:
        """Make a subscription; call ``ready`` once it is live, which is at once."""
        bus = self._state.bus
        bus.ask(subscriber, key)
        bus.subscribe(subscriber, key, concurrency)
        ready(())

    def publish(self, publication: Publication) -> int:
        """Deliver a publication; return how many subscribers had room for its last message."""
        state = self._state
        if state.logs is not None and not publication.offset:
            self._keep(state.logs, publication)
        reached = state.bus.publish(publication)
        messages = publication.count
        state.turns.left -= reached + messages
        if state.bus.routes.searched:
            state.charge_search()
        stats = state.stats
        stats.published += messages
        stats.delivered += reached * messages + publication.partial
        return reached

    def publish_counted(self, publication: CountedPublication, tell: Callable[[int], None]) -> None:
        """Deliver a publication; ``tell`` how many subscribers had room for its last message."""
        tell(self.publish(publication))

    def send_direct(self, client_id: str, direct: Direct, refuse: Refusal = IGNORED) -> bool:
        """Deliver a direct message.

        Return ``False`` if nobody has that id. If that becomes known later, the message is refused
        as ``refuse`` says.
        """
        state = self._state
        if client_id == state.config.id:
            if not self._local.take_direct(direct.sender, direct.data, direct.headers):
                state.emit(DirectMessageIgnored(direct.sender))
            return True
        client = state.clients.get(client_id)
        if client is None:
            return False
        client.send_direct(direct.sender, direct.data, direct.headers)
        return True

    def ask_topic(
        self, owner: AckOwner, sender: str, ask: Ask, keeper: Keeper | None = None
    ) -> None:
        """Publish with acks. A ``keeper`` gets the outcomes too.

        Raises ``DuplicateAckId`` and :class:`kps.QueueFull`, and then has done nothing.
        """
        subscribers, found = self._state.bus.receivers(ask.target)
        request = self._open_for_topic(owner, sender, ask, keeper, subscribers, found)
        publication = Publication(ask.target, sender, ask.data, ack_id=request.id)
        publication.headers = ask.headers
        if self._state.logs is not None:
            self._keep(self._state.logs, publication)
        self._ask_subscribers(publication)
        self._ask_groups(request, found, ask.demands)

    def _open_for_topic(
        self,
        owner: AckOwner,
        sender: str,
        ask: Ask,
        keeper: Keeper | None,
        subscribers: Sequence[Subscriber],
        found: Sequence[Group],
    ) -> AckRequest:
        """Open a request that awaits subscribers of a topic, and groups, found or demanded."""
        state, demands = self._state, ask.demands
        groups = [group.key for group in found]
        if state.bus.routes.searched:
            state.charge_search()
        absent: list[str] = []
        if demands.expected:
            ids = {subscriber.id for subscriber in subscribers if subscriber.answers}
            absent = [one for one in dict.fromkeys(demands.expected) if one not in ids]
        if demands.groups:
            there = {key.group for key in groups}
            groups += [
                InGroup(ask.target, one)
                for one in dict.fromkeys(demands.groups)
                if one not in there
            ]
        work = None
        if groups:
            how = demands.message_key, demands.retries, ask.headers
            work = Work(groups, ask.target, sender, ask.data, *how)
        request = self.open_request(owner, ask, subscribers, keeper, absent, work)
        request.presence = state.presence.version(ask.target)
        if absent:
            state.turns.left -= len(absent)
            self._note_absent(request, absent)
        state.turns.left -= _ASKED * (1 + len(request.awaited))
        return request

    def _ask_subscribers(self, publication: Publication) -> None:
        state = self._state
        state.stats.published += 1
        state.stats.delivered += state.bus.publish(publication)

    def _ask_groups(self, request: AckRequest, found: Sequence[Group], demands: Demands) -> None:
        """Give a request to groups; end it if it awaits nobody."""
        state = self._state
        if request.tasks:
            weighed = sum(len(group.members) for group in found) if demands.message_key else 0
            state.turns.left -= _TASK * len(request.tasks) + weighed // _WEIGHED
            state.acks.tasks.begin(request)
        state.acks.close(request)

    def _note_absent(self, request: AckRequest, ids: list[str]) -> None:
        self._state.acks.note_absent(request, ids)

    def ask_id(self, owner: AckOwner, sender: str, ask: Ask, keeper: Keeper | None = None) -> None:
        """Send a direct message with ack. Raises the same as ``ask_topic``."""
        state = self._state
        is_local = ask.target == state.config.id
        target = self._local if is_local else state.clients.get(ask.target)
        if target is not None and not target.answers:
            target = None
        request = self.open_request(owner, ask, [target] if target is not None else [], keeper)
        state.turns.left -= _ASKED
        if target is not None:
            target.deliver_direct(direct_publication(request, sender, ask))
        state.acks.close(request)

    def receive_server_data(self, topic: str, data: Any, sender: str) -> None:
        """Deliver a message of another server: to ``topic``, if any, and to the program."""
        if topic:
            self.publish(Publication(topic, sender, write(data.get("data"))))
        self._local.take_server_data(sender, data)  # which copies the payload

    def _keep(self, logs: LogBook, publication: Publication) -> None:
        state = self._state
        logs.keep(publication, state.now)
        if logs.work:
            state.turns.left -= logs.take_work()

    def open_request(
        self,
        owner: AckOwner,
        ask: Ask,
        receivers: Iterable[Subscriber],
        keeper: Keeper | None,
        absent: Sequence[str] = (),
        work: Work | None = None,
    ) -> AckRequest:
        """Open an ack request of a client that awaits some receivers. Raises as ``ask_topic``."""
        limits = self._state.limits
        seconds = limits.ack_timeout if ask.timeout is None else ask.timeout
        request = self._state.acks.open(
            owner,
            ask.ack_id,
            receivers,
            tells_timeouts=ask.timeout is not None,
            wants_updates=ask.wants_updates,
            absent=absent,
            work=work,
            keeper=keeper,
            deadline=self._state.now + min(seconds, limits.max_ack_timeout),
        )
        request.is_degraded = self._state.is_degraded
        return request
