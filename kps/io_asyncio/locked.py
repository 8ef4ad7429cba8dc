"""The mark of methods that must hold the core's lock on threads.

On the event loop nothing interrupts a method between two awaits, so the mark does nothing.
``tools/unasync.py`` turns it into a ``with self._driver.lock:`` around the method's body. Waiting
for news releases the lock, as awaiting on the loop lets others run.
"""

from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def locked(method: Method) -> Method:
    """Mark a method that holds the lock of the core on threads."""
    return method
