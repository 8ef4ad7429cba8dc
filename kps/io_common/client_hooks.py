"""The types of a client's hooks, for notices."""

from collections.abc import Callable
from typing import Any

from kps.errors import ServerError
from kps.protocol.client.events import Connected, Disconnected, Lost, Recovered

OnConnect = Callable[[Connected], object]
OnDisconnect = Callable[[Disconnected], object]
OnError = Callable[[ServerError], object]
OnFrame = Callable[[dict[str, Any], Any], object]
"""Gets each message of the server, and the client."""
OnRecovered = Callable[[Recovered], object]
OnLost = Callable[[Lost], object]
OnClose = Callable[[], object]
