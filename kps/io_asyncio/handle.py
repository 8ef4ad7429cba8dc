"""How a program uses a subscription on the event loop: it is awaited, entered, or called."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Self, TypeVar

from kps.io_asyncio.driver import Driver


class Handle(ABC):
    """A subscription that can be awaited, and ended from any thread."""

    _driver: Driver

    def __call__(self) -> "Unsubscribed":
        """End the subscription, from any thread; awaiting the result is allowed, not needed."""
        self._driver.call_from_any_thread(lambda: self._end(None))
        return Unsubscribed()

    def __await__(self) -> Generator[None, None, Self]:
        yield from self._in_force().__await__()
        return self

    async def __aenter__(self) -> Self:
        return await self

    @abstractmethod
    async def _in_force(self) -> None:
        """Wait until the server has confirmed the subscription; end it when that fails."""

    @abstractmethod
    def _end(self, error: str | None) -> None:
        """End the subscription."""


AnyHandle = TypeVar("AnyHandle", bound=Handle)


def begun(handle: AnyHandle) -> AnyHandle:
    """Return a new subscription to the program, which awaits it when it wants to."""
    return handle


class Unsubscribed:
    """The answer to ``subscription()``: it is done, and may be awaited all the same."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield
