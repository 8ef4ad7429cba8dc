# Made from kps/compat/unified_client.py by tools/unasync.py: edit that one.

"""The unified names of a client."""

from typing import Any, Protocol, Self, TypeVar, Unpack

from kps.compat.blocking import UnifiedNames, Verbs
from kps.compat.options import UnifiedOptions, client_options
from kps.io_common.client_hooks import OnClose
from kps.io_common.client_options import ClientOptions


class ClientVerbs(Protocol):
    """The methods that the unified names of clients call."""

    on_close: OnClose | None

    @classmethod
    def connect(cls, address: str, **options: Unpack[ClientOptions]) -> Self: ...

    def close(self) -> int: ...

    def run(self) -> None: ...


AnyClient = TypeVar("AnyClient", bound=ClientVerbs)


class UnifiedClient(UnifiedNames):
    """The unified names of a client."""

    @classmethod
    def NewClient(
        cls: type[AnyClient], *, Address: str, **options: Unpack[UnifiedOptions]
    ) -> AnyClient:
        """``connect``.

        The options are ``Id``, ``Secure``, ``Path``, ``Autorestart``, ``RestartEvery`` (the
        seconds between attempts with ``Autorestart``, 10 by default), ``OnDataWs`` (gets every
        message of the server, and the client, which then speaks level 1), ``OnId`` (gets direct
        messages) and ``OnClose`` (called once when the client closes).
        """
        return cls.connect(Address, **client_options(**options))

    @property
    def Id(self: Verbs[Any]) -> str:
        """``id``."""
        return self.id

    def Close(self: ClientVerbs) -> None:
        """``close``."""
        self.close()

    def Run(self: ClientVerbs) -> None:
        """``run``."""
        self.run()

    def OnClose(self: ClientVerbs, callback: OnClose | None) -> None:
        """Set the callback that is called once when the client closes."""
        self.on_close = callback
