"""The types of a server's hooks, and what they decide.

As a callback, a hook may be a coroutine function on asyncio.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kps.errors import InvalidArgument, Refused
from kps.protocol.access.identity import Identity
from kps.protocol.limits import shown
from kps.protocol.server.events import ClientLeft, ConnectedClient, Subscribing, Unsubscribed
from kps.protocol.wire.http import HttpRequest, HttpResponse

UpgradeVerdict = bool | None | Identity | HttpResponse
"""Whether a client may connect: yes or no (403), its identity, or the answer that refuses it."""

UpgradeHook = Callable[[HttpRequest], UpgradeVerdict | Awaitable[UpgradeVerdict]]
"""Gets a client's upgrade request, and decides on it."""

TokenVerdict = Identity | HttpResponse | None
"""The identity behind a token; ``None`` if it is invalid; an answer if it cannot be judged now."""

TokenHook = Callable[[str], TokenVerdict | Awaitable[TokenVerdict]]
"""Gets a client's token, and returns its identity. :class:`kps.TokenFile` and
:class:`kps.JWTVerifier` are such hooks. If it has a method ``reload``, the server calls that when
it reloads."""

PermitVerdict = bool | None
"""Whether a client may do what it wants: ``False`` refuses it, and so does
:class:`kps.Refused`, raised with a text for the client. ``None`` is what a function returns that
says nothing, and allows it."""

ConnectHook = Callable[[ConnectedClient], PermitVerdict | Awaitable[PermitVerdict]]
"""Gets a client that registers under an id, or wants another one, and decides on it."""

SubscribeHook = Callable[[Subscribing], PermitVerdict | Awaitable[PermitVerdict]]
"""Gets a client and the topic to which it wants to subscribe, and decides on it."""

DisconnectHook = Callable[[ClientLeft], object]
"""Gets a client that is gone, and how its connection ended."""

UnsubscribeHook = Callable[[Unsubscribed], object]
"""Gets a client, the topic whose subscription has ended, and why."""

AnyUpgradeHook = TypeVar("AnyUpgradeHook", bound=UpgradeHook)
"""A decorator returns it unchanged."""


def upgrade_verdict(returned: object) -> UpgradeVerdict:
    """Return what ``on_upgrade`` decided: the program may have returned anything.

    Raises :class:`kps.InvalidArgument` for anything else than an :data:`UpgradeVerdict`. It must
    not admit a client: a pair ``("no", 403)`` is true.
    """
    if isinstance(returned, bool):
        return returned
    return _verdict(returned, "True or False, a kps.Identity or a kps.HttpResponse")


def permit_verdict(returned: object) -> bool | Refused:
    """Return what ``on_connect`` or ``on_subscribe`` decided.

    Raises :class:`kps.InvalidArgument` for anything else than a :data:`PermitVerdict`.
    """
    if inspect.iscoroutine(returned):
        returned.close()
        raise InvalidArgument("a hook returned a coroutine, which nothing runs")
    if returned is None or returned is True:
        return True
    if returned is False:
        return Refused()
    raise InvalidArgument(f"a hook returned {shown(returned)}; it returns True or False")


def token_verdict(returned: object) -> TokenVerdict:
    """Return what ``auth`` found; ``False`` means the same as ``None``.

    Raises :class:`kps.InvalidArgument` for anything else than a :data:`TokenVerdict`.
    """
    return None if returned is False else _verdict(returned, "a kps.Identity or None")


def _verdict(returned: object, wanted: str) -> TokenVerdict:
    # Make them anew: a subclass may have gone around the checks.
    if isinstance(returned, Identity):
        return Identity(returned.name, returned.permissions, returned.lifetime)
    if isinstance(returned, HttpResponse):
        return HttpResponse(returned.status, returned.body, returned.content_type, returned.headers)
    if inspect.iscoroutine(returned):
        returned.close()
        raise InvalidArgument("a hook returned a coroutine, which nothing runs")
    if returned is not None:
        raise InvalidArgument(f"a hook returned {shown(returned)}; it returns {wanted}")
    return None
