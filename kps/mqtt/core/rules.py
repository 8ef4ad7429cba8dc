"""The rules of a bridge: what passes in which direction, and how."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

from kps.errors import InvalidArgument
from kps.mqtt.core.filters import (
    check_filter,
    filters_meet,
    literal,
    matches,
    may_meet,
    patterns,
)
from kps.mqtt.core.payloads import Format
from kps.protocol.limits import check_seconds, check_switch, shown
from kps.protocol.patterns import HIDDEN, Pattern, Scope


class Retained(StrEnum):
    """Which retained messages pass."""

    ONCE = "once"
    """When the subscription is new; not again what the bus has had last of a topic."""
    ALWAYS = "always"
    """All of them, at each connection."""
    NEVER = "never"
    """None."""


class Choice(StrEnum):
    """What becomes of a message with QoS 1 that no subscriber of the bus has taken."""

    TAKE = "take"
    """It counts as passed."""
    REFUSE = "refuse"
    """It does not pass; a broker of MQTT 5 is told."""
    AGAIN = "again"
    """The bus is given it again, each second; what came behind it is not acknowledged before it."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What both directions have."""

    qos: int = 1
    """0: at most once. 1: at least once."""
    format: Format = Format.AUTO
    strip: str = ""
    """What topics begin with and lose."""
    add: str = ""
    """What topics then get in front."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(each.type, type) and issubclass(each.type, StrEnum):
                if value not in list(each.type):
                    choices = ", ".join(each.type)
                    raise InvalidArgument(f"{each.name} is one of {choices}, not {shown(value)}")
                object.__setattr__(self, each.name, each.type(value))
            elif each.type is str and not isinstance(value, str):
                raise InvalidArgument(f"{each.name} is a text, not {shown(value)}")
            elif each.type is bool:
                check_switch(each.name, value)
        if type(self.qos) is not int or self.qos not in (0, 1):
            raise InvalidArgument(f"qos is 0 or 1, not {shown(self.qos)}")

    @property
    def name(self) -> str:
        """What it is called in the books."""
        raise NotImplementedError

    def renamed(self, topic: str) -> str | None:
        """Return the topic on the other side; ``None`` if it does not begin with ``strip``."""
        if not topic.startswith(self.strip):
            return None
        return self.add + topic[len(self.strip) :]


@dataclass(frozen=True, kw_only=True)
class InRule(Rule):
    """From the broker to the bus."""

    filter: str
    """Which topics, as MQTT has it."""
    retained: Retained = Retained.ONCE
    acks: bool = False
    """With QoS 1: whether the subscribers of the bus must acknowledge a message."""
    timeout: float = 10.0
    """Seconds that they have for that."""
    nobody: Choice = Choice.TAKE
    """What becomes of a message with QoS 1 that has no subscriber."""
    failed: Choice = Choice.REFUSE
    """What becomes of a message that some subscriber has not acknowledged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_filter(self.filter)
        check_seconds("timeout", self.timeout)
        _check_strip(self.strip, literal(self.filter, "+#"), self.filter)
        _check_begin(self.add + self.filter[len(self.strip) :], (HIDDEN,))
        if self.qos == 0 and (self.acks or self.nobody is not Choice.TAKE):
            raise InvalidArgument("acks and nobody need QoS 1")
        if self.failed is not Choice.REFUSE and not self.acks:
            raise InvalidArgument("failed needs acks = true: else no subscriber is asked")

    @property
    def name(self) -> str:
        """What it is called in the books."""
        return f"in {self.filter}"

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """Patterns of the broker's topics."""
        return patterns(self.filter)

    def has(self, topic: str) -> bool:
        """Tell whether the broker's topic is one of this rule."""
        return matches(self.filter, topic)


