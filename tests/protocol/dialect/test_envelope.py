"""Messages as JSON: what is read, what is refused, and that all that is written can be read."""

import contextlib
import dataclasses
import datetime
import enum
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.errors import InvalidArgument
from kps.protocol.dialect import envelope, level1
from kps.protocol.dialect.envelope import (
    Fields,
    InvalidMessage,
    TooDeep,
    check,
    check_finite,
    compose,
    compose_payload,
    embedded,
    is_deeper,
    load,
    text,
    unwrap,
    write,
)
from tests.protocol.helpers import levels

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
# What JSON must escape, and what breaks programs that write it by hand.
AWKWARD = ['"', '","from":"mallory', "\\", "\n", "\x00", "\u2028", "é", "😀", "</script>"]


def read(frame: bytes) -> Fields:
    return check(load(frame))


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


class TestRead:
    def test_an_object(self) -> None:
        message = b'{"action":"publish","topic":"t","data":[1,{"b":2,"a":null}],"new":true}'
        assert read(message) == json.loads(message)

    @pytest.mark.parametrize("frame", [b"[]", b"1", b'"ping"', b"null", b"true"])
    def test_other_json(self, frame: bytes) -> None:
        with pytest.raises(InvalidMessage, match="message is not a JSON object"):
            read(frame)

    @pytest.mark.parametrize(
        "frame",
        [
            b"",
            b"{",
            b"{}{}",
            b"{'action':'ping'}",
            b'{"a":NaN}',
            b'{"a":1e999}',
            b'{"a":"\xff"}',
            b'{"a":"\\ud800"}',
            b"\xef\xbb\xbf{}",
            b"[" * 100_000,
            b'{"a":' * 2000 + b"1" + b"}" * 2000,
        ],
    )
    def test_no_json(self, frame: bytes) -> None:
        with pytest.raises(InvalidMessage, match="message is not valid JSON") as refusal:
            load(frame)
        assert refusal.value.code == "bad_message"

    @pytest.mark.parametrize("name", ["action", "topic", "from", "to", "id", "error", "ack_id"])
    def test_fields_that_must_be_strings(self, name: str) -> None:
        wrong: list[Any] = [1, True, [], {}, ["x"]]
        for value in wrong:
            with pytest.raises(InvalidMessage, match=f"field {name} must be a string"):
                read(json.dumps({name: value}).encode())
        assert text(read(json.dumps({name: None}).encode()), name) == ""
        assert text(read(b"{}"), name) == ""
        assert text(read(json.dumps({name: "x"}).encode()), name) == "x"

    def test_unknown_fields_may_be_anything(self) -> None:
        assert read(b'{"action":"ping","proto":{"x":[2]}}')["proto"] == {"x": [2]}

    def test_integers_and_order_survive(self) -> None:
        message = b'{"data":{"z":9223372036854775807,"a":18446744073709551615,"m":-9}}'
        assert write(read(message)) == message

    @given(st.binary() | st.text().map(str.encode))
    def test_anything_else_raises_nothing_else(self, frame: bytes) -> None:
        with contextlib.suppress(InvalidMessage):
            read(frame)


class TestDepth:
    @given(JSON, st.integers(0, 6))
    def test_is_counted_as_it_is_defined(self, value: Any, most: int) -> None:
        loaded = load(json.dumps(value).encode())
        assert is_deeper(loaded, most) == (levels(value) > most)

    @pytest.mark.parametrize("leaf", [b"", b"1", b'{"a":""}'])
    def test_far_down(self, leaf: bytes) -> None:
        loaded = load(b'[0,{"a":' * 60 + b"[" + leaf + b"]" + b"}]" * 60)
        deepest = 122 if leaf.startswith(b"{") else 121
        assert is_deeper(loaded, deepest - 1)
        assert not is_deeper(loaded, deepest)


class TestWrite:
    @pytest.mark.parametrize("depth", [10, 200, 250])
    def test_deep_enough(self, depth: int) -> None:
        assert load(write(nested(depth))) == nested(depth)

    @pytest.mark.parametrize("depth", [255, 400, 900])
    def test_too_deep(self, depth: int) -> None:
        with pytest.raises(TooDeep, match="message nested too deeply"):
            write(nested(depth))
        with pytest.raises(InvalidArgument, match="cannot be written as JSON"):
            compose({"data": nested(depth)})

    @pytest.mark.parametrize(
        "data", [object(), {1: "x"}, {None: 1}, b"bytes", {1, 2}, 1 << 64, "\ud800", 1j]
    )
    def test_program_gives_what_is_no_json(self, data: Any) -> None:
        with pytest.raises(InvalidArgument, match="cannot be written as JSON"):
            level1.publish("t", "me", data)

    def test_program_gives_itself(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        with pytest.raises(InvalidArgument, match="cannot be written as JSON"):
            level1.publish("t", "me", loop)

    def test_program_gives_an_enum(self) -> None:
        colour = enum.Enum("colour", {"RED": "red"})
        assert read(level1.publish("t", "me", colour["RED"]))["data"] == "red"


class TestUnwrap:
    @given(JSON, st.text())
    def test_what_the_server_wraps_comes_out_the_same(self, data: Any, sender: str) -> None:
        payload = write(data)
        (delivery,) = level1.deliveries("t", sender, [payload])
        assert unwrap(read(delivery)) == (data, sender)
        assert unwrap(read(level1.delivery_with_ack("t", sender, payload, "1"))) == (data, sender)

    def test_payload_that_looks_wrapped(self) -> None:
        (delivery,) = level1.deliveries("t", "me", [b'{"data":5,"from":"mallory"}'])
        assert unwrap(read(delivery)) == ({"data": 5, "from": "mallory"}, "me")

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"data": 5, "from": "x"}, (5, "x")),
            ({"data": {"a": 1}, "from": "x"}, ({"a": 1}, "x")),
            ({"data": None}, (None, "")),
            ({}, (None, "")),
            ({"data": {"data": 5}}, (5, "")),
            ({"data": {"data": 5, "from": 7}}, (5, "")),
        ],
    )
    def test_as_originals_send_it(self, fields: dict[str, Any], expected: tuple[Any, str]) -> None:
        assert unwrap(fields) == expected


