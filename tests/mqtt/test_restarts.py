"""Restarts of the broker and of the server, with messages under way and an account of all."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import pytest

import kps
from kps.mqtt.bridge import Bridge
from tests.mqtt.harness import (
    Mosquitto,
    account,
    bridged,
    broker,
    needs_broker,
    peer,
    run,
    server,
    until,
)

pytestmark = needs_broker

COUNT = 600
EVERY = COUNT // 6  # messages between two restarts


class Both:
    """A server and a broker that are restarted in turn, while the rest goes on."""

    def __init__(self, there: Mosquitto) -> None:
        self.here = server()
        self._there = there
        self._is_brokers_turn = False

    async def __aenter__(self) -> Self:
        await self.here.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.here.stop(0.0)

    async def restart_one(self, bridge: Bridge, done: Collection[int]) -> None:
        """Restart one of them, once some more is done, and wait until the bridge has it again."""
        before = len(done)
        await until(lambda: len(done) > before)
        if self._is_brokers_turn:
            await asyncio.to_thread(self._there.stop)
            await asyncio.to_thread(self._there.start)
            await until(lambda: bridge._link.is_open)
        else:
            address = self.here.address
            await self.here.stop(0.0)
            self.here = kps.Server(address)
            await self.here.start()
            await until(lambda: bridge._client.is_connected)
        self._is_brokers_turn = not self._is_brokers_turn


def check(figures: dict[str, Any]) -> None:
    """Nothing is unaccounted for."""
    assert figures["under_way"] == 0
    assert figures["came"] == figures["passed"] + sum(figures["not_passed"].values())


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_comes_with_qos_1_reaches_the_subscribers(tmp_path: Path, version: str) -> None:
    """At least once."""

    async def work() -> None:
        seen: set[int] = set()

        async def take(message: kps.Message[Any]) -> None:
            seen.add(message.data)

        with broker(tmp_path) as there, peer(there.port, "sensor", is_lasting=True) as sensor:
            async with Both(there) as both:
                url = both.here.url
                ins = [{"filter": "s/#", "acks": True, "nobody": "again", "failed": "again"}]
                async with (
                    kps.Client(url, id="taker", reconnect=0.05) as taker,
                    bridged(url, there.url, ins=ins, mqtt_version=version) as bridge,
                ):
                    await taker.subscribe("s/1", take)
                    for number in range(COUNT):
                        sensor.publish_soon("s/1", b"%d" % number)
                        if number % EVERY == EVERY - 1:
                            await both.restart_one(bridge, seen)
                    await until(lambda: len(seen) == COUNT)
                    await until(lambda: not account(bridge, "in s/#")["under_way"])
                    assert bridge.books.events["connections to the broker lost"] == 3
                    assert bridge.books.events["connections to the bus lost"] == 3
                figures = account(bridge, "in s/#")
                check(figures)
                assert figures["not_passed"] == {}
                assert figures["passed"] >= COUNT

    run(work())


def test_what_a_publisher_has_an_ack_for_is_at_the_broker(tmp_path: Path) -> None:
    async def work() -> None:
        acked: set[int] = set()

        async def publish(boss: kps.Client, number: int) -> None:
            """Until the broker has taken it."""
            while True:
                try:
                    ack = await boss.publish_with_ack("c/1", number, 20.0)
                    outcome = (await ack.wait()).get("mqtt-bridge")
                except (kps.NotConnected, kps.ConnectionLost, kps.RequestTimeout):
                    outcome = None
                if outcome is not None and outcome.success:
                    acked.add(number)
                    return
                await asyncio.sleep(0.02)

        with broker(tmp_path) as there, peer(there.port, "lamp", is_lasting=True) as lamp:
            lamp.subscribe("c/#")
            async with Both(there) as both:
                url = both.here.url
                async with (
                    kps.Client(url, id="boss", reconnect=0.05) as boss,
                    bridged(url, there.url, outs=[{"pattern": "c/**"}]) as bridge,
                    asyncio.TaskGroup() as group,
                ):
                    for number in range(COUNT):
                        group.create_task(publish(boss, number))
                        if number % EVERY == EVERY - 1:
                            await both.restart_one(bridge, acked)
                assert acked == set(range(COUNT))
                check(account(bridge, "out c/**"))
                await until(lambda: {int(one) for one in lamp.payloads()} == acked)

    run(work())


def test_a_new_bridge_gets_what_came_meanwhile(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            async with server() as here:
                seen: list[Any] = []

                async def take(message: kps.Message[Any]) -> None:
                    seen.append(message.data)

                await here.subscribe("s/1", take)
                ins = [{"filter": "s/#"}]
                async with bridged(here.url, there.url, ins=ins):
                    pass
                for number in range(300):
                    sensor.publish_soon("s/1", b"%d" % number)
                await until(lambda: len(sensor.codes) == 300)
                there.stop()
                there.start()
                async with bridged(here.url, there.url, ins=ins):
                    await until(lambda: len(seen) >= 300)
                assert seen == list(range(300))

    run(work())


@pytest.mark.parametrize("first", ["bus", "broker"])
def test_either_may_be_away_at_the_start(tmp_path: Path, first: str) -> None:
    async def work() -> None:
        there = Mosquitto(tmp_path)
        here = server()
        await here.start()
        address, url = here.address, here.url
        await here.stop(0.0)
        try:
            ins = [{"filter": "a"}]
            async with bridged(url, there.url, is_ready=False, ins=ins) as bridge:
                if first == "broker":
                    there.start()
                here = kps.Server(address)
                await here.start()
                if first == "bus":
                    there.start()
                await asyncio.wait_for(bridge.is_ready.wait(), 60.0)
        finally:
            there.stop()
            await here.stop(0.0)

    run(work())


def test_a_bridge_ends_although_nothing_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        there = Mosquitto(tmp_path)
        async with server() as here:
            ins = [{"filter": "a"}]
            async with bridged(here.url, there.url, is_ready=False, ins=ins) as bridge:
                await until(lambda: bridge._client.is_connected)
        caplog.clear()
        async with bridged(here.url, there.url, is_ready=False, ins=[{"filter": "a"}]):
            await until(lambda: "cannot connect to" in caplog.text)  # it tries

    run(work())


def test_qos_0_is_dropped_under_a_name(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            here = server()
            await here.start()
            async with bridged(here.url, there.url, ins=[{"filter": "a", "qos": 0}]) as bridge:
                sensor.publish("a", b"1")
                await until(lambda: account(bridge, "in a")["passed"] == 1)
                await here.stop(0.0)
                await until(lambda: bridge.books.events["connections to the bus lost"] == 1)
                sensor.publish("a", b"2")
                await until(lambda: account(bridge, "in a")["not_passed"] == {"bus_away": 1})

    run(work())
