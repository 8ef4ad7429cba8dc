"""The command ``kps top``, on a terminal and without one."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import kps.sync
from tests.cli.test_cli import run
from tests.cli.test_terminal import Terminal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

OPENED = b"\x1b[?1049h"
CLOSED = b"\x1b[?25h\x1b[?1049l"


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0", id="hub") as server:
        yield server


def frames(shown: bytes) -> list[list[str]]:
    """The pictures that a terminal got whole, without bold letters."""
    pages = re.findall(rb"(?s)\x1b\[H(.*?)\x1b\[J", shown.rpartition(OPENED)[2])
    texts = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", page.decode()) for page in pages]
    return [text.replace("\r", "").split("\n") for text in texts]


def test_it_shows_the_server_and_leaves_the_terminal_as_it_was(server: kps.sync.Server) -> None:
    with kps.sync.Client(server.address, id="alice") as alice:
        alice.subscribe("news", lambda message: None)
        terminal = Terminal("top", "--id", "me", "--address", server.address)
        try:
            terminal.until(b"[slow]")
            assert terminal.settings() != terminal.before  # keys come one by one
            terminal.type(b"n")
            terminal.until(b"[name]")
            start = len(terminal.shown)
            terminal.type(b"\x1b[A")  # an arrow is none of the keys
            terminal.type(b"r ")
            terminal.until(b"paused; q quit", start)
            terminal.type(b" r")
            start = len(terminal.shown)
            terminal.until(b"\x1b[J", start)
            terminal.type(b"q")
            assert terminal.end() == 0
        finally:
            terminal.process.kill()
    assert terminal.shown.endswith(CLOSED)
    assert terminal.left == terminal.before
    picture = frames(terminal.shown)[0]
    assert picture[0].startswith("kps ")
    assert ", hub, up " in picture[0]
    names = [line.split()[0] for line in picture if "127.0.0.1:" in line]
    assert sorted(names) == ["alice", "me"]
    assert any(line.split()[:2] == ["news", "1"] for line in picture)
    assert {len(page) for page in frames(terminal.shown)} == {24}
    assert [line for page in frames(terminal.shown) for line in page if len(line) > 80] == []


@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM", "SIGHUP", "server"])
def test_however_it_ends(server: kps.sync.Server, how: str) -> None:
    terminal = Terminal("top", "--address", server.address)
    try:
        terminal.until(b"[slow]")
        if how == "ctrl-c":
            terminal.type(b"\x03")
        elif how == "server":
            server.stop()
        else:
            terminal.process.send_signal(getattr(signal, how))
        code = terminal.end()
    finally:
        terminal.process.kill()
    assert code == (1 if how == "server" else 0)
    assert terminal.left == terminal.before
    assert CLOSED in terminal.shown
    after = terminal.shown.rpartition(CLOSED)[2]
    reason = b"kps top: the client has ended: the connection ended: the server is stopping\r\n"
    assert after == (reason if how == "server" else b"")


def test_ctrl_z(server: kps.sync.Server) -> None:
    """The shell gets its terminal; when the command goes on, it takes it again."""
    terminal = Terminal("top", "--address", server.address)
    try:
        terminal.until(b"[slow]")
        terminal.type(b"\x1a")
        pid, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        terminal.until(CLOSED)
        assert terminal.settings() == terminal.before
        start = len(terminal.shown)
        os.kill(pid, signal.SIGCONT)
        terminal.until(OPENED, start)
        terminal.until(b"[slow]", start)
        terminal.type(b"q")
        assert terminal.end() == 0
    finally:
        terminal.process.kill()
    assert terminal.left == terminal.before


def test_a_window_of_another_size(server: kps.sync.Server) -> None:
    terminal = Terminal("top", "--address", server.address)
    try:
        terminal.until(b"[slow]")
        terminal.resize((12, 50))
        while [len(page) for page in frames(terminal.shown)[-1:]] != [12]:
            terminal.until(b"\x1b[J", len(terminal.shown))
        terminal.type(b"q")
        assert terminal.end() == 0
    finally:
        terminal.process.kill()
    assert max(map(len, frames(terminal.shown)[-1])) <= 50


def test_without_a_terminal(server: kps.sync.Server) -> None:
    with kps.sync.Client(server.address, id="alice"):
        for options in ([], ["--once"]):
            result = run("top", *options, "--address", server.address)
            assert (result.returncode, result.stderr) == (0, "")
            assert "\x1b" not in result.stdout
            assert "quit" not in result.stdout
            assert re.search(r"^  alice +127\.0\.0\.1:\d+ ", result.stdout, re.M)
            # What this client gets itself is one message in a second, whatever the time.
            assert re.search(r"^  __kps/stats +1 ", result.stdout, re.M)


def test_who_may_not_see_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.touch(0o600)
    token = "a-token-of-thirty-two-characters"
    file.write_text(f'[me]\ntoken = "{token}"\nsubscribe = ["**"]\n')
    with kps.sync.Server("127.0.0.1:0", auth=kps.TokenFile(file)) as server:
        result = run("top", "--address", server.address, KPS_TOKEN=token)
    assert result.returncode == 1
    assert result.stderr.startswith("kps top: cannot see the figures: this client may not ")
    assert result.stderr.endswith("; an identity needs the permission console\n")


def test_a_server_that_tells_none() -> None:
    with kps.sync.Server("127.0.0.1:0", console=False) as server:
        result = run("top", "--once", "--address", server.address)
    assert result.returncode == 1
    reason = "the server tells no figures: it runs without its console, or is too busy"
    assert result.stderr == f"kps top: {reason}\n"


def test_the_first_of_more_clients_than_the_server_lists(
    server: kps.sync.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kps.protocol.server.monitor.MOST", 2)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(kps.sync.Client(server.address, id=f"c{number}"))
            for number in range(4)
        ]
        for topic in "xyz":
            clients[3].subscribe(topic, lambda message: None)

        def names(sort: str) -> list[str]:
            shown = run("top", "--once", "--id", "me", "--sort", sort, "--address", server.address)
            return re.findall(r"^  (\w+) +127\.", shown.stdout, re.M)

        assert names("topics") == ["c3", "me"]
        assert names("name") == ["c0", "c1"]
