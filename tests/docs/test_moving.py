"""The programs of the pages about moving from another bus to KPS, before and after."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path

import pytest

import kps.sync
from tests.cluster.harness import Engine
from tests.mqtt.harness import PATIENCE, PROGRAM, broker
from tests.ports import kept_port

ROOT = Path(__file__).parents[2]
REDIS = shutil.which("redis-server")

Server = Callable[[Path], AbstractContextManager[int]]
"""Runs a server, which may write to a folder. Yields its port."""


@contextlib.contextmanager
def nats(folder: Path) -> Iterator[int]:
    """Run a NATS server."""
    engine = Engine()
    try:
        yield engine.port
    finally:
        engine.end()


@contextlib.contextmanager
def mqtt(folder: Path) -> Iterator[int]:
    """Run an MQTT broker."""
    with broker(folder / "broker") as one:
        yield one.port


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Run a Redis server."""
    assert REDIS is not None
    command = [REDIS, "--bind", "127.0.0.1", "--save", "", "--port"]
    port = kept_port()
    with subprocess.Popen([*command, str(port)], cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            ends = time.monotonic() + PATIENCE
            while time.monotonic() < ends:
                assert process.poll() is None, "Redis does not start"
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.01)
            yield port
        finally:
            process.terminate()


def unless(reason: str, *missing: bool) -> pytest.MarkDecorator:
    return pytest.mark.skipif(any(missing), reason=reason)


FORMER = [
    pytest.param("from-nats.md", nats, 4222, id="nats"),
    pytest.param(
        "from-mqtt.md", mqtt, 1883, id="mqtt", marks=unless("no mosquitto", PROGRAM is None)
    ),
    pytest.param(
        "from-redis.md",
        redis,
        6379,
        id="redis",
        marks=unless("no redis-server or redis-py", REDIS is None, find_spec("redis") is None),
    ),
]


def programs(page: str) -> list[tuple[str, str]]:
    """The programs of a page, the one before and the one after, with what they print."""
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```$", text, re.DOTALL | re.M)
    assert len(found) == text.count("```python") == 2
    return found


def printed_by(program: str, folder: Path) -> str:
    """Run a program in a process of its own; it must end well."""
    path = folder / "program.py"
    program = re.sub(r"\btimeout=\d+", f"timeout={PATIENCE}", program)  # this machine may be slow
    path.write_text(program, encoding="utf-8")
    command = [sys.executable, "-W", "error", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("page", "former", "usual"), FORMER)
def test_before(page: str, former: Server, usual: int, tmp_path: Path) -> None:
    [(program, output), _] = programs(page)
    assert str(usual) in program
    with former(tmp_path) as port:
        assert printed_by(program.replace(str(usual), str(port)), tmp_path) == output


@pytest.mark.parametrize("page", ["from-nats.md", "from-mqtt.md", "from-redis.md"])
def test_after(page: str, tmp_path: Path) -> None:
    [_, (program, output)] = programs(page)
    assert "localhost:9313" in program
    with kps.sync.Server("127.0.0.1:0") as server:
        code = program.replace("localhost:9313", server.address)
        assert printed_by(code, tmp_path) == output
