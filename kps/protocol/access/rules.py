"""The rules by which a server refuses requests (spec, 13.3 to 13.5).

Each ``check`` function raises :class:`InvalidMessage` for a forbidden request, and does
nothing else.
"""

from kps.protocol.access.identity import Permissions, matches
from kps.protocol.bus.message import has_controls
from kps.protocol.dialect.envelope import InvalidMessage
from kps.protocol.limits import ServerLimits

RESERVED = "__kps/"
"""Prefix of the topics that belong to the server: only the server publishes on them."""


def check_publish(topic: str, permissions: Permissions, limits: ServerLimits) -> None:
    _check_topic(topic, limits)
    if topic.startswith(RESERVED):
        raise InvalidMessage("this topic is the server's own", "forbidden")
    if not matches(topic, permissions.publish):
        raise InvalidMessage("this client may not publish on this topic", "forbidden")


def check_subscribe(topic: str, permissions: Permissions, limits: ServerLimits) -> None:
    _check_topic(topic, limits)
    if topic.startswith(RESERVED):
        is_allowed = permissions.console
    else:
        is_allowed = matches(topic, permissions.subscribe)
    if not is_allowed:
        raise InvalidMessage("this client may not subscribe to this topic", "forbidden")


def check_direct(client_id: str, permissions: Permissions) -> None:
    if not matches(client_id, permissions.direct):
        raise InvalidMessage("this client may not send messages to this id", "forbidden")


def check_relay(address: str, permissions: Permissions) -> None:
    if not matches(address, permissions.relay):
        raise InvalidMessage("this client may not relay to this server", "forbidden")


def check_peer(permissions: Permissions) -> None:
    if not permissions.peer:
        raise InvalidMessage("this client may not speak for another server", "forbidden")


def check_id(client_id: str, permissions: Permissions, limits: ServerLimits) -> None:
    check_length(client_id, "id", limits.max_id)
    if not matches(client_id, permissions.ids):
        raise InvalidMessage("this client may not use this id", "forbidden")
    if is_foreign(client_id) and not permissions.peer:
        raise InvalidMessage("an id of this form is that of another server", "forbidden")


def check_length(name: str, kind: str, most: int) -> None:
    if len(name) > most:
        raise InvalidMessage(f"the {kind} has more than {most} characters", "bad_request")


def is_foreign(sender: str) -> bool:
    """Tell whether a sender's id has the form of another server or of its clients."""
    return "---ws" in sender or sender.startswith(("ws://", "wss://"))


def _check_topic(topic: str, limits: ServerLimits) -> None:
    check_length(topic, "topic", limits.max_topic)
    if not topic.isprintable() and has_controls(topic):
        raise InvalidMessage("the topic has a control character in it", "bad_request")
