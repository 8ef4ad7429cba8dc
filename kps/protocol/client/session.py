"""The session of a client: the verbs of its driver and its program."""

from collections.abc import Callable
from typing import Any

from kps.errors import ConnectFailed, InvalidState
from kps.protocol.bus.given import LONGEST_ADDRESS, check_id, check_key, check_text, check_topic
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.members import PresenceCallback
from kps.protocol.bus.message import Message
from kps.protocol.bus.subscriptions import Subscriptions
from kps.protocol.calls import entry, patient, verb
from kps.protocol.client.asking import Asking
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.connecting import Connecting
from kps.protocol.client.events import ClientEvent, Ended
from kps.protocol.client.flow import Flow
from kps.protocol.client.link import ClientLink
from kps.protocol.client.past import PastRequests
from kps.protocol.client.presence import MembersOfTopics
from kps.protocol.client.receive import Receiver
from kps.protocol.client.sender import Sender
from kps.protocol.client.state import ClientState
from kps.protocol.client.topics import Topics
from kps.protocol.dialect import level1
from kps.protocol.dialect.envelope import check_finite, compose, embedded, encode
from kps.protocol.dialect.places import Start
from kps.protocol.dialect.requests import NO_WISH, PresenceWish
from kps.protocol.limits import check_switch
from kps.protocol.patterns import InGroup, Key


