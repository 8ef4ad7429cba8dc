"""Topics, payloads and the way of a message, from one side to the other and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kps
from kps.errors import InvalidArgument
from kps.mqtt.core.books import Books
from kps.mqtt.core.carrying import Place, inwards, outwards
from kps.mqtt.core.packets import Publish
from kps.mqtt.core.path import HEADER, passed
from kps.mqtt.core.payloads import Format, from_mqtt, to_mqtt
from kps.mqtt.core.refusal import Refusal
from kps.mqtt.core.retained import Latest
from kps.mqtt.core.rules import InRule, OutRule
from kps.mqtt.core.settings import Settings
from kps.protocol.limits import LARGEST

PLACE = Place("here", 256, 2)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST, LARGEST) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def refusal(work: Any, *args: Any, **options: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        work(*args, **options)
    return raised.value


class TestPayloads:
    @given(JSON)
    def test_json_survives(self, value: Any) -> None:
        assert from_mqtt(to_mqtt(value, Format.JSON, retain=False), Format.JSON) == value

    @given(TEXTS)
    def test_text_survives(self, value: str) -> None:
        assert from_mqtt(to_mqtt(value, Format.TEXT, retain=False), Format.TEXT) == value

    @given(st.binary())
    def test_bytes_survive_each_format_that_takes_them(self, payload: bytes) -> None:
        value = from_mqtt(payload, Format.BYTES)
        assert kps.unpack_bytes(value) == payload
        assert to_mqtt(value, Format.BYTES, retain=False) == payload

    @given(
        st.binary(min_size=1) | st.text(min_size=1).map(lambda text: text.encode(errors="ignore"))
    )
    def test_what_is_no_json_comes_back_as_it_was(self, payload: bytes) -> None:
        try:
            from_mqtt(payload, Format.JSON)
        except Refusal:
            value = from_mqtt(payload, Format.AUTO)
            assert to_mqtt(value, Format.AUTO, retain=False) == payload

    @given(JSON.filter(lambda value: not isinstance(value, str)))
    def test_auto_keeps_json(self, value: Any) -> None:
        assert from_mqtt(to_mqtt(value, Format.AUTO, retain=False), Format.AUTO) == value

    def test_auto_guesses(self) -> None:
        for payload, value in (
            (b"42", 42),
            (b"on", "on"),
            (b'{"a": [1]}', {"a": [1]}),
            (b"\xff", {"$base64": "/w=="}),
            (b"", None),
        ):
            assert from_mqtt(payload, Format.AUTO) == value
        assert to_mqtt("42", Format.AUTO, retain=False) == b"42"  # which would come as a number

    def test_null_deletes_what_is_retained(self) -> None:
        for kind in (Format.AUTO, Format.JSON):
            assert to_mqtt(None, kind, retain=True) == b""
            assert to_mqtt(None, kind, retain=False) == b"null"
            assert from_mqtt(b"", kind) is None

    @pytest.mark.parametrize(
        ("payload", "kind", "name"),
        [(b"{", Format.JSON, "not_json"), (b"\xff", Format.TEXT, "not_text")],
    )
    def test_what_does_not_come_in(self, payload: bytes, kind: Format, name: str) -> None:
        assert refusal(from_mqtt, payload, kind).name == name

    @pytest.mark.parametrize(
        ("value", "kind", "name"),
        [
            (1, Format.TEXT, "not_text"),
            ("a", Format.BYTES, "not_bytes"),
            ({"$base64": "?"}, Format.BYTES, "not_bytes"),
            ({"$base64": "", "more": 1}, Format.BYTES, "not_bytes"),
        ],
    )
    def test_what_does_not_go_out(self, value: Any, kind: Format, name: str) -> None:
        assert refusal(to_mqtt, value, kind, retain=False).name == name


class TestTopics:
    @given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"], exclude_characters="+#")))
    def test_a_topic_stays_as_it_is(self, rest: str) -> None:
        topic = f"a/{rest}"[:256]
        inward = inwards(InRule(filter="#"), Publish(topic, b"1"), PLACE)
        assert inward.topic == topic
        assert outwards(OutRule(pattern="**"), topic, 1, {}, PLACE).topic == topic

    def test_prefixes(self) -> None:
        rule = InRule(filter="plant/+/t", strip="plant/", add="hall 1.")
        assert inwards(rule, Publish("plant/7/t", b"1"), PLACE).topic == "hall 1.7/t"
        other = OutRule(pattern="hall 1.*/t", strip="hall 1.", add="plant/")
        assert outwards(other, "hall 1.7/t", 1, {}, PLACE).topic == "plant/7/t"

    @pytest.mark.parametrize(
        ("topic", "name"),
        [
            ("__stats", "reserved"),
            ("a" * 257, "topic_long"),
            ("a\nb", "topic_controls"),
            ("a\x85", "topic_controls"),
        ],
    )
    def test_what_the_bus_does_not_take(self, topic: str, name: str) -> None:
        assert refusal(inwards, InRule(filter="#"), Publish(topic, b"1"), PLACE).name == name

    @pytest.mark.parametrize(
        ("topic", "name"),
        [
            ("a+b", "wildcard"),
            ("a/#", "wildcard"),
            ("$SYS/a", "reserved"),
            ("__a", "reserved"),
            ("ä" * 40_000, "topic_long"),
            ("a\x85", "topic_controls"),
            ("a/\ufdd0", "topic_controls"),
            ("a/\U0001ffff", "topic_controls"),
        ],
    )
    def test_what_the_broker_does_not_take(self, topic: str, name: str) -> None:
        assert refusal(outwards, OutRule(pattern="**"), topic, 1, {}, PLACE).name == name

    @pytest.mark.parametrize("text", ["a\0", "a\nb", "\x9f", "\ufffe", "\U0010ffff"])
    def test_headers_that_no_broker_takes(self, text: str) -> None:
        """For these one may end the connection, and mosquitto does."""
        rule = OutRule(pattern="**")
        for headers in ({"name": text}, {text: "value"}):
            assert refusal(outwards, rule, "a", 1, headers, PLACE).name == "header_controls"
            old = outwards(rule, "a", 1, headers, PLACE, has_properties=False)
            assert (old.payload, old.user) == (b"1", ())

    def test_what_does_not_begin_with_the_prefix(self) -> None:
        rule = InRule(filter="a/#", strip="a/")
        assert refusal(inwards, rule, Publish("a", b"1"), PLACE).name == "no_prefix"
        rule = InRule(filter="a/#", strip="a")
        assert refusal(inwards, rule, Publish("a", b"1"), PLACE).name == "no_topic"

    def test_a_message_that_was_too_large_to_keep(self) -> None:
        large = Publish("a", b"", left_out=9)
        assert refusal(inwards, InRule(filter="#"), large, PLACE).name == "too_large"


class TestWay:
    def test_each_bridge_adds_its_name(self) -> None:
        there = passed({"traceparent": "t"}, "one, two", 3)
        assert there == {"traceparent": "t", HEADER: "one%2C%20two"}
        assert passed(there, "three", 3)[HEADER] == "one%2C%20two,three"

    def test_no_message_passes_a_bridge_twice(self) -> None:
        there = passed(passed({}, "a", 9), "b", 9)
        assert refusal(passed, there, "a", 9).name == "looped"

    def test_no_message_passes_more_bridges_than_it_may(self) -> None:
        there = passed({}, "a", 1)
        assert refusal(passed, there, "b", 1).name == "too_far"


IN: dict[str, Any] = {"in": [{"filter": "a"}]}


class TestRules:
    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ({}, "nothing to bridge"),
            ({"in": [{}]}, r"a \[\[in\]\] needs a filter"),
            ({"in": [{"pattern": "a"}]}, "it has a filter, in the language of MQTT"),
            ({"in": [{"filter": "a", "colour": 1}]}, r"the rule \[\[in\]\] 'a' has no colour$"),
            ({"in": [{"filter": "a", "window": 1}]}, "options of the bridge stand above"),
            ({"in": [{"filter": "a", "token": ""}]}, "options of the bridge stand above"),
            ({"in": {"filter": "a"}}, "written as"),
            ({"in": ["a"]}, "each rule is a table"),
            ({"in": [{"filter": "a"}, {"filter": "b", "qos": 2}]}, "'b': qos is 0 or 1, not 2"),
            ({"in": [{"filter": "a", "qos": True}]}, "qos is 0 or 1"),
            ({"in": [{"filter": "a", "qos": 1.0}]}, "qos is 0 or 1, not 1.0"),
            ({"in": [{"filter": "a", "format": "xml"}]}, "one of auto, json, text, bytes"),
            ({"in": [{"filter": "a", "acks": 1}]}, "acks is True or False"),
            ({"in": [{"filter": "a", "qos": 0, "acks": True}]}, "need QoS 1"),
            ({"in": [{"filter": "a", "failed": "again"}]}, "failed needs acks"),
            ({"in": [{"filter": "a", "timeout": 0}]}, "number of seconds"),
            ({"in": [{"filter": "a/#", "strip": "b"}]}, "to strip it"),
            ({"in": [{"filter": "a", "strip": "a"}]}, "nothing is left"),
            ({"in": [{"filter": "a", "add": "__"}]}, "reserved"),
            ({"in": [{"filter": "a/#"}, {"filter": "+/b"}]}, "topics in common"),
            ({"out": [{"pattern": ""}]}, "a text that is not empty"),
            ({"out": [{"filter": "a"}]}, "it has a pattern, in the language of KPS"),
            ({"out": [{"pattern": "a/#"}]}, "'a/#': no topic of MQTT has . or #"),
            ({"out": [{"pattern": "a/**", "add": "+/"}]}, "and .. all that follow"),
            ({"out": [{"pattern": "$SYS/**"}]}, "reserved"),
            ({"out": [{"pattern": "a", "strip": "a"}]}, "nothing is left"),
            ({"out": [{"pattern": "a"}, {"pattern": "a"}]}, "the same pattern"),
            ({"out": [{"pattern": "a", "add": 1}]}, "add is a text"),
            ({**IN, "colour": 1}, "no option 'colour'"),
            ({**IN, "window": 0}, "window is a whole number"),
            ({**IN, "broker": "http://a"}, "broker is like"),
            ({**IN, "broker": "mqtt://a:b"}, "broker is like"),
            ({**IN, "broker": "mqtt://a..b"}, "broker is like"),
            ({**IN, "broker": "mqtt://a?b"}, "broker is like"),
            ({**IN, "broker": "mqtt://me:pa#ss@a"}, "# . % of a password as"),
            ({**IN, "user": 1}, "user is a text"),
            ({**IN, "user": "a\0"}, "user has at most"),
            ({**IN, "password": "p" * 65_536}, "password has at most 65535"),
            ({**IN, "password": "\udcff"}, "written in UTF-8"),
            ({**IN, "password": "p", "mqtt_version": "3.1.1"}, "no password without a user"),
            ({**IN, "mqtt_version": "4"}, "one of auto, 5, 3.1.1"),
            ({**IN, "figures_every": -1.0}, "number of seconds"),
            ({**IN, "figures_topic": "__kps/x"}, "programs may publish"),
            ({**IN, "id": ""}, "id is a text"),
            (
                {"out": [{"pattern": "a/*"}], "in": [{"filter": "a/#"}], "mqtt_version": "3.1.1"},
                "come back",
            ),
        ],
    )
    def test_what_is_refused(self, values: dict[str, Any], text: str) -> None:
        with pytest.raises(InvalidArgument, match=text):
            Settings.read(values, ["token"])

    def test_a_broker_has_topics_of_its_own(self) -> None:
        """Those with $ have no rule with a wildcard in front, and nothing goes out to them."""
        rules = {"in": [{"filter": "#"}, {"filter": "$SYS/#"}]}
        assert len(Settings.read(rules).ins) == 2
        Settings.read(
            {"mqtt_version": "3.1.1", "in": [{"filter": "$SYS/#"}], "out": [{"pattern": "**"}]}
        )

    def test_loops_are_those_of_the_brokers_topics(self) -> None:
        rules: dict[str, Any] = {"mqtt_version": "3.1.1", "in": [{"filter": "a/#"}]}
        Settings.read({**rules, "out": [{"pattern": "a/**", "strip": "a/", "add": "b/"}]})
        with pytest.raises(InvalidArgument, match="'in a/#' and 'out c/\\*\\*'"):
            Settings.read({**rules, "out": [{"pattern": "c/**", "strip": "c/", "add": "a/"}]})

    def test_the_address_of_the_broker(self) -> None:
        rules: dict[str, Any] = {"in": [{"filter": "a"}]}
        there = Settings.read({**rules, "broker": "mqtts://me:p%40ss@broker.example"})
        assert str(there.address) == "mqtts://broker.example:8883"
        assert (there.session.user, there.session.password) == ("me", "p@ss")
        assert "p@ss" not in repr(there.session)
        other = Settings.read({**rules, "broker": "mqtt://a@[::1]:1", "password": "new"})
        assert str(other.address) == "mqtt://[::1]:1"
        assert (other.session.user, other.session.password) == ("a", "new")


def test_the_books_leave_nothing_out() -> None:
    books = Books()
    account = books.account("in a")
    account.came = 5
    account.passed = 2
    account.not_passed["too_large"] = 1
    account.retries = 3
    assert books.figures() == {
        "rules": {
            "in a": {
                "came": 5,
                "passed": 2,
                "not_passed": {"too_large": 1},
                "under_way": 2,
                "retries": 3,
            }
        },
        "events": {},
    }
    assert books.in_words() == "in a: 5 came, 2 passed, 1 too_large, 2 under way"


def test_only_the_latest_payload_of_a_topic_is_known() -> None:
    latest = Latest(most=2)
    latest.note("a", b"1")
    latest.note("a", b"2")
    assert (latest.is_known("a", b"1"), latest.is_known("a", b"2")) == (False, True)
    latest.note("b", b"1")
    latest.note("c", b"1")
    assert not latest.is_known("a", b"2")  # there is no room for so many topics
