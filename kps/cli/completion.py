"""The command ``kps completion``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from kps.cli import completion_bash, completion_fish, completion_zsh, readers
from kps.cli.declaring import Command, argument

SCRIPTS: Final[Mapping[str, Callable[[], str]]] = {
    "bash": completion_bash.script,
    "zsh": completion_zsh.script,
    "fish": completion_fish.script,
}


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """What ``kps completion`` takes."""

    shell: str = argument("SHELL", " or ".join(SCRIPTS), read=readers.text, choices=tuple(SCRIPTS))


def completion(options: CompletionOptions) -> int:
    """Print what makes a shell complete command lines of ``kps``."""
    print(SCRIPTS[options.shell](), end="")
    return 0


COMMAND = Command(
    "kps completion",
    CompletionOptions,
    completion,
    about=[
        "The script knows commands, options, the values that an option may have, and which take "
        "files. It runs nothing of KPS, so it is as fast as the shell; after an update, make it "
        "again."
    ],
    examples=[
        ("source <(kps completion bash)", "now; in ~/.bashrc: always"),
        ("source <(kps completion zsh)", "in ~/.zshrc, behind compinit"),
        ("kps completion fish > ~/.config/fish/completions/kps.fish", "for fish"),
    ],
)
