"""What nodes say to each other: frames with a kind, some values, and a payload as it came."""

from collections.abc import Iterator, Sequence
from enum import IntEnum, unique
from struct import Struct
from typing import Any, NamedTuple

from kps.protocol.dialect.envelope import load, write
from kps.protocol.patterns import InGroup, Key, Pattern


@unique
class Kind(IntEnum):
    """The kinds of frames, with their values. The payload is named behind a colon."""

    INTEREST = 1
    """The number of the change, keys that this node has subscribers for, and keys that it has
    none for any more."""
    CONFIRM = 2
    """The number of the latest change of interest that this node heeds."""
    PUBLISH = 3
    """Receipt, or 0, then about the publication (``carrying.About``): the payloads, with commas
    between. Whatever carries a publication ends so."""
    REACHED = 4
    """Receipt, and how many subscribers had room."""
    DIRECT = 5
    """For the home of an id: the id, sender, headers, origin, number of the sender's session there,
    its request as far as a refusal names it: the payload."""
    HAND = 6
    """The same for the node that has the client."""
    NOBODY = 7
    """Of a direct message for whose id there is no client: the id, number of the sender's session,
    its request."""
    CLAIM = 8
    """Number of the claim, id, name of the identity."""
    CLAIMED = 9
    """Number of the claim, id, and the stamp, or 0 if it is refused."""
    REGISTER = 10
    """Number of the claim, id, name of the identity, stamp."""
    RELEASE = 11
    """Number of the claim, id."""
    EVICT = 12
    """Id, number of the claim."""
    ASK = 13
    """Request, seconds, then about the publication: the payload."""
    ASK_ID = 14
    """For the home of an id: request, id, sender, headers, seconds, origin: the payload."""
    HAND_ASK = 15
    """The same for the node that has the client."""
    ASKED = 16
    """Request, ids of those who were asked, the node that has asked them."""
    OUTCOME = 17
    """Request, id, error, the outcome in a word of ``ack_figures``: the result, or empty."""
    END = 18
    """Request or task whose outcomes nobody wants any more."""
    JOIN = 19
    """For the home of a group: the group, number of the member's session, its id, how many tasks it
    takes at a time, and how many it has from others than this home."""
    LEAVE = 20
    """Group, number of the session."""
    GONE = 21
    """Number of the session, which has ended."""
    SHARE = 22
    """For the home of a group: the group, receipt, or 0, or -1 if it came to a node that is not the
    home any more, then about the publication."""
    OFFER = 23
    """For the home of a group: task, group, key of the message, retries, attempts, failures,
    seconds, then about the publication."""
    TOOK = 24
    """Task, the member that has it now, attempts, failures."""
    MOVED = 25
    """The same for a task that goes back because the home of its group is another node."""
    CONCLUDED = 26
    """Task, error, the outcome in a word: the result."""
    GIVE = 27
    """For a member: number of its session, group, task or empty, attempt, then about the
    publication."""
    ANSWER = 28
    """Number of the session, task, error, whether the member may have begun: the result."""
    WATCH = 29
    """Topic, and whether this node wants to know who is subscribed, from now on."""
    PRESENT = 30
    """Topic, number of the session, its id: what it says about itself, or empty."""
    RENAMED = 31
    """Topic, number of the session, its new id."""
    AWAY = 32
    """Topic, number of the session, the reason, and whether it may come back."""
    EPOCH = 33
    """The epoch of topics with history that this node will own; at first also the patterns of the
    topics that have history there."""
    KEEP = 34
    """For the owner of a topic with history: whom it concerns (``histories.Concern``), then about
    the publication."""
    KEPT = 35
    """Epoch, offset, and the same."""
    LOG = 36
    """Topic, epoch, offsets of the first message that is kept and of the latest, and the right of
    the sender, who owns the topic (``histories``). Entries follow, unless the receiver has them."""
    ENTRY = 37
    """Epoch, offset, age in seconds, then about the publication."""
    LEAVING = 38
    """The sender is about to end, and is home to nothing any more."""
    TOLD = 39
    """The homes that the sender has told all that they must know."""
    HANDOVER = 40
    """Topic, epoch, offset of the latest message: the receiver is to own the topic. It answers with
    ``LOG``, hands it over to another node, or gives it back if it is about to end itself."""
    WHERE = 41
    """For the home of an id: the id, whose node the sender wants to know."""
    THERE = 42
    """The id, and the node of the client that has it, or empty."""
    BACK = 43
    """A direct message that came to the wrong node: the values and the payload of ``HAND``."""
    BACK_ASK = 44
    """The same of one with ack: those of ``HAND_ASK``, but for the origin."""
    SURVEY = 45
    """Number of the question, what is asked, and more about that."""
    SURVEYED = 46
    """Number of the question: the answer, or empty."""
    LACKS = 47
    """For the owner of a topic: the topic, of which the sender lacks something."""
    YIELDED = 48
    """Topic, and the node that owns it from now on, because it has won against the sender."""
    FENCE = 49
    """Topic, and a node: whoever owns the topic tells that with ``FENCED``, behind what has come to
    it by the same way."""
    FENCED = 50
    """Topic."""


class Frame(NamedTuple):
    """A frame that has come."""

    kind: int
    values: list[Any]
    payload: bytes


_HEAD = Struct(">BII")  # kind, bytes of the values as JSON, bytes of the payload


def compose(kind: Kind, values: Sequence[object], payload: bytes = b"") -> bytes:
    """Return a frame as bytes."""
    written = write(values)
    return _HEAD.pack(kind, len(written), len(payload)) + written + payload


class Assembler:
    """Makes frames of the bytes of a link, however they are cut."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes; yield the frames that they complete."""
        waiting = self._waiting
        waiting += data
        start = 0
        try:
            while len(waiting) - start >= _HEAD.size:
                kind, values, payload = _HEAD.unpack_from(waiting, start)
                begin = start + _HEAD.size
                end = begin + values + payload
                if len(waiting) < end:
                    break
                start = end
                middle = begin + values
                yield Frame(kind, load(bytes(waiting[begin:middle])), bytes(waiting[middle:end]))
        finally:
            del waiting[:start]


# -- keys of subscriptions ------------------------------------------------------------------------


def write_key(key: Key) -> list[str]:
    """Return a key as values of a frame."""
    if isinstance(key, InGroup):
        return [*write_key(key.scope), key.group]
    return ["t", key] if isinstance(key, str) else ["p", key.text]


def read_key(values: list[str]) -> Key:
    """Return the key in values of a frame."""
    kind, text, *group = values
    scope = text if kind == "t" else Pattern(text)
    return InGroup(scope, group[0]) if group else scope


def read_group(values: list[str]) -> InGroup:
    """Return the group in values of a frame."""
    key = read_key(values)
    assert isinstance(key, InGroup)
    return key
