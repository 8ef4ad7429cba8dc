"""The bytes of a payload pass through the server unchanged, on every way (spec, 3.5)."""

import pytest

from kps.protocol.limits import Overflow
from kps.protocol.server_limits import ServerLimits
from tests.protocol.helpers import Peer, Stage, frame

PAYLOADS = [
    b"1.00",
    b"12345678901234567890123",
    b"1E2",
    b'{"z":1, "a" : 2,"z":3}',
    b'"\\u00e9 \\/ \\ud83d\\ude00"',
    b"[ 1 ,\n[ ] ]",
    b'{"data":{"data":-0.0}}',
    b'"' + b"x" * 5000 + b'\\t"',
    b"null",
]


def peer(stage: Stage, name: str, level: int) -> Peer:
    one = stage.peer().upgrade()
    one.send({"action": "ping", "from": name, "proto": level})
    if name != "writer":
        one.send({"action": "subscribe", "topic": "t"})
    one.read()
    return one


WAYS: dict[str, tuple[int, bytes, bytes]] = {
    "publish": (1, b'{"action":"publish","topic":"t","data":%b}', b'"data":%b'),
    "publish, with spaces": (1, b'{ "action":"publish","data" : %b , "topic":"t" }', b'"data":%b'),
    "publish on level 2": (2, b'{"action":"publish","topic":"t","data":%b}', b'"data":%b'),
    "an escaped name": (1, b'{"action":"publish","topic":"t","d\\u0061ta":%b}', b'"data":%b'),
    "repeated": (1, b'{"action":"publish","data":[0],"topic":"t","data":%b}', b'"data":%b'),
    "a batch": (2, b'{"action":"publish","topic":"t","batch":[%b, %b]}', b'"batch":[%b, %b]'),
    "a receipt": (
        2,
        b'{"action":"publish","topic":"t","data":%b,"receipt":"r"}',
        b'"data":%b',
    ),
    "an array": (
        2,
        b'[{"action":"publish","topic":"t","data":%b},{"action":"publish","topic":"t","data":%b}]',
        b'"batch":[%b,%b]',
    ),
    "an ack request": (
        1,
        b'{"action":"publish_with_ack","topic":"t","data":%b,"ack_id":"a"}',
        b'"data":%b',
    ),
    "a direct message": (1, b'{"action":"direct_message","to":"two","data":%b}', b'"data":%b'),
    "a direct ack request": (
        2,
        b'{"action":"publish_to_id_with_ack","to":"two","ack_id":"a","data":%b}',
        b'"data":%b',
    ),
}


@pytest.mark.parametrize("payload", PAYLOADS, ids=[str(payload[:20]) for payload in PAYLOADS])
@pytest.mark.parametrize("way", WAYS)
class TestPayloads:
    def test_arrive_in_the_same_bytes(self, way: str, payload: bytes) -> None:
        level, written, expected = WAYS[way]
        stage = Stage()
        writer, two = peer(stage, "writer", level), peer(stage, "two", 2)
        for number in range(4):  # at first in full, and then by a template
            message = written.replace(b"%b", payload).replace(
                b'"ack_id":"a', b'"ack_id":"%d' % number
            )
            writer.feed(frame(message))
            stage.finish()
            assert expected.replace(b"%b", payload) in two.read()

    def test_arrive_one_by_one_on_level_1(self, way: str, payload: bytes) -> None:
        level, written, _ = WAYS[way]
        stage = Stage()
        writer, one = peer(stage, "writer", level), peer(stage, "one", 1)
        message = written.replace(b"%b", payload).replace(b'"to":"two"', b'"to":"one"')
        for number in range(4):
            writer.feed(frame(message.replace(b'"ack_id":"a', b'"ack_id":"%d' % number)))
            stage.finish()
            assert one.read().count(b'"data":' + payload) == written.count(b"%b")


@pytest.mark.parametrize("payload", PAYLOADS, ids=[str(payload[:20]) for payload in PAYLOADS])
def test_results_arrive_in_the_same_bytes(payload: bytes) -> None:
    stage = Stage()
    asker, two = peer(stage, "writer", 2), peer(stage, "two", 2)
    asker.send({"action": "publish_with_ack", "topic": "t", "ack_id": "a"})
    two.feed(frame(b'{"action":"ack","ack_id":"ack_1","success":true,"result":%b}' % payload))
    result = b"" if payload == b"null" else b'"result":%b' % payload
    assert result in asker.read()


def test_what_a_slow_subscriber_gets_in_parts() -> None:
    """A queue without room for a whole batch takes its parts, whose payloads are taken apart."""
    stage = Stage(limits=ServerLimits(queue_bytes=500, overflow=Overflow.DROP_NEWEST))
    writer, two = peer(stage, "writer", 2), peer(stage, "two", 2)
    batch = b", ".join([b"1.00", b'" , "', b"[ ]"] * 30)
    writer.feed(frame(b'{"action":"publish","topic":"t","batch":[%b]}' % batch))
    stage.finish()
    assert b'"batch":[1.00,' in two.read()
