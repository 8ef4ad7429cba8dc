"""The commands on a terminal, in a pipe, and without one of their streams."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable

import pytest

from tests.cli.test_cli import KPS, PATIENCE, Serve, publish_until_somebody_has, run, serve
from tests.io.harness import eventually

__all__ = ["serve"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

has_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")


def subscriber(url: str, *more: str, stdout: int) -> "subprocess.Popen[str]":
    """A ``kps sub`` that is subscribed to ``t``."""
    process = subprocess.Popen(
        [*KPS, "sub", "t", "--id", "reader", "--address", url, *more],
        text=True, stdout=stdout, stderr=subprocess.PIPE,
    )  # fmt: skip
    publish_until_somebody_has("t", "--address", url, data='"ready"')
    return process


def ends(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code, and what came on standard error."""
    try:
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, errors


def test_sub_ends_with_the_reader_of_its_output(serve: Callable[..., Serve]) -> None:
    """As in ``kps sub t | head -1``; there need not be another message."""
    process = subscriber(serve("--address", "127.0.0.1:0").url, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["data"] == "ready"
    process.stdout.close()
    process.stdout = None
    assert ends(process) == (0, "")


@pytest.mark.parametrize("more", [[], ["--threads"]])
def test_a_server_goes_on_without_a_reader_of_its_output(more: list[str]) -> None:
    """A supervisor would take exit code 0 for an end that somebody wanted."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [*KPS, "serve", "--address", "127.0.0.1:0", *more],
        text=True, stdout=writer, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    assert process.stderr is not None
    said = "".join(process.stderr.readline() for _ in range(2))  # in either order
    assert "nobody reads the standard output; the server goes on" in said
    (address,) = re.findall(r"listens on (\S+)$", said, re.M)
    assert run("pub", "t", "1", "--address", address).returncode == 0
    process.terminate()
    assert ends(process)[0] == 0


@has_full
def test_a_full_disk(serve: Callable[..., Serve]) -> None:
    url = serve("--address", "127.0.0.1:0").url
    with open("/dev/full", "w") as full:
        process = subscriber(url, stdout=full.fileno())
        reason = "cannot write the output: no space left on device\n"
        assert ends(process) == (1, f"kps sub: {reason}")
        for command in (["--help"], ["token", "x"], ["serve", "--show-limits"],
                        ["serve", "--address", "127.0.0.1:0", "--log-level", "error"]):  # fmt: skip
            result = subprocess.run(
                [*KPS, *command], stdout=full, stderr=subprocess.PIPE, text=True,
                timeout=PATIENCE, check=False,
            )  # fmt: skip
            assert (result.returncode, result.stderr) == (1, f"kps: {reason}")


class Terminal:
    """A command whose standard streams are a terminal, of that many rows and columns."""

    def __init__(self, *arguments: str, size: tuple[int, int] = (24, 80)) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, size)
        self.before = termios.tcgetattr(self._master)
        """Its settings, before the command."""
        self.process = subprocess.Popen(
            [*KPS, *arguments], preexec_fn=lambda: os.login_tty(slave), close_fds=False
        )
        os.close(slave)
        self.shown = b""

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def until(self, text: bytes, start: int = 0) -> None:
        """Wait until a text is shown, behind what was shown at the start."""
        while text not in self.shown[start:]:
            assert select.select([self._master], [], [], PATIENCE)[0], self.shown[-1000:]
            self.shown += os.read(self._master, 65536)

    def settings(self) -> list[object]:
        """Return the settings of the terminal."""
        return list(termios.tcgetattr(self._master))

    def resize(self, size: tuple[int, int]) -> None:
        """Change its rows and columns, of which it tells the command."""
        termios.tcsetwinsize(self._master, size)

    def end(self) -> int:
        """Wait for the end; return the exit code. ``left`` are the settings that it has left."""
        try:
            code = self.process.wait(PATIENCE)
        finally:
            self.process.kill()
        try:
            while data := os.read(self._master, 65536):
                self.shown += data
        except OSError:  # nobody has the terminal open any more
            pass
        self.left = self.settings()
        os.close(self._master)
        return code


def test_one_ctrl_c_ends_pub_that_waits_for_a_line(serve: Callable[..., Serve]) -> None:
    url = serve("--address", "127.0.0.1:0").url
    process = subscriber(url, "--count", "2", stdout=subprocess.PIPE)
    terminal = Terminal("pub", "t", "-", "--address", url)
    terminal.type(b'"typed"\n')
    output, _ = process.communicate(timeout=PATIENCE)
    assert [json.loads(line)["data"] for line in output.splitlines()] == ["ready", "typed"]
    terminal.type(b"\x03")
    assert terminal.end() == 0
    assert b"Traceback" not in terminal.shown


def test_a_terminal_is_not_told_what_to_do(serve: Callable[..., Serve]) -> None:
    """A pipe gets the same text as it is."""
    url = serve("--address", "127.0.0.1:0").url
    evil = '"\x1b]0;title\x07\x9b31m\u202e"'.replace("\x1b", "\\u001b").replace("\x07", "\\u0007")
    process = subscriber(url, "--count", "2", stdout=subprocess.PIPE)
    terminal = Terminal("sub", "t", "--id", "other", "--count", "1", "--address", url)
    eventually(
        lambda: '"other"' in run("presence", "t", "--address", url).stdout, "both subscriptions"
    )
    assert run("pub", "t", evil, "--address", url, "--id", "\u202eme").returncode == 0
    assert terminal.end() == 0
    assert b"\\u202eme" in terminal.shown
    assert b"\\u009b31m\\u202e" in terminal.shown
    assert "\x9b".encode() not in terminal.shown
    assert "\u202e" in process.communicate(timeout=PATIENCE)[0]


def test_ctrl_c_while_the_command_is_imported() -> None:
    code = "import os, signal, sys, kps.cli.main as m\nassert 'asyncio' not in sys.modules\n"
    code += "m.start(lambda words: os.kill(os.getpid(), signal.SIGINT) or (lambda: 5), [])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_while_the_streams_are_made_ready() -> None:
    code = "import io, os, signal, sys, kps.cli.main as m\n"
    code += "class Out(io.TextIOWrapper):\n"
    code += "    def reconfigure(self, **_): os.kill(os.getpid(), signal.SIGINT)\n"
    code += "sys.stdout = Out(io.BytesIO())\nm.start(lambda words: lambda: 5, [])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("threads", [[], ["--threads"]], ids=str)
def test_closed_streams(
    closed: tuple[int, ...], threads: list[str], serve: Callable[..., Serve]
) -> None:
    """The loop ends the process when a socket gets the number of one."""

    def close() -> None:
        for number in closed:
            os.close(number)

    url = serve("--address", "127.0.0.1:0").url
    result = subprocess.run(
        [*KPS, "pub", "t", "-", "--address", url], preexec_fn=close,
        stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert result.returncode == 0
    port = url.split(":")[-1].split("/")[0]
    # It ends by itself because the port is taken, which it finds out on its loop.
    taken = subprocess.run(
        [*KPS, "serve", "--address", f"127.0.0.1:{port}", *threads], preexec_fn=close,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert taken.returncode == 1


def test_a_program_without_streams() -> None:
    """It may have closed them to become a daemon."""
    code = (
        "import os, signal, kps\n"
        "os.closerange(0, 3)\n"
        "stop = lambda server: os.kill(os.getpid(), signal.SIGTERM)\n"
        "kps.Server('127.0.0.1:0').run(ready=stop)\n"
        "os._exit(5)"
    )
    result = subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=False)
    assert result.returncode == 5


def test_pub_that_waits_for_a_line_ends_with_its_connection(serve: Callable[..., Serve]) -> None:
    server = serve("--address", "127.0.0.1:0")
    process = subprocess.Popen(
        [*KPS, "pub", "t", "-", "--ack", "--address", server.url],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write("1\n")
    process.stdin.flush()
    assert process.stderr.readline() == "kps pub: nobody answered on 't'\n"
    server.stop()
    assert process.wait(PATIENCE) == 1
    process.stdin.close()
    reason = "the client has ended: the connection ended: the server is stopping"
    assert process.stderr.read() == f"kps pub: {reason}\n"
    process.stderr.close()


def test_lines_that_cannot_be_published(serve: Callable[..., Serve]) -> None:
    """Each is told with its number; the others are published; the exit code tells."""
    url = serve("--address", "127.0.0.1:0", "--max-message", "1000").url
    process = subscriber(url, "--count", "4", stdout=subprocess.PIPE)
    lines = b'\xef\xbb\xbf"one"\ncaf\xe9\n' + b"x" * 5_000_000 + b"\n" + b"y" * 990 + b"\n[2]\r\n3"
    result = subprocess.run(
        [*KPS, "pub", "t", "-", "--address", url], input=lines, capture_output=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert re_lines(result.stderr) == [
        "kps pub: line 2: byte 4 is not UTF-8",
        "kps pub: line 3: it has more than the 1000 bytes that are accepted",
        "kps pub: line 4: the message has",
    ]
    output, _ = process.communicate(timeout=PATIENCE)
    shown = [json.loads(line)["data"] for line in output.splitlines()]
    assert shown == ["ready", "one", [2], 3]


def re_lines(errors: bytes) -> list[str]:
    """The lines, without the sizes of messages, which depend on the protocol."""
    return [line.partition(" bytes, and")[0].rstrip("0123456789 ") if "the message has" in line
            else line for line in errors.decode().splitlines()]  # fmt: skip
