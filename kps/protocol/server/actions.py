"""The actions of clients (spec, section 4).

An action is one entry in :data:`ACTIONS` and one function. The function reads the fields with
the session's dialect, checks the rules, and calls the bus. It refuses a request by raising
:class:`InvalidMessage`, and has then changed nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from kps.errors import InvalidArgument, QueueFull
from kps.protocol.access import rules
from kps.protocol.access.identity import Permissions
from kps.protocol.bus.ack_request import AckOwner
from kps.protocol.bus.acks import DuplicateAckId
from kps.protocol.dialect import level1, level2
from kps.protocol.dialect.address import RelayTarget
from kps.protocol.dialect.codes import LIMIT_REACHED
from kps.protocol.dialect.envelope import (
    Fields,
    InvalidMessage,
    TooDeep,
    load,
    shown,
    text,
)
from kps.protocol.dialect.outcome import as_json, bad_result
from kps.protocol.dialect.places import Start, without_history
from kps.protocol.dialect.requests import Ask
from kps.protocol.dialect.server import required
from kps.protocol.dialect.texts import HardToFind, find_text, split_texts, text_of
from kps.protocol.patterns import InGroup, Scope
from kps.protocol.server.clients import describe
from kps.protocol.server.delivery import Delivery
from kps.protocol.server.events import RelayRequested, Subscribing, SubscriptionRequested
from kps.protocol.server.gate import Gate, what_matters_in
from kps.protocol.server.ports import Client
from kps.protocol.server.presence import Observer
from kps.protocol.server.replay import Replayed, Replays, find_logs, look_up, stand
from kps.protocol.server.run import Run
from kps.protocol.server.state import ServerState


class Actor(Replayed, Client, Observer, Protocol):
    """The session of the client that asks for an action, as actions see it."""

    number: int
    gate: Gate
    run: Run
    state: ServerState
    delivery: Delivery
    deep: object
    """A part of the message that is being handled, if that is nested too deeply."""
    replays: Replays | None
    """What it gets of the past, if it has asked for something."""
    text: bytes | None
    """The message that is being handled, unless all in it is written as we would write it."""

    @property
    def permissions(self) -> Permissions:
        """The client's permissions."""

    @property
    def owner(self) -> tuple[str, str]:
        """Whose client it is: the name of its identity, or the address of an anonymous one."""

    @property
    def host(self) -> str:
        """The host by which the client reached the server."""

    def is_too_deep(self, payload: object) -> bool:
        """Tell whether a payload in the message is nested too deeply."""

    def reply(self, message: bytes) -> bool:
        """Answer the client."""

    def refuse(self, error: InvalidMessage, request: Fields) -> None:
        """Answer the client with an error that refuses ``request``."""


# Units of work (see ``turns``).
_REGISTRATION = 20
_SUBSCRIPTION = 5
_PATTERN = 30
_RELAY = 20
_HISTORY = 20
_LOOK = 20

_NOT_IN_A_GROUP = ("since", "last", "info", "presence")  # fields that a member may not give


def ping(actor: Actor, fields: Fields) -> None:
    actor.state.turns.left -= _REGISTRATION
    actor.gate.ping(fields)


def subscribe(actor: Actor, fields: Fields) -> None:
    actor.state.turns.left -= _SUBSCRIPTION
    state, dialect = actor.state, actor.dialect
    key = dialect.read_key(fields)
    if isinstance(key, InGroup):
        _join_group(actor, key, fields)
        return
    info, observes = _read_presence(actor, key, fields)
    if key in actor.topics:
        actor.reply(dialect.subscribed(key, presence=_attend(actor, key, info, observes)))
        return
    is_pattern = not isinstance(key, str)
    if is_pattern:
        state.turns.left -= _PATTERN
    start = dialect.read_start(fields, state.limits.max_positions, is_pattern=is_pattern)
    rules.check_subscribe(key, actor.permissions, state.limits)
    join = partial(_join, actor, key, start, info, observes)
    _permit(actor, key, "", fields, info, join)


def _join_group(actor: Actor, key: InGroup, fields: Fields) -> None:
    """Subscribe as a member of a group."""
    state, scope = actor.state, key.scope
    concurrency = min(actor.dialect.read_concurrency(fields), state.limits.max_concurrency)
    if any(fields.get(name) is not None for name in _NOT_IN_A_GROUP):
        raise InvalidMessage("a group has neither a past nor presence", "bad_request")
    rules.check_subscribe(scope, actor.permissions, state.limits)
    rules.check_group(key.group, state.limits)
    if not isinstance(scope, str):
        state.turns.left -= _PATTERN

    def join() -> None:
        if key not in actor.topics:
            _check_room(actor, scope)
        state.bus.subscribe(actor, key, concurrency)
        actor.reply(actor.dialect.subscribed(key))

    if key in actor.topics:
        join()
    else:
        _permit(actor, scope, key.group, fields, None, join)


