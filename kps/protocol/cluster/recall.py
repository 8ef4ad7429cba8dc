"""What other nodes know of a message with an id that an HTTP request has brought.

Other clients learn with their connection which messages the node may know. Who makes a request
over HTTP learns of no node, and may come to another one with each. So a node that does not know
such a message asks all others before it handles it.
"""

from collections.abc import Callable
from functools import partial

from kps.errors import QueueFull
from kps.protocol.bus.message_ids import About, Handled, MessageIds, Owner
from kps.protocol.cluster.survey import Reply, Survey, Told
from kps.protocol.dialect.codes import LIMIT_REACHED, MESSAGE_ID_IN_USE
from kps.protocol.dialect.envelope import InvalidMessage, load, write

_HANDLED = "handled"  # what is asked
_UNDER_WAY = b"under way"

Ready = Callable[[InvalidMessage | None], object]
"""Is called when the message may be handled, or with why it may not."""


class Recall:
    """Asks other nodes for messages, and answers them.

    A node that says nothing for ``patience`` seconds counts as one that knows nothing.
    """

    def __init__(self, ids: MessageIds, survey: Survey, patience: float) -> None:
        self._ids = ids
        self._survey = survey
        self._patience = patience
        self._begun: dict[tuple[str, str], int] = {}  # for which request, by its number
        survey.answers[_HANDLED] = self._tell

    def ask(self, number: int, client_id: str, owner: Owner, message_id: str, ready: Ready) -> None:
        """Find out if a message of a client was handled; call ``ready`` at once or later.

        What another node has handled is then known here. The message is under way, for all nodes,
        until ``over`` is called for the request of that ``number``.
        """
        one = (client_id, message_id)
        if self._ids.find(*one) is not None:
            ready(None)
        elif one in self._begun:
            ready(_refusal())
        else:
            self._begun[one] = number
            done = partial(self._told, one, owner, ready)
            self._survey.ask(_HANDLED, *one, patience=self._patience, done=done)

    def over(self, number: int, client_id: str, message_id: str) -> None:
        """Note that a request is over. What was handled for it is in the books by now."""
        if self._begun.get((client_id, message_id)) == number:
            del self._begun[client_id, message_id]

    def _told(self, one: tuple[str, str], owner: Owner, ready: Ready, told: Told) -> None:
        answer = max(told.values(), key=lambda text: text != _UNDER_WAY, default=b"")
        if answer == _UNDER_WAY:
            ready(_refusal())
            return
        try:
            if answer:
                self._take(one, owner, answer)
        except QueueFull as error:
            ready(InvalidMessage(str(error), LIMIT_REACHED))
        else:
            ready(None)

    def _take(self, one: tuple[str, str], owner: Owner, answer: bytes) -> None:
        """Know what another node has handled."""
        if self._ids.find(*one) is None:
            head, _, ending = answer.partition(b"\n")
            *about, delivered = load(head)
            handled = self._ids.begin(*one, owner, About(*about))
            handled.delivered = delivered
            self._ids.finish(handled, ending)

    def _tell(self, reply: Reply, client_id: str, message_id: str) -> None:
        """Tell another node what is known of a message: nothing, if it was not handled."""
        handled = self._ids.find(client_id, message_id)
        if handled is not None and handled.is_done:
            reply(_written(handled))
        elif handled is not None or (client_id, message_id) in self._begun:
            reply(_UNDER_WAY)
        else:
            reply(b"")


def _written(handled: Handled) -> bytes:
    return write([*handled.about, handled.delivered]) + b"\n" + (handled.ending or b"")


def _refusal() -> InvalidMessage:
    return InvalidMessage("a message with this message_id is under way", MESSAGE_ID_IN_USE)
