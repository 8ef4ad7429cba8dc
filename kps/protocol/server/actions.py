"""The actions of clients (spec, section 4).

An action is one entry in :data:`ACTIONS` and one function. The function reads the fields with
the session's dialect, checks the rules, and calls the bus. It refuses a request by raising
:class:`InvalidMessage`, and has then changed nothing. Those about subscriptions are in
``subscribing``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from kps.errors import InvalidArgument, QueueFull
from kps.protocol.access import rules
from kps.protocol.bus.ack_request import AckOwner, Keeper
from kps.protocol.bus.acks import DuplicateAckId
from kps.protocol.bus.message_ids import About, digest
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.dialect.codes import LIMIT_REACHED
from kps.protocol.dialect.envelope import (
    Fields,
    InvalidMessage,
    TooDeep,
    shown,
    text,
)
from kps.protocol.dialect.outcome import as_json, bad_result
from kps.protocol.dialect.requests import Ask
from kps.protocol.dialect.server import headers_in, message_id_in, required
from kps.protocol.dialect.texts import HardToFind, split_texts
from kps.protocol.server import once
from kps.protocol.server.actor import Actor, text_in
from kps.protocol.server.delivery import Direct, Refusal
from kps.protocol.server.desk import NO_ANSWERS, QUESTIONS
from kps.protocol.server.events import RelayRequested
from kps.protocol.server.gate import what_matters_in
from kps.protocol.server.replay import look_up
from kps.protocol.server.subscribing import subscribe, unsubscribe

# Units of work (see ``turns``).
_REGISTRATION = 20
_RELAY = 20
_HISTORY = 20
_LOOK = 20


def ping(actor: Actor, fields: Fields) -> None:
    actor.state.turns.left -= _REGISTRATION
    actor.gate.ping(fields)


def publish(actor: Actor, fields: Fields) -> None:
    topic, batch, receipt = actor.dialect.read_publish(fields)
    if actor.deep is not None:
        actor.run.check(topic)
    headers = _read_headers(actor, fields) if "headers" in fields else b""
    message_id = None
    if "message_id" in fields and actor.dialect.has_extras:
        message_id = message_id_in(fields)
    if batch is None:
        data = fields.get("data")
        if actor.deep is not None and actor.is_too_deep(data):
            raise TooDeep
        texts, count = [text_in(actor, fields, "data")], 1
    else:
        count = len(batch)
        _check_batch(actor, count)
        if actor.deep is not None:
            texts = _refuse_deep(actor, fields, batch)
            count = len(texts)
        else:
            texts = [text_in(actor, fields, "batch")[1:-1]] if count else []
    if message_id is not None:
        actor.run.finish()
        actor.run.check(topic)
        about = About("publish", topic, digest(b"" if batch is None else b"[", *texts))
        handled, is_known = once.look_up(actor, message_id, about)
        if is_known:
            confirm(actor, topic, receipt, handled.delivered)
        else:
            apart = partial(actor.run.publish_apart, topic, texts, count, headers)
            once.publish(actor, handled, apart, partial(confirm, actor, topic, receipt))
    elif receipt is None and not headers:
        actor.run.add(topic, texts, count)
    else:
        tell = None if receipt is None else partial(confirm, actor, topic, receipt)
        actor.run.publish_apart(topic, texts, count, headers, tell)


def confirm(actor: Actor, topic: str, receipt: str | None, delivered: int) -> None:
    """Tell a client how many subscribers got a publication, if it wants to know."""
    if receipt is not None:
        is_degraded = actor.state.is_degraded
        actor.reply(level2.published(topic, receipt, delivered, is_degraded=is_degraded))


def _read_headers(actor: Actor, fields: Fields) -> bytes:
    headers = headers_in(fields) if actor.dialect.has_extras else b""
    _check_headers(actor, headers)
    return headers


def _check_headers(actor: Actor, headers: bytes) -> None:
    most = actor.state.limits.max_headers
    if len(headers) > most:
        raise InvalidMessage(f"the headers have more than {most} bytes", "bad_request")


def add_batch(actor: Actor, topic: str, joined: bytes, count: int) -> None:
    """Publish the payloads of a batch that want no receipt."""
    _check_batch(actor, count)
    actor.run.add(topic, [joined], count)


def _check_batch(actor: Actor, count: int) -> None:
    if count > actor.state.limits.max_batch:
        raise InvalidMessage("the batch has too many payloads", LIMIT_REACHED)
    actor.received += (count or 1) - 1


def _refuse_deep(actor: Actor, fields: Fields, batch: list[Any]) -> list[bytes]:
    """Refuse the payloads that are nested too deeply, all with one error.

    Return the texts of the others.
    """
    is_deep = [actor.is_too_deep(payload) for payload in batch]
    if any(is_deep):
        actor.refuse(TooDeep(sum(is_deep)), fields)
    try:
        texts = split_texts(text_in(actor, fields, "batch"))
    except HardToFind:
        raise TooDeep(len(batch)) from None
    return [text for text, deep in zip(texts, is_deep, strict=True) if not deep]


def direct_message(actor: Actor, fields: Fields) -> None:
    to = required(fields, "to", "missing target ID")
    rules.check_direct(to, actor.permissions)
    data = text_in(actor, fields, "data")
    headers = _read_headers(actor, fields) if "headers" in fields else b""
    direct = Direct(actor.id, data, headers)
    refusal = Refusal(actor.number, what_matters_in(fields))
    if _is_known(actor, to, anew=actor.gate.is_for_one_request):
        _send_direct(actor, to, direct, refusal)
    else:
        _when_known(actor, refusal.request, partial(_send_if, actor, to, direct, refusal))


def _is_known(actor: Actor, client_id: str, *, anew: bool = False) -> bool:
    """Tell whether it is known where a client is. In a cluster, we may have to ask first.

    A client may have left since we asked. Who sends one message only learns that later from nobody,
    so we ask ``anew``.
    """
    names = actor.state.names
    return names is None or names.locate(actor.number, client_id, anew=anew)


def _when_known(actor: Actor, request: Fields, go_on: Callable[[object], None]) -> None:
    """Go on once it is known, and hear the sender no further until then.

    ``go_on`` gets ``False`` if nobody has the id.
    """

    def located(verdict: object) -> None:
        try:
            go_on(verdict)
        except InvalidMessage as error:
            actor.refuse(error, request)

    actor.gate.hold(located)


def _send_if(actor: Actor, to: str, direct: Direct, refusal: Refusal, is_there: object) -> None:
    if is_there is False:
        raise no_such_client(to)
    _send_direct(actor, to, direct, refusal)


def _send_direct(actor: Actor, to: str, direct: Direct, refusal: Refusal) -> None:
    if not actor.delivery.send_direct(to, direct, refusal):
        raise no_such_client(to)


def no_such_client(client_id: str) -> InvalidMessage:
    """Return the refusal of a message to a client that is not there."""
    return InvalidMessage(f"no client has the id {shown(client_id)}", "no_such_client")


def publish_to_server(actor: Actor, fields: Fields) -> None:
    actor.state.turns.left -= _RELAY
    relay = actor.dialect.read_relay(fields, text_in(actor, fields, "data"))
    try:
        target = RelayTarget.parse(relay.to)
    except InvalidArgument as error:
        raise relay_failed(error) from None
    shows_token = rules.check_relay(target, actor.permissions, secure=relay.secure)
    actor.state.emit(
        RelayRequested(
            actor.number,
            relay.to,
            target,
            relay.data,
            actor.id,
            relay.secure,
            shows_token,
            actor.owner,
        )
    )


def server_to_server(actor: Actor, fields: Fields) -> None:
    rules.check_peer(actor.permissions)
    message = actor.dialect.read_from_server(fields)
    to, proxied, addresses = message.to, message.proxied, actor.state.addresses
    by_this_name = to and not proxied and to == actor.host
    if not (to in addresses or proxied in addresses or by_this_name):
        raise InvalidMessage("the message is addressed to another server", "wrong_server")
    topic = message.topic
    if topic:
        actor.run.check(topic)
    # An origin without the form of another server's id could impersonate a client of this one.
    sender = actor.id
    if rules.is_foreign(message.origin):
        sender = message.origin
        rules.check_sender(sender, actor.state.limits)
    actor.delivery.receive_server_data(topic, message.data, sender)


def publish_with_ack(actor: Actor, fields: Fields) -> None:
    payload = text_in(actor, fields, "data")
    ask_topic(actor, actor.dialect.read_ask(fields, payload, "topic", "missing or invalid topic"))


def publish_to_id_with_ack(actor: Actor, fields: Fields) -> None:
    payload = text_in(actor, fields, "data")
    ask_id(actor, actor.dialect.read_ask(fields, payload, "to", "missing target ID"))


def ask_topic(actor: Actor, ask: Ask) -> None:
    """Publish with acks, or ask the server about itself."""
    if ask.target in QUESTIONS:
        desk = actor.state.desk
        if desk is None:
            raise InvalidMessage(NO_ANSWERS, "forbidden")
        question = desk.read(actor, ask)
        _ask(actor, partial(desk.answer, question), ask, "publish_with_ack")
        return
    actor.run.check(ask.target)
    _ask(actor, actor.delivery.ask_topic, ask, "publish_with_ack")


def ask_id(actor: Actor, ask: Ask) -> None:
    """Send a direct message with ack."""
    rules.check_direct(ask.target, actor.permissions)
    action = "publish_to_id_with_ack"
    if _is_known(actor, ask.target):
        _ask(actor, actor.delivery.ask_id, ask, action)
    else:
        request = {"action": action, "to": ask.target, "ack_id": ask.ack_id}
        ask_id = actor.delivery.ask_id
        _when_known(actor, request, lambda _: _ask(actor, ask_id, ask, action))


def _ask(
    actor: Actor,
    ask_them: Callable[[AckOwner, str, Ask, Keeper | None], None],
    ask: Ask,
    action: str,
) -> None:
    limits = actor.state.limits
    rules.check_length(ask.ack_id, "ack_id", limits.max_ack_id)
    demands = ask.demands
    _check_headers(actor, ask.headers)
    if len(demands.expected) + len(demands.groups) > limits.max_expected:
        raise InvalidMessage("too many receivers are expected", LIMIT_REACHED)
    for client_id in demands.expected:
        rules.check_length(client_id, "id", limits.max_id)
    for group in demands.groups:
        rules.check_group_name(group, limits)
    rules.check_length(demands.message_key, "key", limits.max_topic)
    handled, is_known = None, False
    if ask.message_id is not None:
        about = About(action, ask.target, digest(ask.data))
        handled, is_known = once.look_up(actor, ask.message_id, about)
    try:
        if handled is not None and is_known:
            once.answer_again(actor, handled, ask)
        else:
            ask_them(actor, actor.id, ask, handled)
        return
    except DuplicateAckId:
        refusal = InvalidMessage("ack_id is in use", "ack_id_in_use")
    except QueueFull as error:
        refusal = InvalidMessage(str(error), LIMIT_REACHED)
    if handled is not None and not is_known:
        actor.state.message_ids.forget(handled)
    raise refusal


def ack(actor: Actor, fields: Fields) -> None:
    limits = actor.state.limits
    ack_id, error, result, has_begun = actor.dialect.read_answer(fields)
    kept, size = None, 0
    if error is not None:
        error = error[: limits.max_error]
    elif result is not None:
        try:
            if actor.is_too_deep(result):
                raise TooDeep
            written = text_in(actor, fields, "result")
            kept, size = as_json(written), len(written)
        except TooDeep:
            error = bad_result("it is nested too deeply")
    actor.state.acks.answer(actor, ack_id, error, kept, size, has_begun=has_begun)


def get_ack_status(actor: Actor, fields: Fields) -> None:
    ack_id = required(fields, "ack_id", "missing ack_id")
    request = actor.state.acks.find(actor, ack_id)
    status = request.status() if request else {}
    actor.state.turns.left -= len(status)
    actor.reply(level1.ack_status(ack_id, status))


def cancel_ack(actor: Actor, fields: Fields) -> None:
    ack_id = required(fields, "ack_id", "missing ack_id")
    actor.state.acks.cancel(actor, ack_id)
    actor.reply(level1.ack_cancelled(ack_id))


def history(actor: Actor, fields: Fields) -> None:
    topic = required(fields, "topic", "missing or invalid topic")
    since, count, nonce = actor.dialect.read_history(fields, actor.state.limits.max_positions)
    rules.check_subscribe(topic, actor.permissions, actor.state.limits)
    logs = actor.state.logs
    log = None if logs is None else logs.log(topic)
    if log is None:
        raise InvalidMessage("this topic has no history", "no_history")
    limits = actor.state.limits
    standing, entries = look_up(log, since, count, limits.max_positions, limits.max_message // 2)
    actor.state.tally.recovered(standing.recovered, standing.lost)
    actor.state.turns.left -= _HISTORY + len(entries) + log.book.take_work()
    actor.reply(level2.history(topic, nonce, entries, standing.fields(is_pattern=False)))


def presence(actor: Actor, fields: Fields) -> None:
    topic, nonce = actor.dialect.read_look(fields)
    rules.check_subscribe(topic, actor.permissions, actor.state.limits)
    rules.check_presence(topic, actor.permissions)
    actor.state.turns.left -= _LOOK
    book = actor.state.presence

    def tell() -> None:
        actor.reply(level2.presence(topic, {"nonce": nonce} | book.look(topic)))

    book.prepare(topic, tell)


class Action(NamedTuple):
    """One action."""

    handle: Callable[[Any, Fields], None]
    """The function. Its first argument is an :class:`Actor`."""
    unregistered: str | None = "client not registered"
    """The refusal for an unregistered client; ``None`` if such a client may use the action."""
    joins_run: bool = False
    """Whether it adds to the gathered publications. Before any other action these are delivered."""


ACTIONS: dict[str | None, Action] = {
    "ping": Action(ping, unregistered=None),
    "subscribe": Action(subscribe, unregistered="client not registered, send ping first"),
    "unsubscribe": Action(unsubscribe),
    "publish": Action(publish, joins_run=True),
    "direct_message": Action(direct_message),
    "publish_to_server": Action(publish_to_server),
    "server-to-server": Action(server_to_server),
    "publish_with_ack": Action(publish_with_ack),
    "publish_to_id_with_ack": Action(publish_to_id_with_ack),
    "ack": Action(ack),
    "history": Action(history),
    "presence": Action(presence),
    "get_ack_status": Action(get_ack_status),
    "cancel_ack": Action(cancel_ack),
}


def _no_action(actor: Actor, fields: Fields) -> None:
    name = text(fields, "action")
    if not name:
        raise InvalidMessage("missing or invalid action")
    raise InvalidMessage(f"unknown action: {shown(name)}", "unknown_action")


NO_ACTION = Action(_no_action, unregistered=None)
"""The refusal of a message whose action is missing or unknown."""


def relay_failed(reason: object) -> InvalidMessage:
    """Return the refusal of a message to another server."""
    return InvalidMessage(f"failed to relay to server: {shown(str(reason))}", "relay_failed")
