"""Payloads as they were written."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.dialect.envelope import TooDeep, write
from kps.protocol.dialect.texts import (
    HardToFind,
    find_text,
    is_as_we_write,
    split_joined,
    split_texts,
    text_of,
)

SPACE = st.text(" \t\r\n", max_size=2)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(['"', "\\", '\\"', "[", "]", "{", "}", ",", ":", '{"data":1}', "data"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda values: (
        st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=4), values, max_size=4)
    ),
)


@st.composite
def texts(draw: st.DrawFn, values: st.SearchStrategy[Any] = VALUES) -> str:
    """Draw a value as a client may write it: with spaces, escapes, and other ways of numbers."""
    return _spelled(draw, draw(values))


def _spelled(draw: st.DrawFn, value: Any) -> str:
    def space() -> str:
        return draw(SPACE)

    if isinstance(value, dict):
        members = [
            f"{space()}{_spelled(draw, key)}{space()}:{space()}{_spelled(draw, each)}{space()}"
            for key, each in value.items()
        ]
        return f"{{{','.join(members) or space()}}}"
    if isinstance(value, list):
        return f"[{','.join(f'{space()}{_spelled(draw, each)}{space()}' for each in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=draw(st.booleans()))
    if type(value) is int and draw(st.booleans()):
        return f"{value}.0"
    return json.dumps(value)


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, str | None]:
    """Draw an object with any members, and the text of its last member named ``data``."""
    names = draw(st.lists(st.sampled_from(["data", "x", "a,b", 'q"', "batch", "{"]), max_size=5))
    members, last = [], None
    for name in names:
        text = draw(texts())
        key = '"d\\u0061ta"' if name == "data" and draw(st.booleans()) else json.dumps(name)
        members.append(f"{draw(SPACE)}{key}{draw(SPACE)}:{draw(SPACE)}{text}{draw(SPACE)}")
        if name == "data":
            last = text
    return f"{draw(SPACE)}{{{','.join(members)}}}{draw(SPACE)}", last


class TestFinding:
    @given(objects())
    def test_the_last_member_of_that_name(self, drawn: tuple[str, str | None]) -> None:
        message, last = drawn
        assert find_text(message.encode(), "data") == (last or "null").encode()

    @given(objects())
    def test_in_a_message_that_is_written_in_any_way(self, drawn: tuple[str, str | None]) -> None:
        message, last = drawn[0].encode(), (drawn[1] or "null").encode()
        fields = orjson.loads(message)
        assert text_of(message, fields, "data") == last
        written = orjson.dumps(fields)
        assert text_of(written, fields, "data") == orjson.dumps(fields.get("data"))
        assert text_of(None, fields, "data") == orjson.dumps(fields.get("data"))

    @pytest.mark.parametrize("depth", [1, 8, 9, 10, 11, 100, 128, 900])
    @pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"]":', "}"), ('["}",{"":', "}]")])
    def test_nested(self, depth: int, opens: str, closes: str) -> None:
        payload = f"[{opens * depth} 0 {closes * depth},{opens}1{closes}]"
        message = f'{{"data" :{payload} , "x":[]}}'
        assert find_text(message.encode(), "data") == payload.encode()

    def test_too_deep_to_be_written(self) -> None:
        deep: list[Any] = []
        for _ in range(300):
            deep = [deep]
        with pytest.raises(TooDeep):
            text_of(None, {"data": deep}, "data")
        assert not is_as_we_write(b"", deep)


@pytest.mark.parametrize(
    "message",
    [
        '{"data" : 1,%s"x":1}' % ('"y":1,' * 20_000),
        '{"data" : 1,%s"x":1}' % ('"data":1,' * 20_000),
        f'{{"data" : [{",".join(["[" * 20 + "]" * 20] * 3000)}]}}',
        f'{{"data" : [{",".join(["[[[[[[7]]]]]]"] * 3000)}]}}',
    ],
    ids=["many fields", "the same again and again", "deep", "rather deep"],
)
def test_what_is_hard_to_find_is_written_anew(message: str) -> None:
    """So the search ends soon."""
    encoded = message.encode()
    with pytest.raises(HardToFind):
        find_text(encoded, "data")
    fields = orjson.loads(encoded)
    assert text_of(encoded, fields, "data") == orjson.dumps(fields["data"])


class TestSplitting:
    @given(st.lists(texts()), SPACE)
    def test_an_array(self, elements: list[str], space: str) -> None:
        array = f"{space}[{','.join(f'{space}{each}{space}' for each in elements)}]"
        assert split_texts(array.encode()) == [each.encode() for each in elements]

    @given(st.lists(texts(), min_size=1))
    def test_joined(self, elements: list[str]) -> None:
        encoded = [each.encode() for each in elements]
        assert split_joined(b",".join(encoded)) == encoded

    @given(VALUES)
    def test_tells_what_is_as_we_write(self, value: Any) -> None:
        assert is_as_we_write(write(value), value)
        assert not is_as_we_write(write(value) + b" ", value)