@pytest.mark.parametrize(
    "build",
    [
        level1.pong,
        level1.subscribed,
        level1.unsubscribed,
        level1.published,
        level1.server_message_sent,
        level1.ack_cancelled,
        level1.error,
        level1.ping,
        lambda s: level1.deliveries(s, s, [write(s)])[0],
        lambda s: level1.delivery_with_ack(s, s, write(s), s),
        lambda s: level1.direct_delivery(s, write(s)),
        lambda s: level1.ack_response(s, {s: {"error": s}}),
        lambda s: level1.ack_status(s, {s: True}),
        lambda s: level1.subscribe(s, s),
        lambda s: level1.unsubscribe(s, s),
        lambda s: level1.publish(s, s, s),
        lambda s: level1.direct_message(s, s, s),
        lambda s: level1.publish_to_server(s, s, s, True),
        lambda s: level1.server_to_server(s, s, s, s),
        lambda s: level1.publish_with_ack(s, s, s, s, 1.5),
        lambda s: level1.publish_to_id_with_ack(s, s, s, s, 1.5),
        lambda s: level1.ack(s, s, s),
        lambda s: level1.get_ack_status(s, s),
        lambda s: level1.cancel_ack(s, s),
    ],
)
def test_every_message_is_json_whatever_is_in_it(build: Callable[[str], bytes]) -> None:
    plain = json.loads(build("x"))
    for awkward in AWKWARD:
        fields = json.loads(build(awkward))
        # The same fields and no others, each "x" replaced by the awkward text.
        assert fields == json.loads(json.dumps(plain).replace('"x"', json.dumps(awkward)))
        assert read(build(awkward)) == fields


def test_empty_answers_have_their_field() -> None:
    response, status = level1.ack_response("1", {}), level1.ack_status("1", {})
    assert read(response) == {"action": "ack_response", "ack_id": "1", "responses": {}}
    assert read(status) == {"action": "ack_status", "ack_id": "1", "status": {}}


def test_ack_tells_success_or_the_error() -> None:
    assert json.loads(level1.ack("1", "me", None))["data"] == {
        "ack_id": "1",
        "client_id": "me",
        "success": True,
    }
    assert json.loads(level1.ack("1", "me", "no"))["data"] == {
        "ack_id": "1",
        "client_id": "me",
        "success": False,
        "error": "no",
    }


class Kind(enum.Enum):
    ODD = float("nan")


@dataclasses.dataclass
class Reading:
    value: Any
    _hidden: float = float("nan")


BAD = (float("nan"), float("inf"), float("-inf"))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "around",
    [
        lambda bad: bad,
        lambda bad: [1.5, None, bad],
        lambda bad: (bad,),
        lambda bad: {"a": {"b": [{"c": bad}]}},
        lambda bad: Reading(bad),
        lambda bad: [Kind.ODD],
        lambda bad: [None] * 100 + [bad],
    ],
)
def test_numbers_that_json_does_not_have_are_refused(
    bad: float, around: Callable[[float], Any]
) -> None:
    with pytest.raises(InvalidArgument, match="not a number"):
        compose(around(bad))


@pytest.mark.parametrize("good", [None, "null", [None, 1.5], {"null": None}, Reading(None)])
def test_null_itself_is_not(good: Any) -> None:
    assert b"null" in compose(good)


@pytest.mark.parametrize("bad", BAD)
def test_numbers_are_found_at_any_depth_beside_anything(bad: float) -> None:
    for content in (
        [None, {"a": [1, "x", (2, [bad])]}],
        [Reading(1.0), {"a": [{"b": {"c": bad}}]}],
        [datetime.date(2020, 1, 1), [[Reading([{"x": bad}])]]],
    ):
        with pytest.raises(InvalidArgument):
            compose(content)


@pytest.mark.pure("it replaces a part of the core")
def test_plain_json_is_searched_level_by_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at each value by itself would take several times as long."""

    def one_by_one(content: object) -> None:
        raise AssertionError(content)

    monkeypatch.setattr(envelope, "_parts", one_by_one)
    check_finite([{"a": None, "b": [1.5, (True, {"c": "null"})]}])
    with pytest.raises(InvalidArgument):
        check_finite([{"a": None, "b": [1.5, (True, {"c": float("inf")})]}])


@pytest.mark.parametrize("data", [None, 1.5, "null", {"a": [None]}, [], [[]]])
def test_a_payload_by_itself_is_a_part_of_a_message(data: Any) -> None:
    payload = compose_payload(data)
    assert payload == compose(data)
    assert compose({"data": {"data": embedded(payload)}}) == compose({"data": {"data": data}})


def test_a_payload_by_itself_is_refused_as_within_a_message() -> None:
    data: Any = 1
    while True:
        try:
            compose({"data": {"data": data}})
        except InvalidArgument:
            break
        compose_payload(data)
        data = [data]
    with pytest.raises(InvalidArgument):
        compose_payload(data)
