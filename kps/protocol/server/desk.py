"""Answers what clients ask the server about itself, on topics of its own (spec, 12.8).

A question is an ack request on one of these topics, of which the server is the only receiver. So
each client of the protocol can ask, and the server may answer later, as any subscriber does.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, Final

from kps.protocol.access import rules
from kps.protocol.access.identity import matches
from kps.protocol.access.rules import RESERVED
from kps.protocol.bus.ack_request import AckOwner, Keeper
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.dialect.codes import LIMIT_REACHED
from kps.protocol.dialect.envelope import Fields, InvalidMessage, load, shown, text
from kps.protocol.dialect.outcome import as_json
from kps.protocol.dialect.requests import Ask
from kps.protocol.patterns import Scope
from kps.protocol.server.fitting import fitting
from kps.protocol.server.insight import (
    CLIENT_SORTS,
    MOST_LISTED,
    TOPIC_RATE,
    TOPIC_SORTS,
    Insight,
    scope_in,
    written,
)
from kps.protocol.server.journal import KEPT, REFUSALS
from kps.protocol.server.latest import Latest
from kps.protocol.server.ports import Answer, Asker, Opens, Question
from kps.protocol.server.recorder import SECONDS, add_up
from kps.protocol.server.search import natural, put_in_order
from kps.protocol.server.state import ServerState
from kps.protocol.server.topic_figures import TopicFigures, merged

MOST = 1000
"""Clients, and topics, of one answer."""
_USUAL = 200

NO_ANSWERS: Final = "this server answers no questions about itself: it runs without the console"

_SEARCHES = 16  # at a time
_LONGEST = 256  # characters of a filter, and of a reason
_MOST_NODES = 1024  # of which a client may say what events it has seen

# Units of work (see ``turns``).
_QUESTION = 50
_SEEN = 4  # for each client or topic that a search looks at
_TOLD = 8  # for each of them in the answer
_LISTED = 8  # subscriptions, subscribers, groups or members of these, for one unit
_WRITTEN = 256  # bytes of an answer, for one unit

Parts = Mapping[str, Any]
"""What nodes have told, by their names."""


class Desk:
    """Answers questions about one server. ``program`` is the server as a receiver of requests."""

    def __init__(
        self, state: ServerState, program: Subscriber, delivery: Opens, insight: Insight
    ) -> None:
        self._state = state
        self._program = program
        self._delivery = delivery
        self._looks = insight.looks
        self._searches = 0  # under way

    def read(self, asker: Asker, ask: Ask) -> Question:
        """Read a question, and check whether the client may ask it. Raises ``InvalidMessage``."""
        self._state.turns.left -= _QUESTION
        fields = load(ask.data)
        if fields is None:
            fields = {}
        if type(fields) is not dict:
            raise _bad("a question to the server is an object")
        if ask.target != _DISCONNECT:
            rules.check_console(asker.permissions)
        return _READERS[ask.target](self, asker, fields)

    def answer(
        self, question: Question, owner: AckOwner, _: str, ask: Ask, keeper: Keeper | None
    ) -> None:
        """Answer a question that was read.

        Raises ``DuplicateAckId`` and :class:`kps.QueueFull`, and then has done nothing.
        """
        request = self._delivery.open_request(owner, ask, [self._program], keeper)
        question(partial(self._tell, request.id))

    def _tell(self, ack_id: str, answer: Fields | str) -> None:
        acks, program = self._state.acks, self._program
        if isinstance(answer, str):
            acks.answer(program, ack_id, answer)
        else:
            told = fitting(answer)
            self._state.turns.left -= len(told) // _WRITTEN
            acks.answer(program, ack_id, None, as_json(told), len(told))

    def spread(self, what: str, about: object, done: Callable[[Parts], object]) -> None:
        """Look at what there is; call ``done`` with it. In a cluster all nodes look."""
        self._looks[what](about, lambda part: done({self._state.config.id: part}))

    # -- searches ---------------------------------------------------------------------------

    def _clients(self, asker: Asker, fields: Fields) -> Question:
        about = _read_search(fields, CLIENT_SORTS)
        clients = len(self._state.clients)

        def told(answer: Answer, parts: Parts) -> None:
            found = list(chain.from_iterable(part["clients"] for part in parts.values()))
            first = _in_order(found, about, lambda one: (_value(one[about["sort"]]), one["id"]))
            answer({"found": sum(part["found"] for part in parts.values()), "clients": first})

        return self._begin_search("clients", about, clients, told)

    def _topics(self, asker: Asker, fields: Fields) -> Question:
        about = _read_search(fields, TOPIC_SORTS)

        def told(answer: Answer, parts: Parts) -> None:
            rates: dict[Scope, float] = {}
            for kind, name, rate in chain.from_iterable(one["topics"] for one in parts.values()):
                key = scope_in(kind, name)
                rates[key] = max(rate, rates.get(key, 0.0))
            found = max(part["found"] for part in parts.values())
            self.spread("count", list(map(written, rates)), partial(counted, answer, found, rates))

        def counted(answer: Answer, found: int, rates: dict[Scope, float], parts: Parts) -> None:
            each = (
                merged(TopicFigures(*one) for one in of_nodes)
                for of_nodes in zip(*parts.values(), strict=True)
            )
            entries = [
                figures.fields(key) | ({TOPIC_RATE: rate} if about["sort"] == TOPIC_RATE else {})
                for (key, rate), figures in zip(rates.items(), each, strict=True)
                if figures.subscribers
            ]
            sort = about["sort"]
            first = _in_order(
                entries,
                about,
                lambda one: (_value(_name(one) if sort == "name" else one[sort]), _name(one)),
            )
            answer({"found": found, "topics": first})

        return self._begin_search("topics", about, len(self._state.bus), told)

    def _begin_search(
        self, what: str, about: Fields, things: int, told: Callable[[Answer, Parts], object]
    ) -> Question:
        if self._searches >= _SEARCHES:
            raise InvalidMessage("too many searches are under way", LIMIT_REACHED)
        self._state.turns.left -= things * _SEEN + min(things, about["limit"]) * _TOLD

        def found(answer: Answer, parts: Parts) -> None:
            self._searches -= 1
            told(answer, parts)

        def begin(answer: Answer) -> None:
            self._searches += 1
            self.spread(what, about, partial(found, answer))

        return begin

    # -- one of them ------------------------------------------------------------------------

    def _client(self, asker: Asker, fields: Fields) -> Question:
        client_id = _read_id(fields, self._state.limits.max_id)
        may_disconnect = matches(client_id, asker.permissions.disconnect)
        self._state.turns.left -= MOST_LISTED // _LISTED

        def told(answer: Answer, parts: Parts) -> None:
            for node, part in parts.items():
                if part is not None:
                    answer(part | {"node": node, "may_disconnect": may_disconnect})
                    return
            answer(_nobody(client_id))

        return lambda answer: self.spread("client", {"id": client_id}, partial(told, answer))

    def _topic(self, asker: Asker, fields: Fields) -> Question:
        kind = "pattern" if fields.get("pattern") is not None else "topic"
        name = text(fields, kind)
        if not name or len(name) > self._state.limits.max_topic:
            raise _bad("missing or invalid topic")
        subject = self._state.bus.routes.find(scope_in(kind, name))
        if subject is not None:
            groups = subject.own_groups.values()
            listed = len(subject.subscribers) + sum(1 + len(group.members) for group in groups)
            self._state.turns.left -= listed // _LISTED

        def told(answer: Answer, parts: Parts) -> None:
            answer(_merge_topic(scope_in(kind, name), list(parts.values())))

        return lambda answer: self.spread("topic", {"key": [kind, name]}, partial(told, answer))

    def _disconnect(self, asker: Asker, fields: Fields) -> Question:
        client_id = _read_id(fields, self._state.limits.max_id)
        reason = text(fields, "reason")
        rules.check_disconnect(client_id, asker.permissions)
        if len(reason) > _LONGEST:
            raise _bad(f"the reason has more than {_LONGEST} characters")
        about = {
            "id": client_id,
            "reason": reason or "disconnected by an operator",
            "by": asker.id,
            "identity": asker.owner_name,
            "by_address": asker.peer,
        }

        def told(answer: Answer, parts: Parts) -> None:
            answer({"id": client_id} if any(parts.values()) else _nobody(client_id))

        return lambda answer: self.spread("dismiss", about, partial(told, answer))

    # -- what happens -----------------------------------------------------------------------

    def _record(self, asker: Asker, fields: Fields) -> Question:
        self._state.turns.left -= SECONDS * (1 + len(self._state.others))

        def told(answer: Answer, parts: Parts) -> None:
            records = list(parts.values())
            age = sum(record.pop("age") for record in records) / len(records)
            answer({"age": round(age, 3), **add_up(records)})

        return lambda answer: self.spread("record", None, partial(told, answer))

    def _events(self, asker: Asker, fields: Fields) -> Question:
        since = _read_since(fields, (self._state.config.id, *self._state.others))

        def told(answer: Answer, parts: Parts) -> None:
            events = [
                {"node": node} | event for node, part in parts.items() for event in part["events"]
            ]
            seen = {node: part["seen"] for node, part in parts.items()}
            answer({"events": _latest(events), "seen": seen})

        return lambda answer: self.spread("events", since, partial(told, answer))


_DISCONNECT: Final = f"{RESERVED}disconnect"  # needs a permission of its own

_READERS: Final[dict[str, Callable[[Desk, Asker, Fields], Question]]] = {
    f"{RESERVED}clients": Desk._clients,
    f"{RESERVED}topics": Desk._topics,
    f"{RESERVED}client": Desk._client,
    f"{RESERVED}topic": Desk._topic,
    f"{RESERVED}record": Desk._record,
    f"{RESERVED}events": Desk._events,
    _DISCONNECT: Desk._disconnect,
}

QUESTIONS: Final = frozenset(_READERS)
"""The topics on which questions are asked."""


def _bad(reason: str) -> InvalidMessage:
    return InvalidMessage(reason, "bad_request")


def _nobody(client_id: str) -> str:
    return f"no client has the id {shown(client_id)}"


def _read_id(fields: Fields, most: int) -> str:
    client_id = text(fields, "id")
    if not client_id:
        raise _bad("missing id")
    rules.check_length(client_id, "id", most)
    return client_id


def _read_search(fields: Fields, sorts: Sequence[str]) -> Fields:
    """Read what is searched for. Raises ``InvalidMessage``."""
    wanted, sort = fields.get("filter"), fields.get("sort")
    descending, limit = fields.get("descending"), fields.get("limit")
    if wanted is not None and (type(wanted) is not str or len(wanted) > _LONGEST):
        raise _bad(f"filter is a text of up to {_LONGEST} characters")
    if sort is not None and sort not in sorts:
        raise _bad(f"sort is one of {', '.join(sorts)}")
    if descending is not None and type(descending) is not bool:
        raise _bad("descending is true or false")
    if limit is not None and (type(limit) is not int or not 1 <= limit <= MOST):
        raise _bad(f"limit is a number from 1 to {MOST}")
    return {
        "filter": (wanted or "").casefold(),
        "sort": sort or sorts[0],
        "descending": bool(descending),
        "limit": limit or _USUAL,
    }


def _read_since(fields: Fields, nodes: Collection[str]) -> dict[str, list[float]]:
    """Read which events of nodes a client has seen: for each its run, and a number."""
    since = fields.get("since")
    if since is None:
        return {}
    is_right = (
        type(since) is dict
        and len(since) <= _MOST_NODES
        and all(type(one) is list and len(one) == 2 for one in since.values())
        and all(type(part) in (int, float) for one in since.values() for part in one)
    )
    if not is_right:
        raise _bad("since is what an earlier answer has as seen")
    return {node: one for node, one in since.items() if node in nodes}


def _latest(events: list[Fields]) -> list[Fields]:
    """Return the latest refusals of all nodes, and the latest other events, in the order of time.

    They are as many of each as one node keeps, and by its rules, so here too floods push out their
    like only.
    """
    events.sort(key=lambda event: -event["ago"])
    kept: tuple[Latest[int], Latest[int]] = Latest(KEPT), Latest(KEPT)
    for place, event in enumerate(events):
        kept[event["event"] in REFUSALS].add(event.get("network", ""), place, place)
    return [events[place] for place in sorted(chain(*kept))]


def _value(value: object) -> object:
    return natural(value) if isinstance(value, str) else value


def _name(entry: Fields) -> str:
    name: str = entry.get("topic") or entry["pattern"]
    return name


def _in_order(
    found: list[Fields], about: Fields, order: Callable[[Fields], tuple[Any, str]]
) -> list[Fields]:
    """Put in order what several nodes have found, and return the first."""
    ordered = [(*order(one), one) for one in found]
    put_in_order(ordered, descending=about["descending"])
    return [one for _, _, one in ordered[: about["limit"]]]


def _merge_topic(key: Scope, parts: Sequence[Fields]) -> Fields:
    """Put together what nodes know of a topic or pattern."""
    figures = merged(TopicFigures(*part["figures"]) for part in parts)
    told = figures.fields(key)
    subscribers = chain.from_iterable(part["subscribers"] for part in parts)
    told["subscriptions"] = [
        {"id": client_id, "group": group} if group else {"id": client_id}
        for client_id, group in list(subscribers)[:MOST_LISTED]
    ]
    members: dict[str, list[int]] = {}
    for name, here, waiting in chain.from_iterable(part["groups"] for part in parts):
        known = members.setdefault(name, [0, 0])
        known[0] += here
        known[1] += waiting
    told["groups"] = [
        {"group": name, "members": count, "waiting": waiting}
        for name, (count, waiting) in islice(members.items(), MOST_LISTED)
    ]
    if figures.groups > len(told["groups"]):
        told["group_count"] = figures.groups
    if isinstance(key, str):
        patterns: dict[str, int] = {}
        for name, count in chain.from_iterable(part["patterns"] for part in parts):
            patterns[name] = patterns.get(name, 0) + count
        told["patterns"] = [
            {"pattern": name, "subscribers": count} for name, count in patterns.items() if count
        ]
        kept = [part["history"] for part in parts if part["history"] is not None]
        if kept:
            told["history"] = max(kept, key=lambda one: one["last"])
    return told
