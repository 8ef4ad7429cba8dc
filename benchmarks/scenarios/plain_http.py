"""KPS over plain HTTP: publications with a connection each, and event streams."""

import socket
import time
from collections.abc import Sequence

from generator import Party, deliver
from model import Case, Figure, Sample, Scale, Scenario
from peers import KPS, KPS_LEVEL_1, KPS_THREADS, Peer, Server
from processes import Failed, cpu_seconds
from wires import PAYLOAD, EventStreamWire, Wire, connect, exchange

PUBLICATIONS = Figure("publications/s")
DELIVERIES = Figure("deliveries/s")
CPU = Figure("server, µs", more_is_better=False, has_ratio=False)

SUBSCRIBERS = 200

_POST = (
    b"POST /publish?topic=bench HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(PAYLOAD), PAYLOAD)
)


def _post(address: tuple[str, int]) -> None:
    """Publish as ``curl`` does, with a connection of its own."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(_POST)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    if not answer.startswith(b"HTTP/1.1 204 "):
        raise Failed(f"refused: {answer[:80]!r}")


def _publish(server: Server | None, scale: Scale) -> Sample:
    assert server is not None
    host, _, port = server.address.rpartition(":")
    (pid, *_) = server.pids
    count, used, begun = 0, cpu_seconds(pid), time.perf_counter()
    while (took := time.perf_counter() - begun) < scale.seconds:
        _post((host, int(port)))
        count += 1
    return {PUBLICATIONS.title: count / took, CPU.title: (cpu_seconds(pid) - used) / count * 1e6}


def _publish_over_websocket(server: Server | None, scale: Scale) -> Sample:
    """The same, each with a WebSocket of its own."""
    assert server is not None
    (pid, *_) = server.pids
    count, used, begun = 0, cpu_seconds(pid), time.perf_counter()
    while (took := time.perf_counter() - begun) < scale.seconds:
        with connect(KPS.wire, server.address, f"publisher-{count}") as connection:
            connection.sendall(KPS.wire.publishing("bench", [PAYLOAD]))
            exchange(connection, *KPS.wire.subscribing("other"))
        count += 1
    return {PUBLICATIONS.title: count / took, CPU.title: (cpu_seconds(pid) - used) / count * 1e6}


def _reading(name: str, peer: Peer, reading: Wire) -> Case:
    def run(server: Server | None, scale: Scale) -> Sample:
        assert server is not None
        party = Party(server.address, [(server.address, "bench")] * SUBSCRIBERS, reading)
        found = deliver(KPS_LEVEL_1.wire, [party], scale.seconds, servers=server.pids)
        return {DELIVERIES.title: found.rate, CPU.title: found.servers / found.deliveries * 1e6}

    return Case(name, run, peer)


_OVER_WEBSOCKETS = "WebSockets"

SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="http_publish",
        title="Plain HTTP: publications, one after the other",
        text="A client publishes, waits for the answer, and connects anew for the next one: what "
        "a shell script does with `curl`. The same with a WebSocket for each publication.",
        figures=(PUBLICATIONS, CPU),
        cases=(
            Case("POST /publish", _publish, KPS),
            Case("POST /publish, threaded server", _publish, KPS_THREADS),
            Case(_OVER_WEBSOCKETS, _publish_over_websocket, KPS),
        ),
        reference=_OVER_WEBSOCKETS,
    ),
    Scenario(
        name="http_streams",
        title=f"Plain HTTP: event streams, 1 publisher, {SUBSCRIBERS} subscribers",
        text="As for the server alone, with single messages from the publisher, which has a "
        "WebSocket. On level 2 a message to a WebSocket may carry several publications, on level "
        "1 and in a stream each is by itself.",
        figures=(DELIVERIES, CPU),
        cases=(
            _reading(_OVER_WEBSOCKETS, KPS, KPS.wire),
            _reading("WebSockets, level 1", KPS, KPS_LEVEL_1.wire),
            _reading("event streams", KPS, EventStreamWire()),
            _reading("event streams, threaded server", KPS_THREADS, EventStreamWire()),
        ),
        reference=_OVER_WEBSOCKETS,
    ),
)
