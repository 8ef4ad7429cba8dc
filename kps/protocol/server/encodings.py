"""The encodings in which publications are queued for clients: WebSocket frames of a dialect."""

from kps.protocol.bus.publication import Encoding, Publication
from kps.protocol.dialect.server import LEVEL_1, LEVEL_2, ServerLevel1
from kps.protocol.wire.frames import text_frame
from kps.protocol.wire.outbox import Entry, Kind

_FORWARDED = Kind.FORWARDED
_DROPPABLE = Kind.DROPPABLE

Encoded = bytes | Entry
"""The JSON of a small ack request, which can be joined with other messages; the frames of all
other publications, which the queues of all receivers share."""

# Bytes of the largest ack request that is joined with others. Each receiver gets a copy of it,
# which takes about as much as its place in the queue would.
_LARGEST_JOINED = 256


class FrameEncoding:
    """Encodes publications as frames that a policy may drop."""

    def __init__(self, dialect: ServerLevel1) -> None:
        self.singly: Encoding[list[Entry]] = _SingleFrames(dialect)
        """Encodes each message as its own frame, for a queue that has no room for all."""
        self._dialect = dialect

    def encode(self, publication: Publication) -> Encoded:
        topic, sender, payloads = publication.topic, publication.sender, publication.payloads
        if publication.ack_id:
            message = self._dialect.delivery_with_ack(
                topic, sender, payloads[0], publication.ack_id, is_direct=publication.is_direct
            )
            if len(message) <= _LARGEST_JOINED:
                return message
            return Entry(text_frame(message), _FORWARDED)
        frames = [text_frame(one) for one in self._dialect.deliveries(topic, sender, payloads)]
        return Entry(
            frames[0] if len(frames) == 1 else b"".join(frames),
            _DROPPABLE,
            len(payloads),
            len(frames),
        )


class _SingleFrames:
    def __init__(self, dialect: ServerLevel1) -> None:
        self._dialect = dialect

    def encode(self, publication: Publication) -> list[Entry]:
        entries: list[Entry] = []
        for data in publication.payloads:
            (one,) = self._dialect.deliveries(publication.topic, publication.sender, [data])
            entries.append(Entry(text_frame(one), _DROPPABLE))
        return entries


# One encoding for each dialect, because each publication caches by encoding.
FRAMES = {dialect: FrameEncoding(dialect) for dialect in (LEVEL_1, LEVEL_2)}
