"""The unified spelling: the names that the Go, JavaScript and Python clients share.

Who knows one client of the family knows all. Each name here is the Python one (see
:class:`kps.Client`, :class:`kps.Server`, :class:`kps.Ack`) with the family's arguments and
results: callbacks get ``({"data": …, "from": …}, unsub)``, and ack responses are plain
dictionaries.
"""

import inspect
from collections.abc import Callable
from typing import Any

from kps.protocol.bus.message import Message
from kps.protocol.dialect.level2 import LEVEL
from kps.protocol.dialect.outcome import AckResponse

UnifiedCallback = Callable[[dict[str, Any], Callable[[], Any]], Any]
"""Called with ``{"data": payload, "from": sender}`` and a function that unsubscribes."""


def adapt(callback: UnifiedCallback, unsubscribe: Callable[[], Any]) -> Callable[[Message], Any]:
    """Make a callback of the unified kind into one that takes a :class:`Message`."""
    if inspect.iscoroutinefunction(callback):

        async def handle_async(message: Message) -> Any:
            return await callback({"data": message.data, "from": message.sender}, unsubscribe)

        return handle_async

    def handle(message: Message) -> Any:
        return callback({"data": message.data, "from": message.sender}, unsubscribe)

    return handle


class _AckNames:
    """The names of acks that are the same on every driver."""

    def GetStatus(self: Any) -> Any:
        """``status``."""
        return self.status()

    def IsComplete(self: Any) -> Any:
        """``is_complete``."""
        return self.is_complete()

    def Cancel(self: Any) -> Any:
        """``cancel``."""
        return self.cancel()


class UnifiedAck(_AckNames):
    """The unified names of :class:`kps.Ack`."""

    async def Wait(self: Any) -> dict[str, dict[str, Any]]:
        """``wait``, as a dictionary of dictionaries."""
        return _response_dicts(await self.wait())

    async def WaitAny(self: Any) -> tuple[dict[str, Any], bool]:
        """``wait_any``, as ``(response, whether there was one)``."""
        return _response_or_not(await self.wait_any())


class BlockingUnifiedAck(_AckNames):
    """The unified names of :class:`kps.sync.Ack`."""

    def Wait(self: Any) -> dict[str, dict[str, Any]]:
        """``wait``, as a dictionary of dictionaries."""
        return _response_dicts(self.wait())

    def WaitAny(self: Any) -> tuple[dict[str, Any], bool]:
        """``wait_any``, as ``(response, whether there was one)``."""
        return _response_or_not(self.wait_any())


class _EndpointNames:
    """The names of clients and servers that are the same on every driver.

    On asyncio the results are to be awaited, as those of the Python names are.
    """

    def Unsubscribe(self: Any, topic: str) -> Any:
        """``unsubscribe``."""
        return self.unsubscribe(topic)

    def Publish(self: Any, topic: str, data: Any) -> Any:
        """``publish``."""
        return self.publish(topic, data)

    def PublishToID(self: Any, client_id: str, data: Any) -> Any:
        """``publish_to_id``."""
        return self.publish_to_id(client_id, data)

    def PublishToServer(self: Any, addr: str, data: Any, secure: bool = False) -> Any:
        """``publish_to_server``."""
        return self.publish_to_server(addr, data, secure)

    def PublishWithAck(self: Any, topic: str, data: Any, timeout: float = 5.0) -> Any:
        """``publish_with_ack``."""
        return self.publish_with_ack(topic, data, timeout)

    def PublishToIDWithAck(self: Any, client_id: str, data: Any, timeout: float = 5.0) -> Any:
        """``publish_to_id_with_ack``."""
        return self.publish_to_id_with_ack(client_id, data, timeout)


class _ClientNames(_EndpointNames):
    def Close(self: Any) -> Any:
        """``close``."""
        return self.close()

    def Run(self: Any) -> Any:
        """``run``."""
        return self.run()

    def OnClose(self: Any, callback: Callable[[], Any] | None) -> None:
        """Set what is called once when the client closes."""
        self.on_close = callback


