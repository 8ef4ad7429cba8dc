"""Bytes in payloads."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kps
from kps.errors import InvalidArgument

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def has_mark(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) == {"$base64"} or any(map(has_mark, value.values()))
    return isinstance(value, list) and any(map(has_mark, value))


@given(JSON)
def test_all_come_back(value: Any) -> None:
    if has_mark(value):
        with pytest.raises(InvalidArgument, match="stands for bytes"):
            kps.pack_bytes(value)
    else:
        assert kps.unpack_bytes(json.loads(json.dumps(kps.pack_bytes(value)))) == value


@pytest.mark.parametrize(
    "given_bytes", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")]
)
def test_the_form_and_the_kinds_of_bytes(given_bytes: Any) -> None:
    packed = kps.pack_bytes({"a": (given_bytes, 1)})
    assert packed == {"a": [{"$base64": "AP8="}, 1]}
    assert kps.unpack_bytes(packed) == {"a": [b"\x00\xff", 1]}


@pytest.mark.parametrize("wrong", ["AP8", "A P8=", "AP8=\n", "ä", 5, None, ["AP8="], "-_8="])
def test_what_is_no_base64(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="not base64"):
        kps.unpack_bytes([{"$base64": wrong}])


def test_what_has_no_bottom() -> None:
    value: list[Any] = []
    value.append({"a": value})
    for convert in (kps.pack_bytes, kps.unpack_bytes):
        with pytest.raises(InvalidArgument, match="nested too deeply"):
            convert(value)


def test_objects_with_more_members_are_none() -> None:
    value = {"$base64": "AP8=", "more": {"$BASE64": "AP8="}}
    assert kps.unpack_bytes(value) == value == kps.pack_bytes(value)
