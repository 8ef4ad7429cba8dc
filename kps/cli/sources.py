"""The values of a command's options: from the command line, from variables, and from a file."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from kps.cli.declaring import Command, Kind, Option
from kps.cli.line import Given, Mistake, split
from kps.cli.misspelt import WORKER, unknown_variables
from kps.cli.readers import BadValue, file, has_port, header, name, text, with_port
from kps.errors import InvalidArgument
from kps.io_common.suggestions import hint
from kps.protocol.limits import shown

_SWITCH = {"0": False, "1": True, "false": False, "true": True}
_TEXTS = (text, name, file, header)
"""Readers of what a file must have as a text; others take a number as well."""


class Strength(IntEnum):
    """Sources. A value of a stronger one counts in place of one of a weaker one."""

    FILE = 1
    VARIABLE = 2
    LINE = 3


class Place(NamedTuple):
    """Where a value is from."""

    strength: Strength
    tell: Callable[[], str]
    """Returns it in words: ``argument --path``, ``the variable KPS_PATH``, ``kps.toml, line 3``. To
    find a line takes a while."""
    key: str = ""
    """What the value is called there, if its place does not say so."""

    def fault(self, reason: object) -> str:
        """Return what is wrong with a value."""
        return f"{self.tell()}: {self.key}{': ' if self.key else ''}{reason}"


class Value(NamedTuple):
    """A value that sources give."""

    value: object
    places: tuple[Place, ...]

    @property
    def origin(self) -> str:
        """Where it is from, in words."""
        return "; ".join(dict.fromkeys(place.tell() for place in self.places))

    @property
    def strength(self) -> Strength:
        """That of the strongest source."""
        return self.places[0].strength


class Settled:
    """What the sources give for the options of a command, and what is wrong with that."""

    def __init__(self, command: Command[Any]) -> None:
        self.command = command
        self.values: dict[str, Value] = {}
        self.faults: list[str] = []
        self.unknown: list[str] = []
        """Variables that begin as ours do, and are not known."""
        self._by_name = {each.name: each for each in command.options}

    @classmethod
    def read(
        cls, command: Command[Any], words: Sequence[str], environment: Mapping[str, str]
    ) -> "Settled":
        """Read all sources. Raises :class:`Mistake` for a command line that cannot be read."""
        settled = cls(command)
        settled._read_line(split(command.options, words))
        settled._read_variables(environment)
        if (config := settled.values.get("config")) is not None:
            settled._read_file(str(config.value))
        settled._join_port()
        settled._note_unknown(environment)
        return settled

    def options(self) -> Any:
        """Return the options. Raises :class:`Mistake` if something is wrong with them."""
        if self.faults:
            raise Mistake(self.faults[0])
        for key, option in self._by_name.items():
            if option.needs and self._has(key) and not self._has(option.needs):
                raise Mistake(f"{option.flag} needs {self._by_name[option.needs].flag}")
        values = {
            key: self.values[key].value if key in self.values else option.default
            for key, option in self._by_name.items()
        }
        try:
            return self.command.make(**values)
        except InvalidArgument as error:
            raise Mistake(str(error)) from None

    def without(self, names: Collection[str]) -> "Settled":
        """Return the same without the values of some options, and of those that need them."""
        gone = set(names)
        while more := {key for key, each in self._by_name.items() if each.needs in gone} - gone:
            gone |= more
        less = Settled(self.command)
        less.values = {key: value for key, value in self.values.items() if key not in gone}
        return less

    def _has(self, name: str) -> bool:
        """Tell whether an option is given. A list in a file may be empty."""
        return name in self.values and self.values[name].value != ()

    # -- the sources, the strongest first ---------------------------------------------------

    def _read_line(self, given: Given) -> None:
        for key, texts in given.items():
            option = self._by_name[key]
            place = Place(Strength.LINE, partial(str, f"argument {option.label}"))
            self._read(option, texts, place)

    def _read_variables(self, environment: Mapping[str, str]) -> None:
        for option in self._by_name.values():
            given = environment.get(option.variable) if option.variable else None
            if given is not None and (given or not option.ignores_empty):
                place = Place(Strength.VARIABLE, partial(str, f"the variable {option.variable}"))
                texts = re.split(option.separator, given) if option.is_many else [given]
                self._read(option, texts, place)

    def _read_file(self, path: str) -> None:
        from kps.cli.toml_file import TomlFile  # most commands have none

        try:
            content = TomlFile(path)
        except Mistake as mistake:
            self.faults.append(str(mistake))
            return
        by_key = {each.key: each for each in self._by_name.values() if each.key}
        keys: dict[str, str] = {}
        for key, given in content.values.items():
            place = Place(Strength.FILE, partial(content.place, key), key)
            option = by_key.get(key.replace("-", "_"))
            other = keys.setdefault(key.replace("-", "_"), key)
            if other != key:
                self.faults.append(place.fault(f"is the same as {other}, which is there already"))
            elif option is None:
                unknown = f"there is no option {key}{hint(key, by_key)}"
                self.faults.append(place._replace(key="").fault(unknown))
            elif not option.is_many:
                self._read(option, [given], place)
            elif isinstance(given, list) and (given or option.read is not file):
                for index, each in enumerate(given):
                    self._read(
                        option, [each], place._replace(tell=partial(content.place, key, index))
                    )
            else:
                files = " that names a file" if option.read is file else ""
                self.faults.append(place.fault(f"takes a list{files}"))

    def _note_unknown(self, environment: Mapping[str, str]) -> None:
        """Note the variables that mean nothing. One that is like ours is a fault."""
        if WORKER in environment:
            return  # the parent has told
        for each in unknown_variables(self.command, environment):
            if each.meant is None:
                self.unknown.append(each.name)
            else:
                self.faults.append(str(each))

    def _read(self, option: Option, given: Sequence[object], place: Place) -> None:
        """Read the values of an option at a place; note them, or what is wrong with one."""
        try:
            found = tuple(_value(option, each) for each in given)
        except BadValue as reason:
            self.faults.append(place.fault(reason))
            return
        known = self.values.get(option.name)
        if known is None:
            self.values[option.name] = Value(found if option.is_many else found[0], (place,))
        elif isinstance(known.value, tuple) and _go_together(option, known, place):
            self.values[option.name] = Value(known.value + found, (*known.places, place))

    def _join_port(self) -> None:
        """Put a port into the address, unless the address is from a stronger source."""
        port, known = self.values.get("port"), self.values.get("address")
        if port is None or (known is not None and known.strength > port.strength):
            return
        if known is None:
            known = Value(self._by_name["address"].default, ())
        elif known.strength is port.strength and has_port(str(known.value)):
            reason = f"the address {shown(known.value)} has a port already"
            self.faults.append(f"{port.origin}: {reason}")
            return
        joined = with_port(str(known.value), int(str(port.value)))
        self.values["address"] = Value(joined, (*known.places, *port.places))


def _go_together(option: Option, known: Value, place: Place) -> bool:
    """Tell whether values at a place come behind those of an option that are known."""
    ours = {place.strength, Strength.LINE} if option.is_joined else {place.strength}
    return {each.strength for each in known.places} <= ours


def _value(option: Option, given: object) -> object:
    """Return a value as it is meant. Raises :class:`BadValue`."""
    if option.kind is Kind.SWITCH:
        found = _SWITCH.get(given) if isinstance(given, str) else given
        if not isinstance(found, bool):
            raise BadValue("takes true or false (1 or 0)")
        return found
    if isinstance(given, dict) and option.read_table is not None:
        return option.read_table(given)
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if option.read in _TEXTS:
            raise BadValue(f"must be a text{_but(option, ', not', given)}")
        given = str(given)
    if not isinstance(given, str):
        raise BadValue(f"takes one value{_but(option, ', and not', given)}")
    if option.choices and given not in option.choices:
        raise BadValue(f"must be one of {', '.join(option.choices)}, not {shown(given)}")
    return option.read(given)


def _but(option: Option, words: str, given: object) -> str:
    """Return words and a value that an option does not take; nothing if that is secret."""
    return "" if option.is_secret else f"{words} {shown(given)}"
