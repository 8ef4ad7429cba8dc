"""The blocking API, for scripts and threaded programs. It never imports asyncio.

::

    import kps.sync

    with kps.sync.Client("localhost:9313") as client:
        client.publish("news", "hello")

The errors, messages, limits and events are those of :mod:`kps`.
"""

from kps.io_sync.ack import Ack
from kps.io_sync.client import Client
from kps.io_sync.server import Server
from kps.io_sync.subscription import Subscription

__all__ = ["Ack", "Client", "Server", "Subscription"]
