"""The protocol core in memory: no sockets, no event loop, no threads."""

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import count

from blocking import PAYLOAD
from kps.protocol.client.config import ClientConfig
from kps.protocol.client.link import ClientLink
from kps.protocol.client.session import ClientSession
from kps.protocol.server.config import HubConfig
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.hub import Hub
from model import Case, Figure, Sample, Scale, Scenario
from processes import Failed
from wires import PAYLOAD as PAYLOAD_BYTES
from wires import KpsWire

NOW = 1000.0
BURST = 100
"""Messages that are published at once."""
REPEATS = 7
"""How often each thing is timed; the median is taken."""


def new_hub() -> Hub:
    numbers = count()
    return Hub(HubConfig(id="server"), new_id=lambda: f"client-{next(numbers)}", now=NOW)


def new_connection(hub: Hub, level: int, name: str, topic: str = "") -> WebSocketConnection:
    """A registered connection that subscribes to a topic, if there is one."""
    wire = KpsWire(level)
    connection = hub.connect("memory", NOW)
    for request, _ in wire.opening(name):
        connection.receive_data(request, NOW)
    if topic:
        connection.receive_data(wire.subscribing(topic)[0], NOW)
    settle(hub)
    return connection


def settle(hub: Hub) -> int:
    """Take what there is to write, and forget it; return how many bytes it was.

    What a client sends may be more than its share of a turn: then there are more turns.
    """
    size = 0
    while True:
        for number in hub.take_unflushed():
            connection = hub.connections[number]
            assert isinstance(connection, WebSocketConnection)
            while data := connection.data_to_send():
                size += len(data)
        hub.events()
        deadline = hub.next_deadline()
        if deadline is None or deadline > NOW:
            return size
        hub.handle_timeout(NOW)


def new_client(
    hub: Hub, level: int, name: str
) -> tuple[ClientSession, ClientLink, WebSocketConnection]:
    """A client and its connection to the hub, registered."""
    config = ClientConfig(id=name, host="memory", level=level)
    client = ClientSession(config, entropy=os.urandom, chance=random.random, now=NOW)
    link = client.connected(NOW)
    server = hub.connect("memory", NOW)
    for _ in range(4):
        exchange(hub, link, server)
        client.events()
    if not client.ready or client.level != level:
        raise Failed(f"no client on level {level}")
    return client, link, server


def exchange(hub: Hub, link: ClientLink, server: WebSocketConnection) -> None:
    server.receive_data(link.data_to_send(), NOW)
    link.receive_data(server.data_to_send(), NOW)
    settle(hub)


def seconds(work: Callable[[], object]) -> float:
    """The processor time that something takes."""
    times = []
    for _ in range(REPEATS):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return statistics.median(times)


# -- what one message costs --------------------------------------------------------------


def client_out(level: int) -> float:
    """Publishing: from the payload to bytes."""
    client, link, _ = new_client(new_hub(), level, "publisher")

    def work() -> None:
        for _ in range(20):
            for _ in range(BURST):
                client.publish("bench", PAYLOAD, NOW)
            link.data_to_send()

    return seconds(work) / 20 / BURST


