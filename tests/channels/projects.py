"""The programs of a Django project with a chat, each in a process of its own, and its users."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.channels.harness import PATIENCE

SERVERS = {
    "runserver": ("manage.py", "runserver", "127.0.0.1:0"),  # which starts a process of its own
    "daphne": ("-m", "daphne", "-e", "tcp:0:interface=127.0.0.1", "chatsite.asgi:application"),
    "uvicorn": ("-m", "uvicorn", "--port", "0", "chatsite.asgi:application"),
}
LISTENS = re.compile(r"Listening on TCP address 127.0.0.1:(\d+)|running on http://127.0.0.1:(\d+)")

Start = Callable[..., "subprocess.Popen[str]"]
"""Starts Python with some arguments."""


@contextmanager
def programs(project: Path, **environment: str) -> Iterator[Start]:
    """Give what starts programs of a project. They end with the block."""
    with ExitStack() as stack:

        def start(*arguments: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=project,
                start_new_session=True,
                env={
                    **os.environ,
                    **environment,
                    "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(project)]),
                },
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.communicate, timeout=PATIENCE)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            return process

        yield start


def listen(start: Start, name: str) -> str:
    """Start a web server, and return ``host:port``."""
    process = start(*SERVERS[name])
    assert process.stderr is not None
    lines = []
    impatient = threading.Timer(2 * PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
    impatient.start()
    try:
        for line in process.stderr:
            lines.append(line)
            if found := LISTENS.search(line):
                return f"127.0.0.1:{found[1] or found[2]}"
    finally:
        impatient.cancel()
    raise AssertionError("".join(lines))


def enter(host: str, path: str) -> ClientConnection:
    """Connect to a consumer, as a page of the site."""
    origin = Origin(f"http://{host}")
    return connect(f"ws://{host}/ws/{path}", origin=origin, open_timeout=PATIENCE)


def say(socket: ClientConnection, text: str) -> None:
    """Say something in a room."""
    socket.send(json.dumps({"text": text}))


def hear(socket: ClientConnection) -> Any:
    """Return the next message of a consumer."""
    return json.loads(socket.recv(3 * PATIENCE))  # the worker may still be starting
