"""Messages: any bytes are read or refused, and what is read can be passed on unchanged.

The dialects read any fields, or refuse them too; and their answers name what they are about.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import isfinite
from typing import Any, NoReturn

from kps.errors import InvalidArgument
from kps.protocol.dialect import client, level1, level2, server
from kps.protocol.dialect.envelope import (
    Fields,
    InvalidMessage,
    TooDeep,
    check,
    compose,
    is_deeper,
    load,
    shown,
    text,
    unwrap,
    write,
)
from kps.protocol.dialect.outcome import AckResponse
from kps.protocol.dialect.requests import Demands, Window
from kps.protocol.server_limits import ServerLimits
from tests.fuzz import grammar
from tests.fuzz.seeds import all_messages
from tests.protocol.helpers import levels

WORDS = grammar.WORDS
DEEPEST = ServerLimits().max_depth
ASK: Fields = {"topic": "t", "ack_id": "1"}
STRINGS = ("action", "topic", "from", "to", "id", "error", "ack_id")


def one_input(data: bytes) -> None:
    """The JSON of one WebSocket message."""
    try:
        loaded = load(data)
    except InvalidMessage:
        return
    check_against_standard_library(data, loaded)
    for most in (1, 2, 5, DEEPEST):
        assert is_deeper(loaded, most) == (levels(loaded) > most)
    if is_deeper(loaded, DEEPEST):
        return  # whoever reads it refuses it
    check_deliveries(loaded)
    check_refusal_of_all(loaded if type(loaded) is list else [loaded])
    for message in loaded if type(loaded) is list else [loaded]:
        try:
            fields = check(message)
        except InvalidMessage:
            continue
        check_fields(fields)


def check_against_standard_library(data: bytes, loaded: Any) -> None:
    """Numbers included, which means that integers of 64 bits are exact."""
    try:
        expected = json.loads(data, parse_constant=refuse, parse_int=as_orjson_does)
    except RecursionError:
        return  # orjson reads what is nested deeper, too
    assert same(loaded, expected), (loaded, expected)


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


def as_orjson_does(digits: str) -> int | float:
    number = float(digits)  # which takes any number of digits
    if abs(number) < 1 << 65 and -(1 << 63) <= (exact := int(digits)) < 1 << 64:
        return exact
    return number


def same(one: Any, other: Any) -> bool:
    """Equal, with types, signs of zero and the order of keys."""
    return repr(one) == repr(other)


def check_fields(fields: Fields) -> None:
    for name in (*STRINGS, *fields):
        assert type(text(fields, name)) is str
    payload, sender = unwrap(fields)
    assert type(sender) is str
    check_deliveries(payload)
    answer = check(load(level2.error("no", "code", fields)))
    assert answer == {"action": "error", "error": "no", "code": "code"} | names_of(fields)
    for server_dialect in (server.LEVEL_1, server.LEVEL_2):
        check_read_by_server(server_dialect, fields)
    for client_dialect in (client.LEVEL_1, client.LEVEL_2):
        check_read_by_client(client_dialect, fields)


def names_of(request: Fields) -> Fields:
    """What names a message in the refusal of it (spec, 12.6)."""
    action = text(request, "action")
    named = {"request": shown(action)} if action else {}
    for name in ("topic", "pattern", "group", "to", "ack_id", "receipt", "nonce"):
        if type(request.get(name)) is str:
            named[name] = request[name]
    return named


def check_refusal_of_all(requests: list[Any]) -> None:
    """The refusal of a frame names each message in it that has a name."""
    answer = check(load(server.LEVEL_2.error_about_all("no", "code", requests)))
    named = [names_of(request) for request in requests if type(request) is dict]
    refused = {"refused": [one for one in named if one]} if any(named) else {}
    assert answer == {"action": "error", "error": "no", "code": "code"} | refused


def check_read_by_server(dialect: server.ServerLevel1, fields: Fields) -> None:
    """A server reads any fields, or refuses them."""
    with suppress(InvalidMessage):
        topic, payloads, receipt = dialect.read_publish(fields)
        assert topic
        assert payloads is None or type(payloads) is list
        assert receipt is None or type(receipt) is str
    for target in ("topic", "to"):
        with suppress(InvalidMessage):
            ask = dialect.read_ask(fields, b"null", target, "no target")
            assert ask.target
            assert ask.ack_id
            assert ask.timeout is None or ask.timeout > 0
            check_demands(ask.demands)
    with suppress(InvalidMessage):
        answer = dialect.read_answer(fields)
        assert answer.ack_id
        assert answer.error is None or (type(answer.error) is str and answer.result is None)
    with suppress(InvalidMessage):
        relay = dialect.read_relay(fields, b"null")
        assert relay.to
        assert type(relay.secure) is bool
    check_key(dialect, fields)
    message = dialect.read_from_server(fields)
    assert {type(one) for one in (message.to, message.proxied, message.origin, message.topic)} == {
        str
    }
    assert len(dialect.payloads_of(fields)) >= 0
    with suppress(InvalidMessage):
        nonce = dialect.read_nonce(fields)
        pong = check(load(dialect.pong("a", 1, 1.0, Window("w", 1.0, 1, 0.0), nonce)))
        assert pong.get("nonce", "") == nonce


def check_demands(demands: Demands) -> None:
    """What an ack request demands is read as a client would write it."""
    assert all(
        type(one) is str for one in (*demands.expected, *demands.groups, demands.message_key)
    )
    assert demands.retries >= 0
    if demands != Demands():
        again = server.LEVEL_2.read_ask(ASK | demands.fields(), b"", "topic", "").demands
        assert again == demands


def check_key(dialect: server.ServerLevel1, fields: Fields) -> None:
    """What is subscribed to is named in the confirmation as it was in the request."""
    with suppress(InvalidMessage):
        key = dialect.read_key(fields)
        if dialect.level > 1:
            confirmed = check(load(dialect.subscribed(key)))
            assert dialect.read_key(confirmed) == client.key_in(confirmed) == key
    with suppress(InvalidMessage):
        assert dialect.read_concurrency(fields) >= 1


def check_group_outcome(fields: Fields) -> None:
    """The outcome of a group is read whatever it is, and is then written as one that can be."""
    response, size = client.read_group_response(fields, "1")
    assert size > 0
    (written,) = load(level2.ack_update("1", [response]))["groups"]
    again, _ = client.read_group_response(written, response.ack_id)
    if response.group:
        assert again == response


def check_read_by_client(dialect: client.ClientLevel1, fields: Fields) -> None:
    """A client reads any fields."""
    topic, sender, payloads = dialect.read_publications(fields)
    assert (type(topic), type(sender)) == (str, str)
    assert type(payloads) in (list, tuple)
    question = dialect.read_question(fields, "a")
    assert {type(one) for one in (question.topic, question.sender, question.ack_id)} == {str}
    assert client.agreed(fields, 1) is client.LEVEL_1
    assert client.agreed(fields, 2) in (client.LEVEL_1, client.LEVEL_2)
    limit = client.limit_in(fields)
    assert limit is None or limit > 0
    response, _ = client.read_response("a", fields, "1")
    assert type(response.success) is bool
    assert response.error is None or type(response.error) is str
    assert type(response.ack_id) is str
    check_group_outcome(fields)


def check_deliveries(data: Any) -> None:
    """A payload goes through all that carries one."""
    assert is_finite(data), "a number that JSON cannot say"
    response = AckResponse("b", True, None, "ack_1", data)
    payload = write(data)
    carriers: list[tuple[Callable[[], bytes], Callable[[Any], Any]]] = [
        (lambda: write(data), lambda read: read),
        (lambda: level1.deliveries("t", "a", [payload])[0], lambda read: unwrap(read)[0]),
        (lambda: level1.delivery_with_ack("t", "a", payload, "1"), lambda read: unwrap(read)[0]),
        (lambda: level1.direct_delivery("a", payload), lambda read: read["data"]),
        (lambda: level2.delivery("t", "a", [payload], 1), lambda read: read["data"]),
        (lambda: level2.delivery("t", "a", [payload] * 2, 2), lambda read: read["batch"][1]),
        (lambda: level2.delivery_with_ack("", "a", payload, "1"), lambda read: read["data"]),
        (
            lambda: level2.ack_update("1", [response]),
            lambda read: read["responses"]["b"].get("result"),
        ),
        # A client writes what its program gives.
        (lambda: level2.publish("t", compose(data)), lambda read: read["data"]),
        (lambda: level2.ack("1", None, data, has_begun=True), lambda read: read.get("result")),
    ]
    for write_it, find in carriers:
        check_written(write_it, find, data)


def check_written(make: Callable[[], bytes], find: Callable[[Any], Any], data: Any) -> None:
    """What is written can be read, and has the payload in it; unless it is too deep."""
    with suppress(TooDeep, InvalidArgument):
        written = make()
        assert same(find(load(written)), data), written


def is_finite(data: Any) -> bool:
    """Whether no number in a JSON value became one that cannot be written."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if type(value) is float and not isfinite(value):
            return False
        if type(value) is dict:
            waiting += value.values()
        elif type(value) is list:
            waiting += value
    return True


def seeds() -> Iterator[bytes]:
    """Every message of the specification's vectors, and values of each kind."""
    yield from all_messages()
    yield b'{"a":[1,-0.0,1.5e300,18446744073709551615,-9223372036854775808]}'
    yield b"[1e400,123456789012345678901,NaN]"
    yield '{"ü":"\\ud83d\\ude00\\u0000","b":[[],{},null,true,false,""]}'.encode()
    for depth in (2, 100, 128, 129, 300, 1100):
        yield b"[" * depth + b"]" * depth
        yield b'{"a":[1,' * (depth // 2) + b'"]{"' + b"]}" * (depth // 2)
    yield b'["[[[[[[\\"]]]",{"{{{":[]},[[]],[[],{}]]'
