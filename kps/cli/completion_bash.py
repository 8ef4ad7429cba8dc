"""The script by which bash completes command lines."""

from collections.abc import Iterator

from kps.cli.completing import HELP, Completed, completed, quoted, takes_file, takes_value
from kps.cli.registry import FIRST_WORDS, pairs

# Bash takes '--name=VALUE' for three words, and its release 3.2 has no compopt.
_BEGIN = """\
# Completes command lines of kps in bash. Written by 'kps completion bash'.

_kps() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local name=${COMP_WORDS[1]} place=2 flags= files= values= words= each
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W %(first)s -- "$word"))
        return
    fi
    case $name in
%(pairs)s
    esac
    if ((COMP_CWORD < place)); then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
        return
    fi
    words=
    case $name in
"""
_END = """\
    esac
    # Behind '--' is the command line of another program.
    for each in "${COMP_WORDS[@]:place:COMP_CWORD-place}"; do
        if [[ $each == -- ]]; then
            before= files=' ' flags=
            break
        fi
    done
    case "$name $before" in
%(choices)s
    *)
        if [[ " $files " == *" $before "* || ( -z $before && -n $files ) ]]; then
            local IFS=$'\\n'
            COMPREPLY=($(compgen -f -- "$word"))
            compopt -o filenames 2>/dev/null
            return
        elif [[ " $values " == *" $before "* ]]; then
            return
        elif [[ $word == -* ]]; then
            words="$flags"
        fi
        ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}

complete -F _kps kps
"""


def script() -> str:
    """Return the script."""
    commands = list(completed())
    two = [
        f"    {first})\n        words={quoted(' '.join(seconds))} place=3\n"
        '        name="$name ${COMP_WORDS[2]}"\n        ;;'
        for first, seconds in pairs().items()
    ]
    first = quoted(" ".join([*FIRST_WORDS, HELP, "--version"]))
    choices = [line for each in commands for line in _choices(each)]
    return (
        _BEGIN % {"first": first, "pairs": "\n".join(two)}
        + "".join(map(_command, commands))
        + _END % {"choices": "\n".join(choices)}
    )


def _command(command: Completed) -> str:
    lists = {
        "flags": [HELP, *(each.flag for each in command.flags)],
        "files": [each.flag for each in command.flags if takes_file(each)],
        "values": [
            each.flag for each in command.flags if takes_value(each) and not takes_file(each)
        ],
        "words": command.words,
    }
    lines = [f"        {name}={quoted(' '.join(words))}\n" for name, words in lists.items()]
    return f"    {quoted(command.name)})\n{''.join(lines)}        ;;\n"


def _choices(command: Completed) -> Iterator[str]:
    for each in command.flags:
        if each.choices:
            yield (
                f"    {quoted(f'{command.name} {each.flag}')}) "
                f"words={quoted(' '.join(each.choices))} ;;"
            )
