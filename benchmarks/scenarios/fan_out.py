"""Deliveries a second of the servers alone, driven by plain sockets."""

from collections.abc import Sequence

from generator import Party, deliver
from model import Case, Figure, Sample, Scale, Scenario
from peers import (
    KPS,
    KPS_LEVEL_1,
    KPS_THREADS,
    KPS_THREADS_LEVEL_1,
    MOSQUITTO,
    NATS,
    PICOWS,
    REDIS,
    Peer,
    Server,
)
from scenarios.flow import worker

RATE = Figure("deliveries/s")
FLOODED = Figure("beside a flood, deliveries/s", has_ratio=False)
KEPT = Figure("kept", "%", has_ratio=False)


def measure(server: Server, peer: Peer, subscribers: int, seconds: float) -> Sample:
    """From the first message sent to the last one received."""
    party = Party(server.address, [(server.address, "bench")] * subscribers)
    return {RATE.title: deliver(peer.wire, [party], seconds).rate}


def _case(peer: Peer, subscribers: int) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure(server, peer, subscribers, scale.seconds)

    return Case(peer.name, run, peer)


def _flooded(peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        alone = measure(server, peer, 1, scale.seconds)[RATE.title]
        with worker("flood", peer.name, server.address) as process:
            process.report()
            flooded = measure(server, peer, 1, scale.seconds)[RATE.title]
        return {RATE.title: alone, FLOODED.title: flooded, KEPT.title: 100 * flooded / alone}

    return Case(peer.name, run, peer)


def _scenario(name: str, subscribers: int, text: str, most_rounds: int | None = None) -> Scenario:
    peers = (
        KPS, KPS_LEVEL_1, KPS_THREADS, KPS_THREADS_LEVEL_1, NATS, REDIS, MOSQUITTO, PICOWS
    )  # fmt: skip
    to = "1 subscriber" if subscribers == 1 else f"{subscribers} subscribers"
    return Scenario(
        name=name,
        title=f"The server alone: 1 publisher, {to}",
        text=text,
        figures=(RATE,),
        cases=[_case(peer, subscribers) for peer in peers],
        reference=NATS.name,
        most_rounds=most_rounds,
    )


SCENARIOS: Sequence[Scenario] = (
    _scenario(
        "fan_out_1",
        1,
        "One generator process with plain sockets, so the figure is the server's, as long as the "
        "generator is not slower. For a second the publisher writes 100 messages at once: on level "
        "2 of KPS one batch, as its client library does; on level 1 a frame for each message; for "
        "NATS a PUB, for Redis a PUBLISH, for MQTT a packet, for the relay a frame for each. Every "
        "message is counted at every subscriber. At most 20,000 messages and 400,000 deliveries "
        "are under way.",
    ),
    _scenario("fan_out_50", 50, "The same with 50 subscribers.", most_rounds=3),
    _scenario("fan_out_200", 200, "The same with 200 subscribers."),
    Scenario(
        name="flooded",
        title="The server alone: 1 publisher, 1 subscriber, and a flood",
        text="First as with 1 subscriber; then while another client, in a process of its own, "
        "publishes to nobody in the same way, as fast as the server reads. Two publishers that "
        "share one server fairly have half of it each. A server with threads may use the second "
        "core, which the generator needs too.",
        figures=(RATE, FLOODED, KEPT),
        cases=[_flooded(peer) for peer in (KPS, KPS_THREADS, NATS, REDIS)],
        reference=NATS.name,
        most_rounds=3,
    ),
)
