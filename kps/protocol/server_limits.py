"""The bounds of a server. A client, which imports ``limits``, needs none of them.

Sizes are in bytes, times in seconds.
"""

from dataclasses import dataclass
from enum import StrEnum

from kps.errors import InvalidArgument
from kps.protocol.limits import ProgramLimits

LEAST_MESSAGE = 512
"""The smallest ``max_message`` of a server: a client's first message has an id and a token."""
LEAST_HEAD = 512
"""The smallest ``max_head`` of a server: the head of an upgrade has five headers and a token."""

_MAX_DEPTH = 128


class RatePolicy(StrEnum):
    """What the server does with a connection that exceeds its rate limits."""

    DELAY = "delay"
    """Pause reading from it: TCP slows the client down, and nothing is lost."""
    ERROR = "error"
    """Refuse each excess message with the code ``rate_limited``."""
    CLOSE = "close"
    """Close the connection with code 1008."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits(ProgramLimits):
    """Bounds on what clients may cost a server.

    The server answers a request that would exceed one with an error of the code
    ``limit_reached``, unless another answer is named.
    """

    max_depth: int = _MAX_DEPTH
    """Nested arrays and objects in a payload. Past it: an error of the code ``bad_message``.
    At most 128: orjson (3.13 and earlier) may write past the end of its memory when it writes
    JSON of more than 200 levels."""

    max_batch: int = 65_536
    """Payloads of one batch, and messages of one array. They may be tiny, and each has a cost.
    The clients of KPS stay below it."""

    max_ack_id: int = 1024
    """Characters of a publisher's own id of an ack request; clients of the family put their
    client id into it. Past it: an error of the code ``bad_request``."""

    max_subscriptions: int = 10_000
    """Subscriptions of one connection: to topics, to patterns, and as a member of groups."""

    max_topics: int = 1_000_000
    """Topics and patterns with a subscriber."""

    history_bytes: int = 256 * 1024 * 1024
    """Bytes that the messages which are kept for later take in memory, of all topics together.
    Past it the server forgets the oldest messages of the topic that has had some the longest."""

    history_topics: int = 100_000
    """Topics of which it is known whether they have history, and where it stands. Past it the
    server forgets one, without messages if possible: its offsets begin anew in a new epoch."""

    max_positions: int = 1000
    """Topics that the place of a pattern may name (``since``), and messages of one answer to a
    request for history. Past it: for such a place ``limit_reached``."""

    max_info: int = 1024
    """Bytes of what a client says about itself with a subscription (``info``). Past it:
    ``bad_request``. All that one connection says may have 64 times as many. Past that:
    ``limit_reached``."""

    max_members: int = 1000
    """Members of a topic who are told by name to those that want to know who is there. Of more
    they are told the number."""

    max_headers: int = 4096
    """Bytes of the headers of a message, as JSON. Past it: ``bad_request``."""

    message_id_window: float = 120.0
    """How long the server remembers a message with an id after it was handled."""

    max_message_ids: int = 10_000
    """The latest messages with ids of one client, which the server remembers. Past it: it forgets
    the oldest, but not while its ack request is under way."""

    message_id_bytes: int = 128 * 1024 * 1024
    """Bytes that all messages with ids may take in memory, with the final answers to their ack
    requests; those of one identity, or of the anonymous clients of one address, an eighth of it.
    Past it: the server forgets the oldest answers, and then refuses further messages with
    ``limit_reached``."""

    max_groups: int = 100
    """Groups of which one connection may be a member."""

    max_concurrency: int = 1000
    """Messages that a member of a group may ask for at a time. Past it: it gets so many."""

    max_waiting: int = 10_000
    """Messages that may wait for the members of one group. Past it: the outcome ``busy``."""

    max_attempts: int = 5
    """Members of a group that a message is given to, one after the other, if they fail or vanish.
    With the last one the outcome is final, so a message that ends its workers ends itself."""

    max_connections: int = 65_536
    """Connections in all, including those that have not finished their handshake. Past it:
    status 503. The system's limit on file descriptors applies besides."""

    max_connections_per_address: int = 16_384
    """Connections from one IPv4 address, or from one IPv6 network of 64 bits. Past it: status
    503. The default is a quarter of all, because whole offices share an address."""

    compress_from: int = 1024
    """Bytes of the smallest publication that is compressed, if the server compresses. A smaller one
    gains nothing, because each is compressed by itself; at most 256 KiB are."""

    max_ids: int = 1000
    """Ids that the server reserves for one identity. Past it, the one registered longest ago
    becomes free for others."""

    max_all_ids: int = 1_000_000
    """Ids that the server reserves for all identities together. Past it: the same."""

    max_pending_acks: int = 10_000
    """Pending ack requests of one connection."""

    max_expected: int = 1000
    """Ids and groups that an ack request may name as expected receivers. Past it:
    ``limit_reached``."""

    max_awaited_acks: int = 1_000_000
    """Pending answers of all ack requests together."""

    max_ack_bytes: int = 256 * 1024 * 1024
    """Bytes that all ack requests together may take in memory, with the ids and the outcomes of
    all their receivers, and with messages for groups, but without the results. One with a single
    receiver takes about 1.5 KB, and each further receiver about 400 bytes."""

    max_results: int = 16 * 1024 * 1024
    """Bytes of results and error texts that one ack request may gather. Past it: as past
    ``max_all_results``."""

    relay_messages: int = 1024
    """Messages that may be pending for one link to another server. Past this bound and the next
    four: an error of the code ``relay_failed``."""

    relay_bytes: int = 16 * 1024 * 1024
    """Bytes that may be pending for one link to another server."""

    relay_all_bytes: int = 64 * 1024 * 1024
    """Bytes that may be pending for all links to other servers together."""

    relay_links: int = 64
    """Links to other servers, each with its path, that may exist at a time."""

    relay_links_per_client: int = 8
    """Links that one client may have opened, so that it leaves some for others. All connections of
    one identity are one client here, and so are all anonymous ones from one address (for IPv6, one
    network of 64 bits)."""

    message_rate: float = 0.0
    """Messages that one connection may send per second, where each payload of a batch counts.
    0, the default, means no limit, because the right one depends on the clients: on the open
    internet, take a few times what the program's own clients send. ``rate_policy`` says what
    happens past it."""

    byte_rate: float = 0.0
    """Bytes that one connection may send per second; 0, the default, means no limit."""

    rate_burst: float = 1.0
    """Seconds' worth of messages and bytes that a connection may send at once after a pause."""

    rate_policy: RatePolicy = RatePolicy.DELAY
    """What the server does with a connection that sends faster."""

    presence_grace: float = 5.0
    """How long a member whose connection was lost may be away before others are told so."""

    register_timeout: float = 10.0
    """Time from the opening handshake to the first ``ping`` of the protocol. Past it: close
    code 1008."""

    ack_timeout: float = 5.0
    """How long an ack request lasts when its publisher names no timeout."""

    max_ack_timeout: float = 300.0
    """The longest timeout that a publisher may ask for."""

    def __post_init__(self) -> None:
        super(ServerLimits, self).__post_init__()
        if not 1 <= self.max_depth <= _MAX_DEPTH:
            raise InvalidArgument(f"max_depth must be from 1 to {_MAX_DEPTH}")


