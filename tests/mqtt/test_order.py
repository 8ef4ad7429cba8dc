"""The order in which messages of the broker reach the bus, also after it was away."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

import kps
from kps.io_asyncio.client import Client
from kps.mqtt.broker import BrokerLink
from kps.mqtt.core.books import Books
from kps.mqtt.core.packets import Publish
from kps.mqtt.core.settings import Settings
from kps.mqtt.inwards import Inwards
from kps.testing.virtual_loop import VirtualLoop


class Bus:
    """A client whose server does as it is told. An answer takes a second."""

    id = "bridge"

    def __init__(self) -> None:
        self.is_connected = True
        self.got: list[Any] = []
        """The payloads that the server has had."""
        self.errors: dict[Any, list[kps.KPSError]] = {}
        """How attempts with a payload end, one after the other; then they succeed."""
        self.under_way = 0
        self.most_under_way = 0

    async def publish(self, topic: str, data: Any, **_: object) -> None:
        self._check()
        self.got.append(data)

    async def publish_with_receipt(self, topic: str, data: Any, **_: object) -> int:
        self._check()
        error = self.errors[data].pop(0) if self.errors.get(data) else None
        if error is None:
            self.got.append(data)
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        await asyncio.sleep(1.0)
        self.under_way -= 1
        if error is not None:
            raise error
        return 1

    async def flush(self) -> None:
        self._check()
        await asyncio.sleep(1.0)

    def _check(self) -> None:
        if not self.is_connected:
            raise kps.NotConnected("away")


class Broker:
    """A connection to the broker, which takes all."""

    is_open = True

    def acknowledge(self, pid: int, code: int) -> None: ...

    def read(self, on: bool) -> None: ...


class Way:
    """The direction from the broker to the bus, between those two."""

    def __init__(self) -> None:
        self.bus = Bus()
        settings = Settings.read({"broker": "mqtt://h", "in": [{"filter": "a"}]})
        client, link = cast("Client", self.bus), cast("BrokerLink", Broker())
        self.inwards = Inwards(settings, client, link, Books(), lambda topic: False)
        self._count = 0

    def come(self, *payloads: int, qos: int = 1) -> None:
        for payload in payloads:
            self._count += 1
            self.inwards.arrived(Publish("a", b"%d" % payload, qos, pid=self._count))

    def lose(self) -> None:
        self.bus.is_connected = False
        self.inwards.bus.lost()

    def find(self) -> None:
        self.bus.is_connected = True
        self.inwards.bus.found()


def run(work: Callable[[Way], Coroutine[Any, Any, None]]) -> Way:
    """Run a test, whose time does not pass by itself, and wait until all is done."""

    async def whole() -> Way:
        way = Way()
        running = asyncio.create_task(way.inwards.run())
        await work(way)
        await asyncio.sleep(20.0)
        running.cancel()
        await way.inwards.finish(0.0)
        return way

    loop = VirtualLoop()
    try:
        return loop.run_until_complete(whole())
    finally:
        loop.close()


@pytest.mark.parametrize("pause", [0.0, 0.3, 1.0, 3.0])
def test_what_came_while_the_bus_was_away(pause: float) -> None:
    async def work(way: Way) -> None:
        way.lose()
        for number in range(11, 16):
            way.come(number)
            await asyncio.sleep(pause)
        await asyncio.sleep(0.5)
        way.find()
        way.come(16, 17)
        await asyncio.sleep(0.1)
        way.come(18)

    assert run(work).bus.got == list(range(11, 19))


def test_what_is_under_way_when_the_bus_goes() -> None:
    """A new server does not know it, so the client learns only then that it must go again."""

    async def work(way: Way) -> None:
        way.bus.errors[1] = [kps.ConnectionLost("it ended")]
        way.come(1)
        await asyncio.sleep(0.5)
        way.lose()
        await asyncio.sleep(0.1)
        way.come(2, 3)
        await asyncio.sleep(0.1)
        way.find()

    assert run(work).bus.got == [1, 2, 3]


def test_the_bus_refuses_one_for_now() -> None:
    async def work(way: Way) -> None:
        way.bus.errors[1] = [kps.ServerError("busy", "unavailable")]
        way.come(1)
        await asyncio.sleep(1.5)
        way.come(2, 3)

    assert run(work).bus.got == [1, 2, 3]


def test_qos_0_does_not_overtake() -> None:
    async def work(way: Way) -> None:
        way.lose()
        way.come(1, 2)
        await asyncio.sleep(0.1)
        way.find()
        way.come(3, qos=0)
        way.come(4)

    assert run(work).bus.got == [1, 2, 3, 4]


def test_many_are_under_way_at_a_time() -> None:
    async def work(way: Way) -> None:
        way.come(*range(10))
        await asyncio.sleep(2.0)
        assert way.bus.most_under_way == 10
        way.bus.most_under_way = 0
        way.lose()
        way.come(*range(10, 20))
        await asyncio.sleep(0.1)
        way.find()

    bus = run(work).bus
    assert bus.most_under_way == 10
    assert bus.got == list(range(20))


def test_at_the_end_nobody_waits_for_a_turn() -> None:
    async def work(way: Way) -> None:
        way.lose()
        way.come(1, 2)

    way = run(work)
    assert way.bus.got == []
    assert not way.inwards._under_way
