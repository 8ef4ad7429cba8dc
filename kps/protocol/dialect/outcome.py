"""The outcome of an ack request for one subscriber."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import TYPE_CHECKING, Any, Generic

import orjson

from kps.protocol import cost
from kps.protocol.patterns import InGroup, Scope

if TYPE_CHECKING:
    # Only type checkers read this import. The default is the meaning of a plain ``AckResponse``.
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")


Json = orjson.Fragment
"""A value as JSON. An outcome keeps its result so, because objects take far more memory."""


def as_json(written: bytes) -> Json:
    """Return JSON that has been written as a value."""
    return Json(cost.compact(written))


class Receipt(int):
    """To how many subscribers the server has delivered a message (spec, 12.3)."""

    degraded: bool
    """Whether they are those of one node only, because it could not reach the others of its
    cluster."""

    def __new__(cls, delivered: int, *, is_degraded: bool = False) -> "Receipt":
        receipt = super().__new__(cls, delivered)
        receipt.degraded = is_degraded
        return receipt


@dataclass(frozen=True, slots=True, init=False)
class AckResponse(Generic[R]):
    """The outcome of an ack request for one addressed subscriber (spec, section 6)."""

    client_id: str
    """The id of the subscriber."""
    success: bool
    """Whether it has handled the message."""
    error: str | None = None
    """What went wrong: the subscriber's own text, or ``disconnected``, ``timeout``,
    ``queue full``, ``no subscriber for topic``; ``absent`` for one that was expected and is not
    subscribed; for a group also ``no member`` and ``busy``. ``None`` after success."""
    ack_id: str = ""
    """The id of the request: the server's on level 1, the publisher's on level 2."""
    result: R | None = None
    """What the subscriber's callback returned: any JSON value. Level 2 only. It is kept as JSON,
    and each access reads it anew."""

    def __init__(
        self,
        client_id: str,
        success: bool,
        error: str | None = None,
        ack_id: str = "",
        result: R | None = None,
    ) -> None:
        # What a dataclass would do, in half the time: each outcome is made at both ends.
        _set_client_id(self, client_id)
        _set_success(self, success)
        _set_error(self, error)
        _set_ack_id(self, ack_id)
        _set_result(self, result)

    @property
    def name(self) -> str:
        """By which name a program finds it: the client's id."""
        return self.client_id

    @property
    def key(self) -> str:
        """What it is known by within: no other outcome of its request has the same."""
        return self.client_id

    def fields(self) -> dict[str, Any]:
        """Return the response as level 1 writes it: with ``error`` only if there is one."""
        fields = {"ack_id": self.ack_id, "client_id": self.client_id, "success": self.success}
        return fields | ({"error": self.error} if self.error else {})


_slots: Mapping[str, Any] = vars(AckResponse)
_set_client_id, _set_success, _set_error, _set_ack_id, _set_result = [
    _slots[field.name].__set__ for field in fields_of(AckResponse)
]
kept_result: Callable[[AckResponse], object] = _slots["result"].__get__
"""Returns the result of an outcome as it is kept, to be written into a message."""


def _read(response: AckResponse) -> object:
    kept = kept_result(response)
    return orjson.loads(orjson.dumps(kept)) if type(kept) is Json else kept


# A dataclass lets no property be a field, but it may become one afterwards.
setattr(AckResponse, "result", property(_read, _set_result))  # noqa: B010


def size_of(response: AckResponse, result: int = 0) -> int:
    """Return what an outcome takes in memory, whose result has so many bytes of JSON."""
    size = cost.OUTCOME + cost.of_text(response.client_id)
    error = response.error
    return size + cost.of_answer(error, result) if error or result else size


def by_name(responses: Mapping[str, AckResponse]) -> dict[str, AckResponse]:
    """Return outcomes by the names that programs know them by."""
    named: dict[str, AckResponse] = {}
    for response in responses.values():
        name = response.name
        while name in named:  # a client may call itself as a group is called
            name += " (group)"
        named[name] = response
    return named


def size_of_failure(member: str, error: str) -> int:
    """Return what an earlier attempt takes in memory."""
    return cost.OUTCOME + cost.of_text(member) + cost.of_text(error)


@dataclass(frozen=True, slots=True, init=False)
class GroupResponse(AckResponse[R]):
    """The outcome of an ack request for one group (spec, 18.3).

    ``client_id`` is the member that had the message last, empty if none had it.
    """

    scope: Scope = ""
    """The topic or pattern of the group."""
    group: str = ""
    """Its name."""
    attempts: int = 0
    """How many members had the message, counting each time."""
    failures: tuple[tuple[str, str], ...] = ()
    """For each earlier attempt, the id of the member, and why it failed."""

    def __init__(
        self,
        client_id: str,
        success: bool,
        error: str | None = None,
        ack_id: str = "",
        result: R | None = None,
        *,
        scope: Scope = "",
        group: str = "",
        attempts: int = 0,
        failures: tuple[tuple[str, str], ...] = (),
    ) -> None:
        AckResponse.__init__(self, client_id, success, error, ack_id, result)
        set_field = object.__setattr__
        set_field(self, "scope", scope)
        set_field(self, "group", group)
        set_field(self, "attempts", attempts)
        set_field(self, "failures", failures)

    @property
    def name(self) -> str:
        """``GROUP of TOPIC``."""
        return str(InGroup(self.scope, self.group))

    @property
    def key(self) -> str:
        kind = "topic" if isinstance(self.scope, str) else "pattern"
        return f"\0{kind}\0{self.scope}\0{self.group}"  # no client's id has such a character

    def without_result(self, error: str) -> "GroupResponse[R]":
        """Return this as a failure."""
        return GroupResponse(
            self.client_id,
            False,
            error,
            self.ack_id,
            scope=self.scope,
            group=self.group,
            attempts=self.attempts,
            failures=self.failures,
        )


NO_SUBSCRIBER = "no subscriber for topic"
"""The error of a receiver whose program does not subscribe any more."""

ABSENT = "absent"
"""The error of a receiver that was expected, and is not there."""

NO_MEMBER = "no member"
"""The error of a group that has no members."""


def has_asked_nobody(response: AckResponse) -> bool:
    """Tell whether an outcome means that nobody was there to handle the message (spec, 16.1)."""
    if isinstance(response, GroupResponse) and response.attempts:
        return False
    return response.error in (NO_SUBSCRIBER, NO_MEMBER)


_LONGEST = 10_000  # characters of an exception's text


def in_words(failure: BaseException) -> str:
    """Put an exception into words that can be sent and logged, whatever its ``str`` does.

    They are its text, without halves of characters and not too long; or the name of its class, if
    it has none.
    """
    try:
        text = str(failure)[:_LONGEST].encode("utf-8", "backslashreplace").decode()
    except BaseException:
        text = ""
    return text or type(failure).__name__


def bad_result(reason: object) -> str:
    """Return the error text for a subscriber whose result cannot be sent."""
    return f"the result of the callback cannot be sent: {reason}"


def timed_out(client_id: str, ack_id: str) -> AckResponse:
    """Return the outcome of a subscriber that did not answer in time."""
    return AckResponse(client_id, False, "timeout", ack_id)
