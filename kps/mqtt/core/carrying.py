"""A message of one side as a message of the other."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from kps.mqtt.core.fields import LONGEST_TEXT
from kps.mqtt.core.packets import Publish
from kps.mqtt.core.path import headers_of, passed
from kps.mqtt.core.payloads import from_mqtt, to_mqtt
from kps.mqtt.core.reasons import BAD_TOPIC, TOO_LARGE
from kps.mqtt.core.refusal import Refusal
from kps.mqtt.core.rules import InRule, OutRule
from kps.protocol.bus.given import has_controls
from kps.protocol.patterns import HIDDEN

# Controls and noncharacters, in a topic or a user property: MQTT lets a broker end the connection
# for them, and mosquitto does. Surrogates are not even UTF-8.
_PLANES = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_UNFIT = re.compile(f"[\\0-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_PLANES}]")


class Place(NamedTuple):
    """Where a message passes."""

    bridge: str
    """The bridge's name, which no other one has."""
    max_topic: int
    """Characters of a topic that the bus takes."""
    max_bridges: int
    """Bridges that a message may pass."""


class Inward(NamedTuple):
    """A message for the bus."""

    topic: str
    data: Any
    headers: dict[str, str]


def inwards(rule: InRule, message: Publish, place: Place) -> Inward:
    """Return a message of the broker as one of the bus. Raises :class:`Refusal`."""
    topic = _renamed(rule, message.topic)
    _check_for_bus(topic, place.max_topic)
    if message.left_out:
        raise Refusal("too_large", f"it has {message.left_out} bytes", TOO_LARGE)
    headers = passed(headers_of(message.user), place.bridge, place.max_bridges)
    return Inward(topic, from_mqtt(message.payload, rule.format), headers)


def outwards(
    rule: OutRule,
    topic: str,
    data: Any,
    headers: Mapping[str, str],
    place: Place,
    *,
    has_properties: bool = True,
) -> Publish:
    """Return a message of the bus as one of the broker. Raises :class:`Refusal`.

    Without ``has_properties``, as in MQTT 3.1.1, headers do not pass.
    """
    target = _renamed(rule, topic)
    _check_for_broker(target)
    user = tuple(passed(headers, place.bridge, place.max_bridges).items())
    user = user if has_properties else ()
    if any(_UNFIT.search(part) for pair in user for part in pair):
        raise Refusal("header_controls", "a header has control characters or noncharacters")
    if any(len(part.encode()) > LONGEST_TEXT for pair in user for part in pair):
        raise Refusal("too_large", "a header is longer than MQTT allows")
    payload = to_mqtt(data, rule.format, retain=rule.retain)
    return Publish(target, payload, rule.qos, rule.retain, user=user)


def _renamed(rule: InRule | OutRule, topic: str) -> str:
    name = rule.renamed(topic)
    if name is None:
        raise Refusal("no_prefix", f"the topic does not begin with {rule.strip!r}", BAD_TOPIC)
    if not name:
        raise Refusal("no_topic", "nothing is left of the topic", BAD_TOPIC)
    return name


def _check_for_bus(topic: str, most: int) -> None:
    if len(topic) > most:
        raise Refusal("topic_long", f"the topic has more than {most} characters", BAD_TOPIC)
    if has_controls(topic):
        raise Refusal("topic_controls", "the topic has control characters", BAD_TOPIC)
    if topic.startswith(HIDDEN):
        raise Refusal("reserved", f"the bus keeps topics with {HIDDEN} for itself", BAD_TOPIC)


def _check_for_broker(topic: str) -> None:
    if "+" in topic or "#" in topic:
        raise Refusal("wildcard", "a topic of MQTT has no + and no #")
    if topic.startswith("$"):
        raise Refusal("reserved", "the broker keeps topics with $ for itself")
    if topic.startswith(HIDDEN):
        raise Refusal("reserved", f"the bus keeps topics with {HIDDEN} for itself")
    if _UNFIT.search(topic):
        raise Refusal("topic_controls", "the topic has control characters or noncharacters")
    if len(topic.encode()) > LONGEST_TEXT:
        raise Refusal("topic_long", f"the topic has more than {LONGEST_TEXT} bytes")
