"""The subscriptions of a program, at either end.

The client uses this for all its subscriptions, the server for those of its own program. It
routes messages by topic to the bounded mailbox of each subscription, and gives one answer for
a message that several subscriptions got.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kps.errors import InvalidArgument, KPSError
from kps.protocol.bus.mailbox import CROWDED, Mailbox
from kps.protocol.bus.matching import PatternTable
from kps.protocol.bus.members import PresenceCallback
from kps.protocol.bus.message import (
    QUEUE_FULL,
    UNSUBSCRIBED,
    Acknowledgement,
    Message,
    NotBegun,
    make_messages,
    place_messages,
    put_headers,
)
from kps.protocol.dialect.places import LARGEST, Position, Start
from kps.protocol.dialect.requests import NO_WISH, PresenceWish
from kps.protocol.limits import ProgramLimits, shown
from kps.protocol.patterns import InGroup, Key, Scope


class Errand(NamedTuple):
    """How a message came to a member of a group."""

    ack_id: str
    """The server's id of the request, if it wants an ack."""
    epoch: int
    """Number of the connection that brought it."""
    attempt: int
    """How many members have been asked with this one."""
    headers: Mapping[str, str] | None = None


class Wanted(NamedTuple):
    """What a program wants of a subscription, besides new messages."""

    start: Start | None = None
    """Messages of the past."""
    wish: PresenceWish = NO_WISH
    """What it has to do with presence."""
    observer: PresenceCallback | None = None
    """The callback for presence."""
    concurrency: int = 1
    """How many messages with ack a member of a group takes at a time."""


def check_concurrency(concurrency: object) -> int:
    """Return how many messages with ack a program takes at a time.

    Raises :class:`kps.InvalidArgument`.
    """
    if type(concurrency) is not int or not 1 <= concurrency <= LARGEST:
        raise InvalidArgument(
            f"concurrency is a number of messages from 1, not {shown(concurrency)}"
        )
    return concurrency


def check_group(scope: Scope, group: object, wanted: Wanted) -> Key:
    """Return what a program subscribes to. Raises :class:`kps.InvalidArgument`."""
    if group == "" and isinstance(group, str):
        if wanted.concurrency > 1:
            raise InvalidArgument("concurrency is for a member of a group")
        return scope
    if not isinstance(group, str):
        raise InvalidArgument(f"group is the name of a group, not {shown(group)}")
    if wanted.start is not None or wanted.wish != NO_WISH:
        raise InvalidArgument("a group has neither a past nor presence")
    return InGroup(scope, group)


# Topics whose subscriptions are remembered, and characters of such a topic.
_MOST_ROUTES = 4096
_LONGEST_ROUTE = 1024