class _ServerNames(_EndpointNames):
    def CountClients(self: Any) -> int:
        """``count_clients``."""
        count: int = self.count_clients()
        return count

    def OnUpgradeWS(self: Any, callback: Callable[..., Any]) -> None:
        """Set ``on_upgrade``."""
        self.on_upgrade(callback)

    def OnID(self: Any, callback: UnifiedCallback) -> None:
        """Set ``on_id``."""
        self.on_id(adapt(callback, _nothing_to_unsubscribe))

    def OnServerData(self: Any, callback: UnifiedCallback) -> None:
        """Add an ``on_server_data`` callback."""
        self.on_server_data(adapt(callback, _nothing_to_unsubscribe))

    def Stop(self: Any) -> Any:
        """``stop``."""
        return self.stop()

    def Run(self: Any) -> None:
        """``run``."""
        self.run()


class UnifiedSubscribe:
    """``Subscribe`` on asyncio."""

    async def Subscribe(self: Any, topic: str, callback: UnifiedCallback) -> Callable[[], Any]:
        """``subscribe``; returns a function that unsubscribes, from any thread."""
        unsubscribe = Unsubscriber()
        unsubscribe.subscription = self.subscribe(topic, adapt(callback, unsubscribe))
        await unsubscribe.subscription
        return unsubscribe


class BlockingUnifiedSubscribe:
    """``Subscribe`` on threads."""

    def Subscribe(self: Any, topic: str, callback: UnifiedCallback) -> Callable[[], Any]:
        """``subscribe``; returns a function that unsubscribes, from any thread."""
        unsubscribe = Unsubscriber()
        unsubscribe.subscription = self.subscribe(topic, adapt(callback, unsubscribe))
        return unsubscribe


class UnifiedClient(_ClientNames, UnifiedSubscribe):
    """The unified names of :class:`kps.Client`."""

    @classmethod
    async def NewClient(cls: Any, *, Address: str, **options: Any) -> Any:
        """``connect``.

        The options are ``Id``, ``Secure``, ``Path``, ``Autorestart``, ``RestartEvery`` (in
        seconds, counts with ``Autorestart``; 10 if not given), ``OnDataWs`` (gets every
        message of the server as it came, which then speaks level 1, and the client), ``OnId``
        (gets direct messages) and ``OnClose`` (called once when the client closes).
        """
        return await cls.connect(Address, **_client_options(**options))


class BlockingUnifiedClient(_ClientNames, BlockingUnifiedSubscribe):
    """The unified names of :class:`kps.sync.Client`."""

    @classmethod
    def NewClient(cls: Any, *, Address: str, **options: Any) -> Any:
        """``connect``, with the options of :meth:`UnifiedClient.NewClient`."""
        return cls.connect(Address, **_client_options(**options))


class UnifiedServer(_ServerNames, UnifiedSubscribe):
    """The unified names of :class:`kps.Server`."""


class BlockingUnifiedServer(_ServerNames, BlockingUnifiedSubscribe):
    """The unified names of :class:`kps.sync.Server`."""


class Unsubscriber:
    """What a unified callback gets to unsubscribe with."""

    def __init__(self) -> None:
        self.subscription: Any = None

    def __call__(self) -> Any:
        return self.subscription()


def _client_options(
    *,
    Id: str | None = None,
    Secure: bool = False,
    Path: str | None = None,
    Autorestart: bool = False,
    RestartEvery: float = 10.0,
    OnDataWs: Callable[[dict[str, Any], Any], Any] | None = None,
    OnId: UnifiedCallback | None = None,
    OnClose: Callable[[], Any] | None = None,
) -> dict[str, Any]:
    return {
        "id": Id,
        "secure": Secure,
        "path": Path,
        "reconnect": RestartEvery if Autorestart else False,
        "on_frame": OnDataWs,
        "level": 1 if OnDataWs is not None else LEVEL,
        "on_id": adapt(OnId, _nothing_to_unsubscribe) if OnId is not None else None,
        "on_close": OnClose,
    }


def _response_dicts(responses: dict[str, AckResponse]) -> dict[str, dict[str, Any]]:
    return {client_id: _response_dict(response) for client_id, response in responses.items()}


def _response_or_not(response: AckResponse | None) -> tuple[dict[str, Any], bool]:
    return (_response_dict(response), True) if response is not None else ({}, False)


def _response_dict(response: AckResponse) -> dict[str, Any]:
    has_result = response.result is not None
    return response.fields() | ({"result": response.result} if has_result else {})


def _nothing_to_unsubscribe() -> None:
    """Direct messages have no topic to unsubscribe from."""
