"""The codes with which MQTT says why, in words, and what a bridge makes of them."""

from collections.abc import Mapping

SUCCESS = 0x00
NOBODY = 0x10
"""No subscriber has it."""
UNSPECIFIED = 0x80
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
    0x8D: "keep alive timeout",
    0x8E: "another client has taken over the client id",
    0x8F: "it does not take this filter",
    0x90: "it does not take this topic",
    0x93: "too many messages under way",
    0x95: "packet too large",
    0x97: "quota exceeded",
    0x99: "it does not take this payload",
    0x9A: "it retains no messages",
    0x9B: "it does not have this QoS",
    0x9C: "use another server",
    0x9D: "it has moved",
    0x9F: "too many connections",
}
_OTHER_VERSION = (0x01, 0x84)
_FINAL = frozenset((2, 4, 5, 0x85, 0x86, 0x87, 0x8A, 0x8C))


def in_words(code: int, reason: str = "") -> str:
    """Return what a code says, or the broker's own words."""
    return reason or _V3.get(code) or _V5.get(code) or f"code 0x{code:02x}"


def is_other_version(code: int) -> bool:
    """Tell whether a broker refuses a connection because of the version of MQTT."""
    return code in _OTHER_VERSION


def is_final(code: int) -> bool:
    """Tell whether it would be in vain to connect again in the same way."""
    return code in _FINAL
