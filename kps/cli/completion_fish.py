"""The script by which fish completes command lines."""

from collections.abc import Iterator

from kps.cli.completing import Completed, completed, takes_file, takes_value
from kps.cli.declaring import Option

_BEGIN = """\
# Completes command lines of kps in fish. Written by 'kps completion fish'.

function __kps_is --description 'Tell whether a command line begins with a command of kps'
    set -l words (commandline -opc)
    set -l last (math 1 + (count $argv))
    test (count $words) -ge $last; and test "$words[2..$last]" = "$argv"
end

function __kps_has_none --description 'Tell whether a command line has only so many words'
    test (count (commandline -opc)) -eq $argv[1]
end

complete -c kps -f
complete -c kps -n '__kps_has_none 1' -l version -d 'print the version'
complete -c kps -l help -d 'print the help'
"""


def script() -> str:
    """Return the script."""
    lines = [line for each in completed() for line in _command(each)]
    return _BEGIN + "".join(f"complete -c kps {line}\n" for line in lines)


def _command(command: Completed) -> Iterator[str]:
    first, _, second = command.name.partition(" ")
    at_start = "-n '__kps_has_none 1'"
    if second:
        yield f"{at_start} -a {first}"
        at_start = f"-n '__kps_has_none 2; and __kps_is {first}'"
    yield f"{at_start} -a {second or first} -d {_quoted(command.about)}"
    here = f"-n '__kps_is {command.name}'"
    if command.words:
        yield f"{here} -a {_quoted(' '.join(command.words))}"
    for each in command.flags:
        yield f"{here} {_option(each)}"


def _option(option: Option) -> str:
    value = ""
    if takes_file(option):
        value = " -r -F"
    elif takes_value(option):
        value = f" -x -a {_quoted(' '.join(option.choices))}" if option.choices else " -x"
    return f"-l {option.flag.removeprefix('--')}{value} -d {_quoted(option.help)}"


def _quoted(text: str) -> str:
    """Return a text as one word, as fish reads it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
