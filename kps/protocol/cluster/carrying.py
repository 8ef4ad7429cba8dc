"""Publications on their way between nodes: what each frame with one has at its end."""

from typing import NamedTuple, TypeVar

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
