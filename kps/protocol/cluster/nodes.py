"""The nodes that this one can reach, as homes and as subscribers of the bus."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kps.protocol.bus.ack_request import AckOwner
from kps.protocol.bus.publication import Encoding, Publication
from kps.protocol.bus.subscriber import LOST, Departure, Stage, Subscriber
from kps.protocol.cluster.carrying import About, payload_of
from kps.protocol.cluster.frames import Kind, compose, write_key
from kps.protocol.cluster.homes import home_of
from kps.protocol.patterns import InGroup, Key
from kps.protocol.server.figures import Stats
from kps.protocol.server.session import ServerSession

if TYPE_CHECKING:
    from kps.protocol.cluster.link import Link


_MOST_HOMES = 16_384  # of groups, that are kept


class LinkEncoding:
    """Encodes publications for other nodes, but not those that have come from one.

    ``seconds_left`` tells how long an ack request still waits, by its id.
    """

    def __init__(self, seconds_left: Callable[[str], float]) -> None:
        self._seconds_left = seconds_left

    def encode(self, publication: Publication) -> bytes:
        """Return the frame of a publication; empty for one that goes no further."""
        if publication.is_forwarded or publication.offset:
            return b""  # its owner sends what has an offset to all nodes
        about, payload = About.of(publication), payload_of(publication)
        ack_id = publication.ack_id
        if ack_id:
            return compose(Kind.ASK, [ack_id, self._seconds_left(ack_id), *about], payload)
        return compose(Kind.PUBLISH, [publication.receipt, *about], payload)


class Node:
    """Another node whose link is up. It subscribes to all that its own clients subscribe to."""

    departure: Departure = LOST
    answers = True

    def __init__(self, link: "Link", encoding: LinkEncoding) -> None:
        self.id = link.node
        self.link = link
        self.encoding: Encoding[bytes] = encoding
        self.topics: dict[Key, Stage] = {}
        self.heeds = 0
        """The number of the latest change of our interest that it heeds."""
        self.epoch = ""
        """The epoch of topics with history that it will own, and of which nothing is known."""
        self.asking: dict[str, AckOwner] = {}
        """Its ack requests that clients of ours are handling, by its ids of them."""

    def send(self, kind: Kind, *values: object, payload: bytes = b"") -> None:
        """Send a frame."""
        self.link.send(compose(kind, values, payload))

    def deliver(self, publication: Publication) -> bool:
        """Pass a publication on. It does not count as a subscriber that had room."""
        frame = publication.encoded(self.encoding)
        if frame:
            self.link.send(frame)
        return False


class _Nothing:
    """Encodes nothing: what is published reaches other nodes once, not once for each client."""

    def encode(self, publication: Publication) -> None:
        """Return nothing."""


class Stranger:
    """A client of another node, or its program, as a subscriber here."""

    departure: Departure = LOST
    answers = True
    encoding: Encoding[Any] = _Nothing()

    def __init__(self, node: Node, number: int, client_id: str) -> None:
        self.node = node
        self.number = number
        """The number of its session at its node; 0 for the program of that node."""
        self.id = client_id
        self.topics: dict[Key, Stage] = {}

    def deliver(self, publication: Publication) -> bool:
        """Take nothing: its own node delivers to it."""
        return False


class Guest(Stranger):
    """A member of a group, on another node than the home of the group.

    What it is given counts among the ``stats`` of its own node.
    """

    def __init__(self, node: Node, number: int, client_id: str, stats: Stats) -> None:
        super().__init__(node, number, client_id)
        self._stats = stats
        self.others: dict[Key, int] = {}
        """How much it has to do that other nodes have given it, by group."""

    def deliver(self, publication: Publication) -> bool:
        """Pass messages on to the member's node, which takes them in any case."""
        assert publication.group is not None
        task = publication.ack_id, publication.attempt
        values = self.number, write_key(publication.group), *task, *About.of(publication)
        self.node.send(Kind.GIVE, *values, payload=payload_of(publication))
        self._stats.delivered -= publication.count  # which are added now, and at its node
        return True


class Here(Stranger):
    """This node, while its own clients have not been asked yet."""

    def __init__(self, me: str) -> None:
        self.id = me
        self.topics = {}


class Nodes:
    """This node, and those that it can reach."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.others: Mapping[str, Node] = {}
        """Another one after each change: a link may fall while we send something to all."""
        self.here = Here(me)
        self.homes: tuple[str, ...] = (me,)
        """The nodes that are home to names: all but those that are about to end."""
        self._leaving: set[str] = set()
        self._homes_of_groups: dict[InGroup, Node | None] = {}  # as far as they were asked for

    def add(self, node: Node) -> None:
        """Take a node in."""
        self.others = {**self.others, node.id: node}
        self._changed()

    def remove(self, node: str) -> Node:
        """Let a node go."""
        self._leaving.discard(node)
        removed = self.others[node]
        self.others = {name: one for name, one in self.others.items() if name != node}
        self._changed()
        return removed

    def leave(self, node: str) -> None:
        """Note that a node is about to end, and is home to nothing any more."""
        self._leaving.add(node)
        self._changed()

    @property
    def somebody_stays(self) -> bool:
        """Whether another node is not about to end."""
        return not self._leaving.issuperset(self.others)

    def _changed(self) -> None:
        there = sorted((self.me, *self.others))
        self.homes = tuple(one for one in there if one not in self._leaving) or tuple(there)
        self._homes_of_groups.clear()

    def tell(self, kind: Kind, *values: object, payload: bytes = b"") -> None:
        """Send a frame to all other nodes. Those for which too much waits then are let go."""
        frame = compose(kind, values, payload)
        for node in self.others.values():
            node.link.send(frame)

    def home(self, name: str) -> Node | None:
        """Return the node that is home to a name; ``None`` if it is this one."""
        return self.others.get(home_of(name, self.homes))

    def home_of_group(self, key: InGroup) -> Node | None:
        """Return the node that gives messages to the members of a group; ``None``: this one."""
        try:
            return self._homes_of_groups[key]
        except KeyError:
            if len(self._homes_of_groups) >= _MOST_HOMES:
                self._homes_of_groups.clear()
            home = self._homes_of_groups[key] = self.home("\0".join(write_key(key)))
            return home


def number_of(subscriber: Subscriber) -> int:
    """Return the number of a client's session; 0 for what is no client."""
    return subscriber.number if isinstance(subscriber, ServerSession) else 0
