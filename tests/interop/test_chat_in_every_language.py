"""The same chat, written in every language, in one room."""

import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO
from urllib.parse import quote

import pytest

import kps.sync

ROOT = Path(__file__).parents[2]
RUST = ROOT / "clients" / "rust" / "target"
PATIENCE = 60.0
LINE = 'I say "héllo", with a backslash: \\'


def commands(folder: Path) -> dict[str, list[str] | None]:
    """How the chat of each language is started; ``None`` if that cannot be done here."""
    node, go = shutil.which("node"), shutil.which("go")
    socket = ROOT / "clients" / "js" / "node_modules" / "ws" / "wrapper.mjs"
    lend = f"import WebSocket from {socket.as_uri()!r}; globalThis.WebSocket ??= WebSocket;"
    found: dict[str, list[str] | None] = {
        "python": [sys.executable, str(ROOT / "examples" / "chat.py")],
        "javascript": None,
        "go": None,
    }
    if node and socket.exists():
        lends = f"data:text/javascript,{quote(lend)}"
        found["javascript"] = [node, "--import", lends, str(ROOT / "examples" / "chat.mjs")]
    if go:
        program = folder / "chat"
        build = [go, "build", "-o", str(program), "./examples/chat"]
        subprocess.run(build, cwd=ROOT / "clients" / "go", check=True)
        found["go"] = [str(program)]
    for language, place in {
        "rust": RUST / "debug" / "examples" / "chat",
        "c": RUST / "programs" / "chat_c",
        "c++": RUST / "programs" / "chat_cpp",
    }.items():
        found[language] = [str(place)] if place.exists() else None
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str] | None]:
    return commands(tmp_path_factory.mktemp("chat"))


class Chat:
    """A chat program that runs."""

    def __init__(self, command: list[str], name: str, address: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [*command, name, address, "room"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._lines: queue.Queue[str] = queue.Queue()
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=[self.process.stdout])
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._lines.put(line.rstrip("\n"))

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hears(self) -> str:
        try:
            return self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"{self.name} says nothing") from None

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0, self.name

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.mark.parametrize("language", ["python", "javascript", "go", "rust", "c", "c++"])
def test_is_here(programs: dict[str, list[str] | None], language: str) -> None:
    if programs[language] is None:
        pytest.skip(f"the chat in {language} is not built, or its tools are not here")


def test_all_talk_with_each_other(programs: dict[str, list[str] | None]) -> None:
    chats: list[Chat] = []
    with kps.sync.Server("127.0.0.1:0") as server:
        try:
            for language, command in programs.items():
                if command is not None:
                    chats.append(Chat(command, language, server.address))
            names = sorted(chat.name for chat in chats)
            for chat in chats:
                assert chat.hears() == f"you are {chat.name} in room"
            for chat in chats:
                chat.say(LINE)
                others = [name for name in names if name != chat.name]
                assert chat.hears() == f"  seen by {', '.join(others) or 'nobody'}"
                for other in chats:
                    if other is not chat:
                        assert other.hears() == f"{chat.name}: {LINE}", other.name
            for chat in chats:
                chat.leave()
        finally:
            for chat in chats:
                chat.end()
