"""The bounds of a connection and of a client. ``server_limits`` has those of a server.

Sizes are in bytes, times in seconds.
"""

from dataclasses import dataclass, fields
from enum import StrEnum

from kps.errors import InvalidArgument

LONGEST = 1e9
"""The longest time that a program may give, in seconds: 31 years. The system's timers fail at
numbers not far beyond."""

LARGEST = 2**53
"""The largest whole number that a program may give: JSON carries larger ones to few languages."""

_LARGEST_RATE = 1e15
_MAY_BE_ZERO = ("message_rate", "byte_rate")


class Overflow(StrEnum):
    """What a bounded queue does when one more message has no room."""

    CLOSE = "close"
    """Close the connection with code 1008: the peer reads too slowly."""
    DROP_OLDEST = "drop_oldest"
    """Drop the oldest pending publications."""
    DROP_NEWEST = "drop_newest"
    """Drop the new publication."""


def shown(value: object) -> str:
    """Return an argument of a program for a text about it, whatever it is."""
    try:
        return repr(value)[:200].encode("utf-8", "backslashreplace").decode()
    except BaseException:  # an integer of very many digits; or the program's own ``__repr__``
        return f"a {type(value).__name__}"


def check_seconds(name: str, value: object, least: float = 0.0) -> float:
    """Return a number of seconds from ``least``, or above 0, to ``LONGEST``.

    Raises :class:`kps.InvalidArgument`.
    """
    if type(value) is float and 0.0 < value <= LONGEST and value >= least:
        return value  # the usual case, at once
    is_number = type(value) is float or (isinstance(value, int) and not isinstance(value, bool))
    if not is_number or not least <= value <= LONGEST or not value > 0:  # type: ignore[operator]
        least_text = f"from {least}" if least else "above 0"
        raise InvalidArgument(
            f"{name} is a number of seconds {least_text}, up to {LONGEST:.0f}, not {shown(value)}"
        )
    return value  # type: ignore[return-value]


def check_switch(name: str, value: object) -> bool:
    """Return a truth value. Others are refused: any text, also ``"no"``, would be true.

    Raises :class:`kps.InvalidArgument`.
    """
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name} is True or False, not {shown(value)}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Bounds on one connection, at either end.

    This and the classes below raise :class:`kps.InvalidArgument` for a value out of range.
    """

    max_message: int = 1024 * 1024
    """Largest incoming WebSocket message, reassembled. Past it: close code 1009. A server takes
    at least 512 bytes. nats-server and the WebSocket libraries have the same default."""

    max_head: int = 16 * 1024
    """Largest HTTP head (request line and headers), of a server at least 512. Past it: status
    431. Common servers allow 8 to 80 KiB; cookies and tokens need more than the smallest of
    these."""

    queue_messages: int = 262_144
    """WebSocket messages that may be pending for one connection."""

    queue_bytes: int = 64 * 1024 * 1024
    """Bytes that may be pending for one connection; each frame counts for 160 more, which it
    takes in memory. A single larger message still passes through an empty queue. nats-server has
    the same default: at full speed it is less than a second's worth. A publication that is pending
    for several connections is in memory once."""

    overflow: Overflow = Overflow.CLOSE
    """What a full queue does with a publication. Answers, direct messages and ack requests
    are never dropped: when they have no room, the connection closes."""

    backlog_bytes: int = 256 * 1024
    """Pending bytes of replies past which we pause reading from a connection. TCP then slows
    down a peer that asks faster than it reads, and its queue does not fill."""

    handshake_timeout: float = 10.0
    """Time from the TCP connection to the end of the opening handshake. Past it: status 408."""

    heartbeat_interval: float = 25.0
    """Silence of the peer after which we send a WebSocket ping, up to a 32nd later, so that
    many connections are pinged together. Common proxies drop a silent connection after 30
    to 60 s; the default is below that."""

    heartbeat_timeout: float = 20.0
    """Silence after that ping which means that the peer is gone. We notice a dead peer
    within 33/32 of ``heartbeat_interval``, plus ``heartbeat_timeout``."""

    close_timeout: float = 5.0
    """Time for the closing handshake, and for the peer to read a last answer."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(each.type, type) and issubclass(each.type, StrEnum):
                choices = list(each.type)
                if not isinstance(value, str) or value not in choices:
                    raise InvalidArgument(
                        f"{each.name} must be one of {', '.join(choices)}, not {shown(value)}"
                    )
                object.__setattr__(self, each.name, each.type(value))  # it may be a plain text
            elif isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidArgument(f"{each.name} must be a number, not {shown(value)}")
            elif each.type is int and not isinstance(value, int):
                raise InvalidArgument(f"{each.name} must be a whole number, not {shown(value)}")
            elif each.name in _MAY_BE_ZERO:
                if not 0 <= value <= _LARGEST_RATE:
                    raise InvalidArgument(f"{each.name} must be from 0 to {_LARGEST_RATE:.0f}")
            elif each.type is int and value < 1:
                raise InvalidArgument(f"{each.name} must be at least 1")
            elif each.type is float and not 0 < value <= LONGEST:
                raise InvalidArgument(
                    f"{each.name} must be a number of seconds above 0, up to {LONGEST:.0f}"
                )


