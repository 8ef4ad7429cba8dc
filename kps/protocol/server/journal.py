"""The latest events of a server and its refusals, for those who watch it (spec, 12.8).

Refusals may come in very great numbers, and whoever causes them chooses what they say. So they have
a place of their own, in which equal ones are counted, and push out no other event. And whoever
comes and goes without end, or is refused, pushes out only what is from the same address.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Final

from kps.protocol.access.admission import host_of, origin_of
from kps.protocol.dialect.envelope import Fields, InvalidMessage
from kps.protocol.server.events import (
    ClientDismissed,
    ClientLeft,
    ClientRegistered,
    HubEvent,
    LoginRefused,
    OriginRefused,
    SessionFailed,
)
from kps.protocol.server.latest import Latest

KEPT = 200
"""Events that are kept, and as many refusals. They take about 2.7 MB at most."""

TOLD: frozenset[type] = frozenset(
    (ClientRegistered, ClientLeft, ClientDismissed, LoginRefused, OriginRefused, SessionFailed)
)
"""The events of the core that are kept."""

REFUSALS: Final = frozenset(("refused", "login_refused", "origin_refused", "fault"))
"""The kinds that have a place of their own, in which equal ones are counted."""

_LONGEST = 256  # characters of a text
_LONGEST_ODD = 48  # of one with many characters that JSON writes as six, such as \u0001
_ABOUT = ("topic", "pattern", "group", "to")  # what a request may have been about


class Noted:
    """An event that is kept."""

    __slots__ = ("count", "facts", "id", "kind", "number", "time")

    def __init__(self, kind: str, facts: Fields, number: int, time: float) -> None:
        self.kind = kind
        self.facts = facts
        self.id = self.number = number
        """``number`` is another one when the event has come again, ``id`` stays."""
        self.time = time
        """When it came, or came last."""
        self.count = 1
        """How often it came."""

    def fields(self, now: float) -> Fields:
        """Describe it. ``ago`` tells how many seconds ago it came last."""
        fields: Fields = {"id": self.id, "event": self.kind, "ago": round(now - self.time, 3)}
        return fields | ({"count": self.count} if self.count > 1 else {}) | self.facts


class Journal:
    """Keeps the latest events. ``now()`` tells the time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.number = 0
        """How many events there have been: the number of the latest one."""
        self._events: Latest[Noted] = Latest(KEPT)
        self._refusals: Latest[Noted] = Latest(KEPT)

    def note(self, kind: str, **facts: object) -> None:
        """Keep an event. What is empty is left out, and texts are cut."""
        self.number += 1
        plain = _plain(facts)
        noted = Noted(kind, plain, self.number, self._now())
        self._events.add(plain.get("network", ""), self.number, noted)

    def take(self, event: HubEvent) -> None:
        """Keep an event of the core, which is one of :data:`TOLD`."""
        match event:
            case ClientRegistered(_, client_id, previous, peer):
                kind = "renamed" if previous else "connected"
                self.note(kind, client=client_id, before=previous, address=peer)
            case ClientLeft(client, closed, dropped):
                who = {"client": client.id, "identity": client.name, "address": client.address}
                how = {"code": closed.code, "reason": closed.reason, "dropped": dropped}
                self.note("left", **who, **how)
            case ClientDismissed(client_id, by, identity, by_address):
                asker = {"by": by, "identity": identity, "by_address": by_address}
                self.note("dismissed", client=client_id, **asker)
            case LoginRefused(peer, reason):
                self._count("login_refused", {"address": peer, "reason": reason})
            case OriginRefused(peer, origin):
                self._count("origin_refused", {"address": peer, "origin": origin})
            case SessionFailed(where):
                self._count("fault", {"where": where})

    def refused(self, client_id: str, address: str, error: InvalidMessage, request: Fields) -> None:
        """Keep the refusal of a message of a registered client, or count it with an equal one."""
        names = {name: request[name] for name in _ABOUT if type(request.get(name)) is str}
        action = request.get("action")
        facts = {"client": client_id, "address": address, "code": error.code, "error": str(error)}
        self._count("refused", facts | {"request": action if type(action) is str else ""} | names)

    def since(self, number: int) -> list[Fields]:
        """Describe what has come since the event of some number, in the order of time."""
        now = self._now()
        found = [one for one in chain(self._events, self._refusals) if one.number > number]
        return [one.fields(now) for one in sorted(found, key=attrgetter("number"))]

    def _count(self, kind: str, facts: Fields) -> None:
        """Keep a refusal, or count it with an equal one."""
        self.number += 1
        plain = _plain(facts)
        key = (kind, *plain.items())
        network = plain.get("network", "")
        known = self._refusals.take(network, key)
        if known is None:
            known = Noted(kind, plain, self.number, self._now())
        else:
            known.number, known.time, known.count = self.number, self._now(), known.count + 1
        self._refusals.add(network, key, known)


def _plain(facts: Fields) -> Fields:
    plain = {
        name: _cut(value) if isinstance(value, str) else value
        for name, value in facts.items()
        if value
    }
    address = plain.get("address")
    if address is not None:
        plain["network"] = _network(host_of(address))
    return plain


def _cut(text: str) -> str:
    text = text[:_LONGEST]
    if len(text) <= _LONGEST_ODD or text.isprintable():
        return text
    controls = sum(1 for each in text if each < " ")
    return text[:_LONGEST_ODD] if controls > _LONGEST_ODD else text


@lru_cache(maxsize=256)
def _network(host: str) -> str:
    """Return what counts as one address. A host that has come before costs little."""
    return origin_of(host)
