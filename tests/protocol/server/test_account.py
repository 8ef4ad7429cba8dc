"""The account of memory holds for any traffic, not only for the worst that we have thought of.

Clients send what hypothesis makes up, some of them without reading. Then Python must not have
allocated more than ``SECURITY.md`` allows for what the server says that it keeps; and nothing is
left of either when all have gone.
"""

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kps
from kps.protocol import cost
from kps.protocol.limits import Overflow
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.hub import Hub
from kps.protocol.server_limits import ServerLimits
from tests.protocol.helpers import Fields, Peer, Stage
from tests.protocol.server.test_memory import (
    EMOJI,
    MULTIPLE,
    SLACK,
    answer,
    client,
    drain,
    frames,
    receive,
)

OURS = str(Path(kps.__file__).parent)
CLIENTS = 4
LIMITS: Fields = {
    "queue_bytes": 200_000,
    "backlog_bytes": 100_000,
    "max_ack_bytes": 400_000,
    "max_all_results": 100_000,
    "max_subscriptions": 300,
    "max_topics": 500,
    "heartbeat_interval": 1000.0,
}


@dataclass(frozen=True)
class Flood:
    """Messages of one client; ``#`` in a text stands for the number of the message."""

    who: int
    fields: Fields
    count: int
    is_array: bool

    def messages(self) -> Iterator[Any]:
        for number in range(self.count):
            yield {
                name: value.replace("#", str(number)) if type(value) is str else value
                for name, value in self.fields.items()
            }


@dataclass(frozen=True)
class Reads:
    """A client reads all that waits for it."""

    who: int


@dataclass(frozen=True)
class Leaves:
    """A client leaves, and comes back under the same id."""

    who: int


@dataclass(frozen=True)
class Waits:
    """Time passes."""

    seconds: float


Other = Reads | Leaves | Waits | None
PAYLOADS: list[Any] = [0, {}, [[[]]] * 20, "x" * 300, EMOJI * 50, None]
TOPICS = ["t", "t", "u#", "long " + "x" * 200 + "#", EMOJI * 100 + "#"]
PATTERNS = ["**", "u*", "#*", "*#", "#**é#*x", "a*é**" * 30 + "#", EMOJI * 50 + "*#/" + "é*/" * 30]
WHO = st.integers(0, CLIENTS - 1)


def requests() -> st.SearchStrategy[Fields]:
    topics, payloads = st.sampled_from(TOPICS), st.sampled_from(PAYLOADS)

    def request(action: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Fields]:
        return st.fixed_dictionaries({"action": st.just(action), **fields})

    ids, yes = st.sampled_from(["a#", "b#", "1"]), st.just(True)
    return st.one_of(
        request("publish", topic=topics, data=payloads),
        request("publish", topic=topics, batch=st.lists(payloads, max_size=20)),
        request("publish", topic=topics, data=payloads, receipt=ids),
        request("subscribe", topic=topics),
        request("subscribe", pattern=st.sampled_from(PATTERNS)),
        request("unsubscribe", pattern=st.sampled_from(PATTERNS)),
        request("unsubscribe", topic=topics),
        request("publish_with_ack", topic=topics, ack_id=ids, timeout=st.just(60), updates=yes),
        request("publish_to_id_with_ack", to=st.sampled_from("0123x"), ack_id=ids, data=payloads),
        st.builds(lambda result: {**answer(0), "ack_id": "ack_#", "result": result}, payloads),
        request("ack", ack_id=st.just("ack_#"), success=st.just(False), error=topics),
        request("direct_message", to=st.sampled_from("0123x"), data=payloads),
        request("get_ack_status", ack_id=ids),
        request("cancel_ack", ack_id=ids),
        request("what", topic=topics),
    )


FLOODS = st.builds(Flood, WHO, requests(), st.sampled_from([300, 100, 10]), st.booleans())
OTHERS = st.one_of(
    st.none(),
    st.builds(Reads, WHO),
    st.builds(Leaves, WHO),
    st.builds(Waits, st.sampled_from([0.5, 6.0])),
)


def account(hub: Hub) -> int:
    """What the server keeps, as ``SECURITY.md`` counts it."""
    state = hub.state
    total = state.acks._cost + state.acks._results + len(state.owners) * cost.RESERVED_ID
    for key, _, _ in state.bus.subjects(len(state.bus)):
        if isinstance(key, str):
            total += cost.TOPIC + cost.of_text(key)
        else:
            total += cost.PATTERN + 4 * cost.of_text(key.text)
    for topic in state.bus.routes._routes:
        total += cost.ROUTE + cost.of_text(topic)
    for connection in hub.connections.values():
        assert isinstance(connection, WebSocketConnection)
        session, socket = connection.session, connection._socket
        total += socket.outbox.pending_bytes + len(session.topics) * cost.SUBSCRIPTION
        waiting = [*session.inbox._rest, session.inbox._frame, socket.reader._data]
        total += sum(len(message) + cost.KEPT for message in waiting)
    return total


def member(stage: Stage, number: int) -> Peer:
    return client(stage, str(number), "t", level=1 + number % 2)


def play(stage: Stage, peers: list[Peer], step: Flood | Other) -> None:
    match step:
        case Flood():
            messages = list(step.messages())
            data = b"".join(frames([messages] if step.is_array else messages))
            receive(peers[step.who], data)
        case Reads():
            while drain(peers[step.who]):
                receive(peers[step.who], b"")
        case Leaves():
            peers[step.who].connection.connection_lost(stage.clock.now)
            stage.advance(0.0)
            peers[step.who] = member(stage, step.who)
        case Waits():
            stage.advance(step.seconds)
    stage.hub.take_unflushed()
    stage.hub.events()


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Iterator[None]:
    """Let the garbage collector pass over everything that is older than these tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def taken_by_kps() -> int:
    """Bytes that our own code, and what it calls, has allocated and not given back."""
    gc.collect()
    sizes = tracemalloc.take_snapshot().statistics("filename")
    return sum(one.size for one in sizes if one.traceback[0].filename.startswith(OURS))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(FLOODS, OTHERS), min_size=6, max_size=12), st.sampled_from(Overflow))
def test_memory_stays_below_the_account(
    steps: list[tuple[Flood, Other]], overflow: Overflow
) -> None:
    stage = Stage(limits=ServerLimits(overflow=overflow, **LIMITS))
    peers = [member(stage, number) for number in range(CLIENTS)]
    tracemalloc.start()
    try:
        for flood, other in steps:
            play(stage, peers, flood)
            play(stage, peers, other)
        stage.advance(0.1)  # what is done in slices is done
        taken, kept = taken_by_kps(), account(stage.hub)
        for peer in peers:
            peer.connection.connection_lost(stage.clock.now)
        peers.clear()
        stage.advance(stage.hub.limits.max_ack_timeout)
        stage.hub.take_unflushed()
        stage.hub.events()
        left = taken_by_kps()
    finally:
        tracemalloc.stop()
    assert taken <= MULTIPLE * kept + SLACK, f"{taken} bytes taken, {kept} counted"
    assert account(stage.hub) == 0
    assert left <= SLACK, f"{left} bytes left"
