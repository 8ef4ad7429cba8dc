"""The mark of methods that nothing may interrupt.

On the event loop nothing interrupts a method between two waits, so the mark costs nothing and does
nothing. ``tools/unasync.py`` makes of it a ``with self._driver.lock:`` around the method's body;
waiting for news gives the lock away meanwhile, as waiting on the loop does.
"""

from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def locked(method: Method) -> Method:
    """Mark a method that holds the lock of the core on threads."""
    return method
