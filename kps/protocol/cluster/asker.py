"""A request of another node that this one handles."""

from kps.protocol.bus.ack_figures import HANDLED, AckFigures
from kps.protocol.bus.ack_request import AckRequest
from kps.protocol.cluster.frames import Kind
from kps.protocol.cluster.nodes import Node
from kps.protocol.dialect.envelope import write
from kps.protocol.dialect.outcome import AckResponse, GroupResponse, Json, kept_result


class FiguresOfOthers(AckFigures):
    """Figures of requests that count at the nodes of their publishers, which are told each word."""

    def __init__(self) -> None:
        super().__init__()
        self._word = HANDLED

    def note(self, outcome: str) -> None:
        """Note the word for an outcome, which the owner of the request is told next."""
        self._word = outcome

    def take_word(self) -> str:
        """Return the word for the outcome that has become known."""
        word, self._word = self._word, HANDLED
        return word


class Asker:
    """The owner of an ack request here whose publisher is on another node."""

    def __init__(self, node: Node, ack_id: str, figures: FiguresOfOthers) -> None:
        self.node = node
        self.ack_id = ack_id
        """The node's id of the request, or of the task."""
        self.figures = figures

    def tell(self, kind: Kind, *values: object, payload: bytes = b"") -> None:
        """Tell the node something about the request."""
        self.node.send(kind, self.ack_id, *values, payload=payload)

    def ack_updated(self, request: AckRequest, response: AckResponse) -> None:
        """Tell the node of an outcome."""
        word, kept = self.figures.take_word(), kept_result(response)
        result = write(kept) if isinstance(kept, Json) else b""
        if isinstance(response, GroupResponse):
            self.tell(Kind.TOOK, response.client_id, response.attempts, response.failures)
            self.tell(Kind.CONCLUDED, response.error, word, payload=result)
        else:
            self.tell(Kind.OUTCOME, response.client_id, response.error, word, payload=result)

    def ack_finished(self, request: AckRequest) -> None:
        """Note the end. The node itself knows when the time is over."""
        self.node.asking.pop(self.ack_id, None)
