"""What a server did in the last minutes: second by second, and bounded."""

from typing import Any

from kps.protocol.server.config import HubConfig
from kps.protocol.server.monitor import STATS_TOPIC
from kps.protocol.server.recorder import NAMES, SECONDS, Recorder, add_up
from kps.testing.network import Network
from tests.protocol.helpers import Stage


def recorder_of(network: Any) -> Recorder:
    recorder: Recorder | None = network.hub._recorder
    assert recorder is not None
    return recorder


def new_network() -> Network:
    return Network(HubConfig(id="hub", is_monitored=True))


def test_each_second_has_what_happened_in_it() -> None:
    network = new_network()
    publisher, subscriber = network.client("p").session, network.client("s").session
    subscriber.subscribe("t", network.clock.now)
    network.run()
    for count in (3, 0, 5):
        for number in range(count):
            publisher.publish("t", number, network.clock.now)
        network.run()
        network.advance(1.0)
    told = recorder_of(network).describe()
    assert told["published"] == told["delivered"] == [3, 0, 5]
    assert told["bytes_in"][0] > 0
    assert told["age"] == 0


def test_it_goes_on_for_five_minutes_and_forgets_the_rest() -> None:
    network = new_network()
    session = network.client("p").session
    network.advance(2.0)
    for _ in range(SECONDS + 20):
        session.publish("t", 1, network.clock.now)
        network.run()
        network.advance(1.0)
    told = recorder_of(network).describe()
    assert {len(told[name]) for name in NAMES} == {SECONDS}
    assert told["published"] == [1] * SECONDS


def test_a_server_without_connections_is_left_alone() -> None:
    stage = Stage(is_monitored=True)
    assert stage.hub.next_deadline() is None
    peer = stage.peer("a")
    stage.advance(3.0)
    peer.connection.connection_lost(stage.clock.now)
    stage.advance(10.0)
    assert stage.hub.next_deadline() is None
    stage.hub.state.now = stage.clock.now
    assert recorder_of(stage).describe()["published"] == [0.0] * 13


def test_what_its_program_published_alone_is_spread_over_the_time() -> None:
    network = new_network()
    network.advance(2.0)
    for number in range(8):
        network.hub.publish("t", number, network.clock.now)
    network.advance(2.0)
    network.client("a")
    network.hub.publish("t", 1, network.clock.now)
    network.advance(1.0)
    assert recorder_of(network).describe()["published"] == [2, 2, 2, 2, 1]


def test_what_a_late_driver_missed_is_spread() -> None:
    network = new_network()
    session = network.client("p").session
    for number in range(6):
        session.publish("t", number, network.clock.now)
    network.run()
    network.clock.now += 3.5  # nobody has called it meanwhile
    network.hub.state.now = network.clock.now
    told = recorder_of(network).describe()
    assert told["published"] == [2, 2, 2]
    assert told["age"] == 0.5


def test_the_figures_themselves_do_not_count() -> None:
    network = new_network()
    session = network.client("watcher").session
    session.subscribe(STATS_TOPIC, network.clock.now)
    network.advance(5.0)
    told = recorder_of(network).describe()
    assert network.hub.stats.published == network.hub.stats.own_published == 6
    assert network.hub.stats.own_delivered == 6
    assert told["published"] == told["delivered"] == [0] * 5


def test_it_is_there_only_where_figures_are() -> None:
    assert Stage().hub._recorder is None


def test_records_of_several_servers_are_added_up_from_the_end() -> None:
    long: dict[str, list[float]] = {name: [1, 2, 3] for name in NAMES}
    short: dict[str, list[float]] = {name: [10.5] for name in NAMES}
    assert add_up([long, short])["delivered"] == [1, 2, 13.5]
    assert add_up([short])["delivered"] == [10.5]
