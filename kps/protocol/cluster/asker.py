"""A request of another node that this one handles."""

from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.nodes import Node
from kps.protocol.dialect.envelope import write
from kps.protocol.dialect.outcome import AckResponse, GroupResponse, Json, kept_result


class Asker:
    """The owner of an ack request here whose publisher is on another node."""

    def __init__(self, node: Node, ack_id: str) -> None:
        self.node = node
        self.ack_id = ack_id
        """The node's id of the request, or of the task."""

    def tell(self, kind: Kind, *values: object, payload: bytes = b"") -> None:
        """Tell the node something about the request."""
        self.node.send(kind, self.ack_id, *values, payload=payload)

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        """Tell the node of an outcome."""
        kept = kept_result(response)
        result = write(kept) if isinstance(kept, Json) else b""
        if isinstance(response, GroupResponse):
            self.tell(Kind.TOOK, response.client_id, response.attempts, response.failures)
            self.tell(Kind.CONCLUDED, response.error, payload=result)
        else:
            self.tell(Kind.OUTCOME, response.client_id, response.error, payload=result)

    def ack_finished(self, request: AckRequest) -> None:
        """Note the end. The node itself knows when the time is over."""
        self.node.asking.pop(self.ack_id, None)
