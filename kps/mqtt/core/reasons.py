"""The codes with which MQTT says why, in words, and what a bridge makes of them."""

from collections.abc import Mapping

from kps.protocol.limits import shown

SUCCESS = 0x00
NOBODY = 0x10
"""No subscriber has it."""
FAILED = 0x83
"""An error of the implementation: a subscriber has failed."""
FORBIDDEN = 0x87
BAD_TOPIC = 0x90
TOO_LARGE = 0x95
BAD_PAYLOAD = 0x99

REFUSED = 0x80
"""Codes from here on refuse."""
TAKEN_OVER = 0x8E
"""Another client has connected with our id."""
ENDS_CONNECTION = 0x100
"""No code of MQTT: the broker ends each connection over a message."""
NO_ANSWER = 0x101
"""No code of MQTT: the bridge has ended first."""

BLAMES = frozenset((0x81, 0x82, 0x90, 0x94, 0x95, 0x99, 0x9A, 0x9B))
"""With these a broker ends a connection because of a packet that it has got."""
BLAMES_NO_MESSAGE = frozenset(
    (0x00, 0x89, 0x8B, 0x8D, 0x8E, 0x96, 0x97, 0x98, 0x9C, 0x9D, 0x9F, 0xA0)
)
"""With these it does so for another reason."""

_V3: Mapping[int, str] = {
    1: "it does not speak this version of MQTT",
    2: "it does not take this client id",
    3: "it is not available",
    4: "bad user name or password",
    5: "not authorized",
}
_V5: Mapping[int, str] = {
    0x10: "no subscriber has it",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "an error of the broker",
    0x84: "it does not speak this version of MQTT",
    0x85: "it does not take this client id",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "it is not available",
    0x89: "it is busy",
    0x8A: "banned",
    0x8B: "it shuts down",
    0x8C: "it wants another way to log in",
    0x8D: "keep alive timeout",
    0x8E: "another client has taken over the client id",
    0x8F: "it does not take this filter",
    0x90: "it does not take this topic",
    0x91: "it knows the number of the packet already",
    0x92: "it does not know the number of the packet",
    0x93: "too many messages under way",
    0x94: "it has no such alias of a topic",
    0x95: "packet too large",
    0x96: "too many messages in a short time",
    0x97: "quota exceeded",
    0x98: "an administrator has ended it",
    0x99: "it does not take this payload",
    0x9A: "it retains no messages",
    0x9B: "it does not have this QoS",
    0x9C: "use another server",
    0x9D: "it has moved",
    0x9E: "it has no shared subscriptions",
    0x9F: "too many connections",
    0xA0: "it ends connections after some time",
    0xA1: "it has no identifiers of subscriptions",
    0xA2: "it takes no filter with + or #",
    ENDS_CONNECTION: "it ends the connection whenever it gets the message",
    NO_ANSWER: "the bridge has ended, and the broker has not answered",
}
_OTHER_VERSION = (0x01, 0x84)
_FINAL = frozenset((2, 4, 5, 0x85, 0x86, 0x87, 0x8A, 0x8C))


def in_words(code: int, reason: str = "") -> str:
    """Return what a code says, with the broker's own words if it has any."""
    words = _V3.get(code) or _V5.get(code) or f"code 0x{code:02x}"
    return f"{words} ({shown(reason)})" if reason else words


def is_other_version(code: int) -> bool:
    """Tell whether a broker refuses a connection because of the version of MQTT."""
    return code in _OTHER_VERSION


def is_final(code: int) -> bool:
    """Tell whether it would be in vain to connect again in the same way."""
    return code in _FINAL
