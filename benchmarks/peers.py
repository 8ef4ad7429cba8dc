"""The servers: how each is started, and what talks to it."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from processes import Failed, Process
from wires import KpsWire, NatsWire, SocketioWire, WebsocketsWire, Wire

HERE = Path(__file__).parent


class Server:
    """A server that runs: its process, and ``host:port``."""

    def __init__(self, process: Process, address: str) -> None:
        self.process = process
        self.address = address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.stop()


@dataclass(frozen=True)
class Peer:
    """One server program, on a port that the system chooses."""

    name: str
    command: tuple[str, ...]
    says: str
    """What is in the line of its output that tells the address."""
    wire: Wire

    def start(self) -> Server:
        """Start it, and wait until it says where it listens."""
        if not self.command[0]:
            raise Failed(f"{self.name} is not installed")
        process = Process(*self.command)
        try:
            line = process.wait_for(lambda line: self.says in line)
        except BaseException:
            process.stop()
            raise
        address = line.split()[-1].rpartition("://")[2].partition("/")[0]
        return Server(process, address)


def kps_serve(name: str, *options: str, level: int = 2) -> Peer:
    """A server of KPS with some options, spoken to on that level."""
    command = (sys.executable, "-m", "kps", "serve", "--log-level", "error")
    return Peer(
        name,
        (*command, "--address", "127.0.0.1:0", *options),
        "kps serves on",
        KpsWire(level),
    )


def _relay(name: str, program: str, wire: Wire, *options: str) -> Peer:
    return Peer(name, (sys.executable, str(HERE / program), *options), "serves on", wire)


def _nats() -> Peer:
    # The wheel puts the program beside the interpreter.
    program = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.defpath}")
    command = (program or "", "--addr", "127.0.0.1", "--port", "-1")
    return Peer("nats-server", command, "Listening for client connections on", NatsWire())


KPS = kps_serve("kps serve")
KPS_LEVEL_1 = kps_serve("kps serve, level 1", level=1)
KPS_THREADS = kps_serve("kps serve --threads", "--threads")
KPS_THREADS_LEVEL_1 = kps_serve("kps serve --threads, level 1", "--threads", level=1)
NATS = _nats()
SOCKETIO = _relay("python-socketio", "socketio_relay.py", SocketioWire())
SOCKETIO_REQUESTS = _relay("python-socketio", "socketio_relay.py", SocketioWire(), "--requests")
WEBSOCKETS = _relay("websockets relay", "websockets_relay.py", WebsocketsWire())
