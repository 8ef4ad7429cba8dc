"""Messages with ids: the server handles each once, and answers a repeat as it did the first."""

from collections.abc import Callable

from kps.errors import QueueFull
from kps.protocol.access import rules
from kps.protocol.bus.acks import NOBODY
from kps.protocol.bus.message_ids import About, Handled
from kps.protocol.dialect import level2
from kps.protocol.dialect.codes import LIMIT_REACHED, MESSAGE_ID_IN_USE, OUTCOME_UNKNOWN
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.dialect.requests import Ask, MessageId
from kps.protocol.server.actor import Actor

_REMEMBERED = 10  # units of work (see ``turns``)


def look_up(actor: Actor, message_id: MessageId, about: About) -> tuple[Handled, bool]:
    """Return what is known of a message, and whether it has been handled.

    If not, it is from now on: finish or forget it. Raises ``InvalidMessage``.
    """
    state = actor.state
    state.turns.left -= _REMEMBERED
    rules.check_message_id(message_id.text, state.limits)
    ids, owner = state.message_ids, actor.owner
    handled = ids.find(actor.id, message_id.text)
    if handled is not None:
        if handled.about != about or handled.owner[0] != owner[0]:
            raise InvalidMessage("another message has this message_id", MESSAGE_ID_IN_USE)
        if message_id.until is None:
            ids.came_again(handled)
        state.tally.repeats += 1
        return handled, True
    if message_id.until is not None and message_id.until <= state.now:
        raise InvalidMessage("nobody knows any more if this was handled", OUTCOME_UNKNOWN)
    try:
        is_repeat = message_id.until is not None
        handled = ids.begin(actor.id, message_id.text, owner, about, is_repeat=is_repeat)
    except QueueFull as error:
        raise InvalidMessage(str(error), LIMIT_REACHED) from None
    is_topic = about.action != "publish_to_id_with_ack"
    if is_topic and state.logs is not None:
        handled.is_kept = state.logs.rule_of(about.target) is not None
    return handled, False


def publish(
    actor: Actor,
    handled: Handled,
    deliver: Callable[[Callable[[int], None]], object],
    confirm: Callable[[int], object],
) -> None:
    """Publish a message, and remember that if anybody is there to get it; then confirm it."""

    def tell(delivered: int) -> None:
        handled.delivered = delivered
        confirm(delivered)

    ids = actor.state.message_ids
    has_receivers = any(actor.state.bus.receivers(handled.about.target))
    handled.is_delivered_now = True
    try:
        deliver(tell)
        if has_receivers or handled.is_kept:
            ids.finish(handled)
        else:
            ids.forget(handled)
    except BaseException:  # out of a signal handler
        ids.forget(handled)
        raise


def answer_again(actor: Actor, handled: Handled, ask: Ask) -> None:
    """Answer the repeat of an ack request; what is still to come of the answer comes to it.

    Raises ``InvalidMessage`` and ``DuplicateAckId``.
    """
    request, acks = handled.request, actor.state.acks
    if request is None:
        if handled.ending is None:
            raise InvalidMessage("the outcome of this is not known any more", OUTCOME_UNKNOWN)
        actor.state.turns.left -= len(handled.ending) // _WRITTEN
        actor.reply(level2.ack_response_again(ask.ack_id, handled.ending))
        return
    if request.owner is not NOBODY and not acks.is_leaving(request.owner):
        raise InvalidMessage("a message with this message_id is under way", MESSAGE_ID_IN_USE)
    acks.hand_over(request, actor, ask.ack_id, wants_updates=ask.wants_updates)
    if ask.wants_updates and request.responses:
        told = request.untold()
        update = actor.dialect.ack_update(ask.ack_id, told)
        actor.state.turns.left -= len(told) + len(update) // _WRITTEN
        actor.reply(update)


_WRITTEN = 2048  # bytes of an answer that count as one unit
