"""Splits a command line by the table of a command."""

import re
from collections.abc import Mapping, Sequence

from kps.cli.declaring import Kind, Option
from kps.protocol.limits import shown


class Mistake(Exception):
    """An invalid command line, variable or file; the text says what is wrong with it."""


class UnknownOption(Mistake):
    """A command line has an option that the command does not know."""

    def __init__(self, flag: str) -> None:
        super().__init__(f"there is no option {flag}")
        self.flag = flag


_NUMBER = re.compile(r"-\d*\.?\d+([eE][-+]?\d+)?", re.ASCII)

Given = Mapping[str, Sequence[str]]
"""The texts that a command line has, by the names of options. A switch has ``1``."""


def asks_for_help(words: Sequence[str]) -> bool:
    """Tell whether a command line asks for the help, before ``--``."""
    ours = words[: words.index("--")] if "--" in words else words
    return "-h" in ours or "--help" in ours


def split(options: Sequence[Option], words: Sequence[str]) -> Given:
    """Return what a command line gives. Raises :class:`Mistake`."""
    line = _Line(options)
    left = list(reversed(words))
    while left:
        word = left.pop()
        if word == "--":
            line.take_rest(left[::-1])
            break
        if word.startswith("-") and word != "-" and not _NUMBER.fullmatch(word):
            flag, equals, value = word.partition("=")
            option = line.option(flag)
            if option.kind is Kind.SWITCH:
                if equals:
                    raise Mistake(f"argument {flag}: takes no value")
                value = "1"
            elif not equals:
                if not left or left[-1] == "--" or left[-1].partition("=")[0] in line.flags:
                    raise Mistake(f"argument {flag}: expected one argument")
                value = left.pop()
            line.note(option, value)
        else:
            line.places.append(word)
    line.assign()
    return line.given


class _Line:
    """What has been found on a command line."""

    def __init__(self, options: Sequence[Option]) -> None:
        self.flags = {each.flag: each for each in options if each.flag}
        self.places: list[str] = []
        self.given: dict[str, list[str]] = {}
        self._arguments = [each for each in options if each.kind is Kind.ARGUMENT]
        self._rest = next((each for each in options if each.kind is Kind.REST), None)

    def option(self, flag: str) -> Option:
        """Return the option of a flag."""
        if flag not in self.flags:
            raise UnknownOption(flag)
        return self.flags[flag]

    def note(self, option: Option, value: str) -> None:
        """Note a value of an option. Of one that takes a single value, the last one counts."""
        if not option.is_many:
            self.given[option.name] = [value]
        else:
            self.given.setdefault(option.name, []).append(value)

    def take_rest(self, words: list[str]) -> None:
        """Note what follows ``--``."""
        if self._rest is None:
            self.places += words
        else:
            self.given[self._rest.name] = words

    def assign(self) -> None:
        """Give the values without flags to the options whose places they have."""
        left = list(reversed(self.places))
        for each in self._arguments:
            while left:
                self.note(each, left.pop())
                if not each.is_many:
                    break
        missing = [
            each.metavar
            for each in self._arguments
            if each.is_needed and each.name not in self.given
        ]
        if missing:
            raise Mistake(f"the following arguments are required: {', '.join(missing)}")
        if left:
            words = left[::-1]
            text = f"there are too many arguments: {' '.join(map(shown, words))}"
            raise Mistake(text + self._meant(words[0]))

    def _meant(self, word: str) -> str:
        """Return what to say about a word that is too many."""
        if self._rest is not None:
            return f"; {self._rest.metavar.partition(' ')[0]} stands behind --"
        if self._arguments:
            return "; quotes make one argument of several words"
        if "--config" in self.flags and word.endswith((".toml", ".conf")):
            return f"; did you mean --config {word}?"
        if word.isdecimal() and "--port" in self.flags:
            return f"; did you mean --port {word}?"
        if "--address" in self.flags and re.fullmatch(r"[^ /]*:\d+|\w+://\S+", word):
            return f"; did you mean --address {word}?"
        return ""
