"""Payloads: bytes of MQTT, JSON values of KPS."""

from enum import StrEnum
from typing import Any, assert_never

import orjson

from kps.errors import InvalidArgument
from kps.mqtt.core.reasons import BAD_PAYLOAD
from kps.mqtt.core.refusal import Refusal
from kps.protocol.dialect.binary import pack_bytes, unpack_bytes


class Format(StrEnum):
    """What the payloads of a rule are."""

    AUTO = "auto"
    """JSON if it is JSON, else text if it is UTF-8, else bytes. Back: a text as it is, bytes as
    they are, all else as JSON. A text that looks like JSON, such as ``42``, becomes a number."""
    JSON = "json"
    """JSON only."""
    TEXT = "text"
    """Text in UTF-8 only: a string."""
    BYTES = "bytes"
    """Any bytes; KPS has them as ``{"$base64": ...}``."""


def from_mqtt(payload: bytes, kind: Format) -> Any:
    """Return the value of a payload. Raises :class:`Refusal`.

    An empty payload, which deletes a retained message, is ``null`` where JSON is possible.
    """
    match kind:
        case Format.AUTO:
            return _guessed(payload)
        case Format.JSON:
            return _json(payload) if payload else None
        case Format.TEXT:
            return _text(payload)
        case Format.BYTES:
            return pack_bytes(payload)
        case _:
            assert_never(kind)


def to_mqtt(value: Any, kind: Format, *, retain: bool) -> bytes:
    """Return the payload of a value. Raises :class:`Refusal`.

    With ``retain`` a ``null`` is empty, which deletes what the broker retains.
    """
    match kind:
        case Format.AUTO | Format.JSON if value is None and retain:
            return b""
        case Format.AUTO:
            return _written(value)
        case Format.JSON:
            return orjson.dumps(value)
        case Format.TEXT:
            if not isinstance(value, str):
                raise Refusal("not_text", "the payload is no text")
            return value.encode()
        case Format.BYTES:
            found = _bytes_of(value)
            if found is None:
                raise Refusal("not_bytes", 'the payload is no {"$base64": ...}')
            return found
        case _:
            assert_never(kind)


def _guessed(payload: bytes) -> Any:
    try:
        return _json(payload) if payload else None
    except Refusal:
        try:
            return _text(payload)
        except Refusal:
            return pack_bytes(payload)


def _json(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise Refusal("not_json", "the payload is not JSON", BAD_PAYLOAD) from None


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Refusal("not_text", "the payload is not UTF-8", BAD_PAYLOAD) from None


def _written(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    found = _bytes_of(value)
    return orjson.dumps(value) if found is None else found


def _bytes_of(value: Any) -> bytes | None:
    try:
        found = unpack_bytes(value) if isinstance(value, dict) and len(value) == 1 else None
    except InvalidArgument:
        return None
    return found if isinstance(found, bytes) else None
