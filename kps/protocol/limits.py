"""Every bound of the protocol core, in one place: those of a connection, a client, a server.

Sizes are in bytes, times in seconds.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from math import inf

from kps.errors import InvalidArgument

_MAX_DEPTH = 128
_MAY_BE_ZERO = ("message_rate", "byte_rate")


class Overflow(StrEnum):
    """What happens to a bounded queue that has no room for one more message."""

    CLOSE = "close"
    """Close the connection with code 1008: the peer reads too slowly."""
    DROP_OLDEST = "drop_oldest"
    """Make room by dropping the oldest publications that wait."""
    DROP_NEWEST = "drop_newest"
    """Drop the publication that has no room."""


class RatePolicy(StrEnum):
    """What happens to a connection that sends faster than its limits on rates allow."""

    DELAY = "delay"
    """Read from it no more until the time is over: TCP slows it down, and nothing is lost."""
    ERROR = "error"
    """Refuse each message that is too many, with the code ``rate_limited``."""
    CLOSE = "close"
    """Close the connection with code 1008."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Bounds on one connection, whichever end this is.

    Raises :class:`kps.InvalidArgument` for bounds that are none, as all classes here do.
    """

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
    """Replies that wait for a connection before reading from it pauses, so that TCP slows down a
    peer that asks faster than it reads, and it does not fill its queue."""

    handshake_timeout: float = 10.0
    """Time from the TCP connection to the end of the opening handshake. Past it: status 408."""

    heartbeat_interval: float = 25.0
    """Silence of the peer after which a WebSocket ping is sent; up to a 32nd later, so
    that many connections have theirs together. Below the 30 to 60 s after which proxies in
    the field drop a silent connection."""

    heartbeat_timeout: float = 20.0
    """Silence after that ping which means that the peer is gone. A dead peer is
    therefore noticed within 33/32 of ``heartbeat_interval``, and ``heartbeat_timeout``."""

    close_timeout: float = 5.0
    """Time for the closing handshake, and for the peer to read a last answer."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in _MAY_BE_ZERO:
                if not value >= 0:
                    raise InvalidArgument(f"{each.name} must be 0 or above")
            elif each.type is int and value < 1:
                raise InvalidArgument(f"{each.name} must be at least 1")
            elif each.type is float and not 0 < value < inf:
                raise InvalidArgument(f"{each.name} must be a number of seconds above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramLimits(ConnectionLimits):
    """Bounds on what waits for a program's callbacks and iterators, at either end."""

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

    def __post_init__(self) -> None:
        super(ProgramLimits, self).__post_init__()
        if self.mailbox_overflow is Overflow.CLOSE:
            raise InvalidArgument("mailbox_overflow must be drop_oldest or drop_newest")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits(ProgramLimits):
    """Bounds on what a client may cost its program."""

    max_message: int = 64 * 1024 * 1024
    """Largest incoming WebSocket message, reassembled. Past it: close code 1009. What a server
    sends may be larger than what it takes: it gathers results, and what others published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits(ProgramLimits):
    """Bounds on what clients may cost a server.

    A request of a client that would pass one of them is answered with an error of the code
    ``limit_reached``, unless another answer is named.
    """

    max_depth: int = _MAX_DEPTH
    """Levels of arrays and objects within each other in a payload. Past it: an error of the
    code ``bad_message``. At most 128: to write JSON of more than 200 levels, orjson (3.13, and
    those before it) may write past the end of its memory."""

    max_batch: int = 65_536
    """Payloads of one batch, and messages of one array, which may be tiny, and cost something
    one by one. The clients of KPS stay below it."""

    max_topic: int = 256
    """Characters of a topic. Past it, or with a control character in it: an error of the
    code ``bad_request``. NATS and MQTT leave tens of kilobytes; what is stored for each
    topic and repeated in each message should be short."""

    max_id: int = 256
    """Characters of a client's id, for which the same holds."""

    max_ack_id: int = 1024
    """Characters of a publisher's own id of an ack request, in which clients of the family
    write their id. Past it: an error of the code ``bad_request``."""

    max_subscriptions: int = 10_000
    """Topics that one connection may be subscribed to."""

    max_topics: int = 1_000_000
    """Topics that have a subscriber."""

    max_connections: int = 65_536
    """Connections in all, those included that have not finished their handshake. Past it:
    status 503. How many descriptors the system gives is a limit of its own."""

    max_connections_per_address: int = 16_384
    """Connections from one address (of IPv6, from one network of 64 bits). Past it: status
    503. A quarter of all, as whole offices share an address."""

    max_ids: int = 1000
    """Ids that are kept for one identity. Past it, the one that was taken longest ago is
    free for others."""

    max_all_ids: int = 1_000_000
    """Ids that are kept for all identities together. Past it, likewise."""

    max_pending_acks: int = 10_000
    """Ack requests of one connection that are under way."""

    max_awaited_acks: int = 1_000_000
    """Answers that the server waits for, of all ack requests together."""

    max_results: int = 16 * 1024 * 1024
    """Bytes of results that one ack request may gather. Past it, an answer counts as
    failed, with the error ``no room for the result``."""

    max_all_results: int = 256 * 1024 * 1024
    """Bytes of results that all ack requests together may hold. Past it: the same."""

    message_rate: float = 0.0
    """Messages that one connection may send per second, each payload of a batch being one;
    0, the default, is as many as it can: what is right depends on the clients. The policies
    tell what happens past it. On the open internet, a few times what the program's own
    clients send is a good choice."""

    byte_rate: float = 0.0
    """Bytes that one connection may send per second; 0, the default, is as many as it can."""

    rate_burst: float = 1.0
    """Seconds' worth of messages and bytes that may come at once after a pause."""

    rate_policy: RatePolicy = RatePolicy.DELAY
    """What happens to a connection that sends faster."""

    register_timeout: float = 10.0
    """Time from there to the first ``ping`` of the protocol. Past it: close code 1008."""

    ack_timeout: float = 5.0
    """How long an ack request lasts when its publisher does not say."""

    max_ack_timeout: float = 300.0
    """The longest time that a publisher may ask for."""

    def __post_init__(self) -> None:
        super(ServerLimits, self).__post_init__()
        if not 1 <= self.max_depth <= _MAX_DEPTH:
            raise InvalidArgument(f"max_depth must be from 1 to {_MAX_DEPTH}")


IN_SHORT = {
    "max_message": "bytes of the largest message",
    "max_depth": "levels of arrays and objects in a payload, at most 128",
    "max_batch": "payloads of one batch, messages of one array",
    "max_topic": "characters of a topic",
    "max_id": "characters of a client's id",
    "max_ack_id": "characters of a publisher's id of an ack request",
    "max_subscriptions": "topics that one connection may be subscribed to",
    "max_topics": "topics with a subscriber",
    "max_connections": "connections in all",
    "max_connections_per_address": "connections from one address",
    "max_ids": "ids that are kept for one identity",
    "max_all_ids": "ids that are kept for all identities",
    "max_pending_acks": "ack requests of one connection under way",
    "max_awaited_acks": "answers that the server waits for, in all",
    "max_results": "bytes of results that one ack request may gather",
    "max_all_results": "bytes of results of all ack requests under way",
    "max_error": "characters of a subscriber's error text that are passed on",
    "max_head": "bytes of an HTTP head",
    "queue_messages": "messages that may wait for one client",
    "queue_bytes": "bytes that may wait for one client",
    "overflow": "what happens to a client that reads too slowly",
    "backlog_bytes": "bytes of answers that may wait before a client is not read from",
    "message_rate": "messages per second of one connection; 0: any",
    "byte_rate": "bytes per second of one connection; 0: any",
    "rate_burst": "seconds' worth of them that may come at once",
    "rate_policy": "what happens to a client that sends faster",
    "handshake_timeout": "seconds for the opening handshake",
    "register_timeout": "seconds for the first ping",
    "heartbeat_interval": "seconds of silence after which a client is pinged",
    "heartbeat_timeout": "seconds that it may take to answer",
    "close_timeout": "seconds for the closing handshake",
    "ack_timeout": "seconds of an ack request that does not say",
    "max_ack_timeout": "seconds of an ack request at most",
}
"""What each limit of a server bounds, in a few words. Each is an option of ``kps serve``."""
