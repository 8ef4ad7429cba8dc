"""KPS as the channel layer of Django Channels (the extra ``channels``).

In the settings of a Django project::

    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "kps.channels.KpsChannelLayer",
            "CONFIG": {"address": "localhost:9313"},
        }
    }

``docs/channels.md`` begins with an empty project. :class:`KpsConsumer` connects a consumer to the
topics of the bus itself.
"""

from kps.channels.consumer import KpsConsumer
from kps.channels.counts import Counts
from kps.channels.layer import KpsChannelLayer

__all__ = ["Counts", "KpsChannelLayer", "KpsConsumer"]
