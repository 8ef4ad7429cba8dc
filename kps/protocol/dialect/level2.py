"""The messages of level 2 that differ from level 1 or are new (spec, section 12).

All other messages are those of ``level1``. Each function returns the JSON of one message.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from kps.protocol.dialect.codes import FEATURES
from kps.protocol.dialect.envelope import Fields, compose, shown, text, write
from kps.protocol.dialect.outcome import AckResponse, GroupResponse, kept_result
from kps.protocol.dialect.requests import Outcomes, Window
from kps.protocol.patterns import InGroup, Key, Pattern

LEVEL = 2

NAMES_A_REQUEST = ("topic", "pattern", "group", "to", "ack_id", "receipt", "nonce")
"""The fields by which a refusal names its request."""

# -- server to client ---------------------------------------------------------------------


def pong(
    client_id: str, max_message: int, heartbeat: float, window: Window, nonce: str = ""
) -> bytes:
    limits = {"max_message": max_message, "heartbeat": heartbeat}
    fields: Fields = {
        "action": "pong",
        "id": client_id,
        "proto": LEVEL,
        "limits": limits,
        "features": FEATURES,
        "message_ids": {
            "window": window.name,
            "seconds": window.seconds,
            "most": window.most,
            "time": window.time,
        },
    }
    if nonce:
        fields["nonce"] = nonce
    return write(fields)


def subscribed(key: Key, more: Fields) -> bytes:
    return write({"action": "subscribed", **_named_key(key), **more})


def _named_key(key: Key) -> Fields:
    if isinstance(key, InGroup):
        return {**_named_key(key.scope), "group": key.group}
    return {"topic": key} if isinstance(key, str) else {"pattern": key.text}


def in_group(key: InGroup, attempt: int) -> bytes:
    """The fields of a delivery to a member of a group."""
    fields: Fields = {"group": key.group}
    if isinstance(key.scope, Pattern):
        fields["pattern"] = key.scope.text
    if attempt > 1:
        fields["attempt"] = attempt
    return write(fields)[1:-1] + b","


def presence(topic: str, more: Fields) -> bytes:
    """Who is there, or who has come and gone, on a topic."""
    return write({"action": "presence", "topic": topic, **more})


def history(topic: str, nonce: str, entries: Iterable[bytes], more: Fields) -> bytes:
    """Messages of a topic, which are JSON."""
    head = write({"action": "history", "topic": topic, "nonce": nonce, **more})
    return b'%b,"messages":[%b]}' % (head[:-1], b",".join(entries))


def kept_message(offset: int, sender: str, payload: bytes, headers: bytes) -> bytes:
    """One of them."""
    more = with_headers(headers)
    return b'{"offset":%d,%b"from":%b,"data":%b}' % (offset, more, write(sender), payload)


def direct_delivery(sender: str, payload: bytes, headers: bytes) -> bytes:
    """A direct message, whose payload is JSON."""
    more = with_headers(headers)
    return b'{"action":"direct_message",%b"from":%b,"data":%b}' % (more, write(sender), payload)


def with_headers(headers: bytes) -> bytes:
    """The field of a delivery with its headers, which are JSON; nothing if they are empty."""
    return b'"headers":%b,' % headers if headers else b""


def unsubscribed(key: Key) -> bytes:
    return write({"action": "unsubscribed", **_named_key(key)})


def published(topic: str, receipt: str, delivered: int, *, is_degraded: bool = False) -> bytes:
    fields: Fields = {"action": "published", "topic": topic, "receipt": receipt}
    return write(fields | {"delivered": delivered} | _degraded(is_degraded=is_degraded))


def delivery(
    topic: str,
    sender: str,
    texts: Sequence[bytes],
    count: int,
    offset: int = 0,
    epoch: str = "",
    more: bytes = b"",
) -> bytes:
    """Publications of one sender on one topic: every subscriber gets the same bytes.

    Each of ``texts`` has one or several of the ``count`` payloads, with commas in between. ``more``
    are further fields.
    """
    what = b'"data":%b}' if count == 1 else b'"batch":[%b]}'
    head = b'{"action":"publish","topic":%b,"from":%b,' % (write(topic), write(sender))
    if more:
        head += more
    if offset:
        head += b'"offset":%d,' % offset if not epoch else _place(offset, epoch)
    return head + what % b",".join(texts)


def _place(offset: int, epoch: str) -> bytes:
    return b'"offset":%d,%b' % (offset, b'"epoch":%b,' % write(epoch) if epoch else b"")


def delivery_with_ack(
    topic: str,
    sender: str,
    payload: bytes,
    ack_id: str,
    offset: int = 0,
    epoch: str = "",
    more: bytes = b"",
) -> bytes:
    """A publication that each subscriber answers; without a topic, a direct message."""
    return b'{"action":"publish_ack",%b"ack_id":%b,"from":%b,"data":%b%b}' % (
        more + _place(offset, epoch) if offset else more,
        write(ack_id),
        write(sender),
        payload,
        b',"topic":%b' % write(topic) if topic else b"",
    )


def ack_update(ack_id: str, responses: Sequence[AckResponse]) -> bytes:
    return write({"action": "ack_update", "ack_id": ack_id, **_outcomes(responses)})


def ack_response(outcomes: Outcomes) -> bytes:
    """The final answer to an ack request, with the outcomes that were not sent before."""
    fields: Fields = {"action": "ack_response", "ack_id": outcomes.owner_ack_id}
    return write(fields | _ending(outcomes, outcomes.untold()))


def kept_ending(outcomes: Outcomes) -> bytes:
    """What a later ``ack_response`` tells of a request that has ended now: all its outcomes."""
    return write(_ending(outcomes, list(outcomes.responses.values())))[1:-1]


def ack_response_again(ack_id: str, ending: bytes) -> bytes:
    """The final answer to an ack request that ended earlier: see ``kept_ending``."""
    return b'{"action":"ack_response","ack_id":%b,%b}' % (write(ack_id), ending)


def _ending(outcomes: Outcomes, responses: Sequence[AckResponse]) -> Fields:
    missing = outcomes.missing()
    fields: Fields = {"complete": not missing and not outcomes.is_late} | _outcomes(responses)
    if missing:
        fields["missing"] = missing
    if outcomes.presence:
        fields["presence"] = outcomes.presence
    return fields | _degraded(is_degraded=outcomes.is_degraded)


def _degraded(*, is_degraded: bool) -> Fields:
    """The field of an answer that knows of this node's clients only."""
    return {"degraded": True} if is_degraded else {}


