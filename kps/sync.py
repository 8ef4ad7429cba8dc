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
from kps.io_sync.subscription import Messages, Subscription

TYPE_CHECKING = False  # as in the package itself
if TYPE_CHECKING:
    from kps.io_sync.server import Server

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

if not TYPE_CHECKING:  # loaded on first use, as most of it is for servers only

    def __getattr__(name: str) -> object:
        if name != "Server":
            raise AttributeError(f"module 'kps.sync' has no attribute {name!r}")
        global Server
        from kps.io_sync.server import Server

        return Server


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
