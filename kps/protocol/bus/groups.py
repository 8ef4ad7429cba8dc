"""Groups of subscribers, of which one gets each message (spec, section 18)."""

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator
from hashlib import blake2b
from itertools import chain

from kps.protocol.bus.publication import Publication
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.patterns import InGroup

_MOST_KEYS = 4096  # of which a group knows the member


class Member:
    """A member of a group, and how many messages it has that it has not answered."""

    __slots__ = ("concurrency", "load", "name", "subscriber")

    def __init__(self, subscriber: Subscriber, concurrency: int) -> None:
        self.subscriber = subscriber
        self.name = subscriber.id
        """The id that it had when it became a member, for keys."""
        self.concurrency = concurrency
        """How many such messages it takes at a time."""
        self.load = 0

    @property
    def is_free(self) -> bool:
        """Whether it takes one more."""
        return self.load < self.concurrency


class Group:
    """The members of a group, and whose turn it is.

    ``leaving`` are subscribers that have left, and whose memberships have not ended yet.
    """

    __slots__ = ("_by_key", "_by_load", "_leaving", "key", "members")

    def __init__(self, key: InGroup, leaving: Container[Subscriber]) -> None:
        self.key = key
        self.members: OrderedDict[Subscriber, Member] = OrderedDict()
        """In the order in which it is their turn."""
        self._by_load: dict[int, OrderedDict[Member, None]] = {}  # those that are free
        self._by_key: dict[str, Member] = {}  # whose messages with a key are, as far as is known
        self._leaving = leaving

    @property
    def is_empty(self) -> bool:
        """Whether nobody has anything to do with it."""
        return not self.members

    def present(self) -> Iterator[Member]:
        """Yield the members that have not left."""
        leaving = self._leaving
        for member in self.members.values():
            if member.subscriber not in leaving:
                yield member

    def count_present(self) -> int:
        """Count the members that have not left."""
        return sum(1 for _ in self.present()) if self._leaving else len(self.members)

    def join(self, subscriber: Subscriber, concurrency: int) -> None:
        """Take in a member, or change how much one takes at a time."""
        member = self.members.get(subscriber)
        if member is None:
            member = self.members[subscriber] = Member(subscriber, concurrency)
            self._by_key.clear()
        else:
            self._leave_queue(member)
            member.concurrency = concurrency
        self._enter_queue(member)

    def leave(self, subscriber: Subscriber) -> Member:
        """Remove a member."""
        member = self.members.pop(subscriber)
        self._by_key.clear()
        self._leave_queue(member)
        return member

    # -- messages without ack ---------------------------------------------------------------

    def publish(self, publication: Publication) -> int:
        """Give each message to one member, in turn. Return whether the last one had room."""
        had_room, taken = False, 0
        for member, part in self._share(publication):
            had_room = member.subscriber.deliver(part)
            taken += had_room * part.count + part.partial
        publication.partial += taken - had_room * publication.count
        return had_room

    def _share(self, publication: Publication) -> list[tuple[Member, Publication]]:
        """Share the messages of a publication among members; the last one is in the last share."""
        count = publication.count
        members: list[Member] = []
        for member in self.present():
            members.append(member)
            if len(members) == count:
                break
        if not members:
            return []
        several = len(members)
        rest = count % several  # so many get one more; the next ones are first in turn
        for member in chain(members[rest:], members[:rest]):
            self.members.move_to_end(member.subscriber)
        if several == 1:
            return [(members[0], self._part(publication, publication.texts, count))]
        payloads = publication.payloads()
        last = (count - 1) % several
        order = [*range(last + 1, several), *range(last + 1)]
        return [
            (members[n], self._part(publication, own := payloads[n::several], len(own)))
            for n in order
        ]

    def _part(self, publication: Publication, texts: Iterable[bytes], count: int) -> Publication:
        part = Publication(publication.topic, publication.sender)
        part.add(list(texts), count)
        part.group, part.attempt, part.headers = self.key, 1, publication.headers
        return part

    # -- messages with ack ------------------------------------------------------------------

    def least_loaded(self, avoided: Subscriber | None = None) -> Member | None:
        """Return the free member that has the least to do, in turn; ``None`` if none is free.

        ``avoided`` counts only if there is no other member, free or not.
        """
        for load in sorted(self._by_load):
            for member in self._by_load[load]:
                if member.subscriber not in self._leaving and (
                    member.subscriber is not avoided or self.has_only(member)
                ):
                    return member
        return None

    def has_only(self, member: Member) -> bool:
        """Tell whether there is no other member."""
        return all(one is member for one in self.present())

    def member_for(self, key: str, avoided: Subscriber | None = None) -> Member | None:
        """Return the member for all messages with one key; ``None`` if there is no member.

        It is the same as long as the members are (rendezvous hashing). Instead of ``avoided`` it is
        the next one, if there is one.
        """
        known = self._by_key.get(key) if avoided is None else None
        if known is not None and known.subscriber not in self._leaving:
            return known
        present = list(self.present())
        others = [one for one in present if one.subscriber is not avoided]
        found = max(others or present, key=lambda member: _weight(key, member), default=None)
        if found is not None and avoided is None:
            if len(self._by_key) >= _MOST_KEYS:
                self._by_key.clear()
            self._by_key[key] = found
        return found

    def took(self, member: Member) -> None:
        """Note that a member has one message more to answer."""
        self._leave_queue(member)
        member.load += 1
        self._enter_queue(member)

    def done(self, member: Member) -> None:
        """Note that a member has one less."""
        self._leave_queue(member)
        member.load -= 1
        self._enter_queue(member)

    def _enter_queue(self, member: Member) -> None:
        if member.is_free and self.members.get(member.subscriber) is member:
            self._by_load.setdefault(member.load, OrderedDict())[member] = None

    def _leave_queue(self, member: Member) -> None:
        members = self._by_load.get(member.load)
        if members is not None:
            members.pop(member, None)
            if not members:
                del self._by_load[member.load]


def _weight(key: str, member: Member) -> bytes:
    text = f"{key}\0{member.name}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8).digest()


MemberWatcher = Callable[[Group, Member], None]
"""A callback that gets a group, and a member that has joined or left it."""
