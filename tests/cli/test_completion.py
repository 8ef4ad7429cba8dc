"""The scripts of ``kps completion``, in the shells for which they are."""

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kps.cli.completing import takes_file
from kps.cli.completion import SCRIPTS
from kps.cli.registry import COMMANDS, every, load
from tests.cli.test_cli import PATIENCE, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

# A command line, and what can be in its last word.
CASES = [
    (["pres"], ["presence"]),
    (["config", ""], ["check"]),
    (["bridge", "m"], ["mqtt"]),
    (["sub", "--patt"], ["--pattern"]),
    (["sub", "pub", "--rec"], ["--reconnect"]),  # a topic that is called as a command is
    (["bridge", "mqtt", "--qo"], ["--qos"]),
    (["top", "--sort", "d"], ["dropped"]),
    (["bridge", "mqtt", "--mqtt-version", "3"], ["3.1.1"]),
    (["completion", "f"], ["fish"]),
    (["help", "conf"], ["config", "conformance"]),
    (["pub", "--tls-ca", "cert"], ["certificate of mine.pem"]),
]
IDS = [" ".join(words) for words, _ in CASES]

# What readline does when somebody types a tab.
ASK_BASH = """\
source "$1"; shift
COMP_WORDS=(kps "$@"); COMP_CWORD=$#
_kps
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts, and a file."""
    folder = tmp_path_factory.mktemp("completion")
    for shell, script in SCRIPTS.items():
        (folder / shell).write_text(script())
    (folder / "certificate of mine.pem").touch()
    return folder


def shell(name: str, *arguments: str, folder: Path) -> list[str]:
    """Run a shell; return the lines that it prints."""
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    environment = os.environ | {"HOME": str(folder)}
    done = subprocess.run(
        [name, *arguments], capture_output=True, text=True, cwd=folder, env=environment, timeout=60
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


class TestBash:
    def complete(self, folder: Path, *words: str) -> list[str]:
        return sorted(shell("bash", "-c", ASK_BASH, "bash", "./bash", *words, folder=folder))

    @pytest.mark.parametrize(("words", "expected"), CASES, ids=IDS)
    def test_candidates(self, folder: Path, words: list[str], expected: list[str]) -> None:
        assert self.complete(folder, *words) == expected

    def test_all_commands(self, folder: Path) -> None:
        firsts = {name.partition(" ")[0] for name in COMMANDS}
        assert set(self.complete(folder, "")) == {*firsts, "--help", "--version"}

    @pytest.mark.parametrize("name", COMMANDS)
    def test_all_options(self, folder: Path, name: str) -> None:
        flags = {option.flag for option in load(name).options if option.flag}
        assert set(self.complete(folder, *name.split(), "--")) == {*flags, "--help"}

    def test_a_value_behind_an_equals_sign(self, folder: Path) -> None:
        # Bash splits there.
        assert self.complete(folder, "top", "--sort", "=", "sl") == ["slow"]
        assert "name" in self.complete(folder, "top", "--sort", "=")
        assert self.complete(folder, "sub", "--tls-ca", "=", "c") == ["certificate of mine.pem"]

    def test_where_nothing_is_known(self, folder: Path) -> None:
        assert self.complete(folder, "sub", "--pattern", "") == []
        assert self.complete(folder, "nonsense", "") == []
        assert self.complete(folder, "bridge", "nonsense", "") == []

    def test_the_line_of_another_program(self, folder: Path) -> None:
        assert self.complete(folder, "reply", "t", "--", "cert") == ["certificate of mine.pem"]
        assert self.complete(folder, "reply", "t", "--", "x", "--text") == []


class TestFish:
    def complete(self, folder: Path, line: str) -> list[str]:
        ask = f"source ./fish; complete -C {line!r}"
        found = shell("fish", "--no-config", "-c", ask, folder=folder)
        return sorted(each.partition("\t")[0] for each in found)

    @pytest.mark.parametrize(("words", "expected"), CASES, ids=IDS)
    def test_candidates(self, folder: Path, words: list[str], expected: list[str]) -> None:
        assert self.complete(folder, " ".join(["kps", *words])) == expected

    @pytest.mark.parametrize("name", COMMANDS)
    def test_all_options(self, folder: Path, name: str) -> None:
        flags = {option.flag for option in load(name).options if option.flag}
        assert set(self.complete(folder, f"kps {name} --")) == {*flags, "--help"}


# Shows what the line has become, and empties it.
ASK_ZSH = """\
unsetopt zle_bracketed_paste; setopt no_beep no_list_ambiguous; autoload -Uz compinit
compinit -D -u; source ./zsh
show() { print -r -- "<$BUFFER>" >>lines; BUFFER= }; zle -N show; bindkey '^X' show
"""


def test_zsh(folder: Path) -> None:
    """It completes what is the only candidate."""
    if shutil.which("zsh") is None:
        pytest.skip("needs zsh")
    (folder / "setup").write_text(ASK_ZSH)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe("zsh", ["zsh", "-f", "-i"], os.environ | {"TERM": "dumb"})
    cases = [(words, expected[0]) for words, expected in CASES if len(expected) == 1]
    found: list[str] = []
    try:
        os.write(terminal, b". ./setup\n")
        for words, _ in cases:
            os.write(terminal, f"kps {' '.join(words)}\t\x18".encode())
        end = time.monotonic() + PATIENCE
        while len(found) < len(cases):
            if select.select([terminal], [], [], 0.05)[0]:
                os.read(terminal, 4096)  # or zsh waits
            lines = folder / "lines"
            found = lines.read_text().splitlines() if lines.exists() else []
            assert time.monotonic() < end, found
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    completed = [
        f"<kps {' '.join([*words[:-1], word.replace(' ', chr(92) + ' ')])}" for words, word in cases
    ]
    assert [line.rstrip("= >") for line in found] == completed


def test_the_command_prints_the_script() -> None:
    for name, script in SCRIPTS.items():
        result = run("completion", name)
        assert (result.returncode, result.stdout) == (0, script())
    result = run("completion", "tcsh")
    assert result.returncode == 2
    assert "SHELL: must be one of bash, zsh, fish, not 'tcsh'" in result.stderr


def test_what_takes_a_file_is_known() -> None:
    """The metavariables say so, too."""
    for command in every():
        for each in command.options:
            assert takes_file(each) or each.metavar != "FILE", each.flag
