"""Messages with ids: the server handles each once, and answers a repeat as it did the first."""

from kps.errors import QueueFull
from kps.protocol.access import rules
from kps.protocol.bus.message_ids import About, Handled
from kps.protocol.dialect import level2
from kps.protocol.dialect.codes import LIMIT_REACHED
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.dialect.requests import Ask
from kps.protocol.server.actor import Actor

_REMEMBERED = 10  # units of work (see ``turns``)


def look_up(actor: Actor, message_id: str, about: About) -> tuple[Handled, bool]:
    """Return what is known of a message, and whether it has been handled.

    If not, it is from now on: finish or forget it. Raises ``InvalidMessage``.
    """
    state = actor.state
    state.turns.left -= _REMEMBERED
    rules.check_length(message_id, "message_id", state.limits.max_id)
    handled = state.message_ids.find(actor.id, message_id)
    if handled is not None:
        if handled.about != about:
            raise InvalidMessage("another message has this message_id", _IN_USE)
        return handled, True
    try:
        return state.message_ids.begin(actor.id, message_id, about), False
    except QueueFull as error:
        raise InvalidMessage(str(error), LIMIT_REACHED) from None


def answer_again(actor: Actor, handled: Handled, ask: Ask) -> None:
    """Answer the repeat of an ack request; what is still to come of the answer comes to it.

    Raises ``InvalidMessage`` and ``DuplicateAckId``.
    """
    request = handled.request
    if request is None:
        if handled.ending is None:
            raise InvalidMessage("the outcome of this message is not known any more", _UNKNOWN)
        actor.state.turns.left -= len(handled.ending) // _WRITTEN
        actor.reply(level2.ack_response_again(ask.ack_id, handled.ending))
        return
    if request.owner is actor:
        raise InvalidMessage("a message with this message_id is under way", _IN_USE)
    actor.state.acks.hand_over(request, actor, ask.ack_id, wants_updates=ask.wants_updates)
    if ask.wants_updates and request.responses:
        told = request.untold()
        actor.state.turns.left -= len(told)
        actor.reply(actor.dialect.ack_update(ask.ack_id, told))


_IN_USE = "message_id_in_use"
_UNKNOWN = "outcome_unknown"
_WRITTEN = 2048  # bytes of an answer that count as one unit
