"""The blocking API, for scripts and threaded programs. It never imports asyncio.

::

    import kps.sync

    with kps.sync.Client("localhost:9313") as client:
        client.publish("news", "hello")

The errors, messages, limits and events are those of :mod:`kps`.
"""

from kps.compat.values import ClientSubscriber
from kps.io_sync.ack import Ack
from kps.io_sync.client import Client
from kps.io_sync.server import Server
from kps.io_sync.subscription import Messages, Subscription

# The family's names.
BusClient = Client
ClientAck = Ack
ClientSubscription = Subscription

__all__ = [
    "Ack",
    "BusClient",
    "Client",
    "ClientAck",
    "ClientSubscriber",
    "ClientSubscription",
    "Messages",
    "Server",
    "Subscription",
]
