"""Every bound of the protocol core, in one place."""

from dataclasses import dataclass
from enum import StrEnum


class Overflow(StrEnum):
    """What happens to a bounded queue that has no room for one more message."""

    CLOSE = "close"
    """Close the connection with code 1008: the peer reads too slowly."""
    DROP_OLDEST = "drop_oldest"
    """Make room by dropping the oldest publications that wait."""
    DROP_NEWEST = "drop_newest"
    """Drop the publication that has no room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a connection may cost. Sizes in bytes, times in seconds."""

    max_message: int = 1024 * 1024
    """Largest incoming WebSocket message, reassembled. Past it: close code 1009.
    The default is that of nats-server; the WebSocket libraries' is the same."""

    max_head: int = 16 * 1024
    """Largest HTTP head (request line and headers). Past it: status 431. Servers in the
    field allow 8 to 80 KiB; cookies and tokens need more than the smallest of these."""

    queue_messages: int = 262_144
    """WebSocket messages that may wait to be written to one connection."""

    queue_bytes: int = 64 * 1024 * 1024
    """Bytes that may wait to be written to one connection. A single message that is
    larger still passes through an empty queue. The default is that of nats-server: at full
    speed it is less than a second's worth. What several connections wait for is in memory
    once."""

    overflow: Overflow = Overflow.CLOSE
    """What happens to a publication for a connection whose queue is full. Answers,
    direct messages and ack requests are never dropped: without room for them the
    connection closes."""

    backlog_bytes: int = 256 * 1024
    """Answers that wait for a connection before reading from it pauses, so that who
    asks faster than it reads is slowed down by TCP and does not fill its queue."""

    handshake_timeout: float = 10.0
    """Time from the TCP connection to the end of the opening handshake."""

    heartbeat_interval: float = 25.0
    """Silence of the peer after which a WebSocket ping is sent; up to a 32nd later, so
    that many connections have theirs together. Below the 30 to 60 s after which proxies in
    the field drop a silent connection."""

    heartbeat_timeout: float = 20.0
    """Silence after that ping which means that the peer is gone. A dead peer is
    therefore noticed within 33/32 of ``heartbeat_interval``, and ``heartbeat_timeout``."""

    close_timeout: float = 5.0
    """Time for the closing handshake, and for the peer to read a last answer."""

    mailbox_messages: int = 262_144
    """Messages that may wait for one subscription's callback or iterator. A client reads no
    more while a 32nd of it waits for a program that keeps up."""

    mailbox_bytes: int = 64 * 1024 * 1024
    """Bytes (of the messages' JSON) that may wait for one subscription's callback."""

    mailbox_overflow: Overflow = Overflow.DROP_NEWEST
    """What happens to a message for a subscription whose mailbox is full. ``CLOSE``
    is not one of the choices here. A dropped message that wants an ack is answered
    with ``queue full``."""

    max_error: int = 1000
    """Characters of a subscriber's error text that its publisher gets; the rest is cut off,
    so that the answers of many subscribers fit into one message."""

    ack_timeout: float = 5.0
    """How long an ack request lasts when its publisher does not say."""

    max_ack_timeout: float = 300.0
    """The longest time that a publisher may ask for."""

    def __post_init__(self) -> None:
        if self.mailbox_overflow is Overflow.CLOSE:
            raise ValueError("mailbox_overflow must be drop_oldest or drop_newest")
        for name in (
            "max_message",
            "max_head",
            "queue_messages",
            "queue_bytes",
            "mailbox_messages",
            "mailbox_bytes",
            "max_error",
            "backlog_bytes",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in (
            "handshake_timeout",
            "heartbeat_interval",
            "heartbeat_timeout",
            "close_timeout",
            "ack_timeout",
            "max_ack_timeout",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0 seconds")
