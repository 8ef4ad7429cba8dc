# Made from kps/compat/unified.py by tools/unasync.py: edit that one.

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

    def wait(self) -> dict[str, AckResponse]: ...

    def wait_any(self) -> AckResponse | None: ...

    def status(self) -> dict[str, bool]: ...

    def is_complete(self) -> bool: ...

    def cancel(self) -> None: ...


class Verbs(Protocol[AnyAck_co]):
    """The methods that the unified names of clients and servers call."""

    @property
    def id(self) -> str: ...

    def subscribe(self, topic: str, callback: Callable[[Message[Any]], object]) -> Any: ...

    def unsubscribe(self, topic: str) -> None: ...

    def publish(self, topic: str, data: Any) -> Any: ...

    def publish_to_id(self, client_id: str, data: Any) -> Any: ...

    def publish_to_server(self, addr: str, data: Any, secure: bool = False) -> None: ...

    def publish_with_ack(self, topic: str, data: Any, timeout: float = 5.0) -> AnyAck_co: ...

    def publish_to_id_with_ack(
        self, client_id: str, data: Any, timeout: float = 5.0
    ) -> AnyAck_co: ...


class UnifiedAck:
    """The unified names of an ack."""

    def Wait(self: AckVerbs) -> dict[str, ResponseDict]:
        """``wait``, as a dictionary of dictionaries."""
        return {name: response_dict(response) for name, response in (self.wait()).items()}

    def WaitAny(self: AckVerbs) -> tuple[ResponseDict, bool]:
        """``wait_any``, as ``(response, whether there was one)``."""
        response = self.wait_any()
        return (response_dict(response), True) if response is not None else ({}, False)

    def GetStatus(self: AckVerbs) -> dict[str, bool]:
        """``status``."""
        return self.status()

    def IsComplete(self: AckVerbs) -> bool:
        """``is_complete``."""
        return self.is_complete()

    def Cancel(self: AckVerbs) -> None:
        """``cancel``."""
        self.cancel()


class UnifiedNames:
    """The unified names that clients and servers share."""

    def Subscribe(self: Verbs[Any], topic: str, callback: UnifiedCallback) -> ClientSubscriber:
        """``subscribe``; call the result to unsubscribe, from any thread."""
        subscriber = ClientSubscriber(self.id, topic)
        subscription = self.subscribe(topic, adapt(callback, subscriber))
        subscriber.attach(subscription)
        _ = subscription
        return subscriber

    def Unsubscribe(self: Verbs[Any], topic: str) -> None:
        """``unsubscribe``."""
        self.unsubscribe(topic)

    def Publish(self: Verbs[Any], topic: str, data: Any) -> None:
        """``publish``."""
        self.publish(topic, data)

    def PublishToID(self: Verbs[Any], client_id: str, data: Any) -> None:
        """``publish_to_id``."""
        self.publish_to_id(client_id, data)

    def PublishToServer(self: Verbs[Any], addr: str, data: Any, secure: bool = False) -> None:
        """``publish_to_server``."""
        self.publish_to_server(addr, data, secure)

    def PublishWithAck(
        self: Verbs[AnyAck_co], topic: str, data: Any, timeout: float = 5.0
    ) -> AnyAck_co:
        """``publish_with_ack``."""
        return self.publish_with_ack(topic, data, timeout)

    def PublishToIDWithAck(
        self: Verbs[AnyAck_co], client_id: str, data: Any, timeout: float = 5.0
    ) -> AnyAck_co:
        """``publish_to_id_with_ack``."""
        return self.publish_to_id_with_ack(client_id, data, timeout)