def _permit(
    actor: Actor,
    scope: Scope,
    group: str,
    fields: Fields,
    info: bytes | None,
    join: Callable[[], None],
) -> None:
    """Go on with a subscription if the program allows it, or at once if it does not decide."""
    if not actor.state.config.asks_subscribe:
        join()
        return
    client = describe(actor, actor.state.now)
    asked = Subscribing(client, scope, load(info) if info else None, group)
    event = SubscriptionRequested(actor.number, asked)
    actor.gate.ask_for(event, what_matters_in(fields), join)


def _read_presence(actor: Actor, key: Scope, fields: Fields) -> tuple[bytes | None, bool | None]:
    """Read what a subscription has to do with presence: its info, as JSON, and whether it observes.

    ``None`` means: as before.
    """
    info, observes = actor.dialect.read_wish(fields)
    if not isinstance(key, str):
        return None, None
    if observes:
        rules.check_presence(key, actor.permissions)
    if info is None:
        return None, observes
    if actor.is_too_deep(info):
        raise TooDeep
    written = _text(actor, fields, "info") if info else b""
    actor.state.presence.check_info(actor, key, written)
    return written, observes


def _attend(actor: Actor, key: Scope, info: bytes | None, observes: bool | None) -> Fields | None:
    """Note what a subscriber says about itself, and whether it observes; return who is there."""
    presence = actor.state.presence
    if not isinstance(key, str):
        return None
    if info is not None:
        presence.set_info(actor, key, info)
    if observes is None:
        return None
    if observes:
        return presence.observe(actor, key)
    presence.ignore(actor, key)
    return None


def _join(
    actor: Actor, key: Scope, start: Start | None, info: bytes | None, observes: bool | None
) -> None:
    """Subscribe, as the rules and the program allow it."""
    _check_room(actor, key)
    logs = actor.state.logs
    if logs is not None and not isinstance(key, str) and start is not None:
        actor.replays = actor.replays or Replays(actor)
        find_logs(logs, actor.replays, key)  # which refuses what would be too much
    if info and isinstance(key, str):
        actor.state.presence.set_info(actor, key, info)
    actor.delivery.subscribe(actor, key, lambda: _confirm(actor, key, start, observes))


def _check_room(actor: Actor, scope: Scope) -> None:
    """Refuse a subscription that would be one too many."""
    limits, bus = actor.state.limits, actor.state.bus
    if len(actor.topics) >= limits.max_subscriptions:
        raise InvalidMessage("this client has too many subscriptions", LIMIT_REACHED)
    if not bus.has_room(scope, limits.max_topics):
        raise InvalidMessage("the server has too many topics", LIMIT_REACHED)
    if bus.is_crowded(scope):
        raise InvalidMessage("too many patterns begin and end like this one", LIMIT_REACHED)


def _confirm(actor: Actor, key: Scope, start: Start | None, observes: bool | None) -> None:
    """Confirm a subscription, and begin to replay what it asks for."""
    logs = actor.state.logs
    members = _attend(actor, key, None, observes)
    if logs is None:
        actor.reply(actor.dialect.subscribed(key, without_history(start), members))
        return
    replays = actor.replays = actor.replays or Replays(actor)
    standing = stand(logs, replays, key, start)
    actor.reply(actor.dialect.subscribed(key, standing, members))
    replays.go_on()


def unsubscribe(actor: Actor, fields: Fields) -> None:
    actor.state.turns.left -= _SUBSCRIPTION
    key = actor.dialect.read_key(fields)
    actor.state.bus.unsubscribe(actor, key)
    if actor.replays:
        actor.replays.forget()
    actor.reply(actor.dialect.unsubscribed(key))


def publish(actor: Actor, fields: Fields) -> None:
    topic, batch, receipt = actor.dialect.read_publish(fields)
    if actor.deep is not None:
        actor.run.check(topic)
    if batch is None:
        data = fields.get("data")
        if actor.deep is not None and actor.is_too_deep(data):
            raise TooDeep
        texts, count = [_text(actor, fields, "data")], 1
    else:
        count = len(batch)
        _check_batch(actor, count)
        if actor.deep is not None:
            texts = _refuse_deep(actor, fields, batch)
            count = len(texts)
        else:
            texts = [_text(actor, fields, "batch")[1:-1]] if count else []
    headers = _read_headers(actor, fields) if "headers" in fields else b""
    if receipt is None and not headers:
        actor.run.add(topic, texts, count)
    else:
        actor.run.publish_apart(topic, texts, count, receipt, headers)


