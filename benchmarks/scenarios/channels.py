"""Django Channels: groups over KPS, and over Redis."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from model import Case, Figure, Sample, Scale, Scenario
from peers import HERE, KPS, REDIS, Peer, Server
from processes import Process

RATE = Figure("deliveries/s")
LATENCY = Figure("latency, p50", "ms", more_is_better=False)

_PROCESSES = 2
_CHANNELS = 50  # of each

_OURS = "KPS"


def _process(*arguments: object) -> Process:
    return Process(sys.executable, str(HERE / "layers.py"), *map(str, arguments))


def measure(server: Server, kind: str, seconds: float) -> Sample:
    with ExitStack() as stack:
        for _ in range(_PROCESSES):
            stack.enter_context(_process("members", kind, server.address, _CHANNELS)).report()
        sender = _process("send", kind, server.address, _PROCESSES, seconds)
        found = stack.enter_context(sender).report()
    return {
        RATE.title: found["rate"] * _PROCESSES * _CHANNELS,
        LATENCY.title: found["latency"] * 1e3,
    }


def _case(name: str, kind: str, peer: Peer) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        return measure(server, kind, scale.seconds)

    return Case(name, run, peer)


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="channels",
        title="Groups of Django Channels",
        text=f"A process sends to a group with `group_send`; {_PROCESSES} other processes have "
        f"{_CHANNELS} channels each in it, and receive. First one message at a time for a second: "
        "how long it takes until a channel's receiver has it. Then 50 under way for a second, "
        "fewer than a channel's capacity, so that none is lost.",
        figures=(RATE, LATENCY),
        cases=(
            _case(_OURS, "kps", KPS),
            _case("channels_redis, core", "core", REDIS),
            _case("channels_redis, pub/sub", "pubsub", REDIS),
        ),
        reference=_OURS,
    ),
)