class ClientSession:
    """One client. The driver opens a transport on ``ConnectNeeded``, and gets a link for it.

    ``entropy(n)`` returns ``n`` unpredictable bytes, ``chance()`` a number in [0, 1).
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        entropy: Callable[[int], bytes],
        chance: Callable[[], float],
        now: float,
    ) -> None:
        self.config = config
        self.state = state = ClientState(config, now)
        self.calls = state.calls
        self.on_resume: Callable[[], None] = _nothing
        """Called when paused reading may resume."""
        self.flow = Flow(
            state.deadlines,
            config.limits.mailbox_patience,
            now=lambda: state.now,
            asks=lambda: len(asking.pending) > 0 or self.subscriptions.are_awaited,
            resume=lambda: self.on_resume(),
        )
        self.sender = sender = Sender(state)
        """Sends its messages, or keeps them offline."""
        self.asking = asking = Asking(state, sender)
        """The program's questions to the server."""
        self.past = past = PastRequests(state, sender, asking)
        """Its requests for messages of the past."""
        # The receiver and the subscriptions call each other: the lambdas close the circle.
        self.subscriptions = subscriptions = Subscriptions(
            config.limits,
            lambda settled: receiver.answer(settled),
            self.flow.crowded,
        )
        self.members = members = MembersOfTopics(state, sender, asking, subscriptions.is_observed)
        """Who is subscribed to topics."""
        self.topics = topics = Topics(state, chance, subscriptions.is_observed)
        self._connecting = connecting = Connecting(
            state,
            sender,
            asking,
            topics,
            self.flow,
            entropy=entropy,
            chance=chance,
            receive=lambda link, messages: receiver.receive(link, messages),
        )
        receiver = Receiver(
            state,
            sender,
            asking,
            past,
            members,
            topics,
            subscriptions,
            registered=connecting.registered,
            refused=connecting.refused,
        )

    # -- called by a driver -----------------------------------------------------------------

    @property
    def id(self) -> str:
        """The registered id; before registration the id that the client will ask for."""
        return self.state.id

    @property
    def level(self) -> int:
        """The level of the protocol on the current connection."""
        return self.sender.dialect.level

    @property
    def ready(self) -> bool:
        """Whether the client is registered and not closing."""
        return self.state.ready

    @property
    def ended(self) -> Ended | None:
        """How the client ended, once it has."""
        return self.state.ended

    @property
    def max_message(self) -> int | None:
        """Bytes of the largest message that the server accepts, if it has said so."""
        link = self.state.link
        return link.outgoing.max_message if link is not None else None

    @property
    def dropped(self) -> int:
        """Messages accepted from the program and never written."""
        link = self.state.link
        return self.state.dropped + (link.dropped if link is not None else 0)

    @property
    def backlog(self) -> int:
        """Bytes that are pending."""
        return self.sender.backlog

    def renew_token(self) -> None:
        """Call the program's function for the token of the next connection, if it gave one.

        The driver calls this on ``ConnectNeeded``, before it opens a transport, and without its
        lock, because the function may be slow. Raises ``ConnectFailed``.
        """
        self._connecting.renew_token()

    @entry
    def connected(self, now: float) -> ClientLink:
        """Return the link for a new transport, in answer to ``ConnectNeeded``."""
        self.state.now = now
        return self._connecting.connected()

    @entry
    def connect_failed(self, reason: str, now: float) -> None:
        """Note that the driver could not open a transport, in answer to ``ConnectNeeded``."""
        self.state.now = now
        self._connecting.attempt_failed(ConnectFailed(reason))

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, or ``None``."""
        return self.state.deadlines.next_deadline()

    @entry
    def handle_timeout(self, now: float) -> None:
        """Do everything that is due."""
        self.state.now = now
        self.state.deadlines.handle_timeout(now)

    def events(self) -> list[ClientEvent]:
        """Return the events since the last call."""
        events, self.state.events = self.state.events, []
        return events

    # -- called by the program, through the driver ------------------------------------------

    @verb
    def subscribe(
        self,
        key: Key,
        now: float,
        start: Start | None = None,
        wish: PresenceWish = NO_WISH,
        observer: PresenceCallback | None = None,
        concurrency: int = 1,
    ) -> Mailbox:
        """Subscribe to a topic or pattern; ``start`` tells with which messages of the past.

        ``wish`` tells what the subscription has to do with presence. ``PresenceChanged`` is for the
        ``observer`` of each mailbox of the topic.

        ``SubscriptionConfirmed`` or ``SubscriptionRefused`` tells the outcome. Without a connection
        the client subscribes on the next one.
        """
        self.state.now = now
        check_key(key, self.config.limits)
        self.state.require_life()
        if isinstance(key, InGroup) and self.subscriptions.mailboxes(key):
            raise InvalidState(f"this client is a member of the group {str(key)!r} already")
        extra = self.topics.want(key, start, wish, concurrency)
        mailbox = self.subscriptions.add(key)
        mailbox.observer = observer
        if extra is not None:
            extra.asker = mailbox
        return mailbox

    @patient
    def unsubscribe(self, mailbox: Mailbox, now: float) -> None:
        """End one subscription. May be called twice."""
        self.state.now = now
        key, observed = mailbox.key, mailbox.observer is not None and not mailbox.is_over
        is_member = isinstance(key, InGroup) and not mailbox.is_over
        if is_member:
            self.topics.leave(key)  # first, so that it gets nothing back that it returns
        if self.subscriptions.remove(mailbox):
            if not is_member:
                self.topics.leave(key)
        elif observed and not self.subscriptions.is_observed(key):
            self.topics.ignore_members(key)
        self.members.forget_unobserved(key)

    def is_confirmed(self, key: Key) -> bool:
        """Tell whether the server has answered all questions about a topic or pattern."""
        return self.topics.is_settled(key)

    @patient
    def settle(self, message: Message, error: str | None, now: float, result: Any = None) -> None:
        """Note that a subscription has handled a message, with an error or a result.

        The publisher gets the result on level 2.
        """
        self.state.now = now
        self.subscriptions.settle(message, error, result)

    def publish(self, topic: object, data: Any, now: float) -> int:
        """Publish; return the bytes that are then pending.

        Raises ``InvalidArgument`` (also ``MessageTooLarge``), ``NotConnected`` (also
        ``ClientClosed``), ``QueueFull``.
        """
        if self.calls.is_under_way:
            return self._publish_soon(check_topic(topic, self.config.limits), compose(data))
        state = self.state
        if state.batching is None:
            topic = check_topic(topic, self.config.limits)
            self.sender.send_in_order(level1.publish(topic, state.id, data), now)
            return self.sender.backlog
        try:  # as ``compose`` does, whose call would be a tenth of the cost of publishing
            payload = encode(data)
        except TypeError:
            payload = compose(data)  # raises
        if type(data) is not str and payload.rpartition(b"null")[1]:
            check_finite(data)
        size = len(payload)
        # Nothing is called from here on, so no signal handler comes in before all is noted.
        outgoing = state.batching
        batch = None if outgoing is None else outgoing.batch
        if batch is not None and batch.topic == topic and outgoing.batch is batch:
            size += batch.size + batch.more
            if size <= batch.limit:
                gathered = batch.gathered
                gathered += batch.between
                gathered += payload
                batch.count += 1
                batch.size = size
                return batch.ahead + size
        return self._begin_batch(topic, payload, now)

    def publish_to_id(self, client_id: object, data: Any, now: float, headers: bytes = b"") -> None:
        """Send a direct message. Raises as ``publish``, and ``Unsupported`` for headers."""
        receiver = check_id(client_id, self.config.limits)
        more = self.sender.headers_field(headers)
        message = level1.direct_message(receiver, self.state.id, data, more)
        self.sender.send_in_order(message, now)

    def publish_to_server(self, address: object, data: Any, secure: object, now: float) -> None:
        """Ask the server to send a message to another server. Raises as ``publish`` does."""
        other = check_text("an address", address, LONGEST_ADDRESS)
        is_secure = check_switch("secure", secure)
        message = level1.publish_to_server(other, self.state.id, data, is_secure)
        self.sender.send_in_order(message, now)

    @verb
    def send_to_server(self, to: str, proxied: str, origin: str, data: Any, now: float) -> None:
        """Send a message as a server to another server. Raises as ``publish`` does."""
        self.state.now = now
        self.sender.send_or_refuse(level1.server_to_server(to, proxied, origin, data))

    @patient
    def close(self, now: float, timeout: float | None = None) -> None:
        """Close for good, behind the queued data. Pending questions end at once.

        What is not written after ``timeout`` seconds (by default the limits' ``close_timeout``)
        is dropped. Another call can only shorten that.
        """
        self.state.now = now
        self._connecting.close(timeout)

    # -- within -----------------------------------------------------------------------------

    @entry
    def _begin_batch(self, topic: object, payload: bytes, now: float) -> int:
        """Publish as the first of a batch."""
        self.state.now = now
        outgoing = self.state.batching
        if outgoing is None:  # a signal handler has closed the client meanwhile
            return self.publish(topic, embedded(payload), now)
        return outgoing.publish(topic, payload)

    def _publish_soon(self, topic: str, payload: bytes) -> int:
        """Publish after the call that is under way."""

        def publish() -> None:
            outgoing = self.state.batching
            if outgoing is not None:
                outgoing.publish(topic, payload)
            else:
                message = level1.publish(topic, self.state.id, embedded(payload))
                self.sender.send_or_keep(message)

        self.sender.send_soon(publish)
        return 0  # the caller must not wait for room


def _nothing() -> None:
    """Do nothing: the default, for a driver that polls ``wants_pause``."""
