"""A subscription on the event loop: a program awaits, enters, or calls it."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Self, TypeVar

from kps.io_asyncio.driver import Driver


class Handle(ABC):
    """A subscription that a program can await, and end from any thread."""

    _driver: Driver

    def __call__(self) -> "Unsubscribed":
        """End the subscription, from any thread. The result may be awaited."""
        self._driver.call_from_any_thread(lambda: self._end(None))
        return Unsubscribed()

    def __await__(self) -> Generator[None, None, Self]:
        yield from self._in_force().__await__()
        return self

    async def __aenter__(self) -> Self:
        return await self

    @abstractmethod
    async def _in_force(self) -> None:
        """Wait until the server has confirmed the subscription; end it if that fails."""

    @abstractmethod
    def _end(self, error: str | None) -> None:
        """End the subscription."""


AnyHandle = TypeVar("AnyHandle", bound=Handle)


def begun(handle: AnyHandle) -> AnyHandle:
    """Return a new subscription to the program, which may await it."""
    return handle


class Unsubscribed:
    """The result of ``subscription()``: awaiting it returns at once."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield
