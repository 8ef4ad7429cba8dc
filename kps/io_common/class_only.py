"""The mark of class methods that make an instance."""

from typing import TYPE_CHECKING, Any, NoReturn

from kps.errors import InvalidState

__all__ = ["class_only"]

if TYPE_CHECKING:
    from builtins import classmethod as class_only
else:

    class class_only(classmethod):
        """A class method that refuses a call on an instance, which would make another one."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return super().__get__(instance, owner)
            name, method = owner.__name__, self.__func__.__name__

            def refuse(*_: Any, **__: Any) -> NoReturn:
                raise InvalidState(
                    f"{method} makes a {name.lower()}, and this one exists: write "
                    f"{name}.{method}(address), or enter it with 'with' or 'async with'"
                )

            return refuse
