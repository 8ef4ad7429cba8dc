"""The way of a message over bridges: in a header of KPS, and in a user property of MQTT 5.

It has the names of the bridges. So a message that comes back is known, whichever way it took, and
one that has passed very many bridges ends.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote

from kps.mqtt.core.refusal import Refusal

HEADER = "kps-bridges"
"""The names of the bridges that a message has passed, with commas."""


def passed(headers: Mapping[str, str], name: str, most: int) -> dict[str, str]:
    """Return headers with one more bridge. Raises :class:`Refusal`.

    ``most`` is the number of bridges that a message may pass.
    """
    here = _written(name)
    way = headers.get(HEADER, "")
    if not way:
        return {**headers, HEADER: here}
    names = way.split(",")
    if here in names:
        raise Refusal("looped", "the message has passed this bridge before")
    if len(names) >= most:
        raise Refusal("too_far", f"the message has passed {len(names)} bridges")
    return {**headers, HEADER: ",".join((*names, here))}


@lru_cache(maxsize=16)
def _written(name: str) -> str:
    return quote(name, safe="")


def headers_of(user: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return user properties as headers. Of several with one name the last one counts."""
    return dict(user)
