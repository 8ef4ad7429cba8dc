"""The messages of level 1, the dialect of the original, for both ends (spec, section 4).

Each function returns the JSON of one message.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from kps.protocol.dialect.envelope import Fields, compose, write

# -- server to client ---------------------------------------------------------------------


def pong(client_id: str) -> bytes:
    return write({"action": "pong", "id": client_id})


def subscribed(topic: str) -> bytes:
    return write({"action": "subscribed", "topic": topic})


def unsubscribed(topic: str) -> bytes:
    return write({"action": "unsubscribed", "topic": topic})


def published(topic: str) -> bytes:
    return write({"action": "published", "topic": topic})


def deliveries(topic: str, sender: str, payloads: Sequence[bytes]) -> list[bytes]:
    """Publications, whose payloads are JSON: every subscriber gets the same bytes."""
    before, behind = around_delivered(topic, sender)
    return [before + payload + behind for payload in payloads]


def around_delivered(topic: str, sender: str) -> tuple[bytes, bytes]:
    """Return what stands in front of the payload of a publication, and behind it."""
    before = b'{"action":"publish","topic":%b,"data":{"data":' % write(topic)
    return before, b',"from":%b}}' % write(sender)


def delivery_with_ack(topic: str, sender: str, payload: bytes, ack_id: str) -> bytes:
    """A publication that each subscriber answers with ``ack``."""
    return b'{"action":"publish_ack","topic":%b,"ack_id":%b,"data":{"data":%b,"from":%b}}' % (
        write(topic),
        write(ack_id),
        payload,
        write(sender),
    )


def direct_delivery(sender: str, payload: bytes) -> bytes:
    """A direct message, whose payload is JSON."""
    return b'{"action":"direct_message","from":%b,"data":%b}' % (write(sender), payload)


def server_message_sent(to: str) -> bytes:
    return write({"action": "server_message_sent", "to": to})


def ack_response(ack_id: str, responses: dict[str, Fields]) -> bytes:
    # Also without outcomes: clients of the family in Go and Dart wait for this field.
    return write({"action": "ack_response", "ack_id": ack_id, "responses": responses})


def ack_status(ack_id: str, status: dict[str, bool]) -> bytes:
    return write({"action": "ack_status", "ack_id": ack_id, "status": status})


def ack_cancelled(ack_id: str) -> bytes:
    return write({"action": "ack_cancelled", "ack_id": ack_id})


def error(text: str) -> bytes:
    return write({"action": "error", "error": text})


# -- client to server --------------------------------------------------------------------


def ping(client_id: str) -> bytes:
    return compose({"action": "ping", "from": client_id})


def subscribe(topic: str, sender: str) -> bytes:
    return compose({"action": "subscribe", "topic": topic, "from": sender})


def unsubscribe(topic: str, sender: str) -> bytes:
    return compose({"action": "unsubscribe", "topic": topic, "from": sender})


def publish(topic: str, sender: str, data: Any, more: Fields | None = None) -> bytes:
    """``more`` are fields of later levels, which this one ignores."""
    fields: Fields = {"action": "publish", "topic": topic, "data": data, "from": sender}
    return compose(fields | more if more else fields)


@lru_cache(64)
def around_published(topic: str, sender: str) -> tuple[bytes, bytes]:
    """Return what stands in front of the payload in ``publish``, and behind it."""
    head = b'{"action":"publish","topic":' + compose(topic) + b',"data":'
    return head, b',"from":' + compose(sender) + b"}"


def direct_message(to: str, sender: str, data: Any, more: Fields | None = None) -> bytes:
    fields: Fields = {"action": "direct_message", "to": to, "data": data, "from": sender}
    return compose(fields | more if more else fields)


def publish_to_server(to: str, sender: str, data: Any, secure: bool) -> bytes:
    return compose(
        {
            "action": "publish_to_server",
            "to": to,
            "data": data,
            "from": sender,
            "status": {"is_secure": secure},
        }
    )


def server_to_server(to: str, proxied: str, origin: str, data: Any) -> bytes:
    fields: Fields = {
        "action": "server-to-server",
        "to": to,
        "data": {"data": data, "from": origin},
    }
    if proxied:
        fields["id"] = proxied
    return compose(fields)


def publish_with_ack(topic: str, sender: str, data: Any, ack_id: str, timeout: float) -> bytes:
    return compose(
        {
            "action": "publish_with_ack",
            "topic": topic,
            "data": data,
            "ack_id": ack_id,
            "from": sender,
            "timeout": timeout,
        }
    )


def publish_to_id_with_ack(to: str, sender: str, data: Any, ack_id: str, timeout: float) -> bytes:
    return compose(
        {
            "action": "publish_to_id_with_ack",
            "to": to,
            "data": data,
            "ack_id": ack_id,
            "from": sender,
            "timeout": timeout,
        }
    )


def ack(ack_id: str, client_id: str, error: str | None) -> bytes:
    outcome: Fields = {"ack_id": ack_id, "client_id": client_id, "success": error is None}
    if error is not None:
        outcome["error"] = error
    return compose({"action": "ack", "ack_id": ack_id, "from": client_id, "data": outcome})


def get_ack_status(ack_id: str, sender: str) -> bytes:
    return compose({"action": "get_ack_status", "ack_id": ack_id, "from": sender})


def cancel_ack(ack_id: str, sender: str) -> bytes:
    return compose({"action": "cancel_ack", "ack_id": ack_id, "from": sender})