def _read_headers(actor: Actor, fields: Fields) -> bytes:
    headers = actor.dialect.read_headers(fields)
    _check_headers(actor, headers)
    return headers


def _check_headers(actor: Actor, headers: bytes) -> None:
    most = actor.state.limits.max_headers
    if len(headers) > most:
        raise InvalidMessage(f"the headers have more than {most} bytes", LIMIT_REACHED)


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
        texts = split_texts(_text(actor, fields, "batch"))
    except HardToFind:
        raise TooDeep(len(batch)) from None
    return [text for text, deep in zip(texts, is_deep, strict=True) if not deep]


def _text(actor: Actor, fields: Fields, name: str) -> bytes:
    """Return the text of a field of the message that is being handled."""
    if actor.deep is None:
        return text_of(actor.text, fields, name)
    if actor.text is None:  # nothing that is so deep is written
        raise TooDeep
    try:
        return find_text(actor.text, name)
    except HardToFind:
        raise TooDeep from None


def direct_message(actor: Actor, fields: Fields) -> None:
    to = required(fields, "to", "missing target ID")
    rules.check_direct(to, actor.permissions)
    data = _text(actor, fields, "data")
    headers = _read_headers(actor, fields) if "headers" in fields else b""
    if not actor.delivery.send_direct(to, actor.id, data, headers):
        raise InvalidMessage(f"no client has the id {shown(to)}", "no_such_client")


def publish_to_server(actor: Actor, fields: Fields) -> None:
    actor.state.turns.left -= _RELAY
    relay = actor.dialect.read_relay(fields, _text(actor, fields, "data"))
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
    payload = _text(actor, fields, "data")
    ask_topic(actor, actor.dialect.read_ask(fields, payload, "topic", "missing or invalid topic"))


def publish_to_id_with_ack(actor: Actor, fields: Fields) -> None:
    payload = _text(actor, fields, "data")
    ask_id(actor, actor.dialect.read_ask(fields, payload, "to", "missing target ID"))


def ask_topic(actor: Actor, ask: Ask) -> None:
    """Publish with acks."""
    actor.run.check(ask.target)
    _ask(actor, actor.delivery.ask_topic, ask)


def ask_id(actor: Actor, ask: Ask) -> None:
    """Send a direct message with ack."""
    rules.check_direct(ask.target, actor.permissions)
    _ask(actor, actor.delivery.ask_id, ask)


def _ask(actor: Actor, ask_them: Callable[[AckOwner, str, Ask], None], ask: Ask) -> None:
    limits = actor.state.limits
    rules.check_length(ask.ack_id, "ack_id", limits.max_ack_id)
    demands = ask.demands
    _check_headers(actor, ask.headers)
    if len(demands.expected) + len(demands.groups) > limits.max_expected:
        raise InvalidMessage("too many receivers are expected", LIMIT_REACHED)
    for client_id in demands.expected:
        rules.check_length(client_id, "id", limits.max_id)
    for group in demands.groups:
        rules.check_group(group, limits)
    rules.check_length(demands.hint, "key", limits.max_topic)
    try:
        ask_them(actor, actor.id, ask)
    except DuplicateAckId:
        raise InvalidMessage("ack_id is in use", "ack_id_in_use") from None
    except QueueFull as error:
        raise InvalidMessage(str(error), LIMIT_REACHED) from None


def ack(actor: Actor, fields: Fields) -> None:
    limits = actor.state.limits
    ack_id, error, result = actor.dialect.read_answer(fields)
    kept, size = None, 0
    if error is not None:
        error = error[: limits.max_error]
    elif result is not None:
        try:
            if actor.is_too_deep(result):
                raise TooDeep
            written = _text(actor, fields, "result")
            kept, size = as_json(written), len(written)
        except TooDeep:
            error = bad_result("it is nested too deeply")
    actor.state.acks.answer(actor, ack_id, error, kept, size)


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
    actor.state.turns.left -= _HISTORY + len(entries) + log.book.take_work()
    actor.reply(level2.history(topic, nonce, entries, standing.fields(is_pattern=False)))


def presence(actor: Actor, fields: Fields) -> None:
    topic, nonce = actor.dialect.read_look(fields)
    rules.check_subscribe(topic, actor.permissions, actor.state.limits)
    rules.check_presence(topic, actor.permissions)
    actor.state.turns.left -= _LOOK
    actor.reply(level2.presence(topic, {"nonce": nonce} | actor.state.presence.look(topic)))


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
