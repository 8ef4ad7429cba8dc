"""The wording of an event stream, over which a client subscribes with one request (spec, 24.3)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

from kps.protocol.dialect.envelope import Fields, InvalidMessage, text, write
from kps.protocol.dialect.http_fields import Parameters
from kps.protocol.dialect.level2 import with_headers
from kps.protocol.dialect.places import LARGEST
from kps.protocol.patterns import Pattern, Scope
from kps.protocol.wire.http import HttpRequest

TYPE = "text/event-stream"
BEAT = b":\n\n"
"""A comment, which shows that both ends are there."""

_RETRY = 3000  # milliseconds after which a browser connects again
BEGIN = b"retry: %d\n\n" % _RETRY
"""What every stream begins with."""

LONGEST_ID = 2048
"""Bytes. A browser sends the id of an event in a header, so a longer one is not given."""

_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")

Place = tuple[str, int]
"""A place in the history of a topic, or of all that a pattern has: its epoch, and a number."""


class Wanted(NamedTuple):
    """A topic or a pattern to which a stream subscribes."""

    kind: str
    """``topic`` or ``pattern``, as the field of a message is called."""
    name: str

    def scope(self) -> Scope:
        """Return the topic or the pattern itself."""
        return self.name if self.kind == "topic" else Pattern(self.name)

    def number_name(self) -> str:
        """Return how the field with the number of a place is called."""
        return "offset" if self.kind == "topic" else "mark"


class Subscribe:
    """``GET /sse``: what a stream subscribes to. Raises :class:`InvalidMessage`."""

    def __init__(self, request: HttpRequest) -> None:
        parameters = Parameters(request)
        wanted = [Wanted("topic", one) for one in parameters.all("topic")]
        wanted += [Wanted("pattern", one) for one in parameters.all("pattern")]
        self.wanted = tuple(dict.fromkeys(wanted))
        if not self.wanted:
            raise InvalidMessage("a stream needs a topic=NAME, or a pattern=PATTERN", "bad_request")
        if parameters.one("group"):
            raise InvalidMessage("a stream cannot answer, so it is in no group", "bad_request")
        self.client_id = parameters.one("id")
        """The id for which it asks; empty: any."""
        since = request.header("last-event-id") or parameters.one("last_event_id")
        self._since = read_id(since or parameters.one("since"), self.wanted)
        self._last = parameters.number("last")

    def messages(self) -> list[bytes]:
        """Return the messages that subscribe."""
        return [write({"action": "subscribe"} | self._fields(wanted)) for wanted in self.wanted]

    def _fields(self, wanted: Wanted) -> Fields:
        fields: Fields = {wanted.kind: wanted.name}
        place = self._since.get(wanted)
        if place is not None:
            epoch, number = place
            fields["since"] = {"epoch": epoch, wanted.number_name(): number}
        elif self._last is not None:
            fields["last"] = self._last
        return fields


def id_of(places: Mapping[Wanted, Place]) -> str:
    """Return the id of an event: where its stream stands.

    That of a stream of one topic is its place alone, others name what has which place.
    """
    if len(places) == 1:
        ((wanted, place),) = places.items()
        if wanted.kind == "topic":
            return place_text(*place)
    return "&".join(
        f"{wanted.kind[0]}:{quote(wanted.name, safe='/:*')}={place_text(*place)}"
        for wanted, place in places.items()
    )


def place_text(epoch: str, number: int) -> str:
    """Return the text of a place."""
    return f"{number}@{quote(epoch, safe='')}"


def read_id(text: str, wanted: Sequence[Wanted]) -> dict[Wanted, Place]:
    """Read the id of an event; return the places of what is ``wanted`` and has one in it.

    Raises :class:`InvalidMessage`.
    """
    if not text:
        return {}
    if "=" not in text and len(wanted) == 1:
        return {wanted[0]: _read_place(text)}
    kinds = {"t": "topic", "p": "pattern"}
    places = {}
    for part in text.split("&"):
        name, _, place = part.partition("=")
        kind, colon, name = name.partition(":")
        if kind not in kinds or not colon:
            raise _BAD_ID
        places[Wanted(kinds[kind], unquote(name))] = _read_place(place)
    return {one: places[one] for one in wanted if one in places}


_BAD_ID = InvalidMessage("the place from which to go on is not the id of an event", "bad_request")


def _read_place(text: str) -> Place:
    number, at, epoch = text.partition("@")
    if not at or not (number.isascii() and number.isdigit() and len(number) < 17):
        raise _BAD_ID
    if int(number) > LARGEST:
        raise _BAD_ID
    return unquote(epoch), int(number)


def messages(
    topic: str,
    sender: str,
    headers: bytes,
    payloads: Sequence[bytes],
    ids: Iterable[str],
) -> list[bytes]:
    """Return the events of publications, whose payloads and headers are JSON.

    An id is empty for an event that has none.
    """
    head = b'data: {"topic":%b,"from":%b,%b"data":' % (
        write(topic),
        write(sender),
        with_headers(headers),
    )
    return [
        b"%b%b%b}\n\n" % (b"id: %b\n" % one.encode() if one else b"", head, _in_one_line(payload))
        for payload, one in zip(payloads, ids, strict=True)
    ]


def _in_one_line(payload: bytes) -> bytes:
    """Return JSON in which no line ends: that may be between values only."""
    if b"\n" in payload or b"\r" in payload:
        return payload.translate(_ONE_LINE)
    return payload


def direct(message: bytes) -> bytes:
    """Return the event of a direct message, which is a message of level 2."""
    prefix = b'{"action":"direct_message",'
    assert message.startswith(prefix)
    return b"event: direct\ndata: {%b\n\n" % _in_one_line(message.removeprefix(prefix))


def gap(subscribed: Fields) -> bytes:
    """Return the event that tells that not all could be recovered, as a confirmation tells it."""
    kind = "pattern" if "pattern" in subscribed else "topic"
    lost = subscribed.get("lost")
    return event("gap", {kind: text(subscribed, kind), "lost": lost})


def event(name: str, fields: Fields) -> bytes:
    """Return an event of the server's own."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), write(fields))


def only_id(text: str) -> bytes:
    """Return what tells a client where it stands, and is no event to its program."""
    return b"id: %b\n\n" % text.encode()
