"""The servers: how each is started, and what talks to it."""

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from processes import PATIENCE, Failed, NotInstalled, Process, with_children
from wires import (
    PAYLOAD,
    KpsWire,
    MqttWire,
    NatsWire,
    RedisWire,
    RelayWire,
    SocketioWire,
    Wire,
    connect,
    exchange,
)

HERE = Path(__file__).parent

PLACES = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}:/usr/sbin"
"""Where programs are: wheels put theirs beside the interpreter, Debian some where root looks."""


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

    @property
    def addresses(self) -> list[str]:
        """Where its nodes are, if it has several."""
        return [self.address]

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return with_children(self.process.pid)


class Nodes(Server):
    """Servers that are one for their clients, and the engine over which they talk."""

    def __init__(self, nodes: Sequence[Server], engine: Server, stack: ExitStack) -> None:
        super().__init__(nodes[0].process, nodes[0].address)
        self.nodes = nodes
        self.engine = engine
        self._stack = stack

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    @property
    def pids(self) -> list[int]:
        return [pid for one in (*self.nodes, self.engine) for pid in one.pids]


@dataclass(frozen=True)
class Peer:
    """One server program, on a port that the system chooses."""

    name: str
    command: tuple[str, ...]
    says: str
    """What is in the line of its output that tells the address, or at least that it is ready."""
    wire: Wire

    def start(self) -> Server:
        """Start it, and wait until it says where it listens."""
        process, line = self._started(*self.command)
        address = line.split()[-1].rpartition("://")[2].partition("/")[0]
        return Server(process, address)

    def _started(self, *command: str) -> tuple[Process, str]:
        """The process, and the line that it said."""
        if not command[0]:
            raise Failed(f"{self.name} is not installed")
        process = Process(*command)
        try:
            return process, process.wait_for(lambda line: self.says in line)
        except BaseException:
            process.stop()
            raise


@dataclass(frozen=True)
class DebianPeer(Peer):
    """A server from Debian, which reads its settings from a file; it need not be installed.

    It cannot let the system choose its port, and does not tell it.
    """

    settings: str = ""
    """What is in the file, with ``{port}`` for its port."""

    @property
    def program(self) -> str | None:
        return shutil.which(self.command[0], path=PLACES)

    def start(self) -> Server:
        if self.program is None:
            raise NotInstalled(f"not installed: apt-get install {self.name}")
        port = _free_port()
        with tempfile.TemporaryDirectory() as folder:  # read once, at the start
            file = Path(folder, "settings")
            file.write_text(self.settings.format(port=port), encoding="utf-8")
            process, _ = self._started(self.program, *self.command[1:], str(file))
        return Server(process, f"127.0.0.1:{port}")


@dataclass(frozen=True)
class ClusterPeer(Peer):
    """Two servers that are one for their clients. Their last argument is the engine's URL."""

    engine: Peer
    scheme: str

    def start(self) -> Nodes:
        """Start all, and wait until what is published at either node reaches the other one."""
        with ExitStack() as stack:
            engine = stack.enter_context(self.engine.start())
            command = *self.command, f"{self.scheme}://{engine.address}"
            node = Peer(self.name, command, self.says, self.wire)
            nodes = [stack.enter_context(node.start()) for _ in range(2)]
            for one, other in (nodes, reversed(nodes)):
                self._wait_until_linked(one.address, other.address)
            return Nodes(nodes, engine, stack.pop_all())

    def _wait_until_linked(self, one: str, other: str) -> None:
        with (
            connect(self.wire, other, "probing") as subscriber,
            connect(self.wire, one, "probe") as publisher,
        ):
            exchange(subscriber, *self.wire.subscribing("probe"))
            subscriber.settimeout(0.1)
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                try:
                    exchange(subscriber, b"", PAYLOAD)
                except TimeoutError:
                    publisher.sendall(self.wire.publishing("probe", [PAYLOAD]))
                else:
                    return
        raise Failed(f"the nodes of {self.name} do not find each other")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


THIS_PYTHON = (sys.executable,)
"""How a program in Python is run, unless a scenario says otherwise."""


def kps_serve(
    name: str, *options: str, level: int = 2, python: Sequence[str] = THIS_PYTHON
) -> Peer:
    """A server of KPS with some options, spoken to on that level."""
    command = (*python, "-m", "kps", "serve", "--log-level", "error")
    return Peer(
        name,
        (*command, "--address", "127.0.0.1:0", *options),
        "kps serves on",
        KpsWire(level),
    )


def _relay(name: str, program: str, wire: Wire, *options: str) -> Peer:
    return Peer(name, (sys.executable, str(HERE / program), *options), "serves on", wire)


def mounted_bus(name: str, *options: str, level: int) -> Peer:
    """A bus in an application of uvicorn."""
    return _relay(name, "mounted_bus.py", KpsWire(level), *options)


def _nats() -> Peer:
    program = shutil.which("nats-server", path=PLACES)
    command = (program or "", "--addr", "127.0.0.1", "--port", "-1")
    return Peer("nats-server", command, "Listening for client connections on", NatsWire())


KPS = kps_serve("kps serve")
KPS_LEVEL_1 = kps_serve("kps serve, level 1", level=1)
KPS_THREADS = kps_serve("kps serve --threads", "--threads")
KPS_THREADS_LEVEL_1 = kps_serve("kps serve --threads, level 1", "--threads", level=1)
KPS_WORKER = kps_serve("kps serve --workers 1", "--workers", "1")
KPS_WORKERS = kps_serve("kps serve --workers 2", "--workers", "2")
NATS = _nats()
SOCKETIO = _relay("python-socketio", "socketio_relay.py", SocketioWire())
SOCKETIO_REQUESTS = _relay("python-socketio", "socketio_relay.py", SocketioWire(), "--requests")
WEBSOCKETS = _relay("websockets relay", "websockets_relay.py", RelayWire())
PICOWS = _relay("picows relay", "picows_relay.py", RelayWire())
REDIS = DebianPeer(
    "redis-server",
    ("redis-server",),
    "eady to accept connections",
    RedisWire(),
    settings='bind 127.0.0.1\nport {port}\nsave ""\nappendonly no\n',
)
MOSQUITTO = DebianPeer(
    "mosquitto",
    ("mosquitto", "-c"),
    " running",
    MqttWire(),
    # Its defaults drop messages for a subscriber, and wait before they send small packets.
    settings="listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
    "set_tcp_nodelay true\nmax_queued_messages 0\n",
)
KPS_NODES = ClusterPeer(
    "kps serve --cluster",
    (*KPS.command, "--cluster"),
    KPS.says,
    KPS.wire,
    engine=NATS,
    scheme="nats",
)
SOCKETIO_NODES = ClusterPeer(
    "python-socketio over Redis",
    (*SOCKETIO.command, "--redis"),
    SOCKETIO.says,
    SOCKETIO.wire,
    engine=REDIS,
    scheme="redis",
)
SOCKETIO_NODES_REQUESTS = replace(SOCKETIO_NODES, command=(*SOCKETIO_REQUESTS.command, "--redis"))
