"""The rules by which a server refuses requests (spec, 13.3 to 13.5).

Each ``check`` function raises :class:`InvalidMessage` for a forbidden request, and does
nothing else.
"""

from kps.protocol.access.identity import Permissions, covers, matches
from kps.protocol.bus.given import has_controls
from kps.protocol.dialect.address import DEFAULT_PATH, RelayTarget
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.patterns import InGroup, Scope
from kps.protocol.server_limits import ServerLimits

RESERVED = "__kps/"
"""Prefix of the topics that belong to the server: only the server publishes on them."""

OVER_HTTP = "http:"
"""Prefix of the senders of requests over HTTP, which no client has as its id."""

MAX_URL = 1024
"""Characters of another server's URL in a sender."""


def check_publish(topic: str, permissions: Permissions, limits: ServerLimits) -> None:
    _check_topic(topic, limits)
    if topic.startswith(RESERVED):
        raise InvalidMessage("this topic is the server's own", "forbidden")
    if not matches(topic, permissions.publish):
        raise InvalidMessage("this client may not publish on this topic", "forbidden")


def check_group(key: InGroup, permissions: Permissions, limits: ServerLimits) -> None:
    check_group_name(key.group, limits)
    scope = key.scope
    is_topic = isinstance(scope, str)
    allowed = permissions.groups
    if not (matches(scope, allowed) if isinstance(scope, str) else covers(allowed, scope)):
        kind = "topic" if is_topic else "pattern"
        raise InvalidMessage(f"this client may not be in a group of this {kind}", "forbidden")


def check_group_name(group: str, limits: ServerLimits) -> None:
    _check_topic(group, limits, "name of the group")


def check_subscribe(key: Scope, permissions: Permissions, limits: ServerLimits) -> None:
    kind = "topic" if isinstance(key, str) else "pattern"
    _check_topic(str(key), limits, kind)
    if (key if isinstance(key, str) else key.head).startswith(RESERVED):
        is_allowed = permissions.console
    elif isinstance(key, str):
        is_allowed = matches(key, permissions.subscribe)
    else:
        is_allowed = covers(permissions.subscribe, key)
    if not is_allowed:
        raise InvalidMessage(f"this client may not subscribe to this {kind}", "forbidden")


def check_presence(topic: str, permissions: Permissions) -> None:
    if not matches(topic, permissions.presence):
        raise InvalidMessage("this client may not see who is subscribed to this topic", "forbidden")


def check_direct(client_id: str, permissions: Permissions) -> None:
    if not matches(client_id, permissions.direct):
        raise InvalidMessage("this client may not send messages to this id", "forbidden")


def check_relay(target: RelayTarget, permissions: Permissions, *, secure: bool) -> bool:
    """Tell whether this server's token may go to an allowed target.

    It may if a pattern names the address whole, or over TLS if a pattern asks for TLS. Otherwise
    the client could have the token sent to itself, or in the clear.
    """
    allowing = [one for one in permissions.relay if _allows(one, target, secure=secure)]
    if not allowing:
        raise InvalidMessage("this client may not relay to this server", "forbidden")
    return any("*" not in one or one.startswith("wss://") for one in allowing)


def check_peer(permissions: Permissions) -> None:
    if not permissions.peer:
        raise InvalidMessage("this client may not speak for another server", "forbidden")


def check_console(permissions: Permissions) -> None:
    if not permissions.console:
        raise InvalidMessage("this client may not ask the server about itself", "forbidden")


def check_disconnect(client_id: str, permissions: Permissions) -> None:
    if not matches(client_id, permissions.disconnect):
        raise InvalidMessage("this client may not disconnect this id", "forbidden")


def check_id(client_id: str, permissions: Permissions, limits: ServerLimits) -> None:
    check_length(client_id, "id", limits.max_id)
    _check_characters(client_id, "id")
    if not matches(client_id, permissions.ids):
        raise InvalidMessage("this client may not use this id", "forbidden")
    if client_id.startswith(OVER_HTTP):
        raise InvalidMessage("an id of this form is that of requests over HTTP", "forbidden")
    if is_foreign(client_id) and not permissions.peer:
        raise InvalidMessage("an id of this form is that of another server", "forbidden")


def check_sender(sender: str, limits: ServerLimits) -> None:
    """Refuse a sender, named by another server, that is no client's id and server's URL."""
    check_length(sender, "sender", limits.max_id + MAX_URL)
    _check_characters(sender, "sender")


def check_length(name: str, kind: str, most: int) -> None:
    if len(name) > most:
        raise InvalidMessage(f"the {kind} has more than {most} characters", "bad_request")


def check_message_id(message_id: str, limits: ServerLimits) -> None:
    check_length(message_id, "message_id", limits.max_id)
    _check_characters(message_id, "message_id")


def is_foreign(sender: str) -> bool:
    """Tell whether a sender's id has the form of another server or of its clients."""
    return "---ws" in sender or sender.startswith(("ws://", "wss://"))


def _allows(pattern: str, target: RelayTarget, *, secure: bool) -> bool:
    """Tell whether ``[ws:// or wss://]host:port[/path]`` allows a target."""
    scheme, has_scheme, rest = pattern.rpartition("://")
    if has_scheme and scheme != ("wss" if secure else "ws"):
        return False
    # Address and path are matched one by one: a ``*`` in the address must not stand for a path,
    # which could look like the rest of the address.
    address, slash, path = rest.partition("/")
    if slash:
        is_path = matches(target.path, [slash + path])
    else:
        is_path = target.path == DEFAULT_PATH or address.endswith("*")
    return is_path and matches(target.address, [address])


def _check_topic(topic: str, limits: ServerLimits, kind: str = "topic") -> None:
    check_length(topic, kind, limits.max_topic)
    _check_characters(topic, kind)


def _check_characters(name: str, kind: str) -> None:
    if not name.isprintable() and has_controls(name):
        raise InvalidMessage(f"the {kind} has a control character in it", "bad_request")
