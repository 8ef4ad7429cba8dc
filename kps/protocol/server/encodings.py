"""The forms in which publications wait for clients: WebSocket frames of a dialect."""

from kps.protocol.bus.publication import Encoding, Publication
from kps.protocol.dialect.server import LEVEL_1, LEVEL_2, ServerLevel1
from kps.protocol.wire.frames import text_frame
from kps.protocol.wire.outbox import Entry, Kind

Encoded = bytes | Entry
"""The JSON of a publication that wants an answer, which joins what else waits; or the frames of
any others."""


class FrameEncoding:
    """Publications as frames that a policy may drop."""

    def __init__(self, dialect: ServerLevel1) -> None:
        self.singly: Encoding[list[Entry]] = _SingleFrames(dialect)
        """Each publication as a frame of its own, for a queue without room for all."""
        self._dialect = dialect

    def encode(self, publication: Publication) -> Encoded:
        topic, sender, payloads = publication.topic, publication.sender, publication.payloads
        if publication.ack_id:
            return self._dialect.delivery_with_ack(
                topic, sender, payloads[0], publication.ack_id, is_direct=publication.is_direct
            )
        frames = [text_frame(one) for one in self._dialect.deliveries(topic, sender, payloads)]
        return Entry(
            frames[0] if len(frames) == 1 else b"".join(frames),
            Kind.DROPPABLE,
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
            entries.append(Entry(text_frame(one), Kind.DROPPABLE))
        return entries


# An encoding is a key of the cache in each publication: one for each dialect.
FRAMES = {dialect: FrameEncoding(dialect) for dialect in (LEVEL_1, LEVEL_2)}
