"""Messages that a client writes alike.

A program sends the same kind of message again and again: only a payload and an id change. A
template is the text around these, taken from a message that the server has read in full. In a
message that matches it, only what changes is read. Any other message, and one with something wrong
in it, is read in full.
"""

from collections.abc import Sequence
from typing import Any

from kps.protocol.dialect.envelope import Fields, InvalidMessage, load, write
from kps.protocol.dialect.level2 import NAMES_A_REQUEST
from kps.protocol.dialect.requests import Ask
from kps.protocol.dialect.texts import HardToFind, find_span
from kps.protocol.server.actions import add_batch, ask_id, ask_topic
from kps.protocol.server.actor import Actor
from kps.protocol.wire.frames import SEPARATOR

KEY = 20
"""Bytes at the beginning of a message, by which its template is found."""

_MOST = 4  # templates of a client: it sends few kinds of messages
_LONGEST = 512  # bytes of a template, and characters of a name
_STEPS = 100  # for finding a field: a template has room for fewer fields
_About = tuple[str, str, str]  # an action, and a topic or an id, or neither
_NAMING = frozenset(("action", *NAMES_A_REQUEST))  # in refusals


class Template:
    """The text that messages of one kind have in common, in front of what changes and behind it."""

    __slots__ = ("_fields", "_head", "_tail", "size")

    joins_run = False
    """Whether it adds to the publications that are gathered."""

    def __init__(self, head: bytes, tail: bytes, fields: Fields) -> None:
        self.size = len(head) + len(tail)
        """Bytes of the text."""
        self._head = head
        self._tail = tail
        self._fields = {name: fields[name] for name in fields.keys() & _NAMING}

    def part(self, message: bytes) -> bytes | None:
        """Return what changes in a message, or ``None`` if the message does not match."""
        head, tail = self._head, self._tail
        size = len(message)
        if size < self.size or not (message.startswith(head) and message.endswith(tail)):
            return None
        return message[len(head) : size - len(tail)]

    def parts(self, messages: Sequence[bytes]) -> list[bytes] | None:
        """Return what changes in messages that are UTF-8, or ``None`` if one does not match."""
        joined = SEPARATOR.join(messages)
        parts = self._split(joined, SEPARATOR)
        count = len(messages)
        # Each separator was found between two of them, and so each of them matches.
        is_certain = parts is not None and len(parts) == count == joined.count(SEPARATOR) + 1
        return parts if is_certain else None

    def parts_of_array(self, array: bytes) -> list[bytes] | None:
        """Return what changes in the messages of an array, or ``None`` if one does not match."""
        return self._split(array[1:-1], b",") if array.endswith(b"]") else None

    def _split(self, joined: bytes, separator: bytes) -> list[bytes] | None:
        part = self.part(joined)
        return None if part is None else part.split(self._tail + separator + self._head)

    def read(self, part: bytes) -> tuple[Any, Any]:
        """Read what changes in a message; return a request, and the value of its payload.

        The depth of the payload is not checked. Raises :class:`InvalidMessage` if the part is not
        what it should be.
        """
        raise NotImplementedError

    def act(self, actor: Actor, request: Any) -> None:
        """Do what a message asks for. Raises :class:`InvalidMessage` to refuse it."""
        raise NotImplementedError

    def fields(self, request: Any) -> Fields:
        """Return the fields that name a request in its refusal."""
        return self._fields


class Publications(Template):
    """Publications on one topic, of one payload each."""

    __slots__ = ("topic",)

    joins_run = True

    def __init__(self, head: bytes, tail: bytes, fields: Fields) -> None:
        super().__init__(head, tail, fields)
        self.topic: str = fields["topic"]

    def read(self, part: bytes) -> tuple[bytes, Any]:
        return part.strip(), load(part)

    def act(self, actor: Actor, request: bytes) -> None:
        actor.run.add(self.topic, [request], 1)


class Batches(Template):
    """Batches of publications on one topic."""

    __slots__ = ("_topic",)

    joins_run = True

    def __init__(self, head: bytes, tail: bytes, fields: Fields) -> None:
        super().__init__(head, tail, fields)
        self._topic: str = fields["topic"]

    def read(self, part: bytes) -> tuple[tuple[bytes, int], Any]:
        batch = load(part)
        if type(batch) is not list or not batch:
            raise _no_match()
        return (part.strip()[1:-1], len(batch)), batch

    def act(self, actor: Actor, request: tuple[bytes, int]) -> None:
        add_batch(actor, self._topic, *request)


