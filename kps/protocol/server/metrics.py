"""The figures of a server for operators, as plain numbers that can be added up.

Nothing here writes text, and little is counted for it: most is read when somebody asks. No figure
is about one topic, client or identity: there may be very many, and strangers choose them.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kps.protocol.histogram import Histogram
from kps.protocol.server.hub import Hub

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"
INFO = "info"

_PER_UNIT = 2  # connections at which somebody looks, for one unit of work (see ``turns``)


class Metric(NamedTuple):
    """What a figure is."""

    name: str
    """In full, but for what a format appends. It ends with its unit, if it has one."""
    kind: str
    """``COUNTER`` (it only grows), ``GAUGE``, ``HISTOGRAM`` or ``INFO`` (its labels tell it)."""
    help: str
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """``bytes`` or ``seconds``; empty for a number of things."""
        last = self.name.rpartition("_")[2]
        return last if last in ("bytes", "seconds") else ""


Figures = dict[tuple[str, ...], float]
"""Figures by the name of their metric, followed by the values of its labels.

That of a histogram is followed by the upper bound of a bucket, with the number of values up to it,
or by ``SUM``. The figures of several servers are added up key by key, but for what tells one of
them, as a start time does.
"""

SUM = "sum"

METRICS = (
    Metric("kps_build", INFO, "The version of this server, and its driver.",
           ("version", "driver")),
    Metric("kps_uptime_seconds", GAUGE, "Time since the start of the server."),
    Metric("kps_connections", GAUGE, "Open connections, plain HTTP included."),
    Metric("kps_connections_accepted", COUNTER, "Connections accepted, plain HTTP included."),
    Metric("kps_connections_refused", COUNTER,
           "Connections and later logins refused. full and address: there are too many, or too "
           "many from one address; login: its token, its id, or the program's decision.",
           ("reason",)),
    Metric("kps_connections_closed", COUNTER,
           "WebSockets that have ended. 1006: without a close frame, registered clients only.",
           ("code",)),
    Metric("kps_connections_waiting", GAUGE,
           "Connections with input that wait for their turn: the server is busy."),
    Metric("kps_http_responses", COUNTER, "Answers to HTTP requests, upgrades included.",
           ("status",)),
    Metric("kps_clients", GAUGE, "Registered clients."),
    Metric("kps_clients_registered", COUNTER, "Clients that have registered."),
    Metric("kps_clients_lost", COUNTER,
           "Registered clients whose connection has ended without a closing handshake. Event "
           "streams, which have none, do not count."),
    Metric("kps_received_bytes", COUNTER, "Bytes read, of all connections."),
    Metric("kps_sent_bytes", COUNTER, "Bytes written, of all connections."),
    Metric("kps_received_messages", COUNTER,
           "Messages from clients, each payload of a batch by itself."),
    Metric("kps_published_messages", COUNTER, "Publications, by clients and by the program."),
    Metric("kps_delivered_messages", COUNTER,
           "Publications that had room in the queue of a subscriber, for each of them."),
    Metric("kps_dropped_messages", COUNTER,
           "Messages for receivers that did not get them. policy: a full queue, whose overflow "
           "policy drops messages; slow: a full queue, whose connection was closed; disconnected: "
           "what was queued when a connection ended; program: a full mailbox of the server's own "
           "program.", ("reason",)),
    Metric("kps_refused_messages", COUNTER, "Messages that were answered with an error.",
           ("code",)),
    Metric("kps_queue_bytes", GAUGE, "Bytes that wait for clients."),
    Metric("kps_queue_messages", GAUGE, "Messages that wait for clients."),
    Metric("kps_queue_largest_bytes", GAUGE, "Bytes that wait for the client with the most."),
    Metric("kps_topics", GAUGE, "Topics with a subscriber."),
    Metric("kps_patterns", GAUGE, "Patterns with a subscriber."),
    Metric("kps_groups", GAUGE, "Groups with a member."),
    Metric("kps_subscriptions", GAUGE,
           "Subscriptions to topics, to patterns and as a member of groups."),
    Metric("kps_presence_rosters", GAUGE, "Topics whose members somebody observes."),
    Metric("kps_acks_pending", GAUGE, "Ack requests under way."),
    Metric("kps_acks_awaited", GAUGE, "Answers that these wait for."),
    Metric("kps_ack_requests", COUNTER,
           "Ack requests that have ended. complete: all outcomes are known; timeout: some are only "
           "that the time was over.", ("end",)),
    Metric("kps_ack_outcomes", COUNTER,
           "Receivers (clients and groups) of which an ack was asked. absent: an expected client "
           "that was not subscribed; unknown: nobody waited any more.", ("outcome",)),
    Metric("kps_ack_duration_seconds", HISTOGRAM,
           "Time of ack requests to their end, but for those that nobody waited for."),
    Metric("kps_group_tasks", COUNTER, "Messages with ack for a group."),
    Metric("kps_group_attempts", COUNTER, "How often a member of a group was given one."),
    Metric("kps_group_tasks_active", GAUGE, "Such messages that members have."),
    Metric("kps_group_tasks_waiting", GAUGE, "Such messages that wait for a member."),
    Metric("kps_history_topics", GAUGE, "Topics whose history is known."),
    Metric("kps_history_messages", GAUGE, "Messages that are kept for later."),
    Metric("kps_history_bytes", GAUGE, "Bytes that these take in memory."),
    Metric("kps_history_replays", GAUGE, "Topics that are being replayed to clients."),
    Metric("kps_history_recoveries", COUNTER,
           "Times that a client asked for what it had missed. loss: not all of it was kept.",
           ("outcome",)),
    Metric("kps_history_lost_messages", COUNTER,
           "Messages that were not kept for these, as far as it is known how many."),
    Metric("kps_node_links", GAUGE,
           "Other nodes of the cluster, or other workers, that can be reached; 0 of one process."),
    Metric("kps_node_links_fallen", COUNTER, "Links to other nodes that have fallen."),
    Metric("kps_node_lost_frames", COUNTER,
           "Frames for other nodes that were not sent because their link fell."),
    Metric("kps_node_unconfirmed", COUNTER,
           "Subscriptions and ids that went on though another node had not answered in time."),
    Metric("kps_node_degraded", GAUGE, "1 while no other node can be reached: NATS is away."),
    Metric("kps_message_ids_remembered", GAUGE, "Messages with ids that are remembered."),
    Metric("kps_message_ids_bytes", GAUGE, "Bytes that these take in memory."),
    Metric("kps_message_ids_repeats", COUNTER,
           "Messages with ids that came again, and were not handled again."),
)  # fmt: skip
"""What ``gather`` returns."""


def gather(hub: Hub, driver: str) -> Figures:
    """Return the figures of a server now. ``driver`` is the name of its driver.

    It looks at each connection once, and charges the turn for that.
    """
    state = hub.state
    stats, tally, acks, bus = state.stats, state.tally, state.acks, state.bus
    sessions = [connection.session for connection in hub.connections.values()]
    received = tally.received + sum([session.received for session in sessions])
    queued = [waiting for one in sessions if (waiting := one.transport.queued_bytes)]
    messages = sum([one.transport.queued_messages for one in sessions]) if queued else 0
    program = hub.local.subscriptions.dropped
    state.turns.left -= len(hub.connections) // _PER_UNIT
    logs, kept = state.logs, 0
    if logs is not None:
        kept = logs.count()
        state.turns.left -= logs.take_work()
    figures: Figures = {
        ("kps_build", state.config.version, driver): 1,
        ("kps_uptime_seconds",): state.uptime(),
        ("kps_connections",): len(hub.connections),
        ("kps_connections_accepted",): tally.accepted,
        ("kps_connections_waiting",): state.turns.waiting,
        ("kps_clients",): len(state.clients),
        ("kps_clients_registered",): stats.connections,
        ("kps_clients_lost",): stats.lost,
        ("kps_received_bytes",): stats.bytes_in,
        ("kps_sent_bytes",): stats.bytes_out,
        ("kps_received_messages",): received,
        ("kps_published_messages",): stats.published,
        ("kps_delivered_messages",): stats.delivered,
        ("kps_queue_bytes",): sum(queued),
        ("kps_queue_messages",): messages,
        ("kps_queue_largest_bytes",): max(queued, default=0),
        ("kps_topics",): len(bus) - bus.routes.patterns,
        ("kps_patterns",): bus.routes.patterns,
        ("kps_groups",): bus.routes.groups,
        ("kps_subscriptions",): bus.subscriptions,
        ("kps_presence_rosters",): len(state.presence),
        ("kps_acks_pending",): acks.figures.pending,
        ("kps_acks_awaited",): acks.figures.awaited,
        ("kps_group_tasks",): acks.tasks.begun,
        ("kps_group_attempts",): acks.tasks.attempts,
        ("kps_group_tasks_active",): acks.tasks.under_way,
        ("kps_group_tasks_waiting",): acks.tasks.waiting,
        ("kps_history_topics",): 0 if logs is None else len(logs),
        ("kps_history_messages",): kept,
        ("kps_history_bytes",): 0 if logs is None else logs.size,
        ("kps_history_replays",): state.replays,
        ("kps_history_lost_messages",): tally.unrecovered,
        ("kps_node_links",): len(state.others),
        ("kps_node_links_fallen",): tally.links_fallen,
        ("kps_node_lost_frames",): tally.frames_lost,
        ("kps_node_unconfirmed",): tally.unconfirmed,
        ("kps_node_degraded",): int(state.is_degraded),
        ("kps_message_ids_remembered",): len(state.message_ids),
        ("kps_message_ids_bytes",): state.message_ids.used,
        ("kps_message_ids_repeats",): tally.repeats,
    }
    drops = {
        "policy": hub.dropped() - program - tally.slow - tally.disconnected,
        "slow": tally.slow,
        "disconnected": tally.disconnected,
        "program": program,
    }
    figures |= labelled("kps_dropped_messages", drops)
    figures |= labelled("kps_connections_refused", tally.refused)
    figures |= labelled("kps_connections_closed", tally.closed)
    figures |= labelled("kps_http_responses", tally.responses)
    figures |= labelled("kps_refused_messages", tally.refusals)
    figures |= labelled("kps_ack_requests", acks.figures.ends())
    figures |= labelled("kps_ack_outcomes", acks.figures.outcomes())
    figures |= labelled("kps_history_recoveries", tally.recoveries)
    return figures | distribution("kps_ack_duration_seconds", acks.figures.duration)


def labelled(name: str, counts: Mapping[str, int]) -> Figures:
    """Return the figures of a metric with one label."""
    return {(name, label): count for label, count in counts.items()}


def distribution(name: str, values: Histogram) -> Figures:
    """Return the figures of a histogram."""
    figures: Figures = {}
    count = 0
    bounds: Iterable[float] = (*values.bounds, float("inf"))
    for bound, more in zip(bounds, values.counts, strict=True):
        count += more
        figures[name, str(bound)] = count
    figures[name, SUM] = values.total
    return figures
