"""A broker, other clients of it, and bridges, for the tests that need the real ones."""

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import kps
from kps.io_asyncio import loop
from kps.mqtt.bridge import Bridge
from kps.mqtt.core.settings import Settings
from tests.ports import kept_address, kept_port

PATIENCE = 30.0
"""Seconds after which something that should have happened counts as never happening."""
_GRACE = 20.0
"""Seconds in which a bridge ends what is under way. No process should stand still for as long."""

PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

needs_broker = pytest.mark.skipif(
    PROGRAM is None, reason="mosquitto is not installed (apt-get install mosquitto)"
)

_SETTINGS = """\
per_listener_settings false
listener {port} 127.0.0.1
persistence true
persistence_location {folder}/
max_queued_messages 0
user {user}
{more}
"""

_CONNECT = bytes.fromhex("10 0c  00 04 4d 51 54 54  04  02  00 3c  00 00")
"""A CONNECT packet of MQTT 3.1.1: a clean session, without a name, a keep-alive of 60 s."""


class Mosquitto:
    """A broker that runs, and keeps what it has over a restart."""

    def __init__(self, folder: Path, more: str = "allow_anonymous true") -> None:
        folder.mkdir(exist_ok=True)
        self.port = kept_port()
        self._file = folder / "mosquitto.conf"
        self._file.write_text(
            _SETTINGS.format(port=self.port, folder=folder, user=getpass.getuser(), more=more)
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers.

        That it takes connections is not enough: mosquitto 2.0 forgets a SIGTERM that comes
        after it listens and before its main loop runs.
        """
        assert PROGRAM is not None
        self.process = subprocess.Popen(
            [PROGRAM, "-c", str(self._file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            assert self.process.poll() is None, "mosquitto does not start"
            with contextlib.suppress(ConnectionRefusedError):
                self._wait_for_an_answer()
                return
            time.sleep(0.01)
        raise AssertionError("mosquitto takes no connections")

    def _wait_for_an_answer(self) -> None:
        with (
            socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection,
            contextlib.suppress(ConnectionResetError),  # so answers one that speaks TLS
        ):
            connection.sendall(_CONNECT)
            connection.recv(1)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; by SIGTERM it keeps its sessions and messages."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"


@contextlib.contextmanager
def broker(folder: Path, more: str = "allow_anonymous true") -> Any:
    """Run a broker."""
    one = Mosquitto(folder, more)
    one.start()
    try:
        yield one
    finally:
        one.stop()


class Got(NamedTuple):
    """A message, as a client of the broker has it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    user: tuple[tuple[str, str], ...]


class Peer:
    """Another client of the broker, by another library."""

    def __init__(
        self, port: int, name: str = "peer", version: int = 5, is_lasting: bool = False
    ) -> None:
        self.got: list[Got] = []
        """What has come."""
        self.codes: list[int] = []
        """The broker's answers to what was published with QoS 1."""
        kind = MQTTProtocolVersion.MQTTv5 if version == 5 else MQTTProtocolVersion.MQTTv311
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            name,
            protocol=kind,
            clean_session=not is_lasting if version == 3 else None,
            reconnect_on_failure=True,
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.max_inflight_messages_set(1000)
        self._client.on_message = self._came
        self._client.on_publish = lambda *args: self.codes.append(args[3].value)
        if version == 3:
            self._client.connect("127.0.0.1", port)
        else:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 3600 * is_lasting
            start = not is_lasting
            self._client.connect("127.0.0.1", port, clean_start=start, properties=properties)
        self._client.loop_start()
        until_now(self._client.is_connected)

    def subscribe(self, topic: str, qos: int = 1) -> None:
        answers: list[object] = []
        self._client.on_subscribe = lambda *args: answers.append(args)
        self._client.subscribe(topic, qos)
        until_now(lambda: bool(answers))

    def publish(
        self, topic: str, payload: bytes = b"", qos: int = 1, retain: bool = False, **user: str
    ) -> None:
        """Publish; with QoS 1 wait for the broker."""
        properties = None
        if user:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = list(user.items())
        self._client.publish(topic, payload, qos, retain, properties).wait_for_publish(PATIENCE)

    def publish_soon(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Publish without waiting."""
        self._client.publish(topic, payload, qos)

    def payloads(self) -> list[bytes]:
        return [one.payload for one in self.got]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _came(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        found = getattr(message.properties, "UserProperty", [])
        self.got.append(
            Got(message.topic, bytes(message.payload), message.qos, message.retain, tuple(found))
        )


def until_now(condition: Callable[[], bool]) -> None:
    """Wait for something that no event announces, without a loop."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.005)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event announces."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def peer(port: int, name: str = "peer", version: int = 5, **options: Any) -> Any:
    """Connect another client."""
    one = Peer(port, name, version, **options)
    try:
        yield one
    finally:
        one.close()


@contextlib.asynccontextmanager
async def bridged(
    server: str,
    url: str,
    is_ready: bool = True,
    tls: ssl.SSLContext | None = None,
    **values: Any,
) -> AsyncIterator[Bridge]:
    """Run a bridge; ``ins`` and ``outs`` are its rules. At the end it must end by itself."""
    tables = {"in": values.pop("ins", []), "out": values.pop("outs", [])}
    settings = Settings.read({"broker": url, "grace": _GRACE, **values, **tables})
    one = Bridge(settings, server, tls)
    stop = asyncio.Event()
    work = asyncio.create_task(one.run_until(stop))
    ready = asyncio.create_task(one.is_ready.wait())
    try:
        if is_ready:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait((work, ready), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
        yield one
    finally:
        ready.cancel()
        stop.set()
        async with asyncio.timeout(PATIENCE):
            await work


def account(bridge: Bridge, name: str) -> dict[str, Any]:
    """The figures of a rule."""
    return bridge.books.account(name).figures()


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test on the loop that the command has."""
    loop.run(in_time(work))


async def in_time(work: Coroutine[Any, Any, None]) -> None:
    await asyncio.wait_for(work, 3 * PATIENCE)


def server() -> kps.Server:
    """A server; another one can start later at its address."""
    return kps.Server(kept_address())
