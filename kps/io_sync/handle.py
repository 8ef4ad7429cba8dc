"""A subscription on threads: a program enters, or calls it."""

from abc import ABC, abstractmethod
from typing import Self, TypeVar

from kps.io_sync.driver import Driver


class Handle(ABC):
    """A subscription that any thread may end."""

    _driver: Driver

    def __call__(self) -> None:
        """End the subscription."""
        if self._driver.may_end:
            with self._driver.lock:
                self._end(None)

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def _in_force(self) -> None:
        """Wait until the server has confirmed the subscription; end it if that fails."""

    @abstractmethod
    def _end(self, error: str | None) -> None:
        """End the subscription."""


AnyHandle = TypeVar("AnyHandle", bound=Handle)


def begun(handle: AnyHandle) -> AnyHandle:
    """Return a new subscription to the program once the server has confirmed it."""
    handle._in_force()
    return handle