def server_through(level: int, subscribers: int = 1) -> float:
    """Through the server, for each delivery: from a client's bytes to those for subscribers."""
    hub = new_hub()
    for number in range(subscribers):
        new_connection(hub, level, f"subscriber-{number}", "bench")
    publisher = new_connection(hub, level, "publisher")
    burst = KpsWire(level).publishing("bench", [PAYLOAD_BYTES] * BURST)
    bursts = max(1, 2000 // BURST // subscribers)
    least = bursts * BURST * subscribers * len(PAYLOAD_BYTES)

    def work() -> None:
        size = 0
        for _ in range(bursts):
            publisher.receive_data(burst, NOW)
            size += settle(hub)
        assert size >= least

    return seconds(work) / bursts / BURST / subscribers


def client_in(level: int) -> float:
    """Receiving: from bytes to a message that the program gets."""
    hub = new_hub()
    client, link, server = new_client(hub, level, "subscriber")
    mailbox = client.subscribe("bench", NOW)
    exchange(hub, link, server)
    publisher = new_connection(hub, level, "publisher")
    publisher.receive_data(KpsWire(level).publishing("bench", [PAYLOAD_BYTES] * BURST), NOW)
    delivered = server.data_to_send()

    def work() -> None:
        for _ in range(20):
            link.receive_data(delivered, NOW)
            client.events()
            for _ in range(BURST):
                message = mailbox.take()
                assert message is not None
                assert message.data["n"] == PAYLOAD["n"]

    return seconds(work) / 20 / BURST


LEVEL_1 = Figure("level 1", "ns", more_is_better=False)
LEVEL_2 = Figure("level 2", "ns", more_is_better=False)


STEPS: dict[str, Callable[[int], float]] = {
    "client out": client_out,
    "server, 1 subscriber": server_through,
    "server, a delivery to 200": lambda level: server_through(level, 200),
    "client in": client_in,
}
"""What a message costs, by its steps; each takes a level."""


def measure_step(name: str) -> Sample:
    """Measure a step on both levels."""
    return {
        figure.title: STEPS[name](level) * 1e9 for level, figure in ((1, LEVEL_1), (2, LEVEL_2))
    }


def _step(name: str) -> Case:
    return Case(name, lambda server, scale: measure_step(name))


# -- how it grows ------------------------------------------------------------------------

MESSAGE = Figure("a message", "ns", more_is_better=False)
SUBSCRIPTION = Figure("making a subscription", "ns", more_is_better=False)
CONNECTION = Figure("making a connection", "µs", more_is_better=False)
WHOLE = Figure("a message", "µs", more_is_better=False, has_ratio=False)
BYTE = Figure("a byte of it", "ns", more_is_better=False)


def _subscribers(number: int) -> Case:
    return Case(
        f"{number:,}",
        lambda server, scale: {
            LEVEL_1.title: server_through(1, number) * 1e9,
            LEVEL_2.title: server_through(2, number) * 1e9,
        },
    )


def _message(hub: Hub) -> Callable[[], float]:
    """What measures a delivery to one subscriber, whatever else there is in the hub."""
    new_connection(hub, 2, "subscriber", "bench")
    publisher = new_connection(hub, 2, "publisher")
    burst = KpsWire(2).publishing("bench", [PAYLOAD_BYTES] * BURST)

    def work() -> None:
        for _ in range(20):
            publisher.receive_data(burst, NOW)
            settle(hub)

    return lambda: seconds(work) / 20 / BURST


def topics(number: int) -> Sample:
    hub = new_hub()
    message = _message(hub)
    other = new_connection(hub, 2, "other")
    wire = KpsWire(2)
    spent = 0.0
    for start in range(0, number, 1000):
        names = [f"topic-{n}" for n in range(start, min(number, start + 1000))]
        requests = b"".join(wire.subscribing(name)[0] for name in names)
        began = time.thread_time()
        other.receive_data(requests, NOW)
        settle(hub)
        spent += time.thread_time() - began
    return {SUBSCRIPTION.title: spent / number * 1e9, MESSAGE.title: message() * 1e9}


def connections(number: int) -> Sample:
    hub = new_hub()
    message = _message(hub)
    began = time.thread_time()
    for n in range(number):
        new_connection(hub, 2, f"client-{n}", f"topic-{n}")
    spent = time.thread_time() - began
    return {CONNECTION.title: spent / number * 1e6, MESSAGE.title: message() * 1e9}


def payloads(size: int) -> Sample:
    hub = new_hub()
    new_connection(hub, 2, "subscriber", "bench")
    publisher = new_connection(hub, 2, "publisher")
    message = KpsWire(2).publishing("bench", [b'"' + b"x" * (size - 2) + b'"'])
    times = max(1, min(1000, 2_000_000 // size))

    def work() -> None:
        for _ in range(times):
            publisher.receive_data(message, NOW)
            assert settle(hub) > size

    each = seconds(work) / times
    return {WHOLE.title: each * 1e6, BYTE.title: each / size * 1e9}


def _grown(number: int, measure: Callable[[int], Sample], name: str = "") -> Case:
    # A quick run does the small ones under their real names, and leaves out the others.
    def run(server: object, scale: Scale) -> Sample:
        if number > scale.count(number, 1_100_000 if measure is payloads else 10_000):
            return {}
        return measure(number)

    return Case(name or f"{number:,}", run)


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="core",
        title="The core: what a message costs",
        text="Nanoseconds of processor time for each message in the protocol core, in memory, when "
        "100 are published at once. Client out: from an object to bytes. Server: from a client's "
        "bytes to a subscriber's. Client in: from bytes to the object.",
        figures=(LEVEL_1, LEVEL_2),
        cases=[_step(name) for name in STEPS],
    ),
    Scenario(
        name="core_subscribers",
        title="The core: a delivery, by the number of subscribers",
        text="Nanoseconds for each delivery in the server. It must not rise.",
        figures=(LEVEL_1, LEVEL_2),
        cases=[_subscribers(number) for number in (1, 10, 100, 1_000, 10_000)],
        reference="1",
        most_rounds=3,
    ),
    Scenario(
        name="core_topics",
        title="The core: by the number of topics",
        text="What one subscription more, and one delivery on another topic, costs in a server on "
        "which one client subscribes to so many topics. Neither must rise.",
        figures=(SUBSCRIPTION, MESSAGE),
        cases=[_grown(number, topics) for number in (100, 1_000, 10_000, 100_000, 1_000_000)],
        reference="1,000",
        most_rounds=3,
    ),
    Scenario(
        name="core_connections",
        title="The core: by the number of connections",
        text="What one connection more (handshake, registration, a subscription), and one delivery "
        "between two of them, costs in a server with so many. Neither must rise.",
        figures=(CONNECTION, MESSAGE),
        cases=[_grown(number, connections) for number in (10, 100, 1_000, 10_000)],
        reference="100",
        most_rounds=3,
    ),
    Scenario(
        name="core_payloads",
        title="The core: by the size of the payload",
        text="Through the server to one subscriber, one message at a time. The part for each byte "
        "must not rise.",
        figures=(WHOLE, BYTE),
        cases=[
            _grown(size, payloads, f"{size:,} bytes")
            for size in (10, 100, 1_000, 10_000, 100_000, 1_048_500)
        ],
        reference="10,000 bytes",
        most_rounds=3,
    ),
)
