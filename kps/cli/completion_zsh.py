"""The script by which zsh completes command lines."""

from kps.cli.completing import Completed, completed, quoted, takes_file, takes_value
from kps.cli.declaring import Kind, Option
from kps.cli.registry import COMMANDS, FIRST_WORDS, pairs

_SCRIPT = """\
#compdef kps
# Completes command lines of kps in zsh. Written by 'kps completion zsh'.

_kps() {
    local name=$words[2]
    local -a found
    if ((CURRENT == 2)); then
        found=(
%(first)s
        )
        _describe command found
        _arguments '--help[print the commands]' '--version[print the version]'
        return
    fi
    case $name in
%(pairs)s
    esac
    shift words
    ((CURRENT -= 1))
    case $name in
%(commands)s
    esac
}

if [[ $funcstack[1] == _kps ]]; then
    _kps "$@"
else
    compdef _kps kps
fi
"""
_PAIR = """\
    {first})
        if ((CURRENT == 3)); then
            compadd {seconds}
            return
        fi
        name="$name $words[3]"
        shift words
        ((CURRENT -= 1))
        ;;"""


def script() -> str:
    """Return the script."""
    seconds = pairs()
    about = {
        first: COMMANDS[first][1] if first in COMMANDS else f"{first} {' or '.join(seconds[first])}"
        for first in FIRST_WORDS
    }
    first = [f"            {quoted(f'{_plain(name)}:{text}')}" for name, text in about.items()]
    two = [_PAIR.format(first=one, seconds=" ".join(words)) for one, words in seconds.items()]
    return _SCRIPT % {
        "first": "\n".join(first),
        "pairs": "\n".join(two),
        "commands": "\n".join(map(_command, completed())),
    }


def _command(command: Completed) -> str:
    specs = ["--help[print the help]", *map(_spec, command.flags)]
    for each in command.places:
        many = "*" if each.is_many else ""
        # Nothing in brackets says less than nothing, which would hide the options.
        action = "_files" if each.kind is Kind.REST else f"({' '.join(command.words)})"
        specs.append(f"{many}:{_plain(each.metavar)}:{action}")
    lines = "".join(f" \\\n            {quoted(spec)}" for spec in specs)
    return f"    {quoted(command.name)})\n        _arguments{lines}\n        ;;"


def _spec(option: Option) -> str:
    """Return how ``_arguments`` is told of an option."""
    start = f"{'*' if option.is_many else ''}{option.flag}"
    about = f"[{_plain(option.help)}]"
    if not takes_value(option):
        return f"{start}{about}"
    values = "_files" if takes_file(option) else " "
    if option.choices:
        values = f"({' '.join(option.choices)})"
    return f"{start}={about}:{_plain(option.metavar)}:{values}"


def _plain(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text