def error(reason: str, code: str, request: Fields) -> bytes:
    """A refusal of ``request``, which has the fields that could be read."""
    return write({"action": "error", "error": reason, "code": code} | _named(request))


def error_about_all(reason: str, code: str, requests: Iterable[Any]) -> bytes:
    """One refusal of all messages that could be read in a frame."""
    fields: Fields = {"action": "error", "error": reason, "code": code}
    named = [_named(request) for request in requests if type(request) is dict]
    if refused := [one for one in named if one]:
        fields["refused"] = refused
    return write(fields)


def _named(request: Fields) -> Fields:
    """Return the fields that identify a request in its answer."""
    named: Fields = {}
    if action := text(request, "action"):
        named["request"] = shown(action)
    for name in NAMES_A_REQUEST:
        value = request.get(name)
        if type(value) is str:
            named[name] = value
    return named


def _outcomes(responses: Sequence[AckResponse]) -> Fields:
    """Return the fields with the outcomes of clients and of groups, if there are any."""
    by_client: dict[str, Fields] = {}
    groups: list[Fields] = []
    for response in responses:
        fields: Fields = {"success": response.success}
        if response.error:
            fields["error"] = response.error
        result = kept_result(response)
        if result is not None:
            fields["result"] = result
        if type(response) is GroupResponse:
            groups.append(_of_group(response) | fields)
        else:
            by_client[response.client_id] = fields
    outcomes: Fields = {"responses": by_client} if by_client else {}
    return outcomes | {"groups": groups} if groups else outcomes


def _of_group(response: GroupResponse) -> Fields:
    fields = _named_key(InGroup(response.scope, response.group))
    if response.client_id:
        fields["member"] = response.client_id
    fields["attempts"] = response.attempts
    if response.failures:
        fields["failures"] = [
            {"member": member, "error": error} for member, error in response.failures
        ]
    return fields


# -- client to server --------------------------------------------------------------------


def subscribe(key: Key, more: Fields) -> bytes:
    return compose({"action": "subscribe", **_named_key(key), **more})


def ask_presence(topic: str, nonce: str) -> bytes:
    return compose({"action": "presence", "topic": topic, "nonce": nonce})


def ask_history(topic: str, nonce: str, more: Fields) -> bytes:
    return compose({"action": "history", "topic": topic, "nonce": nonce, **more})


def unsubscribe(key: Key) -> bytes:
    return compose({"action": "unsubscribe", **_named_key(key)})


def ping(client_id: str, nonce: str = "") -> bytes:
    fields: Fields = {"action": "ping", "from": client_id, "proto": LEVEL}
    if nonce:
        fields["nonce"] = nonce
    return compose(fields)


def publish(topic: str, payload: bytes) -> bytes:
    """A publication whose payload is already JSON."""
    return b'{"action":"publish","topic":' + compose(topic) + b',"data":' + payload + b"}"


def batch_head(topic: str) -> bytes:
    """The beginning of a batch; its payloads follow, separated by commas."""
    return b'{"action":"publish","topic":' + compose(topic) + b',"batch":['


BATCH_END = b"]}"


def publish_with_receipt(topic: str, data: Any, receipt: str, more: Fields) -> bytes:
    fields: Fields = {"action": "publish", "topic": topic, "data": data, "receipt": receipt}
    return compose(fields | more)


def publish_with_ack(topic: str, data: Any, ack_id: str, timeout: float, more: Fields) -> bytes:
    fields: Fields = {
        "action": "publish_with_ack",
        "topic": topic,
        "data": data,
        "ack_id": ack_id,
        "timeout": timeout,
        "updates": True,
    }
    return compose(fields | more)


def publish_to_id_with_ack(to: str, data: Any, ack_id: str, timeout: float, more: Fields) -> bytes:
    fields: Fields = {
        "action": "publish_to_id_with_ack",
        "to": to,
        "data": data,
        "ack_id": ack_id,
        "timeout": timeout,
        "updates": True,
    }
    return compose(fields | more)


def ack(ack_id: str, reason: str | None, result: Any, *, has_begun: bool) -> bytes:
    fields: Fields = {"action": "ack", "ack_id": ack_id, "success": reason is None}
    if reason is not None:
        fields["error"] = reason
        if not has_begun:
            fields["begun"] = False
    elif result is not None:
        fields["result"] = result
    return compose(fields)
