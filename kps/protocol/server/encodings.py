"""The encodings in which publications are queued for clients.

They are WebSocket frames of a dialect, and the events of an event stream.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kps.protocol.bus.publication import Encoding, Publication
from kps.protocol.dialect import event_stream, level2
from kps.protocol.dialect.server import LEVEL_1, LEVEL_2, ServerLevel1
from kps.protocol.dialect.texts import split_joined
from kps.protocol.server.compression import Compressor
from kps.protocol.wire.frames import text_frame, text_frames
from kps.protocol.wire.outbox import Entry, Kind

_FORWARDED = Kind.FORWARDED
_DROPPABLE = Kind.DROPPABLE

Encoded = bytes | Entry
"""The JSON of a small ack request, which can be joined with other messages; the frames of all
other publications, which the queues of all receivers share."""

# Bytes of the largest ack request that is joined with others. Each receiver gets a copy of it,
# which takes about as much as its place in the queue would.
_LARGEST_JOINED = 256


# Parts of a publication at most: a queue without room for it causes no more work than this.
_MOST_PARTS = 64


class FrameEncoding:
    """Encodes publications as frames that a policy may drop."""

    def __init__(self, dialect: ServerLevel1) -> None:
        self.in_parts: Encoding[list[Entry]] = _Parts(self)
        """Encodes the messages one by one, or very many in parts, for a queue that has no room for
        all."""
        self._dialect = dialect

    def encode(self, publication: Publication) -> Encoded:
        topic, sender = publication.topic, publication.sender
        if publication.ack_id:
            message = self._dialect.delivery_with_ack(
                topic,
                sender,
                publication.texts[0],
                publication.ack_id,
                is_direct=publication.is_direct,
                offset=publication.offset,
                epoch=publication.epoch,
                more=_more(publication),
            )
            if len(message) <= _LARGEST_JOINED:
                return message
            return Entry(text_frame(message), _FORWARDED)
        texts = publication.texts if self._dialect.has_batches else publication.payloads()
        return self.encode_some(publication, texts, publication.count, publication.offset)

    def encode_some(
        self, publication: Publication, texts: list[bytes], count: int, offset: int
    ) -> Entry:
        """Encode some messages of a publication that wants no ack, from an offset on."""
        topic, sender, epoch = publication.topic, publication.sender, publication.epoch
        more = _more(publication) if publication.headers or publication.group is not None else b""
        messages = self._dialect.deliveries(topic, sender, texts, count, offset, epoch, more)
        frames = text_frame(messages[0]) if len(messages) == 1 else text_frames(messages)
        return Entry(frames, _DROPPABLE, count, len(messages))

    def encode_past(self, publication: Publication) -> Entry:
        """Encode messages that were published before."""
        return self.encode_some(
            publication, publication.texts, publication.count, publication.offset
        )


def _more(publication: Publication) -> bytes:
    """Return the further fields of a publication."""
    group, more = publication.group, level2.with_headers(publication.headers)
    return more if group is None else more + level2.in_group(group, publication.attempt)


class _Parts:
    def __init__(self, encoding: FrameEncoding) -> None:
        self._encoding = encoding

    def encode(self, publication: Publication) -> list[Entry]:
        payloads, encode = publication.payloads(), self._encoding.encode_some
        size = -(-len(payloads) // _MOST_PARTS)
        entries, offset = [], publication.offset
        for begin in range(0, len(payloads), size):
            part = payloads[begin : begin + size]
            entries.append(encode(publication, part, len(part), offset))
            offset += len(part) if offset else 0
        return entries


Encodings = Mapping[ServerLevel1, FrameEncoding]
"""By dialect. There is one for each, because each publication caches by encoding."""

FRAMES: Encodings = {dialect: FrameEncoding(dialect) for dialect in (LEVEL_1, LEVEL_2)}


class CompressedEncoding(FrameEncoding):
    """Encodes publications for clients with which compression is agreed.

    A publication is compressed once for all of them. Messages of the past are not, because each
    subscriber gets others, nor are direct messages, which have one receiver.
    """

    def __init__(self, dialect: ServerLevel1, compressor: Compressor) -> None:
        super().__init__(dialect)
        self._compressor = compressor

    def encode(self, publication: Publication) -> Encoded:
        plain = publication.encoded(FRAMES[self._dialect])  # shared where nothing is compressed
        if isinstance(plain, bytes) or publication.is_direct:
            return plain
        return self._compressor.compress(publication.topic, plain)

    def encode_some(
        self, publication: Publication, texts: list[bytes], count: int, offset: int
    ) -> Entry:
        plain = super().encode_some(publication, texts, count, offset)
        return self._compressor.compress(publication.topic, plain)

    def encode_past(self, publication: Publication) -> Entry:
        return FRAMES[self._dialect].encode_past(publication)


def compressed(compressor: Compressor) -> Encodings:
    """Return the encodings of a server that compresses."""
    return {dialect: CompressedEncoding(dialect, compressor) for dialect in FRAMES}


class EventEncoding(FrameEncoding):
    """Encodes publications as events of a stream.

    Each event has the place of its message as its id, if the topic has history and the encoding
    ``has_ids``. ``epoch`` returns that of all offsets that tell no other.
    """

    def __init__(self, epoch: Callable[[], str], *, has_ids: bool) -> None:
        super().__init__(LEVEL_2)
        self._epoch = epoch
        self._has_ids = has_ids

    def encode(self, publication: Publication) -> Entry:
        return self.encode_some(
            publication, publication.texts, publication.count, publication.offset
        )

    def encode_some(
        self, publication: Publication, texts: list[bytes], count: int, offset: int
    ) -> Entry:
        if len(texts) != count:
            texts = [one for text in texts for one in split_joined(text)]
        ids = [""] * count
        if self._has_ids and offset:
            epoch = publication.epoch or self._epoch()
            ids = [event_stream.place_text(epoch, offset + one) for one in range(count)]
        topic, sender, headers = publication.topic, publication.sender, publication.headers
        events = event_stream.messages(topic, sender, headers, texts, ids)
        return Entry(b"".join(events), _DROPPABLE, count, count)


class EventEncodings(NamedTuple):
    """The encodings of one server's event streams."""

    with_ids: EventEncoding
    """For streams of one topic: the place of a message is that of the stream."""
    plain: EventEncoding
    """For all others."""


def event_encodings(epoch: Callable[[], str]) -> EventEncodings:
    """Return the encodings of a server, the epoch of whose history is what ``epoch`` returns."""
    return EventEncodings(EventEncoding(epoch, has_ids=True), EventEncoding(epoch, has_ids=False))
