"""Bytes in payloads, in a form that all languages share (spec, section 20)."""

from binascii import a2b_base64, b2a_base64
from typing import Any

from kps.errors import InvalidArgument
from kps.protocol.limits import shown

_MARK = "$base64"


def pack_bytes(value: Any) -> Any:
    """Return a payload for sending in which bytes stand as JSON: ``{"$base64": "…"}``.

    ``value`` may have ``bytes``, ``bytearray`` and ``memoryview`` at any depth of its dictionaries,
    lists and tuples; all else remains as it is. :func:`kps.unpack_bytes` returns them at the other
    side, in each language. They take a third more room. Raises :class:`kps.InvalidArgument` for a
    dictionary that looks like such bytes itself.
    """
    try:
        return _packed(value)
    except RecursionError:
        raise InvalidArgument("this is nested too deeply") from None


def _packed(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {_MARK: b2a_base64(bytes(value), newline=False).decode()}
    if isinstance(value, dict):
        if _is_marked(value):
            raise InvalidArgument(f"a dictionary with {_MARK!r} alone stands for bytes")
        return {name: _packed(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(one) for one in value]
    return value


def unpack_bytes(value: Any) -> Any:
    """Return a received payload in which bytes stand as ``bytes``: the reverse of ``pack_bytes``.

    Raises :class:`kps.InvalidArgument` for something that is marked as bytes and is not base64.
    """
    try:
        return _unpacked(value)
    except RecursionError:
        raise InvalidArgument("this is nested too deeply") from None


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if _is_marked(value):
            return _decoded(value[_MARK])
        return {name: _unpacked(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_unpacked(one) for one in value]
    return value


def _is_marked(value: dict[Any, Any]) -> bool:
    return len(value) == 1 and _MARK in value


def _decoded(text: Any) -> bytes:
    try:
        if isinstance(text, str) and len(text) % 4 == 0:
            return a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    raise InvalidArgument(f"this is not base64: {shown(text)}")
