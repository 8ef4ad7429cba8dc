"""The tutorial's chat, step by step, as its reader builds it."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest

from tests.docs.blocks import ROOT, blocks_of

_BLOCKS = blocks_of(ROOT / "docs" / "tutorial.md")
_CODE = [block.code for block in _BLOCKS if block.language == "python"]
(_TOKENS,) = (block.code for block in _BLOCKS if block.language == "toml")
_PLAIN, _ASKS, _WITH_PAST, _WHO, _WITH_PRESENCE, _WITH_TOKEN = _CODE
_SUBSCRIBES = '    client.subscribe("chat/lobby", show)\n'
_CONNECTS = 'with kps.sync.Client("localhost:9313", id=name) as client:\n'

WITH_ACKS = _PLAIN.replace('        client.publish("chat/lobby", line.strip())\n', _ASKS)
WITH_PAST = WITH_ACKS.replace(_SUBSCRIBES, _WITH_PAST)
WITH_PRESENCE = WITH_ACKS.replace(_SUBSCRIBES, _WITH_PRESENCE).replace(
    "\n\nwith ", f"\n\n{_WHO}\n\nwith "
)
WITH_TOKENS = WITH_PRESENCE.replace(_CONNECTS, _WITH_TOKEN)


class Person:
    """A process, what it says, and what one types into it."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said = Queue[str]()
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()

    def types(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def reads(self, wanted: str) -> str:
        """Wait for a line; return it."""
        said: list[str] = []
        while wanted not in (line := self._said.get(timeout=60)):
            assert line, f"it said only {said}"
            said.append(line)
        return line

    def leaves(self) -> None:
        """End its input, as Ctrl-D does."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line)
        self._said.put("")  # the end


Start = Callable[..., Person]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def started(*command: str) -> Person:
            person = Person(*command)
            stack.enter_context(person.process)
            stack.callback(person.reader.join)  # which must not read what is closed
            stack.callback(person.process.kill)
            return person

        yield started


def _serve(start: Start, *options: str) -> str:
    line = start("-m", "kps", "serve", "--address", "127.0.0.1:0", *options).reads("serves on")
    found = re.search(r"//([^/]+)/", line)
    assert found
    return found[1]


def _program(folder: Path, code: str, address: str) -> str:
    path = folder / "chat.py"
    code = code.replace("localhost:9313", address)
    code = re.sub(r"\btimeout=2\b", "timeout=60", code)  # for an answer: this machine may be slow
    path.write_text(code, encoding="utf-8")
    return str(path)


def test_each_change_is_one_of_the_program_before() -> None:
    programs = (_PLAIN, WITH_ACKS, WITH_PAST, WITH_PRESENCE, WITH_TOKENS)
    assert len(set(programs)) == 5


def test_saying_something(start: Start, tmp_path: Path) -> None:
    chat = _program(tmp_path, _PLAIN, _serve(start))
    bob = start(chat, "bob")
    bob.types("is it on?")
    bob.reads("bob: is it on?")
    alice = start(chat, "alice")
    alice.types("hello")
    alice.reads("alice: hello")
    bob.reads("alice: hello")
    alice.leaves()


def test_who_has_seen_it_and_what_was_said_before(start: Start, tmp_path: Path) -> None:
    chat = _program(tmp_path, WITH_PAST, _serve(start, "--history", "chat/**=100"))
    bob = start(chat, "bob")
    bob.types("the first line")
    bob.reads("bob: the first line")
    alice = start(chat, "alice")
    alice.reads("bob: the first line")
    alice.types("hello")
    alice.reads("  seen by bob")


def test_who_is_there(start: Start, tmp_path: Path) -> None:
    chat = _program(tmp_path, WITH_PRESENCE, _serve(start, "--history", "chat/**=100"))
    bob = start(chat, "bob")
    bob.reads("* bob is here")
    alice = start(chat, "alice")
    bob.reads("* alice is here")
    alice.leaves()
    bob.reads("* alice has left (closed)")


def test_names_that_nobody_can_take(start: Start, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        re.sub(r"(?<=\[)(\w+)(\]\ntoken = )\S+", r'\1\2"\1-token-of-the-test"', _TOKENS)
    )
    tokens.chmod(0o600)
    chat = _program(tmp_path, WITH_TOKENS, _serve(start, "--tokens", str(tokens)))
    alice = start(chat, "alice", "alice-token-of-the-test")
    alice.types("hello")
    alice.reads("alice: hello")
    thief = start(chat, "bob", "alice-token-of-the-test")
    assert "may not use this id" in thief.reads("ServerError")
