"""Bridges between two servers, each a program of its own."""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType

from peers import KPS, MOSQUITTO, Peer, Server
from processes import PATIENCE, Failed, Process
from wires import PAYLOAD, Wire, connect, exchange

TOPIC = "bench"


class Bridged(Server):
    """Two servers with a bridge between them. ``addresses``: where it takes from, and gives to."""

    def __init__(self, source: Server, target: Server, bridge: Process, stack: ExitStack) -> None:
        super().__init__(bridge, source.address)
        self._ends = source, target
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
        return [end.address for end in self._ends]

    def wait_until_linked(self, source: Wire, target: Wire) -> None:
        """Wait until what is published at one end reaches the other."""
        with (
            connect(target, self.addresses[1], "probing") as subscriber,
            connect(source, self.addresses[0], "probe") as publisher,
        ):
            exchange(subscriber, *target.subscribing(TOPIC))
            subscriber.settimeout(0.1)
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                try:
                    exchange(subscriber, b"", PAYLOAD)
                except TimeoutError:
                    publisher.sendall(source.publishing(TOPIC, [PAYLOAD]))
                else:
                    return
        raise Failed("the bridge carries nothing")


@dataclass(frozen=True)
class KpsBridge(Peer):
    """``kps bridge mqtt`` between mosquitto and ``kps serve``."""

    is_inward: bool
    """Whether messages come from mosquitto."""
    qos: int

    def start(self) -> Bridged:
        with ExitStack() as stack:
            broker = stack.enter_context(MOSQUITTO.start())
            bus = stack.enter_context(KPS.start())
            command = (
                *self.command,
                *("--address", bus.address, "--broker", f"mqtt://{broker.address}"),
                *("--in" if self.is_inward else "--out", TOPIC, "--qos", str(self.qos)),
            )
            bridge, _ = self._started(*command)
            stack.callback(bridge.stop)
            ends = (broker, bus) if self.is_inward else (bus, broker)
            return Bridged(*ends, bridge, stack.pop_all())


@dataclass(frozen=True)
class MosquittoBridge(Peer):
    """Two brokers; the second one has a bridge to the first."""

    qos: int

    def start(self) -> Bridged:
        with ExitStack() as stack:
            source = stack.enter_context(MOSQUITTO.start())
            more = f"connection bench\naddress {source.address}\ntopic {TOPIC} in {self.qos}\n"
            settings = f"{MOSQUITTO.settings}{more}bridge_protocol_version mqttv50\n"
            target = stack.enter_context(replace(MOSQUITTO, settings=settings).start())
            return Bridged(source, target, target.process, stack.pop_all())


def kps_bridge(*, is_inward: bool, qos: int) -> KpsBridge:
    command = (sys.executable, "-m", "kps", "bridge", "mqtt")
    return KpsBridge("kps bridge mqtt", command, "carries", KPS.wire, is_inward, qos)


def mosquitto_bridge(qos: int) -> MosquittoBridge:
    return MosquittoBridge("mosquitto's bridge", ("",), "", MOSQUITTO.wire, qos)
