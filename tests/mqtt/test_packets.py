"""MQTT's packets: what is written can be read, in any pieces, and nothing else is believed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.mqtt.core import packets
from kps.mqtt.core.fields import Fields, Malformed, properties, text, variable
from kps.mqtt.core.packets import (
    V3,
    V5,
    Connack,
    Disconnect,
    Filter,
    Packet,
    Pingresp,
    Puback,
    Publish,
    Reader,
    Suback,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple)
PUBLISHED = st.builds(
    Publish,
    topic=TEXTS.filter(bool),
    payload=st.binary(max_size=300),
    qos=st.integers(0, 1),
    retain=st.booleans(),
    dup=st.booleans(),
    pid=st.integers(1, 65_535),
    user=PAIRS,
).map(lambda one: one if one.qos else replace(one, pid=0))


def read(data: bytes, version: int = V5, most: int = 10_000) -> list[Packet]:
    return list(Reader(version, most).feed(data))


@given(st.integers(0, 268_435_455))
def test_numbers(number: int) -> None:
    assert Fields(variable(number)).variable() == number


@given(st.sampled_from([V3, V5]), st.lists(PUBLISHED, max_size=5), st.integers(1, 40))
def test_messages_come_whole_in_any_pieces(
    version: int, messages: list[Publish], piece: int
) -> None:
    written = b"".join(packets.publish(version, one) for one in messages)
    reader = Reader(version, 10_000)
    found = [
        packet
        for place in range(0, len(written), piece)
        for packet in reader.feed(written[place : place + piece])
    ]
    if version == V3:
        messages = [replace(one, user=()) for one in messages]
    assert found == messages


@given(st.sampled_from([V3, V5]), st.binary(max_size=60), st.integers(1, 20))
def test_anything_else_is_malformed_or_incomplete(version: int, data: bytes, most: int) -> None:
    try:
        found = read(data, version, most)
    except Malformed:
        return
    assert all(isinstance(one, Packet) for one in found)


@pytest.mark.parametrize("size", [50, 70_000, 600_000])
@pytest.mark.parametrize("piece", [7_919, 1_000_000])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_of_a_large_message_comes_the_head(size: int, piece: int, count: int) -> None:
    """Also if its properties are what is large."""
    large = Publish("a", b"x" * size, 1, pid=3, user=(("n", "v" * 60_000),) * count)
    written = packets.publish(V5, large) + packets.publish(V5, Publish("b", b"y"))
    reader = Reader(V5, 40)
    found = [
        packet
        for place in range(0, len(written), piece)
        for packet in reader.feed(written[place : place + piece])
    ]
    behind = len(properties(user=large.user)) + size
    head = Publish("a", b"", 1, pid=3, left_out=behind)
    assert found == [head, Publish("b", b"y")]


def test_answers_of_a_broker_of_mqtt_5() -> None:
    told = properties(((0x21, 7), (0x27, 900), (0x24, 0), (0x25, 0), (0x13, 40)))
    assert read(b"\x20" + variable(2 + len(told)) + b"\x01\x00" + told) == [
        Connack(0, True, "", 7, 900, 0, False, 40)
    ]
    reason = b"\x1f" + text("why")
    why = variable(len(reason)) + reason
    assert read(b"\x40" + variable(3 + len(why)) + b"\x00\x05\x87" + why) == [
        Puback(5, 0x87, "why")
    ]
    assert read(b"\x40\x02\x00\x05\x40\x03\x00\x06\x10") == [Puback(5, 0), Puback(6, 0x10)]
    assert read(b"\x90\x05\x00\x09\x00\x01\x87") == [Suback(9, (1, 0x87))]
    assert read(b"\xd0\x00\xe0\x00\xe0\x01\x8e") == [Pingresp(), Disconnect(0), Disconnect(0x8E)]


def test_answers_of_a_broker_of_mqtt_3() -> None:
    assert read(b"\x20\x02\x01\x00\x20\x02\x00\x05", V3) == [Connack(0, True), Connack(5)]
    assert read(b"\x20\x02\x00\x01") == [Connack(1)]  # such a broker answers so to MQTT 5
    assert read(b"\x90\x04\x00\x09\x01\x80", V3) == [Suback(9, (1, 0x80))]


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\x02\x00\x00",  # no topic
        b"\x34\x05\x00\x01a\x00\x01",  # QoS 2
        b"\x32\x06\x00\x01a\x00\x00\x00",  # QoS 1 without a number
        b"\x30\x04\x00\x01\xff\x00",  # a topic that is not UTF-8
        b"\x30\x06\x00\x01a\x02\xee\x01",  # an unknown property
        b"\x10\x00",  # CONNECT, which no broker sends
        b"\x40\x01\x00",  # too short
        b"\x20\x06\x00\x00\x03\x21\x00\x00",  # a broker that takes no message
        b"\x20\x08\x00\x00\x05\x27\x00\x00\x00\x00",  # nor any packet
    ],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


def test_no_broker_needs_megabytes_for_an_answer() -> None:
    with pytest.raises(Malformed):
        read(b"\x90" + variable(500) + bytes(500), most=400)


def test_what_a_client_writes() -> None:
    options = {"keep_alive": 30, "session_expiry": 60, "receive_maximum": 100}
    assert packets.connect(V3, "me", user="u", password="p", **options) == (
        b"\x10\x14\x00\x04MQTT\x04\xc0\x00\x1e\x00\x02me\x00\x01u\x00\x01p"
    )
    assert packets.connect(V5, "me", user=None, password=None, **options) == (
        b"\x10\x17\x00\x04MQTT\x05\x00\x00\x1e\x08\x11\x00\x00\x00\x3c\x21\x00\x64\x00\x02me"
    )
    filters = [Filter("a/#", 1, 1), Filter("b", 0, 2)]
    assert packets.subscribe(V5, 2, filters) == (
        b"\x82\x0d\x00\x02\x00\x00\x03a/#\x15\x00\x01b\x24"
    )
    assert packets.subscribe(V3, 2, filters) == b"\x82\x0c\x00\x02\x00\x03a/#\x01\x00\x01b\x00"
    assert packets.puback(V5, 9, 0x87) == b"\x40\x03\x00\x09\x87"
    assert packets.puback(V5, 9, 0) == packets.puback(V3, 9, 0x87) == b"\x40\x02\x00\x09"
