"""What one server knows of itself, for those who ask it (spec, 12.8).

Each look gets what it is asked, and calls ``tell`` with a value that can be written as JSON: at
once, or later if there is very much to look at. In a cluster each node is asked so.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import nsmallest
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from kps.protocol.access.rules import RESERVED
from kps.protocol.bus.groups import Group
from kps.protocol.bus.slices import Slices
from kps.protocol.bus.subjects import Subject, count_here, members_here
from kps.protocol.bus.subscriber import Stage
from kps.protocol.dialect.envelope import Fields
from kps.protocol.patterns import InGroup, Key, Scope, group_of, pattern, scope_of
from kps.protocol.server.clients import Clients, figures
from kps.protocol.server.events import ClientDismissed
from kps.protocol.server.journal import Journal
from kps.protocol.server.ports import Client
from kps.protocol.server.rates import Rates
from kps.protocol.server.recorder import Recorder
from kps.protocol.server.search import Search, natural
from kps.protocol.server.state import ServerState
from kps.protocol.server.topic_figures import figures_of

Tell = Callable[[Any], object]
Look = Callable[[Any, Tell], None]

MOST_LISTED = 500
"""Subscriptions of a client, and subscribers and groups of a topic, that are listed."""

_TOLD = 2  # units of work (see ``turns``) for an event
_MOST_PATTERNS = 100  # that have a topic, and are listed

_CLIENT_ORDERS: dict[str, Callable[[Client], Any]] = {
    "id": lambda client: natural(client.id),
    "identity": lambda client: natural(client.owner_name),
    "address": lambda client: natural(client.peer),
    "level": attrgetter("dialect.level"),
    "age": lambda client: -client.since,
    "topics": lambda client: len(client.topics),
    "queue_messages": attrgetter("transport.queued_messages"),
    "queue_bytes": attrgetter("transport.queued_bytes"),
    "dropped": attrgetter("transport.dropped"),
    "received": attrgetter("received"),
    "delivered": attrgetter("delivered"),
}
_TOPIC_ORDERS: dict[str, Callable[[Subject], Any]] = {
    "name": lambda subject: natural(str(subject.key)),
    # With other nodes, and those that are just leaving: it only says who comes first.
    "subscribers": lambda subject: (
        len(subject.subscribers)
        + sum([len(group.members) for group in subject.own_groups.values()])
    ),
    "published": attrgetter("published"),
}

CLIENT_RATES = ("received_rate", "delivered_rate")
CLIENT_SORTS = (*_CLIENT_ORDERS, *CLIENT_RATES)
"""By what clients can be put in order."""
TOPIC_RATE = "rate"
TOPIC_SORTS = (*_TOPIC_ORDERS, TOPIC_RATE)
"""By what topics and patterns can be put in order."""


class Insight:
    """Looks at what there is on one server."""

    def __init__(
        self, state: ServerState, clients: Clients, recorder: Recorder, journal: Journal
    ) -> None:
        self._state = state
        self._clients = clients
        self._recorder = recorder
        self._journal = journal
        self._slices = Slices(state.deadlines)
        self._client_rates: Rates[int] = Rates(state.deadlines, lambda: state.now)
        self._topic_rates: Rates[Scope] = Rates(state.deadlines, lambda: state.now)
        self.looks: dict[str, Look] = {
            "clients": self._find_clients,
            "topics": self._find_topics,
            "count": self._count,
            "client": self._show_client,
            "topic": self._show_topic,
            "dismiss": self._dismiss,
            "record": self._show_record,
            "events": self._show_events,
        }
        """By their names."""

    # -- searches ---------------------------------------------------------------------------

    def _find_clients(self, about: Fields, tell: Tell) -> None:
        """Find the first clients in an order, of those whose id, identity or address fits."""
        state, sort, wanted = self._state, about["sort"], about["filter"]
        note, end = self._client_rates.look() if sort in CLIENT_RATES else (None, _nothing)
        rate = CLIENT_RATES.index(sort) if note else 0
        value = _CLIENT_ORDERS.get(sort, _CLIENT_ORDERS["id"])
        rates: dict[int, tuple[float, float]] = {}

        def order(client: Client) -> tuple[Any, str] | None:
            found: Any = None
            if note is not None:  # also of those that do not fit, so that all are known
                found = note(client.number, client.received, client.delivered)
            if wanted and not _fits(wanted, client.id, client.owner_name, client.peer):
                return None
            if note is None:
                return value(client), client.id
            rates[client.number] = found
            return found[rate], client.id

        def done(search: Search[Client]) -> None:
            end()
            there = [one for one in search.first() if state.clients.get(one.id) is one]
            tell({"found": search.found, "clients": list(map(describe, there))})

        def describe(client: Client) -> Fields:
            told = rates.get(client.number, ())
            return figures(client, state.now) | dict(zip(CLIENT_RATES, told, strict=False))

        self._search(list(state.clients.values()), order, about, done)

    def _find_topics(self, about: Fields, tell: Tell) -> None:
        """Find the first topics and patterns in an order, of those whose name fits."""
        sort, wanted = about["sort"], about["filter"]
        note, end = self._topic_rates.look() if sort == TOPIC_RATE else (None, _nothing)
        value = _TOPIC_ORDERS.get(sort, _TOPIC_ORDERS["name"])
        rates: dict[Scope, float] = {}

        def order(subject: Subject) -> tuple[Any, str] | None:
            name, found = str(subject.key), 0.0
            if note is not None:
                found, _ = note(subject.key, subject.published)
            if name.startswith(RESERVED) or (wanted and not _fits(wanted, name)):
                return None
            if note is None:
                return value(subject), name
            rates[subject.key] = found
            return found, name

        def done(search: Search[Subject]) -> None:
            end()
            keys = [subject.key for subject in search.first()]
            tell({
                "found": search.found,
                "topics": [[*written(key), rates.get(key, 0.0)] for key in keys],
            })  # fmt: skip

        self._search(list(self._state.bus.routes), order, about, done)

    def _search(
        self,
        things: Sequence[Any],
        order: Callable[[Any], tuple[Any, str] | None],
        about: Fields,
        done: Callable[[Search[Any]], object],
    ) -> None:
        search = Search(things, order, about["limit"], descending=about["descending"], done=done)
        self._slices.begin(search.steps)

    def _count(self, keys: list[list[str]], tell: Tell) -> None:
        """Tell the figures of topics and patterns."""
        tell([list(figures_of(self._state, scope_in(*key))) for key in keys])

    # -- one of them ------------------------------------------------------------------------

    def _show_client(self, about: Fields, tell: Tell) -> None:
        """Tell all about one client; ``None`` if it is not here."""
        client = self._state.clients.get(about["id"])
        if client is None:
            tell(None)
            return
        live = (key for key, stage in client.topics.items() if stage is Stage.LIVE)
        subscriptions = [_subscription(key) for key in islice(live, MOST_LISTED)]
        tell(figures(client, self._state.now) | {"subscriptions": subscriptions})

    def _show_topic(self, about: Fields, tell: Tell) -> None:
        """Tell all about one topic or pattern."""
        state, key = self._state, scope_in(*about["key"])
        subject = state.bus.routes.find(key)
        # By their names, so that all nodes tell of the same ones.
        own = {} if subject is None else subject.own_groups
        groups = [own[name] for name in nsmallest(MOST_LISTED, own)]
        listed = list(islice(chain(self._subscribers(key), self._members(groups)), MOST_LISTED))
        told: Fields = {
            "figures": list(figures_of(state, key)),
            "subscribers": listed,
            "groups": [self._describe_group(group) for group in groups],
        }
        if isinstance(key, str):
            told |= {"patterns": self._patterns_of(key), "history": self._history_of(key)}
        tell(told)

    def _subscribers(self, key: Scope) -> Iterator[list[str]]:
        bus = self._state.bus
        here = (one for one in bus.own_subscribers(key) if not isinstance(one, bus.elsewhere))
        return ([one.id, ""] for one in here)

    def _members(self, groups: Sequence[Group]) -> Iterator[list[str]]:
        for group in groups:
            for member in members_here(group, self._state.bus.elsewhere):
                yield [member.id, group.key.group]

    def _describe_group(self, group: Group) -> list[Any]:
        """Return the name of a group, its members here, and the messages that wait for one."""
        state = self._state
        members = count_here(group, state.bus.elsewhere)
        return [group.key.group, members, state.acks.tasks.waiting_for.get(group.key, 0)]

    def _patterns_of(self, topic: str) -> list[list[Any]]:
        """Return the patterns that have a topic, and how many subscribers here each has."""
        state = self._state
        route = state.bus.routes.route(topic)
        state.charge_search()
        patterns = [] if route is None else route.patterns[:_MOST_PATTERNS]
        return [[str(one.key), figures_of(state, one.key).subscribers] for one in patterns]

    def _history_of(self, topic: str) -> Fields | None:
        logs = self._state.logs
        log = None if logs is None else logs.log(topic)
        if log is None:
            return None
        told = {"kept": log.count, "first": log.first, "last": log.top, "size": log.rule.size}
        return told if log.rule.ttl is None else told | {"ttl": log.rule.ttl}

    # -- what happens -----------------------------------------------------------------------

    def _dismiss(self, about: Fields, tell: Tell) -> None:
        """Disconnect a client for good; tell whether it is here."""
        state, client_id = self._state, about["id"]
        is_here = client_id in state.clients
        if is_here:  # the event comes first, as closing may end the session at once
            by_address = about.get("by_address", "")  # nodes of earlier versions do not tell it
            state.emit(ClientDismissed(client_id, about["by"], about["identity"], by_address))
            self._clients.dismiss_here(client_id, about["reason"])
        tell(is_here)

    def _show_record(self, about: None, tell: Tell) -> None:
        """Tell what happened in the last minutes."""
        tell(self._recorder.describe())

    def _show_events(self, since: Fields, tell: Tell) -> None:
        """Tell the events since the last one that is known of this run of the server."""
        state, journal = self._state, self._journal
        run, number = since.get(state.config.id, (0.0, 0))
        events = journal.since(number if run == state.started else 0)
        state.turns.left -= len(events) * _TOLD
        tell({"events": events, "seen": [state.started, journal.number]})


def _nothing() -> None:
    """Do nothing at the end."""


def _fits(wanted: str, *names: str) -> bool:
    return any(wanted in name.casefold() for name in names)


def _subscription(key: Key) -> Fields:
    kind, name = written(scope_of(key))
    return {kind: name, "group": group_of(key)} if isinstance(key, InGroup) else {kind: name}


def written(key: Scope) -> list[str]:
    """Return a topic or pattern as it is asked for: what it is, and its name."""
    return ["topic" if isinstance(key, str) else "pattern", str(key)]


def scope_in(kind: str, name: str) -> Scope:
    """Return the topic or pattern that was asked for."""
    return name if kind == "topic" else pattern(name)
