"""Identifies clients by several hooks, for instance devices by a file and users by JWT."""

import inspect
from collections.abc import Callable
from typing import Any

from kps.errors import InvalidArgument
from kps.io_common.verdicts import TokenVerdict
from kps.protocol.access.identity import Identity
from kps.protocol.limits import shown


class FirstOf:
    """Identifies a client by the first of several hooks that knows its token: an ``auth`` hook.

    ::

        Server(auth=FirstOf(TokenFile("devices.toml"), JWTVerifier.from_file("public.pem")))

    It asks the hooks in order. If none knows the token, and one could not judge it, it returns the
    answer of that one. Identities of one name are one identity, whichever hook knows them; so let
    the names of devices and users differ. Any thread may call this, if any may call the hooks.

    Args:
        hooks: Plain functions, such as :class:`kps.TokenFile` and :class:`kps.JWTVerifier`; their
            ``reload`` is a plain function too.

    Raises :class:`kps.InvalidArgument` without hooks, and for one that is no plain function.
    """

    def __init__(self, *hooks: Callable[[str], TokenVerdict]) -> None:
        if not hooks:
            raise InvalidArgument("FirstOf needs a hook")
        for hook in hooks:
            call = getattr(hook, "__call__", None)  # noqa: B004
            ways = (hook, call, getattr(hook, "reload", None), getattr(hook, "prepare", None))
            if call is None or any(map(inspect.iscoroutinefunction, ways)):
                raise InvalidArgument(f"FirstOf takes plain functions, not {shown(hook)}")
        self._hooks = hooks

    def __call__(self, token: str) -> TokenVerdict:
        """Return the identity behind a token, or ``None``."""
        unsure: TokenVerdict = None
        for hook in self._hooks:
            verdict = hook(token)
            if isinstance(verdict, Identity):
                return verdict
            unsure = unsure or verdict or None
        return unsure

    def reload(self) -> None:
        """Reload the hooks that can. If one of KPS's own raises, this changes none of them."""
        for apply in self.prepare():
            apply()

    def prepare(self) -> list[Callable[[], Any]]:
        """Read what the hooks read; return what puts it into force. Raises as ``reload``."""
        steps: list[Callable[[], Any]] = []
        for hook in self._hooks:
            prepare, reload = getattr(hook, "prepare", None), getattr(hook, "reload", None)
            if prepare is not None:
                steps += prepare()
            elif reload is not None:
                steps.append(reload)
        return steps
