"""The unified spelling: the names that the Go, JavaScript and Python clients share.

Who knows one client of the family knows all. Each name here is the Python one (see
:class:`kps.Client`, :class:`kps.Server`, :class:`kps.Ack`) with the family's arguments and
results: callbacks get ``({"data": …, "from": …}, unsub)``, and ack responses are plain
dictionaries.
"""

import inspect
from collections.abc import Callable
from typing import Any

from kps.protocol.messages import AckResponse, Message

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


def response_dict(response: AckResponse) -> dict[str, Any]:
    """An ack response as the family gives it: ``error`` only when there is one."""
    fields: dict[str, Any] = {
        "ack_id": response.ack_id,
        "client_id": response.client_id,
        "success": response.success,
    }
    if response.error:
        fields["error"] = response.error
    return fields


class UnifiedAck:
    """The unified names of :class:`kps.Ack`."""

    async def Wait(self: Any) -> dict[str, dict[str, Any]]:
        """``wait``, as a dictionary of dictionaries."""
        responses = await self.wait()
        return {client_id: response_dict(found) for client_id, found in responses.items()}

    async def WaitAny(self: Any) -> tuple[dict[str, Any], bool]:
        """``wait_any``, as ``(response, whether there was one)``."""
        response = await self.wait_any()
        return (response_dict(response), True) if response is not None else ({}, False)

    async def GetStatus(self: Any) -> dict[str, bool]:
        """``status``."""
        status: dict[str, bool] = await self.status()
        return status

    async def IsComplete(self: Any) -> bool:
        """``is_complete``."""
        complete: bool = await self.is_complete()
        return complete

    async def Cancel(self: Any) -> None:
        """``cancel``."""
        await self.cancel()


class UnifiedEndpoint:
    """The unified names that clients and servers have in common."""

    async def Subscribe(self: Any, topic: str, callback: UnifiedCallback) -> Callable[[], Any]:
        """``subscribe``; returns a function that unsubscribes, from any thread."""
        subscription: Any = None

        def unsubscribe() -> Any:
            return subscription()

        subscription = self.subscribe(topic, adapt(callback, unsubscribe))
        await subscription
        return unsubscribe

    async def Unsubscribe(self: Any, topic: str) -> None:
        """``unsubscribe``."""
        await self.unsubscribe(topic)

    async def Publish(self: Any, topic: str, data: Any) -> None:
        """``publish``."""
        await self.publish(topic, data)

    async def PublishToID(self: Any, client_id: str, data: Any) -> None:
        """``publish_to_id``."""
        await self.publish_to_id(client_id, data)

    async def PublishToServer(self: Any, addr: str, data: Any, secure: bool = False) -> None:
        """``publish_to_server``."""
        await self.publish_to_server(addr, data, secure)

    async def PublishWithAck(self: Any, topic: str, data: Any, timeout: float = 5.0) -> Any:
        """``publish_with_ack``."""
        return await self.publish_with_ack(topic, data, timeout)

    async def PublishToIDWithAck(self: Any, client_id: str, data: Any, timeout: float = 5.0) -> Any:
        """``publish_to_id_with_ack``."""
        return await self.publish_to_id_with_ack(client_id, data, timeout)


class UnifiedClient(UnifiedEndpoint):
    """The unified names of :class:`kps.Client`."""

    @classmethod
    async def NewClient(
        cls: Any,
        *,
        Address: str,
        Id: str | None = None,
        Secure: bool = False,
        Path: str | None = None,
        Autorestart: bool = False,
        RestartEvery: float = 10.0,
        OnDataWs: Callable[[dict[str, Any], Any], Any] | None = None,
        OnId: UnifiedCallback | None = None,
        OnClose: Callable[[], Any] | None = None,
    ) -> Any:
        """``connect``. ``RestartEvery`` is in seconds, and counts with ``Autorestart``.

        ``OnDataWs`` gets every message of the server as it came, and the client;
        ``OnId`` gets direct messages; ``OnClose`` is called once when the client closes.
        """
        return await cls.connect(
            Address,
            id=Id,
            secure=Secure,
            path=Path,
            reconnect=RestartEvery if Autorestart else False,
            on_frame=OnDataWs,
            on_id=adapt(OnId, _nothing_to_unsubscribe) if OnId is not None else None,
            on_close=OnClose,
        )

    async def Close(self: Any) -> None:
        """``close``."""
        await self.close()

    async def Run(self: Any) -> None:
        """``run``."""
        await self.run()

    def OnClose(self: Any, callback: Callable[[], Any] | None) -> None:
        """Set what is called once when the client closes."""
        self.on_close = callback


class UnifiedServer(UnifiedEndpoint):
    """The unified names of :class:`kps.Server`."""

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
        """Set ``on_server_data``."""
        self.on_server_data(adapt(callback, _nothing_to_unsubscribe))

    async def Stop(self: Any) -> None:
        """``stop``."""
        await self.stop()

    def Run(self: Any) -> None:
        """``run``."""
        self.run()


def _nothing_to_unsubscribe() -> None:
    """Direct messages have no topic to unsubscribe from."""
