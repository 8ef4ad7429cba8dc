"""The levels of the protocol as a client speaks them: what it reads, and how it writes.

A dialect has no state: one object serves all connections of its level. Level 2 is level 1 with
what it says otherwise. Nothing outside of this package asks for a level's number.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.envelope import Fields, join, text, unwrap
from kps.protocol.dialect.outcome import AckResponse

# How a confirmation begins, as every server of the family writes it.
_CONFIRMATION = b'{"action":"published",'


Publications = tuple[str, str, Sequence[Any]]
"""Messages on one topic: that, the sender, and the payloads. A plain tuple, because there is one
for nearly every message."""


class Question(NamedTuple):
    """A message whose publisher wants to know how handling it went."""

    topic: str
    """The topic; empty if it was sent to this client's id."""
    sender: str
    data: Any
    ack_id: str
    may_be_direct: bool
    """Whether it is for the direct messages if nothing subscribes to the topic."""


class ClientLevel1:
    """The dialect of the original."""

    level = 1

    join: Callable[[Sequence[bytes]], bytes] | None = None
    """Makes one message of several, if servers of this level take that."""

    has_batches = False
    """Whether publications on one topic may share a message."""

    has_receipts = False
    """Whether the server tells to how many it passed a publication on."""

    noise: bytes | None = _CONFIRMATION
    """How messages begin for which nobody waits, so that they need not be read. Half of what a
    publisher receives on this level are confirmations."""

    # -- writing ----------------------------------------------------------------------------

    def publish_with_ack(
        self, topic: str, sender: str, data: Any, ack_id: str, timeout: float
    ) -> bytes:
        return level1.publish_with_ack(topic, sender, data, ack_id, timeout)

    def publish_to_id_with_ack(
        self, to: str, sender: str, data: Any, ack_id: str, timeout: float
    ) -> bytes:
        return level1.publish_to_id_with_ack(to, sender, data, ack_id, timeout)

    def ack(self, ack_id: str, client_id: str, error: str | None, result: Any) -> bytes:
        """How handling a message went. Raises :class:`kps.InvalidArgument` for the result."""
        return level1.ack(ack_id, client_id, error)

    def barrier(self, name: str, sender: str) -> bytes:
        """A question whose answer repeats the name, and shows how far the server has come.

        Servers of this level repeat nothing but the id of an ack request, also of one that
        they do not know.
        """
        return level1.get_ack_status(name, sender)

    # -- reading ----------------------------------------------------------------------------

    def read_publications(self, fields: Fields) -> Publications:
        data, sender = unwrap(fields)
        return text(fields, "topic"), sender, (data,)

    def read_question(self, fields: Fields, client_id: str) -> Question:
        topic = text(fields, "topic")
        data, sender = unwrap(fields)
        is_direct = topic.startswith(f"__direct_{client_id}")
        return Question(topic, sender, data, text(fields, "ack_id"), is_direct)


class ClientLevel2(ClientLevel1):
    """Batches, arrays, receipts, results, updates, codes of errors (spec, section 12)."""

    level = 2
    join = staticmethod(join)
    has_batches = True
    has_receipts = True
    noise = None

    def publish_with_ack(
        self, topic: str, sender: str, data: Any, ack_id: str, timeout: float
    ) -> bytes:
        return level2.publish_with_ack(topic, data, ack_id, timeout)

    def publish_to_id_with_ack(
        self, to: str, sender: str, data: Any, ack_id: str, timeout: float
    ) -> bytes:
        return level2.publish_to_id_with_ack(to, data, ack_id, timeout)

    def ack(self, ack_id: str, client_id: str, error: str | None, result: Any) -> bytes:
        return level2.ack(ack_id, error, result)

    def barrier(self, name: str, sender: str) -> bytes:
        return level2.ping(sender, name)

    def read_publications(self, fields: Fields) -> Publications:
        batch = fields.get("batch")
        payloads = batch if type(batch) is list else [fields.get("data")]
        return text(fields, "topic"), text(fields, "from"), payloads

    def read_question(self, fields: Fields, client_id: str) -> Question:
        topic, sender = text(fields, "topic"), text(fields, "from")
        return Question(topic, sender, fields.get("data"), text(fields, "ack_id"), not topic)


LEVEL_1 = ClientLevel1()
LEVEL_2 = ClientLevel2()


def greeting(client_id: str, highest: int) -> bytes:
    """The first ping of a connection, which offers a level."""
    ping = level2.ping if highest >= LEVEL_2.level else level1.ping
    return ping(client_id)


def agreed(fields: Fields, highest: int) -> ClientLevel1:
    """The dialect for a connection whose first pong this is."""
    is_offered = highest >= LEVEL_2.level
    return LEVEL_2 if is_offered and fields.get("proto") == LEVEL_2.level else LEVEL_1


def limit_in(fields: Fields) -> int | None:
    """The largest message that a server takes, in bytes, if its pong says so."""
    limits = fields.get("limits")
    limit = limits.get("max_message") if type(limits) is dict else None
    return limit if type(limit) is int and limit > 0 else None


def read_response(client_id: str, fields: Fields, request: str) -> AckResponse:
    """One outcome of the ack request of that id."""
    reason, ack_id = fields.get("error"), fields.get("ack_id")
    return AckResponse(
        client_id,
        fields.get("success") is True,
        reason if type(reason) is str else None,
        ack_id if type(ack_id) is str else request,
        fields.get("result"),
    )
