"""What tests need of KPS: a bus in memory, time that is set by hand, and the vectors' runner.

Nothing here uses a socket, sleeps or reads a clock, and pytest is not needed::

    network = Network()
    alice, bob = network.client("alice"), network.client("bob")
    mailbox = bob.session.subscribe("news", network.clock.now)
    network.run()
    alice.session.publish("news", "hello", network.clock.now)
    network.run()
    assert mailbox.take().data == "hello"
"""

from kps.testing.memory_target import MemoryTarget
from kps.testing.network import Link, ManualClock, MemoryClient, Network, split
from kps.testing.vectors import (
    Vector,
    VectorFailure,
    VectorTarget,
    load_vectors,
    messages_in,
    run_vector,
)

__all__ = [
    "Link",
    "ManualClock",
    "MemoryClient",
    "MemoryTarget",
    "Network",
    "Vector",
    "VectorFailure",
    "VectorTarget",
    "load_vectors",
    "messages_in",
    "run_vector",
    "split",
]