@dataclass(frozen=True, kw_only=True)
class OutRule(Rule):
    """From the bus to the broker."""

    pattern: str
    """Which topics, as KPS has it; without a star it is one topic."""
    retain: bool = False
    """Whether the broker retains the messages."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.pattern, str) or not self.pattern:
            raise InvalidArgument(
                f"a pattern is a text that is not empty, not {shown(self.pattern)}"
            )
        _check_strip(self.strip, literal(self.pattern, "*"), self.pattern)
        target = self.add + self.pattern[len(self.strip) :]
        _check_begin(target, ("$", HIDDEN))
        if "+" in target or "#" in target:
            raise InvalidArgument(
                f"no topic of MQTT has + or #, unlike {shown(target)}; "
                "in a pattern of KPS * is a level, and ** all that follow"
            )

    @property
    def name(self) -> str:
        """What it is called in the books."""
        return f"out {self.pattern}"

    @cached_property
    def scope(self) -> Scope:
        """What to subscribe to."""
        return Pattern(self.pattern) if "*" in self.pattern else self.pattern

    @property
    def target(self) -> Pattern:
        """A pattern of the broker's topics."""
        return Pattern(self.add + self.pattern[len(self.strip) :])


def _check_strip(strip: str, begin: str, source: str) -> None:
    if not begin.startswith(strip):
        raise InvalidArgument(f"not all topics of {source!r} begin with {strip!r}, to strip it")


def _check_begin(target: str, reserved: tuple[str, ...]) -> None:
    """Refuse a rule of which no topic could pass."""
    if not target:
        raise InvalidArgument("nothing is left of its topic")
    if target.startswith(reserved):
        raise InvalidArgument(f"nothing passes to topics like {shown(target)}: they are reserved")


AnyRule = TypeVar("AnyRule", InRule, OutRule)


def read_rule(kind: type[AnyRule], table: object, options: Collection[str] = ()) -> AnyRule:
    """Read a rule from a table of a TOML file. Raises :class:`kps.InvalidArgument`.

    ``options`` are those of the bridge, which do not belong into a rule.
    """
    word, source, other = "in", "filter", "pattern"
    if kind is OutRule:
        word, source, other = "out", "pattern", "filter"
    if not isinstance(table, Mapping):
        raise InvalidArgument(f"each rule is a table [[{word}]], not {shown(table)}")
    values: dict[str, Any] = dict(table)
    rule = f"the rule [[{word}]] {shown(values[source])}" if source in values else f"a [[{word}]]"
    for name in sorted(values.keys() - {each.name for each in fields(kind)}):
        hint = ""
        if name == other:
            hint = f": it has a {source}, in the language of {'KPS' if kind is OutRule else 'MQTT'}"
        elif name in options:
            hint = ": options of the bridge stand above all rules"
        raise InvalidArgument(f"{rule} has no {name}{hint}")
    if source not in values:
        raise InvalidArgument(f"{rule} needs a {source}")
    try:
        return kind(**values)
    except InvalidArgument as error:
        raise InvalidArgument(f"{rule}: {error}") from None


def check_together(ins: tuple[InRule, ...], outs: tuple[OutRule, ...]) -> None:
    """Refuse rules that cannot be told apart. Raises :class:`kps.InvalidArgument`."""
    if not ins and not outs:
        raise InvalidArgument("there is nothing to bridge: name rules, such as --in 'sensors/#'")
    for number, one in enumerate(ins):
        for other in ins[:number]:
            if filters_meet(one.filter, other.filter):
                text = f"the rules {other.name!r} and {one.name!r} have topics in common"
                raise InvalidArgument(f"{text}: a message from the broker has one rule")
    names = [rule.name for rule in outs]
    if len(set(names)) < len(names):
        raise InvalidArgument("two rules have the same pattern")


def loop_among(ins: tuple[InRule, ...], outs: tuple[OutRule, ...]) -> str:
    """Return two rules by which a message could come back from the broker; ``""``: there are none.

    A broker of MQTT 5 does not send back what it got from us; one of MQTT 3.1.1 does.
    """
    for one in ins:
        if one.filter.startswith("$"):
            continue  # nothing goes out there
        for other in outs:
            if any(may_meet(pattern, other.target) for pattern in one.patterns):
                return f"{one.name!r} and {other.name!r}"
    return ""
