"""The extension on which both ends may agree: permessage-deflate (RFC 7692, section 7.1).

Whichever end deflates, it begins each message with an empty window: a server asks that of every
client, and our clients of every server. So nobody keeps anything between two messages.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

_NAME = "permessage-deflate"
_SERVER_FORGETS = "server_no_context_takeover"
_CLIENT_FORGETS = "client_no_context_takeover"
_SERVER_WINDOW = "server_max_window_bits"
_CLIENT_WINDOW = "client_max_window_bits"

OFFER = "; ".join((_NAME, _SERVER_FORGETS, _CLIENT_FORGETS, _CLIENT_WINDOW))
"""What our clients offer. They deflate nothing, so any window of theirs is right."""

_LARGEST_WINDOW = "15"
_BITS = "[89]|1[0-5]"

# The parameters of an offer, and the values that each may have; of an answer.
_OFFERED = {
    _SERVER_FORGETS: re.compile(""),
    _CLIENT_FORGETS: re.compile(""),
    _SERVER_WINDOW: re.compile(_BITS),
    _CLIENT_WINDOW: re.compile(f"|{_BITS}"),
}
_ANSWERED = {**_OFFERED, _CLIENT_WINDOW: _OFFERED[_SERVER_WINDOW]}

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_EXTENSION = re.compile(_TOKEN)
_PARAMETER = re.compile(rf'({_TOKEN})(?:[ \t]*=[ \t]*("?)({_TOKEN})\2)?')

_LONGEST = 1024  # bytes of a field that is read


class Accepted(NamedTuple):
    """An offer that a server accepts."""

    answer: str
    """The value of the field that says so."""
    has_whole_window: bool
    """Whether the client takes messages that were deflated with the largest window."""


def accept(offers: str) -> Accepted | None:
    """Accept the first offer of a client that a server can accept, if there is one."""
    for settings in _read(offers, _OFFERED):
        if settings is not None:
            answer = [_NAME, _SERVER_FORGETS, _CLIENT_FORGETS]
            window = settings.get(_SERVER_WINDOW)
            if window is not None:
                answer.append(f"{_SERVER_WINDOW}={window}")
            return Accepted("; ".join(answer), window in (None, _LARGEST_WINDOW))
    return None


def accepts(answer: str) -> bool:
    """Tell whether the answer of a server accepts our ``OFFER``, and nothing else."""
    accepted = _read(answer, _ANSWERED)
    return len(accepted) == 1 and accepted[0] is not None and _SERVER_FORGETS in accepted[0]


def _read(field: str, known: Mapping[str, re.Pattern[str]]) -> list[dict[str, str] | None]:
    """Return the parameters of each extension in a field, in order.

    ``None`` stands for one that is not ours, or has parameters that are not ``known``. A field that
    breaks the syntax, or is very long, has no extensions.
    """
    found: list[dict[str, str] | None] = []
    for extension in field.split(",") if len(field) <= _LONGEST else ():
        name, *parameters = [part.strip(" \t") for part in extension.split(";")]
        matches = [_PARAMETER.fullmatch(parameter) for parameter in parameters]
        pairs = [(match[1], match[3] or "") for match in matches if match is not None]
        if not (name or parameters):
            continue  # lists of HTTP may have empty places
        if _EXTENSION.fullmatch(name) is None or len(pairs) < len(matches):
            return []
        settings = dict(pairs)
        is_known = all(key in known and known[key].fullmatch(settings[key]) for key in settings)
        is_ours = name == _NAME and len(settings) == len(pairs) and is_known
        found.append(settings if is_ours else None)
    return found
