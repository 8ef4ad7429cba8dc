# Made from kps/compat/unified_server.py by tools/unasync.py: edit that one.

"""The unified names of a server."""

from collections.abc import Callable
from typing import Any, Protocol

from kps.compat.blocking import UnifiedNames
from kps.compat.values import UnifiedCallback, adapt, no_topic
from kps.io_common.verdicts import UpgradeHook
from kps.protocol.bus.message import Message


class ServerVerbs(Protocol):
    """The methods that the unified names of servers call."""

    def count_clients(self) -> int: ...

    def on_upgrade(self, hook: UpgradeHook) -> UpgradeHook: ...

    def on_id(
        self, callback: Callable[[Message[Any]], object]
    ) -> Callable[[Message[Any]], object]: ...

    def on_server_data(
        self, callback: Callable[[Message[Any]], object]
    ) -> Callable[[Message[Any]], object]: ...

    def stop(self) -> None: ...

    def run(self) -> None: ...


class UnifiedServer(UnifiedNames):
    """The unified names of a server."""

    def CountClients(self: ServerVerbs) -> int:
        """``count_clients``."""
        return self.count_clients()

    def OnUpgradeWS(self: ServerVerbs, callback: UpgradeHook) -> None:
        """Set ``on_upgrade``."""
        self.on_upgrade(callback)

    def OnID(self: ServerVerbs, callback: UnifiedCallback) -> None:
        """Set ``on_id``."""
        self.on_id(adapt(callback, no_topic))

    def OnServerData(self: ServerVerbs, callback: UnifiedCallback) -> None:
        """Add an ``on_server_data`` callback."""
        self.on_server_data(adapt(callback, no_topic))

    def Stop(self: ServerVerbs) -> None:
        """``stop``."""
        self.stop()

    def Run(self: ServerVerbs) -> None:
        """``run``."""
        self.run()
