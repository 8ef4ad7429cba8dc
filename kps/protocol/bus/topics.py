"""Topics, patterns of topics, and who subscribes to them."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from kps.protocol.bus.groups import Group, MemberWatcher
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.slices import Slices
from kps.protocol.bus.subjects import Subject, Subjects, count_members
from kps.protocol.bus.subscriber import Stage, Subscriber
from kps.protocol.patterns import InGroup, Key, Scope
from kps.protocol.timers import Deadlines

_COPIED = 4096  # bytes of a message that are written anew for a group, for one unit

Watcher = Callable[[Subscriber, Key], None]
"""A callback that gets a subscriber, and the topic or pattern of a subscription that began or
ended."""


class Bus:
    """Routes publications to subscribers.

    The subscriptions of one that has left end in slices if they are very many. Meanwhile it gets
    nothing, and does not count.
    """

    elsewhere: tuple[type, ...] = ()
    """The kinds of subscribers that stand for those of other servers, which count there."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.routes = Subjects()
        """What there is to subscribe to, and the routes of topics."""
        self._route = self.routes.route
        self.hold = self.routes.hold
        self.release = self.routes.release
        self._leaving: set[Subscriber] = set()  # those that have left, with subscriptions
        self._slices = Slices(deadlines)
        self.on_join: list[Watcher] = []
        """Called after each new subscription."""
        self.on_leave: list[Watcher] = []
        """Called after the end of each subscription."""
        self.on_member: list[MemberWatcher] = []
        """Called after a subscriber has joined a group, or changed how much it takes."""
        self.on_member_gone: list[MemberWatcher] = []
        """Called after one has left it."""
        self.subscriptions = 0
        """How many subscriptions there are, those as a member of a group included."""

    def __len__(self) -> int:
        """Return how many topics and patterns have a subscriber, or one that has just left."""
        return len(self.routes)

    def __contains__(self, topic: str) -> bool:
        """Tell whether a topic has a subscriber."""
        found = self._route(topic)
        if found is None:
            return False
        return bool(found.groups or (self._present(found) if self._leaving else found.addressed))

    def has_room(self, key: Scope, most: int) -> bool:
        """Tell whether there are at most ``most`` subjects with one more subscription to a key."""
        while len(self) >= most and self.routes.find(key) is None:
            if not self._slices.go_on():
                return False
        return True

    def is_crowded(self, key: Scope) -> bool:
        """Tell whether a pattern cannot be added, because too many begin and end as it does."""
        return self.routes.is_crowded(key)

    def subjects(self, most: int) -> list[tuple[Scope, int, int]]:
        """Return up to ``most`` topics and patterns: key, subscribers, messages since the first."""
        found = [
            (len(self._of_subject(subject)) + count_members(subject, self.elsewhere), subject)
            for subject in islice(self.routes, most)
        ]
        return [(subject.key, count, subject.published) for count, subject in found if count]

    def subscribers(self, topic: str) -> list[Subscriber]:
        """Return who gets what is published on a topic."""
        found = self._route(topic)
        if found is None:
            return []
        return self._present(found) if self._leaving else list(found.addressed)

    def own_subscribers(self, key: Scope) -> list[Subscriber]:
        """Return who is subscribed to a topic itself, not to a pattern that has it; or to one."""
        found = self.routes.find(key)
        return [] if found is None else self._of_subject(found)

    def receivers(self, topic: str) -> tuple[list[Subscriber], tuple[Group, ...]]:
        """Return who gets what is published on a topic, and which groups do."""
        found = self._route(topic)
        if found is None:
            return [], ()
        subscribers = self._present(found) if self._leaving else list(found.addressed)
        return subscribers, found.groups

    def group(self, key: InGroup) -> Group | None:
        """Return a group, if it has members."""
        found = self.routes.find(key.scope)
        return None if found is None else found.own_groups.get(key.group)

    def is_leaving(self, subscriber: Subscriber) -> bool:
        """Tell whether a subscriber has left, and its subscriptions have not ended yet."""
        return subscriber in self._leaving

    def _present(self, subject: Subject) -> list[Subscriber]:
        """Return the addressed that have not left, while others are leaving."""
        leaving = self._leaving
        return [one for one in subject.addressed if one not in leaving]

    def _of_subject(self, subject: Subject) -> list[Subscriber]:
        leaving = self._leaving
        return [one for one in subject.subscribers if one not in leaving]

    def ask(self, subscriber: Subscriber, key: Key) -> None:
        """Note that a subscriber wants a subscription; ``subscribe`` makes it live."""
        subscriber.topics.setdefault(key, Stage.ASKED)

    def subscribe(self, subscriber: Subscriber, key: Key, concurrency: int = 1) -> None:
        """Make a subscription live. May be called twice.

        A member of a group takes ``concurrency`` messages with ack at a time; another call changes
        that.
        """
        if isinstance(key, InGroup):
            self._join(subscriber, key, concurrency)
            return
        if subscriber.topics.get(key) is Stage.LIVE:
            return
        subject = self.routes.add(key)
        subscriber.topics.pop(key, None)  # with an object of its own
        subscriber.topics[subject.key] = Stage.LIVE
        subject.subscribers[subscriber] = None
        self.routes.changed(subject)
        self.subscriptions += 1
        self._tell_joined(subscriber, key)

    def _join(self, subscriber: Subscriber, key: InGroup, concurrency: int) -> None:
        """Make a subscriber a member of a group."""
        group = self.routes.add_group(key, self._new_group)
        is_new = subscriber not in group.members
        group.join(subscriber, concurrency)
        if is_new:
            subscriber.topics.pop(key, None)
            subscriber.topics[group.key] = Stage.LIVE
            self.subscriptions += 1
            self._tell_joined(subscriber, key)
        for watch_members in self.on_member:
            watch_members(group, group.members[subscriber])

    def _new_group(self, key: InGroup) -> Group:
        return Group(key, self._leaving)

    def _tell_joined(self, subscriber: Subscriber, key: Key) -> None:
        for watch in self.on_join:
            watch(subscriber, key)

    def _tell_left(self, subscriber: Subscriber, key: Key) -> None:
        for watch in self.on_leave:
            watch(subscriber, key)

    def unsubscribe(self, subscriber: Subscriber, key: Key) -> None:
        """End a subscription, if there is one."""
        stage = subscriber.topics.get(key)
        if stage is None:
            return
        if isinstance(key, InGroup):
            self._leave_group(subscriber, key)
            return
        subject = self.routes.find(key)
        # Nothing is called from here on, so no signal handler comes in before all is noted.
        del subscriber.topics[key]
        if stage is not Stage.LIVE or subject is None:
            return
        del subject.subscribers[subscriber]
        self.subscriptions -= 1
        self.routes.changed(subject)
        if subject.is_empty:
            self.routes.remove(key)
        self._tell_left(subscriber, key)

    def _leave_group(self, subscriber: Subscriber, key: InGroup) -> None:
        del subscriber.topics[key]
        subject, group = self.routes.find(key.scope), self.group(key)
        if subject is None or group is None or subscriber not in group.members:
            return  # it was only asked for
        member = group.leave(subscriber)
        self.subscriptions -= 1
        if group.is_empty:
            self.routes.remove_group(key)
        for watch_members in self.on_member_gone:
            watch_members(group, member)
        self._tell_left(subscriber, key)

    def remove(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a subscriber that has left."""
        if subscriber.topics:
            self._leaving.add(subscriber)
            self._slices.begin(partial(self._remove, subscriber))

    def _remove(self, subscriber: Subscriber) -> Iterator[int]:
        for key in list(subscriber.topics):
            self.unsubscribe(subscriber, key)
            yield 1
        self._leaving.discard(subscriber)

    def count_for(self, subscriber: Subscriber, topic: str) -> bool:
        """Count a publication on a topic that has this subscriber only; tell whether that is so.

        Then nothing is to be encoded, and the caller delivers it.
        """
        found = self._route(topic)
        if found is None or len(found.addressed) != 1 or found.addressed[0] is not subscriber:
            return False
        if found.groups:
            return False
        found.published += 1
        if found.patterns:
            _count(found.patterns, 1)
        return True

    def publish(self, publication: Publication) -> int:
        """Deliver to every subscriber of the topic, and to each group; return how many had room.

        What wants an ack goes to groups as tasks instead.
        """
        found = self._route(publication.topic)
        if found is None:
            return 0
        addressed = self._present(found) if self._leaving else found.addressed
        # Encode first: after an exception out of a signal handler, nobody must have got it.
        for encoding in found.encodings:
            publication.encoded(encoding)
        found.published += publication.count
        if found.patterns:
            _count(found.patterns, publication.count)
        reached = sum([subscriber.deliver(publication) for subscriber in addressed])
        if found.groups and not publication.ack_id and not publication.is_forwarded:
            size = sum(map(len, publication.texts))
            self.routes.searched += len(found.groups) * (1 + size // _COPIED)
            reached += sum([group.publish(publication) for group in found.groups])
        return reached


def _count(patterns: list[Subject], messages: int) -> None:
    """Count messages for each pattern that has their topic."""
    for pattern in patterns:
        pattern.published += messages