_LEAST_BRACKETS = 33_000  # more than half of the bytes of a client's largest batch


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramLimits(ConnectionLimits):
    """Bounds on the messages pending for a program's callbacks and iterators, at either end."""

    max_brackets: int = 70_000
    """Opening brackets, ``[`` and ``{``, in one message, also within its texts. Each may begin an
    array or an object: it takes two bytes, and as long to read as fifty of other content. A server
    refuses more with the code ``bad_message``; a client raises :class:`kps.MessageTooLarge` before
    it sends more. At least 33,000, which a batch of small publications may have."""

    mailbox_messages: int = 262_144
    """Messages that may be pending for one subscription's callback or iterator. A client
    pauses reading when more than a 32nd of this, or of ``mailbox_bytes``, is pending, until less
    than a 64th is. So it needs room for what one read may bring: 256 KiB."""

    mailbox_bytes: int = 64 * 1024 * 1024
    """Bytes that may be pending for one subscription: of the messages' JSON, and 144 for each; and
    of notices for the hooks of a client, such as ``on_frame``. Python's objects of a payload with
    very many parts take up to 45 times as much as its JSON."""

    mailbox_overflow: Overflow = Overflow.DROP_NEWEST
    """What a full mailbox does with a message. ``CLOSE`` is not allowed here. A dropped
    message that wants an ack is answered with ``queue full``."""

    max_topic: int = 256
    """Characters of a topic. A server answers a longer one, or one with a control character in
    it, with an error of the code ``bad_request``; NATS and MQTT allow tens of kilobytes, but the
    server stores the text for each topic and repeats it in each message, so it should be short.
    A program's own longer topics are refused at once, by clients and servers."""

    max_id: int = 256
    """Characters of a client's id, with the same effects and for the same reason; it has no control
    characters either."""

    max_error: int = 1000
    """Characters of a subscriber's error text that its publisher gets. The rest is cut off,
    so that the answers of many subscribers fit into one message."""

    max_all_results: int = 256 * 1024 * 1024
    """Bytes of results and error texts that all pending ack requests together may hold, where
    each counts with what it takes besides. Past it, an answer counts as failed, with the error
    ``no room for the result``. At a client whole outcomes count, and the request that would
    hold more ends with :class:`kps.QueueFull`."""

    def __post_init__(self) -> None:
        super(ProgramLimits, self).__post_init__()
        for each in fields(self):
            if each.type is int and getattr(self, each.name) > LARGEST:
                raise InvalidArgument(f"{each.name} must be at most {LARGEST}")
        if self.max_brackets < _LEAST_BRACKETS:
            raise InvalidArgument(f"max_brackets must be at least {_LEAST_BRACKETS}")
        if self.mailbox_overflow is Overflow.CLOSE:
            raise InvalidArgument("mailbox_overflow must be drop_oldest or drop_newest")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits(ProgramLimits):
    """Bounds on what a client may cost its program."""

    max_message: int = 64 * 1024 * 1024
    """Largest incoming WebSocket message, reassembled. Past it: close code 1009. A server
    gathers results and publications, so it may send larger messages than it accepts."""

    mailbox_patience: float = 10.0
    """How long reading waits for a subscription with too many pending messages of which the
    program finishes none. Then the client reads on for the other subscriptions, and
    ``mailbox_overflow`` acts when the mailbox is full. A callback that takes longer than this
    for one message counts as one that hangs, until it goes on."""
    max_topic: int = 65_536
    """Characters of a topic that the program gives. The server has its own, smaller limit, which
    a client does not know; this one refuses at once what no server takes."""

    max_id: int = 65_536
    """Characters of an id that the program gives, in the same way."""
