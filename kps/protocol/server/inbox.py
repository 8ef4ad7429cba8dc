"""The messages of one client on their way to its session: weighed, counted, one by one."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from kps.protocol.dialect.codes import LIMIT_REACHED
from kps.protocol.dialect.envelope import InvalidMessage, load, measure, payload_of
from kps.protocol.dialect.texts import HardToFind, is_as_we_write, split_texts
from kps.protocol.server.actor import Actor
from kps.protocol.server.gate import Phase
from kps.protocol.server.state import ServerState
from kps.protocol.server.templates import KEY, KINDS, Publications, Template, Templates
from kps.protocol.server.throttle import Throttle
from kps.protocol.server.turns import LONG

_REGISTERED = Phase.REGISTERED

_NOTHING: Mapping[bytes, tuple[Template, bool]] = {}

_SEVERAL = 4  # messages that are worth looking at together

# Messages of an array whose texts are taken apart, so that their payloads pass as they are. Those
# of a longer array, unless it is written as we write, are written anew: it would take too long.
_MOST_APART = 4096

_HUGE = 64 * 1024  # bytes of a message

# Bytes of all the arrays that wait as objects, beyond which others wait as bytes and are parsed
# again: the objects may take 45 times as much.
_MOST_PARSED = 4 * 1024 * 1024

# Units of work (see ``turns``).
_MESSAGE = 2
_RATED = 2  # counting a message against the rates
_COUNTED = 2048  # bytes in which brackets are counted, which count as one unit
_PARSED = 64  # bytes of an array that is parsed again, which count as one unit
_APART = 1  # taking a message out of an array
_FOUND = 5  # finding the payload in it
_SEARCHED = 256  # bytes of a long message in which the payload is looked for, as one unit
_VALUES = 16  # values of a long message that count as one unit


T = TypeVar("T")


class Recipient(Actor, Protocol):
    """The session that handles the messages."""

    throttle: Throttle | None

    def act(self, template: Template, request: Any) -> None:
        """Act on one message that is written like earlier ones, or refuse it."""

    def handle(self, message: Any) -> None:
        """Act on one message, or refuse it."""

    def refuse_all(self, error: InvalidMessage, requests: Sequence[Any]) -> None:
        """Refuse a whole frame; ``requests`` are its messages. It counts as one message."""


class Inbox:
    """Gives messages to the session while its turn lasts, and while it may handle them.

    It keeps the others, unread: whatever is wrong with them is told in its turn.
    """

    __slots__ = ("_array", "_done", "_frame", "_is_deep", "_known", "_long_from", "_many_from",
                 "_recipient", "_rest", "_state", "_templates", "_texts", "has_rest")  # fmt: skip

    def __init__(self, state: ServerState, recipient: Recipient) -> None:
        self._state = state
        self._recipient = recipient
        self._long_from = 2 * state.limits.max_depth  # a shorter message cannot be too deep
        self._many_from = state.limits.max_brackets  # nor have too many brackets
        self._templates: Templates | None = None  # made on first use: many clients never publish
        self._known: Mapping[bytes, tuple[Template, bool]] = _NOTHING  # what it knows
        self._rest: list[bytes] = []
        self._frame = b""  # an array with messages left, in front of the others
        self._done = 0  # messages of it that are handled
        self._array: list[Any] | None = None  # its messages, if they may soon be handled
        self._texts: list[bytes] | None = None  # the texts of those
        self._is_deep = False  # whether that array may be nested too deeply
        self.has_rest = False
        """Whether messages wait for ``go_on``."""

    @property
    def next_bytes(self) -> int | None:
        """Bytes of the next message that are still to be parsed; ``None`` if none waits."""
        if self._frame:
            return len(self._frame) if self._array is None else 0
        return len(self._rest[0]) if self._rest else None

    def receive(self, messages: Sequence[bytes]) -> None:
        """Let the session handle messages that came together, in order. None may wait."""
        recipient, state = self._recipient, self._state
        gate, turns, throttle = recipient.gate, state.turns, recipient.throttle
        # A refusal names what is missing only if the message is read in full.
        may_match = throttle is None and gate.phase is _REGISTERED
        known = self._known if may_match else _NOTHING
        if known and len(messages) >= _SEVERAL and self._receive_alike(messages):
            messages = ()
        waiting = iter(messages)
        for message in waiting:
            size = len(message)
            if (
                turns.left <= 0
                or size > LONG
                or throttle is not None
                or gate.phase is not _REGISTERED
            ):
                if gate.is_over:
                    break  # an earlier message ended the session, an overflow for instance
                if size > _HUGE and gc.isenabled():
                    self._receive_huge(message)
                    if self.has_rest:
                        self._rest += waiting
                        break
                    continue
                if (
                    turns.left <= 0
                    or (size > LONG and not turns.takes(size))
                    or gate.holds
                    or (throttle is not None and throttle.delays(size, state.now))
                ):
                    self._rest = [message, *waiting]
                    self.has_rest = True
                    break
            if known and (found := known.get(message[:KEY])) is not None:
                is_done = self._handle_alike(message, *found)
                if is_done:
                    continue
                if is_done is not None:
                    self._rest = list(waiting)
                    break
            excess = self._charge(0, size) if throttle is not None else None
            try:
                if size > self._many_from:
                    self._check_brackets(message)
                loaded = load(message)
            except InvalidMessage as error:
                if throttle is not None and excess is None:
                    excess = self._charge(1, 0)
                recipient.refuse_all(excess or error, ())
                continue
            if excess is not None:
                recipient.refuse_all(excess, loaded if type(loaded) is list else (loaded,))
                continue
            if size > self._long_from and self._may_be_deep(message):
                recipient.deep = self._weigh(loaded)
            elif recipient.deep is not None:
                recipient.deep = None
            if size > LONG:
                turns.left -= size // _SEARCHED
            recipient.text = message
            if type(loaded) is dict:
                refused = state.stats.refused
                recipient.handle(loaded)
                if may_match and state.stats.refused == refused:
                    self._learn(message, loaded)
            elif not self._handle(loaded, message):
                self._rest = list(waiting)
                break
        if recipient.run.gathered is not None:
            recipient.run.finish()
        recipient.deep = recipient.text = None  # they may be large

    def _receive_huge(self, message: bytes) -> None:
        """Receive a message that may become very many objects."""
        with _not_collecting():
            self.receive((message,))

    def go_on(self) -> None:
        """Let the session handle messages that waited."""
        recipient = self._recipient
        if self._frame:
            array, texts = self._array, self._texts
            self.keep_bytes()
            if array is None:
                with _not_collecting():
                    array = load(self._frame)
                units, turns = len(self._frame) // _PARSED, self._state.turns
                turns.lend(2 * units)  # parsing it again has to be worth it
                turns.left -= units
            recipient.deep = array if self._is_deep else None
            is_done = self._handle_array(array, self._frame, self._done, texts)
            recipient.run.finish()
            recipient.deep = recipient.text = None
            if not is_done:
                return
        rest, self._rest = self._rest, []
        self.has_rest = False
        self.receive(rest)

    def put(self, messages: Sequence[bytes]) -> None:
        """Add messages for ``go_on``, behind those that wait: for other transports."""
        self._rest += messages
        self.has_rest = bool(self._rest or self._frame)

    def keep_bytes(self) -> None:
        """Drop the objects of an array: it may wait for long, and its bytes are fewer."""
        if self._array is not None:
            self._array = self._texts = None
            self._state.parsed -= len(self._frame)

    def clear(self) -> None:
        """Drop everything: the session is over."""
        self.keep_bytes()
        self._rest, self._frame = [], b""
        self.has_rest = False

    def _check_brackets(self, message: bytes) -> None:
        """Raise ``InvalidMessage`` for a message that would become very many objects."""
        self._state.turns.left -= len(message) // _COUNTED
        if message.count(b"[") + message.count(b"{") > self._state.limits.max_brackets:
            raise InvalidMessage("the message has too many brackets")

    def _receive_alike(self, messages: Sequence[bytes]) -> bool:
        """Receive publications that are written alike and came together; tell whether they are."""
        recipient = self._recipient
        template, _ = self._known.get(messages[0][:KEY], (None, False))
        if (
            type(template) is not Publications
            or self._state.turns.left <= 0
            or recipient.gate.phase is not _REGISTERED
            or max(map(len, messages)) > min(LONG, self._many_from)
            or (recipient.dialect.confirms_publications and template.topic in recipient.topics)
        ):
            return False
        parts = template.parts(messages)
        try:
            if parts is None:
                return False
            payloads = [load(part) for part in parts]
            if max(map(len, parts)) > self._long_from and self._has_deep(payloads, parts):
                return False
            recipient.run.add(template.topic, [part.strip() for part in parts], len(parts))
        except InvalidMessage:  # each is refused in the ordinary way
            return False
        recipient.received += len(parts)
        return True

    def _handle_alike(self, message: bytes, template: Template, is_array: bool) -> bool | None:
        """Handle a message that is written like earlier ones, or an array of them.

        Tell whether none is left, or return ``None`` if it is written in another way.
        """
        if len(message) > self._many_from:
            return None
        recipient = self._recipient
        try:
            if not is_array:
                part = template.part(message)
                if part is None:
                    return None
                request, payload = template.read(part)
                if len(part) > self._long_from and self._has_deep([payload], [part]):
                    return None
                recipient.act(template, request)
                return True
            parts = template.parts_of_array(message)
            if parts is None or len(parts) > self._state.limits.max_batch:
                return None
            read = [template.read(part) for part in parts]
        except InvalidMessage:
            return None
        if max(map(len, parts)) > self._long_from:
            payloads = [payload for _, payload in read]
            if self._has_deep(payloads, parts):
                return None
        requests = [request for request, _ in read]
        return self._handle_each(requests, partial(recipient.act, template), message, 0)

    def _has_deep(self, payloads: list[Any], texts: Sequence[bytes]) -> bool:
        """Count the work of long payloads; tell whether one is nested too deeply."""
        if not any(self._may_be_deep(text) for text in texts):
            return False
        values, is_deep = measure(payloads, 1 + self._state.limits.max_depth)
        self._state.turns.left -= values // _VALUES
        return is_deep

    def _may_be_deep(self, text: bytes) -> bool:
        """Tell whether a long text has brackets enough to be too deep; if not, count its work."""
        if text.count(b"[") + text.count(b"{") > self._state.limits.max_depth:
            return True
        self._state.turns.left -= text.count(b",") // _VALUES
        return False

    def forget(self) -> None:
        """Forget how the client writes, as it switches to another dialect."""
        self._templates, self._known = None, _NOTHING

    def _learn(self, message: bytes | None, fields: Any) -> None:
        """Note how a registered client without rates has written a message that was accepted.

        Without ``message`` it is written as we would write it.
        """
        if type(fields) is dict and fields.get("action") in KINDS:
            if self._templates is None:
                self._templates = Templates()
                self._known = self._templates.known
            self._templates.learn(self._recipient, message, fields)

    def _weigh(self, loaded: Any) -> object:
        """Count the work of a long message; return its part that is nested too deeply, if any."""
        part = payload_of(loaded)
        values, is_deep = measure(part, self._state.limits.max_depth)
        if part is not loaded:
            values += 2 * len(loaded)  # its names and its other values
        self._state.turns.left -= values // _VALUES
        return part if is_deep else None

    def _handle(self, loaded: Any, frame: bytes) -> bool:
        """Handle one message, or each message of an array; tell whether none is left."""
        recipient = self._recipient
        if type(loaded) is not list or recipient.dialect.join is None:
            recipient.handle(loaded)
        elif len(loaded) > self._state.limits.max_batch:
            excess = self._charge(1, 0) if recipient.throttle is not None else None
            too_many = InvalidMessage("the array has too many messages", LIMIT_REACHED)
            recipient.refuse_all(excess or too_many, loaded)
        else:
            return self._handle_array(loaded, frame, 0)
        return True

    def _handle_array(
        self, messages: list[Any], frame: bytes, done: int, texts: list[bytes] | None = None
    ) -> bool:
        """Handle the messages of an array, from ``done`` on; tell whether none is left."""
        recipient, state, throttle = self._recipient, self._state, self._recipient.throttle
        if texts is None:
            texts = self._texts_in(frame, messages)
        recipient.text = None
        refused = state.stats.refused
        if texts:
            written = list(zip(texts, messages, strict=True))
            is_done = self._handle_each(written, self._handle_written, frame, done)
        else:
            is_done = self._handle_each(messages, recipient.handle, frame, done)
        if is_done:
            may_learn = messages and state.stats.refused == refused
            if may_learn and throttle is None and recipient.gate.phase is _REGISTERED:
                self._learn(texts[-1] if texts else None, messages[-1])
            return True
        self._is_deep = recipient.deep is not None
        is_delayed = throttle is not None and throttle.resume_at is not None
        is_heard = recipient.gate.phase is _REGISTERED and not is_delayed
        if is_heard and state.parsed <= _MOST_PARSED:
            self._array = messages  # else it may wait for long, and objects are larger
            self._texts = texts
            state.parsed += len(frame)
        return False

    def _texts_in(self, array: bytes, messages: list[Any]) -> list[bytes]:
        """Return the texts of the messages of an array, if that is of use: see ``text_of``."""
        is_deep = self._recipient.deep is not None
        if not is_deep and (len(messages) > _MOST_APART or is_as_we_write(array, messages)):
            return []
        self._state.turns.left -= len(array) // _SEARCHED + len(messages) * _APART
        try:
            return split_texts(array)
        except HardToFind:
            return []

    def _handle_written(self, written: tuple[bytes, Any]) -> None:
        self._state.turns.left -= _FOUND
        self._recipient.text, message = written
        self._recipient.handle(message)

    def _handle_each(
        self, messages: Sequence[T], handle: Callable[[T], None], frame: bytes, done: int
    ) -> bool:
        """Handle messages of an array while the turn lasts; tell whether none is left."""
        recipient, state = self._recipient, self._state
        gate, turns, throttle = recipient.gate, state.turns, recipient.throttle
        self._frame = b""
        for message in islice(messages, done, None):
            handle(message)
            done += 1
            turns.left -= _MESSAGE
            if turns.left > 0 and throttle is None and gate.phase is _REGISTERED:
                continue
            if gate.is_over:
                return True
            is_delayed = throttle is not None and throttle.delays(0, state.now)
            if turns.left <= 0 or gate.phase is not _REGISTERED or is_delayed:
                if done == len(messages):
                    return True
                self._frame, self._done, self._is_deep = frame, done, False
                self.has_rest = True
                if throttle is not None and is_delayed:
                    throttle.wait_for_burst(state.now)  # parsing it again has to be worth it
                return False
        return True

    def _charge(self, messages: int, size: int) -> InvalidMessage | None:
        """Count messages and bytes against the rates; return the refusal if they are too many."""
        throttle = self._recipient.throttle
        assert throttle is not None
        self._state.turns.left -= _RATED
        try:
            throttle.charge(messages, size, self._state.now)
        except InvalidMessage as excess:
            return excess
        return None


@contextmanager
def _not_collecting() -> Iterator[None]:
    """Collect no garbage meanwhile.

    Parsed JSON has no cycles. Looking for some each time that many more objects are made would
    take longer than everything else.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
