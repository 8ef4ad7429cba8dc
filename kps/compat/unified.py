"""The unified spelling: the names that the Go, JavaScript and Python clients share.

Each method calls the Python one of the same meaning, with the family's arguments and results:
callbacks get ``({"data": …, "from": …}, unsub)``, and ack responses are plain dictionaries.

The drivers' classes inherit from these mixins. The protocols name the methods that they need.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from kps.compat.values import (
    ClientSubscriber,
    ResponseDict,
    UnifiedCallback,
    adapt,
    response_dict,
)
from kps.protocol.bus.message import Message
from kps.protocol.dialect.outcome import AckResponse

AnyAck_co = TypeVar("AnyAck_co", covariant=True)


class AckVerbs(Protocol):
    """The methods that the unified names of an ack call."""

    async def wait(self) -> dict[str, AckResponse]: ...

    async def wait_any(self) -> AckResponse | None: ...

    async def status(self) -> dict[str, bool]: ...

    async def is_complete(self) -> bool: ...

    async def cancel(self) -> None: ...


class Verbs(Protocol[AnyAck_co]):
    """The methods that the unified names of clients and servers call."""

    @property
    def id(self) -> str: ...

    def subscribe(self, topic: str, callback: Callable[[Message[Any]], object]) -> Any: ...

    async def unsubscribe(self, topic: str) -> None: ...

    async def publish(self, topic: str, data: Any) -> Any: ...

    async def publish_to_id(self, client_id: str, data: Any) -> Any: ...

    async def publish_to_server(self, addr: str, data: Any, secure: bool = False) -> None: ...

    async def publish_with_ack(self, topic: str, data: Any, timeout: float = 5.0) -> AnyAck_co: ...

    async def publish_to_id_with_ack(
        self, client_id: str, data: Any, timeout: float = 5.0
    ) -> AnyAck_co: ...


class UnifiedAck:
    """The unified names of an ack."""

    async def Wait(self: AckVerbs) -> dict[str, ResponseDict]:
        """``wait``, as a dictionary of dictionaries."""
        return {name: response_dict(response) for name, response in (await self.wait()).items()}

    async def WaitAny(self: AckVerbs) -> tuple[ResponseDict, bool]:
        """``wait_any``, as ``(response, whether there was one)``."""
        response = await self.wait_any()
        return (response_dict(response), True) if response is not None else ({}, False)

    async def GetStatus(self: AckVerbs) -> dict[str, bool]:
        """``status``."""
        return await self.status()

    async def IsComplete(self: AckVerbs) -> bool:
        """``is_complete``."""
        return await self.is_complete()

    async def Cancel(self: AckVerbs) -> None:
        """``cancel``."""
        await self.cancel()


class UnifiedNames:
    """The unified names that clients and servers share."""

    async def Subscribe(
        self: Verbs[Any], topic: str, callback: UnifiedCallback
    ) -> ClientSubscriber:
        """``subscribe``; call the result to unsubscribe, from any thread."""
        subscriber = ClientSubscriber(self.id, topic)
        subscription = self.subscribe(topic, adapt(callback, subscriber))
        subscriber.attach(subscription)
        _ = await subscription
        return subscriber

    async def Unsubscribe(self: Verbs[Any], topic: str) -> None:
        """``unsubscribe``."""
        await self.unsubscribe(topic)

    async def Publish(self: Verbs[Any], topic: str, data: Any) -> None:
        """``publish``."""
        await self.publish(topic, data)

    async def PublishToID(self: Verbs[Any], client_id: str, data: Any) -> None:
        """``publish_to_id``."""
        await self.publish_to_id(client_id, data)

    async def PublishToServer(self: Verbs[Any], addr: str, data: Any, secure: bool = False) -> None:
        """``publish_to_server``."""
        await self.publish_to_server(addr, data, secure)

    async def PublishWithAck(
        self: Verbs[AnyAck_co], topic: str, data: Any, timeout: float = 5.0
    ) -> AnyAck_co:
        """``publish_with_ack``."""
        return await self.publish_with_ack(topic, data, timeout)

    async def PublishToIDWithAck(
        self: Verbs[AnyAck_co], client_id: str, data: Any, timeout: float = 5.0
    ) -> AnyAck_co:
        """``publish_to_id_with_ack``."""
        return await self.publish_to_id_with_ack(client_id, data, timeout)