IN_SHORT = {
    "max_message": "bytes of the largest message",
    "max_depth": "levels of arrays and objects in a payload, at most 128",
    "max_brackets": "opening brackets, [ and {, in a message",
    "max_batch": "payloads of one batch, messages of one array",
    "max_topic": "characters of a topic",
    "max_id": "characters of a client's id",
    "max_ack_id": "characters of a publisher's id of an ack request",
    "max_subscriptions": "subscriptions of one connection",
    "max_topics": "topics and patterns with a subscriber",
    "history_bytes": "bytes of the messages that are kept for later",
    "history_topics": "topics of which the history is known",
    "max_positions": "topics that the place of a pattern names, messages of an answer with history",
    "max_info": "bytes of what a client says about itself with a subscription",
    "max_members": "members of a topic who are told by name",
    "max_headers": "bytes of the headers of a message",
    "message_id_window": "seconds for which a message with an id is remembered",
    "max_message_ids": "messages with ids of one client that are remembered",
    "message_id_bytes": "bytes of all messages with ids that are remembered",
    "max_groups": "groups of which one connection may be a member",
    "max_concurrency": "messages that a member of a group may ask for at a time",
    "max_waiting": "messages that may wait for the members of one group",
    "max_attempts": "members of a group that get a message, one after the other",
    "max_connections": "connections in all",
    "max_connections_per_address": "connections from one address",
    "max_ids": "ids reserved for one identity",
    "max_all_ids": "ids reserved for all identities together",
    "max_pending_acks": "pending ack requests of one connection",
    "max_expected": "receivers that an ack request may expect",
    "max_awaited_acks": "pending answers of all ack requests together",
    "max_ack_bytes": "bytes that all pending ack requests may take, without results",
    "max_results": "bytes of results that one ack request may gather",
    "max_all_results": "bytes of results of all pending ack requests",
    "relay_messages": "messages that may be pending for one link to another server",
    "relay_bytes": "bytes that may be pending for one link to another server",
    "relay_all_bytes": "bytes that may be pending for all links to other servers",
    "relay_links": "links to other servers at a time",
    "relay_links_per_client": "links to other servers that one client may have opened",
    "max_error": "characters of a subscriber's error text that its publisher gets",
    "compress_from": "bytes from which a publication is compressed, with --compress",
    "max_head": "bytes of an HTTP head",
    "queue_messages": "messages that may be pending for one client",
    "queue_bytes": "bytes that may be pending for one client",
    "overflow": "what the server does with a client that reads too slowly",
    "backlog_bytes": "bytes of pending replies past which the server pauses reading a client",
    "message_rate": "messages per second of one connection; 0: no limit",
    "byte_rate": "bytes per second of one connection; 0: no limit",
    "rate_burst": "seconds' worth of them that a client may send at once",
    "rate_policy": "what the server does with a client that sends faster",
    "presence_grace": "seconds for which a member whose connection was lost may be away",
    "handshake_timeout": "seconds for the opening handshake",
    "register_timeout": "seconds for the first ping",
    "heartbeat_interval": "seconds of silence after which the server pings a client",
    "heartbeat_timeout": "seconds that the client has to answer",
    "close_timeout": "seconds for the closing handshake",
    "ack_timeout": "seconds of an ack request that names no timeout",
    "max_ack_timeout": "seconds of an ack request at most",
}
"""What each limit of a server bounds, in a few words: the help texts of ``kps serve``."""
