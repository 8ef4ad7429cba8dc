"""Publications on their way between nodes: what each frame with one has at its end."""

from typing import Any, NamedTuple, TypeVar

from kps.protocol.bus.publication import Publication

P = TypeVar("P", bound=Publication)


class About(NamedTuple):
    """What a frame tells of a publication beside its payloads."""

    topic: str
    sender: str
    messages: int
    headers: str

    @classmethod
    def of(cls, publication: Publication) -> "About":
        """Return it for a publication."""
        headers = publication.headers.decode()
        return cls(publication.topic, publication.sender, publication.count, headers)


def payload_of(publication: Publication) -> bytes:
    """Return the payloads as the payload of a frame."""
    return b",".join(publication.texts)


def restored(kind: type[P], about: About, payload: bytes) -> P:
    """Return the publication of a frame."""
    topic, sender, messages, headers = about
    publication = kind(topic, sender)
    publication.add([payload], messages)
    publication.headers = headers.encode()
    return publication


class Concern(NamedTuple):
    """Who wants to know what becomes of a publication."""

    origin: str
    """The node of the publisher."""
    receipt: int
    """The number of the receipt, or 0."""
    ack_id: str
    """The ack request, or empty."""
    seconds: float
    """For how long that waits."""


def concern_in(values: tuple[Any, ...]) -> tuple[Concern, About]:
    middle = len(Concern._fields)
    return Concern(*values[:middle]), About(*values[middle:])
