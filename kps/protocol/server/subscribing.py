"""How clients subscribe: with messages of the past, with presence, in groups (spec, 14 to 18)."""

from collections.abc import Callable, Sequence
from functools import partial

from kps.protocol.access import rules
from kps.protocol.dialect.codes import LIMIT_REACHED
from kps.protocol.dialect.envelope import Fields, InvalidMessage, TooDeep, load
from kps.protocol.dialect.places import Start, without_history
from kps.protocol.patterns import InGroup, Key, Scope
from kps.protocol.server.actor import Actor, text_in
from kps.protocol.server.clients import describe
from kps.protocol.server.events import Subscribing, SubscriptionRequested
from kps.protocol.server.gate import what_matters_in
from kps.protocol.server.replay import Replays, find_logs, stand

# Units of work (see ``turns``).
_SUBSCRIPTION = 5
_PATTERN = 30
_COUNTED = 16  # subscriptions that are looked at, for one unit

_NOT_IN_A_GROUP = ("since", "last", "info", "presence")  # fields that a member may not give


def subscribe(actor: Actor, fields: Fields) -> None:
    actor.state.turns.left -= _SUBSCRIPTION
    state, dialect = actor.state, actor.dialect
    key = dialect.read_key(fields)
    if isinstance(key, InGroup):
        _join_group(actor, key, fields)
        return
    info, observes = _read_presence(actor, key, fields)
    if key in actor.topics:
        change = partial(_change, actor, key, info, observes)
        if info is None:
            change()
        else:  # the program decides on what a client says about itself, too
            _permit(actor, key, "", fields, info, change)
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
    if key not in actor.topics:
        rules.check_subscribe(scope, actor.permissions, state.limits)
        rules.check_group(key, actor.permissions, state.limits)
    if not isinstance(scope, str):
        state.turns.left -= _PATTERN

    def join() -> None:
        if key not in actor.topics:
            _check_room(actor, scope)
            groups = sum(isinstance(one, InGroup) for one in actor.topics)
            state.turns.left -= len(actor.topics) // _COUNTED
            if groups >= state.limits.max_groups:
                raise InvalidMessage("this client is a member of too many groups", LIMIT_REACHED)
        actor.delivery.subscribe(actor, key, partial(_reply, actor, key), concurrency)

    if key in actor.topics:
        join()
    else:
        _permit(actor, scope, key.group, fields, None, join)


def _reply(actor: Actor, key: Key, unconfirmed: Sequence[str]) -> None:
    actor.reply(actor.dialect.subscribed(key, unconfirmed=unconfirmed))


def _change(actor: Actor, key: Scope, info: bytes | None, observes: bool | None) -> None:
    """Change what a subscription that there is has to do with presence."""

    def change() -> None:
        members = _attend(actor, key, info, observes)
        actor.reply(actor.dialect.subscribed(key, presence=members))

    _prepare(actor, key, observes, change)


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
    written = text_in(actor, fields, "info") if info else b""
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
    if logs is not None and start is not None:
        replays = actor.replays = actor.replays or Replays(actor)
        topics = [key] if isinstance(key, str) else []
        if not isinstance(key, str):  # which refuses what would be too much
            topics = [log.topic for log in find_logs(logs, replays, key)]
        if actor.state.names is not None:
            replays.expect(key, topics)
    if info and isinstance(key, str):
        actor.state.presence.set_info(actor, key, info)

    def heeded(unconfirmed: Sequence[str]) -> None:
        confirm = partial(_confirm, actor, key, start, observes, unconfirmed)
        _prepare(actor, key, observes, confirm)

    actor.delivery.subscribe(actor, key, heeded)


def _prepare(actor: Actor, key: Scope, observes: bool | None, ready: Callable[[], object]) -> None:
    """Go on once it can be told who is subscribed, if the subscriber observes that."""
    if observes and isinstance(key, str):
        actor.state.presence.prepare(key, partial(_unless_gone, actor, key, ready))
    else:
        _unless_gone(actor, key, ready)


def _unless_gone(actor: Actor, key: Scope, ready: Callable[[], object]) -> None:
    """Go on unless the subscription has ended meanwhile."""
    if key in actor.topics and not actor.gate.is_over:
        ready()


def _check_room(actor: Actor, scope: Scope) -> None:
    """Refuse a subscription that would be one too many."""
    limits, bus = actor.state.limits, actor.state.bus
    if len(actor.topics) >= limits.max_subscriptions:
        raise InvalidMessage("this client has too many subscriptions", LIMIT_REACHED)
    if not bus.has_room(scope, limits.max_topics):
        raise InvalidMessage("the server has too many topics", LIMIT_REACHED)
    if bus.is_crowded(scope):
        raise InvalidMessage("too many patterns begin and end like this one", LIMIT_REACHED)


def _confirm(
    actor: Actor,
    key: Scope,
    start: Start | None,
    observes: bool | None,
    unconfirmed: Sequence[str],
) -> None:
    """Confirm a subscription, and begin to replay what it asks for."""
    logs = actor.state.logs
    members = _attend(actor, key, None, observes)
    tally = actor.state.tally
    if logs is None:
        standing = without_history(start)
        tally.recovered(standing.recovered, standing.lost)
        actor.reply(actor.dialect.subscribed(key, standing, members, unconfirmed))
        return
    replays = actor.replays = actor.replays or Replays(actor)
    standing = stand(logs, replays, key, start)
    replays.confirmed(key)
    tally.recovered(standing.recovered, standing.lost)
    actor.reply(actor.dialect.subscribed(key, standing, members, unconfirmed))
    replays.go_on()


def unsubscribe(actor: Actor, fields: Fields) -> None:
    actor.state.turns.left -= _SUBSCRIPTION
    key = actor.dialect.read_key(fields)
    actor.state.bus.unsubscribe(actor, key)
    if actor.replays:
        actor.replays.forget()
    actor.reply(actor.dialect.unsubscribed(key))