class Asks(Template):
    """Ack requests to one topic, or to one client."""

    __slots__ = ("_further", "_is_direct", "_middle", "_target")

    def __init__(
        self, head: bytes, middle: bytes, tail: bytes, fields: Fields, ask: Ask, is_direct: bool
    ) -> None:
        super().__init__(head, tail, fields)
        self.size += len(middle)
        self._middle = middle  # from the payload to the id
        self._target = ask.target
        self._further = ask[3:]  # all fields behind the payload
        self._is_direct = is_direct

    def read(self, part: bytes) -> tuple[Ask, Any]:
        payload, middle, name = part.rpartition(self._middle)
        if not middle:
            raise _no_match()
        return Ask(self._target, _plain(name), payload.strip(), *self._further), load(payload)

    def act(self, actor: Actor, request: Ask) -> None:
        (ask_id if self._is_direct else ask_topic)(actor, request)

    def fields(self, request: Ask) -> Fields:
        return self._fields | {"ack_id": request.ack_id}


class Successes(Template):
    """Answers to ack requests: the message was handled."""

    __slots__ = ()

    def read(self, part: bytes) -> tuple[str, Any]:
        return _plain(part), None

    def act(self, actor: Actor, request: str) -> None:
        actor.state.acks.answer(actor, request, None)

    def fields(self, request: str) -> Fields:
        return self._fields | {"ack_id": request}


class Templates:
    """The templates of one client."""

    __slots__ = ("_last", "_without", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[Template, bool]] = {}
        """The template for a beginning of a message, and whether that of an array of them."""
        self._last: _About = ("", "", "")  # what the last message without a template was about
        self._without: _About = ("", "", "")  # what has none for good

    def learn(self, actor: Actor, message: bytes | None, fields: Fields) -> None:
        """Make a template of a message, if it is the second one of its kind in a row.

        Without ``message`` it is written as we would write it.
        """
        about = fields["action"], fields.get("topic") or "", fields.get("to") or ""
        if about != self._last:
            if len(about[1]) + len(about[2]) <= _LONGEST:
                self._last = about
            return
        if about == self._without:
            return
        self._last, self._without = ("", "", ""), about
        message = message or write(fields)
        try:
            template = _MAKERS[fields["action"]](actor, message, fields)
        except HardToFind:
            return
        if template is not None and template.size <= _LONGEST:
            self._without = ("", "", "")
            if len(self.known) >= 2 * _MOST:
                self.known.clear()
            self.known[message[:KEY]] = template, False
            if actor.dialect.join is not None:
                self.known[(b"[" + message)[:KEY]] = template, True


def _publication(actor: Actor, message: bytes, fields: Fields) -> Template | None:
    _, batch, receipt = actor.dialect.read_publish(fields)
    if receipt is not None or "headers" in fields or "message_id" in fields:
        return None
    around = _around(message, "data" if batch is None else "batch")
    if around is None:
        return None
    return (Publications if batch is None else Batches)(*around, fields)


def _ask(actor: Actor, message: bytes, fields: Fields) -> Template | None:
    is_direct = fields["action"] == "publish_to_id_with_ack"
    ask = actor.dialect.read_ask(fields, b"", "to" if is_direct else "topic", "")
    if ask.message_id is not None:  # each has another one
        return None
    payload, ack_id = find_span(message, "data", _STEPS), _inside(message, "ack_id")
    if payload is None or ack_id is None or payload > ack_id:
        return None
    head, middle = message[: payload[0]], message[payload[1] : ack_id[0]]
    return Asks(head, middle, message[ack_id[1] :], fields, ask, is_direct)


def _success(actor: Actor, message: bytes, fields: Fields) -> Template | None:
    _, error, result, _ = actor.dialect.read_answer(fields)
    span = _inside(message, "ack_id")
    if span is None or error is not None or result is not None:
        return None
    return Successes(message[: span[0]], message[span[1] :], fields)


_MAKERS = {
    "publish": _publication,
    "publish_with_ack": _ask,
    "publish_to_id_with_ack": _ask,
    "ack": _success,
}
KINDS = frozenset(_MAKERS)
"""The actions of which there are templates."""


def _around(message: bytes, name: str) -> tuple[bytes, bytes] | None:
    """Return what stands in front of the value of a field, and behind it."""
    span = find_span(message, name, _STEPS)
    return None if span is None else (message[: span[0]], message[span[1] :])


def _inside(message: bytes, name: str) -> tuple[int, int] | None:
    """Return where a field's string begins and ends, without its quotes."""
    span = find_span(message, name, _STEPS)
    if span is None or not message.startswith(b'"', span[0]):
        return None
    return span[0] + 1, span[1] - 1


def _plain(name: bytes) -> str:
    """Return an id as text. Raises :class:`InvalidMessage` if in JSON it does not mean itself."""
    try:
        text = name.decode()
    except UnicodeDecodeError:  # of a binary message
        raise _no_match() from None
    if text.isidentifier():  # the usual case, at once
        return text
    if not text or '"' in text or "\\" in text or not text.isprintable():
        raise _no_match()
    return text


def _no_match() -> InvalidMessage:
    return InvalidMessage("not like the messages before it")  # then it is read in full
