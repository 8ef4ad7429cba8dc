"""What a program gives: whether it can be sent."""

from collections.abc import Iterable, Mapping
from typing import Any

from kps.errors import InvalidArgument
from kps.protocol.cost import compact
from kps.protocol.dialect.envelope import compose
from kps.protocol.dialect.places import LARGEST
from kps.protocol.dialect.requests import Demands
from kps.protocol.limits import ProgramLimits, shown
from kps.protocol.patterns import InGroup, Key, Pattern

LONGEST_ADDRESS = 1024
"""Characters of the address of another server: two hosts with their ports, and a path."""


def check_topic(topic: Any, limits: ProgramLimits) -> str:
    """Return a topic that the program gave. Raises :class:`kps.InvalidArgument`."""
    if type(topic) is str and 0 < len(topic) <= limits.max_topic and topic.isprintable():
        return topic  # the usual case, at once
    return check_text("a topic", topic, limits.max_topic)


def check_key(key: Any, limits: ProgramLimits) -> Key:
    """Return a topic or pattern that the program gave. Raises :class:`kps.InvalidArgument`."""
    if isinstance(key, InGroup):
        check_key(key.scope, limits)
        check_text("a group", key.group, limits.max_topic)
        return key
    if isinstance(key, Pattern):
        check_text("a pattern", key.text, limits.max_topic)
        return key
    return check_topic(key, limits)


def check_demands(
    expect: Any, expect_groups: Any, key: Any, retry: Any, limits: ProgramLimits
) -> Demands:
    """Return what a program wants of the receivers. Raises :class:`kps.InvalidArgument`."""
    if not isinstance(key, str):
        raise InvalidArgument(f"key is a text, not {shown(key)}")
    if key:
        check_text("a key", key, limits.max_topic)
    if type(retry) is not int or not 0 <= retry <= LARGEST:
        raise InvalidArgument(f"retry is a number of times, not {shown(retry)}")
    ids, groups = _names("expect", "ids", expect), _names("expect_groups", "groups", expect_groups)
    return Demands(ids, groups, key, retry)


def _names(option: str, what: str, names: Any) -> tuple[str, ...]:
    is_list = isinstance(names, Iterable) and not isinstance(names, str)
    expected = tuple(names) if is_list else ("",)
    if not all(isinstance(one, str) and one for one in expected):
        raise InvalidArgument(f"{option} takes a list of {what}, not {shown(names)}")
    return expected


def check_id(client_id: Any, limits: ProgramLimits) -> str:
    """Return an id that the program gave. Raises :class:`kps.InvalidArgument`."""
    return check_text("an id", client_id, limits.max_id)


def check_message_id(message_id: Any, limits: ProgramLimits) -> str:
    """Return the id of a message that the program gave; ``""`` stands for none.

    Raises :class:`kps.InvalidArgument`.
    """
    return "" if message_id == "" else check_text("a message id", message_id, limits.max_id)


def check_text(what: str, given: Any, most: int) -> str:
    """Return a text of the program that goes into messages as a name.

    Raises :class:`kps.InvalidArgument` unless it has 1 to ``most`` characters, none of them a
    control character, and can be written in UTF-8.
    """
    if not isinstance(given, str) or not given:
        raise InvalidArgument(f"{what} is a text that is not empty, not {shown(given)}")
    if len(given) > most:
        raise InvalidArgument(f"{what} has at most {most} characters, and this has {len(given)}")
    if not given.isprintable():
        if has_controls(given):
            raise InvalidArgument(f"{what} has no control characters, unlike {shown(given)}")
        try:
            given.encode()
        except UnicodeError:
            raise InvalidArgument(
                f"{what} can be written in UTF-8, unlike {shown(given)}"
            ) from None
    return given


def has_controls(text: str) -> bool:
    """Tell whether a text has a control character in it."""
    return any(c < " " or "\x7f" <= c <= "\x9f" for c in text)


def check_headers(headers: Any) -> bytes:
    """Return the headers that a program gave, as JSON. Raises :class:`kps.InvalidArgument`."""
    if headers is None:
        return b""
    if not isinstance(headers, Mapping) or not all(
        isinstance(name, str) and isinstance(one, str) for name, one in headers.items()
    ):
        raise InvalidArgument(f"headers is a dictionary of texts, not {shown(headers)}")
    return compact(compose(dict(headers))) if headers else b""