class Subscriptions:
    """All subscriptions of one program, and the acks that are due for their messages.

    ``answer`` is called with an :class:`Acknowledgement` once all subscriptions have handled
    its message; ``crowded`` is called with a mailbox that a new message has filled above its
    high-water mark.
    """

    def __init__(
        self,
        limits: ProgramLimits,
        answer: Callable[[Acknowledgement], None],
        crowded: Callable[[Mailbox], None] | None = None,
    ) -> None:
        self._limits = limits
        self._answer = answer
        self._crowded = crowded
        self._by_topic: dict[str, list[Mailbox]] = {}
        self._by_group: dict[InGroup, list[Mailbox]] = {}
        self._by_pattern: PatternTable[list[Mailbox]] | None = None  # unless there are any
        self._routes: dict[str, list[Mailbox]] = {}  # by topic, while there are patterns
        self.ready: list[Mailbox] = []
        """Mailboxes that were empty and got a message."""
        self.overflowed: list[Mailbox] = []
        """Mailboxes that began to drop messages."""
        self.dropped = 0
        """Messages that full mailboxes have dropped so far."""
        self._direct: Mailbox | None = None
        self._server_data: list[Mailbox] = []

    @property
    def keys(self) -> list[Key]:
        """All topics and patterns."""
        patterns = self._by_pattern
        return [*self._by_topic, *self._by_group, *(() if patterns is None else patterns.keys())]

    def mailboxes(self, key: Key) -> list[Mailbox]:
        """Return the subscriptions to one topic or pattern."""
        return list(self._of(key) or ())

    def of_scope(self, scope: Scope) -> list[Mailbox]:
        """Return the subscriptions to a topic or pattern, as a member of groups too."""
        in_groups = [key for key in self._by_group if key.scope == scope]
        return [one for key in (scope, *in_groups) for one in self.mailboxes(key)]

    def count(self, topic: str) -> int:
        """Return how many subscriptions have a topic, patterns included."""
        return len(self._receivers(topic) or ())

    @property
    def are_awaited(self) -> bool:
        """Whether a caller waits for the confirmation of a subscription."""
        return any(mailbox.waiters for key in self.keys for mailbox in self._of(key) or ())

    def is_observed(self, key: Key) -> bool:
        """Tell whether a subscription wants to know who else is subscribed."""
        return any(mailbox.observer is not None for mailbox in self._of(key) or ())

    def add(self, key: Key) -> Mailbox:
        """Make a subscription to a topic or pattern."""
        mailbox = Mailbox(key, self._limits)
        others = self._of(key)
        if others is not None:
            others.append(mailbox)
        elif isinstance(key, str):
            self._by_topic[key] = [mailbox]
        elif isinstance(key, InGroup):
            self._by_group[key] = [mailbox]
        else:
            if self._by_pattern is None:
                self._by_pattern = PatternTable()
            self._by_pattern[key] = [mailbox]
        self._routes.clear()
        return mailbox

    def _of(self, key: Key) -> list[Mailbox] | None:
        if isinstance(key, str):
            return self._by_topic.get(key)
        if isinstance(key, InGroup):
            return self._by_group.get(key)
        return None if self._by_pattern is None else self._by_pattern.get(key)

    def _remove_all(self, key: Key) -> None:
        if isinstance(key, str):
            del self._by_topic[key]
        elif isinstance(key, InGroup):
            del self._by_group[key]
        elif self._by_pattern is not None:
            del self._by_pattern[key]
            if not self._by_pattern:
                self._by_pattern = None
        self._routes.clear()

    def _receivers(self, topic: str) -> list[Mailbox] | None:
        """Return the subscriptions that get what is published on a topic."""
        patterns = self._by_pattern
        if patterns is None:
            return self._by_topic.get(topic)
        receivers = self._routes.get(topic)
        if receivers is None:
            receivers = self.mailboxes(topic)
            for mailboxes in patterns.find(topic)[0]:
                receivers += mailboxes
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            if len(topic) <= _LONGEST_ROUTE:
                self._routes[topic] = receivers
        return receivers or None

    def open_direct(self) -> Mailbox:
        """Return the only subscription to direct messages; make it on first use."""
        if self._direct is None:
            self._direct = Mailbox("", self._limits)
        return self._direct

    def open_server_data(self) -> Mailbox:
        """Make a subscription to messages of other servers. It never ends."""
        self._server_data.append(Mailbox("", self._limits))
        return self._server_data[-1]

    def remove(self, mailbox: Mailbox) -> bool:
        """End a subscription; tell whether it was the last one of its topic.

        Its pending messages are dropped, and answered with ``unsubscribed`` if they want an ack.
        """
        if mailbox.closed:
            return False
        mailbox.closed = True
        for message in mailbox.take_all():
            self.settle(message, UNSUBSCRIBED)
        if mailbox is self._direct:
            self._direct = None
            return False
        if mailbox.error is not None:
            return False  # ``refuse`` removed it from its topic
        others = self._of(mailbox.key)
        assert others is not None
        others.remove(mailbox)
        self._routes.clear()
        if others:
            return False
        self._remove_all(mailbox.key)
        return True

    def refuse(self, key: Key, error: KPSError, only: Mailbox | None = None) -> list[Mailbox]:
        """End subscriptions to a topic or pattern with an error; their pending messages remain.

        These are all, or ``only`` one, if it has not ended.
        """
        mailboxes = self._of(key) or []
        ended = [one for one in mailboxes if only is None or one is only]
        for mailbox in ended:
            mailbox.error = error
        if not ended:
            return []
        if len(ended) == len(mailboxes):
            self._remove_all(key)
        else:
            mailboxes[:] = [one for one in mailboxes if one.error is None]
            self._routes.clear()
        return ended

    def deliver(
        self,
        topic: str,
        data: object,
        sender: str,
        size: int,
        ack_id: str,
        epoch: int,
        position: Position | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bool | None:
        """Give a message to every subscription that has its topic; tell whether one had room.

        Return ``None`` if there is none. Each subscription gets its own payload. ``position`` is
        the message's place in the history of its topic.
        """
        has_patterns = self._by_pattern is not None
        mailboxes = self._receivers(topic) if has_patterns else self._by_topic.get(topic)
        if mailboxes is None:
            return None
        acknowledgement = Acknowledgement(ack_id, epoch, len(mailboxes)) if ack_id else None
        had_room = False
        for mailbox in mailboxes:
            own = data if mailbox is mailboxes[0] else copied(data)
            message = Message(topic, own, sender, size, acknowledgement)
            if position is not None:
                place_messages((message,), position)
            if headers:
                put_headers((message,), headers)
            had_room |= self._put(mailbox, message)
        return had_room

    def deliver_all(
        self,
        topic: str,
        payloads: Sequence[object],
        sender: str,
        size: int,
        sizes: Sequence[int] | None = None,
        position: Position | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Give messages that want no ack to every subscription.

        They have ``size`` bytes each, or ``sizes``; ``position`` is the place of the first in the
        history of their topic. Return for how many of them, the first ones,
        there was room in a subscription's mailbox.
        """
        has_patterns = self._by_pattern is not None
        mailboxes = self._receivers(topic) if has_patterns else self._by_topic.get(topic)
        if mailboxes is None:
            return 0
        total = size * len(payloads) if sizes is None else sum(sizes)
        most = 0
        for mailbox in mailboxes:
            own = payloads if mailbox is mailboxes[0] else [copied(data) for data in payloads]
            messages = make_messages(topic, own, sender, size)
            if sizes is not None:
                for message, own_size in zip(messages, sizes, strict=True):
                    message.size = own_size
            if position is not None:
                place_messages(messages, position)
            if headers:
                put_headers(messages, headers)
            if not len(mailbox) and not (self.ready and self.ready[-1] is mailbox):
                self.ready.append(mailbox)  # first: a signal handler may raise in between
            if mailbox.put_all(messages, total):
                if self._crowded is not None and mailbox.fills(CROWDED):
                    self._crowded(mailbox)
                most = len(messages)
            else:
                most = max(most, sum([self._put(mailbox, message) for message in messages]))
        return most

    def deliver_to_member(
        self,
        key: InGroup,
        topic: str,
        payloads: Sequence[object],
        sender: str,
        size: int,
        errand: Errand,
    ) -> int | None:
        """Give messages of a group to the subscription that is its member.

        Return how many had room; ``None`` if the program is no member any more.
        """
        mailboxes = self._by_group.get(key)
        if mailboxes is None:
            return None
        taken = 0
        for data in payloads:
            acknowledgement = Acknowledgement(errand.ack_id, errand.epoch, 1)
            acknowledgement.is_for_member = True
            message = Message(topic, data, sender, size, acknowledgement if errand.ack_id else None)
            if errand.attempt > 1:
                message._attempt = errand.attempt
            if errand.headers:
                put_headers((message,), errand.headers)
            taken += self._put(mailboxes[0], message)
        return taken

    def deliver_direct(
        self,
        data: object,
        sender: str,
        size: int,
        ack_id: str,
        epoch: int,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """Give a direct message to its subscription; return ``False`` if there is none."""
        if self._direct is None:
            return False
        acknowledgement = Acknowledgement(ack_id, epoch, 1) if ack_id else None
        message = Message("", data, sender, size, acknowledgement)
        if headers:
            put_headers((message,), headers)
        self._put(self._direct, message)
        return True

    def deliver_server_data(self, data: object, sender: str, size: int) -> None:
        """Give a message of another server to every subscription to those."""
        for mailbox in self._server_data:
            self._put(mailbox, Message("", copied(data), sender, size))

    def settle(self, message: Message, error: str | None, result: Any = None) -> None:
        """Note that one subscription has handled a message, with an error or a result."""
        acknowledgement = message.acknowledgement
        if acknowledgement is None:
            return
        message.acknowledgement = None  # a second call has no effect
        if type(error) is NotBegun and acknowledgement.is_for_member:
            acknowledgement.has_begun = False
        if error is not None and acknowledgement.error is None:
            acknowledgement.error = error
        if acknowledgement.result is None:
            acknowledgement.result = result
        acknowledgement.remaining -= 1
        if acknowledgement.remaining == 0:
            self._answer(acknowledgement)

    def take_ready(self) -> list[Mailbox]:
        """Return the mailboxes in ``ready``, and clear it."""
        ready: list[Mailbox] = []
        self.wake_ready(ready.extend)
        return ready

    def wake_ready(self, wake: Callable[[list[Mailbox]], object]) -> None:
        """Give the mailboxes in ``ready`` to a function, and then remove them.

        If it does not return, they stay: nothing else would tell of their messages.
        """
        ready = self.ready[:]
        wake(ready)
        del self.ready[: len(ready)]

    def take_overflowed(self) -> list[Mailbox]:
        """Return the mailboxes in ``overflowed``, and clear it."""
        overflowed, self.overflowed = self.overflowed, []
        return overflowed

    def _put(self, mailbox: Mailbox, message: Message) -> bool:
        """Add a message to a mailbox; tell whether it had room, or the policy made room."""
        if not len(mailbox) and not (self.ready and self.ready[-1] is mailbox):
            self.ready.append(mailbox)  # first: a signal handler may raise in between
        dropped = mailbox.put(message)
        if dropped:
            self.dropped += len(dropped)
            if mailbox.starts_overflowing():
                self.overflowed.append(mailbox)
            for lost in dropped:
                self.settle(lost, QUEUE_FULL)
        if self._crowded is not None and mailbox.fills(CROWDED):
            self._crowded(mailbox)
        return not dropped or dropped[-1] is not message


def copied(data: Any) -> Any:
    """Copy a JSON value, so that one callback does not see what another one does to it."""
    if type(data) is dict:
        return {key: copied(value) for key, value in data.items()}
    if type(data) is list:
        return [copied(value) for value in data]
    return data
