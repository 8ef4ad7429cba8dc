"""Messages over a bridge: KPS and MQTT, beside the bridge of a broker between two of its kind."""

from collections.abc import Sequence
from dataclasses import dataclass

from bridges import TOPIC, Bridged, kps_bridge, mosquitto_bridge
from generator import Party, deliver
from model import Case, Figure, Sample, Scale, Scenario
from peers import KPS, Peer, Server
from wires import MqttWire, Wire

RATE = Figure("messages/s")
CPU = Figure("processor time: bridge", "µs", more_is_better=False, has_ratio=False, has_range=False)


@dataclass(frozen=True)
class Way:
    """A bridge, and what is spoken at its ends."""

    name: str
    peer: Peer
    source: Wire
    target: Wire

    def measure(self, server: Server | None, scale: Scale) -> Sample:
        assert isinstance(server, Bridged)
        server.wait_until_linked(self.source, self.target)
        here, there = server.addresses
        party = Party(here, [(there, TOPIC)], self.target)
        found = deliver(self.source, [party], scale.seconds, servers=[server.process.pid])
        return {RATE.title: found.rate, CPU.title: found.servers / found.deliveries * 1e6}

    @property
    def case(self) -> Case:
        return Case(self.name, self.measure, self.peer)


def _ways(qos: int) -> Sequence[Case]:
    mqtt, bus = MqttWire(qos), KPS.wire
    ways = (
        Way("kps bridge, MQTT to KPS", kps_bridge(is_inward=True, qos=qos), mqtt, bus),
        Way("kps bridge, KPS to MQTT", kps_bridge(is_inward=False, qos=qos), bus, mqtt),
        Way("mosquitto's bridge", mosquitto_bridge(qos), mqtt, mqtt),
    )
    return [way.case for way in ways]


SCENARIOS: Sequence[Scenario] = tuple(
    Scenario(
        name=f"bridge_qos_{qos}",
        title=f"Over a bridge, QoS {qos}",
        text="A publisher and a subscriber as plain sockets in one process, two servers, and a "
        f"bridge between these {kind}. At most 20,000 messages are under way. One server is "
        "`kps serve`, the other one mosquitto; mosquitto's own bridge has two of mosquitto, and "
        "is a part of the second one, whose work its processor time includes.",
        figures=(RATE, CPU),
        cases=_ways(qos),
        reference="mosquitto's bridge",
    )
    for qos, kind in (
        (0, "with QoS 0"),
        (1, "with QoS 1: at the broker's side each message is acknowledged, and from MQTT to KPS "
            "not before the server of KPS has confirmed it"),
    )
)  # fmt: skip
